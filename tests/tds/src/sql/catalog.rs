//! What there is: the fixture's own tables beside the user's, found by name, and shown as the server's system views.

use rusqlite::{Connection, OptionalExtension, params};

use super::parse::{Parsed, Parser};
use super::scope::quoted;
use super::tree::Name;
use super::views::VIEWS;
use crate::errors::SqlError;
use crate::out::Column;
use crate::session::Session;
use crate::types::{Collation, SYSTEM_TYPES, Type};
use crate::value::Value;

#[derive(Clone, Debug)]
pub(crate) struct ColumnInfo {
    pub(crate) column: Column,
    pub(crate) default: Option<String>,
    pub(crate) identity: Option<(i64, i64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct TableInfo {
    /// Its name in SQLite's SQL, quoted.
    pub(crate) sqlite: String,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) object_id: i64,
    /// `U` or `V`, or `TT` for a table type.
    pub(crate) kind: String,
    pub(crate) columns: Vec<ColumnInfo>,
}

impl TableInfo {
    pub(crate) fn position(&self, name: &str) -> Parsed<usize> {
        self.columns
            .iter()
            .position(|column| super::scope::same(&column.column.name, name))
            .ok_or_else(|| SqlError::no_column(name))
    }
}

const OWN_TABLES: &str = "
CREATE TABLE IF NOT EXISTS fx_schemas(schema_id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE);
INSERT OR IGNORE INTO fx_schemas VALUES (1,'dbo'),(2,'guest'),(3,'INFORMATION_SCHEMA'),(4,'sys');
CREATE TABLE IF NOT EXISTS fx_objects(object_id INTEGER PRIMARY KEY AUTOINCREMENT, schema TEXT COLLATE NOCASE,
  name TEXT COLLATE NOCASE, type TEXT, sqlite TEXT, parent INTEGER DEFAULT 0, definition TEXT, created TEXT,
  disabled INTEGER DEFAULT 0);
INSERT OR IGNORE INTO fx_objects(object_id, schema, name, type) VALUES (1000000, 'sys', 'fx', 'IT');
CREATE INDEX IF NOT EXISTS fx_objects_name ON fx_objects(name, schema);
CREATE TABLE IF NOT EXISTS fx_columns(object_id INTEGER, column_id INTEGER, name TEXT COLLATE NOCASE, declared TEXT,
  type_name TEXT, system_type_id INTEGER, user_type_id INTEGER, max_length INTEGER, precision INTEGER, scale INTEGER,
  nullable INTEGER, collation TEXT, identity INTEGER, seed INTEGER, increment INTEGER, default_text TEXT,
  default_id INTEGER DEFAULT 0, computed_text TEXT, persisted INTEGER, sparse INTEGER, PRIMARY KEY(object_id, column_id));
CREATE TABLE IF NOT EXISTS fx_indexes(object_id INTEGER, index_id INTEGER, name TEXT COLLATE NOCASE, is_unique INTEGER,
  is_primary INTEGER, is_constraint INTEGER, clustered INTEGER, sqlite TEXT, filter TEXT, PRIMARY KEY(object_id, index_id));
CREATE TABLE IF NOT EXISTS fx_index_columns(object_id INTEGER, index_id INTEGER, index_column_id INTEGER, column_id INTEGER,
  key_ordinal INTEGER, descending INTEGER, included INTEGER);
CREATE TABLE IF NOT EXISTS fx_foreign(object_id INTEGER PRIMARY KEY, parent INTEGER, referenced INTEGER);
CREATE TABLE IF NOT EXISTS fx_foreign_columns(object_id INTEGER, ordinal INTEGER, parent_column INTEGER, referenced_column INTEGER);
CREATE TABLE IF NOT EXISTS fx_parameters(object_id INTEGER, parameter_id INTEGER, name TEXT, declared TEXT, type_name TEXT,
  system_type_id INTEGER, user_type_id INTEGER, max_length INTEGER, precision INTEGER, scale INTEGER, is_output INTEGER,
  has_default INTEGER);
CREATE TABLE IF NOT EXISTS fx_properties(object_id INTEGER, minor_id INTEGER, name TEXT, value TEXT);
CREATE TABLE IF NOT EXISTS fx_types(name TEXT, system_type_id INTEGER, user_type_id INTEGER, max_length INTEGER,
  precision INTEGER, scale INTEGER, schema_id INTEGER, is_table INTEGER, object_id INTEGER);
";

/// Makes the fixture's own tables in a new database.
pub(crate) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(OWN_TABLES)?;
    let count: i64 = connection.query_row("SELECT count(*) FROM fx_types", [], |row| row.get(0))?;
    if count == 0 {
        let mut insert = connection.prepare("INSERT INTO fx_types VALUES (?1,?2,?3,?4,?5,?6,4,0,0)")?;
        for (name, system, user, length, precision, scale) in SYSTEM_TYPES {
            insert.execute(params![name, system, user, length, precision, scale])?;
        }
    }
    Ok(())
}

/// The catalog's views and functions need the names of columns as the type's own text.
pub(crate) fn column_type(declared: &str) -> Type {
    Parser::new(declared).and_then(|mut parser| parser.ty()).unwrap_or(Type::NVarChar(crate::types::MAX))
}

/// A table or view by name: temporary ones of the session first.
pub(crate) fn find(session: &Session, name: &Name) -> Parsed<Option<TableInfo>> {
    if name.object.starts_with('#') && !name.object.starts_with("##") {
        return Ok(session.temporary.iter().find(|table| super::scope::same(&table.name, &name.object)).cloned());
    }
    session.check_database(name)?;
    let schema = name.schema.as_deref().unwrap_or(if name.object.starts_with("##") { "tempdb" } else { "dbo" });
    find_in(&session.db, schema, &name.object)
}

pub(crate) fn find_in(connection: &Connection, schema: &str, name: &str) -> Parsed<Option<TableInfo>> {
    let found = connection
        .prepare_cached(
            "SELECT object_id, sqlite, schema, name, type FROM fx_objects
             WHERE schema = ?1 AND name = ?2 AND type IN ('U', 'V', 'TT')",
        )?
        .query_row(params![schema, name], |row| {
            Ok(TableInfo {
                object_id: row.get(0)?,
                sqlite: row.get(1)?,
                schema: row.get(2)?,
                name: row.get(3)?,
                kind: row.get(4)?,
                columns: Vec::new(),
            })
        })
        .optional()?;
    let Some(mut table) = found else { return Ok(None) };
    let mut statement = connection.prepare_cached(
        "SELECT name, declared, nullable, collation, identity, seed, increment, default_text, computed_text
         FROM fx_columns WHERE object_id = ?1 ORDER BY column_id",
    )?;
    let columns = statement.query_map([table.object_id], |row| {
        let declared: String = row.get(1)?;
        let collation: Option<String> = row.get(3)?;
        let identity: bool = row.get(4)?;
        let computed: Option<String> = row.get(8)?;
        let ty = column_type(&declared);
        Ok(ColumnInfo {
            column: Column {
                name: row.get(0)?,
                computed: computed.is_some() || ty == Type::RowVersion,
                ty,
                nullable: row.get(2)?,
                collation: collation.and_then(|name| Collation::named(&name)).unwrap_or_default(),
                identity,
            },
            default: row.get(7)?,
            identity: if identity { Some((row.get(5)?, row.get(6)?)) } else { None },
        })
    })?;
    table.columns = columns.collect::<rusqlite::Result<_>>()?;
    Ok(Some(table))
}

/// Any object's number by name.
pub(crate) fn object_id(session: &Session, name: &str, kind: Option<&str>) -> Parsed<Option<i64>> {
    let Ok(name) = Parser::new(name).and_then(|mut parser| parser.name()) else { return Ok(None) };
    if name.object.starts_with('#') && !name.object.starts_with("##") {
        let found = session.temporary.iter().find(|table| super::scope::same(&table.name, &name.object));
        return Ok(found.map(|table| table.object_id));
    }
    if session.check_database(&name).is_err() {
        return Ok(None);
    }
    let schema = name.schema.as_deref().unwrap_or(if name.object.starts_with("##") { "tempdb" } else { "dbo" });
    let kind = kind.map(|kind| kind.trim().to_ascii_uppercase());
    let found = session
        .db
        .prepare_cached("SELECT object_id FROM fx_objects WHERE schema = ?1 AND name = ?2 AND (?3 IS NULL OR type = ?3) AND type <> 'TT'")?
        .query_row(params![schema, name.object, kind], |row| row.get(0))
        .optional()?;
    Ok(found)
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        other => format!("'{}'", other.to_text().replace('\'', "''")),
    }
}

fn columns_of(list: &[(&str, &str)]) -> Vec<Column> {
    list.iter()
        .map(|(name, declared)| {
            let (declared, nullable) = match declared.strip_suffix('!') {
                Some(bare) => (bare, false),
                None => (*declared, true),
            };
            Column { nullable, ..Column::new(*name, column_type(declared)) }
        })
        .collect()
}

/// Rows as a table in SQL.
fn rows_as_table(columns: &[(&str, &str)], rows: &[Vec<Value>]) -> (String, Vec<Column>) {
    let names: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
    let nothing = format!("SELECT {} WHERE 0", vec!["NULL"; columns.len()].join(", "));
    let body = if rows.is_empty() {
        nothing
    } else {
        let rows: Vec<String> =
            rows.iter().map(|row| format!("({})", row.iter().map(literal).collect::<Vec<_>>().join(", "))).collect();
        format!("VALUES {}", rows.join(", "))
    };
    (format!("(WITH \"rows\"({}) AS ({body}) SELECT * FROM \"rows\")", names.join(", ")), columns_of(columns))
}

/// A view of the server's own, as SQL and columns.
pub(crate) fn system_view(session: &Session, name: &Name) -> Parsed<Option<(String, Vec<Column>)>> {
    let Some(schema) = &name.schema else { return Ok(None) };
    if !schema.eq_ignore_ascii_case("sys") && !schema.eq_ignore_ascii_case("information_schema") {
        return Ok(None);
    }
    session.check_database(name)?;
    let wanted = format!("{schema}.{}", name.object).to_ascii_lowercase();
    if let Some(view) = VIEWS.iter().find(|view| view.name == wanted) {
        let sql = view.sql.replace("$DATABASE", &session.database.replace('\'', "''"));
        let names: Vec<String> = view.columns.iter().map(|(name, _)| quoted(name)).collect();
        let sql = format!("(WITH \"rows\"({}) AS ({sql}) SELECT * FROM \"rows\")", names.join(", "));
        return Ok(Some((sql, columns_of(view.columns))));
    }
    match wanted.as_str() {
        "sys.partitions" | "sys.dm_db_partition_stats" => partitions(session, wanted.ends_with("stats")).map(Some),
        "sys.dm_exec_sessions" | "sys.dm_exec_connections" | "sys.dm_exec_requests" | "sys.sysprocesses" => {
            Ok(Some(sessions(session)))
        }
        "sys.databases" => Ok(Some(databases(session))),
        _ => Err(SqlError::no_object(&name.to_string())),
    }
}

fn partitions(session: &Session, stats: bool) -> Parsed<(String, Vec<Column>)> {
    let mut rows = Vec::new();
    let mut tables = session.db.prepare_cached("SELECT object_id, sqlite FROM fx_objects WHERE type = 'U'")?;
    let found = tables.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    for table in found {
        let (object_id, sqlite) = table?;
        let count: i64 = session.db.query_row(&format!("SELECT count(*) FROM {sqlite}"), [], |row| row.get(0))?;
        let clustered: i64 = session.db.query_row(
            "SELECT count(*) FROM fx_indexes WHERE object_id = ?1 AND clustered = 1",
            [object_id],
            |row| row.get(0),
        )?;
        rows.push([object_id * 100, object_id, clustered.min(1), 1, count].map(Value::Integer).to_vec());
    }
    let count = if stats { "row_count" } else { "rows" };
    Ok(rows_as_table(
        &[
            ("partition_id", "bigint!"),
            ("object_id", "int!"),
            ("index_id", "int!"),
            ("partition_number", "int!"),
            (count, "bigint"),
        ],
        &rows,
    ))
}

fn sessions(session: &Session) -> (String, Vec<Column>) {
    let rows = session.server.sessions.lock().expect("no holder of this lock can panic");
    let rows: Vec<Vec<Value>> = rows
        .iter()
        .map(|(id, entry)| {
            vec![
                Value::Integer((*id).into()),
                Value::text(&entry.login),
                Value::text(&entry.host),
                Value::text(&entry.program),
                Value::text("sleeping"),
                Value::Integer(1),
                Value::text(&entry.since),
                Value::Integer(5),
                Value::text(&entry.database),
                Value::Integer(entry.open.load(std::sync::atomic::Ordering::Relaxed).into()),
            ]
        })
        .collect();
    rows_as_table(
        &[
            ("session_id", "smallint!"),
            ("login_name", "sysname"),
            ("host_name", "sysname"),
            ("program_name", "sysname"),
            ("status", "nvarchar(30)"),
            ("is_user_process", "bit!"),
            ("login_time", "datetime"),
            ("database_id", "smallint"),
            ("database_name", "sysname"),
            ("open_transaction_count", "int!"),
        ],
        &rows,
    )
}

fn databases(session: &Session) -> (String, Vec<Column>) {
    let known = session.server.databases.lock().expect("no holder of this lock can panic");
    let rows: Vec<Vec<Value>> = known
        .iter()
        .enumerate()
        .map(|(at, name)| {
            vec![
                Value::text(name),
                Value::Integer(at as i64 + 1),
                Value::text(Collation::default().name()),
                Value::Integer(0),
                Value::text("ONLINE"),
                Value::Integer(160),
                Value::Integer(1),
                Value::text("ON"),
                Value::Integer(1),
                Value::Integer(0),
            ]
        })
        .collect();
    rows_as_table(
        &[
            ("name", "sysname!"),
            ("database_id", "int!"),
            ("collation_name", "sysname"),
            ("state", "tinyint"),
            ("state_desc", "nvarchar(60)"),
            ("compatibility_level", "tinyint!"),
            ("snapshot_isolation_state", "tinyint"),
            ("snapshot_isolation_state_desc", "nvarchar(60)"),
            ("is_read_committed_snapshot_on", "bit"),
            ("is_read_only", "bit"),
        ],
        &rows,
    )
}

/// What a query would yield, as sys.dm_exec_describe_first_result_set and its procedure show it.
pub(crate) const DESCRIBED: &[(&str, &str)] = &[
    ("is_hidden", "bit!"),
    ("column_ordinal", "int!"),
    ("name", "sysname"),
    ("is_nullable", "bit!"),
    ("system_type_id", "int!"),
    ("system_type_name", "nvarchar(256)"),
    ("max_length", "smallint!"),
    ("precision", "tinyint!"),
    ("scale", "tinyint!"),
    ("collation_name", "sysname"),
    ("user_type_id", "int"),
    ("user_type_name", "sysname"),
    ("is_identity_column", "bit"),
    ("is_computed_column", "bit"),
    ("is_updateable", "bit"),
    ("error_number", "int"),
    ("error_message", "nvarchar(4000)"),
];

pub(crate) fn described(columns: &[Column]) -> (Vec<Column>, Vec<Vec<Value>>) {
    let rows = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let (length, precision, scale) = column.ty.sizes();
            let (system, user) = column.ty.ids();
            let udt = matches!(column.ty, Type::Udt(_));
            let bit = |set: bool| Value::Integer(set.into());
            vec![
                bit(false),
                Value::Integer(at as i64 + 1),
                if column.name.is_empty() { Value::Null } else { Value::text(&column.name) },
                bit(column.nullable),
                Value::Integer(system),
                if udt { Value::Null } else { Value::text(column.ty.declared()) },
                Value::Integer(length),
                Value::Integer(precision),
                Value::Integer(scale),
                if column.ty.is_text() { Value::text(column.collation.name()) } else { Value::Null },
                if udt { Value::Integer(user) } else { Value::Null },
                if udt { Value::text(column.ty.name()) } else { Value::Null },
                bit(column.identity),
                bit(column.computed),
                bit(!column.computed),
                Value::Null,
                Value::Null,
            ]
        })
        .collect();
    (columns_of(DESCRIBED), rows)
}

/// A function that yields rows.
pub(crate) fn table_function(session: &Session, name: &Name, arguments: &[Value]) -> Parsed<(String, Vec<Column>)> {
    match name.object.to_ascii_lowercase().as_str() {
        "dm_exec_describe_first_result_set" => {
            let text = arguments.first().map(Value::to_text).unwrap_or_default();
            let parameters = arguments.get(1).map(Value::to_text).unwrap_or_default();
            let rows = match session.describe(&text, &parameters) {
                Ok(columns) => described(&columns).1,
                Err(error) => {
                    let mut row = vec![Value::Null; DESCRIBED.len()];
                    row[0] = Value::Integer(0);
                    row[1] = Value::Integer(0);
                    row[15] = Value::Integer(error.number.into());
                    row[16] = Value::text(error.message);
                    vec![row]
                }
            };
            Ok(rows_as_table(DESCRIBED, &rows))
        }
        "fn_helpcollations" => {
            Ok(rows_as_table(&[("name", "sysname!")], &[vec![Value::text(Collation::default().name())]]))
        }
        "string_split" => {
            let text = arguments.first().map(Value::to_text).unwrap_or_default();
            let separator = arguments.get(1).map(Value::to_text).unwrap_or_default();
            let rows: Vec<Vec<Value>> = text.split(separator.as_str()).map(|part| vec![Value::text(part)]).collect();
            Ok(rows_as_table(&[("value", "nvarchar(4000)")], &rows))
        }
        _ => Err(SqlError::no_object(&name.to_string())),
    }
}
