//! One connection's bytes: packets in and out, in clear or in TLS, with the faults that act on bytes.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

use crate::fault::Bytes;
use crate::read::{Packets, WireError};

/// The longest packet there is, header included.
const PACKET_BYTES_MAX: usize = 32_767;
/// How long a peer may stay silent inside a message or a handshake.
const SILENCE_SECONDS_MAX: u64 = 60;

/// A connection.
pub(crate) struct Transport {
    tcp: TcpStream,
    tls: Option<Box<ServerConnection>>,
    /// Content of one packet that goes out, header included.
    pub(crate) packet_size: usize,
    packet_number: u8,
    /// The kind of message whose packets are being read.
    kind: u8,
    /// The status of the message's first packet: whether the session is to be reset.
    pub(crate) status: u8,
    last_status: u8,
    pub(crate) fault: Bytes,
}

impl Transport {
    pub(crate) fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        Ok(Self {
            tcp,
            tls: None,
            packet_size: 4096,
            packet_number: 0,
            kind: 0,
            status: 0,
            last_status: 0,
            fault: Bytes::default(),
        })
    }

    /// The first byte, which stays: 0x16 begins TLS.
    pub(crate) fn first_byte(&self) -> io::Result<u8> {
        let mut byte = [0];
        match self.tcp.peek(&mut byte)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(byte[0]),
        }
    }

    /// TLS before anything else, as the strict protocol has it; gives the agreed protocol name.
    pub(crate) fn start_strict(&mut self, config: Arc<ServerConfig>) -> io::Result<Option<Vec<u8>>> {
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        self.tcp.set_read_timeout(Some(Duration::from_secs(SILENCE_SECONDS_MAX)))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut self.tcp)?;
        }
        self.tcp.set_read_timeout(None)?;
        let name = tls.alpn_protocol().map(<[u8]>::to_vec);
        self.tls = Some(Box::new(tls));
        Ok(name)
    }

    /// TLS whose handshake travels inside packets of the pre-login kind, as before version 8.
    pub(crate) fn start_wrapped(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        self.tcp.set_read_timeout(Some(Duration::from_secs(SILENCE_SECONDS_MAX)))?;
        let mut wrapped = Wrapped { tcp: &self.tcp, input: Vec::new(), output: Vec::new() };
        while tls.is_handshaking() {
            let done = tls.complete_io(&mut wrapped);
            wrapped.flush()?;
            done?;
        }
        self.tcp.set_read_timeout(None)?;
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// Back to clear bytes after a log-in that alone was protected.
    pub(crate) fn end_tls(&mut self) {
        self.tls = None;
    }

    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).read_exact(into),
            None => self.tcp.read_exact(into),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let tls = &mut self.tls;
        let tcp = &mut self.tcp;
        let ends = self.fault.send(bytes, &mut |part| match tls {
            Some(tls) => {
                let mut stream = rustls::Stream::new(&mut **tls, tcp);
                stream.write_all(part)?;
                stream.flush()
            }
            None => tcp.write_all(part),
        })?;
        if ends {
            let _ = self.tcp.shutdown(Shutdown::Both);
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a fault"));
        }
        Ok(())
    }

    /// One packet: its kind, its content, and whether the message ends with it.
    pub(crate) fn read_packet(&mut self, onto: &mut Vec<u8>) -> Result<(u8, bool), WireError> {
        let mut header = [0; 8];
        self.read_exact(&mut header)?;
        self.last_status = header[1];
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if !(8..=PACKET_BYTES_MAX + 1).contains(&length) {
            return Err(WireError::Invalid(format!("a packet of {length} bytes")));
        }
        let at = onto.len();
        onto.resize(at + length - 8, 0);
        self.tcp.set_read_timeout(Some(Duration::from_secs(SILENCE_SECONDS_MAX)))?;
        let done = self.read_exact(&mut onto[at..]);
        self.tcp.set_read_timeout(None)?;
        done?;
        if header[1] & 0x02 != 0 && header[1] & 0x01 != 0 {
            return Err(WireError::Ignored);
        }
        Ok((header[0], header[1] & 0x01 != 0))
    }

    /// The start of a message: its kind, its first packet's content, and whether that was all.
    pub(crate) fn begin(&mut self) -> Result<(u8, Vec<u8>, bool), WireError> {
        let mut content = Vec::new();
        let (kind, ended) = self.read_packet(&mut content)?;
        self.kind = kind;
        self.status = self.last_status;
        Ok((kind, content, ended))
    }

    /// Whether the client sends an attention within that time while an answer goes out. A client that is gone is an error.
    pub(crate) fn attention(&mut self, within: Duration) -> Result<bool, WireError> {
        let buffered = match &mut self.tls {
            Some(tls) => tls.process_new_packets().map_err(io::Error::other)?.plaintext_bytes_to_read() > 0,
            None => false,
        };
        if !buffered {
            let peeked = if within.is_zero() {
                self.tcp.set_nonblocking(true)?;
                let peeked = self.tcp.peek(&mut [0]);
                self.tcp.set_nonblocking(false)?;
                peeked
            } else {
                self.tcp.set_read_timeout(Some(within))?;
                let peeked = self.tcp.peek(&mut [0]);
                self.tcp.set_read_timeout(None)?;
                peeked
            };
            match peeked {
                Ok(0) => return Err(WireError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut content = Vec::new();
        let (kind, _) = self.read_packet(&mut content)?;
        if kind == 0x06 { Ok(true) } else { Err(WireError::Invalid("a message inside another".into())) }
    }

    /// Sends one packet.
    pub(crate) fn write_packet(&mut self, kind: u8, content: &[u8], last: bool) -> io::Result<()> {
        self.packet_number = self.packet_number.wrapping_add(1);
        let mut packet = Vec::with_capacity(content.len() + 8);
        packet.extend([kind, u8::from(last)]);
        packet.extend((content.len() as u16 + 8).to_be_bytes());
        packet.extend([0, 51, self.packet_number, 0]);
        packet.extend(content);
        self.send(&packet)
    }

    pub(crate) fn end_message(&mut self) {
        self.packet_number = 0;
    }

    /// Ends the connection as a broken line would.
    pub(crate) fn close(&mut self) {
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}

/// A connection that the message being read and the answer being written share.
pub(crate) type Line = Rc<RefCell<Transport>>;

impl Packets for Line {
    fn next(&mut self, onto: &mut Vec<u8>) -> Result<bool, WireError> {
        let mut transport = self.borrow_mut();
        let wanted = transport.kind;
        let (kind, ended) = transport.read_packet(onto)?;
        match kind {
            _ if kind == wanted => Ok(ended),
            0x06 => Err(WireError::Attention),
            _ => Err(WireError::Invalid("a packet of another kind inside a message".into())),
        }
    }
}

/// The handshake's records inside packets. What rustls writes is gathered until it wants to read.
struct Wrapped<'a> {
    tcp: &'a TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Read for Wrapped<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.flush()?;
        if self.input.is_empty() {
            let mut header = [0; 8];
            self.tcp.read_exact(&mut header)?;
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            if header[0] != 0x12 || length < 8 {
                return Err(io::Error::other("no pre-login packet inside the handshake"));
            }
            self.input.resize(length - 8, 0);
            self.tcp.read_exact(&mut self.input)?;
        }
        let count = into.len().min(self.input.len());
        into[..count].copy_from_slice(&self.input[..count]);
        self.input.drain(..count);
        Ok(count)
    }
}

impl Write for Wrapped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        for chunk in self.output.chunks(4088) {
            let mut packet = vec![0x12, 1];
            packet.extend((chunk.len() as u16 + 8).to_be_bytes());
            packet.extend([0, 0, 0, 0]);
            packet.extend(chunk);
            (&mut &*self.tcp).write_all(&packet)?;
        }
        self.output.clear();
        Ok(())
    }
}
