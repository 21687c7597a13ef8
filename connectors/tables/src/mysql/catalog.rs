//! What the server's own catalog says about tables and columns. Every statement here only reads.

use dmg_connector::{Column, Result};
use dmg_protocol::{ColumnPlan, Fault};

use super::client::{Client, literal, quoted};
use super::settings::Server;
use super::types::{ColumnType, Form, Reading};

/// A table or view.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) schema: String,
    pub(super) name: String,
    /// Whether it is a view or the like, and no table.
    pub(super) view: bool,
    /// Whether its engine has transactions and snapshots.
    pub(super) transactional: bool,
    /// Its engine: `InnoDB`.
    pub(super) engine: String,
    /// Rows by the last statistics.
    pub(super) rows: Option<u64>,
    /// What people wrote about it.
    pub(super) comment: String,
}

impl Relation {
    /// Schema and name, quoted.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// For people: `sales.orders`.
    pub(super) fn label(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Looks a table up by name.
pub(super) async fn relation(client: &mut Client, schema: &str, table: &str) -> Result<Option<Relation>> {
    let sql = format!(
        "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.TABLE_TYPE, COALESCE(e.TRANSACTIONS, ''), COALESCE(t.ENGINE, ''), \
         t.TABLE_ROWS, COALESCE(t.TABLE_COMMENT, '') FROM information_schema.TABLES t \
         LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
         WHERE t.TABLE_SCHEMA = {} AND t.TABLE_NAME = {}",
        literal(schema),
        literal(table)
    );
    let row = client.query(&sql).await?.rows.into_iter().next();
    Ok(row.map(|row| {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten();
        let (schema, name) = (next().unwrap_or_default(), next().unwrap_or_default());
        let view = next().is_some_and(|kind| kind.contains("VIEW"));
        let transactional = next().is_some_and(|yes| yes == "YES");
        let engine = next().unwrap_or_default();
        let rows = next().and_then(|rows| rows.parse().ok());
        let comment = next().unwrap_or_default();
        Relation { schema, name, view, transactional, engine, rows, comment }
    }))
}

/// The fault for a table that is not there.
pub(super) fn missing(place: &str, schema: &str, table: &str) -> Fault {
    let message = format!("{place} has no table \"{schema}.{table}\" that this user can see.");
    let remedy = "Check database and name, capital letters included, or create the table.";
    Fault::new("UserErrorTableMissing", message).remedy(remedy).with("table", format!("{schema}.{table}"))
}

/// A column, how it is read, and its type.
#[derive(Debug, Clone)]
pub(super) struct Readable {
    pub(super) column: Column,
    pub(super) reading: Reading,
    pub(super) own: ColumnType,
    /// Whether the server computes it: a copy cannot write it.
    pub(super) generated: bool,
}

impl Readable {
    /// The expression that yields it in a form we decode. A single is shown with six digits unless it is made a
    /// double; a factor of 1 keeps its sign, where a sum with 0 would lose that of negative zero.
    pub(super) fn expression(&self) -> String {
        let name = quoted(&self.column.name);
        match self.reading.form {
            Form::Float32 => format!("{name} * 1e0 AS {name}"),
            _ => name,
        }
    }
}

/// Columns of a table.
pub(super) async fn table_columns(
    client: &mut Client,
    server: &Server,
    schema: &str,
    table: &str,
) -> Result<Vec<Readable>> {
    let json = json_columns(client, schema, table).await;
    let sql = format!(
        "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_KEY, EXTRA, CHARACTER_SET_NAME \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
        literal(schema),
        literal(table)
    );
    let rows = client.query(&sql).await?.rows;
    let columns = rows.into_iter().map(|row| {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten();
        let (name, type_name) = (next().unwrap_or_default(), next().unwrap_or_default());
        let nullable = next().is_none_or(|yes| yes == "YES");
        let key = next().is_some_and(|key| key == "PRI");
        // MySQL says DEFAULT_GENERATED of a column whose default is computed: that one can be written.
        let extra = next().unwrap_or_default().to_ascii_uppercase();
        let generated = ["VIRTUAL", "STORED", "PERSISTENT", "ROW START", "ROW END"].iter().any(|w| extra.contains(w));
        let charset = next().map(|charset| charset.to_ascii_lowercase());
        let own = ColumnType::parse(&type_name, charset, json.contains(&name));
        let reading = own.reading(server);
        let column = Column { name, kind: reading.kind, type_name: own.label(), nullable, key };
        Readable { column, reading, own, generated }
    });
    Ok(columns.collect())
}

/// In MariaDB JSON is text with a check.
async fn json_columns(client: &mut Client, schema: &str, table: &str) -> Vec<String> {
    if !client.version.mariadb {
        return Vec::new();
    }
    let sql = format!(
        "SELECT CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
         WHERE CONSTRAINT_SCHEMA = {} AND TABLE_NAME = {}",
        literal(schema),
        literal(table)
    );
    // Old versions do not have this table; there JSON is text and nothing is lost.
    let rows = client.query(&sql).await.map(|answer| answer.rows).unwrap_or_default();
    let clauses = rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
    let name = |clause: String| {
        let inner = clause.trim().strip_prefix("json_valid(`")?.strip_suffix("`)")?.replace("``", "`");
        Some(inner)
    };
    clauses.filter_map(name).collect()
}

/// Columns of a query.
pub(super) async fn query_columns(client: &mut Client, server: &Server, query: &str) -> Result<Vec<Readable>> {
    const NOT_NULL: u16 = 1;
    let described = client.describe(query).await?;
    if described.is_empty() {
        let message = "The query yields no rows by its nature.";
        let remedy = "Name a query that reads: SELECT, or WITH ... SELECT.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    }
    let mut columns: Vec<Readable> = Vec::with_capacity(described.len());
    for column in described {
        if columns.iter().any(|other| other.column.name.eq_ignore_ascii_case(&column.name)) {
            let message = format!("The query yields two columns named \"{}\".", column.name);
            let remedy = "Give each column of the query a name of its own, with AS.";
            return Err(Fault::new("UserErrorSchemaMismatch", message).remedy(remedy).into());
        }
        let own = ColumnType::described(&column);
        let reading = own.reading(server);
        let nullable = column.flags & NOT_NULL == 0;
        let column = Column { name: column.name, kind: reading.kind, type_name: own.label(), nullable, key: false };
        columns.push(Readable { column, reading, own, generated: false });
    }
    Ok(columns)
}

/// The same table read as planned: the plan's columns, order and kinds, not the catalog's.
pub(super) fn as_planned(found: &[Readable], planned: &[ColumnPlan], server: &Server) -> Result<Vec<Readable>> {
    planned
        .iter()
        .map(|plan| {
            let column = find(found, &plan.sink).ok_or_else(|| {
                let message = format!("Column \"{}\" is no longer in the target.", plan.sink);
                Fault::new("UserErrorColumnMissing", message).with("column", &plan.sink)
            })?;
            let reading = column.own.reading_as(plan.kind, server).ok_or_else(|| {
                let message = format!(
                    "Column \"{}\" of type {} cannot be read back as {}.",
                    plan.sink, column.column.type_name, plan.kind
                );
                Fault::new("UserErrorSchemaMismatch", message).with("column", &plan.sink)
            })?;
            let as_planned =
                Column { name: plan.sink.clone(), kind: plan.kind, nullable: true, ..column.column.clone() };
            Ok(Readable { column: as_planned, reading, own: column.own.clone(), generated: false })
        })
        .collect()
}

/// A column by name, as the server finds it: without regard to capital letters.
pub(super) fn find<'a>(found: &'a [Readable], name: &str) -> Option<&'a Readable> {
    found
        .iter()
        .find(|readable| readable.column.name == name)
        .or_else(|| found.iter().find(|readable| readable.column.name.to_lowercase() == name.to_lowercase()))
}
