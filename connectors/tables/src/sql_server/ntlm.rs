//! NTLMv2 as the client of a log-in speaks it ([MS-NLMP]): three messages, of which the last proves the password
//! without showing it. Pure: chance, time and what binds the connection come from outside. It neither signs nor seals
//! what follows, and never speaks the older dialects, whose proofs can be turned back into the password.

use hmac::{Hmac, KeyInit, Mac};
use md4::{Digest, Md4};
use md5::Md5;
use zeroize::Zeroizing;

/// What every message begins with.
pub(super) const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
/// The most a server may say of itself; real ones say some hundred bytes.
const TARGET_INFO_BYTES_MAX: usize = 16 << 10;
/// The longest name of an account or of a domain.
const NAME_CHARS_MAX: usize = 512;

const UNICODE: u32 = 0x0000_0001;
const REQUEST_TARGET: u32 = 0x0000_0004;
const NTLM: u32 = 0x0000_0200;
const ALWAYS_SIGN: u32 = 0x0000_8000;
const EXTENDED_SECURITY: u32 = 0x0008_0000;
const TARGET_INFO: u32 = 0x0080_0000;
const KEY_128: u32 = 0x2000_0000;
const KEY_56: u32 = 0x8000_0000;
const ASKED: u32 = UNICODE | REQUEST_TARGET | NTLM | ALWAYS_SIGN | EXTENDED_SECURITY | TARGET_INFO | KEY_128 | KEY_56;

// What a server says of itself and a client of the connection, by number.
const AV_END: u16 = 0;
const AV_FLAGS: u16 = 6;
const AV_TIMESTAMP: u16 = 7;
const AV_TARGET_NAME: u16 = 9;
const AV_CHANNEL_BINDINGS: u16 = 10;
/// The flag that says: all three messages are under a seal.
const AV_FLAG_MIC: u32 = 0x2;

/// Where the seal stands in the last message, and where its fields begin.
const MIC: std::ops::Range<usize> = 72..88;

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Empty where the server is to find it, as with `user@domain`.
    pub(super) domain: String,
    pub(super) user: String,
}

impl Account {
    /// `DOMAIN\user`, `user@domain.example` or `user`; nothing where a part is missing or too long.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (domain, user) = match text.split_once('\\') {
            Some(("", _)) => return None,
            Some(parts) => parts,
            None => ("", text),
        };
        let fits = |name: &str| name.chars().count() <= NAME_CHARS_MAX && !name.contains(['\\', '\0']);
        (!user.is_empty() && fits(domain) && fits(user))
            .then(|| Account { domain: domain.to_owned(), user: user.to_owned() })
    }
}

/// Why a server's message cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is of another kind of log-in, such as Kerberos.
    Other,
    /// It breaks off, points outside itself or says what no server says.
    Broken,
}

/// What the server asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    message: Vec<u8>,
    flags: u32,
    nonce: [u8; 8],
    pairs: Vec<(u16, Vec<u8>)>,
}

/// What the client adds to the proof.
pub(super) struct Ours<'a> {
    pub(super) nonce: [u8; 8],
    /// Steps of 100 ns since 1601, for servers that do not tell the time.
    pub(super) moment: u64,
    /// The service that is meant, as `MSSQLSvc/host:port`: another one cannot use the proof.
    pub(super) target: &'a str,
    /// What the proof is bound to; nothing where the connection has nothing of the kind.
    pub(super) bindings: Option<[u8; 16]>,
    /// The name of this machine, for the server's log.
    pub(super) workstation: &'a str,
}

/// The first message: what we can do.
pub(super) fn negotiate() -> Vec<u8> {
    let mut message = begin(1);
    message.extend(ASKED.to_le_bytes());
    // Neither domain nor workstation: they would be readable before the server said a word.
    message.extend([0; 16]);
    message
}

/// Reads the second message.
pub(super) fn read(message: &[u8]) -> Result<Challenge, Unreadable> {
    if !message.starts_with(SIGNATURE) {
        return Err(Unreadable::Other);
    }
    let flags = u32_at(message, 20)?;
    if u32_at(message, 8)? != 2 || flags & UNICODE == 0 {
        return Err(Unreadable::Broken);
    }
    let nonce = message.get(24..32).and_then(|bytes| bytes.try_into().ok()).ok_or(Unreadable::Broken)?;
    let info = if flags & TARGET_INFO == 0 { &[][..] } else { field(message, 40)? };
    if info.len() > TARGET_INFO_BYTES_MAX {
        return Err(Unreadable::Broken);
    }
    Ok(Challenge { message: message.to_vec(), flags, nonce, pairs: pairs(info)? })
}

fn pairs(mut info: &[u8]) -> Result<Vec<(u16, Vec<u8>)>, Unreadable> {
    let mut pairs: Vec<(u16, Vec<u8>)> = Vec::new();
    while !info.is_empty() {
        let (id, length) = (u16_at(info, 0)?, usize::from(u16_at(info, 2)?));
        if id == AV_END {
            return Ok(pairs);
        }
        let value = info.get(4..4 + length).ok_or(Unreadable::Broken)?;
        if pairs.iter().any(|(known, _)| *known == id) || (id == AV_TIMESTAMP && length != 8) {
            return Err(Unreadable::Broken);
        }
        pairs.push((id, value.to_vec()));
        info = &info[4 + length..];
    }
    if pairs.is_empty() { Ok(pairs) } else { Err(Unreadable::Broken) }
}

/// The third message: the proof.
pub(super) fn authenticate(account: &Account, password: &str, challenge: &Challenge, ours: &Ours<'_>) -> Vec<u8> {
    let key = response_key(account, password);
    let stamp = challenge.pairs.iter().find(|(id, _)| *id == AV_TIMESTAMP).map(|(_, value)| value.clone());
    let stamped = stamp.is_some();
    let moment = stamp.and_then(|value| value.try_into().ok()).map_or(ours.moment, u64::from_le_bytes);
    let blob = blob(moment, ours.nonce, &target_info(challenge, ours, stamped));
    let proof = hmac(&*key, &[&challenge.nonce, &blob]);
    let new = [&proof[..], &blob].concat();
    // A server that tells the time takes the new proof alone.
    let old =
        if stamped { vec![0; 24] } else { [&hmac(&*key, &[&challenge.nonce, &ours.nonce])[..], &ours.nonce].concat() };
    let mut message = begin(3);
    let texts = [&account.domain, &account.user, ours.workstation].map(utf16);
    let mut at = MIC.end;
    let parts: [&[u8]; 6] = [&old, &new, &texts[0], &texts[1], &texts[2], &[]];
    for part in parts {
        let length = u16::try_from(part.len()).expect("names and what a server says of itself are bounded");
        message.extend(length.to_le_bytes());
        message.extend(length.to_le_bytes());
        message.extend((at as u32).to_le_bytes());
        at += part.len();
    }
    message.extend((challenge.flags & ASKED).to_le_bytes());
    // No version of ours, and no seal yet.
    message.resize(MIC.end, 0);
    message.extend(parts.concat());
    if stamped {
        // Without a key of its own, what follows the log-in would be sealed by this one; so the messages are.
        let session = Zeroizing::new(hmac(&*key, &[&proof]));
        let mic = hmac(&*session, &[&negotiate(), &challenge.message, &message]);
        message[MIC].copy_from_slice(&mic);
    }
    message
}

/// The value that binds a proof to a connection: `tls-unique:` or another kind of RFC 5929, and what that kind gives.
pub(super) fn bindings(kind: &str, value: &[u8]) -> [u8; 16] {
    let data = [kind.as_bytes(), value].concat();
    let mut hash = Md5::new();
    // Neither side's address, as RFC 4121 writes their absence.
    hash.update([0; 16]);
    hash.update((data.len() as u32).to_le_bytes());
    hash.update(&data);
    hash.finalize().into()
}

/// What the server said of itself, and what we say of the connection.
fn target_info(challenge: &Challenge, ours: &Ours<'_>, stamped: bool) -> Vec<u8> {
    let own = [AV_FLAGS, AV_TARGET_NAME, AV_CHANNEL_BINDINGS];
    let flags = challenge.pairs.iter().find(|(id, _)| *id == AV_FLAGS);
    let flags = flags.and_then(|(_, value)| value.as_slice().try_into().ok()).map_or(0, u32::from_le_bytes);
    let flags = if stamped { flags | AV_FLAG_MIC } else { flags };
    let mut info = Vec::new();
    let mut put = |id: u16, value: &[u8]| {
        info.extend(id.to_le_bytes());
        info.extend((value.len() as u16).to_le_bytes());
        info.extend(value);
    };
    for (id, value) in challenge.pairs.iter().filter(|(id, _)| !own.contains(id)) {
        put(*id, value);
    }
    if flags != 0 {
        put(AV_FLAGS, &flags.to_le_bytes());
    }
    // Zeros say that there is nothing to bind to.
    put(AV_CHANNEL_BINDINGS, &ours.bindings.unwrap_or_default());
    put(AV_TARGET_NAME, &utf16(ours.target));
    put(AV_END, &[]);
    info
}

/// What is proved over, beside the server's question.
fn blob(moment: u64, nonce: [u8; 8], info: &[u8]) -> Vec<u8> {
    let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
    blob.extend(moment.to_le_bytes());
    blob.extend(nonce);
    blob.extend([0; 4]);
    blob.extend(info);
    blob.extend([0; 4]);
    blob
}

/// The key of the proof: from the password, the user in capitals and the domain as it is written.
fn response_key(account: &Account, password: &str) -> Zeroizing<[u8; 16]> {
    let text = Zeroizing::new(utf16(password));
    let hash: Zeroizing<[u8; 16]> = Zeroizing::new(Md4::digest(&*text).into());
    Zeroizing::new(hmac(&*hash, &[&utf16(capitals(&account.user)), &utf16(&account.domain)]))
}

/// Capitals one by one, as Windows has them: no letter becomes two.
fn capitals(text: &str) -> String {
    text.chars()
        .map(|letter| {
            let mut upper = letter.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(one), None) => one,
                _ => letter,
            }
        })
        .collect()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("a key of any length is taken");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn begin(number: u32) -> Vec<u8> {
    let mut message = SIGNATURE.to_vec();
    message.extend(number.to_le_bytes());
    message
}

fn utf16(text: impl AsRef<str>) -> Vec<u8> {
    // Of a password, no piece is left behind by growing.
    let mut bytes = Vec::with_capacity(2 * text.as_ref().len());
    bytes.extend(text.as_ref().encode_utf16().flat_map(u16::to_le_bytes));
    bytes
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Unreadable> {
    let bytes = bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u16::from_le_bytes).ok_or(Unreadable::Broken)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Unreadable> {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_le_bytes).ok_or(Unreadable::Broken)
}

/// A part of a message, by the length and the place that stand at `at`.
fn field(message: &[u8], at: usize) -> Result<&[u8], Unreadable> {
    let (length, from) = (usize::from(u16_at(message, at)?), u32_at(message, at + 4)? as usize);
    from.checked_add(length).and_then(|to| message.get(from..to)).ok_or(Unreadable::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn account() -> Account {
        Account::parse("Domain\\User").expect("an account")
    }

    fn info(pairs: &[(u16, &[u8])]) -> Vec<u8> {
        let mut info = Vec::new();
        for (id, value) in pairs {
            info.extend(id.to_le_bytes());
            info.extend((value.len() as u16).to_le_bytes());
            info.extend(*value);
        }
        info.extend([0; 4]);
        info
    }

    /// A challenge as a server writes it.
    fn challenge(info: &[u8]) -> Vec<u8> {
        let mut message = begin(2);
        message.extend([0; 8]);
        message.extend((ASKED | 0x0002_0000).to_le_bytes());
        message.extend([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        message.extend([0; 8]);
        message.extend((info.len() as u16).to_le_bytes());
        message.extend((info.len() as u16).to_le_bytes());
        message.extend(48_u32.to_le_bytes());
        message.extend(info);
        message
    }

    /// The published example of NTLMv2, [MS-NLMP] 4.2.4.
    #[test]
    fn the_published_example_comes_out() {
        let key = response_key(&account(), "Password");
        assert_eq!(hex(&*key), "0c868a403bfd7a93a3001ef22ef02e3f");
        let (domain, server) = (utf16("Domain"), utf16("Server"));
        let said = info(&[(2, &domain), (1, &server)]);
        let asked = read(&challenge(&said)).expect("a challenge");
        let blob = blob(0, [0xaa; 8], &said);
        let proof = hmac(&*key, &[&asked.nonce, &blob]);
        assert_eq!(hex(&proof), "68cd0ab851e51c96aabc927bebef6a1c");
        assert_eq!(hex(&hmac(&*key, &[&proof])), "8de40ccadbc14a82f15cb0ad0de95ca3");
        let old = hmac(&*key, &[&asked.nonce, &[0xaa; 8]]);
        assert_eq!(hex(&old), "86c35097ac9cec102554764a57cccc19");
    }

    #[test]
    fn accounts() {
        for (text, expected) in [
            ("CORP\\etl", Some(("CORP", "etl"))),
            ("etl@corp.example", Some(("", "etl@corp.example"))),
            (" etl ", Some(("", "etl"))),
            ("\\etl", None),
            ("CORP\\", None),
            ("CORP\\etl\\x", None),
            ("", None),
        ] {
            let expected = expected.map(|(domain, user)| Account { domain: domain.into(), user: user.into() });
            assert_eq!(Account::parse(text), expected, "{text}");
        }
        assert_eq!(Account::parse(&"u".repeat(NAME_CHARS_MAX + 1)), None);
    }

    #[test]
    fn a_letter_stays_one_letter() {
        assert_eq!(capitals("straße.ümit"), "STRAßE.ÜMIT");
    }

    #[test]
    fn hostile_challenges_are_told_apart_and_never_trusted() {
        let good = challenge(&info(&[(2, b"D\0"), (7, &[1; 8])]));
        assert!(read(&good).is_ok());
        for end in 0..good.len() {
            let expected = if end < 8 { Unreadable::Other } else { Unreadable::Broken };
            assert_eq!(read(&good[..end]), Err(expected), "cut to {end}");
        }
        let with = |at: usize, bytes: &[u8]| {
            let mut message = good.clone();
            message[at..at + bytes.len()].copy_from_slice(bytes);
            message
        };
        let long = vec![0x20; TARGET_INFO_BYTES_MAX + 1];
        for (what, message, expected) in [
            ("SPNEGO", vec![0xa1, 0x81, 0x10], Unreadable::Other),
            ("another number", with(8, &[3]), Unreadable::Broken),
            ("no Unicode", with(20, &[0]), Unreadable::Broken),
            ("a place outside", with(44, &[0xff, 0xff, 0xff, 0xff]), Unreadable::Broken),
            ("a length outside", with(50, &[0xff, 0xff]), Unreadable::Broken),
            ("the same twice", challenge(&info(&[(2, b"A\0"), (2, b"B\0")])), Unreadable::Broken),
            ("half a moment", challenge(&info(&[(7, &[1; 4])])), Unreadable::Broken),
            ("no end", challenge(&[2, 0, 0, 0]), Unreadable::Broken),
            ("too much", challenge(&info(&[(2, &long)])), Unreadable::Broken),
        ] {
            assert_eq!(read(&message), Err(expected), "{what}");
        }
    }

    #[test]
    fn no_damaged_challenge_breaks_the_answer() {
        let good = challenge(&info(&[(1, b"S\0"), (6, &[0; 4]), (7, &[1; 8]), (10, &[3; 16])]));
        let ours = Ours { nonce: [7; 8], moment: 1, target: "MSSQLSvc/h:1", bindings: Some([5; 16]), workstation: "" };
        let mut answered = 0;
        for at in 0..good.len() {
            for byte in 0..=255 {
                let mut message = good.clone();
                message[at] = byte;
                if let Ok(challenge) = read(&message) {
                    let answer = authenticate(&account(), "Password", &challenge, &ours);
                    assert!(answer.len() < 1024 && field(&answer, 20).is_ok());
                    answered += 1;
                }
            }
        }
        assert!(answered > 1000, "most of what a server says is its own affair");
    }

    #[test]
    fn proofs_are_sealed_where_the_server_tells_the_time() {
        let ours = Ours { nonce: [7; 8], moment: 1, target: "MSSQLSvc/db01:1433", bindings: None, workstation: "GW" };
        for (said, sealed) in [(info(&[(7, &[9; 8])]), true), (info(&[(2, b"D\0")]), false)] {
            let message = authenticate(&account(), "Password", &read(&challenge(&said)).expect("a challenge"), &ours);
            assert_eq!(message[MIC] != [0; 16], sealed);
            let old = field(&message, 12).expect("the old proof");
            assert_eq!(old == [0; 24], sealed);
            let name = utf16("Password");
            assert!(!message.windows(name.len()).any(|part| part == name));
        }
    }
}
