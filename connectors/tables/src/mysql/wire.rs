//! Packets of the MySQL protocol over a stream, read in place from one large buffer. It knows packets, not what they
//! mean; one above the limit is refused before memory is spent on it.

use std::sync::Arc;

use dmg_ambient::Ambient;
use dmg_connector::{Meter, Result, Traffic};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::errors;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// A packet of this length goes on in the next.
const CHUNK_BYTES: usize = 0xff_ffff;
/// No packet but a row may be larger.
pub(super) const PACKET_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A stream to a server, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where the body of a packet is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packet {
    /// In the buffer, as it came.
    Inside(usize, usize),
    /// Put together from several.
    Joined,
}

/// Framed reading and buffered writing.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// What came so far of a packet longer than a chunk.
    joined: Vec<u8>,
    /// Whether the next packet goes on where `joined` ends.
    continued: bool,
    sequence: u8,
    output: Vec<u8>,
    /// For messages: `MariaDB db01:3306`.
    pub(super) place: String,
    bytes_read: u64,
    /// The clock by which waits are counted.
    pub(super) clock: Option<Ambient>,
    meter: Option<Meter>,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>, place: String) -> Self {
        Wire {
            stream,
            input: vec![0; 16 * 1024],
            start: 0,
            end: 0,
            joined: Vec::new(),
            continued: false,
            sequence: 0,
            output: Vec::new(),
            place,
            bytes_read: 0,
            clock: None,
            meter: None,
        }
    }

    /// Goes on counting packets where another wire stopped.
    pub(super) fn resume(&mut self, sequence: u8) {
        self.sequence = sequence;
    }

    /// A new command: packets are counted from 0.
    pub(super) fn command(&mut self, code: u8, body: &[u8]) {
        self.output.clear();
        self.sequence = 0;
        self.append_parts(&[&[code], body]);
    }

    /// Adds a packet.
    pub(super) fn append(&mut self, body: &[u8]) {
        self.append_parts(&[body]);
    }

    /// Adds one packet made of several pieces, in chunks where it is long.
    fn append_parts(&mut self, pieces: &[&[u8]]) {
        let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut room = 0;
        let mut open = false;
        for piece in pieces {
            let mut piece = *piece;
            while !piece.is_empty() || !open {
                if room == 0 {
                    room = left.min(CHUNK_BYTES);
                    self.head(room);
                    open = true;
                }
                let (now, later) = piece.split_at(piece.len().min(room));
                self.output.extend_from_slice(now);
                left -= now.len();
                room -= now.len();
                piece = later;
                if room == 0 && left == 0 {
                    break;
                }
            }
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if total > 0 && total.is_multiple_of(CHUNK_BYTES) {
            // A packet that ends with a full chunk is ended by an empty one.
            self.head(0);
        }
    }

    fn head(&mut self, length: usize) {
        let [a, b, c, ..] = (length as u32).to_le_bytes();
        self.output.extend_from_slice(&[a, b, c, self.sequence]);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Sends what was added, and forgets it thoroughly: it may hold a password.
    pub(super) async fn send(&mut self) -> Result<()> {
        let sent = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        let result = match &self.meter {
            Some(meter) => meter.waited(sent).await,
            None => sent.await,
        };
        if self.output.len() < 4096 {
            self.output.fill(0);
        }
        self.output.clear();
        result.map_err(|error| errors::broken(&self.place, error))
    }

    /// Sends what was added without waiting: as much as goes at once.
    pub(super) fn send_now(&mut self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let stream = std::pin::Pin::new(&mut self.stream);
        // Whoever calls this is going away; there is nobody to tell.
        let _ = stream.poll_write(&mut context, &self.output);
        let _ = std::pin::Pin::new(&mut self.stream).poll_flush(&mut context);
    }

    /// The next complete packet if it is in the buffer already; an error if it is larger than `limit`.
    #[inline]
    pub(super) fn buffered(&mut self, limit: usize) -> Result<Option<Packet>> {
        loop {
            let available = &self.input[self.start..self.end];
            let Some(head) = available.first_chunk::<4>() else { return Ok(None) };
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
            let before = if self.continued { self.joined.len() } else { 0 };
            if before + length > limit {
                return Err(self.oversized(before + length));
            }
            if available.len() < 4 + length {
                return Ok(None);
            }
            self.sequence = head[3].wrapping_add(1);
            let (from, to) = (self.start + 4, self.start + 4 + length);
            self.start = to;
            if length < CHUNK_BYTES && !self.continued {
                self.joined.clear();
                return Ok(Some(Packet::Inside(from, to)));
            }
            if !self.continued {
                self.joined.clear();
            }
            self.joined.extend_from_slice(&self.input[from..to]);
            self.continued = length == CHUNK_BYTES;
            if !self.continued {
                return Ok(Some(Packet::Joined));
            }
        }
    }

    #[cold]
    fn oversized(&self, length: usize) -> dmg_connector::Error {
        errors::garbled(&self.place, &format!("a packet of {length} bytes"))
    }

    /// Length of the packet at the front as far as it is known, with what came of it before.
    pub(super) fn pending(&self) -> Option<usize> {
        let head = self.input[self.start..self.end].first_chunk::<4>()?;
        let before = if self.continued { self.joined.len() } else { 0 };
        Some(before + u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize)
    }

    /// What has come of the body of the packet at the front.
    pub(super) fn partial(&self) -> &[u8] {
        if self.continued {
            return &self.joined;
        }
        self.input[self.start..self.end].get(4..).unwrap_or(&[])
    }

    /// The body of a packet. Valid until more is read.
    #[inline]
    pub(super) fn body(&self, packet: Packet) -> &[u8] {
        match packet {
            Packet::Inside(from, to) => &self.input[from..to],
            Packet::Joined => &self.joined,
        }
    }

    /// Reads more, making room for the packet at the front, up to that many bytes of it.
    pub(super) async fn fill(&mut self, limit: usize) -> Result<()> {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let head = self.input[..self.end].first_chunk::<4>();
        let length = head.map_or(0, |head| u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize);
        let needed = length.min(limit) + 8;
        if self.end == self.input.len() || self.input.len() < needed {
            self.input.resize(needed.max(BUFFER_BYTES), 0);
        }
        let reading = self.stream.read(&mut self.input[self.end..]);
        let count = match &self.meter {
            Some(meter) => meter.waited(reading).await,
            None => reading.await,
        };
        let count = count.map_err(|error| errors::broken(&self.place, error))?;
        if count == 0 {
            let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(errors::broken(&self.place, error));
        }
        self.end += count;
        self.bytes_read += count as u64;
        Ok(())
    }

    /// The next packet.
    pub(super) async fn packet(&mut self, limit: usize) -> Result<Packet> {
        loop {
            if let Some(packet) = self.buffered(limit)? {
                return Ok(packet);
            }
            self.fill(limit).await?;
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

    /// Gives memory back after an unusually large packet.
    pub(super) fn shrink(&mut self) {
        if !self.continued {
            self.joined = Vec::new();
        }
        if self.input.len() > 4 * BUFFER_BYTES && self.end - self.start < BUFFER_BYTES {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            self.input.truncate(BUFFER_BYTES);
            self.input.shrink_to_fit();
        }
    }
}

/// Walks through a packet's body; every step is `None` at its end.
pub(super) struct Walk<'a>(pub(super) &'a [u8]);

impl<'a> Walk<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// What stands before the next zero byte, or all there is.
    pub(super) fn until_zero(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0);
        let (head, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or(&[]);
        head
    }

    /// A number in the protocol's own variable length.
    pub(super) fn length(&mut self) -> Option<u64> {
        match self.byte()? {
            0xfc => self.short().map(u64::from),
            0xfd => self.take::<3>().map(|[a, b, c]| u64::from(u32::from_le_bytes([a, b, c, 0]))),
            0xfe => self.take().map(u64::from_le_bytes),
            small @ 0..=0xfa => Some(u64::from(small)),
            0xfb | 0xff => None,
        }
    }

    /// Text or octets with their length before them.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.length()?).ok()?;
        self.bytes(length)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.counted()?).ok().map(str::to_owned)
    }
}
