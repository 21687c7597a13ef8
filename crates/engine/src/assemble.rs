//! Puts the fragments that several lanes encode into one file, in the order of the source's parts. The lane whose
//! part is next writes at once; the others wait, each with at most one finished fragment in its hands.

use std::sync::Arc;

use dmg_connector::{Committed, FileEncoder, Fragment, MarkContent, RangeReader, Result, StagedFile};
use dmg_protocol::{Attempt, Fault};
use tokio::sync::{Mutex, watch};

pub(crate) struct Assembler {
    file: Mutex<File>,
    /// Index of the part whose fragments may be written now.
    turn: watch::Sender<u32>,
}

struct File {
    encoder: Box<dyn FileEncoder>,
    staged: Box<dyn StagedFile>,
    finished: bool,
}

impl Assembler {
    /// Starts the file.
    pub(crate) async fn start(
        mut encoder: Box<dyn FileEncoder>,
        mut staged: Box<dyn StagedFile>,
        first: u32,
    ) -> Result<Self> {
        let head = encoder.start()?;
        if !head.is_empty() {
            staged.write(head).await?;
        }
        Ok(Assembler { file: Mutex::new(File { encoder, staged, finished: false }), turn: watch::Sender::new(first) })
    }

    /// A new fragment encoder for a lane.
    pub(crate) async fn fragment(&self) -> Result<Box<dyn dmg_connector::FragmentEncoder>> {
        self.file.lock().await.encoder.fragment()
    }

    /// Writes a fragment of that part as soon as it is the part's turn. Returns the bytes it took in the file.
    pub(crate) async fn push(&self, part: u32, fragment: Fragment) -> Result<u64> {
        self.await_turn(part).await?;
        let mut file = self.file.lock().await;
        let bytes = file.encoder.append(fragment)?;
        let length = bytes.len() as u64;
        file.staged.write(bytes).await?;
        Ok(length)
    }

    /// Ends a part: the next one may write.
    pub(crate) async fn end_part(&self, part: u32) -> Result<()> {
        self.await_turn(part).await?;
        self.turn.send_replace(part + 1);
        Ok(())
    }

    async fn await_turn(&self, part: u32) -> Result<()> {
        let mut turn = self.turn.subscribe();
        turn.wait_for(|next| *next >= part).await.map(|_| ()).map_err(|_| {
            Fault::new("SystemErrorInternal", "The file was closed while a part still wrote to it.").into()
        })
    }

    /// Ends the file and makes it durable. May be repeated.
    pub(crate) async fn finish(&self) -> Result<()> {
        let mut file = self.file.lock().await;
        if file.finished {
            return Ok(());
        }
        let tail = file.encoder.finish()?;
        if !tail.is_empty() {
            file.staged.write(tail).await?;
        }
        file.staged.seal().await?;
        file.finished = true;
        Ok(())
    }

    /// The staged bytes, opened anew, where the store can do that.
    pub(crate) async fn reader(&self) -> Result<Option<Arc<dyn RangeReader>>> {
        self.file.lock().await.staged.reader().await
    }

    /// The atomic step.
    pub(crate) async fn commit(&self, attempt: &Attempt, content: &MarkContent) -> Result<Committed> {
        self.file.lock().await.staged.commit(attempt, content).await
    }

    /// Throws the staged bytes away.
    pub(crate) async fn abort(&self) -> Result<()> {
        self.file.lock().await.staged.abort().await
    }
}
