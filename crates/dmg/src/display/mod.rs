//! What people and programs see: tables and short texts on a terminal, JSON where asked for. Standard output carries
//! answers, standard error everything else.

pub(crate) mod progress;
mod table;

use std::io::{IsTerminal, Write};

use dmg_protocol::Fault;
use serde_json::{Value, json};

pub(crate) use table::{Table, moment};

/// How answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// Where answers go and how they look. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    color: bool,
}

/// Whether a stream takes colour: it is a terminal, and nobody said no.
pub(crate) fn color_on(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && dmg_ambient::environment("NO_COLOR").is_none()
        && dmg_ambient::environment("TERM").as_deref() != Some("dumb")
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Output { json: format == Format::Json, color: color_on(&std::io::stdout()) }
    }

    /// Whether programs read it.
    pub(crate) fn json(self) -> bool {
        self.json
    }

    /// Prints an answer: the text for people, the value for programs.
    pub(crate) fn answer(self, value: &Value, human: impl FnOnce() -> String) {
        if self.json {
            say(&serde_json::to_string_pretty(value).unwrap_or_default());
        } else {
            say(human().trim_end_matches('\n'));
        }
    }

    /// Prints a line for people only.
    pub(crate) fn note(self, line: &str) {
        if !self.json {
            say(line);
        }
    }

    /// A word in a colour that fits what it says.
    pub(crate) fn status(self, word: &str) -> String {
        let code = match word {
            "Succeeded" | "Online" | "created" | "Registered" => "32",
            "Failed" | "NeedRegistration" | "Offline" | "failed" => "31",
            "InProgress" | "Queued" | "Limited" | "changed" | "Canceling" | "Cancelling" => "33",
            _ => return word.to_owned(),
        };
        if self.color { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
    }

    /// Bold on a terminal.
    pub(crate) fn strong(self, text: &str) -> String {
        if self.color { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Says on standard error why a command failed.
    pub(crate) fn failure(self, fault: &Fault) {
        let text = if self.json {
            serde_json::to_string_pretty(&json!({ "error": fault })).unwrap_or_default()
        } else {
            failure_text(fault, color_on(&std::io::stderr()))
        };
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// The fault for people: what happened, what to do, and the code to look up.
fn failure_text(fault: &Fault, color: bool) -> String {
    let (red, off) = if color { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
    let mut text = format!("{red}error:{off} {}", fault.message);
    if !fault.remedy.is_empty() {
        text.push_str(&format!("\n  {}", fault.remedy));
    }
    text.push_str(&format!("\n  ({})", fault.code));
    text
}

/// Writes a line to standard output. A reader that went away is no error of ours.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A text member, or nothing.
pub(crate) fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_well() {
        let fault = Fault::new("UserErrorNotFound", "Factory \"acme\" has no pipeline \"load\".");
        assert_eq!(
            failure_text(&fault, false),
            "error: Factory \"acme\" has no pipeline \"load\".\n  Check the name.\n  (UserErrorNotFound)"
        );
    }
}
