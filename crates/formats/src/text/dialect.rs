//! The settings of a text file, checked once and made ready for bytes: what is special, and how a value is protected
//! so that it reads back as it was.

use dmg_protocol::job::TextFormat;
use dmg_protocol::{Fault, Kind};

use crate::fault;

/// NULL markers that no value of a kind with a fixed alphabet can equal.
const HARMLESS_MARKERS: [&str; 4] = ["", "\\N", "NULL", "null"];
/// Bytes that appear in the text forms of kinds other than texts.
const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-.: \\";

/// Checked settings.
#[derive(Debug, Clone)]
pub(super) struct Dialect {
    pub(super) column: Vec<u8>,
    /// Absent: written as `\r\n`, read as any of `\r\n`, `\r`, `\n`.
    pub(super) row: Option<Vec<u8>>,
    pub(super) quote: Option<u8>,
    /// Never equal to `quote`: where the settings say so, quotes are doubled, as they are without an escape.
    pub(super) escape: Option<u8>,
    pub(super) nulls: Vec<String>,
    pub(super) header: bool,
    pub(super) skip_lines: u32,
    pub(super) empty_as_null: bool,
    pub(super) quote_all: bool,
    /// Bytes at which an unquoted value may end or change its meaning.
    pub(super) special: [bool; 256],
}

/// Why a value cannot be written.
pub(super) type Unwritable = &'static str;

impl Dialect {
    pub(super) fn new(settings: &TextFormat) -> Result<Self, Fault> {
        check(settings)?;
        let quote = settings.quote_char.map(|quote| quote as u8);
        let escape = settings.escape_char.map(|escape| escape as u8).filter(|escape| Some(*escape) != quote);
        let mut special = [false; 256];
        special[usize::from(settings.column_delimiter.as_bytes()[0])] = true;
        for byte in settings.row_delimiter.as_ref().map_or(&b"\r\n"[..], |row| &row.as_bytes()[..1]) {
            special[usize::from(*byte)] = true;
        }
        if let Some(escape) = escape {
            special[usize::from(escape)] = true;
        }
        let dialect = Dialect {
            column: settings.column_delimiter.clone().into_bytes(),
            row: settings.row_delimiter.clone().map(String::into_bytes),
            quote,
            escape,
            nulls: settings.null_values.clone(),
            header: settings.first_row_as_header,
            skip_lines: settings.skip_lines,
            empty_as_null: settings.empty_as_null,
            quote_all: settings.quote_all,
            special,
        };
        dialect.check_markers()?;
        Ok(dialect)
    }

    /// Bytes that a field's content has at least, by how it stands in the file, whole or cut: of every two quotes in a
    /// row one is left, and no escape character.
    pub(super) fn shortest(&self, raw: &[u8]) -> usize {
        let count = |wanted: Option<u8>| wanted.map_or(0, |byte| memchr::memchr_iter(byte, raw).count());
        let escapes = if self.escape == self.quote { 0 } else { count(self.escape) };
        raw.len() - escapes.max(count(self.quote).div_ceil(2))
    }

    /// What a row ends with.
    pub(super) fn row_end(&self) -> &[u8] {
        self.row.as_deref().unwrap_or(b"\r\n")
    }

    /// Whether that text, unquoted and as it stands in the file, is NULL.
    #[inline]
    pub(super) fn is_null(&self, raw: &str) -> bool {
        (raw.is_empty() && self.empty_as_null) || self.nulls.iter().any(|marker| marker == raw)
    }

    /// What NULL is written as.
    pub(super) fn null(&self) -> Result<&str, Unwritable> {
        match self.nulls.first() {
            Some(marker) => Ok(marker),
            None if self.empty_as_null => Ok(""),
            None => Err("NULL, for which the format has no marker"),
        }
    }

    /// Whether every value of a kind can be written as it is, quotes of `quote_all` aside.
    pub(super) fn plain(&self, kind: Kind) -> bool {
        let free = |byte: &u8| !self.special[usize::from(*byte)] && self.quote != Some(*byte);
        !matches!(kind, Kind::Text | Kind::Json | Kind::EngineText | Kind::DecimalText)
            && self.nulls.iter().all(|marker| HARMLESS_MARKERS.contains(&marker.as_str()))
            && ALPHABET.iter().all(|byte| (*byte == b'\\' && kind != Kind::Bytes) || free(byte))
    }

    /// Whether every text whatsoever can be written.
    pub(super) fn lossless(&self) -> bool {
        self.quote.is_some()
    }

    /// Appends a value so that it reads back as it is.
    pub(super) fn protect(&self, value: &str, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        let bytes = value.as_bytes();
        if let Some(quote) = self.quote {
            let quoted = self.quote_all
                || self.is_null(value)
                || bytes.iter().any(|byte| self.special[usize::from(*byte)] || *byte == quote)
                || value.starts_with('\u{feff}');
            if !quoted {
                out.extend_from_slice(bytes);
                return Ok(());
            }
            out.push(quote);
            for byte in bytes {
                if *byte == quote || Some(*byte) == self.escape {
                    out.push(self.escape.unwrap_or(quote));
                }
                out.push(*byte);
            }
            out.push(quote);
            return Ok(());
        }
        if value.starts_with('\u{feff}') && self.escape.is_none() {
            return Err("a text that begins with a byte order mark, and the format has neither quotes nor an escape");
        }
        if let Some(escape) = self.escape {
            return self.escaped(value, escape, out);
        }
        self.check_bare(value)?;
        out.extend_from_slice(bytes);
        Ok(())
    }

    fn escaped(&self, value: &str, escape: u8, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        let start = out.len();
        if value.starts_with('\u{feff}') {
            out.push(escape);
        }
        for byte in value.as_bytes() {
            if self.special[usize::from(*byte)] {
                out.push(escape);
            }
            out.push(*byte);
        }
        // Not escaped so far and still a marker: escaping its first character makes it a value.
        if out.len() - start == value.len() && self.is_null(value) {
            if value.is_empty() {
                return Err("empty, which the format reads as NULL");
            }
            out.insert(start, escape);
        }
        Ok(())
    }

    /// Whether a value reads back without quotes and escapes.
    fn check_bare(&self, value: &str) -> Result<(), Unwritable> {
        if self.is_null(value) {
            return Err(match value {
                "" => "empty, which the format reads as NULL",
                _ => "a text that the format reads as NULL",
            });
        }
        if !value.bytes().any(|byte| self.special[usize::from(byte)]) {
            return Ok(());
        }
        if self.row.is_none() && memchr::memchr2(b'\r', b'\n', value.as_bytes()).is_some() {
            return Err("a text with a line break in it, and the format has neither quotes nor an escape");
        }
        // Together with what follows it, the value must not show a delimiter before its end.
        let delimiters: Vec<&[u8]> = std::iter::once(self.column.as_slice()).chain(self.row.as_deref()).collect();
        for end in &delimiters {
            let with_end = [value.as_bytes(), end].concat();
            let early =
                |delimiter: &&[u8]| memchr::memmem::find(&with_end, delimiter).is_some_and(|found| found < value.len());
            if delimiters.iter().any(early) {
                return Err("a text with a delimiter in it, and the format has neither quotes nor an escape");
            }
        }
        Ok(())
    }

    /// A marker that would not read back as NULL would turn every NULL into a text.
    fn check_markers(&self) -> Result<(), Fault> {
        for marker in &self.nulls {
            let bytes = marker.as_bytes();
            let bad = self.quote.is_some_and(|quote| bytes.contains(&quote))
                || memchr::memmem::find(bytes, &self.column).is_some()
                || memchr::memchr2(b'\r', b'\n', bytes).is_some()
                || (self.escape.is_some() && bytes.last() == self.escape.as_ref())
                || marker.starts_with('\u{feff}')
                || self.row.as_ref().is_some_and(|row| memchr::memmem::find(bytes, row).is_some());
            let cut = !bytes.is_empty()
                && (self.column.len() > 1 || self.row.as_ref().is_some_and(|row| row.len() > 1))
                && bytes.iter().any(|byte| self.special[usize::from(*byte)] && Some(*byte) != self.escape);
            if bad || cut {
                return Err(settings(
                    "nullValue",
                    "holds a delimiter, a quote or a line break, so that it could not be read back",
                ));
            }
        }
        Ok(())
    }
}

fn settings(name: &str, what: &str) -> Fault {
    Fault::new("UserErrorSettings", format!("The text format's {name} {what}.")).with("setting", name)
}

fn check(format: &TextFormat) -> Result<(), Fault> {
    let encoding = format.encoding.to_ascii_lowercase();
    if !matches!(encoding.as_str(), "utf-8" | "utf8" | "" | "us-ascii" | "ascii") {
        let message = format!("Text files in the encoding \"{}\" cannot be read or written yet.", format.encoding);
        return Err(fault::not_supported(message).remedy("Use UTF-8."));
    }
    if encoding.ends_with("ascii") {
        return Err(fault::not_supported("Text files limited to ASCII cannot be written yet.").remedy("Use UTF-8."));
    }
    if format.column_delimiter.is_empty() {
        return Err(settings("columnDelimiter", "is empty"));
    }
    if format.row_delimiter.as_ref().is_some_and(String::is_empty) {
        return Err(settings("rowDelimiter", "is empty"));
    }
    let row = format.row_delimiter.as_deref();
    let column = format.column_delimiter.as_str();
    let clash = match row {
        Some(row) => row.starts_with(column) || column.starts_with(row) || row.contains(column) || column.contains(row),
        None => column.contains(['\r', '\n']),
    };
    if clash {
        return Err(settings("columnDelimiter", "cannot be told from the row delimiter"));
    }
    for (name, character) in [("quoteChar", format.quote_char), ("escapeChar", format.escape_char)] {
        let Some(character) = character else { continue };
        if !character.is_ascii() {
            return Err(fault::not_supported(format!("The text format's {name} is not an ASCII character.")));
        }
        if column.contains(character) || row.map_or(matches!(character, '\r' | '\n'), |row| row.contains(character)) {
            return Err(settings(name, "is also part of a delimiter"));
        }
    }
    if format.quote_all && format.quote_char.is_none() {
        return Err(settings("quoteAllText", "needs a quoteChar"));
    }
    Ok(())
}
