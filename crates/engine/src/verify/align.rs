//! Values of one side on their way into the kind both sides are compared in. Never ends at a value: what is no value of
//! that kind keeps a form of its own, and is then equal to nothing of it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use dmg_connector::text_form;
use dmg_protocol::{Fault, Kind};

use super::pairs::Side;
use crate::convert::{Conversion, integer, is_text};

/// How values get into the common kind.
#[derive(Debug, Clone)]
pub(super) enum Align {
    /// By a conversion that holds every value.
    Convert(Conversion),
    /// Text that should be the text form of a kind: `007` and `7` are the same number. What cannot be read as that
    /// kind stays as it is, and is then no value of the other side.
    Canonical(Kind),
    /// Numbers as the shortest text that says them exactly.
    Number(Kind),
    /// The text forms of a kind that the author names. What has none there keeps its own.
    HandOver { from: Kind, way: Conversion, kind: Kind },
}

impl Align {
    /// Nothing to do.
    pub(super) const SAME: Align = Align::Convert(Conversion::Same);

    /// Converts a column; `name` is for people.
    pub(super) fn apply(&self, array: &ArrayRef, name: &str) -> dmg_connector::Result<ArrayRef> {
        Ok(match self {
            Align::Convert(way) => way.apply(array).map_err(|unfit| {
                let message = format!("Column \"{name}\" cannot be compared: a value is {}.", unfit.class);
                Fault::new("UserErrorValue", message).with("column", name)
            })?,
            Align::Canonical(kind) => reread_all(array.as_string::<i32>(), *kind),
            Align::Number(kind) => Arc::new(numbers(array, *kind)),
            Align::HandOver { from, way, kind } => Arc::new(handed_over(array, *from, way, *kind)),
        })
    }
}

/// A batch of a source as the compared columns in their common kinds.
pub(super) fn align(batch: &RecordBatch, sides: &[Side], schema: &SchemaRef) -> dmg_connector::Result<RecordBatch> {
    let aligned = |side: &Side| side.align.apply(batch.column(side.index), &side.name);
    let arrays = sides.iter().map(aligned).collect::<dmg_connector::Result<Vec<_>>>()?;
    RecordBatch::try_new(schema.clone(), arrays).map_err(|error| {
        let message = "The columns of a batch are not as their source described them.";
        dmg_connector::Error::caused(Fault::new("SystemErrorInternal", message), error)
    })
}

/// Texts in the one form of their kind: all at once, and one by one only where some cannot be read.
fn reread_all(texts: &StringArray, kind: Kind) -> ArrayRef {
    match text_form::text_to_array(texts, kind) {
        Ok(values) if values.null_count() == texts.null_count() => Arc::new(text_form::array_to_text(&values, kind)),
        _ => Arc::new(canonical(texts, |text| reread(text, kind))),
    }
}

/// Each text in the one form of its kind, or as it was.
fn canonical(texts: &StringArray, form: impl Fn(&str) -> Option<String>) -> StringArray {
    let form = |text: &str| form(text).unwrap_or_else(|| text.to_owned());
    texts.iter().map(|text| text.map(form)).collect()
}

/// A text read as a value of the kind and written again.
fn reread(text: &str, kind: Kind) -> Option<String> {
    let one = StringArray::from(vec![text]);
    let value = text_form::text_to_array(&one, kind).ok()?;
    value.is_valid(0).then(|| text_form::array_to_text(&value, kind).value(0).to_owned())
}

/// The text forms of a kind, and of what cannot be handed over as it the form it has.
fn handed_over(array: &ArrayRef, from: Kind, way: &Conversion, kind: Kind) -> StringArray {
    let whole = |array: &ArrayRef| way.apply(array).map(|array| text_form::array_to_text(&array, kind));
    whole(array).unwrap_or_else(|_| {
        let one = |row: usize| {
            let value = array.slice(row, 1);
            let texts = whole(&value).unwrap_or_else(|_| text_form::array_to_text(&value, from));
            texts.is_valid(0).then(|| texts.value(0).to_owned())
        };
        (0..array.len()).map(one).collect()
    })
}

/// Numbers of any kind as the shortest text that says them exactly.
fn numbers(array: &ArrayRef, kind: Kind) -> StringArray {
    match kind {
        Kind::Float32 => {
            array.as_primitive::<Float32Type>().iter().map(|value| value.map(f64::from).map(exact)).collect()
        }
        Kind::Float64 => array.as_primitive::<Float64Type>().iter().map(|value| value.map(exact)).collect(),
        Kind::Boolean => {
            array.as_boolean().iter().map(|value| value.map(|value| if value { "1" } else { "0" })).collect()
        }
        _ if integer(kind).is_some() => text_form::array_to_text(array, kind),
        _ if is_text(kind) => {
            let texts = array.as_string::<i32>();
            match text_form::text_to_array(texts, Kind::DecimalText) {
                Ok(numbers) => canonical(numbers.as_string(), |text| Some(shortest(text))),
                Err(_) => canonical(texts, |text| reread(text, Kind::DecimalText).map(|text| shortest(&text))),
            }
        }
        _ => canonical(&text_form::array_to_text(array, kind), |text| Some(shortest(text))),
    }
}

fn shortest(text: &str) -> String {
    let text = text.strip_prefix('+').unwrap_or(text);
    let text = match text.split_once('.') {
        Some((whole, behind)) if !text.contains(['e', 'E']) => match behind.trim_end_matches('0') {
            "" => whole.to_owned(),
            behind => format!("{whole}.{behind}"),
        },
        _ => text.to_owned(),
    };
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return text;
    }
    let short = digits.trim_start_matches('0');
    let short = if short.is_empty() || short.starts_with('.') { format!("0{short}") } else { short.to_owned() };
    if short == "0" { short } else { format!("{sign}{short}") }
}

/// Powers of five that a fraction of 53 bits can be multiplied by in 128 bits.
const FIVES_MAX: u32 = 32;

/// The decimal digits a double has, all of them: 0.1 as a double is 0.1000000000000000055511151231257827….
fn exact(value: f64) -> String {
    if !value.is_finite() {
        let sign = if value < 0.0 { "-" } else { "" };
        return if value.is_nan() { "NaN".to_owned() } else { format!("{sign}Infinity") };
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".to_owned() } else { "0".to_owned() };
    }
    let exponent = (value.to_bits() >> 52 & 0x7ff) as i32;
    let fraction = value.to_bits() & ((1 << 52) - 1);
    // The value is `digits` times two to the power of `power`.
    let (digits, power) = if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    let (digits, power) = (digits >> digits.trailing_zeros(), power + digits.trailing_zeros() as i32);
    let behind = power.min(0).unsigned_abs();
    if power >= 0 || behind > FIVES_MAX {
        // As many digits behind the point as there are: nothing is rounded.
        return format!("{value:.*}", behind as usize);
    }
    let number = u128::from(digits) * 5_u128.pow(behind);
    let text = format!("{number:0>width$}", width = behind as usize + 1);
    let (whole, rest) = text.split_at(text.len() - behind as usize);
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{whole}.{rest}")
}

#[cfg(test)]
mod tests {
    use arrow_array::Float64Array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_compared_as_values_and_nonsense_as_itself() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("007"), Some("x"), None, Some("")]));
        let found = Align::Canonical(Kind::Int64).apply(&texts, "c").expect("nothing is refused");
        assert_eq!(found.as_string::<i32>(), &StringArray::from(vec![Some("7"), Some("x"), None, Some("")]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["1.50", "1.5", "-0.0", "00.10", "NaN", "abc"]));
        assert_eq!(numbers(&texts, Kind::Text), StringArray::from(vec!["1.5", "1.5", "0", "0.1", "NaN", "abc"]));
    }

    #[test]
    fn a_double_is_the_number_it_is() {
        for (value, expected) in [
            (0.1, "0.1000000000000000055511151231257827021181583404541015625"),
            (0.5, "0.5"),
            (-2.375, "-2.375"),
            (-0.0, "-0"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e22, "10000000000000000000000"),
            (1e23, "99999999999999991611392"),
            (f64::NEG_INFINITY, "-Infinity"),
            (2_f64.powi(-33), "0.000000000116415321826934814453125"),
        ] {
            assert_eq!(exact(value), expected);
        }
        assert_eq!(exact(5e-324).len(), 1076);
        let array: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(f64::NAN)]));
        assert_eq!(numbers(&array, Kind::Float64), StringArray::from(vec![Some("1"), None, Some("NaN")]));
    }

    #[test]
    fn what_cannot_be_handed_over_is_itself() {
        let way = Conversion::FromText(Kind::Int32);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("007"), Some("x"), None]));
        let found = handed_over(&texts, Kind::Text, &way, Kind::Int32);
        assert_eq!(found, StringArray::from(vec![Some("7"), Some("x"), None]));
    }

    proptest! {
        /// The digits are those of the number, no more and no fewer.
        #[test]
        fn digits(bits in any::<u64>(), power in -40_i32..40, small in any::<i32>()) {
            for value in [f64::from_bits(bits), f64::from(small) * 2_f64.powi(power)] {
                prop_assume!(value.is_finite());
                let text = exact(value);
                prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()), "{}", text);
                prop_assert!(!text.contains('.') || !text.ends_with('0'), "{}", text);
                let long = format!("{value:.1074}");
                let long = long.trim_end_matches('0').trim_end_matches('.');
                prop_assert_eq!(text.as_str(), long);
            }
        }
    }
}
