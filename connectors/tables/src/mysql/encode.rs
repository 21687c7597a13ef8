//! Arrow columns as rows of a file for LOAD DATA, or as the values of an INSERT: texts the server's own input
//! functions parse. What they would bend without a word is refused here.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float32Type, Float64Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use dmg_connector::text_form::ColumnText;
use dmg_connector::{Error, Result};
use dmg_protocol::{ColumnPlan, Fault, Kind};
use std::io::Write as _;

use super::parse::MICROS_PER_DAY;
use super::types::ColumnType;

/// Days of 0000-01-01 and 9999-12-31.
const DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;

/// Whether rows become a file or values of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Tabs, line feeds, backslashes before them, `\N`.
    File,
    /// `(1,'text',x'00',NULL),`
    Values,
}

/// One column on its way.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Name in the target.
    pub(super) name: String,
    kind: Kind,
    /// Microseconds of which a moment or time must be a multiple.
    unit: i64,
    /// Whether it is 16 octets rather than 36 characters.
    octets: bool,
    /// What of a variable `@v` the column becomes, where it cannot take the file's text itself.
    through: Option<&'static str>,
}

impl Slot {
    /// How a planned column goes into a column of that type.
    pub(super) fn new(plan: &ColumnPlan, own: &ColumnType) -> Self {
        let text = matches!(plan.kind, Kind::Text | Kind::Json | Kind::EngineText | Kind::DecimalText);
        let usual = own.charset.as_deref().is_some_and(|charset| charset == "utf8mb4");
        let numeric = matches!(own.base.as_str(), "decimal" | "numeric" | "date" | "datetime" | "timestamp" | "time");
        let through = match (own.base.as_str(), plan.kind) {
            ("bit", _) => Some("CAST(@v AS UNSIGNED)"),
            // The text 0 would be the year 2000; the number 0 is the year 0000.
            ("year", _) => Some("@v + 0"),
            // A file is octets to the server; what is not kept in the same character set must be told what they are.
            _ if text && !usual && !numeric => Some("CONVERT(@v USING utf8mb4)"),
            ("uuid", _) => Some("CONVERT(@v USING utf8mb4)"),
            _ => None,
        };
        let unit = match own.base.as_str() {
            "datetime" | "timestamp" | "time" => 10_i64.pow(6 - own.fraction().min(6)),
            _ => 1,
        };
        Slot { name: plan.sink.clone(), kind: plan.kind, unit, octets: own.base.ends_with("binary"), through }
    }

    /// What LOAD DATA reads the column into, and what it is set to, `@v` being named by the number.
    pub(super) fn load(&self, index: usize, quoted: &str) -> (String, Option<String>) {
        match self.through {
            None => (quoted.to_owned(), None),
            Some(expression) => {
                let variable = format!("@v{index}");
                (variable.clone(), Some(format!("{quoted} = {}", expression.replace("@v", &variable))))
            }
        }
    }
}

enum Form<'a> {
    Plain(ColumnText<'a>),
    Flag(&'a arrow_array::BooleanArray),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Date(&'a [i32]),
    Moment(&'a [i64]),
    Time(&'a [i64], ColumnText<'a>),
    Text(&'a arrow_array::StringArray),
    Bytes(&'a arrow_array::BinaryArray),
    Uuid(&'a arrow_array::FixedSizeBinaryArray, ColumnText<'a>),
}

/// Writes the rows of one batch.
pub(super) struct Rows<'a> {
    batch: &'a RecordBatch,
    slots: &'a [Slot],
    forms: Vec<Form<'a>>,
    style: Style,
    /// Rows of the part before this batch, for messages.
    before: u64,
}

/// A value the server would change or refuse in words of its own.
type Unfit = &'static str;

impl<'a> Rows<'a> {
    pub(super) fn new(batch: &'a RecordBatch, slots: &'a [Slot], style: Style, before: u64) -> Self {
        let forms = batch.columns().iter().zip(slots).map(|(column, slot)| {
            let plain = || ColumnText::new(column.as_ref(), slot.kind);
            match slot.kind {
                Kind::Boolean => Form::Flag(column.as_boolean()),
                Kind::Float32 => Form::Float32(column.as_primitive::<Float32Type>().values()),
                Kind::Float64 => Form::Float64(column.as_primitive::<Float64Type>().values()),
                Kind::Date => Form::Date(column.as_primitive::<Date32Type>().values()),
                Kind::Timestamp | Kind::Instant => {
                    Form::Moment(column.as_primitive::<TimestampMicrosecondType>().values())
                }
                Kind::Time => Form::Time(column.as_primitive::<Time64MicrosecondType>().values(), plain()),
                Kind::Uuid => Form::Uuid(column.as_fixed_size_binary(), plain()),
                Kind::Bytes => Form::Bytes(column.as_binary()),
                Kind::Text | Kind::Json | Kind::EngineText | Kind::DecimalText => Form::Text(column.as_string()),
                _ => Form::Plain(plain()),
            }
        });
        Rows { batch, slots, forms: forms.collect(), style, before }
    }

    /// Appends rows from `row` on, until `bytes` are written. Gives back the next row.
    pub(super) fn write(&self, row: usize, bytes: usize, out: &mut Vec<u8>) -> Result<usize> {
        for row in row..self.batch.num_rows() {
            if out.len() >= bytes {
                return Ok(row);
            }
            self.write_one(row, out)?;
        }
        Ok(self.batch.num_rows())
    }

    /// Appends one row.
    pub(super) fn write_one(&self, row: usize, out: &mut Vec<u8>) -> Result<usize> {
        let done = match self.style {
            Style::File => self.file_row(row, out),
            Style::Values => self.values_row(row, out),
        };
        done.map_err(|(index, what)| self.refuse(row, index, what))?;
        Ok(row + 1)
    }

    fn file_row(&self, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), (usize, Unfit)> {
        for (index, form) in self.forms.iter().enumerate() {
            if index > 0 {
                out.push(b'\t');
            }
            if self.batch.column(index).is_null(row) {
                out.extend_from_slice(b"\\N");
                continue;
            }
            match form {
                Form::Text(column) => escaped(column.value(row).as_bytes(), out),
                Form::Bytes(column) => escaped(column.value(row), out),
                Form::Uuid(column, _) if self.slots[index].octets => escaped(column.value(row), out),
                form => self.value(form, index, row, out).map_err(|what| (index, what))?,
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn values_row(&self, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), (usize, Unfit)> {
        for (index, form) in self.forms.iter().enumerate() {
            out.push(if index == 0 { b'(' } else { b',' });
            if self.batch.column(index).is_null(row) {
                out.extend_from_slice(b"NULL");
                continue;
            }
            match form {
                Form::Text(column) => literal(column.value(row).as_bytes(), out),
                Form::Bytes(column) => octets(column.value(row), out),
                Form::Uuid(column, _) if self.slots[index].octets => octets(column.value(row), out),
                Form::Plain(_) | Form::Flag(_) | Form::Float32(_) | Form::Float64(_) => {
                    self.value(form, index, row, out).map_err(|what| (index, what))?;
                }
                form => {
                    out.push(b'\'');
                    self.value(form, index, row, out).map_err(|what| (index, what))?;
                    out.push(b'\'');
                }
            }
        }
        out.extend_from_slice(b"),");
        Ok(())
    }

    /// The text of a value that needs no escape.
    #[inline]
    fn value(&self, form: &Form<'_>, index: usize, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), Unfit> {
        match form {
            Form::Plain(text) => text.write(row, out),
            Form::Flag(column) => out.push(b'0' + u8::from(column.value(row))),
            // The double that a single is, so that it is rounded once and not twice.
            Form::Float32(values) => float(f64::from(values[row]), out)?,
            Form::Float64(values) => float(values[row], out)?,
            Form::Date(values) => date(i64::from(values[row]), out)?,
            Form::Moment(values) => {
                let micros = values[row];
                let of_day = micros.rem_euclid(MICROS_PER_DAY);
                date(micros.div_euclid(MICROS_PER_DAY), out)?;
                if of_day % self.slots[index].unit != 0 {
                    return Err("a moment finer than the column's type");
                }
                out.push(b' ');
                clock(of_day, out);
            }
            Form::Time(values, text) => {
                if values[row] % self.slots[index].unit != 0 {
                    return Err("a time finer than the column's type");
                }
                text.write(row, out);
            }
            Form::Uuid(_, text) => text.write(row, out),
            Form::Text(column) => out.extend_from_slice(column.value(row).as_bytes()),
            Form::Bytes(column) => out.extend_from_slice(column.value(row)),
        }
        Ok(())
    }

    #[cold]
    fn refuse(&self, row: usize, index: usize, what: Unfit) -> Error {
        let (name, row) = (&self.slots[index].name, self.before + row as u64 + 1);
        let message = format!("Column \"{name}\" would get {what}, in row {row} of its part.");
        Fault::new("UserErrorValue", message).with("column", name).with("row", row).into()
    }
}

fn float(value: f64, out: &mut Vec<u8>) -> std::result::Result<(), Unfit> {
    if !value.is_finite() {
        return Err("NaN or an infinity, which the server does not have");
    }
    if value == 0.0 && value.is_sign_negative() {
        return Err("negative zero, which the server would make zero");
    }
    out.write_fmt(format_args!("{value:e}")).expect("writing into memory does not fail");
    Ok(())
}

/// Exactly two digits.
#[inline]
fn two(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
}

/// A day of the years 0 to 9999.
#[inline]
fn date(days: i64, out: &mut Vec<u8>) -> std::result::Result<(), Unfit> {
    if !DAYS.contains(&days) {
        return Err("a day outside the years 0 to 9999");
    }
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    two(year / 100, out);
    two(year % 100, out);
    out.push(b'-');
    two(month, out);
    out.push(b'-');
    two(day, out);
    Ok(())
}

#[inline]
fn clock(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros / 1_000_000;
    two(seconds / 3600, out);
    out.push(b':');
    two(seconds / 60 % 60, out);
    out.push(b':');
    two(seconds % 60, out);
    let fraction = micros % 1_000_000;
    if fraction != 0 {
        out.push(b'.');
        two(fraction / 10_000, out);
        two(fraction / 100 % 100, out);
        two(fraction % 100, out);
    }
}

/// Octets of a file: what ends a value or a row, and the escape itself, get an escape.
#[inline]
fn escaped(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr3(b'\\', b'\t', b'\n', text) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(match text[at] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            _ => b"\\\\",
        });
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

fn literal(mut text: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    while let Some(at) = memchr::memchr3(b'\\', b'\'', 0, text) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(match text[at] {
            b'\'' => b"''",
            0 => b"\\0",
            _ => b"\\\\",
        });
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
    out.push(b'\'');
}

fn octets(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"x'");
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray};
    use dmg_protocol::Verdict;

    use super::*;

    fn slot(kind: Kind, type_name: &str) -> Slot {
        let plan = ColumnPlan {
            source: "c".into(),
            sink: "c".into(),
            kind,
            source_type: String::new(),
            sink_type: type_name.into(),
            key: false,
            required: false,
            verdict: Verdict::Exact,
            reason: None,
        };
        Slot::new(&plan, &ColumnType::parse(type_name, Some("utf8mb4".into()), false))
    }

    fn written(columns: Vec<(&str, ArrayRef)>, slots: &[Slot], style: Style) -> Result<String> {
        let batch = RecordBatch::try_from_iter(columns).expect("fits");
        let mut out = Vec::new();
        let rows = Rows::new(&batch, slots, style, 0);
        assert_eq!(rows.write(0, usize::MAX, &mut out)?, batch.num_rows());
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn what_separates_is_escaped() {
        let columns = || -> Vec<(&str, ArrayRef)> {
            vec![
                ("a", Arc::new(Int32Array::from(vec![Some(-7), None]))),
                ("b", Arc::new(StringArray::from(vec![Some("a\tb\\\n'\0"), Some("")]))),
                ("c", Arc::new(BinaryArray::from(vec![Some(&b"\x01\\"[..]), None]))),
            ]
        };
        let slots = [slot(Kind::Int32, "int"), slot(Kind::Text, "longtext"), slot(Kind::Bytes, "longblob")];
        let file = written(columns(), &slots, Style::File).expect("fits");
        assert_eq!(file, "-7\ta\\tb\\\\\\n'\0\t\x01\\\\\n\\N\t\t\\N\n");
        let values = written(columns(), &slots, Style::Values).expect("fits");
        assert_eq!(values, "(-7,'a\tb\\\\\n''\\0',x'015c'),(NULL,'',NULL),");
    }

    #[test]
    fn what_would_be_bent_is_refused() {
        let moment =
            |micros| -> Vec<(&str, ArrayRef)> { vec![("c", Arc::new(TimestampMicrosecondArray::from(vec![micros])))] };
        let milliseconds = [slot(Kind::Timestamp, "datetime(3)")];
        let fits = written(moment(1_500_000), &milliseconds, Style::File).expect("fits");
        assert_eq!(fits, "1970-01-01 00:00:01.500000\n");
        for (micros, what) in [(1_500_001, "finer"), (i64::MAX, "outside"), (-62_167_219_200_000_001, "outside")] {
            let refused = written(moment(micros), &milliseconds, Style::File).expect_err("does not fit");
            assert!(refused.fault.message.contains(what), "{}", refused.fault);
        }
        let floats: Vec<(&str, ArrayRef)> = vec![("c", Arc::new(Float64Array::from(vec![1.5, f64::NAN])))];
        let refused = written(floats, &[slot(Kind::Float64, "double")], Style::File).expect_err("does not fit");
        assert!(refused.fault.message.contains("NaN") && refused.fault.message.contains("row 2"), "{}", refused.fault);
        let floats: Vec<(&str, ArrayRef)> = vec![("c", Arc::new(Float64Array::from(vec![0.0, -0.0])))];
        let refused = written(floats, &[slot(Kind::Float64, "double")], Style::File).expect_err("does not fit");
        assert!(refused.fault.message.contains("negative zero"), "{}", refused.fault);
    }
}
