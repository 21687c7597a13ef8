//! Arrow columns as the text form of COPY: one form for every type, parsed by the server's own input functions, so
//! that a value the column cannot take is refused by the server and never bent here.

use arrow_array::{Array, RecordBatch};
use dmg_connector::text_form::ColumnText;
use dmg_protocol::Kind;

/// Appends the rows of a batch from `row` on, until about `bytes` are written. Gives back the next row.
pub(super) fn rows(batch: &RecordBatch, kinds: &[Kind], row: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
    let forms: Vec<ColumnText<'_>> =
        batch.columns().iter().zip(kinds).map(|(column, kind)| ColumnText::new(column.as_ref(), *kind)).collect();
    for row in row..batch.num_rows() {
        if out.len() >= bytes {
            return row;
        }
        for (index, form) in forms.iter().enumerate() {
            if index > 0 {
                out.push(b'\t');
            }
            if batch.column(index).is_null(row) {
                out.extend_from_slice(b"\\N");
                continue;
            }
            match form {
                ColumnText::Text(column) => escaped(column.value(row).as_bytes(), out),
                // Octets are written as \x…, and a backslash is doubled.
                ColumnText::Bytes(_) => {
                    out.push(b'\\');
                    form.write(row, out);
                }
                _ => form.write(row, out),
            }
        }
        out.push(b'\n');
    }
    batch.num_rows()
}

fn escaped(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = text.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(match text[at] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            _ => b"\\\\",
        });
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{BinaryArray, Int32Array, StringArray};
    use dmg_connector::{Column, schema};

    use super::*;

    #[test]
    fn what_separates_is_escaped() {
        let column =
            |name: &str, kind| Column { name: name.into(), kind, type_name: String::new(), nullable: true, key: false };
        let columns = [column("a", Kind::Int32), column("b", Kind::Text), column("c", Kind::Bytes)];
        let batch = RecordBatch::try_new(
            schema(&columns),
            vec![
                Arc::new(Int32Array::from(vec![Some(-7), None])),
                Arc::new(StringArray::from(vec![Some("a\tb\\\n\r"), Some("")])),
                Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255][..]), None])),
            ],
        )
        .expect("fits");
        let mut out = Vec::new();
        let kinds = columns.map(|column| column.kind);
        assert_eq!(rows(&batch, &kinds, 0, usize::MAX, &mut out), 2);
        assert_eq!(String::from_utf8(out).expect("text"), "-7\ta\\tb\\\\\\n\\r\t\\\\x00ff\n\\N\t\t\\N\n");
    }
}
