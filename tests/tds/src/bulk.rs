//! Bulk loads: what INSERT BULK announces, and the rows that follow in a message of their own.

use crate::errors::{Failure, SqlError};
use crate::out::{COUNT, Column, Out};
use crate::read::{Reader, WireError};
use crate::session::Session;
use crate::sql::catalog::TableInfo;
use crate::sql::convert::{Why, convert};
use crate::sql::tree::{Name, Target};
use crate::types::{Collation, Type, WireType};
use crate::value::Value;
use crate::wire_value::read_value;

/// Rows gathered before SQLite's write lock is taken, so that slow loads side by side do not wait for each other.
const GATHERED_BYTES_MAX: usize = 32 << 20;

/// What the next bulk message fills.
#[derive(Clone, Debug)]
pub(crate) struct BulkTarget {
    pub(crate) table: TableInfo,
    positions: Vec<usize>,
    keep_nulls: bool,
    pub(crate) text: String,
}

impl Session {
    pub(crate) fn begin_bulk(
        &mut self,
        name: &Name,
        columns: &[(String, Type, Collation)],
        options: &[String],
    ) -> Result<(), Failure> {
        let table = self.target(&Target::Table(name.clone()))?;
        let mut positions = Vec::new();
        for (column, _, _) in columns {
            let at = table.position(column)?;
            if table.columns[at].column.computed {
                return Err(SqlError::new(271, format!("The column \"{column}\" cannot be modified because it is either a computed column or is the result of a UNION operator.")).into());
            }
            positions.push(at);
        }
        let mut keep_nulls = false;
        for option in options {
            match option.split([' ', '=', '(']).next().unwrap_or_default() {
                "KEEP_NULLS" => keep_nulls = true,
                "TABLOCK"
                | "CHECK_CONSTRAINTS"
                | "FIRE_TRIGGERS"
                | "ROWS_PER_BATCH"
                | "KILOBYTES_PER_BATCH"
                | "ORDER" => {}
                "ALLOW_ENCRYPTED_VALUE_MODIFICATIONS" | "KEEP_IDENTITY" => {}
                // The rest of an ORDER list.
                other if other.ends_with(')') || table.position(other.trim_matches(['[', ']', ')'])).is_ok() => {}
                other => return Err(SqlError::unknown(&format!("the bulk option {other}")).into()),
            }
        }
        let text = format!("INSERT BULK {name}");
        self.bulk = Some(BulkTarget { table, positions, keep_nulls, text });
        Ok(())
    }

    /// Reads and stores the rows of a bulk message.
    pub(crate) fn run_bulk(&mut self, from: &mut Reader, out: &mut Out) -> Result<(), Failure> {
        let Some(target) = self.bulk.take() else {
            from.skip_rest()?;
            return Err(SqlError::new(
                4002,
                "The incoming tabular data stream (TDS) protocol stream is incorrect. The stream ended unexpectedly.",
            )
            .into());
        };
        let result = self.load(&target, from, out);
        if !matches!(result, Err(Failure::Wire(_) | Failure::Attention)) {
            from.skip_rest()?;
        }
        out.deaf = false;
        let count = result?;
        self.row_count = count;
        let transaction = if self.transactions > 0 { crate::out::IN_TRANSACTION } else { 0 };
        out.done(COUNT | transaction, 0xF0, count);
        Ok(())
    }

    fn load(&mut self, target: &BulkTarget, from: &mut Reader, out: &mut Out) -> Result<u64, Failure> {
        out.deaf = true;
        let wires = read_columns(from)?;
        if wires.len() != target.positions.len() {
            return Err(
                SqlError::new(4816, format!("Invalid column type from bcp client for colid {}.", wires.len())).into()
            );
        }
        let (mut rows, mut ended) = gather(from, &wires)?;
        let mut count = 0;
        self.in_statement(out, |session, _| {
            loop {
                count += rows.len() as u64;
                let converted: Result<Vec<_>, SqlError> =
                    rows.drain(..).map(|row| new_row(target, &wires, row)).collect();
                session.store(&target.table, converted?)?;
                if ended {
                    return Ok(());
                }
                (rows, ended) = gather(from, &wires)?;
            }
        })?;
        Ok(count)
    }
}

pub(crate) fn read_columns(from: &mut Reader) -> Result<Vec<(WireType, String)>, WireError> {
    if from.u8()? != 0x81 {
        return Err(WireError::Invalid("bulk rows without their columns".into()));
    }
    let count = from.u16()?;
    let mut wires = Vec::new();
    for _ in 0..count {
        from.u32()?;
        from.u16()?;
        let wire = WireType::read(from)?;
        if matches!(wire.token, 0x22 | 0x23 | 0x63) {
            from.us_varchar()?;
        }
        wires.push((wire, from.b_varchar()?));
    }
    Ok(wires)
}

/// The next rows, and whether they were the last.
pub(crate) fn gather(from: &mut Reader, wires: &[(WireType, String)]) -> Result<(Vec<Vec<Value>>, bool), WireError> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    while from.has_more()? {
        let token = from.u8()?;
        let bitmap = match token {
            0xD1 => Vec::new(),
            0xD2 => from.bytes(wires.len().div_ceil(8))?,
            // The end, however long the client makes it.
            0xFD => {
                from.rest()?;
                continue;
            }
            other => return Err(WireError::Invalid(format!("token {other:#04x} among bulk rows"))),
        };
        let mut row = Vec::with_capacity(wires.len());
        for (at, (wire, _)) in wires.iter().enumerate() {
            let null = bitmap.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
            let value = if null { Value::Null } else { read_value(from, wire, true)? };
            bytes += 32
                + match &value {
                    Value::Text(content) | Value::Bytes(content) => content.len(),
                    _ => 0,
                };
            row.push(value);
        }
        rows.push(row);
        if bytes > GATHERED_BYTES_MAX {
            return Ok((rows, false));
        }
    }
    Ok((rows, true))
}

fn new_row(target: &BulkTarget, wires: &[(WireType, String)], row: Vec<Value>) -> Result<Vec<Option<Value>>, SqlError> {
    let mut new: Vec<Option<Value>> = vec![None; target.table.columns.len()];
    for ((value, at), (wire, _)) in row.into_iter().zip(&target.positions).zip(wires) {
        let column: &Column = &target.table.columns[*at].column;
        if value.is_null() && !target.keep_nulls && target.table.columns[*at].default.is_some() {
            continue;
        }
        let value = convert(&value, &wire.ty, &column.ty, 0, Why::Assign).map_err(|error| match error.number {
            2628 => SqlError::new(
                4863,
                format!("Bulk load data conversion error (truncation) for column '{}'.", column.name),
            ),
            _ => error,
        })?;
        new[*at] = Some(value);
    }
    Ok(new)
}
