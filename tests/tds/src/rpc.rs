//! Remote calls: reading their parameters, table parameters among them, and answering them.

use crate::errors::{Failure, SqlError};
use crate::out::{Column, Out};
use crate::procedures::Argument;
use crate::read::{Reader, WireError};
use crate::session::Session;
use crate::sql::parse::Parser;
use crate::sql::tree::Name;
use crate::types::{Type, WireType};
use crate::value::Value;
use crate::wire_value::read_value;

/// The server's own procedures by number.
const NUMBERED: [&str; 16] = [
    "",
    "sp_cursor",
    "sp_cursoropen",
    "sp_cursorprepare",
    "sp_cursorexecute",
    "sp_cursorprepexec",
    "sp_cursorunprepare",
    "sp_cursorfetch",
    "sp_cursoroption",
    "sp_cursorclose",
    "sp_executesql",
    "sp_prepare",
    "sp_execute",
    "sp_prepexec",
    "sp_prepexecrpc",
    "sp_unprepare",
];
/// No message may call more procedures.
const CALLS_MAX: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) name: Name,
    pub(crate) arguments: Vec<Argument>,
}

/// Reads every call of a message.
pub(crate) fn read(from: &mut Reader) -> Result<Vec<Request>, WireError> {
    crate::connection::skip_headers(from)?;
    let mut calls = Vec::new();
    while from.has_more()? {
        if calls.len() >= CALLS_MAX {
            return Err(WireError::TooLong);
        }
        let length = from.u16()?;
        let text = if length == 0xFFFF {
            let number = usize::from(from.u16()?);
            let known = NUMBERED.get(number).filter(|name| !name.is_empty());
            known.ok_or_else(|| WireError::Invalid(format!("procedure number {number}")))?.to_string()
        } else {
            from.utf16(usize::from(length))?
        };
        let name = name_of(&text);
        from.u16()?;
        let mut arguments = Vec::new();
        while from.has_more()? && !matches!(from.peek()?, 0x80 | 0xFE | 0xFF) {
            arguments.push(read_argument(from)?);
        }
        if from.has_more()? {
            from.u8()?;
        }
        calls.push(Request { name, arguments });
    }
    Ok(calls)
}

fn name_of(text: &str) -> Name {
    Parser::new(text).and_then(|mut parser| parser.name()).unwrap_or_else(|_| Name {
        database: None,
        schema: None,
        object: text.to_owned(),
    })
}

fn read_argument(from: &mut Reader) -> Result<Argument, WireError> {
    let name = from.b_varchar()?.to_ascii_lowercase();
    let status = from.u8()?;
    let (output, default) = (status & 1 != 0, status & 2 != 0);
    if from.peek()? == 0xF3 {
        from.u8()?;
        let (ty, columns, rows) = read_table(from)?;
        return Ok(Argument {
            name,
            ty: Type::Table(ty),
            value: Value::Null,
            output,
            default,
            rows: Some((columns, rows)),
        });
    }
    let wire = WireType::read(from)?;
    let value = read_value(from, &wire, false)?;
    Ok(Argument { name, ty: wire.ty, value, output, default, rows: None })
}

type TableValue = (String, Vec<Column>, Vec<Vec<Value>>);

fn read_table(from: &mut Reader) -> Result<TableValue, WireError> {
    from.b_varchar()?;
    let schema = from.b_varchar()?;
    let name = from.b_varchar()?;
    let full = if schema.is_empty() { name } else { format!("{schema}.{name}") };
    let count = from.u16()?;
    let mut columns = Vec::new();
    let mut wires = Vec::new();
    if count != 0xFFFF {
        for _ in 0..count {
            from.u32()?;
            let flags = from.u16()?;
            let wire = WireType::read(from)?;
            let name = from.b_varchar()?;
            columns.push(Column::new(name, wire.ty.clone()));
            // A column left to its default has no bytes in the rows.
            wires.push((flags & 0x0200 == 0).then_some(wire));
        }
    }
    loop {
        match from.u8()? {
            0 => break,
            0x10 => {
                let entries = from.u16()?;
                for _ in 0..entries {
                    from.slice(3)?;
                }
            }
            0x11 => {
                let entries = from.u16()?;
                from.slice(usize::from(entries) * 2)?;
            }
            other => return Err(WireError::Invalid(format!("token {other:#04x} in a table parameter"))),
        }
    }
    let mut rows = Vec::new();
    loop {
        match from.u8()? {
            0 => break,
            1 => {
                let mut row = Vec::with_capacity(wires.len());
                for wire in &wires {
                    row.push(match wire {
                        Some(wire) => read_value(from, wire, false)?,
                        None => Value::Null,
                    });
                }
                rows.push(row);
            }
            other => return Err(WireError::Invalid(format!("token {other:#04x} in a table parameter's rows"))),
        }
    }
    Ok((full, columns, rows))
}

/// Runs the calls of a message one after the other.
pub(crate) fn run(session: &mut Session, calls: Vec<Request>, out: &mut Out) -> Result<(), Failure> {
    for call in calls {
        out.in_procedure += 1;
        let result = session.call(&call.name, call.arguments, out);
        out.in_procedure -= 1;
        match result {
            Ok(answer) => {
                out.return_status(answer.status);
                for (ordinal, name, ty, value) in &answer.outputs {
                    out.return_value(*ordinal, name, ty, value)?;
                }
                let transaction = if session.transactions > 0 { crate::out::IN_TRANSACTION } else { 0 };
                out.done_as(0xFE, transaction, 0xE0, 0);
            }
            Err(Failure::Sql(error)) => {
                failed(session, &error, out);
                // A call that fails as a whole leaves the others of its message to run, as the server does.
            }
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn failed(session: &mut Session, error: &SqlError, out: &mut Out) {
    out.error(error);
    if error.ends_transaction() || session.abort_on_error && session.transactions > 0 {
        session.abandon();
        out.environment_bytes(10, &[], &1_u64.to_le_bytes());
    }
    session.last_error = error.number;
    out.done_as(0xFE, crate::out::ERROR, 0xE0, 0);
}
