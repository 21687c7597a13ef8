//! Running statements: what each does and what the client is told.

use std::time::Duration;

use rusqlite::params;

use super::emit::Emit;
use super::parse::{Parsed, Parser, batch};
use super::scope::Scope;
use super::tree::*;
use crate::errors::{Failure, SqlError};
use crate::out::{COUNT, Column, ERROR, IN_TRANSACTION, Out};
use crate::session::{Isolation, Session};
use crate::types::Type;
use crate::value::Value;

type Done<T> = Result<T, Failure>;

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

/// Options that change nothing here.
const HARMLESS: &[&str] = &[
    "ANSI_NULLS",
    "ANSI_NULL_DFLT_ON",
    "ANSI_NULL_DFLT_OFF",
    "ANSI_PADDING",
    "ANSI_WARNINGS",
    "ANSI_DEFAULTS",
    "ARITHABORT",
    "ARITHIGNORE",
    "CONCAT_NULL_YIELDS_NULL",
    "CURSOR_CLOSE_ON_COMMIT",
    "DATEFIRST",
    "DATEFORMAT",
    "DEADLOCK_PRIORITY",
    "LANGUAGE",
    "NUMERIC_ROUNDABORT",
    "QUOTED_IDENTIFIER",
    "TEXTSIZE",
    "STATISTICS",
    "CONTEXT_INFO",
    "QUERY_GOVERNOR_COST_LIMIT",
    "ROWCOUNT",
    "NO_BROWSETABLE",
];

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
    fn tell(&mut self, error: &SqlError, out: &mut Out) {
        self.last_error = error.number;
        let mut error = error.clone();
        if error.procedure.is_empty() {
            error.procedure = self.frames.last().map(|frame| frame.procedure.clone()).unwrap_or_default();
        }
        out.error(&error);
    }

    fn status(&self) -> u16 {
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
    fn run_told(&mut self, statement: &Statement, out: &mut Out) -> Done<Flow> {
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

    fn in_try(&self) -> bool {
        self.seed & TRY_BIT != 0
    }

    fn roll_back_told(&mut self, out: &mut Out) {
        let had = self.transactions > 0;
        self.abandon();
        if had {
            out.environment_bytes(10, &[], &1_u64.to_le_bytes());
        }
    }

    fn run(&mut self, statement: &Statement, out: &mut Out) -> Done<Flow> {
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

    fn run_ddl(&mut self, kind: &Kind) -> Done<()> {
        match kind {
            Kind::CreateTable(name, columns, constraints) => self.create_table(name, columns, constraints)?,
            Kind::AlterTable(name, alter) => self.alter_table(name, alter)?,
            Kind::CreateIndex { name, table, unique, clustered, columns, included } => {
                let table = self.target(&Target::Table(table.clone()))?;
                self.create_key(&table, name, None, *unique, *clustered, columns, included)?;
            }
            Kind::CreateSchema(name) => {
                let sql = "INSERT INTO fx_schemas SELECT max(max(schema_id), 4) + 1, ?1 FROM fx_schemas";
                self.db.execute(sql, [name]).map_err(|_| {
                    SqlError::new(2714, format!("There is already an object named '{name}' in the database."))
                })?;
            }
            Kind::CreateView { name, columns, query, text } => self.create_view(name, columns, query, text)?,
            Kind::CreateProcedure { name, parameters, text, replace, alter, .. } => {
                self.create_procedure(name, parameters, text, *replace || *alter)?;
            }
            Kind::CreateTrigger { name, table, text } => {
                let table = self.target(&Target::Table(table.clone()))?;
                self.record_object(&table.schema, &name.object, "TR", None, table.object_id, Some(text))?;
            }
            Kind::CreateType(name, columns, constraints) => self.create_type(name, columns, constraints)?,
            Kind::Drop { what, names, if_exists, on } => self.drop_objects(what, names, *if_exists, on.as_ref())?,
            Kind::Truncate(name) => {
                self.truncate(name)?;
            }
            other => return Err(SqlError::unknown(&format!("{other:?}")).into()),
        }
        Ok(())
    }

    /// Runs a part that writes: alone it is its own transaction, inside one it is undone alone.
    pub(crate) fn in_statement<T>(
        &mut self,
        out: &mut Out,
        part: impl FnOnce(&mut Self, &mut Out) -> Done<T>,
    ) -> Done<T> {
        if self.doomed {
            return Err(SqlError::new(3930, "The current transaction cannot be committed and cannot support operations that write to the log file. Roll back the transaction.").into());
        }
        if self.implicit && self.transactions == 0 {
            self.begin_told(out);
        }
        let alone = self.before_write(out)?;
        if !alone {
            self.db.execute_batch("SAVEPOINT fx_statement")?;
        }
        let result = part(self, out);
        match (&result, alone) {
            (Ok(_), true) => self.end(true)?,
            (Ok(_), false) => self.db.execute_batch("RELEASE fx_statement")?,
            (Err(_), true) => self.abandon(),
            // The error may have ended the transaction already.
            (Err(_), false) if self.opened => {
                self.db.execute_batch("ROLLBACK TO fx_statement; RELEASE fx_statement")?;
            }
            (Err(_), false) => {}
        }
        result
    }

    fn run_write(
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

    fn run_query(&mut self, query: &Query, out: &mut Out) -> Done<Flow> {
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

    fn select_into(&mut self, into: &Name, query: &Query) -> Done<u64> {
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

    fn run_assignment(&mut self, query: &Query, select: &Select, out: &mut Out) -> Done<Flow> {
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
    fn run_format_only(&mut self, statement: &Statement, out: &mut Out) -> Done<Flow> {
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

    fn holds(&mut self, condition: &Expr) -> Done<bool> {
        self.before_read()?;
        let mut emit = Emit::new(self);
        let piece = emit.expr(condition, &Scope::default())?;
        let params = emit.params;
        let rows = self.rows_of_sql(&format!("SELECT {}", piece.sql), &params)?;
        Ok(rows.first().and_then(|row| row[0].to_integer()).unwrap_or(0) != 0)
    }

    fn run_while(&mut self, condition: &Expr, body: &Statement, out: &mut Out) -> Done<Flow> {
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

    fn run_try(&mut self, body: &[Statement], handler: &[Statement], out: &mut Out) -> Done<Flow> {
        let outer = self.seed & TRY_BIT;
        self.seed |= TRY_BIT;
        let result = self.run_all(body, out);
        self.seed = self.seed & !TRY_BIT | outer;
        match result {
            Err(Failure::Sql(error)) => {
                if error.ends_transaction() {
                    self.roll_back_told(out);
                } else if self.abort_on_error && self.transactions > 0 {
                    self.doomed = true;
                }
                let before = self.caught.replace(error);
                let flow = self.run_all(handler, out);
                self.caught = before;
                flow
            }
            other => other,
        }
    }

    fn raise(&mut self, arguments: &[Expr], out: &mut Out) -> Done<()> {
        let mut values = Vec::new();
        for argument in arguments {
            values.push(Emit::constant(self, argument)?.1);
        }
        let mut text = values.first().map(Value::to_text).unwrap_or_default();
        for value in values.iter().skip(3) {
            for mark in ["%s", "%d", "%i"] {
                if let Some(at) = text.find(mark) {
                    text.replace_range(at..at + 2, &value.to_text());
                    break;
                }
            }
        }
        let class = values.get(1).and_then(Value::to_integer).unwrap_or(16).clamp(0, 25) as u8;
        let state = values.get(2).and_then(Value::to_integer).unwrap_or(1).clamp(0, 255) as u8;
        let error = SqlError { class, state, ..SqlError::new(50_000, text) };
        if class <= 10 {
            out.info(&error);
            return Ok(());
        }
        Err(error.into())
    }

    fn thrown(&mut self, parts: Option<&(Expr, Expr, Expr)>) -> Done<SqlError> {
        let Some((number, text, state)) = parts else {
            return self.caught.clone().ok_or_else(|| {
                SqlError::new(10_704, "To rethrow an error, a THROW statement must be used inside a CATCH block.")
                    .into()
            });
        };
        let number = Emit::constant(self, number)?.1.to_integer().unwrap_or(50_000) as i32;
        let text = Emit::constant(self, text)?.1.to_text();
        let state = Emit::constant(self, state)?.1.to_integer().unwrap_or(1) as u8;
        // THROW ends the batch; class 16 alone would not.
        Ok(SqlError { state, ..SqlError::new(number, text) })
    }

    pub(crate) fn begin_told(&mut self, out: &mut Out) {
        self.transactions += 1;
        self.server.opened(self.id, self.transactions);
        if self.transactions == 1 {
            self.transaction_id += 1;
            out.environment_bytes(8, &1_u64.to_le_bytes(), &[]);
        }
    }

    pub(crate) fn commit_told(&mut self, out: &mut Out) -> Done<()> {
        if self.transactions == 0 {
            return Err(
                SqlError::new(3902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.").into()
            );
        }
        if self.doomed {
            self.roll_back_told(out);
            return Err(
                SqlError::new(3930, "The current transaction cannot be committed. Roll back the transaction.").into()
            );
        }
        if self.transactions > 1 {
            self.transactions -= 1;
            return Ok(());
        }
        self.end(true)?;
        out.environment_bytes(9, &[], &1_u64.to_le_bytes());
        Ok(())
    }

    fn run_transaction(&mut self, kind: &Kind, out: &mut Out) -> Done<()> {
        match kind {
            Kind::Begin(_) => self.begin_told(out),
            Kind::Commit => self.commit_told(out)?,
            Kind::Save(name) => {
                if self.transactions == 0 {
                    return Err(SqlError::new(
                        628,
                        "Cannot issue SAVE TRANSACTION when there is no active transaction.",
                    )
                    .into());
                }
                self.before_write(out)?;
                self.db.execute_batch(&format!("SAVEPOINT {}", super::scope::quoted(&format!("save {name}"))))?;
            }
            Kind::Rollback(name) => {
                if self.transactions == 0 {
                    return Err(SqlError::new(
                        3903,
                        "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.",
                    )
                    .into());
                }
                if let Some(name) = name {
                    let point = super::scope::quoted(&format!("save {name}"));
                    if self.opened && self.db.execute_batch(&format!("ROLLBACK TO {point}")).is_ok() {
                        return Ok(());
                    }
                }
                self.roll_back_told(out);
            }
            _ => {}
        }
        Ok(())
    }

    fn set_option(&mut self, option: &str, words: &[String]) -> Parsed<()> {
        let word = |at: usize| words.get(at).map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        let on = words.last().is_some_and(|word| word.eq_ignore_ascii_case("ON"));
        match option {
            "NOCOUNT" => self.no_count = on,
            "XACT_ABORT" => self.abort_on_error = on,
            "IMPLICIT_TRANSACTIONS" => self.implicit = on,
            "FMTONLY" => self.format_only = on,
            "NOEXEC" | "PARSEONLY" => self.no_execute = on,
            "ROWCOUNT" => self.row_limit = word(0).parse().unwrap_or(0),
            "LOCK_TIMEOUT" => {
                let limit: i64 = word(0).parse().map_err(|_| SqlError::syntax(&word(0)))?;
                self.lock_timeout = u64::try_from(limit).ok();
            }
            "TRANSACTION" => {
                self.isolation = match word(3).as_str() {
                    _ if word(2) == "SNAPSHOT" || word(1) == "SNAPSHOT" => Isolation::Snapshot,
                    _ if words.iter().any(|word| word == "SNAPSHOT") => Isolation::Snapshot,
                    _ if words.iter().any(|word| word == "SERIALIZABLE" || word == "REPEATABLE") => Isolation::Strict,
                    _ if words.iter().any(|word| word == "COMMITTED" || word == "UNCOMMITTED") => Isolation::Committed,
                    _ => return Err(SqlError::syntax("ISOLATION LEVEL")),
                };
            }
            "IDENTITY_INSERT" => {
                let mut parts: Vec<String> = words[..words.len().saturating_sub(1)].to_vec();
                let object = parts.pop().unwrap_or_default();
                let name = Name { database: None, schema: parts.pop(), object };
                let table = self.target(&Target::Table(name))?;
                if on && !table.columns.iter().any(|column| column.identity.is_some()) {
                    return Err(SqlError::new(
                        8106,
                        format!(
                            "Table '{}' does not have the identity property. Cannot perform SET operation.",
                            table.name
                        ),
                    ));
                }
                self.identity_insert = on.then_some(table.object_id);
            }
            other if HARMLESS.contains(&other) => {}
            other => return Err(SqlError::unknown(&format!("SET {other}"))),
        }
        Ok(())
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

    fn create_procedure(&mut self, name: &Name, parameters: &[Parameter], text: &str, replace: bool) -> Parsed<()> {
        let schema = name.schema.clone().unwrap_or_else(|| "dbo".into());
        if let Some((_, kind)) = self.object_named(&schema, &name.object)? {
            if !replace || kind != "P" {
                return Err(SqlError::new(
                    2714,
                    format!("There is already an object named '{}' in the database.", name.object),
                ));
            }
            self.drop_objects("PROCEDURE", std::slice::from_ref(name), true, None)?;
        }
        let id = self.record_object(&schema, &name.object, "P", None, 0, Some(text))?;
        for (at, parameter) in parameters.iter().enumerate() {
            let (length, precision, scale) = parameter.ty.sizes();
            let (system, mut user) = parameter.ty.ids();
            if let Type::Table(named) = &parameter.ty {
                let bare = Parser::new(named)?.name()?.object;
                let found =
                    self.db.query_row("SELECT user_type_id FROM fx_types WHERE name = ?1", [bare], |row| row.get(0));
                user = found.map_err(|_| {
                    SqlError::new(
                        2715,
                        format!("Column, parameter, or variable #{}: Cannot find data type {named}.", at + 1),
                    )
                })?;
            }
            self.db.execute(
                "INSERT INTO fx_parameters VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
                params![
                    id,
                    at as i64 + 1,
                    parameter.name,
                    parameter.ty.declared(),
                    parameter.ty.name(),
                    system,
                    user,
                    length,
                    precision,
                    scale,
                    parameter.output,
                    parameter.default.is_some()
                ],
            )?;
        }
        Ok(())
    }
}

/// Whether an expression reads a variable.
fn mentions(expr: &Expr, name: &str) -> bool {
    format!("{expr:?}").contains(&format!("Variable(\"{name}\")"))
}

/// Set in `seed` while a TRY runs; the low bits number the session's table variables.
const TRY_BIT: u64 = 1 << 63;

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
