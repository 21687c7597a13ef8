//! The threads that own the database: one writes, one reads. Work comes as a closure over a bounded channel, so no
//! transaction can stay open while anything is awaited.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::schema;
use crate::{Error, Result};

/// Requests that wait for a thread; more are held back at the caller.
const QUEUE_MAX: usize = 256;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A cheap handle on the service's state.
#[derive(Clone)]
pub struct State {
    writer: mpsc::Sender<Work>,
    reader: mpsc::Sender<Work>,
}

impl State {
    /// Opens or makes the database and brings it to this program's schema.
    pub fn open(path: &Path) -> Result<Self> {
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        schema::migrate(&mut writer)?;
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(State { writer: serve("state-write", writer)?, reader: serve("state-read", reader)? })
    }

    /// One transaction that may write. It starts as a writer, so it never fails for a stale snapshot.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        send(&self.writer, |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = work(&transaction)?;
            dmg_ambient::failpoint!("state.commit");
            transaction.commit()?;
            dmg_ambient::failpoint!("state.committed");
            Ok(answer)
        })
        .await
    }

    /// One transaction that reads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        send(&self.reader, |connection| {
            let transaction = connection.transaction()?;
            work(&transaction)
        })
        .await
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if flags.contains(OpenFlags::SQLITE_OPEN_CREATE) {
        connection.pragma_update(None, "journal_mode", "WAL")?;
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    // Deleted documents must not stay readable in the file.
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "cache_size", -1024)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn serve(name: &str, mut connection: Connection) -> Result<mpsc::Sender<Work>> {
    let (sender, mut receiver) = mpsc::channel::<Work>(QUEUE_MAX);
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(1024 * 1024)
        .spawn(move || {
            while let Some(work) = receiver.blocking_recv() {
                work(&mut connection);
            }
        })
        .map_err(|_| Error::Closed)?;
    Ok(sender)
}

async fn send<T: Send + 'static>(
    to: &mpsc::Sender<Work>,
    work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    let work: Work = Box::new(move |connection| {
        // The asker may have gone; what was done stays done.
        let _ = answer.send(work(connection));
    });
    to.send(work).await.map_err(|_| Error::Closed)?;
    answered.await.map_err(|_| Error::Closed)?
}
