//! Moments finer than microseconds, and moments with an offset, on their way to other kinds of moments. Every way goes
//! through nanoseconds since 1970 in 128 bits, which hold what any kind holds. Digits are cut, never rounded: the text
//! of a moment loses its end and nothing else changes.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, PrimitiveArray};
use arrow_buffer::NullBuffer;
use dmg_connector::{
    NANOS_INFINITY, NANOS_PER_DAY, NANOS_PER_MICRO, OffsetInstants, data_type, nanos_of_micros, offset_instants,
};
use dmg_protocol::{ColumnPlan, Kind, Verdict};

use crate::convert::Unfit;
use crate::lossy::Word;

/// Classes of values, which complete the sentence "the value is ...".
const TOO_FINE: &str = "finer than microseconds";
const OUT_OF_RANGE: &str = "a moment beyond the range of microseconds";
const OUT_OF_DATES: &str = "a day outside date";
const TIME_OF_DAY: &str = "a moment with a time of day";
/// The class of moments outside a [`dmg_connector::Sink::span`].
pub(crate) const OUT_OF_SPAN: &str = "a moment outside the years the target's type can say";

/// The kind of microseconds beside one of nanoseconds; for an instant with offset, the instant.
pub(crate) fn coarse(kind: Kind) -> Option<Kind> {
    Some(match kind {
        Kind::TimestampNanos => Kind::Timestamp,
        Kind::InstantNanos | Kind::InstantWithOffset => Kind::Instant,
        Kind::TimeNanos => Kind::Time,
        _ => return None,
    })
}

/// What can be promised of a way that changes nothing; none if there is no such way.
pub(crate) fn sound(from: Kind, to: Kind) -> Option<Verdict> {
    use Kind::{Date, Instant, InstantNanos, InstantWithOffset, Time, TimeNanos, Timestamp, TimestampNanos};
    match (from, to) {
        (Timestamp | Date, TimestampNanos) | (Instant, InstantNanos) | (Time, TimeNanos) => Some(Verdict::Widened),
        (Instant | InstantNanos, InstantWithOffset) => Some(Verdict::Widened),
        (TimestampNanos, Timestamp | Date) | (InstantNanos, Instant) | (TimeNanos, Time) => Some(Verdict::Checked),
        _ => None,
    }
}

/// The word it takes for a way that loses digits, the offset or the zone; none if there is no such way.
pub(crate) fn losing(from: Kind, to: Kind) -> Option<Word> {
    use Kind::{Date, Instant, InstantNanos, InstantWithOffset, Time, TimeNanos, Timestamp, TimestampNanos};
    match (from, to) {
        (TimestampNanos, Timestamp | Date) | (InstantNanos, Instant) | (TimeNanos, Time) => Some(Word::Truncation),
        (InstantWithOffset, Instant | InstantNanos) => Some(Word::Truncation),
        (InstantNanos | InstantWithOffset, Timestamp | TimestampNanos | Date) => Some(Word::Truncation),
        (Instant, TimestampNanos) => Some(Word::Truncation),
        (TimestampNanos, Instant | InstantNanos | InstantWithOffset) => Some(Word::Name),
        (Timestamp | Date, InstantNanos | InstantWithOffset) => Some(Word::Name),
        _ => None,
    }
}

/// Converts a column. `exact` refuses what a coarser kind would cut.
pub(crate) fn convert(array: &ArrayRef, from: Kind, to: Kind, exact: bool) -> Result<ArrayRef, Unfit> {
    let nulls = array.nulls().cloned();
    let moments = moments(array, from);
    let fine = |moment: i128, step: i128| exact && moment % step != 0;
    let micros = |moment: i128| match moment {
        NANOS_INFINITY => Ok(i64::MAX),
        _ if moment == -NANOS_INFINITY => Ok(i64::MIN),
        _ if fine(moment, NANOS_PER_MICRO) => Err(TOO_FINE),
        // The outermost two stand for the infinities.
        _ => match i64::try_from(moment.div_euclid(NANOS_PER_MICRO)) {
            Ok(micros) if micros != i64::MAX && micros != i64::MIN => Ok(micros),
            _ => Err(OUT_OF_RANGE),
        },
    };
    match to {
        Kind::Timestamp | Kind::Instant => each::<TimestampMicrosecondType>(&moments, nulls, to, micros),
        Kind::Time => each::<Time64MicrosecondType>(&moments, nulls, to, micros),
        Kind::TimeNanos => each::<Time64NanosecondType>(&moments, nulls, to, |moment| {
            i64::try_from(moment).map_err(|_| "no time of a day")
        }),
        Kind::Date => each::<Date32Type>(&moments, nulls, to, |moment| match moment {
            NANOS_INFINITY => Ok(i32::MAX),
            _ if moment == -NANOS_INFINITY => Ok(i32::MIN),
            _ if fine(moment, NANOS_PER_DAY) => Err(TIME_OF_DAY),
            _ => match i32::try_from(moment.div_euclid(NANOS_PER_DAY)) {
                Ok(days) if days != i32::MAX && days != i32::MIN => Ok(days),
                _ => Err(OUT_OF_DATES),
            },
        }),
        Kind::InstantWithOffset => {
            let offsets = vec![0; moments.len()];
            Ok(offset_instants(moments, offsets, nulls))
        }
        _ => each::<Decimal128Type>(&moments, nulls, to, Ok),
    }
}

/// Nanoseconds since 1970, or since midnight; anything where the value is NULL.
fn moments(array: &ArrayRef, kind: Kind) -> Vec<i128> {
    let wide = |values: &[i64]| values.iter().map(|micros| nanos_of_micros(*micros)).collect();
    match kind {
        Kind::Timestamp | Kind::Instant => wide(array.as_primitive::<TimestampMicrosecondType>().values()),
        Kind::Time => wide(array.as_primitive::<Time64MicrosecondType>().values()),
        Kind::TimeNanos => {
            array.as_primitive::<Time64NanosecondType>().values().iter().map(|nanos| i128::from(*nanos)).collect()
        }
        Kind::Date => {
            let days = array.as_primitive::<Date32Type>().values().iter();
            let midnight = |days: &i32| match *days {
                i32::MAX => NANOS_INFINITY,
                i32::MIN => -NANOS_INFINITY,
                days => i128::from(days) * NANOS_PER_DAY,
            };
            days.map(midnight).collect()
        }
        Kind::InstantWithOffset => {
            OffsetInstants::of(array.as_ref()).expect("the carrier of the kind").instants.to_vec()
        }
        _ => array.as_primitive::<Decimal128Type>().values().to_vec(),
    }
}

fn each<T: ArrowPrimitiveType>(
    moments: &[i128],
    nulls: Option<NullBuffer>,
    to: Kind,
    convert: impl Fn(i128) -> Result<T::Native, &'static str>,
) -> Result<ArrayRef, Unfit> {
    let valid = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
    let mut values = Vec::with_capacity(moments.len());
    for (row, moment) in moments.iter().enumerate() {
        values.push(match convert(*moment) {
            Ok(value) => value,
            Err(class) if valid(row) => return Err(Unfit { row, class: class.to_owned() }),
            Err(_) => T::Native::default(),
        });
    }
    Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(data_type(to))))
}

/// A column of nanoseconds all of whose moments lie within a span, ends included.
pub(crate) fn within(array: &ArrayRef, first: i128, last: i128) -> Result<ArrayRef, Unfit> {
    let moments = array.as_primitive::<Decimal128Type>();
    let inside = |row: usize| (first..=last).contains(&moments.value(row));
    match (0..moments.len()).find(|row| moments.is_valid(*row) && !inside(*row)) {
        Some(row) => Err(Unfit { row, class: OUT_OF_SPAN.to_owned() }),
        None => Ok(array.clone()),
    }
}

/// What to do about a moment that does not fit; none for other values.
pub(crate) fn remedy(column: &ColumnPlan, class: &str) -> Option<String> {
    let name = &column.sink;
    match class {
        OUT_OF_SPAN => Some(format!(
            "Hand the column over as text, which keeps every moment (--as \"{name}=text\"; in a document, type String \
             in the mapping), or as microseconds, which hold every year (--as \"{name}=timestamp\", or \"{name}=instant\" \
             where it has a zone). --allow-lossy \"{name}\" cuts to microseconds what is finer."
        )),
        TOO_FINE => Some(format!(
            "Let the digits be cut (--allow-lossy \"{name}\"; in a document, allowDataTruncation), or hand the column \
             over as text to a target that takes text (--as \"{name}=text\"; in a document, type String in the mapping)."
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;
    use dmg_connector::text_form::{array_to_text, text_to_array};
    use proptest::prelude::*;

    use super::*;
    use crate::convert::conversion;
    use crate::lossy::lossy;

    fn column(kind: &str, texts: &[&str]) -> ArrayRef {
        let texts: StringArray = texts.iter().map(|text| (*text != "NULL").then_some(*text)).collect();
        text_to_array(&texts, kind.parse().expect("a kind")).expect("values of the kind")
    }

    fn texts(array: &ArrayRef, kind: Kind) -> Vec<String> {
        assert_eq!(array.data_type(), &data_type(kind));
        array_to_text(array, kind).iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
    }

    fn soundly(from: &str, to: &str, given: &[&str]) -> Result<Vec<String>, (usize, String)> {
        let (a, b): (Kind, Kind) = (from.parse().expect("a kind"), to.parse().expect("a kind"));
        let (way, _) = conversion(a, b).expect("a way");
        way.apply(&column(from, given)).map(|array| texts(&array, b)).map_err(|unfit| (unfit.row, unfit.class))
    }

    #[test]
    fn nothing_is_lost_unseen() {
        let wide = ["0001-01-01 00:00:00", "NULL", "9999-12-31 23:59:59.999999", "infinity", "1969-12-31 23:59:59.5"];
        for (from, to) in [("timestamp", "timestamp-nanos"), ("timestamp-nanos", "timestamp")] {
            assert_eq!(soundly(from, to, &wide).expect("all fit"), wide, "{from} to {to}");
        }
        let zoned = ["0001-01-01 00:00:00+00", "-infinity", "NULL"];
        for (from, to) in [("instant", "instant-nanos"), ("instant-nanos", "instant")] {
            assert_eq!(soundly(from, to, &zoned).expect("all fit"), zoned, "{from} to {to}");
        }
        let times = ["24:00:00", "12:34:56.789", "NULL"];
        for (from, to) in [("time", "time-nanos"), ("time-nanos", "time")] {
            assert_eq!(soundly(from, to, &times).expect("all fit"), times, "{from} to {to}");
        }
        let offset = soundly("instant-nanos", "instant-with-offset", &["2024-01-01 00:00:00.0000001+00"]);
        assert_eq!(offset.expect("fits"), ["2024-01-01 00:00:00.0000001+00:00"]);
        assert_eq!(soundly("date", "timestamp-nanos", &["infinity", "NULL"]).expect("fits"), ["infinity", "NULL"]);
    }

    #[test]
    fn what_would_be_cut_is_named() {
        for (from, to, given, class) in [
            ("timestamp-nanos", "timestamp", "2024-01-01 00:00:00.1234567", TOO_FINE),
            ("timestamp-nanos", "timestamp", "999999-01-01 00:00:00", OUT_OF_RANGE),
            ("timestamp-nanos", "timestamp", "294247-01-10 04:00:54.775807", OUT_OF_RANGE),
            ("timestamp-nanos", "date", "2024-01-01 00:00:00.000000001", TIME_OF_DAY),
            ("instant-nanos", "instant", "1960-01-01 00:00:00.000000001+00", TOO_FINE),
            ("time-nanos", "time", "00:00:00.000000001", TOO_FINE),
        ] {
            let whole = if to == "time" { "00:00:01" } else { "infinity" };
            let found = soundly(from, to, &[whole, "NULL", given]);
            assert_eq!(found, Err((2, class.to_owned())), "{from} to {to}");
        }
        assert_eq!(conversion(Kind::InstantWithOffset, Kind::Instant), None);
        assert_eq!(conversion(Kind::TimestampNanos, Kind::InstantNanos), None);
    }

    #[test]
    fn by_the_authors_word_digits_are_cut() {
        for (from, to, given, expected) in [
            ("timestamp-nanos", "timestamp", "9999-12-31 23:59:59.9999999", "9999-12-31 23:59:59.999999"),
            ("timestamp-nanos", "timestamp", "1960-01-01 00:00:00.000000999", "1960-01-01 00:00:00"),
            ("timestamp-nanos", "date", "1960-01-01 23:59:59.9999999", "1960-01-01"),
            ("time-nanos", "time", "23:59:59.9999999", "23:59:59.999999"),
            ("instant-with-offset", "instant", "2024-01-01 00:30:00.1234567+05:30", "2023-12-31 19:00:00.123456+00"),
            ("instant-with-offset", "timestamp-nanos", "2024-01-01 00:30:00+05:30", "2023-12-31 19:00:00"),
            ("timestamp", "instant-with-offset", "2024-01-01 00:30:00", "2024-01-01 00:30:00+00:00"),
        ] {
            let (a, b) = (from.parse().expect("a kind"), to.parse().expect("a kind"));
            let (way, _) = lossy(a, b).expect("a way");
            let array = way.apply(&column(from, &[given, "NULL"])).expect("it is cut");
            assert_eq!(texts(&array, b), [expected, "NULL"], "{from} to {to}");
        }
    }

    #[test]
    fn a_span_is_kept() {
        let moments = column("timestamp-nanos", &["1970-01-01", "NULL", "1970-01-01 00:00:00.000000011"]);
        assert!(within(&moments, 0, 11).is_ok());
        assert_eq!(within(&moments, 0, 10).expect_err("one nanosecond").row, 2);
        assert_eq!(within(&moments, 1, 11).expect_err("the first").row, 0);
    }

    proptest! {
        /// What goes to a coarser kind and back is the same, and what is cut is the text without its end.
        #[test]
        fn there_and_back(nanos in -62_135_596_800_000_000_000_i128..253_402_300_800_000_000_000) {
            let fine: ArrayRef = Arc::new(
                arrow_array::Decimal128Array::from(vec![nanos]).with_data_type(data_type(Kind::TimestampNanos)),
            );
            let text = texts(&fine, Kind::TimestampNanos).remove(0);
            let again = column("timestamp-nanos", &[&text]);
            prop_assert_eq!(&again, &fine, "by text");
            let cut = convert(&fine, Kind::TimestampNanos, Kind::Timestamp, false).expect("within the years");
            let cut_text = texts(&cut, Kind::Timestamp).remove(0);
            prop_assert!(text.starts_with(cut_text.as_str()), "{} is no beginning of {}", cut_text, text);
            let back = convert(&cut, Kind::Timestamp, Kind::TimestampNanos, true).expect("wider");
            let exact = convert(&fine, Kind::TimestampNanos, Kind::Timestamp, true).is_ok();
            prop_assert_eq!(exact, nanos % 1000 == 0);
            prop_assert_eq!(exact, back == fine);
        }

        /// An offset changes what the clock shows, and never the moment.
        #[test]
        fn offsets(nanos in -62_135_500_000_000_000_000_i128..253_402_200_000_000_000_000, offset in -840_i16..=840) {
            let array = offset_instants(vec![nanos], vec![offset], None);
            let text = texts(&array, Kind::InstantWithOffset).remove(0);
            prop_assert_eq!(&column("instant-with-offset", &[&text]), &array, "{}", text);
            let moment = convert(&array, Kind::InstantWithOffset, Kind::InstantNanos, false).expect("a moment");
            prop_assert_eq!(&column("instant-nanos", &[&text]), &moment);
        }
    }
}
