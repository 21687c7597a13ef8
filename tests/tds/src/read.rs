//! Reading the fields of a message as its packets arrive. Nothing is allocated before the bytes that fill it are here.

use std::io;

/// Why a message cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection broke or ended.
    #[error("the connection ended: {0}")]
    Io(#[from] io::Error),
    /// The message ended before its content did.
    #[error("the message is too short")]
    Short,
    /// The content makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The client cancelled while it was sending.
    #[error("the client cancelled")]
    Attention,
    /// The client took the message back.
    #[error("the client took the message back")]
    Ignored,
    /// The message is longer than this server takes.
    #[error("the message is too long")]
    TooLong,
}

/// Where the packets of one message come from.
pub(crate) trait Packets {
    /// Appends the next packet's content; true when it was the last.
    fn next(&mut self, onto: &mut Vec<u8>) -> Result<bool, WireError>;
}

/// One message.
pub(crate) struct Reader {
    packets: Option<Box<dyn Packets>>,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

/// No single value may be longer.
const VALUE_BYTES_MAX: usize = 256 << 20;

impl Reader {
    pub(crate) fn new(packets: Box<dyn Packets>, first: Vec<u8>, ended: bool) -> Self {
        Self { packets: Some(packets), buffer: first, at: 0, ended }
    }

    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self { packets: None, buffer: bytes, at: 0, ended: true }
    }

    fn need(&mut self, count: usize) -> Result<(), WireError> {
        if count > VALUE_BYTES_MAX {
            return Err(WireError::TooLong);
        }
        while self.buffer.len() - self.at < count {
            if self.ended {
                return Err(WireError::Short);
            }
            if self.at > 0 {
                self.buffer.drain(..self.at);
                self.at = 0;
            }
            let packets = self.packets.as_mut().ok_or(WireError::Short)?;
            self.ended = packets.next(&mut self.buffer)?;
        }
        Ok(())
    }

    /// Whether anything is left.
    pub(crate) fn has_more(&mut self) -> Result<bool, WireError> {
        match self.need(1) {
            Ok(()) => Ok(true),
            Err(WireError::Short) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Reads and forgets the rest, so that the next message starts where it should.
    pub(crate) fn skip_rest(&mut self) -> Result<(), WireError> {
        while !self.ended {
            self.buffer.clear();
            self.at = 0;
            let packets = self.packets.as_mut().ok_or(WireError::Short)?;
            self.ended = packets.next(&mut self.buffer)?;
        }
        Ok(())
    }

    pub(crate) fn slice(&mut self, count: usize) -> Result<&[u8], WireError> {
        self.need(count)?;
        self.at += count;
        Ok(&self.buffer[self.at - count..self.at])
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, WireError> {
        Ok(self.slice(count)?.to_vec())
    }

    /// Everything left.
    pub(crate) fn rest(&mut self) -> Result<Vec<u8>, WireError> {
        let mut all = Vec::new();
        while self.has_more()? {
            if all.len() > VALUE_BYTES_MAX {
                return Err(WireError::TooLong);
            }
            all.extend_from_slice(&self.buffer[self.at..]);
            self.at = self.buffer.len();
        }
        Ok(all)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let slice = self.slice(N)?;
        Ok(slice.try_into().expect("a slice of N bytes"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// The next byte, which stays.
    pub(crate) fn peek(&mut self) -> Result<u8, WireError> {
        self.need(1)?;
        Ok(self.buffer[self.at])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn utf16(&mut self, units: usize) -> Result<String, WireError> {
        let bytes = self.slice(units * 2)?;
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        Ok(String::from_utf16_lossy(&units))
    }

    pub(crate) fn b_varchar(&mut self) -> Result<String, WireError> {
        let units = self.u8()?;
        self.utf16(usize::from(units))
    }

    pub(crate) fn us_varchar(&mut self) -> Result<String, WireError> {
        let units = self.u16()?;
        self.utf16(usize::from(units))
    }
}
