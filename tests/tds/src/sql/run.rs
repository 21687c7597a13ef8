//! Running statements: what each does and what the client is told.

use std::time::Duration;

use super::emit::Emit;
use super::parse::{Parsed, batch};
use super::scope::Scope;
use super::tree::*;
use crate::errors::{Failure, SqlError};
use crate::out::{COUNT, Column, ERROR, IN_TRANSACTION, Out};
use crate::session::Session;
use crate::types::Type;
use crate::value::Value;

pub(super) type Done<T> = Result<T, Failure>;

/// What happens after a statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Flow {
    Next,
    Break,
    Continue,
    Return(i32),
    /// An error ended the batch; the client has been told.
    Stop,
}

/// How many rounds a loop may make.
const ROUNDS_MAX: u32 = 10_000_000;
/// How deep procedures may call each other.
const NESTING_MAX: u32 = 32;

/// Runs a whole text.
pub(crate) fn run_text(session: &mut Session, text: &str, out: &mut Out) -> Done<Flow> {
    let statements = match batch(text) {
        Ok(statements) => statements,
        Err(error) => {
            session.tell(&error, out);
            out.done(ERROR, 0, 0);
            return Ok(Flow::Stop);
        }
    };
    session.run_all(&statements, out)
}

/// The columns of the first query in a text, without running anything.
pub(crate) fn first_columns(session: &mut Session, text: &str) -> Parsed<Vec<Column>> {
    Ok(first_of(session, &batch(text)?, 0)?.unwrap_or_default())
}

fn first_of(session: &mut Session, statements: &[Statement], depth: u32) -> Parsed<Option<Vec<Column>>> {
    for statement in statements {
        let found = match &statement.kind {
            Kind::Query(query) => Some(Emit::new(session).query(query, None)?.1),
            Kind::Declare(all) => {
                for (name, declared, _) in all {
                    session.declare_any(name, declared)?;
                }
                None
            }
            Kind::Block(body) | Kind::Try(body, _) => first_of(session, body, depth)?,
            Kind::If(_, then, _) => first_of(session, std::slice::from_ref(&**then), depth)?,
            Kind::Exec { name, .. } if depth < NESTING_MAX => {
                let text = session.definition_of(name)?;
                match batch(&text)?.pop().map(|statement| statement.kind) {
                    Some(Kind::CreateProcedure { parameters, body, .. }) => {
                        for parameter in parameters {
                            session.declare(&parameter.name, parameter.ty, Value::Null);
                        }
                        first_of(session, &batch(&body)?, depth + 1)?
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

impl Session {
    pub(super) fn tell(&mut self, error: &SqlError, out: &mut Out) {
        self.last_error = error.number;
        let mut error = error.clone();
        if error.procedure.is_empty() {
            error.procedure = self.frames.last().map(|frame| frame.procedure.clone()).unwrap_or_default();
        }
        out.error(&error);
    }

    pub(super) fn status(&self) -> u16 {
        if self.transactions > 0 { IN_TRANSACTION } else { 0 }
    }

    pub(crate) fn run_all(&mut self, statements: &[Statement], out: &mut Out) -> Done<Flow> {
        for statement in statements {
            let flow = self.run_told(statement, out)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// Runs a statement; its error is told to the client unless a TRY is around it.
    pub(super) fn run_told(&mut self, statement: &Statement, out: &mut Out) -> Done<Flow> {
        out.poll()?;
        match self.run(statement, out) {
            Ok(flow) => Ok(flow),
            Err(Failure::Sql(error)) => {
                let error = error.at_line(statement.line);
                if self.in_try() {
                    return Err(Failure::Sql(error));
                }
                self.tell(&error, out);
                out.done(ERROR | self.status(), 0, 0);
                let aborts = self.abort_on_error && error.class > 10;
                if error.ends_transaction() || aborts && self.transactions > 0 {
                    self.roll_back_told(out);
                }
                let ends = aborts || error.ends_batch() || matches!(statement.kind, Kind::Throw(_));
                Ok(if ends { Flow::Stop } else { Flow::Next })
            }
            Err(other) => Err(other),
        }
    }

    pub(super) fn in_try(&self) -> bool {
        self.seed & TRY_BIT != 0
    }

    pub(super) fn roll_back_told(&mut self, out: &mut Out) {
        let had = self.transactions > 0;
        self.abandon();
        if had {
            out.environment_bytes(10, &[], &1_u64.to_le_bytes());
        }
    }

    pub(super) fn run(&mut self, statement: &Statement, out: &mut Out) -> Done<Flow> {
        if self.no_execute && !matches!(statement.kind, Kind::SetOption(..)) {
            return Ok(Flow::Next);
        }
        if self.format_only {
            return self.run_format_only(statement, out);
        }
        let flow = match &statement.kind {
            Kind::Query(query) => return self.run_query(query, out),
            Kind::Insert(insert) => return self.run_write(0xC3, out, |session, out| session.insert(insert, out)),
            Kind::Update(update) => return self.run_write(0xC5, out, |session, out| session.update(update, out)),
            Kind::Delete(delete) => return self.run_write(0xC4, out, |session, out| session.delete(delete, out)),
            Kind::Merge(merge) => return self.run_write(0x117, out, |session, out| session.merge(merge, out)),
            Kind::InsertBulk(table, columns, options) => {
                self.begin_bulk(table, columns, options)?;
                out.done(self.status(), 0, 0);
                return Ok(Flow::Next);
            }
            Kind::If(condition, then, otherwise) => {
                return if self.holds(condition)? {
                    self.run_told(then, out)
                } else if let Some(otherwise) = otherwise {
                    self.run_told(otherwise, out)
                } else {
                    Ok(Flow::Next)
                };
            }
            Kind::While(condition, body) => return self.run_while(condition, body, out),
            Kind::Break => return Ok(Flow::Break),
            Kind::Continue => return Ok(Flow::Continue),
            Kind::Block(body) => return self.run_all(body, out),
            Kind::Try(body, handler) => return self.run_try(body, handler, out),
            Kind::Return(value) => {
                let status = match value {
                    Some(value) => Emit::constant(self, value)?.1.to_integer().unwrap_or(0) as i32,
                    None => 0,
                };
                return Ok(Flow::Return(status));
            }
            Kind::Exec { status, name, arguments } => return self.run_exec(status.as_deref(), name, arguments, out),
            Kind::ExecText(text) => {
                let text = Emit::constant(self, text)?.1.to_text();
                return self.nested(|session| {
                    session.frames.push(crate::session::Frame::default());
                    let flow = run_text(session, &text, out);
                    session.drop_frame();
                    Ok(if flow? == Flow::Stop { Flow::Stop } else { Flow::Next })
                });
            }
            Kind::Declare(all) => {
                for (name, declared, value) in all {
                    self.declare_any(name, declared)?;
                    if let Some(value) = value {
                        let (ty, value) = Emit::constant(self, value)?;
                        self.assign(name, &ty, &value)?;
                    }
                }
                return Ok(Flow::Next);
            }
            Kind::SetVariable(name, operation, value) => {
                let value = if operation.is_empty() {
                    value.clone()
                } else {
                    Expr::Binary(operation, Box::new(Expr::Variable(name.clone())), Box::new(value.clone()))
                };
                let (ty, value) = Emit::constant(self, &value)?;
                self.assign(name, &ty, &value)?;
                return Ok(Flow::Next);
            }
            Kind::SetOption(option, words) => {
                self.set_option(option, words)?;
                Flow::Next
            }
            Kind::Use(name) => {
                self.use_database(name, out)?;
                Flow::Next
            }
            Kind::Begin(_) | Kind::Commit | Kind::Rollback(_) | Kind::Save(_) => {
                self.run_transaction(&statement.kind, out)?;
                Flow::Next
            }
            Kind::Print(value) => {
                let text = Emit::constant(self, value)?.1.to_text();
                out.info(&SqlError::info(0, text));
                return Ok(Flow::Next);
            }
            Kind::Raise(arguments) => {
                self.raise(arguments, out)?;
                Flow::Next
            }
            Kind::Throw(parts) => return Err(self.thrown(parts.as_ref())?.into()),
            Kind::WaitDelay(value) => {
                let text = Emit::constant(self, value)?.1.to_text();
                let moment = crate::value::Moment::parse(&text).ok_or_else(|| SqlError::syntax(&text))?;
                out.listen(Duration::from_millis((moment.ticks / 10_000) as u64))?;
                Flow::Next
            }
            Kind::Kill(value) => {
                let id = Emit::constant(self, value)?.1.to_integer().unwrap_or(0) as i32;
                self.server.kill(self.id, id)?;
                Flow::Next
            }
            Kind::CreateDatabase(name) => {
                self.server.create_database(name)?;
                Flow::Next
            }
            Kind::Accepted => Flow::Next,
            _ => {
                self.in_statement(out, |session, _| session.run_ddl(&statement.kind))?;
                Flow::Next
            }
        };
        self.last_error = 0;
        out.done(self.status(), 0, 0);
        Ok(flow)
    }

    pub(super) fn run_write(
        &mut self,
        command: u16,
        out: &mut Out,
        part: impl FnOnce(&mut Self, &mut Out) -> Done<u64>,
    ) -> Done<Flow> {
        let count = self.in_statement(out, part)?;
        self.row_count = count;
        self.last_error = 0;
        let counted = if self.no_count { 0 } else { COUNT };
        out.done(counted | self.status(), command, count);
        Ok(Flow::Next)
    }

    pub(super) fn run_query(&mut self, query: &Query, out: &mut Out) -> Done<Flow> {
        if let Body::Select(select) = &query.body {
            if select.items.iter().any(|item| matches!(item, Item::Assign(..))) {
                return self.run_assignment(query, select, out);
            }
            if let Some(into) = &select.into {
                let mut query = query.clone();
                if let Body::Select(select) = &mut query.body {
                    select.into = None;
                }
                return self.run_write(0xC3, out, |session, _| session.select_into(into, &query));
            }
        }
        let locks = matches!(&query.body, Body::Select(select) if select.locks);
        if locks && self.transactions > 0 {
            self.before_write(out)?;
        }
        self.before_read()?;
        let mut emit = Emit::new(self);
        let (sql, columns) = emit.query(query, None)?;
        let params = emit.params;
        let db = self.db.clone();
        let mut statement = db.prepare_cached(&sql)?;
        for (at, value) in params.iter().enumerate() {
            statement.raw_bind_parameter(at + 1, value)?;
        }
        out.columns(&columns)?;
        let order = ordered(query, &columns);
        if !order.is_empty() {
            out.order(&order);
        }
        let mut rows = statement.raw_query();
        let mut count = 0;
        let mut values = Vec::with_capacity(columns.len());
        while let Some(row) = rows.next()? {
            values.clear();
            for at in 0..columns.len() {
                values.push(Value::of(row.get_ref(at)?));
            }
            out.row(&columns, &values)?;
            count += 1;
            if count == self.row_limit {
                break;
            }
        }
        drop(rows);
        self.row_count = count;
        self.last_error = 0;
        let counted = if self.no_count { 0 } else { COUNT };
        out.done(counted | self.status(), 0xC1, count);
        Ok(Flow::Next)
    }

    pub(super) fn select_into(&mut self, into: &Name, query: &Query) -> Done<u64> {
        let (_, columns) = Emit::new(self).query(query, None)?;
        self.table_like(into, &columns)?;
        let table = self.target(&Target::Table(into.clone()))?;
        let (_, rows) = self.rows_of(query)?;
        let count = rows.len() as u64;
        let rows = rows
            .into_iter()
            .map(|row| {
                let cells = row.into_iter().enumerate();
                cells.map(|(at, value)| if table.columns[at].column.computed { None } else { Some(value) }).collect()
            })
            .collect();
        self.store(&table, rows)?;
        Ok(count)
    }

    pub(super) fn run_assignment(&mut self, query: &Query, select: &Select, out: &mut Out) -> Done<Flow> {
        self.before_read()?;
        let (columns, rows) = self.rows_of(query)?;
        let count = rows.len();
        let grows = count > 1
            && select.items.iter().any(|item| matches!(item, Item::Assign(name, expr) if mentions(expr, name)));
        for (at, mut row) in rows.into_iter().enumerate() {
            if grows {
                // A variable that grows from row to row is worked out one row at a time.
                let number = |value: usize| Some(Expr::Literal(Value::Integer(value as i64), Type::Int));
                let one = Query { offset: number(at), fetch: number(1), ..query.clone() };
                if let Some(anew) = self.rows_of(&one)?.1.pop() {
                    row = anew;
                }
            }
            for ((item, column), value) in select.items.iter().zip(&columns).zip(&row) {
                match item {
                    Item::Assign(name, _) => self.assign(name, &column.ty, value)?,
                    _ => {
                        return Err(SqlError::new(
                            141,
                            "A SELECT statement that assigns a value to a variable must not be combined with data-retrieval operations.",
                        )
                        .into());
                    }
                }
            }
        }
        self.row_count = count as u64;
        let _ = out;
        Ok(Flow::Next)
    }

    /// Only the shape of results is wanted.
    pub(super) fn run_format_only(&mut self, statement: &Statement, out: &mut Out) -> Done<Flow> {
        match &statement.kind {
            Kind::Query(query) => {
                let (_, columns) = Emit::new(self).query(query, None)?;
                out.columns(&columns)?;
                out.done(COUNT, 0xC1, 0);
            }
            Kind::SetOption(option, words) => {
                self.set_option(option, words)?;
                out.done(self.status(), 0, 0);
            }
            Kind::Declare(all) => {
                for (name, declared, _) in all {
                    self.declare_any(name, declared)?;
                }
            }
            Kind::Block(body) => return self.run_all(body, out),
            Kind::If(_, then, _) => return self.run_told(then, out),
            Kind::ExecText(text) => {
                let text = Emit::constant(self, text)?.1.to_text();
                return self.nested(|session| run_text(session, &text, out));
            }
            _ => out.done(self.status(), 0, 0),
        }
        Ok(Flow::Next)
    }

    pub(super) fn holds(&mut self, condition: &Expr) -> Done<bool> {
        self.before_read()?;
        let mut emit = Emit::new(self);
        let piece = emit.expr(condition, &Scope::default())?;
        let params = emit.params;
        let rows = self.rows_of_sql(&format!("SELECT {}", piece.sql), &params)?;
        Ok(rows.first().and_then(|row| row[0].to_integer()).unwrap_or(0) != 0)
    }

    pub(super) fn run_while(&mut self, condition: &Expr, body: &Statement, out: &mut Out) -> Done<Flow> {
        for _ in 0..ROUNDS_MAX {
            if !self.holds(condition)? {
                return Ok(Flow::Next);
            }
            match self.run_told(body, out)? {
                Flow::Next | Flow::Continue => {}
                Flow::Break => return Ok(Flow::Next),
                other => return Ok(other),
            }
        }
        Err(SqlError::new(50_000, "The loop has no end.").into())
    }

    pub(crate) fn nested<T>(&mut self, part: impl FnOnce(&mut Self) -> Done<T>) -> Done<T> {
        if self.nesting >= NESTING_MAX {
            return Err(SqlError::new(
                217,
                "Maximum stored procedure, function, trigger, or view nesting level exceeded (limit 32).",
            )
            .into());
        }
        self.nesting += 1;
        let result = part(self);
        self.nesting -= 1;
        result
    }

    /// Ends a frame with its table variables.
    pub(crate) fn drop_frame(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        for behind in frame.tables.into_values() {
            let name = Name { database: None, schema: None, object: behind };
            let _ = self.drop_objects("TABLE", &[name], true, None);
        }
    }
}

/// Whether an expression reads a variable.
fn mentions(expr: &Expr, name: &str) -> bool {
    format!("{expr:?}").contains(&format!("Variable(\"{name}\")"))
}

/// Set in `seed` while a TRY runs; the low bits number the session's table variables.
pub(super) const TRY_BIT: u64 = 1 << 63;

/// The columns an ORDER BY names by their place, for the ORDER token.
fn ordered(query: &Query, columns: &[Column]) -> Vec<u16> {
    let mut all = Vec::new();
    for (expr, _) in &query.order {
        let Expr::Column(parts) = expr else { return Vec::new() };
        let Some(name) = parts.last() else { return Vec::new() };
        match columns.iter().position(|column| super::scope::same(&column.name, name)) {
            Some(at) => all.push(at as u16 + 1),
            None => return Vec::new(),
        }
    }
    all
}
