//! Looks for a secret in every form it might have taken on its way to a place where it must not be. It reads files,
//! databases, processes and texts; it knows nothing about the product.

use std::fmt::Write as _;
use std::path::Path;

mod places;
mod scanner;
mod watch;

pub use scanner::Scanner;
pub use watch::{Seen, Watch};

/// One form of a secret.
#[derive(Debug, Clone)]
pub struct Form {
    /// Whose form it is, for reports.
    pub secret: String,
    /// Its name, for reports.
    pub name: &'static str,
    /// What is looked for.
    pub bytes: Vec<u8>,
}

/// A secret somewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Where.
    pub place: String,
    /// Which one.
    pub secret: String,
    /// In which form.
    pub form: &'static str,
}

/// All forms of a secret text.
pub fn forms(secret: &str) -> Vec<Form> {
    named_forms("secret", secret)
}

/// All forms of a secret text that reports call by that name.
pub fn named_forms(name: &str, secret: &str) -> Vec<Form> {
    let bytes = secret.as_bytes();
    let escape_all = |escaped: &dyn Fn(char) -> Option<String>| -> String {
        secret.chars().map(|letter| escaped(letter).unwrap_or_else(|| letter.to_string())).collect()
    };
    let json = escape_all(&|letter| matches!(letter, '"' | '\\').then(|| format!("\\{letter}")));
    let json_ascii = escape_all(&|letter| match letter {
        '"' | '\\' => Some(format!("\\{letter}")),
        _ if !letter.is_ascii() => Some(format!("\\u{:04x}", u32::from(letter))),
        _ => None,
    });
    let percent = |keep: &dyn Fn(u8) -> bool| {
        bytes.iter().fold(String::new(), |mut text, &byte| {
            if keep(byte) {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
            text
        })
    };
    let strict = percent(&|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
    // Query strings of forms, and clients that leave what URLs allow.
    let loose = percent(&|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}% ".contains(&byte));
    let mut forms = bytes_forms(name, bytes);
    let utf16 = |as_bytes: fn(u16) -> [u8; 2]| secret.encode_utf16().flat_map(as_bytes).collect::<Vec<u8>>();
    let more = [
        ("URL", strict.clone().into_bytes()),
        ("url", strict.to_lowercase().into_bytes()),
        ("URL, loose", loose.into_bytes()),
        ("UTF-16LE", utf16(u16::to_le_bytes)),
        ("UTF-16BE", utf16(u16::to_be_bytes)),
        ("JSON", json.into_bytes()),
        ("JSON, ASCII", json_ascii.into_bytes()),
    ];
    forms.extend(more.into_iter().map(|(form, bytes)| Form { secret: name.to_owned(), name: form, bytes }));
    forms
}

/// The forms that any bytes have, text or not.
pub fn bytes_forms(name: &str, bytes: &[u8]) -> Vec<Form> {
    let hex = bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    // What Rust's `{:?}` makes of bytes.
    let list = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut forms = vec![
        ("raw", bytes.to_vec()),
        ("hex", hex.clone().into_bytes()),
        ("HEX", hex.to_uppercase().into_bytes()),
        ("list of bytes", list.into_bytes()),
    ];
    let names = [["base64 at 0", "base64 at 1", "base64 at 2"], ["base64url at 0", "base64url at 1", "base64url at 2"]];
    for (names, url) in names.into_iter().zip([false, true]) {
        forms.extend(names.into_iter().enumerate().map(|(offset, form)| (form, base64_inside(bytes, offset, url))));
    }
    forms.into_iter().map(|(form, bytes)| Form { secret: name.to_owned(), name: form, bytes }).collect()
}

/// What of the base64 text of something longer depends on these bytes alone, when they start at that offset mod 3.
fn base64_inside(bytes: &[u8], offset: usize, url: bool) -> Vec<u8> {
    let alphabet: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').collect();
    let last = if url { *b"-_" } else { *b"+/" };
    let letter = |index: usize| alphabet.get(index).copied().unwrap_or_else(|| last[index - 62]);
    let bits: Vec<bool> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    // The first letter that begins inside the bytes.
    let skipped = (6 - (offset * 8) % 6) % 6;
    bits[skipped..]
        .chunks_exact(6)
        .map(|six| letter(six.iter().fold(0, |index, bit| index << 1 | usize::from(*bit))))
        .collect()
}

/// Forms of the secret in some bytes.
pub fn in_bytes(place: &str, bytes: &[u8], forms: &[Form]) -> Vec<Hit> {
    forms
        .iter()
        .filter(|form| contains(bytes, &form.bytes))
        .map(|form| Hit { place: place.to_owned(), secret: form.secret.clone(), form: form.name })
        .collect()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let Some(first) = wanted.first() else { return false };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        if rest[at..].starts_with(wanted) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Forms of the secret in all files below a folder, and in their names.
pub fn in_folder(folder: &Path, forms: &[Form]) -> Vec<Hit> {
    let mut hits = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return hits };
    for entry in entries.flatten() {
        let path = entry.path();
        let place = path.display().to_string();
        hits.extend(in_bytes(&format!("name of {place}"), entry.file_name().as_encoded_bytes(), forms));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => hits.extend(in_folder(&path, forms)),
            Ok(kind) if kind.is_file() => {
                hits.extend(in_bytes(&place, &std::fs::read(&path).unwrap_or_default(), forms));
            }
            _ => {}
        }
    }
    hits
}

/// Forms of the secret in a process's arguments and environment.
pub fn in_process(pid: u32, forms: &[Form]) -> Vec<Hit> {
    ["cmdline", "environ"]
        .into_iter()
        .flat_map(|what| {
            let path = format!("/proc/{pid}/{what}");
            in_bytes(&path, &std::fs::read(&path).unwrap_or_default(), forms)
        })
        .collect()
}
