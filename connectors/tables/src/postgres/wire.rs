//! Messages of PostgreSQL's protocol over a stream, read in place from one large buffer. It knows frames, not what
//! they mean; a frame above the limit is refused before memory is spent on it.

use bytes::BytesMut;
use std::sync::Arc;

use dmg_ambient::Ambient;
use dmg_connector::{Meter, Result, Traffic};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::errors;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// No message but a row of a COPY may be larger.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A stream to a server, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A frame in the buffer: its tag and where its body is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Framed reading and buffered writing.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    start: usize,
    end: usize,
    pub(super) output: BytesMut,
    /// For messages: `PostgreSQL db01:5432`.
    pub(super) place: String,
    bytes_read: u64,
    /// The clock by which waits are counted.
    pub(super) clock: Option<Ambient>,
    meter: Option<Meter>,
    broken: bool,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>, place: String) -> Self {
        let input = vec![0; 16 * 1024];
        Wire {
            stream,
            input,
            start: 0,
            end: 0,
            output: BytesMut::new(),
            place,
            bytes_read: 0,
            clock: None,
            meter: None,
            broken: false,
        }
    }

    /// Whether nothing has failed on it yet.
    pub(super) fn sound(&self) -> bool {
        !self.broken
    }

    #[cold]
    fn failed(&mut self, error: std::io::Error) -> dmg_connector::Error {
        self.broken = true;
        errors::broken(&self.place, error)
    }

    /// Sends what was written, and forgets it thoroughly: it may hold a password.
    pub(super) async fn send(&mut self) -> Result<()> {
        let sent = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        let result = sent.await;
        if self.output.len() < 4096 {
            self.output.fill(0);
        }
        self.output.clear();
        result.map_err(|error| self.failed(error))
    }

    /// Sends frames that were built elsewhere.
    pub(super) async fn send_built(&mut self, frames: &[u8]) -> Result<()> {
        let sent = async {
            self.stream.write_all(frames).await?;
            self.stream.flush().await
        };
        let result = match &self.meter {
            Some(meter) => meter.waited(sent).await,
            None => sent.await,
        };
        result.map_err(|error| self.failed(error))
    }

    /// The next complete frame if it is in the buffer already; an error if it is larger than `limit`.
    #[inline]
    pub(super) fn buffered(&mut self, limit: usize) -> Result<Option<Frame>> {
        let available = &self.input[self.start..self.end];
        let Some(head) = available.first_chunk::<5>() else { return Ok(None) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length < 4 || length > limit {
            return Err(self.oversized(head[0], length));
        }
        if available.len() <= length {
            return Ok(None);
        }
        let frame = Frame { tag: head[0], start: self.start + 5, end: self.start + 1 + length };
        self.start = frame.end;
        Ok(Some(frame))
    }

    #[cold]
    fn oversized(&self, tag: u8, length: usize) -> dmg_connector::Error {
        errors::garbled(&self.place, &format!("a message of type {tag} and {length} bytes"))
    }

    /// Tag and length of the frame at the front, complete or not.
    pub(super) fn pending(&self) -> Option<(u8, usize)> {
        let head = self.input[self.start..self.end].first_chunk::<5>()?;
        Some((head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize))
    }

    /// What has come of the body of the frame at the front.
    pub(super) fn partial(&self) -> &[u8] {
        self.input[self.start..self.end].get(5..).unwrap_or(&[])
    }

    /// The body of a frame. Valid until more is read.
    #[inline]
    pub(super) fn body(&self, frame: Frame) -> &[u8] {
        &self.input[frame.start..frame.end]
    }

    /// Reads more, making room for the frame at the front, up to that many bytes of it.
    pub(super) async fn fill(&mut self, limit: usize) -> Result<()> {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = self.pending().map_or(0, |(_, length)| length.min(limit + 5) + 1);
        if self.end == self.input.len() || self.input.len() < needed {
            self.input.resize(needed.max(BUFFER_BYTES), 0);
        }
        let reading = self.stream.read(&mut self.input[self.end..]);
        let count = match &self.meter {
            Some(meter) => meter.waited(reading).await,
            None => reading.await,
        };
        let count = count.map_err(|error| self.failed(error))?;
        if count == 0 {
            return Err(self.failed(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)));
        }
        self.end += count;
        self.bytes_read += count as u64;
        Ok(())
    }

    /// The next frame.
    pub(super) async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.buffered(MESSAGE_BYTES_MAX)? {
                return Ok(frame);
            }
            self.fill(MESSAGE_BYTES_MAX).await?;
        }
    }

    /// From now on, time spent waiting for the server is counted there.
    pub(super) fn count_waits(&mut self, traffic: &Arc<Traffic>) {
        self.meter = self.clock.clone().map(|ambient| Meter { ambient, traffic: traffic.clone() });
    }

    /// Bytes read since last asked.
    pub(super) fn take_bytes_read(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_read)
    }

    /// Gives memory back after an unusually large frame.
    pub(super) fn shrink(&mut self) {
        if self.input.len() > 4 * BUFFER_BYTES && self.end - self.start < BUFFER_BYTES {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            self.input.truncate(BUFFER_BYTES);
            self.input.shrink_to_fit();
        }
    }
}
