//! The accepting side of NTLMv2 for log-ins with an account of Windows. Written from the published protocol alone and
//! sharing nothing with the client it tests: proof, seal and service are each checked, and older proofs refused.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use md4::{Digest, Md4};
use md5::Md5;

use crate::errors::SqlError;
use crate::read::{Reader, WireError};
use crate::server::Server;
use crate::transport::Line;

const SSPI: u8 = 0x11;
/// The kind python-tds gives the proof's packet: still that of its log-in.
const LOGIN: u8 = 0x10;
/// 100 ns since 1601 at the beginning of 1970.
const EPOCH: u128 = 116_444_736_000_000_000;
/// Unicode, the target's name, NTLM, signed, a domain, NTLMv2's session, target info, version, 128 and 56 bits.
const FLAGS: u32 = 0x0000_0001 | 0x4 | 0x200 | 0x8000 | 0x1_0000 | 0x8_0000 | 0x80_0000 | 0x0200_0000 | 0xA000_0000;
const KEY_EXCHANGE: u32 = 0x4000_0000;

/// Asks for the proof and checks it. Gives the account's name, or what the client is told.
pub(crate) fn log_in(line: &Line, server: &Arc<Server>, first: &[u8]) -> Result<Result<String, SqlError>, WireError> {
    let Some((account, password)) = &server.options.windows else { return Ok(Err(untrusted())) };
    let Some((domain, user)) = account.split_once('\\') else { return Ok(Err(untrusted())) };
    if !first.starts_with(b"NTLMSSP\0\x01\0\0\0") {
        server.note("windows: no NTLM");
        return Ok(Err(untrusted()));
    }
    let second = question(domain, word(first, 12).unwrap_or(0) & KEY_EXCHANGE);
    let mut token = vec![0xED];
    token.extend((second.len() as u16).to_le_bytes());
    token.extend(&second);
    line.borrow_mut().write_packet(0x04, &token, true)?;
    line.borrow_mut().end_message();
    let (kind, content, ended) = line.borrow_mut().begin()?;
    let mut reader = Reader::new(Box::new(line.clone()), content, ended);
    let third = reader.rest()?;
    if ![SSPI, LOGIN].contains(&kind) {
        return Err(WireError::Invalid("no proof after it was asked for".into()));
    }
    let judged = judge(&[first, &second, &third], domain, user, password);
    server.note(&format!("windows: {}", judged.as_deref().unwrap_or_else(|why| why)));
    Ok(judged.map(|_| format!("{domain}\\{user}")).map_err(|_| untrusted()))
}

pub(crate) fn untrusted() -> SqlError {
    let text = "Login failed. The login is from an untrusted domain and cannot be used with Integrated authentication.";
    SqlError { class: 14, ..SqlError::new(18_452, text) }
}

#[expect(clippy::disallowed_methods, reason = "a log-in is of this moment")]
fn question(domain: &str, asked: u32) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let moment = (EPOCH + now.as_nanos() / 100) as u64;
    let mut nonce = [0; 8];
    let chance = rustls::crypto::aws_lc_rs::default_provider();
    chance.secure_random.fill(&mut nonce).expect("the system has randomness");
    let dns = format!("{}.example", domain.to_lowercase());
    let mut info = Vec::new();
    let said: [(u16, Vec<u8>); 6] = [
        (2, utf16(domain)),
        (1, utf16("FIXTURE")),
        (4, utf16(&dns)),
        (3, utf16(&format!("fixture.{dns}"))),
        (7, moment.to_le_bytes().to_vec()),
        (0, Vec::new()),
    ];
    for (id, value) in said {
        info.extend(id.to_le_bytes());
        info.extend((value.len() as u16).to_le_bytes());
        info.extend(value);
    }
    let name = utf16(domain);
    let mut message = b"NTLMSSP\0\x02\0\0\0".to_vec();
    let place = |message: &mut Vec<u8>, length: usize, at: usize| {
        message.extend((length as u16).to_le_bytes());
        message.extend((length as u16).to_le_bytes());
        message.extend((at as u32).to_le_bytes());
    };
    place(&mut message, name.len(), 56);
    message.extend((FLAGS | asked).to_le_bytes());
    message.extend(nonce);
    message.extend([0; 8]);
    place(&mut message, info.len(), 56 + name.len());
    message.extend([10, 0, 0x61, 0x4A, 0, 0, 0, 15]);
    message.extend(name);
    message.extend(info);
    message
}

/// What the proof says of itself, or why it is none.
fn judge(messages: &[&[u8]; 3], domain: &str, user: &str, password: &str) -> Result<String, String> {
    let third = messages[2];
    if !third.starts_with(b"NTLMSSP\0\x03\0\0\0") {
        return Err("no third message".into());
    }
    let broken = || "a broken message".to_owned();
    let part = |at: usize| part(third, at).ok_or_else(broken);
    let (answer, given_domain, given_user) = (part(20)?, text(part(28)?), text(part(36)?));
    let dns = format!("{user}@{}.example", domain.to_lowercase());
    let named = (given_domain.eq_ignore_ascii_case(domain) && given_user.eq_ignore_ascii_case(user))
        || (given_domain.is_empty() && given_user.eq_ignore_ascii_case(&dns));
    if !named {
        return Err("another account".into());
    }
    if answer.len() < 44 {
        return Err("an old proof".into());
    }
    let hash: [u8; 16] = Md4::digest(utf16(password)).into();
    let key = seal(&hash, &[&utf16(&given_user.to_uppercase()), &utf16(&given_domain)]);
    let (proof, blob) = answer.split_at(16);
    if seal(&key, &[&messages[1][24..32], blob]) != proof {
        return Err("a wrong proof".into());
    }
    let said = pairs(&blob[28..]).ok_or_else(broken)?;
    let find = |id: u16| said.iter().find(|(known, _)| *known == id).map(|(_, value)| value.as_slice());
    if let Some(target) = find(9).map(text).filter(|target| !target.starts_with("MSSQLSvc/")) {
        return Err(format!("meant for {target}"));
    }
    let sealed = find(6).is_some_and(|flags| flags.first().is_some_and(|flags| flags & 2 != 0));
    if sealed {
        let mut session = seal(&key, &[proof]);
        // Clients disagree on whether who neither signs nor seals has a key of its own; one is there or it is not.
        let sent = <[u8; 16]>::try_from(part(52)?);
        if let (Ok(sent), true) = (sent, word(third, 60).unwrap_or(0) & KEY_EXCHANGE != 0) {
            session = rc4(&session, sent);
        }
        let mut bare = third.to_vec();
        let mic = bare.get(72..88).ok_or_else(broken)?.to_vec();
        bare[72..88].fill(0);
        if seal(&session, &[messages[0], messages[1], &bare]).as_slice() != mic {
            return Err("a broken seal".into());
        }
    }
    let target = find(9).map(text).unwrap_or_default();
    let bound = find(10).is_some_and(|bindings| bindings.iter().any(|byte| *byte != 0));
    Ok(format!("sealed {sealed} bound {bound} {target}"))
}

fn seal(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("a key of any length is taken");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// The cipher a client's session key comes in.
fn rc4(key: &[u8; 16], mut bytes: [u8; 16]) -> [u8; 16] {
    let mut state: Vec<u8> = (0..=255).collect();
    let mut j = 0;
    for i in 0..256 {
        j = (j + usize::from(state[i]) + usize::from(key[i % 16])) % 256;
        state.swap(i, j);
    }
    let (mut i, mut j) = (0, 0);
    for byte in &mut bytes {
        i = (i + 1) % 256;
        j = (j + usize::from(state[i])) % 256;
        state.swap(i, j);
        *byte ^= state[(usize::from(state[i]) + usize::from(state[j])) % 256];
    }
    bytes
}

fn pairs(mut info: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    let mut pairs = Vec::new();
    loop {
        let id = u16::from_le_bytes(info.get(..2)?.try_into().ok()?);
        let length = usize::from(u16::from_le_bytes(info.get(2..4)?.try_into().ok()?));
        if id == 0 {
            return Some(pairs);
        }
        pairs.push((id, info.get(4..4 + length)?.to_vec()));
        info = &info[4 + length..];
    }
}

fn part(message: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_le_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let from = word(message, at + 4)? as usize;
    message.get(from..from.checked_add(length)?)
}

fn word(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(message.get(at..at + 4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&crate::value::from_utf16(bytes)).into_owned()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}
