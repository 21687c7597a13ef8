//! What all sessions share: databases, who is connected, application locks, numbers that only grow, faults to come.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::Connection;

use crate::Options;
use crate::errors::SqlError;
use crate::fault::{Armed, Fault, due};
use crate::procedures::Procedure;
use crate::sql::{catalog, functions};
use crate::value::{DAY, Moment, Value, days_from_civil};

/// What others may know of a session.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) login: String,
    pub(crate) host: String,
    pub(crate) program: String,
    pub(crate) database: String,
    pub(crate) since: String,
    pub(crate) open: AtomicU32,
    tcp: TcpStream,
}

#[derive(Debug)]
struct Lock {
    session: i32,
    exclusive: bool,
    /// Ends with the transaction, else with the session.
    of_transaction: bool,
}

pub(crate) struct Server {
    pub(crate) options: Options,
    pub(crate) certificate: Arc<rustls::ServerConfig>,
    pub(crate) strict_certificate: Arc<rustls::ServerConfig>,
    folder: tempfile::TempDir,
    pub(crate) databases: Mutex<Vec<String>>,
    /// Those of them, by position, whose files have what every database has.
    ready: Mutex<BTreeSet<usize>>,
    pub(crate) sessions: Mutex<BTreeMap<i32, Entry>>,
    next_session: AtomicI32,
    identities: Mutex<HashMap<(String, i64), i64>>,
    versions: AtomicU64,
    locks: Mutex<HashMap<String, Vec<Lock>>>,
    armed: Mutex<Vec<Armed>>,
    procedures: Mutex<HashMap<String, Procedure>>,
    pub(crate) log: Mutex<Vec<String>>,
    pub(crate) stopping: AtomicBool,
    /// Sessions that ended in a panic; each is a mistake of this server's.
    pub(crate) panics: AtomicU32,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of these locks can panic")
}

/// How many requests the log keeps.
const LOG_MAX: usize = 10_000;

impl Server {
    pub(crate) fn new(
        options: Options,
        certificate: Arc<rustls::ServerConfig>,
        strict_certificate: Arc<rustls::ServerConfig>,
    ) -> std::io::Result<Self> {
        let mut databases: Vec<String> = ["master", "tempdb", "model", "msdb"].map(str::to_owned).to_vec();
        databases.extend(options.databases.iter().cloned());
        let faults = options.faults.clone();
        Ok(Self {
            options,
            certificate,
            strict_certificate,
            folder: tempfile::tempdir()?,
            databases: Mutex::new(databases),
            ready: Mutex::default(),
            sessions: Mutex::default(),
            next_session: AtomicI32::new(51),
            identities: Mutex::default(),
            versions: AtomicU64::new(2000),
            locks: Mutex::default(),
            armed: Mutex::new(faults),
            procedures: Mutex::default(),
            log: Mutex::default(),
            stopping: AtomicBool::new(false),
            panics: AtomicU32::new(0),
        })
    }

    /// A connection to a database's file.
    pub(crate) fn open(&self, database: &str) -> Result<Connection, SqlError> {
        let at = held(&self.databases).iter().position(|name| name.eq_ignore_ascii_case(database));
        let Some(at) = at else {
            return Err(SqlError::new(
                4060,
                format!("Cannot open database \"{database}\" requested by the login. The login failed."),
            ));
        };
        let db = Connection::open(self.folder.path().join(format!("{at}.db")))?;
        db.busy_timeout(Duration::from_millis(20))?;
        db.execute_batch("PRAGMA synchronous = OFF; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY")?;
        db.set_prepared_statement_cache_capacity(64);
        functions::register(&db)?;
        // The first to open a new file makes it ready, alone: the others wait here until that is done.
        let mut ready = held(&self.ready);
        if !ready.contains(&at) {
            db.execute_batch("PRAGMA journal_mode = WAL")?;
            catalog::prepare(&db)?;
            ready.insert(at);
        }
        Ok(db)
    }

    pub(crate) fn create_database(&self, name: &str) -> Result<(), SqlError> {
        let mut databases = held(&self.databases);
        if databases.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(SqlError::new(
                1801,
                format!("Database '{name}' already exists. Choose a different database name."),
            ));
        }
        databases.push(name.to_owned());
        Ok(())
    }

    /// The file stays under its number; only the name goes.
    pub(crate) fn drop_database(&self, name: &str) -> bool {
        let mut databases = held(&self.databases);
        let found = databases.iter_mut().skip(4).find(|known| known.eq_ignore_ascii_case(name));
        found.map(|known| *known = format!("dropped {known}")).is_some()
    }

    pub(crate) fn enter(&self, tcp: TcpStream) -> i32 {
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        let stored = now().to_text();
        let entry = Entry {
            login: String::new(),
            host: String::new(),
            program: String::new(),
            database: "master".into(),
            since: stored.get(..27).unwrap_or(&stored).to_owned(),
            open: AtomicU32::new(0),
            tcp,
        };
        held(&self.sessions).insert(id, entry);
        id
    }

    pub(crate) fn introduce(&self, id: i32, login: &str, host: &str, program: &str, database: &str) {
        if let Some(entry) = held(&self.sessions).get_mut(&id) {
            entry.login = login.to_owned();
            entry.host = host.to_owned();
            entry.program = program.to_owned();
            entry.database = database.to_owned();
        }
    }

    pub(crate) fn moved(&self, id: i32, database: &str) {
        if let Some(entry) = held(&self.sessions).get_mut(&id) {
            entry.database = database.to_owned();
        }
    }

    pub(crate) fn opened(&self, id: i32, transactions: u32) {
        if let Some(entry) = held(&self.sessions).get(&id) {
            entry.open.store(transactions, Ordering::Relaxed);
        }
    }

    pub(crate) fn leave(&self, id: i32) {
        self.release_locks(id, false);
        held(&self.sessions).remove(&id);
    }

    pub(crate) fn kill(&self, own: i32, id: i32) -> Result<(), SqlError> {
        if own == id {
            return Err(SqlError::new(6104, "Cannot use KILL to kill your own process."));
        }
        match held(&self.sessions).get(&id) {
            Some(entry) => {
                let _ = entry.tcp.shutdown(Shutdown::Both);
                Ok(())
            }
            None => Err(SqlError::new(6106, format!("Process ID {id} is not an active process ID."))),
        }
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        for entry in held(&self.sessions).values() {
            let _ = entry.tcp.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn next_identity(&self, database: &str, table: i64, seed: i64, step: i64) -> i64 {
        let mut all = held(&self.identities);
        let last = all.entry((database.to_lowercase(), table)).or_insert(seed.wrapping_sub(step));
        *last = last.wrapping_add(step);
        *last
    }

    pub(crate) fn raise_identity(&self, database: &str, table: i64, number: i64) {
        let mut all = held(&self.identities);
        let last = all.entry((database.to_lowercase(), table)).or_insert(number);
        *last = (*last).max(number);
    }

    pub(crate) fn last_identity(&self, database: &str, table: i64) -> Option<i64> {
        held(&self.identities).get(&(database.to_lowercase(), table)).copied()
    }

    pub(crate) fn forget_identity(&self, database: &str, table: i64) {
        held(&self.identities).remove(&(database.to_lowercase(), table));
    }

    pub(crate) fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn version(&self) -> u64 {
        self.versions.load(Ordering::Relaxed)
    }

    fn lock_key(database: &str, resource: &str) -> String {
        format!("{}\0{resource}", database.to_lowercase())
    }

    pub(crate) fn take_lock(
        &self,
        id: i32,
        database: &str,
        resource: &str,
        exclusive: bool,
        of_transaction: bool,
    ) -> bool {
        let mut locks = held(&self.locks);
        let holders = locks.entry(Self::lock_key(database, resource)).or_default();
        let free = holders.iter().all(|lock| lock.session == id || !lock.exclusive && !exclusive);
        if free {
            holders.push(Lock { session: id, exclusive, of_transaction });
        }
        free
    }

    pub(crate) fn lock_mode(&self, id: i32, database: &str, resource: &str) -> &'static str {
        let locks = held(&self.locks);
        let mine = locks.get(&Self::lock_key(database, resource));
        match mine.and_then(|holders| holders.iter().find(|lock| lock.session == id)) {
            Some(lock) if lock.exclusive => "Exclusive",
            Some(_) => "Shared",
            None => "NoLock",
        }
    }

    pub(crate) fn release_lock(&self, id: i32, database: &str, resource: &str) -> bool {
        let mut locks = held(&self.locks);
        let Some(holders) = locks.get_mut(&Self::lock_key(database, resource)) else { return false };
        let at = holders.iter().rposition(|lock| lock.session == id);
        at.map(|at| holders.remove(at)).is_some()
    }

    pub(crate) fn release_locks(&self, id: i32, of_transaction: bool) {
        for holders in held(&self.locks).values_mut() {
            holders.retain(|lock| lock.session != id || of_transaction && !lock.of_transaction);
        }
    }

    pub(crate) fn arm(&self, fault: Armed) {
        held(&self.armed).push(fault);
    }

    pub(crate) fn disarm(&self) {
        held(&self.armed).clear();
    }

    pub(crate) fn faults(&self, text: &str, login: bool) -> Vec<Fault> {
        due(&mut held(&self.armed), text, login)
    }

    pub(crate) fn register(&self, name: &str, procedure: Procedure) {
        held(&self.procedures).insert(name.to_ascii_lowercase(), procedure);
    }

    pub(crate) fn procedure(&self, name: &str) -> Option<Procedure> {
        held(&self.procedures).get(name).cloned()
    }

    pub(crate) fn note(&self, request: &str) {
        let mut log = held(&self.log);
        if log.len() < LOG_MAX {
            log.push(request.to_owned());
        }
    }
}

/// The moment, as a datetimeoffset is stored.
#[expect(clippy::disallowed_methods, reason = "a server of its own has a clock of its own")]
pub(crate) fn now() -> Value {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ticks = (since.as_nanos() / 100) as i64;
    let moment = Moment { days: days_from_civil(1970, 1, 1) + ticks / DAY, ticks: ticks % DAY, offset: 0 };
    Value::text(moment.stored_with_offset())
}
