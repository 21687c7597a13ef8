//! Text by the author's culture and format: numbers, dates and times, both ways.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Date32Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray};
use dmg_connector::text_form::{self, ColumnParser};
use dmg_protocol::{Fault, Kind};

use crate::convert::{Unfit, integer};
use crate::culture::{Culture, culture};
use crate::date_format::Pattern;

/// A culture, and for dates and times the formats to try in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Style {
    culture: &'static Culture,
    /// Shared by all lanes.
    patterns: Arc<Vec<Pattern>>,
}

/// Whether values of a kind are written by a date format.
pub(crate) fn is_moment(kind: Kind) -> bool {
    matches!(kind, Kind::Date | Kind::Timestamp | Kind::Instant | Kind::Time)
}

fn is_number(kind: Kind) -> bool {
    integer(kind).is_some() || matches!(kind, Kind::Float32 | Kind::Float64 | Kind::Decimal { .. } | Kind::DecimalText)
}

impl Style {
    /// The style for values of a kind, or none where the kind is written alike everywhere.
    pub(crate) fn of(kind: Kind, format: Option<&str>, name: Option<&str>) -> Result<Option<Self>, Fault> {
        let culture = culture(name)?;
        let patterns = match format {
            _ if !is_moment(kind) => Vec::new(),
            Some(format) => vec![Pattern::new(format, culture)?],
            None if culture.name.is_empty() => return Ok(None),
            None => Pattern::usual(kind, culture),
        };
        let says = !patterns.is_empty() || (is_number(kind) && !culture.name.is_empty());
        Ok(says.then(|| Style { culture, patterns: patterns.into() }))
    }

    /// Texts as values of a kind.
    pub(crate) fn read(&self, array: &ArrayRef, to: Kind) -> Result<ArrayRef, Unfit> {
        let source = array.as_string::<i32>();
        let unfit = |row: usize, class: &str| Unfit { row, class: class.to_owned() };
        if self.patterns.is_empty() {
            let mut parser = ColumnParser::new(to, source.len());
            for row in 0..source.len() {
                if source.is_null(row) {
                    parser.push_null();
                    continue;
                }
                let plain = self.culture.plain_number(source.value(row));
                let plain = plain.ok_or_else(|| unfit(row, "not a number in the culture given"))?;
                parser.push(&plain).map_err(|class| unfit(row, class))?;
            }
            return Ok(parser.finish());
        }
        let mut values = Vec::with_capacity(source.len());
        for row in 0..source.len() {
            values.push(if source.is_null(row) {
                0
            } else {
                self.moment(source.value(row), to).map_err(|class| unfit(row, class))?
            });
        }
        let nulls = source.nulls().cloned();
        Ok(match to {
            Kind::Date => {
                // Four digits of a year are far from the ends.
                let days = values.into_iter().map(|days| days as i32).collect::<Vec<_>>();
                Arc::new(Date32Array::new(days.into(), nulls))
            }
            Kind::Time => Arc::new(Time64MicrosecondArray::new(values.into(), nulls)),
            Kind::Instant => Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC")),
            _ => Arc::new(TimestampMicrosecondArray::new(values.into(), nulls)),
        })
    }

    /// By the first format that fits; what the first says is the reason if none does.
    fn moment(&self, text: &str, kind: Kind) -> Result<i64, &'static str> {
        let mut outcomes = self.patterns.iter().map(|pattern| pattern.read(text, kind));
        let first = outcomes.next().unwrap_or(Err("not of the given format"));
        first.or_else(|class| outcomes.find_map(Result::ok).ok_or(class))
    }

    /// Values of a kind as texts.
    pub(crate) fn write(&self, array: &ArrayRef, from: Kind, exact: bool) -> Result<ArrayRef, Unfit> {
        let Some(pattern) = self.patterns.first() else {
            let plain = text_form::array_to_text(array, from);
            let own = plain.iter().map(|text| text.map(|text| self.culture.own_number(text)));
            return Ok(Arc::new(own.collect::<StringArray>()));
        };
        let value = |row: usize| match from {
            Kind::Date => i64::from(array.as_primitive::<Date32Type>().value(row)),
            Kind::Time => array.as_primitive::<Time64MicrosecondType>().value(row),
            _ => array.as_primitive::<TimestampMicrosecondType>().value(row),
        };
        let mut texts = Vec::with_capacity(array.len());
        for row in 0..array.len() {
            if array.is_null(row) {
                texts.push(None);
                continue;
            }
            let unfit = |class: &str| Unfit { row, class: class.to_owned() };
            let text = pattern.write(value(row), from).map_err(unfit)?;
            if exact && pattern.read(&text, from) != Ok(value(row)) {
                return Err(unfit("more than the given format can say"));
            }
            texts.push(Some(text));
        }
        Ok(Arc::new(StringArray::from(texts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, format: Option<&str>, culture: &str, text: &str) -> Result<String, String> {
        let kind: Kind = kind.parse().expect("a kind");
        let style = Style::of(kind, format, Some(culture)).expect("understood").expect("says something");
        let array: ArrayRef = Arc::new(StringArray::from(vec![None, Some(text)]));
        let values = style.read(&array, kind).map_err(|unfit| unfit.class)?;
        assert_eq!(values.data_type(), &dmg_connector::data_type(kind));
        assert!(values.is_null(0));
        Ok(text_form::array_to_text(&values, kind).value(1).to_owned())
    }

    #[test]
    fn cultures_and_formats() {
        for (kind, format, culture, text, expected) in [
            ("decimal(10,2)", None, "de-de", "1.234,5", Ok("1234.50")),
            ("float64", None, "fr-fr", "1 234,5", Ok("1234.5")),
            ("int32", None, "en-us", "12,345", Ok("12345")),
            ("int32", None, "en-us", "1,5", Err("not a number in the culture given")),
            ("date", None, "en-gb", "31/12/2024", Ok("2024-12-31")),
            ("date", None, "en-us", "12/31/2024", Ok("2024-12-31")),
            ("date", None, "en-us", "31/12/2024", Err("not a date that exists")),
            ("timestamp", None, "nl-nl", "1-2-2024 13:00", Ok("2024-02-01 13:00:00")),
            ("timestamp", Some("dd.MM.yyyy HH:mm"), "", "01.02.2024 13:05", Ok("2024-02-01 13:05:00")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(read(kind, format, culture, text), expected, "{text} in {culture:?}");
        }
        assert_eq!(Style::of(Kind::Date, None, None).expect("understood"), None);
        assert_eq!(Style::of(Kind::Text, None, Some("de-de")).expect("understood"), None);
    }

    #[test]
    fn writing() {
        let style = Style::of(Kind::Timestamp, Some("dd.MM.yyyy HH:mm"), None).expect("understood").expect("a style");
        let moments: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![60_000_000, 61_000_000]));
        let unfit = style.write(&moments, Kind::Timestamp, true).expect_err("a second is lost");
        assert_eq!(unfit.row, 1);
        let texts = style.write(&moments, Kind::Timestamp, false).expect("by the author's word");
        assert_eq!(texts.as_string::<i32>().value(1), "01.01.1970 00:01");
    }
}
