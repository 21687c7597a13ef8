//! How what is told of a copy is laid out in the file beside its target: rows left out in a layout of ours, in that of
//! the original's redirect file, or as lines of its session log. A value stands only among the row's values, never in
//! a message.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use dmg_connector::{Column, Error, FileEntry, Reject, Result};
use dmg_protocol::job::{LogLevel, RedirectLayout, TextFormat};
use dmg_protocol::{Fault, Kind};
use serde_json::json;

/// Why a row was left out: what stands before the row's values in our layout.
const NUMBERED: [&str; 3] = ["RowNumber", "Part", "Column"];
const REASON: [&str; 2] = ["ErrorCode", "ErrorMessage"];
/// What stands behind them, where rows may have more values than there are columns.
const MORE: &str = "MoreValues";
/// A line of a session log.
const LINE: [&str; 5] = ["Timestamp", "Level", "OperationName", "OperationItem", "Message"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Rows left out.
    Rows(RedirectLayout),
    /// Lines of a log.
    Log(LogLevel),
}

/// The columns of the file, by what fills them.
pub(crate) struct Sheet {
    layout: Layout,
    fields: Vec<Field>,
    columns: Vec<Column>,
}

#[derive(Clone, Copy)]
enum Field {
    Number,
    Part,
    Column,
    Code,
    Reason,
    Value(usize),
    /// Values beyond so many.
    More(usize),
}

/// What is told of a file.
pub(crate) enum FileLine<'a> {
    Listed(&'a FileEntry),
    Read(&'a FileEntry),
    Written(&'a (String, u64)),
}

fn text_column(name: String) -> Column {
    Column { name, kind: Kind::Text, type_name: "text".to_owned(), nullable: true, key: false }
}

impl Layout {
    /// How values are written.
    pub(crate) fn format(self) -> TextFormat {
        match self {
            Layout::Rows(RedirectLayout::Named) => TextFormat::lossless(),
            Layout::Rows(RedirectLayout::Original) => {
                TextFormat { first_row_as_header: false, ..TextFormat::lossless() }
            }
            // As RFC 4180 has it: lines end in CR LF, and only what needs quotes has them.
            Layout::Log(_) => TextFormat { row_delimiter: None, quote_all: false, ..TextFormat::lossless() },
        }
    }

    /// Whether there is a file even where nothing is to be told.
    pub(crate) fn always(self) -> bool {
        matches!(self, Layout::Log(_))
    }

    /// Whether files are told too.
    pub(crate) fn tells_files(self) -> bool {
        self == Layout::Log(LogLevel::Info)
    }

    /// For that source; `ragged` where its rows may have more values than columns.
    pub(crate) fn sheet(self, source: &[Column], ragged: bool) -> Sheet {
        // Ours are renamed where the source has the name too.
        let own = |name: &&str| {
            let mut name = (*name).to_owned();
            while source.iter().any(|column| column.name.eq_ignore_ascii_case(&name)) {
                name.push('_');
            }
            text_column(name)
        };
        let numbered = NUMBERED.iter().map(own).zip([Field::Number, Field::Part, Field::Column]);
        let reason = REASON.iter().map(own).zip([Field::Code, Field::Reason]);
        let more = [MORE].iter().map(own).zip([Field::More(source.len())]).filter(|_| ragged).collect::<Vec<_>>();
        let values =
            source.iter().enumerate().map(|(index, column)| (text_column(column.name.clone()), Field::Value(index)));
        let (columns, fields) = match self {
            Layout::Rows(RedirectLayout::Named) => numbered.chain(reason).chain(values).chain(more).unzip(),
            Layout::Rows(RedirectLayout::Original) => values.chain(reason).chain(numbered).chain(more).unzip(),
            Layout::Log(_) => (LINE.iter().map(|name| text_column((*name).to_owned())).collect(), Vec::new()),
        };
        Sheet { layout: self, fields, columns }
    }
}

impl Sheet {
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Rows of a part, which were left out at that time.
    pub(crate) fn rows(&self, label: &str, rows: &[Reject], rfc3339: &str) -> Result<RecordBatch> {
        if let Layout::Log(_) = self.layout {
            let lines = rows.iter().map(|reject| (values(&reject.values), told(label, reject)));
            return self.lines("Warning", "TabularRowSkip", lines.collect(), rfc3339);
        }
        let text = |field: &Field| -> ArrayRef {
            let value = |reject: &Reject| match *field {
                Field::Number => Some(reject.row.to_string()),
                Field::Part => Some(label.to_owned()),
                Field::Column => (!reject.column.is_empty()).then(|| reject.column.clone()),
                Field::Code => Some(reject.code.to_owned()),
                Field::Reason => Some(reject.reason.clone()),
                Field::Value(index) => reject.values.get(index).cloned().flatten(),
                Field::More(width) => {
                    let beyond = reject.values.get(width..).unwrap_or_default();
                    (!beyond.is_empty()).then(|| values(beyond))
                }
            };
            Arc::new(rows.iter().map(value).collect::<StringArray>())
        };
        self.batch(self.fields.iter().map(text).collect())
    }

    /// Lines on files.
    pub(crate) fn files(&self, files: &[FileLine<'_>], rfc3339: &str) -> Result<RecordBatch> {
        let known = |path: &str, size: u64| json!({ "Path": path, "ItemType": "File", "Size": size });
        let line = |file: &FileLine<'_>| match file {
            FileLine::Listed(entry) => {
                let mut known = known(&entry.path, entry.size);
                known["Stamp"] = json!(entry.stamp);
                (entry.path.clone(), format!("Start to read file: {known}"))
            }
            FileLine::Read(entry) => (entry.path.clone(), "Complete reading file successfully.".to_owned()),
            FileLine::Written((path, size)) => {
                let known = known(path, *size);
                (path.clone(), format!("Complete writing file: {known}. File is successfully copied."))
            }
        };
        let operation = match files.first() {
            Some(FileLine::Written(_)) => "FileWrite",
            _ => "FileRead",
        };
        self.lines("Info", operation, files.iter().map(line).collect(), rfc3339)
    }

    fn lines(&self, level: &str, operation: &str, lines: Vec<(String, String)>, rfc3339: &str) -> Result<RecordBatch> {
        let (items, messages): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
        let same = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, items.len())))
        };
        let (time, level, operation) = (same(&stamp(rfc3339)), same(level), same(operation));
        let texts = |texts: &[String]| -> ArrayRef { Arc::new(StringArray::from_iter_values(texts)) };
        self.batch(vec![time, level, operation, texts(&items), texts(&messages)])
    }

    fn batch(&self, arrays: Vec<ArrayRef>) -> Result<RecordBatch> {
        RecordBatch::try_new(dmg_connector::schema(&self.columns), arrays).map_err(|error| {
            let fault = Fault::new("SystemErrorInternal", "Rows left out do not fit the redirect file.");
            Error::caused(fault, error)
        })
    }
}

/// As the original writes a time: UTC, in steps of 100 ns.
fn stamp(rfc3339: &str) -> String {
    format!("{}0", rfc3339.trim_end_matches('Z').replacen('T', " ", 1))
}

/// Values as one row of text, NULL as nothing.
fn values(values: &[Option<String>]) -> String {
    let quoted = |value: &Option<String>| value.as_ref().map_or(String::new(), |text| quote(text, '"'));
    values.iter().map(quoted).collect::<Vec<_>>().join(",")
}

fn quote(text: &str, with: char) -> String {
    format!("{with}{}{with}", text.replace(with, &String::from_iter([with, with])))
}

/// Why a row was left out, as one text: the reason last, names quoted, so that it can be taken apart.
fn told(part: &str, reject: &Reject) -> String {
    let column = match reject.column.as_str() {
        "" => String::new(),
        name => format!("Column={},", quote(name, '\'')),
    };
    let part = quote(part, '\'');
    format!("ErrorCode={},RowNumber={},Part={part},{column}Message={}", reject.code, reject.row, reject.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(layout: Layout) -> String {
        let source = ["id", "part", "x"].map(|name| text_column(name.to_owned()));
        layout.sheet(&source, true).columns().iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn columns_of_each_layout() {
        for (layout, expect) in [
            (Layout::Rows(RedirectLayout::Named), "RowNumber Part_ Column ErrorCode ErrorMessage id part x MoreValues"),
            (
                Layout::Rows(RedirectLayout::Original),
                "id part x ErrorCode ErrorMessage RowNumber Part_ Column MoreValues",
            ),
            (Layout::Log(LogLevel::Info), "Timestamp Level OperationName OperationItem Message"),
        ] {
            assert_eq!(names(layout), expect);
        }
    }

    #[test]
    fn a_line_can_be_taken_apart() {
        let reject = Reject {
            row: 17,
            column: "it's".into(),
            code: "UserErrorValue",
            reason: "Too long.".into(),
            values: vec![Some("a \"b\"".into()), None, Some(String::new())],
        };
        assert_eq!(values(&reject.values), r#""a ""b""",,"""#);
        assert_eq!(
            told("a.csv", &reject),
            "ErrorCode=UserErrorValue,RowNumber=17,Part='a.csv',Column='it''s',Message=Too long."
        );
        assert_eq!(
            told("a.csv", &Reject { column: String::new(), ..reject }),
            "ErrorCode=UserErrorValue,RowNumber=17,Part='a.csv',Message=Too long."
        );
        assert_eq!(stamp("2026-01-02T03:04:05.678901Z"), "2026-01-02 03:04:05.6789010");
    }
}
