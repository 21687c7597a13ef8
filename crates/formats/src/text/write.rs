//! Batches to rows of text. Each column is written by the strategy its kind allows: as it is, or protected.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use dmg_connector::text_form::ColumnText;
use dmg_connector::{Column, Error, FileEncoder, Fragment, FragmentEncoder, Result};
use dmg_protocol::Fault;

use super::dialect::{Dialect, Unwritable};
use crate::fault;

/// Writes one text file.
pub(super) struct Encoder {
    dialect: Arc<Dialect>,
    columns: Arc<[Column]>,
    /// The first row, until it is handed out.
    header: Bytes,
}

impl Encoder {
    pub(super) fn new(dialect: Arc<Dialect>, columns: &[Column]) -> Result<Self> {
        if columns.is_empty() {
            return Err(fault::not_supported("A text file without columns cannot be written.").into());
        }
        if dialect.skip_lines > 0 {
            let message = "The text format skips lines before the header, which a written file does not have.";
            return Err(Fault::new("UserErrorSettings", message)
                .remedy("Leave skipLineCount out of the sink's dataset.")
                .with("setting", "skipLineCount")
                .into());
        }
        let mut header = Vec::new();
        if dialect.header {
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    header.extend_from_slice(&dialect.column);
                }
                dialect.protect(&column.name, &mut header).map_err(|what| {
                    let message = format!("The name of column \"{}\" cannot be written: it is {what}.", column.name);
                    Error::from(Fault::new("UserErrorValue", message).with("column", &column.name))
                })?;
            }
            header.extend_from_slice(dialect.row_end());
        }
        Ok(Encoder { dialect, columns: columns.into(), header: header.into() })
    }
}

impl FileEncoder for Encoder {
    fn fragment(&self) -> Result<Box<dyn FragmentEncoder>> {
        let plain = self.columns.iter().map(|column| self.dialect.plain(column.kind)).collect();
        Ok(Box::new(Rows {
            dialect: self.dialect.clone(),
            columns: self.columns.clone(),
            plain,
            out: Vec::new(),
            scratch: Vec::new(),
            rows: 0,
        }))
    }

    fn start(&mut self) -> Result<Bytes> {
        Ok(std::mem::take(&mut self.header))
    }

    fn append(&mut self, fragment: Fragment) -> Result<Bytes> {
        Ok(fragment.bytes)
    }

    fn finish(&mut self) -> Result<Bytes> {
        Ok(Bytes::new())
    }
}

/// A run of rows.
struct Rows {
    dialect: Arc<Dialect>,
    columns: Arc<[Column]>,
    /// Columns whose values need no protection.
    plain: Vec<bool>,
    out: Vec<u8>,
    scratch: Vec<u8>,
    rows: u64,
}

impl FragmentEncoder for Rows {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_columns() != self.columns.len() {
            return Err(fault::internal("A batch has another number of columns than its file."));
        }
        let forms: Vec<_> = self
            .columns
            .iter()
            .zip(batch.columns())
            .map(|(column, array)| ColumnText::new(array.as_ref(), column.kind))
            .collect();
        for row in 0..batch.num_rows() {
            for (index, form) in forms.iter().enumerate() {
                if index > 0 {
                    self.out.extend_from_slice(&self.dialect.column);
                }
                let written = if batch.column(index).is_null(row) {
                    self.dialect.null().map(|marker| self.out.extend_from_slice(marker.as_bytes()))
                } else {
                    self.value(form, index, row)
                };
                written.map_err(|what| {
                    let row = self.rows + row as u64 + 1;
                    refused(row, &self.columns[index].name, what)
                })?;
            }
            self.out.extend_from_slice(self.dialect.row_end());
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn size(&self) -> usize {
        self.out.len()
    }

    fn finish(self: Box<Self>) -> Result<Fragment> {
        Ok(Fragment { rows: self.rows, bytes: self.out.into() })
    }
}

impl Rows {
    #[inline]
    fn value(&mut self, form: &ColumnText<'_>, index: usize, row: usize) -> std::result::Result<(), Unwritable> {
        if let ColumnText::Text(column) = form {
            return self.dialect.protect(column.value(row), &mut self.out);
        }
        if self.plain[index] {
            let quote = self.dialect.quote.filter(|_| self.dialect.quote_all);
            self.out.extend(quote);
            form.write(row, &mut self.out);
            self.out.extend(quote);
            return Ok(());
        }
        self.scratch.clear();
        form.write(row, &mut self.scratch);
        let text = std::str::from_utf8(&self.scratch).map_err(|_| "not a text")?;
        self.dialect.protect(text, &mut self.out)
    }
}

fn refused(row: u64, column: &str, what: &str) -> Error {
    let message =
        format!("A value of column \"{column}\" cannot be written as text: it is {what} (row {row} of its piece).");
    Fault::new("UserErrorValue", message)
        .remedy("Give the dataset's format a quoteChar or an escapeChar, or another nullValue.")
        .with("row", row)
        .with("column", column)
        .into()
}
