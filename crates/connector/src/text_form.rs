//! The one text form of every kind, in both directions: what the text format writes and reads, and what the engine
//! converts through. What is written reads back exactly; reading takes a few common variants as well. Nothing here
//! knows delimiters, quotes or NULL markers.

mod parse;
mod write;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StringArray, cast::AsArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use dmg_protocol::Kind;

pub use parse::ColumnParser;
pub use write::ColumnText;

/// The text forms of a column. NULL stays NULL.
///
/// # Panics
/// If the column does not have the carrier of the kind, or its text needs more than 2 GiB.
pub fn array_to_text(column: &ArrayRef, kind: Kind) -> StringArray {
    if let Some(text) = column.as_string_opt::<i32>() {
        return text.clone();
    }
    let form = ColumnText::new(column.as_ref(), kind);
    let mut bytes = Vec::with_capacity(column.len() * 12);
    let mut offsets = Vec::with_capacity(column.len() + 1);
    offsets.push(0_i32);
    for row in 0..column.len() {
        if column.is_valid(row) {
            form.write(row, &mut bytes);
        }
        offsets.push(i32::try_from(bytes.len()).expect("a batch is far smaller than 2 GiB"));
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    StringArray::new(offsets, Buffer::from_vec(bytes), column.nulls().cloned())
}

/// Values of a kind from their text forms. NULL stays NULL. The first text that is no value of the kind is given
/// back as its row and its class, which completes the sentence "the value is ...".
pub fn text_to_array(text: &StringArray, kind: Kind) -> Result<ArrayRef, (usize, &'static str)> {
    if matches!(kind, Kind::Text | Kind::Json | Kind::EngineText) {
        return Ok(Arc::new(text.clone()));
    }
    let mut parser = ColumnParser::new(kind, text.len());
    for row in 0..text.len() {
        if text.is_null(row) {
            parser.push_null();
        } else {
            parser.push(text.value(row)).map_err(|class| (row, class))?;
        }
    }
    Ok(parser.finish())
}

#[cfg(test)]
mod tests;
