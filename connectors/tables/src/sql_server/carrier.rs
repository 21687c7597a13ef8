//! The connection under a log-in that we conduct ourselves: TLS handshakes travel in packets of the pre-login kind
//! before TDS 8, and what they say is noted, because "tls-unique" (RFC 5929) is made of it and no TLS library here
//! gives it. After the handshake nothing is noted and bytes go as they are.

use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use aws_lc_rs::{digest, hmac};
use rustls::{CipherSuite, KeyLog};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// Kind of the packets a handshake travels in.
const PRELOGIN: u8 = 0x12;
const HEADER: usize = 8;
/// What is read at once during a handshake.
const CHUNK: usize = 4096;
/// The most a handshake may say; certificates make some kilobytes.
const TRANSCRIPT_BYTES_MAX: usize = 256 << 10;

/// A TCP connection on which TLS begins.
pub(super) struct Carrier {
    tcp: TcpStream,
    /// Whether bytes go in packets now.
    framed: bool,
    /// What both sides say, until the handshake is done.
    transcript: Option<Transcript>,
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes of the packet that are to come.
    left: usize,
    /// A packet that is to go, its header first, and how much of it went.
    out: Vec<u8>,
    gone: usize,
}

impl Carrier {
    /// `framed` puts the handshake into packets.
    pub(super) fn new(tcp: TcpStream, framed: bool) -> Self {
        let (transcript, header) = (Some(Transcript::default()), [0; HEADER]);
        Carrier { tcp, framed, transcript, header, have: 0, left: 0, out: vec![0; HEADER], gone: 0 }
    }

    /// The handshake is done: bytes go as they are from now on. Gives what was said.
    pub(super) fn finish(&mut self) -> Option<Transcript> {
        self.framed = false;
        self.transcript.take()
    }

    fn poll_header(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.left == 0 {
            let mut buffer = ReadBuf::new(&mut self.header[self.have..]);
            ready!(Pin::new(&mut self.tcp).poll_read(context, &mut buffer))?;
            match buffer.filled().len() {
                0 => return Poll::Ready(Ok(false)),
                count => self.have += count,
            }
            if self.have == HEADER {
                let length = usize::from(u16::from_be_bytes([self.header[2], self.header[3]]));
                if self.header[0] != PRELOGIN || length < HEADER {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "no packet of a handshake")));
                }
                (self.have, self.left) = (0, length - HEADER);
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Writes the packet that is being collected, if there is any.
    fn poll_packet(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.len() == HEADER {
            return Poll::Ready(Ok(()));
        }
        let length = u16::try_from(self.out.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a handshake longer than a packet"))?;
        self.out[..HEADER].copy_from_slice(&[PRELOGIN, 1, 0, 0, 0, 0, 1, 0]);
        self.out[2..4].copy_from_slice(&length.to_be_bytes());
        while self.gone < self.out.len() {
            let count = ready!(Pin::new(&mut self.tcp).poll_write(context, &self.out[self.gone..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gone += count;
        }
        self.out.truncate(HEADER);
        self.gone = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Carrier {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.transcript.is_none() && !this.framed {
            return Pin::new(&mut this.tcp).poll_read(context, buffer);
        }
        if this.framed && !ready!(this.poll_header(context))? {
            return Poll::Ready(Ok(()));
        }
        let most = if this.framed { this.left } else { CHUNK };
        let mut chunk = [0; CHUNK];
        let mut part = ReadBuf::new(&mut chunk[..most.min(CHUNK).min(buffer.remaining())]);
        ready!(Pin::new(&mut this.tcp).poll_read(context, &mut part))?;
        let read = part.filled();
        this.left = this.left.saturating_sub(read.len());
        if let Some(transcript) = &mut this.transcript {
            transcript.received(read);
        }
        buffer.put_slice(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = if this.framed {
            this.out.extend_from_slice(bytes);
            bytes.len()
        } else {
            ready!(Pin::new(&mut this.tcp).poll_write(context, bytes))?
        };
        if let Some(transcript) = &mut this.transcript {
            transcript.sent(&bytes[..count]);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_packet(context))?;
        Pin::new(&mut this.tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}

/// What both sides of a handshake of TLS 1.2 said in clear, in order, until the client began to encrypt.
#[derive(Default)]
pub(super) struct Transcript {
    from_us: Vec<u8>,
    from_them: Vec<u8>,
    messages: Vec<u8>,
    closed: bool,
}

impl Transcript {
    fn sent(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.from_us.extend(bytes);
            self.closed = records(&mut self.from_us, &mut self.messages);
        }
    }

    fn received(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.from_them.extend(bytes);
            // A server encrypts after the client only.
            let _ = records(&mut self.from_them, &mut self.messages);
            let whole = self.messages.len() + self.from_them.len();
            if whole > TRANSCRIPT_BYTES_MAX {
                (self.closed, self.messages) = (true, Vec::new());
            }
        }
    }

    /// The first finished message of the connection, which is the client's: it proves both that these are the two
    /// ends and that nobody between them changed a word.
    pub(super) fn unique(&self, master: &[u8], suite: CipherSuite) -> Option<[u8; 12]> {
        if !self.closed || self.messages.is_empty() {
            return None;
        }
        let long = suite.as_str().is_some_and(|name| name.ends_with("SHA384"));
        let (hash, mac) =
            if long { (&digest::SHA384, hmac::HMAC_SHA384) } else { (&digest::SHA256, hmac::HMAC_SHA256) };
        let mut seed = b"client finished".to_vec();
        seed.extend(digest::digest(hash, &self.messages).as_ref());
        let key = hmac::Key::new(mac, master);
        let mut first = hmac::sign(&key, &seed).as_ref().to_vec();
        first.extend(seed);
        hmac::sign(&key, &first).as_ref()[..12].try_into().ok()
    }
}

/// Moves the messages of whole records over. True when the side began to encrypt.
fn records(pending: &mut Vec<u8>, messages: &mut Vec<u8>) -> bool {
    let (mut at, mut encrypts) = (0, false);
    while let Some(header) = pending.get(at..at + 5) {
        let to = at + 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
        let Some(content) = pending.get(at + 5..to) else { break };
        match header[0] {
            20 => {
                encrypts = true;
                break;
            }
            22 => messages.extend(content),
            _ => {}
        }
        at = to;
    }
    pending.drain(..at);
    encrypts
}

/// Takes the master secret of a TLS 1.2 connection from the library, which offers it for logs; here it is wiped.
#[derive(Default)]
pub(super) struct Master(Mutex<Zeroizing<Vec<u8>>>);

impl Master {
    /// The secret; empty where the connection has none.
    pub(super) fn take(&self) -> Zeroizing<Vec<u8>> {
        std::mem::take(&mut *self.0.lock().expect("no one panics while holding it"))
    }
}

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Master(**********)")
    }
}

impl KeyLog for Master {
    fn log(&self, label: &str, _random: &[u8], secret: &[u8]) {
        if label == "CLIENT_RANDOM" {
            *self.0.lock().expect("no one panics while holding it") = Zeroizing::new(secret.to_vec());
        }
    }
}
