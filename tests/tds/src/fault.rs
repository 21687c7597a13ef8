//! Faults on demand: what a test may make go wrong, when, and how often.

use std::io;
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The connection breaks after so many bytes of the answer.
    Cut(u64),
    /// The answer ends in the middle of a packet's promise, and the connection with it, as soon as it is complete but for
    /// its last bytes.
    Truncate,
    /// The answer comes in pieces of so many bytes with so many milliseconds between them.
    Drip(usize, u64),
    /// A token nobody knows stands in the answer.
    WrongToken,
    /// The log-in is answered by another server's address.
    Redirect(String, u16),
    /// The log-in is refused with an error of this number and text.
    LoginError(i32, String),
    /// The answer comes after so many milliseconds.
    Delay(u64),
    /// The request fails with an error of this number and text, without being done.
    Error(i32, String),
    /// The request is done, then the connection breaks before any of the answer.
    DoneThenCut,
}

/// A fault waiting for its moment.
#[derive(Clone, Debug)]
pub struct Armed {
    /// What.
    pub fault: Fault,
    /// Only requests whose text holds this; all when empty. The data of a bulk load have the text of its statement.
    pub when: String,
    /// How many matching requests go well before.
    pub after: u32,
    /// How many requests it hits.
    pub times: u32,
}

impl Armed {
    /// Hits the next request once.
    pub fn next(fault: Fault) -> Self {
        Self { fault, when: String::new(), after: 0, times: 1 }
    }
}

/// Takes the faults that hit this request.
pub(crate) fn due(armed: &mut Vec<Armed>, text: &str, login: bool) -> Vec<Fault> {
    let mut hits = Vec::new();
    for fault in armed.iter_mut() {
        if matches!(fault.fault, Fault::Redirect(..) | Fault::LoginError(..)) != login || !text.contains(&fault.when) {
            continue;
        }
        if fault.after > 0 {
            fault.after -= 1;
        } else if fault.times > 0 {
            fault.times -= 1;
            hits.push(fault.fault.clone());
        }
    }
    armed.retain(|fault| fault.times > 0);
    hits
}

/// The faults that act on the bytes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    /// Bytes until the connection breaks.
    pub(crate) cut: Option<u64>,
    pub(crate) drip: Option<(usize, u64)>,
}

impl Bytes {
    /// Sends with the faults applied; true when the connection is to break now.
    pub(crate) fn send(&mut self, bytes: &[u8], write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        let mut bytes = bytes;
        let mut ends = false;
        if let Some(left) = &mut self.cut {
            if (bytes.len() as u64) >= *left {
                bytes = &bytes[..*left as usize];
                ends = true;
            }
            *left -= bytes.len() as u64;
        }
        match self.drip {
            Some((size, pause)) => {
                for piece in bytes.chunks(size.max(1)) {
                    write(piece)?;
                    // The pause is the fault itself, not a wait for anything.
                    std::thread::sleep(Duration::from_millis(pause));
                }
            }
            None => write(bytes)?,
        }
        Ok(ends)
    }
}

/// Reads the arguments of `EXEC fixture.fault kind, number, text, when, after, times`.
pub(crate) fn from_call(kind: &str, number: i64, text: &str) -> Option<Fault> {
    let count = u64::try_from(number).ok()?;
    Some(match kind {
        "cut" => Fault::Cut(count),
        "truncate" => Fault::Truncate,
        "drip" => Fault::Drip(usize::try_from(count).ok()?, 5),
        "wrong token" => Fault::WrongToken,
        "redirect" => Fault::Redirect(text.to_owned(), u16::try_from(count).ok()?),
        "login error" => Fault::LoginError(i32::try_from(number).ok()?, text.to_owned()),
        "delay" => Fault::Delay(count),
        "error" => Fault::Error(i32::try_from(number).ok()?, text.to_owned()),
        "deadlock" => Fault::Error(1205, String::new()),
        "done then cut" => Fault::DoneThenCut,
        _ => return None,
    })
}
