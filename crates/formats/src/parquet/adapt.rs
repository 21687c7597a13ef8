//! Arrow types that other writers use, brought to the carriers of kinds: exactly, or not at all.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, ArrowTimestampType, Decimal128Type, Decimal256Type, Float16Type, Time32MillisecondType,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef, BinaryArray, Float32Array, PrimitiveArray, StringArray, new_null_array};
use arrow_schema::{DataType, TimeUnit};
use dmg_connector::data_type;
use dmg_protocol::Kind;
use parquet::basic::LogicalType;

const OUT_OF_RANGE: &str = "beyond the range of microseconds";

/// The kind that holds every value of a type; `None` where there is none yet.
pub(super) fn kind_of(data_type: &DataType, logical: Option<&LogicalType>) -> Option<Kind> {
    Some(match data_type {
        DataType::Boolean => Kind::Boolean,
        DataType::Int8 => Kind::Int8,
        DataType::Int16 => Kind::Int16,
        DataType::Int32 => Kind::Int32,
        DataType::Int64 => Kind::Int64,
        DataType::UInt8 => Kind::UInt8,
        DataType::UInt16 => Kind::UInt16,
        DataType::UInt32 => Kind::UInt32,
        DataType::UInt64 => Kind::UInt64,
        DataType::Float16 | DataType::Float32 => Kind::Float32,
        DataType::Float64 => Kind::Float64,
        DataType::Decimal128(precision, scale) if *scale >= 0 && *scale as u8 <= *precision => {
            Kind::Decimal { precision: *precision, scale: *scale as u8 }
        }
        DataType::Decimal256(..) => Kind::DecimalText,
        DataType::Utf8 if matches!(logical, Some(LogicalType::Json)) => Kind::Json,
        DataType::Utf8 | DataType::Null => Kind::Text,
        DataType::FixedSizeBinary(16) if matches!(logical, Some(LogicalType::Uuid)) => Kind::Uuid,
        DataType::Binary | DataType::FixedSizeBinary(_) => Kind::Bytes,
        DataType::Date32 => Kind::Date,
        DataType::Timestamp(TimeUnit::Second, _) => return None,
        DataType::Timestamp(TimeUnit::Nanosecond, None) => Kind::TimestampNanos,
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => Kind::InstantNanos,
        DataType::Timestamp(_, None) => Kind::Timestamp,
        DataType::Timestamp(_, Some(_)) => Kind::Instant,
        DataType::Time64(TimeUnit::Nanosecond) => Kind::TimeNanos,
        DataType::Time32(TimeUnit::Millisecond) | DataType::Time64(_) => Kind::Time,
        _ => return None,
    })
}

/// A column as the carrier of its kind. The first value that does not fit comes back as its row and class.
pub(super) fn adapt(column: &ArrayRef, kind: Kind) -> Result<ArrayRef, (usize, &'static str)> {
    let target = data_type(kind);
    if *column.data_type() == target {
        return Ok(column.clone());
    }
    Ok(match column.data_type() {
        DataType::Null => new_null_array(&target, column.len()),
        DataType::Float16 => {
            let halves = column.as_primitive::<Float16Type>();
            Arc::new(halves.iter().map(|value| value.map(f32::from)).collect::<Float32Array>())
        }
        DataType::Decimal256(..) => {
            let wide = column.as_primitive::<Decimal256Type>();
            let text = |row: usize| wide.is_valid(row).then(|| wide.value_as_string(row));
            Arc::new((0..wide.len()).map(text).collect::<StringArray>())
        }
        DataType::FixedSizeBinary(_) if kind == Kind::Bytes => {
            Arc::new(column.as_fixed_size_binary().iter().collect::<BinaryArray>())
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            timestamps(finer(column.as_primitive::<TimestampMillisecondType>(), 1000)?, kind)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let wide: PrimitiveArray<Decimal128Type> =
                column.as_primitive::<TimestampNanosecondType>().unary(i128::from);
            Arc::new(wide.with_data_type(target))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            timestamps(column.as_primitive::<TimestampMicrosecondType>().clone(), kind)
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            let times: PrimitiveArray<Time64MicrosecondType> =
                column.as_primitive::<Time32MillisecondType>().unary(|millis| i64::from(millis) * 1000);
            Arc::new(times)
        }
        _ => return Err((0, "of another type than the column has")),
    })
}

fn timestamps(column: PrimitiveArray<TimestampMicrosecondType>, kind: Kind) -> ArrayRef {
    let zone = (kind == Kind::Instant).then_some("UTC");
    Arc::new(column.with_timezone_opt(zone))
}

fn finer<T: ArrowTimestampType>(
    column: &PrimitiveArray<T>,
    factor: i64,
) -> Result<PrimitiveArray<TimestampMicrosecondType>, (usize, &'static str)> {
    each(column, |value| value.checked_mul(factor).ok_or(OUT_OF_RANGE))
}

fn each<T, U>(
    column: &PrimitiveArray<T>,
    convert: impl Fn(i64) -> Result<i64, &'static str>,
) -> Result<PrimitiveArray<U>, (usize, &'static str)>
where
    T: ArrowPrimitiveType<Native = i64>,
    U: ArrowPrimitiveType<Native = i64>,
{
    let one = |(row, value): (usize, Option<i64>)| value.map(&convert).transpose().map_err(|class| (row, class));
    column.iter().enumerate().map(one).collect()
}

/// The type a column is written as; its carrier, but for nanoseconds since 1970, which have 64 bits in a file.
pub(super) fn written(kind: Kind) -> DataType {
    match kind {
        Kind::TimestampNanos => DataType::Timestamp(TimeUnit::Nanosecond, None),
        Kind::InstantNanos => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        kind => data_type(kind),
    }
}

/// A column as it is written. The first moment beyond 64 bits comes back as its row.
pub(super) fn write(column: &ArrayRef, kind: Kind) -> Result<ArrayRef, usize> {
    if *column.data_type() == written(kind) {
        return Ok(column.clone());
    }
    let moments = column.as_primitive::<Decimal128Type>();
    let mut values = Vec::with_capacity(moments.len());
    for row in 0..moments.len() {
        let moment = if moments.is_valid(row) { moments.value(row) } else { 0 };
        values.push(i64::try_from(moment).map_err(|_| row)?);
    }
    let nanos = PrimitiveArray::<TimestampNanosecondType>::new(values.into(), moments.nulls().cloned());
    Ok(Arc::new(nanos.with_data_type(written(kind))))
}
