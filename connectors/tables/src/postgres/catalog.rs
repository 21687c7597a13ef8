//! What the server's own catalog says about tables, columns and sizes. Every statement here only reads.

use dmg_connector::{Column, Result};
use dmg_protocol::{ColumnPlan, Fault};

use super::client::{Client, Described};
use super::types::{Reading, reading, reading_as};

/// A name as PostgreSQL reads it back unchanged.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names, comma-separated.
pub(super) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// A table, view or the like.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) oid: String,
    pub(super) schema: String,
    pub(super) name: String,
    /// `relkind` of `pg_class`.
    pub(super) kind: char,
    /// Whether other tables inherit from it.
    pub(super) inherited: bool,
    /// Whether row security hides rows from us.
    pub(super) row_security: bool,
    /// Blocks it has now.
    pub(super) blocks: u64,
    /// Rows by the last statistics; `None` if there are none.
    pub(super) rows: Option<u64>,
}

impl Relation {
    /// Schema and name, quoted.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// For people: `public.orders`.
    pub(super) fn label(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

const RELATION: &str = "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relhassubclass, \
     row_security_active(c.oid), \
     CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) / current_setting('block_size')::bigint ELSE 0 END, \
     CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN (c.reltuples / c.relpages)::text END \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ";

/// Looks a table up by name, through the search path where no schema is given.
pub(super) async fn relation(client: &mut Client, schema: Option<&str>, table: &str) -> Result<Option<Relation>> {
    let name = schema.map_or_else(|| quoted(table), |schema| format!("{}.{}", quoted(schema), quoted(table)));
    let answer = client.query(&format!("{RELATION} to_regclass($1)"), &[Some(&name)]).await?;
    // Names above 63 bytes are cut off by the server, and may then be those of another table.
    let meant = |found: &Relation| found.name == table && schema.is_none_or(|schema| found.schema == schema);
    Ok(answer.rows.into_iter().next().map(relation_of).filter(meant))
}

/// The leaves of a partitioned table, in order of their bounds as far as names tell.
pub(super) async fn leaves(client: &mut Client, oid: &str) -> Result<Vec<Relation>> {
    let sql =
        format!("{RELATION} ANY (SELECT relid FROM pg_partition_tree($1::oid::regclass) WHERE isleaf) ORDER BY 2, 3");
    Ok(client.query(&sql, &[Some(oid)]).await?.rows.into_iter().map(relation_of).collect())
}

fn relation_of(row: Vec<Option<String>>) -> Relation {
    let mut values = row.into_iter().map(Option::unwrap_or_default);
    let mut next = || values.next().unwrap_or_default();
    let (oid, schema, name) = (next(), next(), next());
    let kind = next().chars().next().unwrap_or('r');
    let (inherited, row_security) = (next() == "t", next() == "t");
    let blocks: u64 = next().parse().unwrap_or(0);
    let density: Option<f64> = next().parse().ok();
    let rows = density.map(|density| (density * blocks as f64) as u64);
    Relation { oid, schema, name, kind, inherited, row_security, blocks, rows }
}

/// The fault for a table that is not there.
pub(super) fn missing(place: &str, schema: Option<&str>, table: &str) -> Fault {
    let name = schema.map_or_else(|| table.to_owned(), |schema| format!("{schema}.{table}"));
    let message = format!("{place} has no table \"{name}\" that this role can see.");
    let remedy = "Check schema and name, capital letters included, or create the table.";
    Fault::new("UserErrorTableMissing", message).remedy(remedy).with("table", name)
}

/// A column, how it is read, and its place in the catalog.
#[derive(Debug, Clone)]
pub(super) struct Readable {
    pub(super) column: Column,
    pub(super) reading: Reading,
    /// The base type's oid and modifier.
    pub(super) base: (u32, i32),
    /// Whether the server computes it: a copy cannot write it.
    pub(super) generated: bool,
}

impl Readable {
    /// The expression that yields it in a form we decode.
    pub(super) fn expression(&self) -> String {
        let name = quoted(&self.column.name);
        if self.reading.cast { format!("{name}::text") } else { name }
    }
}

/// Columns of a table.
pub(super) async fn table_columns(client: &mut Client, relation: &Relation) -> Result<Vec<Readable>> {
    let described = client.describe(&format!("SELECT * FROM {}", relation.quoted())).await?;
    let sql = "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
         a.attgenerated <> '' OR a.attidentity = 'a', \
         EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)) \
         FROM pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let rows = client.query(sql, &[Some(&relation.oid)]).await?.rows;
    if rows.len() != described.len() {
        let message = format!("Table {} changed while it was looked at.", relation.label());
        return Err(Fault::new("UserErrorSourceChanged", message).into());
    }
    let columns = described.into_iter().zip(rows).map(|(described, row)| {
        let is = |index: usize| row[index].as_deref() == Some("t");
        let type_name = row[1].clone().unwrap_or_default();
        let mut readable = readable(described, type_name);
        readable.column.nullable = !is(2);
        readable.column.key = is(4);
        readable.generated = is(3);
        readable
    });
    Ok(columns.collect())
}

/// Columns of a query.
pub(super) async fn query_columns(client: &mut Client, query: &str) -> Result<Vec<Readable>> {
    let described = client.describe(&format!("SELECT * FROM ({query}\n) AS q")).await?;
    let list = |values: Vec<String>| format!("{{{}}}", values.join(","));
    let oids = list(described.iter().map(|column| column.type_oid.to_string()).collect());
    let modifiers = list(described.iter().map(|column| column.modifier.to_string()).collect());
    let sql = "SELECT format_type(t, m) FROM unnest($1::oid[], $2::int4[]) WITH ORDINALITY AS u (t, m, n) ORDER BY n";
    let rows = client.query(sql, &[Some(&oids), Some(&modifiers)]).await?.rows;
    for (index, column) in described.iter().enumerate() {
        if described[..index].iter().any(|other| other.name == column.name) {
            let message = format!("The query yields two columns named \"{}\".", column.name);
            let remedy = "Give each column of the query a name of its own, with AS.";
            return Err(Fault::new("UserErrorSchemaMismatch", message).remedy(remedy).into());
        }
    }
    let names = rows.into_iter().map(|row| row.into_iter().next().flatten().unwrap_or_default());
    Ok(described.into_iter().zip(names).map(|(described, name)| readable(described, name)).collect())
}

fn readable(described: Described, type_name: String) -> Readable {
    let Described { name, type_oid, modifier } = described;
    let reading = reading(type_oid, modifier);
    let column = Column { name, kind: reading.kind, type_name, nullable: true, key: false };
    Readable { column, reading, base: (type_oid, modifier), generated: false }
}

/// The same table read as planned: the plan's columns, order and kinds, not the catalog's.
pub(super) fn as_planned(found: &[Readable], planned: &[ColumnPlan]) -> Result<Vec<Readable>> {
    planned
        .iter()
        .map(|plan| {
            let column = found.iter().find(|readable| readable.column.name == plan.sink).ok_or_else(|| {
                let message = format!("Column \"{}\" is no longer in the target.", plan.sink);
                Fault::new("UserErrorColumnMissing", message).with("column", &plan.sink)
            })?;
            let reading = reading_as(column.base.0, column.base.1, plan.kind).ok_or_else(|| {
                let message = format!(
                    "Column \"{}\" of type {} cannot be read back as {}.",
                    plan.sink, column.column.type_name, plan.kind
                );
                Fault::new("UserErrorSchemaMismatch", message).with("column", &plan.sink)
            })?;
            let as_planned = Column { kind: plan.kind, nullable: true, ..column.column.clone() };
            Ok(Readable { column: as_planned, reading, base: column.base, generated: false })
        })
        .collect()
}
