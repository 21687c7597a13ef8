//! Puts the fragments that several lanes encode into one file, in the order of the source's parts. The lane whose
//! part is next writes at once; the others wait, each with at most one finished fragment in its hands.

use std::sync::Arc;

use bytes::Bytes;
use dmg_connector::{
    ByteDigest, Committed, FileEncoder, Fragment, MarkContent, Meter, RangeReader, Result, StagedFile,
};
use dmg_protocol::{Attempt, Fault};
use tokio::sync::{Mutex, watch};

/// Bytes read at once when a staged file is checked.
const READ_BYTES: u64 = 4 * 1024 * 1024;

pub(crate) struct Assembler {
    file: Mutex<File>,
    meter: Meter,
    /// Index of the part whose fragments may be written now.
    turn: watch::Sender<u32>,
}

struct File {
    encoder: Box<dyn FileEncoder>,
    staged: Box<dyn StagedFile>,
    /// Of everything written, to be compared when the file is read back.
    digest: ByteDigest,
    bytes: u64,
    finished: bool,
}

impl File {
    async fn write(&mut self, bytes: Bytes, meter: &Meter) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.digest.update(&bytes);
        self.bytes += bytes.len() as u64;
        meter.waited(self.staged.write(bytes)).await
    }
}

impl Assembler {
    /// Starts the file.
    pub(crate) async fn start(
        mut encoder: Box<dyn FileEncoder>,
        staged: Box<dyn StagedFile>,
        first: u32,
        meter: Meter,
    ) -> Result<Self> {
        let head = encoder.start()?;
        let mut file = File { encoder, staged, digest: ByteDigest::new(), bytes: 0, finished: false };
        file.write(head, &meter).await?;
        Ok(Assembler { file: Mutex::new(file), meter, turn: watch::Sender::new(first) })
    }

    /// A new fragment encoder for a lane.
    pub(crate) async fn fragment(&self) -> Result<Box<dyn dmg_connector::FragmentEncoder>> {
        self.file.lock().await.encoder.fragment()
    }

    /// Writes a fragment of that part as soon as it is the part's turn. Returns the bytes it took in the file.
    pub(crate) async fn push(&self, part: u32, fragment: Fragment) -> Result<u64> {
        let turn = async {
            self.await_turn(part).await?;
            Ok::<_, dmg_connector::Error>(self.file.lock().await)
        };
        let mut file = self.meter.queued(turn).await?;
        let bytes = file.encoder.append(fragment)?;
        let length = bytes.len() as u64;
        file.write(bytes, &self.meter).await?;
        Ok(length)
    }

    /// Ends a part: the next one may write.
    pub(crate) async fn end_part(&self, part: u32) -> Result<()> {
        self.meter.queued(self.await_turn(part)).await?;
        self.turn.send_replace(part + 1);
        Ok(())
    }

    async fn await_turn(&self, part: u32) -> Result<()> {
        if *self.turn.borrow() >= part {
            return Ok(());
        }
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
        file.write(tail, &self.meter).await?;
        file.staged.seal().await?;
        file.finished = true;
        Ok(())
    }

    /// Bytes of the file so far.
    pub(crate) async fn bytes(&self) -> u64 {
        self.file.lock().await.bytes
    }

    /// The staged bytes, opened anew, where the store can do that. They are read once as a whole, and must be the
    /// bytes that were written.
    pub(crate) async fn reader(&self) -> Result<Option<Arc<dyn RangeReader>>> {
        let file = self.file.lock().await;
        let Some(reader) = file.staged.reader().await? else { return Ok(None) };
        let mut digest = ByteDigest::new();
        let mut at = 0;
        while at < file.bytes.min(reader.size()) {
            let end = (at + READ_BYTES).min(reader.size());
            digest.update(&reader.read(at..end).await?);
            at = end;
        }
        if reader.size() != file.bytes || digest.finish() != file.digest.finish() {
            let message = format!("The bytes stored in {} are not the bytes that were written.", reader.label());
            return Err(Fault::new("SystemErrorVerification", message).into());
        }
        Ok(Some(reader))
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
