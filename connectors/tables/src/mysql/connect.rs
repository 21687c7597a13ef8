//! Opens a session: TCP through the one seam, TLS as asked, log-in, and the settings every session of ours has so
//! that texts of values never depend on the server's configuration.

use dmg_connector::{Error, Result};
use dmg_protocol::Fault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::auth;
use super::client::{Client, Version};
use super::errors::{self, ServerError};
use super::settings::Server;
use super::wire::{Walk, Wire};
use crate::tls::{self, Failure, SslMode};

const LONG_PASSWORD: u32 = 1;
/// An update counts the rows it found, not those it changed.
const FOUND_ROWS: u32 = 1 << 1;
const LONG_FLAG: u32 = 1 << 2;
const WITH_DATABASE: u32 = 1 << 3;
const LOCAL_FILES: u32 = 1 << 7;
const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const MULTI_RESULTS: u32 = 1 << 17;
const PLUGIN_AUTH: u32 = 1 << 19;
const ATTRIBUTES: u32 = 1 << 20;
const LONG_AUTH: u32 = 1 << 21;
/// utf8mb4_general_ci: known to every version.
const COLLATION: u8 = 45;
/// No answer before the log-in is longer.
const GREETING_BYTES_MAX: usize = 64 * 1024;
/// Rounds of questions a log-in may have.
const ROUNDS_MAX: u32 = 8;

/// What a session of ours is set to. Texts of values follow from these.
const SESSION: &str = "SET NAMES utf8mb4, time_zone = '+00:00', autocommit = 1, net_write_timeout = 3600, \
     net_read_timeout = 3600, wait_timeout = 86400, sql_safe_updates = 0, sql_select_limit = DEFAULT";
/// Below it InnoDB has no snapshots, whatever is asked for; above it reading locks.
const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
/// Reading: nothing in a query of the author's changes its meaning, save for the backslash.
const READ: &str = "SET sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'";
/// Writing: 0 stays 0 in a counting column, and dates are taken as they are.
const WRITE: &str = "SET sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'";

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reading; a server that asks such a session for a file is refused.
    Read,
    /// Writing.
    Write,
}

/// Connects and logs in, within the time the settings allow.
pub(super) async fn connect(server: &Server, purpose: Purpose) -> Result<Client> {
    let place = server.place();
    tokio::select! {
        biased;
        client = open(server, purpose) => client,
        () = server.session.ambient.sleep(server.connect_timeout) => {
            let seconds = server.connect_timeout.as_secs();
            let message = format!("{place} did not answer within {seconds} seconds.");
            Err(Fault::new("NetworkErrorStoreUnreachable", message).into())
        }
    }
}

async fn open(server: &Server, purpose: Purpose) -> Result<Client> {
    let place = server.place();
    let unreachable = |error: std::io::Error| {
        let message = format!("{place} cannot be reached: {error}.");
        Error::caused(Fault::new("NetworkErrorStoreUnreachable", message), error)
    };
    let tcp = server.session.connect(&server.host, server.port).await.map_err(unreachable)?;
    let (mut wire, greeting) = greeted(server, tcp, purpose).await?;
    log_in(&mut wire, server, &greeting).await?;
    let product = if greeting.version.mariadb { "MariaDB" } else { "MySQL" };
    wire.place = format!("{product} {}:{}", server.host, server.port);
    let mut client = Client::new(wire, greeting.version, greeting.encrypted, greeting.id);
    client.wire.clock = Some(server.session.ambient.clone());
    client.batch(SESSION).await?;
    client.batch(ISOLATION).await?;
    client.batch(if purpose == Purpose::Read { READ } else { WRITE }).await?;
    if purpose == Purpose::Write {
        // Without it NULL in a `timestamp NOT NULL` would become the present moment. Not every version lets a
        // session say so; there the read-back tells.
        let _ = client.batch("SET explicit_defaults_for_timestamp = 1").await;
    }
    // A statement of ours may take as long as it takes; not every version has the limit under this name.
    let _ = client.batch("SET max_statement_time = 0").await;
    Ok(client)
}

/// What the server says first.
struct Greeting {
    version: Version,
    id: u32,
    nonce: Vec<u8>,
    plugin: String,
    capabilities: u32,
    encrypted: bool,
}

impl Greeting {
    fn parse(body: &[u8]) -> Option<Self> {
        let mut walk = Walk(body);
        if walk.byte()? != 10 {
            return None;
        }
        let version = Version::parse(&String::from_utf8_lossy(walk.until_zero()));
        let id = u32::from_le_bytes(walk.take()?);
        let mut nonce = walk.bytes(8)?.to_vec();
        walk.byte()?;
        let low = walk.short()?;
        walk.byte()?; // character set
        walk.short()?; // status
        let high = walk.short()?;
        let length = walk.byte()?;
        walk.bytes(10)?;
        nonce.extend_from_slice(walk.bytes(usize::from(length).saturating_sub(8).max(13).min(walk.0.len()))?);
        nonce.truncate(20);
        let plugin = String::from_utf8_lossy(walk.until_zero()).into_owned();
        let capabilities = u32::from(low) | u32::from(high) << 16;
        Some(Greeting { version, id, nonce, plugin, capabilities, encrypted: false })
    }
}

/// Reads the greeting, goes over to TLS, and sends who we are.
async fn greeted(server: &Server, mut tcp: TcpStream, purpose: Purpose) -> Result<(Wire, Greeting)> {
    let place = server.place();
    // What is in clear is read by one packet exactly, so that nothing of it can end up in what follows under TLS.
    let body = first_packet(&place, &mut tcp).await?;
    if body.first() == Some(&0xff) {
        return Err(explain(server, errors::error(&place, &ServerError::parse(&body))));
    }
    let mut greeting = Greeting::parse(&body).ok_or_else(|| errors::garbled(&place, "its greeting is none"))?;
    if greeting.capabilities & (PROTOCOL_41 | SECURE_CONNECTION) != PROTOCOL_41 | SECURE_CONNECTION {
        let message = format!("{place} is too old: it logs in as MySQL did before version 4.1.");
        return Err(Fault::new("UserErrorNotSupported", message).into());
    }
    let offered = greeting.capabilities & SSL != 0;
    let encrypt = match server.ssl_mode {
        SslMode::Disable => false,
        SslMode::Prefer => offered,
        _ if offered => true,
        _ => {
            let message = format!("{place} does not offer TLS, which sslMode asks for.");
            let remedy = "Switch TLS on at the server, or set sslMode to disable if the network may be trusted.";
            return Err(Fault::new("NetworkErrorTls", message).remedy(remedy).into());
        }
    };
    let mut flags = LONG_PASSWORD
        | FOUND_ROWS
        | LONG_FLAG
        | WITH_DATABASE
        | PROTOCOL_41
        | TRANSACTIONS
        | SECURE_CONNECTION
        | MULTI_RESULTS
        | (greeting.capabilities & (PLUGIN_AUTH | ATTRIBUTES | LONG_AUTH));
    if purpose == Purpose::Write {
        flags |= LOCAL_FILES & greeting.capabilities;
    }
    if encrypt {
        flags |= SSL;
    }
    let mut head = flags.to_le_bytes().to_vec();
    head.extend_from_slice(&u32::MAX.to_le_bytes());
    head.push(COLLATION);
    head.extend_from_slice(&[0; 23]);
    let mut wire = if encrypt {
        let mut request = vec![head.len() as u8, 0, 0, 1];
        request.extend_from_slice(&head);
        tcp.write_all(&request).await.map_err(|error| errors::broken(&place, error))?;
        let encrypted = tls::encrypt(tcp, &server.host, &place, server.ssl_mode.trust(), &server.session).await;
        let encrypted = encrypted.map_err(|failure| match failure {
            Failure::NoTls => errors::garbled(&place, "what follows is no TLS"),
            Failure::Refused(error) => error,
        })?;
        greeting.encrypted = true;
        let mut wire = Wire::new(Box::new(encrypted), place);
        wire.resume(2);
        wire
    } else {
        let mut wire = Wire::new(Box::new(tcp), place);
        wire.resume(1);
        wire
    };
    wire.append(&who(server, &greeting, head, flags)?);
    wire.send().await?;
    Ok((wire, greeting))
}

async fn first_packet(place: &str, tcp: &mut TcpStream) -> Result<Vec<u8>> {
    let broken = |error| errors::broken(place, error);
    let mut head = [0; 4];
    tcp.read_exact(&mut head).await.map_err(broken)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
    if length == 0 || length > GREETING_BYTES_MAX {
        return Err(errors::garbled(place, &format!("its greeting has {length} bytes")));
    }
    let mut body = vec![0; length];
    tcp.read_exact(&mut body).await.map_err(broken)?;
    Ok(body)
}

/// The packet that says who we are.
fn who(server: &Server, greeting: &Greeting, head: Vec<u8>, flags: u32) -> Result<Vec<u8>> {
    if [&server.user, &server.database].iter().any(|text| text.contains('\0')) {
        let message = format!("User or database of {} cannot be sent: they hold a zero byte.", server.place());
        return Err(Fault::new("UserErrorSettings", message).into());
    }
    let plugin =
        if auth::answer(&greeting.plugin, b"", &[]).is_some() { greeting.plugin.as_str() } else { auth::NATIVE };
    let proof = auth::answer(plugin, password(server), &greeting.nonce).unwrap_or_default();
    let mut body = head;
    body.extend_from_slice(server.user.as_bytes());
    body.push(0);
    body.push(proof.len() as u8);
    body.extend_from_slice(&proof);
    body.extend_from_slice(server.database.as_bytes());
    body.push(0);
    if flags & PLUGIN_AUTH != 0 {
        body.extend_from_slice(plugin.as_bytes());
        body.push(0);
    }
    if flags & ATTRIBUTES != 0 {
        // Where the performance schema is on, an administrator sees whose session it is.
        let mut attributes = Vec::new();
        for text in ["_client_name", "dmg", "program_name", server.session.application.as_str()] {
            let text = &text.as_bytes()[..text.len().min(200)];
            attributes.push(text.len() as u8);
            attributes.extend_from_slice(text);
        }
        // Above 250 a length takes three bytes.
        match u8::try_from(attributes.len()) {
            Ok(length @ 0..=250) => body.push(length),
            _ => {
                body.push(0xfc);
                body.extend_from_slice(&(attributes.len() as u16).to_le_bytes());
            }
        }
        body.extend_from_slice(&attributes);
    }
    Ok(body)
}

fn password(server: &Server) -> &[u8] {
    server.password.as_ref().map_or(&[], |secret| secret.expose().as_bytes())
}

/// Answers the server's questions until it lets us in.
async fn log_in(wire: &mut Wire, server: &Server, greeting: &Greeting) -> Result<()> {
    let place = server.place();
    for _ in 0..ROUNDS_MAX {
        let packet = wire.packet(GREETING_BYTES_MAX).await?;
        let body = wire.body(packet).to_vec();
        match body.first() {
            Some(0x00) => return Ok(()),
            Some(0xff) => return Err(explain(server, errors::error(&place, &ServerError::parse(&body)))),
            Some(0xfe) => {
                let mut walk = Walk(&body[1..]);
                let plugin = String::from_utf8_lossy(walk.until_zero()).into_owned();
                let Some(proof) = auth::answer(&plugin, password(server), walk.0) else {
                    return Err(unknown_plugin(server, &plugin));
                };
                wire.append(&proof);
            }
            // caching_sha2_password: 3 the proof was enough, 4 the password itself is wanted.
            Some(0x01) if body.get(1) == Some(&3) => continue,
            Some(0x01) if body.get(1) == Some(&4) => {
                if !greeting.encrypted {
                    let message = format!("{place} asks for the password in clear over an unencrypted connection.");
                    let remedy = "Set sslMode to require, and switch TLS on at the server.";
                    return Err(Fault::new("UserErrorLoginRefused", message).remedy(remedy).into());
                }
                let mut clear = password(server).to_vec();
                clear.push(0);
                wire.append(&clear);
                clear.fill(0);
            }
            _ => return Err(errors::garbled(&place, "a packet that does not belong to a log-in")),
        }
        wire.send().await?;
    }
    Err(errors::garbled(&place, "a log-in without end"))
}

fn unknown_plugin(server: &Server, plugin: &str) -> Error {
    let plugin: String = plugin.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
    let message =
        format!("{} wants \"{}\" to log in by {plugin}, which is not supported.", server.place(), server.user);
    let remedy = "Let the user log in by mysql_native_password or caching_sha2_password.";
    Fault::new("UserErrorNotSupported", message).remedy(remedy).into()
}

/// Puts the user's own words on what a server says during the log-in.
fn explain(server: &Server, error: Error) -> Error {
    let place = server.place();
    let (message, remedy) = match error.fault.code.as_str() {
        "UserErrorLoginRefused" => (
            format!("{place} refused the log-in of \"{}\".", server.user),
            "Check user and password of the linked service, or grant the user access from this host.",
        ),
        "UserErrorContainerMissing" => (
            format!("{place} has no database \"{}\".", server.database),
            "Check the database name of the linked service.",
        ),
        "UserErrorPermission" => (
            format!("{place} does not let \"{}\" into database \"{}\".", server.user, server.database),
            "Check the database name, or grant the user rights on it.",
        ),
        _ => return error,
    };
    let fault = Fault { message, remedy: remedy.to_owned(), ..*error.fault };
    Error { fault: Box::new(fault), ..error }
}
