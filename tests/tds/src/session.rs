//! One client's session: its database, variables, temporary tables, transaction and options.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use crate::errors::{Failure, SqlError};
use crate::out::{Column, Out};
use crate::server::{Server, now};
use crate::sql::catalog::TableInfo;
use crate::sql::scope::same;
use crate::sql::tree::{ColumnDef, Constraint, Declared, Name};
use crate::types::Type;
use crate::value::Value;

/// The variables of a batch or a procedure.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) variables: HashMap<String, (Type, Value)>,
    /// Table variables, by the name of the temporary table behind each.
    pub(crate) tables: HashMap<String, String>,
    pub(crate) procedure: String,
}

/// A statement prepared by the client.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) parameters: String,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    Committed,
    Snapshot,
    Strict,
}

#[expect(clippy::struct_excessive_bools, reason = "they are the session's options of that name")]
pub(crate) struct Session {
    pub(crate) server: Arc<Server>,
    pub(crate) id: i32,
    pub(crate) database: String,
    pub(crate) db: Rc<Connection>,
    pub(crate) login: String,
    pub(crate) host: String,
    pub(crate) program: String,
    pub(crate) frames: Vec<Frame>,
    pub(crate) temporary: Vec<TableInfo>,
    pub(crate) prepared: HashMap<i32, Prepared>,
    pub(crate) next_handle: i32,
    /// @@TRANCOUNT
    pub(crate) transactions: u32,
    /// Counts the transactions it began.
    pub(crate) transaction_id: i64,
    /// Whether SQLite has a transaction open for it: only from the first statement that needs one.
    pub(crate) opened: bool,
    /// Whether that one may write.
    pub(crate) writes: bool,
    pub(crate) isolation: Isolation,
    pub(crate) abort_on_error: bool,
    pub(crate) implicit: bool,
    pub(crate) doomed: bool,
    pub(crate) no_count: bool,
    pub(crate) format_only: bool,
    pub(crate) no_execute: bool,
    /// Milliseconds; none waits for ever.
    pub(crate) lock_timeout: Option<u64>,
    pub(crate) identity_insert: Option<i64>,
    pub(crate) identity: Option<i64>,
    pub(crate) row_count: u64,
    pub(crate) last_error: i32,
    pub(crate) caught: Option<SqlError>,
    pub(crate) row_limit: u64,
    pub(crate) nesting: u32,
    pub(crate) bulk: Option<crate::bulk::BulkTarget>,
    pub(crate) seed: u64,
}

impl Session {
    pub(crate) fn new(server: Arc<Server>, id: i32, database: &str) -> Result<Self, SqlError> {
        let db = server.open(database)?;
        Ok(Self {
            server,
            id,
            database: database.to_owned(),
            db: Rc::new(db),
            login: String::new(),
            host: String::new(),
            program: String::new(),
            frames: vec![Frame::default()],
            temporary: Vec::new(),
            prepared: HashMap::new(),
            next_handle: 1,
            transactions: 0,
            opened: false,
            writes: false,
            isolation: Isolation::Committed,
            abort_on_error: false,
            implicit: false,
            doomed: false,
            no_count: false,
            format_only: false,
            no_execute: false,
            lock_timeout: None,
            identity_insert: None,
            identity: None,
            row_count: 0,
            last_error: 0,
            caught: None,
            row_limit: 0,
            nesting: 0,
            bulk: None,
            seed: 0,
            transaction_id: 0,
        })
    }

    /// As a new log-in would find it, for connections that are used again.
    pub(crate) fn reset(&mut self) {
        self.abandon();
        self.isolation = Isolation::Committed;
        self.abort_on_error = false;
        self.implicit = false;
        self.no_count = false;
        self.format_only = false;
        self.lock_timeout = None;
        self.identity_insert = None;
        self.row_limit = 0;
        for table in std::mem::take(&mut self.temporary) {
            let _ = self.db.execute_batch(&format!("DROP TABLE IF EXISTS {}", table.sqlite));
        }
        self.prepared.clear();
        self.server.release_locks(self.id, false);
    }

    /// The moment, as a datetimeoffset is stored.
    #[expect(clippy::unused_self, reason = "a session's clock may one day be set by a test")]
    pub(crate) fn now(&self) -> Value {
        now()
    }

    fn frame(&self) -> &Frame {
        self.frames.last().expect("the batch's own frame stays")
    }

    pub(crate) fn frame_mut(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the batch's own frame stays")
    }

    pub(crate) fn variable(&self, name: &str) -> Option<(Type, Value)> {
        self.frame().variables.get(name).cloned()
    }

    pub(crate) fn declare(&mut self, name: &str, ty: Type, value: Value) {
        self.frame_mut().variables.insert(name.to_owned(), (ty, value));
    }

    pub(crate) fn assign(&mut self, name: &str, from: &Type, value: &Value) -> Result<(), SqlError> {
        use crate::sql::convert::{Why, convert};
        let Some((ty, _)) = self.variable(name) else {
            return Err(SqlError::new(137, format!("Must declare the scalar variable \"{name}\".")));
        };
        let value = convert(value, from, &ty, 0, Why::Cast)?;
        self.declare(name, ty, value);
        Ok(())
    }

    pub(crate) fn table_variable(&self, name: &str) -> Result<&TableInfo, SqlError> {
        let behind = self.frame().tables.get(name);
        behind
            .and_then(|behind| self.temporary.iter().find(|table| table.name == *behind))
            .ok_or_else(|| SqlError::new(1087, format!("Must declare the table variable \"{name}\".")))
    }

    /// Makes the table behind a table variable.
    pub(crate) fn declare_table(
        &mut self,
        name: &str,
        columns: &[ColumnDef],
        constraints: &[Constraint],
    ) -> Result<(), SqlError> {
        self.seed += 1;
        let behind = format!("#{name}#{}", self.seed);
        let full = Name { database: None, schema: None, object: behind.clone() };
        self.create_table(&full, columns, constraints)?;
        self.frame_mut().tables.insert(name.to_owned(), behind);
        Ok(())
    }

    pub(crate) fn declare_typed_table(&mut self, name: &str, ty: &Name) -> Result<TableInfo, SqlError> {
        let found = crate::sql::catalog::find(self, ty)?.filter(|table| table.kind == "TT");
        let Some(table) = found else {
            return Err(SqlError::new(2715, format!("Column, parameter, or variable #1: Cannot find data type {ty}.")));
        };
        let defs: Vec<ColumnDef> = table
            .columns
            .iter()
            .map(|info| ColumnDef {
                name: info.column.name.clone(),
                ty: info.column.ty.clone(),
                nullable: Some(info.column.nullable),
                collation: Some(info.column.collation),
                identity: info.identity,
                default: None,
                computed: None,
                sparse: false,
                keys: Vec::new(),
                checks: Vec::new(),
                references: None,
            })
            .collect();
        self.declare_table(name, &defs, &[])?;
        self.table_variable(name).cloned()
    }

    pub(crate) fn declare_any(&mut self, name: &str, declared: &Declared) -> Result<(), SqlError> {
        match declared {
            Declared::Scalar(ty) => self.declare(name, ty.clone(), Value::Null),
            Declared::Table(columns, constraints) => self.declare_table(name, columns, constraints)?,
            Declared::TableType(ty) => {
                self.declare_typed_table(name, ty)?;
            }
        }
        Ok(())
    }

    /// The functions whose names begin with two signs.
    pub(crate) fn global(&self, name: &str) -> Result<(Value, Type), SqlError> {
        let int = |value: i64| Ok((Value::Integer(value), Type::Int));
        match name {
            "@@version" => Ok((
                Value::text("Microsoft SQL Server 2022 (RTM) - 16.0.1000.6 (X64) \n\tTDS fixture, not a SQL Server"),
                Type::NVarChar(300),
            )),
            "@@spid" => Ok((Value::Integer(self.id.into()), Type::SmallInt)),
            "@@trancount" => int(self.transactions.into()),
            "@@rowcount" => int(self.row_count as i64),
            "@@error" => int(self.last_error.into()),
            "@@identity" => Ok((
                self.identity.map_or(Value::Null, |value| Value::text(value.to_string())),
                Type::Decimal { precision: 38, scale: 0, numeric: true },
            )),
            "@@servername" | "@@servicename" => Ok((Value::text("fixture"), Type::NVarChar(128))),
            "@@language" => Ok((Value::text("us_english"), Type::NVarChar(128))),
            "@@microsoftversion" => int(0x1000_03E8),
            "@@max_precision" => Ok((Value::Integer(38), Type::TinyInt)),
            "@@options" => int(5496),
            "@@langid" | "@@procid" => int(0),
            "@@nestlevel" => int(self.nesting.into()),
            "@@lock_timeout" => int(self.lock_timeout.map_or(-1, |value| value as i64)),
            "@@datefirst" => Ok((Value::Integer(7), Type::TinyInt)),
            "@@textsize" => int(i32::MAX.into()),
            "@@fetch_status" => int(-1),
            "@@dbts" => Ok((Value::Bytes(self.server.version().to_be_bytes().to_vec()), Type::Binary(8))),
            _ => Err(SqlError::new(137, format!("Must declare the scalar variable \"{name}\"."))),
        }
    }

    /// A name of three parts must mean the session's own database.
    pub(crate) fn check_database(&self, name: &Name) -> Result<(), SqlError> {
        match &name.database {
            Some(database) if !same(database, &self.database) && !same(database, "tempdb") => {
                Err(SqlError::unknown(&format!("a name in another database, {name}")))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn use_database(&mut self, name: &str, out: &mut Out) -> Result<(), SqlError> {
        if !same(name, &self.database) {
            if self.transactions > 0 {
                return Err(SqlError::unknown("USE of another database inside a transaction"));
            }
            let db = self.server.open(name)?;
            self.db = Rc::new(db);
            self.temporary.clear();
        }
        let old = std::mem::replace(&mut self.database, name.to_owned());
        self.server.moved(self.id, name);
        out.environment(1, name, &old);
        out.info(&SqlError {
            class: 10,
            state: 2,
            ..SqlError::info(5701, format!("Changed database context to '{name}'."))
        });
        Ok(())
    }

    /// Opens SQLite's transaction before a statement that only reads, where the isolation wants one.
    pub(crate) fn before_read(&mut self) -> Result<(), SqlError> {
        if self.transactions > 0 && !self.opened && self.isolation != Isolation::Committed {
            self.db.execute_batch("BEGIN DEFERRED")?;
            self.opened = true;
        }
        Ok(())
    }

    /// Takes SQLite's one write lock before a statement that writes; true when the statement must commit itself.
    pub(crate) fn before_write(&mut self, out: &mut Out) -> Result<bool, Failure> {
        if self.opened {
            if !self.writes {
                // A transaction that has read takes the lock with its first write; what others wrote meanwhile is a conflict.
                self.wait_for_lock("UPDATE fx_schemas SET name = name WHERE schema_id = 1", out)?;
                self.writes = true;
            }
            return Ok(false);
        }
        self.wait_for_lock("BEGIN IMMEDIATE", out)?;
        self.opened = true;
        self.writes = true;
        Ok(self.transactions == 0)
    }

    fn wait_for_lock(&self, sql: &str, out: &mut Out) -> Result<(), Failure> {
        let mut waited = 0;
        loop {
            let error = match self.db.execute_batch(sql) {
                Ok(()) => return Ok(()),
                Err(error) => SqlError::from(error),
            };
            if error.number != 1222 {
                return Err(error.into());
            }
            if self.lock_timeout.is_some_and(|limit| waited >= limit) {
                return Err(error.into());
            }
            out.listen(Duration::from_millis(5))?;
            // SQLite itself has waited as long as its own limit.
            waited += 25;
        }
    }

    /// Ends SQLite's transaction with everything in it.
    pub(crate) fn end(&mut self, keep: bool) -> Result<(), SqlError> {
        let opened = std::mem::take(&mut self.opened);
        self.writes = false;
        self.transactions = 0;
        self.doomed = false;
        self.server.opened(self.id, 0);
        if opened {
            let result = self.db.execute_batch(if keep { "COMMIT" } else { "ROLLBACK" });
            if keep && result.is_err() {
                let _ = self.db.execute_batch("ROLLBACK");
            }
            result?;
        }
        self.server.release_locks(self.id, true);
        Ok(())
    }

    /// Gives up whatever transaction there is.
    pub(crate) fn abandon(&mut self) {
        let _ = self.end(false);
    }

    pub(crate) fn lock_mode(&self, resource: &str) -> &'static str {
        self.server.lock_mode(self.id, &self.database, resource)
    }

    /// The columns the first query of a text would yield.
    pub(crate) fn describe(&self, text: &str, parameters: &str) -> Result<Vec<Column>, SqlError> {
        let mut probe = Session::new(self.server.clone(), self.id, &self.database)?;
        probe.temporary.clone_from(&self.temporary);
        probe.db = self.db.clone();
        if !parameters.trim().is_empty() {
            for parameter in crate::sql::parse::Parser::new(parameters)?.parameters()? {
                probe.declare(&parameter.name, parameter.ty, Value::Null);
            }
        }
        crate::sql::run::first_columns(&mut probe, text)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A probe shares its connection and has nothing open.
        if self.opened {
            self.abandon();
        }
    }
}
