//! From the first byte to a session: pre-login, TLS, log-in by password or token.

use std::sync::Arc;

use crate::Encryption;
use crate::errors::SqlError;
use crate::fault::Fault;
use crate::ntlm;
use crate::out::Out;
use crate::read::{Reader, WireError};
use crate::server::Server;
use crate::session::Session;
use crate::transport::Line;
use crate::types::{b_varchar, us_varchar};

const PRELOGIN: u8 = 0x12;
const LOGIN: u8 = 0x10;
const FEDAUTH: u8 = 0x08;
/// TDS 7.3B; older dialects lack types this server sends.
const OLDEST: u32 = 0x730B_0003;

/// What a client says of itself.
#[derive(Debug, Default)]
pub(crate) struct Login {
    version: u32,
    packet_size: u32,
    host: String,
    user: String,
    password: String,
    program: String,
    database: String,
    integrated: bool,
    /// The first message of a log-in with an account of Windows.
    sspi: Vec<u8>,
    features: Vec<(u8, Vec<u8>)>,
}

/// Speaks until a session stands, or the client is turned away.
pub(crate) fn log_in(line: &Line, server: &Arc<Server>, id: i32) -> Result<Option<Session>, WireError> {
    let strict = line.borrow().first_byte()? == 0x16;
    if strict {
        let name = line.borrow_mut().start_strict(server.strict_certificate.clone())?;
        if name.as_deref() != Some(b"tds/8.0") {
            return Ok(None);
        }
    } else if server.options.strict_only {
        return Ok(None);
    }
    let (kind, content, ended) = line.borrow_mut().begin()?;
    if kind != PRELOGIN {
        return Err(WireError::Invalid("the first message is no pre-login".into()));
    }
    let mut reader = Reader::new(Box::new(line.clone()), content, ended);
    let options = read_options(&reader.rest()?)?;
    let asked =
        options.iter().find(|(token, _)| *token == 1).and_then(|(_, value)| value.first().copied()).unwrap_or(2);
    let answer = if strict { asked } else { negotiate(server.options.encryption, asked) };
    let entra = options.iter().find(|(token, _)| *token == 6).is_some();
    let content = prelogin_answer(answer, entra);
    line.borrow_mut().write_packet(0x04, &content, true)?;
    line.borrow_mut().end_message();
    let refuses = server.options.encryption == Encryption::Required && asked == 2 && !strict;
    if refuses {
        return Ok(None);
    }
    let (wraps, login_only) = (!strict && answer != 2, answer == 0);
    if wraps {
        line.borrow_mut().start_wrapped(server.certificate.clone())?;
    }
    let (kind, content, ended) = line.borrow_mut().begin()?;
    let mut reader = Reader::new(Box::new(line.clone()), content, ended);
    let message = reader.rest()?;
    if wraps && login_only {
        line.borrow_mut().end_tls();
    }
    if kind != LOGIN {
        return Err(WireError::Invalid("no log-in after the pre-login".into()));
    }
    let mut login = read_login(message)?;
    // A client without TLS may ask for a size below what anything fits in.
    let size = (login.packet_size.clamp(512, 32_767) as u16).min(server.options.packet_bytes_max.max(512));
    let token = entra_token(line, &mut login)?;
    let windows = if login.integrated { Some(ntlm::log_in(line, server, &login.sspi)?) } else { None };
    answer_login(line, server, id, &login, (token, windows), size)
}

fn negotiate(server: Encryption, asked: u8) -> u8 {
    match (server, asked) {
        (Encryption::NotSupported, _) => 2,
        (Encryption::Optional, 0) => 0,
        (Encryption::Optional, 2) => 2,
        (Encryption::Optional, _) => 1,
        (Encryption::Required, 1 | 3) => 1,
        (Encryption::Required, _) => 3,
    }
}

pub(crate) fn read_options(content: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, WireError> {
    let mut options = Vec::new();
    let mut at = 0;
    loop {
        let token = *content.get(at).ok_or(WireError::Short)?;
        if token == 0xFF {
            return Ok(options);
        }
        let entry = content.get(at + 1..at + 5).ok_or(WireError::Short)?;
        let offset = usize::from(u16::from_be_bytes([entry[0], entry[1]]));
        let length = usize::from(u16::from_be_bytes([entry[2], entry[3]]));
        options.push((token, content.get(offset..offset + length).ok_or(WireError::Short)?.to_vec()));
        at += 5;
    }
}

fn prelogin_answer(encryption: u8, entra: bool) -> Vec<u8> {
    let mut options: Vec<(u8, Vec<u8>)> =
        vec![(0, vec![16, 0, 0x03, 0xE8, 0, 0]), (1, vec![encryption]), (2, vec![0]), (3, Vec::new()), (4, vec![0])];
    if entra {
        options.push((6, vec![1]));
    }
    let mut head = Vec::new();
    let mut body = Vec::new();
    let start = options.len() * 5 + 1;
    for (token, value) in options {
        head.push(token);
        head.extend(((start + body.len()) as u16).to_be_bytes());
        head.extend((value.len() as u16).to_be_bytes());
        body.extend(value);
    }
    head.push(0xFF);
    head.extend(body);
    head
}

pub(crate) fn read_login(message: Vec<u8>) -> Result<Login, WireError> {
    let text = |at: usize| -> Result<Vec<u8>, WireError> {
        let entry = message.get(at..at + 4).ok_or(WireError::Short)?;
        let offset = usize::from(u16::from_le_bytes([entry[0], entry[1]]));
        let length = usize::from(u16::from_le_bytes([entry[2], entry[3]])) * 2;
        Ok(message.get(offset..offset + length).ok_or(WireError::Short)?.to_vec())
    };
    let plain =
        |at: usize| text(at).map(|bytes| String::from_utf8_lossy(&crate::value::from_utf16(&bytes)).into_owned());
    let word = |at: usize| -> Result<u32, WireError> {
        let bytes = message.get(at..at + 4).ok_or(WireError::Short)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    };
    let flags2 = *message.get(25).ok_or(WireError::Short)?;
    let flags3 = *message.get(27).ok_or(WireError::Short)?;
    let hidden: Vec<u8> = text(44)?.into_iter().map(|byte| (byte ^ 0xA5).rotate_left(4)).collect();
    let mut login = Login {
        version: word(4)?,
        packet_size: word(8)?,
        host: plain(36)?,
        user: plain(40)?,
        password: String::from_utf8_lossy(&crate::value::from_utf16(&hidden)).into_owned(),
        program: plain(48)?,
        database: plain(68)?,
        integrated: flags2 & 0x80 != 0,
        sspi: sspi(&message)?,
        features: Vec::new(),
    };
    if flags3 & 0x10 != 0 {
        let entry = message.get(56..58).ok_or(WireError::Short)?;
        let at = word(usize::from(u16::from_le_bytes([entry[0], entry[1]])))? as usize;
        let mut from = Reader::of(message.get(at..).ok_or(WireError::Short)?.to_vec());
        loop {
            let feature = from.u8()?;
            if feature == 0xFF {
                break;
            }
            let length = from.u32()? as usize;
            login.features.push((feature, from.bytes(length)?));
        }
    }
    Ok(login)
}

/// What stands behind the names for a log-in with an account of Windows.
fn sspi(message: &[u8]) -> Result<Vec<u8>, WireError> {
    let entry = message.get(78..82).ok_or(WireError::Short)?;
    let offset = usize::from(u16::from_le_bytes([entry[0], entry[1]]));
    let length = usize::from(u16::from_le_bytes([entry[2], entry[3]]));
    Ok(message.get(offset..offset + length).ok_or(WireError::Short)?.to_vec())
}

/// The Entra token, when the client logs in by one: in the log-in itself or in a message of its own.
fn entra_token(line: &Line, login: &mut Login) -> Result<Option<String>, WireError> {
    let Some((_, data)) = login.features.iter().find(|(feature, _)| *feature == 2) else { return Ok(None) };
    let mut from = Reader::of(data.clone());
    let library = from.u8()? >> 1;
    let bytes = if library == 1 {
        let length = from.u32()? as usize;
        from.bytes(length)?
    } else {
        let mut content = Vec::new();
        let (authority, principal) = ("https://login.invalid/fixture", "https://database.windows.net/");
        let texts: Vec<Vec<u8>> =
            [authority, principal].map(|text| text.encode_utf16().flat_map(u16::to_le_bytes).collect()).to_vec();
        content.extend(2_u32.to_le_bytes());
        let mut offset = 4 + 2 * 9;
        for (id, text) in [1_u8, 2].into_iter().zip(&texts) {
            content.push(id);
            content.extend((text.len() as u32).to_le_bytes());
            content.extend((offset as u32).to_le_bytes());
            offset += text.len();
        }
        content.extend(texts.concat());
        let mut token = vec![0xEE];
        token.extend((content.len() as u32).to_le_bytes());
        token.extend(content);
        line.borrow_mut().write_packet(0x04, &token, true)?;
        line.borrow_mut().end_message();
        let (kind, content, ended) = line.borrow_mut().begin()?;
        if kind != FEDAUTH {
            return Err(WireError::Invalid("no token after it was asked for".into()));
        }
        let mut reader = Reader::new(Box::new(line.clone()), content, ended);
        reader.u32()?;
        let length = reader.u32()? as usize;
        let bytes = reader.bytes(length)?;
        reader.skip_rest()?;
        bytes
    };
    Ok(Some(String::from_utf8_lossy(&crate::value::from_utf16(&bytes)).into_owned()))
}

fn answer_login(
    line: &Line,
    server: &Arc<Server>,
    id: i32,
    login: &Login,
    (token, windows): (Option<String>, Option<Result<String, SqlError>>),
    size: u16,
) -> Result<Option<Session>, WireError> {
    let mut out = Out::new(line);
    let refuse = |mut out: Out, error: SqlError| {
        out.error(&error);
        out.done(crate::out::ERROR, 0, 0);
        out.finish().map(|()| None)
    };
    if login.version < OLDEST && login.version >> 24 != 0x08 {
        return refuse(out, SqlError::new(18_456, "This server speaks TDS 7.4 and 8 only."));
    }
    let account = match windows {
        Some(Err(error)) => return refuse(out, error),
        Some(Ok(account)) => Some(account),
        None => None,
    };
    let right = match &token {
        _ if account.is_some() => true,
        Some(token) => *token == server.options.token,
        None => login.user.eq_ignore_ascii_case(&server.options.login) && login.password == server.options.password,
    };
    let user = account.unwrap_or_else(|| if token.is_some() { "entra".to_owned() } else { login.user.clone() });
    if !right {
        server.note(&format!("login refused {user}"));
        return refuse(out, SqlError::new(18_456, format!("Login failed for user '{user}'.")));
    }
    let database = if login.database.is_empty() { "master" } else { &login.database };
    server.note(&format!("login {user} {database} {}", login.program));
    let mut session = match Session::new(server.clone(), id, database) {
        Ok(session) => session,
        Err(error) => {
            out.error(&error);
            return refuse(out, SqlError::new(18_456, format!("Login failed for user '{user}'.")));
        }
    };
    session.login = user;
    session.host.clone_from(&login.host);
    session.program.clone_from(&login.program);
    server.introduce(id, &session.login, &session.host, &session.program, database);
    let mut redirect = None;
    for fault in server.faults(database, true) {
        match fault {
            Fault::Redirect(host, port) => redirect = Some((host, port)),
            Fault::LoginError(number, text) => return refuse(out, SqlError::new(number, text)),
            _ => {}
        }
    }
    out.environment(1, database, "master");
    out.info(&SqlError { state: 2, ..SqlError::info(5701, format!("Changed database context to '{database}'.")) });
    out.environment_bytes(7, &[0x09, 0x04, 0xD0, 0x00, 0x34], &[]);
    out.environment(2, "us_english", "");
    out.info(&SqlError::info(5703, "Changed language setting to us_english."));
    let version = if login.version >> 24 == 0x08 { [8, 0, 0, 0] } else { [0x74, 0, 0, 4] };
    let mut acknowledgement = vec![1];
    acknowledgement.extend(version);
    b_varchar(&mut acknowledgement, "Microsoft SQL Server");
    acknowledgement.extend([16, 0, 0x03, 0xE8]);
    out.sized(0xAD, &acknowledgement);
    out.environment(4, &size.to_string(), "4096");
    let mut features = Vec::new();
    for (feature, _) in &login.features {
        match feature {
            2 => features.extend([2, 0, 0, 0, 0]),
            0x0A => features.extend([0x0A, 1, 0, 0, 0, 1]),
            _ => {}
        }
    }
    if !login.features.is_empty() {
        features.push(0xFF);
        let mut token = vec![0xAE];
        token.extend(features);
        out.raw(&token);
    }
    if let Some((host, port)) = &redirect {
        let mut value = vec![0];
        value.extend(port.to_le_bytes());
        us_varchar(&mut value, host);
        let mut content = vec![20];
        content.extend((value.len() as u16).to_le_bytes());
        content.extend(value);
        content.extend([0, 0]);
        out.sized(0xE3, &content);
    }
    out.done(0, 0, 0);
    out.finish()?;
    line.borrow_mut().packet_size = usize::from(size);
    Ok(if redirect.is_some() { None } else { Some(session) })
}
