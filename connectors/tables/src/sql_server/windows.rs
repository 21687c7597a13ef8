//! A log-in with an account of Windows, by NTLMv2. The driver knows no such log-in here, so everything up to the
//! server's answer is ours: pre-login, TLS, log-in, proof. Then the driver begins on a line that answers its own
//! pre-login, swallows its own log-in and lets everything else through.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use dmg_connector::Result;
use dmg_protocol::{Fault, Secret};
use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::carrier::{Carrier, Master};
use super::errors;
use super::ntlm::{self, Account, Ours, Unreadable};
use super::settings::{self, Encrypt, Server};
use crate::tls::{self, Trust};

const PRELOGIN: u8 = 0x12;
const LOGIN: u8 = 0x10;
const SSPI: u8 = 0x11;
const ANSWER: u8 = 0x04;
const HEADER: usize = 8;
/// The token in which a server asks for the proof.
const TOKEN_SSPI: u8 = 0xED;
/// What a packet holds before the server has said how much it may.
const PACKET_BYTES: usize = 4096;
/// The longest answer before the session stands.
const ANSWER_BYTES_MAX: usize = 128 << 10;
/// TDS 7.4, as the driver says it.
const DIALECT: u32 = 0x7400_0004;
/// Microseconds from 1601, where Windows begins to count, to 1970.
const EPOCH_MICROS: i64 = 11_644_473_600_000_000;

// How a connection is encrypted, as pre-log-ins say it.
const ENCRYPT_LOGIN: u8 = 0;
const ENCRYPT_ON: u8 = 1;
const ENCRYPT_NONE: u8 = 2;

/// What the driver is told of a pre-login: no encryption of its own, which is on already where it is wanted.
const PRELOGIN_ANSWER: &[u8] =
    &[ANSWER, 1, 0, 26, 0, 0, 1, 0, 0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF, 16, 0, 3, 0xE8, 0, 0, ENCRYPT_NONE];

/// The bytes under a session: the connection itself, or one on which a log-in was conducted before.
pub(super) struct Line {
    channel: Channel,
    /// What the driver reads before anything of the connection.
    ahead: Vec<u8>,
    given: usize,
    swallow: Swallow,
}

enum Channel {
    Clear(TcpStream),
    Tls(Box<TlsStream<Carrier>>),
}

impl Line {
    /// The connection itself.
    pub(super) fn plain(tcp: TcpStream) -> Self {
        Line { channel: Channel::Clear(tcp), ahead: Vec::new(), given: 0, swallow: Swallow::default() }
    }
}

/// Logs in up to the point where the server says yes or no, which the driver reads.
pub(super) async fn log_in(
    server: &Server,
    host: &str,
    port: u16,
    tcp: TcpStream,
    account: &Account,
    password: Option<&Secret<String>>,
) -> Result<Line> {
    let password = password.ok_or_else(settings::nobody)?;
    let place = server.place();
    let broken = |error: io::Error| errors::broken(&place, error);
    let strict = server.encrypt == Encrypt::Strict;
    let (mut channel, mut bindings) = if strict {
        encrypted(server, host, Carrier::new(tcp, false), true).await?
    } else {
        (Channel::Clear(tcp), None)
    };
    // Also where a log-in by password would have itself alone encrypted: the proof follows the log-in.
    send(&mut channel, PRELOGIN, &prelogin(ENCRYPT_ON)).await.map_err(broken)?;
    let (_, answer) = answer(&mut channel, &place).await?;
    let offered = encryption(&answer).ok_or_else(|| errors::garbled(&place, "a pre-login without encryption"))?;
    if !strict {
        let Channel::Clear(tcp) = channel else { unreachable!("only the strict dialect encrypts before") };
        (channel, bindings) = match offered {
            ENCRYPT_NONE if server.encrypt == Encrypt::Optional => (Channel::Clear(tcp), None),
            ENCRYPT_LOGIN | ENCRYPT_NONE => {
                let message = format!("{place} does not encrypt its connections.");
                let remedy = "Give the server a certificate, or let the linked service ask for encrypt=optional.";
                return Err(Fault::new("NetworkErrorTls", message).remedy(remedy).into());
            }
            _ => encrypted(server, host, Carrier::new(tcp, true), false).await?,
        };
    }
    let login = login(server, host, &workstation(), &ntlm::negotiate());
    send(&mut channel, LOGIN, &login).await.map_err(broken)?;
    let (packets, content) = self::answer(&mut channel, &place).await?;
    let mut ahead = PRELOGIN_ANSWER.to_vec();
    if content.first() == Some(&TOKEN_SSPI) {
        let proof = proof(server, (host, port), account, password, &content, bindings)?;
        send(&mut channel, SSPI, &proof).await.map_err(broken)?;
    } else {
        // A refusal before the proof: the driver reads it as any other.
        ahead.extend(packets);
    }
    Ok(Line { channel, ahead, given: 0, swallow: Swallow { messages: 2, ..Swallow::default() } })
}

/// The answer to what the server asks.
fn proof(
    server: &Server,
    (host, port): (&str, u16),
    account: &Account,
    password: &Secret<String>,
    content: &[u8],
    bindings: Option<[u8; 16]>,
) -> Result<Zeroizing<Vec<u8>>> {
    let place = server.place();
    let token = content
        .get(1..3)
        .and_then(|length| content.get(3..3 + usize::from(u16::from_le_bytes([length[0], length[1]]))));
    let challenge = match ntlm::read(token.unwrap_or(ntlm::SIGNATURE)) {
        Ok(challenge) => challenge,
        Err(Unreadable::Broken) => return Err(errors::garbled(&place, "a damaged question of NTLM")),
        Err(Unreadable::Other) => {
            let message = format!("{place} takes accounts of Windows by another proof than NTLM, such as Kerberos.");
            let remedy = "Let the server take NTLM, or use a log-in of the server (authenticationType SQL).";
            return Err(Fault::new("UserErrorNotSupported", message).remedy(remedy).into());
        }
    };
    let ambient = &server.session.ambient;
    let ours = Ours {
        nonce: ambient.draw().to_le_bytes(),
        moment: ((ambient.unix_micros() + EPOCH_MICROS) * 10) as u64,
        target: &format!("MSSQLSvc/{host}:{port}"),
        bindings,
        workstation: &workstation(),
    };
    Ok(Zeroizing::new(ntlm::authenticate(account, password.expose(), &challenge, &ours)))
}

/// TLS, with what binds a proof to it.
async fn encrypted(server: &Server, host: &str, carrier: Carrier, strict: bool) -> Result<(Channel, Option<[u8; 16]>)> {
    let place = server.place();
    let trust =
        if server.trust_certificate || server.encrypt == Encrypt::Optional { Trust::Anybody } else { Trust::Name };
    let name = server.certificate_name.as_deref().filter(|_| trust == Trust::Name).unwrap_or(host);
    let master = Arc::new(Master::default());
    let adjust = |config: &mut rustls::ClientConfig| {
        config.key_log = master.clone();
        if strict {
            config.alpn_protocols = vec![b"tds/8.0".to_vec()];
        }
    };
    let stream = tls::encrypt_with(carrier, name, &place, trust, &server.session, adjust).await;
    let mut stream = stream.map_err(|failure| match failure {
        tls::Failure::Refused(error) => error,
        tls::Failure::NoTls => errors::garbled(&place, "no TLS where it was agreed on"),
    })?;
    let (carrier, session) = stream.get_mut();
    let (transcript, master) = (carrier.finish(), master.take());
    // TLS 1.3 has no such value, and what a server of Windows takes in its place is not published.
    let bindings = match (transcript, session.negotiated_cipher_suite()) {
        (Some(transcript), Some(suite)) if session.protocol_version() == Some(ProtocolVersion::TLSv1_2) => {
            transcript.unique(&master, suite.suite()).map(|unique| ntlm::bindings("tls-unique:", &unique))
        }
        _ => None,
    };
    Ok((Channel::Tls(Box::new(stream)), bindings))
}

async fn send(channel: &mut Channel, kind: u8, content: &[u8]) -> io::Result<()> {
    let count = content.len().div_ceil(PACKET_BYTES - HEADER);
    let mut message = Zeroizing::new(Vec::with_capacity(content.len() + count * HEADER));
    for (index, part) in content.chunks(PACKET_BYTES - HEADER).enumerate() {
        let length = (part.len() + HEADER) as u16;
        message.extend([kind, u8::from(index + 1 == count)]);
        message.extend(length.to_be_bytes());
        message.extend([0, 0, (index + 1) as u8, 0]);
        message.extend(part);
    }
    channel.write_all(&message).await?;
    channel.flush().await
}

/// One message of the server: its packets as they came, and what they hold.
async fn answer(channel: &mut Channel, place: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let broken = |error: io::Error| errors::broken(place, error);
    let (mut packets, mut content) = (Vec::new(), Vec::new());
    loop {
        let mut header = [0; HEADER];
        channel.read_exact(&mut header).await.map_err(broken)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] != ANSWER || length < HEADER || packets.len() + length > ANSWER_BYTES_MAX {
            return Err(errors::garbled(place, "a packet no log-in is answered with"));
        }
        let from = content.len();
        content.resize(from + length - HEADER, 0);
        channel.read_exact(&mut content[from..]).await.map_err(broken)?;
        packets.extend(header);
        packets.extend(&content[from..]);
        if header[1] & 1 != 0 {
            return Ok((packets, content));
        }
    }
}

fn prelogin(encrypt: u8) -> Vec<u8> {
    // Version, encryption, no instance, no thread, one session at a time: number, place and length of each.
    let mut message = vec![0, 0, 26, 0, 6, 1, 0, 32, 0, 1, 2, 0, 33, 0, 1, 3, 0, 34, 0, 4, 4, 0, 38, 0, 1, 0xFF];
    message.extend([9, 0, 0, 0, 0, 0, encrypt, 0, 0, 0, 0, 0, 0]);
    message
}

/// What the server says of encryption.
fn encryption(answer: &[u8]) -> Option<u8> {
    let entry = answer.chunks_exact(5).take_while(|entry| entry[0] != 0xFF).find(|entry| entry[0] == 1)?;
    answer.get(usize::from(u16::from_be_bytes([entry[1], entry[2]]))).copied()
}

/// LOGIN7 with an account of Windows: neither user nor password, but the first message of the proof.
fn login(server: &Server, host: &str, workstation: &str, negotiate: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(DIALECT.to_le_bytes());
    message.extend(server.packet_bytes.unwrap_or(PACKET_BYTES as u32).to_le_bytes());
    message.extend([0; 12]);
    // Told of changes, a database that must be there; a language likewise, as ODBC, by Windows; what the session is for.
    message.extend([0x60, 0x83, if server.read_only { 0x20 } else { 0 }, 0x08]);
    message.extend([0; 8]);
    let texts = [workstation, "", "", &server.session.application, host, "", "", "", &server.database];
    let texts = texts.map(|text| text.encode_utf16().take(128).flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    let mut at = 94;
    let mut place = |message: &mut Vec<u8>, bytes: usize, length: usize| {
        message.extend((at as u16).to_le_bytes());
        message.extend((length as u16).to_le_bytes());
        at += bytes;
    };
    for text in &texts {
        place(&mut message, text.len(), text.len() / 2);
    }
    // The number of a network card, which nobody needs.
    message.extend([0, 0, 0, 0, 42, 0]);
    place(&mut message, negotiate.len(), negotiate.len());
    place(&mut message, 0, 0);
    place(&mut message, 0, 0);
    message.extend([0; 4]);
    message.extend(texts.concat());
    message.extend(negotiate);
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_le_bytes());
    message
}

/// The name of this machine, for the server's lists of sessions; the driver says it of other log-ins.
fn workstation() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| dmg_ambient::environment("COMPUTERNAME")).unwrap_or_default();
    name.trim().chars().take(64).collect()
}

/// What of the driver does not go out: as many messages as it must believe to have sent.
#[derive(Default)]
struct Swallow {
    messages: usize,
    header: Vec<u8>,
    /// Bytes left of a packet.
    left: usize,
}

impl Swallow {
    /// How many of the bytes are swallowed.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while self.messages > 0 && at < bytes.len() {
            if self.left > 0 {
                let count = self.left.min(bytes.len() - at);
                (at, self.left) = (at + count, self.left - count);
            } else {
                self.header.push(bytes[at]);
                at += 1;
                if self.header.len() == HEADER {
                    let length = usize::from(u16::from_be_bytes([self.header[2], self.header[3]]));
                    self.left = length.saturating_sub(HEADER);
                }
            }
            if self.left == 0 && self.header.len() == HEADER {
                self.messages -= usize::from(self.header[1] & 1);
                self.header.clear();
            }
        }
        at
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given < this.ahead.len() {
            let count = buffer.remaining().min(this.ahead.len() - this.given);
            buffer.put_slice(&this.ahead[this.given..this.given + count]);
            this.given += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.channel).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.swallow.messages > 0 {
            return Poll::Ready(Ok(this.swallow.take(bytes)));
        }
        Pin::new(&mut this.channel).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().channel).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().channel).poll_shutdown(context)
    }
}

impl AsyncRead for Channel {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Channel::Clear(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Channel::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Channel::Clear(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Channel::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Channel::Clear(tcp) => Pin::new(tcp).poll_flush(context),
            Channel::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Channel::Clear(tcp) => Pin::new(tcp).poll_shutdown(context),
            Channel::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
