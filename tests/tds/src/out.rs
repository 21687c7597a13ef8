//! An answer: tokens gathered into packets. The last DONE is held back until it is known whether anything follows.

use std::time::Duration;

use crate::errors::{Failure, SqlError};
use crate::read::WireError;
use crate::transport::Line;
use crate::types::{Collation, Type, b_varchar, us_varchar, write_type};
use crate::value::Value;
use crate::wire_value::write_value;

pub(crate) const MORE: u16 = 0x01;
pub(crate) const ERROR: u16 = 0x02;
pub(crate) const IN_TRANSACTION: u16 = 0x04;
pub(crate) const COUNT: u16 = 0x10;
pub(crate) const ATTENTION: u16 = 0x20;

/// A column of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The name clients see.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// How its text compares.
    pub collation: Collation,
    /// Whether the server numbers it.
    pub identity: bool,
    /// Whether it is computed.
    pub computed: bool,
}

impl Column {
    /// A nullable column.
    pub fn new(name: impl Into<String>, ty: Type) -> Self {
        Self {
            name: name.into(),
            ty,
            nullable: true,
            collation: Collation::default(),
            identity: false,
            computed: false,
        }
    }
}

pub(crate) struct Out {
    line: Line,
    /// The client is still sending: what comes in is no attention.
    pub(crate) deaf: bool,
    buffer: Vec<u8>,
    held: Option<(u8, u16, u16, u64)>,
    spoken: bool,
    /// Tokens inside a procedure end with DONEINPROC.
    pub(crate) in_procedure: u32,
    pub(crate) wrong_token: bool,
    pub(crate) truncate: bool,
}

impl Out {
    pub(crate) fn new(line: &Line) -> Self {
        Self {
            line: line.clone(),
            deaf: false,
            buffer: Vec::new(),
            held: None,
            spoken: false,
            in_procedure: 0,
            wrong_token: false,
            truncate: false,
        }
    }

    /// The buffer, after what was held back.
    fn open(&mut self) -> &mut Vec<u8> {
        self.spoken = true;
        if let Some((token, status, command, count)) = self.held.take() {
            self.put_done(token, status | MORE, command, count);
        }
        if std::mem::take(&mut self.wrong_token) {
            self.buffer.push(0x42);
        }
        &mut self.buffer
    }

    fn put_done(&mut self, token: u8, status: u16, command: u16, count: u64) {
        self.buffer.push(token);
        self.buffer.extend(status.to_le_bytes());
        self.buffer.extend(command.to_le_bytes());
        self.buffer.extend(count.to_le_bytes());
    }

    /// Sends full packets, and looks whether the client has cancelled.
    fn flush_full(&mut self) -> Result<(), Failure> {
        let room = self.line.borrow().packet_size - 8;
        if self.buffer.len() <= room {
            return Ok(());
        }
        let mut sent = 0;
        while self.buffer.len() - sent > room {
            self.line.borrow_mut().write_packet(0x04, &self.buffer[sent..sent + room], false)?;
            sent += room;
        }
        self.buffer.drain(..sent);
        self.poll()
    }

    /// Looks whether the client has cancelled.
    pub(crate) fn poll(&mut self) -> Result<(), Failure> {
        self.listen(Duration::ZERO)
    }

    /// Takes that time, or less if the client cancels.
    pub(crate) fn listen(&mut self, time: Duration) -> Result<(), Failure> {
        if self.deaf {
            std::thread::park_timeout(time);
            return Ok(());
        }
        if self.line.borrow_mut().attention(time)? { Err(Failure::Attention) } else { Ok(()) }
    }

    /// Sets faults that act on the connection's bytes.
    pub(crate) fn bytes_fault(&self, set: impl FnOnce(&mut crate::fault::Bytes)) {
        set(&mut self.line.borrow_mut().fault);
    }

    pub(crate) fn done(&mut self, status: u16, command: u16, count: u64) {
        let token = if self.in_procedure > 0 { 0xFF } else { 0xFD };
        self.done_as(token, status, command, count);
    }

    pub(crate) fn done_as(&mut self, token: u8, status: u16, command: u16, count: u64) {
        self.open();
        self.held = Some((token, status, command, count));
    }

    /// The end of the answer.
    pub(crate) fn finish(mut self) -> Result<(), WireError> {
        if let Some((token, status, command, count)) = self.held.take() {
            if self.wrong_token {
                self.buffer.push(0x42);
            }
            self.put_done(token, status, command, count);
        } else if !self.spoken {
            // Every request is answered, also one that had nothing to say.
            self.put_done(0xFD, 0, 0, 0);
        }
        self.send_all()
    }

    /// The end of an answer that was cancelled: what was sent of a row stays as it is.
    pub(crate) fn finish_cancelled(mut self) -> Result<(), WireError> {
        // A row may be cut in the middle only where a packet was cut; clients skip to the end of the message.
        self.held = None;
        self.put_done(0xFD, ATTENTION, 0, 0);
        self.send_all()
    }

    fn send_all(&mut self) -> Result<(), WireError> {
        let room = self.line.borrow().packet_size - 8;
        let mut rest = std::mem::take(&mut self.buffer);
        if self.truncate {
            let keep = rest.len().saturating_sub(5);
            rest.truncate(keep);
        }
        while rest.len() > room {
            self.line.borrow_mut().write_packet(0x04, &rest[..room], false)?;
            rest.drain(..room);
        }
        self.line.borrow_mut().write_packet(0x04, &rest, !self.truncate)?;
        self.line.borrow_mut().end_message();
        if self.truncate {
            self.line.borrow_mut().close();
        }
        Ok(())
    }

    pub(crate) fn columns(&mut self, columns: &[Column]) -> Result<(), Failure> {
        let out = self.open();
        out.push(0x81);
        out.extend((columns.len() as u16).to_le_bytes());
        for column in columns {
            let user_type = if column.ty == Type::RowVersion { 0x50_u32 } else { 0 };
            out.extend(user_type.to_le_bytes());
            let mut flags = u16::from(column.nullable);
            if column.identity {
                flags |= 0x10;
            } else if column.computed {
                flags |= 0x20;
            } else {
                flags |= 0x08;
            }
            out.extend(flags.to_le_bytes());
            write_type(out, &column.ty, column.nullable, column.collation);
            if matches!(column.ty, Type::Text | Type::NText | Type::Image) {
                out.push(1);
                us_varchar(out, "t");
            }
            b_varchar(out, &column.name);
        }
        self.flush_full()
    }

    pub(crate) fn row(&mut self, columns: &[Column], values: &[Value]) -> Result<(), Failure> {
        let out = self.open();
        let nulls = values.iter().filter(|value| value.is_null()).count();
        // As the server does: the bitmap only where it pays. It leaves out columns that are NULL altogether.
        if nulls * 4 > values.len() {
            out.push(0xD2);
            let at = out.len();
            out.resize(at + values.len().div_ceil(8), 0);
            for (index, value) in values.iter().enumerate() {
                if value.is_null() {
                    out[at + index / 8] |= 1 << (index % 8);
                }
            }
            for (column, value) in columns.iter().zip(values).filter(|(_, value)| !value.is_null()) {
                write_value(out, &column.ty, column.nullable, column.collation, value);
            }
        } else {
            out.push(0xD1);
            for (column, value) in columns.iter().zip(values) {
                write_value(out, &column.ty, column.nullable, column.collation, value);
            }
        }
        self.flush_full()
    }

    pub(crate) fn error(&mut self, error: &SqlError) {
        let out = self.open();
        message(out, 0xAA, error);
    }

    pub(crate) fn info(&mut self, info: &SqlError) {
        let out = self.open();
        message(out, 0xAB, info);
    }

    pub(crate) fn environment(&mut self, kind: u8, new: &str, old: &str) {
        let out = self.open();
        let mut content = vec![kind];
        b_varchar(&mut content, new);
        b_varchar(&mut content, old);
        token(out, 0xE3, &content);
    }

    pub(crate) fn environment_bytes(&mut self, kind: u8, new: &[u8], old: &[u8]) {
        let out = self.open();
        let mut content = vec![kind, new.len() as u8];
        content.extend(new);
        content.push(old.len() as u8);
        content.extend(old);
        token(out, 0xE3, &content);
    }

    /// A token with a length of two bytes.
    pub(crate) fn sized(&mut self, kind: u8, content: &[u8]) {
        let out = self.open();
        token(out, kind, content);
    }

    pub(crate) fn raw(&mut self, content: &[u8]) {
        self.open().extend(content);
    }

    /// Columns the rows are ordered by.
    pub(crate) fn order(&mut self, columns: &[u16]) {
        let content: Vec<u8> = columns.iter().flat_map(|column| column.to_le_bytes()).collect();
        self.sized(0xA9, &content);
    }

    pub(crate) fn return_status(&mut self, status: i32) {
        let out = self.open();
        out.push(0x79);
        out.extend(status.to_le_bytes());
    }

    pub(crate) fn return_value(&mut self, ordinal: u16, name: &str, ty: &Type, value: &Value) -> Result<(), Failure> {
        let out = self.open();
        out.push(0xAC);
        out.extend(ordinal.to_le_bytes());
        b_varchar(out, name);
        out.push(1);
        out.extend(0_u32.to_le_bytes());
        out.extend(1_u16.to_le_bytes());
        // A long value comes back as the (max) type of its kind.
        let ty = match ty {
            Type::Text => &Type::VarChar(crate::types::MAX),
            Type::NText => &Type::NVarChar(crate::types::MAX),
            Type::Image => &Type::VarBinary(crate::types::MAX),
            other => other,
        };
        write_type(out, ty, true, Collation::default());
        write_value(out, ty, true, Collation::default(), value);
        self.flush_full()
    }
}

fn token(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    out.push(kind);
    out.extend((content.len() as u16).to_le_bytes());
    out.extend(content);
}

fn message(out: &mut Vec<u8>, kind: u8, error: &SqlError) {
    let mut content = Vec::new();
    content.extend(error.number.to_le_bytes());
    content.extend([error.state, error.class]);
    us_varchar(&mut content, &error.message.chars().take(2000).collect::<String>());
    b_varchar(&mut content, "fixture");
    b_varchar(&mut content, &error.procedure);
    content.extend(error.line.to_le_bytes());
    token(out, kind, &content);
}
