//! Finds the fields of one record. Knows quotes, escapes and delimiters, and nothing of columns or kinds.

use super::dialect::Dialect;

/// Where a field's content is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: usize,
    end: usize,
    /// In the scratch text instead of the file's.
    unescaped: bool,
    /// As it stands in the file, for NULL markers; meaningless for quoted fields.
    raw: (usize, usize),
    pub(super) quoted: bool,
}

/// The fields of the record found last.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) fields: Vec<Span>,
    scratch: String,
}

impl Record {
    /// A field's content, quotes and escapes resolved.
    #[inline]
    pub(super) fn value<'a>(&'a self, text: &'a str, span: &Span) -> &'a str {
        if span.unescaped { &self.scratch[span.start..span.end] } else { &text[span.start..span.end] }
    }

    /// Whether the field is NULL.
    #[inline]
    pub(super) fn is_null(&self, text: &str, span: &Span, dialect: &Dialect) -> bool {
        !span.quoted && dialect.is_null(&text[span.raw.0..span.raw.1])
    }

    /// Gives memory back after a record with unusually long fields.
    pub(super) fn shrink(&mut self, usual: usize) {
        if self.scratch.capacity() > usual {
            self.scratch = String::new();
        }
    }

    /// Whether the record is an empty line.
    pub(super) fn blank(&self) -> bool {
        matches!(self.fields.as_slice(), [only] if !only.quoted && only.raw.0 == only.raw.1)
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// A whole record; the next begins there.
    Record(usize),
    /// The text ends before the record does; the field being read begins there.
    Cut(usize),
    /// The text can never be a record.
    Malformed(&'static str),
}

/// What ends a field.
enum End {
    Column(usize),
    Row(usize),
    /// The text may go on with what decides.
    Unknown,
    /// Plain content.
    None,
}

/// Reads the record that begins at `at`, which must be before the end. `last` says that no more text follows.
pub(super) fn record(dialect: &Dialect, text: &str, at: usize, last: bool, found: &mut Record) -> Scanned {
    found.fields.clear();
    found.scratch.clear();
    let bytes = text.as_bytes();
    let mut start = at;
    loop {
        let quoted = bytes.get(start).is_some_and(|byte| dialect.quote == Some(*byte));
        let field = if quoted {
            quoted_field(dialect, text, start, last, &mut found.scratch)
        } else {
            bare_field(dialect, text, start, last, &mut found.scratch)
        };
        match field {
            Field::Found(span, End::Column(next)) => {
                found.fields.push(span);
                start = next;
            }
            Field::Found(span, End::Row(next)) => {
                found.fields.push(span);
                return Scanned::Record(next);
            }
            Field::Found(..) | Field::Cut => return Scanned::Cut(start),
            Field::Malformed(what) => return Scanned::Malformed(what),
        }
    }
}

enum Field {
    Found(Span, End),
    Cut,
    Malformed(&'static str),
}

fn bare_field(dialect: &Dialect, text: &str, start: usize, last: bool, scratch: &mut String) -> Field {
    let bytes = text.as_bytes();
    let scratch_start = scratch.len();
    let mut copied = start;
    let mut unescaped = false;
    let mut at = start;
    loop {
        while at < bytes.len() && !dialect.special[usize::from(bytes[at])] {
            at += 1;
        }
        if bytes.get(at).is_some_and(|byte| dialect.escape == Some(*byte)) {
            if at + 1 == bytes.len() {
                return if last { Field::Malformed("it ends with an escape character") } else { Field::Cut };
            }
            scratch.push_str(&text[copied..at]);
            unescaped = true;
            copied = at + 1;
            at = copied + text[copied..].chars().next().map_or(0, char::len_utf8);
            continue;
        }
        let end = ending(dialect, bytes, at, last);
        if matches!(end, End::None) {
            at += 1;
            continue;
        }
        if matches!(end, End::Unknown) {
            return Field::Cut;
        }
        let raw = (start, at);
        if !unescaped {
            return Field::Found(Span { start, end: at, unescaped, raw, quoted: false }, end);
        }
        scratch.push_str(&text[copied..at]);
        let span = Span { start: scratch_start, end: scratch.len(), unescaped, raw, quoted: false };
        return Field::Found(span, end);
    }
}

fn quoted_field(dialect: &Dialect, text: &str, start: usize, last: bool, scratch: &mut String) -> Field {
    let bytes = text.as_bytes();
    let Some(quote) = dialect.quote else { return Field::Malformed("it has a quote where none can be") };
    let escape = dialect.escape.unwrap_or(quote);
    let scratch_start = scratch.len();
    let mut copied = start + 1;
    let mut unescaped = false;
    let mut at = copied;
    loop {
        let Some(found) = memchr::memchr2(quote, escape, &bytes[at..]) else {
            return if last { Field::Malformed("a quote is never closed") } else { Field::Cut };
        };
        at += found;
        let next = bytes.get(at + 1);
        if next.is_none() && !last {
            return Field::Cut;
        }
        let is_escape = bytes[at] == escape && (escape != quote || next == Some(&quote));
        if is_escape {
            if next.is_none() {
                return Field::Malformed("a quote is never closed");
            }
            scratch.push_str(&text[copied..at]);
            unescaped = true;
            copied = at + 1;
            at = copied + text[copied..].chars().next().map_or(0, char::len_utf8);
            continue;
        }
        // The closing quote.
        let end = ending(dialect, bytes, at + 1, last);
        if matches!(end, End::Unknown) {
            return Field::Cut;
        }
        if matches!(end, End::None) {
            return Field::Malformed("text follows a closing quote");
        }
        let raw = (start, at + 1);
        if !unescaped {
            return Field::Found(Span { start: copied, end: at, unescaped, raw, quoted: true }, end);
        }
        scratch.push_str(&text[copied..at]);
        let span = Span { start: scratch_start, end: scratch.len(), unescaped, raw, quoted: true };
        return Field::Found(span, end);
    }
}

/// Whether a delimiter stands at that place.
#[inline]
fn ending(dialect: &Dialect, bytes: &[u8], at: usize, last: bool) -> End {
    let rest = &bytes[at..];
    if rest.is_empty() {
        return if last { End::Row(at) } else { End::Unknown };
    }
    if rest.starts_with(&dialect.column) {
        return End::Column(at + dialect.column.len());
    }
    match &dialect.row {
        Some(row) if rest.starts_with(row) => return End::Row(at + row.len()),
        Some(row) if !last && row.starts_with(rest) => return End::Unknown,
        None => match rest {
            [b'\n', ..] => return End::Row(at + 1),
            [b'\r', b'\n', ..] => return End::Row(at + 2),
            [b'\r'] if !last => return End::Unknown,
            [b'\r', ..] => return End::Row(at + 1),
            _ => {}
        },
        Some(_) => {}
    }
    if !last && dialect.column.starts_with(rest) { End::Unknown } else { End::None }
}

/// The start of the line after `count` lines from `at`; `None` where the text ends before.
pub(super) fn skip_lines(dialect: &Dialect, text: &str, mut at: usize, count: u32, last: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    for _ in 0..count {
        at = match &dialect.row {
            Some(row) => match memchr::memmem::find(&bytes[at..], row) {
                Some(found) => at + found + row.len(),
                None if last => bytes.len(),
                None => return None,
            },
            None => match memchr::memchr2(b'\r', b'\n', &bytes[at..]) {
                Some(found) => match ending(dialect, bytes, at + found, last) {
                    End::Row(next) => next,
                    _ => return None,
                },
                None if last => bytes.len(),
                None => return None,
            },
        };
    }
    Some(at)
}
