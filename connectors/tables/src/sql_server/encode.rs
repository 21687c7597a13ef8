//! Arrow columns as cells for a bulk load. Every value is checked here against the column it goes into: the server
//! would round, cut or pad some of them without a word. It never changes a value to make it fit.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, UInt8Type,
};
use arrow_array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, StringArray, UInt8Array,
};
use arrow_array::{ArrayRef, RecordBatch};
use dmg_connector::{Error, NANOS_PER_DAY, OffsetInstants, Result};
use dmg_protocol::{Fault, Kind};

use super::cell::{self, Cell, DAY, DAYS_1900_TO_1970, DAYS_TO_1970, LAST_DAY, Value};
use super::types::{MAX, Native, staged};
use super::variant;

/// What a column takes, beyond its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fit {
    /// Every value of the kind.
    Any,
    Decimal {
        precision: u8,
    },
    SmallMoney,
    Money,
    /// Digits behind the second, and the scale values are sent with.
    DateTime2 {
        scale: u8,
        sent: u8,
    },
    Time {
        scale: u8,
        sent: u8,
    },
    Offset {
        scale: u8,
        sent: u8,
    },
    DateTime,
    SmallDateTime,
    /// Units of UTF-16.
    Unicode {
        limit: Option<usize>,
        fixed: bool,
    },
    /// Characters of a code page; the driver counts its bytes.
    CodePage {
        limit: Option<usize>,
        fixed: bool,
    },
    /// Bytes of UTF-8.
    Utf8 {
        limit: Option<usize>,
        fixed: bool,
    },
    Bytes {
        limit: Option<usize>,
        fixed: bool,
    },
    Xml,
    Variant,
}

impl Fit {
    /// What a column of that type takes.
    pub(super) fn of(target: &Native, collation: Option<&str>) -> Self {
        let limit = target.limit();
        let scale = target.seconds_scale();
        let sent = staged(target, collation).seconds_scale();
        let name = target.name.as_str();
        match name {
            "decimal" | "numeric" => Fit::Decimal { precision: target.first.unwrap_or(18).clamp(1, 38) as u8 },
            "money" => Fit::Money,
            "smallmoney" => Fit::SmallMoney,
            "datetime2" => Fit::DateTime2 { scale, sent },
            "time" => Fit::Time { scale, sent },
            "datetimeoffset" => Fit::Offset { scale, sent },
            "datetime" => Fit::DateTime,
            "smalldatetime" => Fit::SmallDateTime,
            "nchar" | "nvarchar" => Fit::Unicode { limit, fixed: name == "nchar" },
            "sysname" => Fit::Unicode { limit: Some(128), fixed: false },
            "ntext" | "json" => Fit::Unicode { limit: None, fixed: false },
            "char" | "varchar" | "text" if staged(target, collation).name == "nvarchar" => {
                Fit::Utf8 { limit, fixed: name == "char" }
            }
            "char" | "varchar" | "text" => Fit::CodePage { limit, fixed: name == "char" },
            "binary" | "varbinary" => Fit::Bytes { limit, fixed: name == "binary" },
            "image" => Fit::Bytes { limit: None, fixed: false },
            "xml" => Fit::Xml,
            "sql_variant" => Fit::Variant,
            _ if target.clr() => {
                Fit::Bytes { limit: target.first.filter(|first| *first != MAX).map(|n| n as usize), fixed: false }
            }
            _ => Fit::Any,
        }
    }
}

/// A column that rows go into.
#[derive(Debug, Clone)]
pub(super) struct Taker {
    /// Name, for messages.
    pub(super) name: String,
    /// Type name, for messages.
    pub(super) type_name: String,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    pub(super) fit: Fit,
}

/// A value that does not fit: completes the sentence "the value is ...".
type Misfit = &'static str;

const NULL: Misfit = "NULL, which the column does not allow";
const TOO_LONG: Misfit = "longer than the column";
const PADDED: Misfit = "shorter than the column, which would pad it";
const DIGITS: Misfit = "a number with more digits than the column holds";
const NOT_FINITE: Misfit = "NaN or an infinity, which SQL Server cannot hold";
const YEARS: Misfit = "a date outside the years the column holds";
const TOO_FINE: Misfit = "finer than the column, which would round it";
const OFFSETS: Misfit = "a UTC offset of more than 14 hours, which SQL Server cannot hold";
const HOUR_24: Misfit = "24:00:00, which SQL Server cannot hold";
/// Minutes of the greatest offset.
const OFFSET_MINUTES_MAX: u16 = 840;
const NOT_SUCH: Misfit = "no value of the column's type in the form the server writes it";
const ZERO_PADDED: Misfit = "shorter than the column, which would fill it with zeros";

/// The columns of a batch, ready to be read as cells.
pub(super) struct Encoder<'a> {
    takers: &'a [Taker],
    arrays: Vec<Carrier<'a>>,
    nulls: Vec<&'a ArrayRef>,
}

enum Carrier<'a> {
    Boolean(&'a BooleanArray),
    UInt8(&'a UInt8Array),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal(&'a Decimal128Array, u8),
    Date(&'a Date32Array),
    Micros(&'a [i64]),
    Nanos(&'a [i128]),
    TimeNanos(&'a [i64]),
    WithOffset(OffsetInstants<'a>),
    Uuid(&'a FixedSizeBinaryArray),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
}

impl<'a> Encoder<'a> {
    /// Refuses a batch that is not as planned.
    pub(super) fn new(takers: &'a [Taker], batch: &'a RecordBatch) -> Result<Self> {
        let arrays: Option<Vec<_>> = if batch.num_columns() == takers.len() {
            batch.columns().iter().zip(takers).map(|(array, taker)| carrier(array, taker.kind)).collect()
        } else {
            None
        };
        let Some(arrays) = arrays else {
            let message = "A batch for SQL Server does not have the planned columns.";
            return Err(Fault::new("SystemErrorInternal", message).into());
        };
        Ok(Encoder { takers, arrays, nulls: batch.columns().iter().collect() })
    }

    /// How many columns there are.
    pub(super) fn columns(&self) -> usize {
        self.arrays.len()
    }

    /// The value of a column in a row, as its column takes it.
    #[inline]
    pub(super) fn value(&self, column: usize, row: usize) -> std::result::Result<Value<'a>, Misfit> {
        let taker = &self.takers[column];
        if self.nulls[column].is_null(row) {
            return if taker.nullable { Ok(Value::Cell(Cell::Null)) } else { Err(NULL) };
        }
        let cell = match &self.arrays[column] {
            Carrier::Boolean(array) => Cell::Bool(array.value(row)),
            Carrier::UInt8(array) => Cell::U8(array.value(row)),
            Carrier::Int16(array) => Cell::I16(array.value(row)),
            Carrier::Int32(array) => Cell::I32(array.value(row)),
            Carrier::Int64(array) => Cell::I64(array.value(row)),
            Carrier::Float32(array) => match array.value(row) {
                value if value.is_finite() => Cell::F32(value),
                _ => return Err(NOT_FINITE),
            },
            Carrier::Float64(array) => match array.value(row) {
                value if value.is_finite() => Cell::F64(value),
                _ => return Err(NOT_FINITE),
            },
            Carrier::Decimal(array, scale) => decimal(array.value(row), *scale, &taker.fit)?,
            Carrier::Date(array) => {
                let days = i64::from(array.value(row)) + DAYS_TO_1970;
                if !(0..=LAST_DAY).contains(&days) {
                    return Err(YEARS);
                }
                Cell::Date(days as u32)
            }
            Carrier::Micros(values) => moment_of(values[row], &taker.fit)?,
            Carrier::Nanos(values) => fine_moment(values[row], 0, &taker.fit)?,
            Carrier::TimeNanos(values) => fine_time(values[row], &taker.fit)?,
            Carrier::WithOffset(values) => with_offset(values, row, &taker.fit)?,
            Carrier::Uuid(array) => Cell::Uuid(array.value(row).try_into().map_err(|_| NOT_SUCH)?),
            Carrier::Text(array) => return text(array.value(row), &taker.fit),
            Carrier::Bytes(array) => octets(array.value(row), &taker.fit)?,
        };
        Ok(Value::Cell(cell))
    }

    /// The fault for a value that does not fit.
    pub(super) fn refuse(&self, column: usize, row: u64, misfit: &str) -> Error {
        let taker = &self.takers[column];
        let message = format!(
            "The value for column \"{}\" ({}) in row {row} of its part is {misfit}.",
            taker.name, taker.type_name
        );
        Fault::new("UserErrorValue", message).with("column", &taker.name).with("row", row).into()
    }
}

fn carrier(array: &ArrayRef, kind: Kind) -> Option<Carrier<'_>> {
    Some(match kind {
        Kind::Boolean => Carrier::Boolean(array.as_boolean_opt()?),
        Kind::UInt8 => Carrier::UInt8(array.as_primitive_opt::<UInt8Type>()?),
        Kind::Int16 => Carrier::Int16(array.as_primitive_opt::<Int16Type>()?),
        Kind::Int32 => Carrier::Int32(array.as_primitive_opt::<Int32Type>()?),
        Kind::Int64 => Carrier::Int64(array.as_primitive_opt::<Int64Type>()?),
        Kind::Float32 => Carrier::Float32(array.as_primitive_opt::<Float32Type>()?),
        Kind::Float64 => Carrier::Float64(array.as_primitive_opt::<Float64Type>()?),
        Kind::Decimal { scale, .. } => Carrier::Decimal(array.as_primitive_opt::<Decimal128Type>()?, scale),
        Kind::Date => Carrier::Date(array.as_primitive_opt::<Date32Type>()?),
        Kind::Timestamp | Kind::Instant => {
            Carrier::Micros(array.as_primitive_opt::<TimestampMicrosecondType>()?.values())
        }
        Kind::Time => Carrier::Micros(array.as_primitive_opt::<Time64MicrosecondType>()?.values()),
        Kind::TimestampNanos | Kind::InstantNanos => {
            Carrier::Nanos(array.as_primitive_opt::<Decimal128Type>()?.values())
        }
        Kind::TimeNanos => Carrier::TimeNanos(array.as_primitive_opt::<Time64NanosecondType>()?.values()),
        Kind::InstantWithOffset => Carrier::WithOffset(OffsetInstants::of(array.as_ref())?),
        Kind::Uuid => Carrier::Uuid(array.as_fixed_size_binary_opt()?),
        Kind::Text | Kind::Json | Kind::EngineText | Kind::DecimalText => Carrier::Text(array.as_string_opt::<i32>()?),
        Kind::Bytes => Carrier::Bytes(array.as_binary_opt::<i32>()?),
        _ => return None,
    })
}

fn decimal(value: i128, scale: u8, fit: &Fit) -> std::result::Result<Cell<'static>, Misfit> {
    let fits = match fit {
        Fit::Decimal { precision } => value.unsigned_abs() < 10_u128.pow(u32::from(*precision)),
        Fit::Money => scale == 4 && i64::try_from(value).is_ok(),
        Fit::SmallMoney => scale == 4 && i32::try_from(value).is_ok(),
        _ => true,
    };
    if fits { Ok(Cell::Decimal { value, scale }) } else { Err(DIGITS) }
}

/// Microseconds, since 1970 or since midnight, as the column counts.
fn moment_of(micros: i64, fit: &Fit) -> std::result::Result<Cell<'static>, Misfit> {
    if let Fit::Time { scale, sent } = fit {
        if !(0..DAY).contains(&micros) {
            return Err(HOUR_24);
        }
        cell::from_micros(micros, *scale).ok_or(TOO_FINE)?;
        return Ok(Cell::Time { ticks: cell::from_micros(micros, *sent).ok_or(TOO_FINE)?, scale: *sent });
    }
    let (days, of_day) = cell::split_micros(micros).ok_or(YEARS)?;
    match fit {
        Fit::DateTime2 { scale, .. } => {
            Ok(Cell::DateTime2 { days, ticks: cell::from_micros(of_day, *scale).ok_or(TOO_FINE)?, scale: *scale })
        }
        Fit::Offset { scale, sent } => {
            cell::from_micros(of_day, *scale).ok_or(TOO_FINE)?;
            let ticks = cell::from_micros(of_day, *sent).ok_or(TOO_FINE)?;
            Ok(Cell::Offset { days, ticks, scale: *sent, minutes: 0 })
        }
        Fit::DateTime => {
            let days = i64::from(days) - (DAYS_TO_1970 - DAYS_1900_TO_1970);
            if of_day % 1000 != 0 {
                return Err(TOO_FINE);
            }
            // The type begins with the year 1753.
            let days = i32::try_from(days).ok().filter(|days| *days >= -53_690).ok_or(YEARS)?;
            Ok(Cell::DateTime { days, ticks: cell::from_shown_millis(of_day / 1000).ok_or(TOO_FINE)? })
        }
        Fit::SmallDateTime => {
            let since_1900 = i64::from(days) - (DAYS_TO_1970 - DAYS_1900_TO_1970);
            if !(0..=65_535).contains(&since_1900) || since_1900 == 65_535 && of_day > DAY - 60_000_000 {
                return Err(YEARS);
            }
            if of_day % 60_000_000 != 0 {
                return Err(TOO_FINE);
            }
            Ok(Cell::DateTime2 { days, ticks: (of_day / 1_000_000) as u64, scale: 0 })
        }
        _ => Err(NOT_SUCH),
    }
}

/// Nanoseconds since 1970 in UTC, as the column counts.
fn fine_moment(nanos: i128, minutes: i16, fit: &Fit) -> std::result::Result<Cell<'static>, Misfit> {
    let (days, of_day) = cell::split_nanos(nanos).ok_or(YEARS)?;
    match *fit {
        Fit::DateTime2 { scale, .. } => {
            Ok(Cell::DateTime2 { days, ticks: cell::from_nanos(of_day, scale).ok_or(TOO_FINE)?, scale })
        }
        Fit::Offset { scale, sent } => {
            cell::from_nanos(of_day, scale).ok_or(TOO_FINE)?;
            Ok(Cell::Offset { days, ticks: cell::from_nanos(of_day, sent).ok_or(TOO_FINE)?, scale: sent, minutes })
        }
        _ => Err(NOT_SUCH),
    }
}

/// Nanoseconds since midnight.
fn fine_time(nanos: i64, fit: &Fit) -> std::result::Result<Cell<'static>, Misfit> {
    let Fit::Time { scale, sent } = *fit else { return Err(NOT_SUCH) };
    let of_day = u64::try_from(nanos).ok().filter(|nanos| i128::from(*nanos) < NANOS_PER_DAY).ok_or(HOUR_24)?;
    cell::from_nanos(of_day, scale).ok_or(TOO_FINE)?;
    Ok(Cell::Time { ticks: cell::from_nanos(of_day, sent).ok_or(TOO_FINE)?, scale: sent })
}

fn with_offset(values: &OffsetInstants<'_>, row: usize, fit: &Fit) -> std::result::Result<Cell<'static>, Misfit> {
    let minutes = values.offsets[row];
    if minutes.unsigned_abs() > OFFSET_MINUTES_MAX {
        return Err(OFFSETS);
    }
    // The clock it is read from must be within the years as well.
    cell::split_nanos(values.local(row)).ok_or(YEARS)?;
    fine_moment(values.instants[row], minutes, fit)
}

fn measured(length: usize, limit: Option<usize>, fixed: bool, short: Misfit) -> std::result::Result<(), Misfit> {
    match limit {
        Some(limit) if length > limit => Err(TOO_LONG),
        Some(limit) if fixed && length < limit => Err(short),
        _ => Ok(()),
    }
}

fn text<'a>(value: &'a str, fit: &Fit) -> std::result::Result<Value<'a>, Misfit> {
    let cell = match *fit {
        Fit::Unicode { limit, fixed } => {
            // Fewer bytes than units is impossible, so that short texts need no counting.
            if fixed || limit.is_some_and(|limit| value.len() > limit) {
                measured(value.encode_utf16().count(), limit, fixed, PADDED)?;
            }
            Cell::Text(value)
        }
        Fit::CodePage { limit, fixed } => {
            let fixed = fixed && value.is_ascii();
            if fixed || limit.is_some_and(|limit| value.len() > limit) {
                measured(value.chars().count(), limit, fixed, PADDED)?;
            }
            Cell::Text(value)
        }
        Fit::Utf8 { limit, fixed } => {
            measured(value.len(), limit, fixed, PADDED)?;
            Cell::Text(value)
        }
        Fit::Xml => Cell::Xml(value),
        Fit::Variant => return variant::parse(value).ok_or(NOT_SUCH),
        _ => return Err(NOT_SUCH),
    };
    Ok(Value::Cell(cell))
}

fn octets<'a>(value: &'a [u8], fit: &Fit) -> std::result::Result<Cell<'a>, Misfit> {
    if let Fit::Bytes { limit, fixed } = *fit {
        measured(value.len(), limit, fixed, ZERO_PADDED)?;
    }
    Ok(Cell::Bytes(value))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{TimestampMicrosecondArray, new_null_array};
    use dmg_connector::text_form::text_to_array;
    use dmg_connector::{Column, data_type, schema};

    use super::*;

    fn one(kind: &str, target: &str, array: ArrayRef) -> std::result::Result<String, Misfit> {
        let kind: Kind = kind.parse().expect("a kind");
        let native = Native::parse(target);
        let taker = Taker {
            name: "c".into(),
            type_name: target.into(),
            kind,
            nullable: false,
            fit: Fit::of(&native, Some("Latin1_General_CI_AS")),
        };
        let column = Column { name: "c".into(), kind, type_name: target.into(), nullable: true, key: false };
        let batch = RecordBatch::try_new(schema(&[column]), vec![array]).expect("fits");
        let takers = [taker];
        let encoder = Encoder::new(&takers, &batch).expect("as planned");
        encoder.value(0, 0).map(|value| format!("{value:?}"))
    }

    fn text_of(text: &str) -> ArrayRef {
        Arc::new(StringArray::from(vec![text]))
    }

    fn of(kind: &str, text: &str) -> ArrayRef {
        text_to_array(&StringArray::from(vec![text]), kind.parse().expect("a kind")).expect("a value")
    }

    fn micros(value: i64) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![value]))
    }

    #[test]
    fn what_fits_goes_as_it_is() {
        for (kind, target, array, expected) in [
            ("text", "nvarchar(2)", text_of("😀"), "Cell(Text(\"😀\"))"),
            ("text", "char(2)", text_of("ab"), "Cell(Text(\"ab\"))"),
            ("time-nanos", "time(3)", of("time-nanos", "00:00:00.5"), "Cell(Time { ticks: 5000000, scale: 7 })"),
            (
                "timestamp-nanos",
                "datetime2(7)",
                of("timestamp-nanos", "9999-12-31 23:59:59.9999999"),
                "Cell(DateTime2 { days: 3652058, ticks: 863999999999, scale: 7 })",
            ),
            (
                "instant-with-offset",
                "datetimeoffset(2)",
                of("instant-with-offset", "1970-01-01 00:30:00.25+05:30"),
                "Cell(Offset { days: 719161, ticks: 684002500000, scale: 7, minutes: 330 })",
            ),
            ("engine-text", "sql_variant", text_of("int:7"), "Cell(I32(7))"),
            ("timestamp", "datetime", micros(3_000), "Cell(DateTime { days: 25567, ticks: 1 })"),
            ("timestamp", "smalldatetime", micros(60_000_000), "Cell(DateTime2 { days: 719162, ticks: 60, scale: 0 })"),
            (
                "timestamp",
                "datetime2(0)",
                micros(-1_000_000),
                "Cell(DateTime2 { days: 719161, ticks: 86399, scale: 0 })",
            ),
        ] {
            assert_eq!(one(kind, target, array).as_deref(), Ok(expected), "{target}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let decimal = |value| -> ArrayRef {
            let array = Decimal128Array::from(vec![value]);
            Arc::new(array.with_data_type(data_type(Kind::Decimal { precision: 19, scale: 4 })))
        };
        for (kind, target, array, expected) in [
            ("text", "nvarchar(1)", text_of("😀"), TOO_LONG),
            ("text", "nchar(3)", text_of("ab"), PADDED),
            ("text", "char(3)", text_of("ab"), PADDED),
            ("text", "varchar(1)", text_of("ab"), TOO_LONG),
            ("bytes", "binary(3)", Arc::new(BinaryArray::from(vec![&b"ab"[..]])) as ArrayRef, ZERO_PADDED),
            ("float64", "float", Arc::new(Float64Array::from(vec![f64::NAN])) as ArrayRef, NOT_FINITE),
            ("date", "date", Arc::new(Date32Array::from(vec![i32::MAX])) as ArrayRef, YEARS),
            ("timestamp", "datetime2(6)", micros(i64::MAX), YEARS),
            ("timestamp", "datetime2(3)", micros(1), TOO_FINE),
            ("timestamp", "datetime", micros(1_000), TOO_FINE),
            ("timestamp", "datetime", micros(-6_847_804_800_000_001), TOO_FINE),
            ("timestamp", "smalldatetime", micros(1_000_000), TOO_FINE),
            ("decimal(19,4)", "smallmoney", decimal(1_i128 << 31), DIGITS),
            ("decimal(19,4)", "money", decimal(1_i128 << 63), DIGITS),
            ("time-nanos", "time(3)", of("time-nanos", "00:00:00.0001"), TOO_FINE),
            ("time-nanos", "time(7)", of("time-nanos", "24:00:00"), HOUR_24),
            ("timestamp-nanos", "datetime2(7)", of("timestamp-nanos", "2024-01-01 00:00:00.00000001"), TOO_FINE),
            ("timestamp-nanos", "datetime2(7)", of("timestamp-nanos", "infinity"), YEARS),
            ("instant-nanos", "datetimeoffset(3)", of("instant-nanos", "2024-01-01 00:00:00.0001+00"), TOO_FINE),
            ("instant-with-offset", "datetimeoffset", of("instant-with-offset", "2024-01-01 00:00:00+15:00"), OFFSETS),
            ("instant-with-offset", "datetimeoffset", of("instant-with-offset", "0001-01-01 00:00:00+01:00"), YEARS),
            ("instant-with-offset", "datetimeoffset", of("instant-with-offset", "0001-12-31 23:30:00-01:00 BC"), YEARS),
            ("text", "nvarchar(1)", new_null_array(&data_type(Kind::Text), 1), NULL),
        ] {
            assert_eq!(one(kind, target, array), Err(expected), "{kind} to {target}");
        }
    }
}
