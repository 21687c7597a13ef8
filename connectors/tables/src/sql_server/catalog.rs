//! What the server's own catalog says about tables, columns and queries. Every statement here only reads.

use dmg_connector::{Column, Result};
use dmg_protocol::job::ListedTable;
use dmg_protocol::{ColumnPlan, Fault};

use super::driver::{Driver, Row};
use super::errors::{self, ServerError};
use super::types::{Form, Native, reading, reading_as, selected};

/// `EngineEdition` of Synapse: a dedicated pool, and the one without servers.
pub(super) const SYNAPSE: &[&str] = &["6", "11"];

/// A name as SQL Server reads it back unchanged.
pub(super) fn quoted(name: &str) -> String {
    format!("[{}]", name.replace(']', "]]"))
}

/// A text as a literal.
pub(super) fn literal(text: &str) -> String {
    format!("N'{}'", text.replace('\'', "''"))
}

/// A name as an author writes it, `dbo.usp_merge` or `[dbo].[usp merge]`, with each part quoted again.
pub(super) fn requoted(name: &str) -> Option<String> {
    let quote = |part: String| if part.is_empty() { part } else { quoted(&part) };
    Some(parts(name)?.into_iter().map(quote).collect::<Vec<_>>().join("."))
}

/// The parts of such a name, at most four. The last is never empty.
pub(super) fn parts(name: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = name.trim();
    loop {
        let (part, after) = if let Some(inner) = rest.strip_prefix('[') {
            let mut at = 0;
            loop {
                at += inner[at..].find(']')?;
                if !inner[at + 1..].starts_with(']') {
                    break;
                }
                at += 2;
            }
            (inner[..at].replace("]]", "]"), &inner[at + 1..])
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            (rest[..end].trim().to_owned(), &rest[end..])
        };
        if part.contains(['\0', '\n']) || part.len() > 256 || parts.len() == 4 {
            return None;
        }
        parts.push(part);
        match after.trim_start().strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None if after.trim().is_empty() => break,
            None => return None,
        }
    }
    (!parts.last()?.is_empty()).then_some(parts)
}

/// A table, view or the like.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) id: String,
    pub(super) schema: String,
    pub(super) name: String,
    /// `type` of `sys.objects`: `U` a table, `V` a view.
    pub(super) kind: String,
}

impl Relation {
    /// Schema and name, quoted.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// For people: `dbo.orders`.
    pub(super) fn label(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Looks a table up by name, in the log-in's default schema where none is given.
pub(super) async fn relation(session: &mut dyn Driver, schema: Option<&str>, table: &str) -> Result<Option<Relation>> {
    let name = schema.map_or_else(|| quoted(table), |schema| format!("{}.{}", quoted(schema), quoted(table)));
    let sql = "SELECT o.object_id, s.name, o.name, o.type FROM sys.objects o \
         JOIN sys.schemas s ON s.schema_id = o.schema_id WHERE o.object_id = OBJECT_ID(@P1)";
    let rows = session.query(sql, &[Some(&name)]).await?;
    Ok(rows.into_iter().next().map(|row| {
        let mut next = texts(row);
        let (id, schema, name, kind) = (next(), next(), next(), next());
        Relation { id, schema, name, kind: kind.trim().to_owned() }
    }))
}

/// The values of a row one after the other; NULL is empty.
pub(super) fn texts(row: Row) -> impl FnMut() -> String {
    let mut values = row.into_iter();
    move || values.next().flatten().unwrap_or_default()
}

/// The fault for a table that is not there.
pub(super) fn missing(place: &str, schema: Option<&str>, table: &str) -> Fault {
    let name = schema.map_or_else(|| table.to_owned(), |schema| format!("{schema}.{table}"));
    let message = format!("{place} has no table \"{name}\" that this log-in can see.");
    let remedy = "Check schema and name, or create the table.";
    Fault::new("UserErrorTableMissing", message).remedy(remedy).with("table", name)
}

/// A column, how it is read, and what the catalog says of it.
#[derive(Debug, Clone)]
pub(super) struct Readable {
    pub(super) column: Column,
    pub(super) native: Native,
    pub(super) form: Form,
    pub(super) collation: Option<String>,
    /// Whether the server makes its values: a copy cannot write it.
    pub(super) generated: bool,
    pub(super) identity: bool,
    /// The type as a statement names it, where it is no type of the server's own.
    pub(super) type_quoted: String,
}

impl Readable {
    /// What stands in a SELECT for it.
    pub(super) fn expression(&self) -> String {
        selected(&quoted(&self.column.name), &self.native)
    }
}

/// Columns of a table, hidden ones left out.
pub(super) async fn table_columns(session: &mut dyn Driver, relation: &Relation) -> Result<Vec<Readable>> {
    let sql = "SELECT c.name, b.name, u.name, c.max_length, c.precision, c.scale, c.is_nullable, c.is_identity, \
         c.is_computed, c.generated_always_type, c.is_column_set, c.collation_name, \
         CASE WHEN EXISTS (SELECT 1 FROM sys.indexes i JOIN sys.index_columns k ON k.object_id = i.object_id \
         AND k.index_id = i.index_id WHERE i.object_id = c.object_id AND i.is_primary_key = 1 \
         AND k.column_id = c.column_id) THEN 1 ELSE 0 END \
         FROM sys.columns c LEFT JOIN sys.types b ON b.user_type_id = c.system_type_id \
         LEFT JOIN sys.types u ON u.user_type_id = c.user_type_id \
         WHERE c.object_id = CAST(@P1 AS int) AND c.is_hidden = 0 ORDER BY c.column_id";
    let rows = session.query(sql, &[Some(&relation.id)]).await?;
    let columns = rows.into_iter().map(|row| {
        let collation = row.get(11).cloned().flatten();
        let mut next = texts(row);
        let (name, base, own) = (next(), next(), next());
        let (bytes, precision, scale) = (number(&next()), number(&next()), number(&next()));
        let mut is = || next() == "1";
        let (nullable, identity, computed) = (is(), is(), is());
        let generated_always = next();
        let column_set = next() == "1";
        let (_, key) = (next(), next() == "1");
        let base = if base.is_empty() { &own } else { &base };
        let native = Native::of_catalog(base, bytes as i32, precision as u32, scale as u32);
        let (kind, form) = reading(&native);
        let generated =
            computed || column_set || native.name == "rowversion" || !matches!(generated_always.as_str(), "" | "0");
        let type_quoted = if native.clr() { quoted(&own) } else { native.text() };
        let column = Column { name, kind, type_name: native.text(), nullable, key };
        Readable { column, native, form, collation, generated, identity, type_quoted }
    });
    Ok(columns.collect())
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

/// Columns of a query or a call, as the server describes them without running it.
pub(super) async fn query_columns(session: &mut dyn Driver, query: &str) -> Result<Vec<Readable>> {
    let sql = "SELECT name, ISNULL(system_type_name, user_type_name), is_nullable, collation_name, error_number, \
         error_message FROM sys.dm_exec_describe_first_result_set(@P1, NULL, 0) \
         WHERE is_hidden = 0 OR is_hidden IS NULL ORDER BY column_ordinal";
    let rows = session.query(sql, &[Some(query)]).await?;
    let mut columns: Vec<Readable> = Vec::with_capacity(rows.len());
    for row in rows {
        let collation = row.get(3).cloned().flatten();
        let mut next = texts(row);
        let (name, type_name, nullable) = (next(), next(), next() == "1");
        let (_, error, message) = (next(), next(), next());
        if let Ok(error @ 1..) = error.parse::<u32>() {
            return Err(undescribed(session.place(), error, message));
        }
        let native = Native::parse(&type_name);
        let utf8 = collation.as_deref().is_some_and(|name| name.to_ascii_uppercase().ends_with("_UTF8"));
        if name.is_empty() || columns.iter().any(|other| other.column.name == name) {
            let message = match name.is_empty() {
                true => "The query yields a column without a name.".to_owned(),
                false => format!("The query yields two columns named \"{name}\"."),
            };
            let remedy = "Give each column of the query a name of its own, with AS.";
            return Err(Fault::new("UserErrorSchemaMismatch", message).remedy(remedy).into());
        }
        if native.code_page() && utf8 {
            let message =
                format!("Column \"{name}\" of the query is {type_name} in UTF-8, which cannot be read as it is.");
            let remedy = format!("Select CAST({0} AS nvarchar(max)) AS {0} in the query.", quoted(&name));
            return Err(Fault::new("UserErrorSchemaMismatch", message).remedy(remedy).with("column", name).into());
        }
        let (kind, form) = reading(&native);
        let column = Column { name, kind, type_name: native.text(), nullable, key: false };
        let type_quoted = native.text();
        columns.push(Readable { column, native, form, collation, generated: false, identity: false, type_quoted });
    }
    if columns.is_empty() {
        let message = "The query yields no rows by its nature: it selects nothing.";
        return Err(Fault::new("UserErrorSettings", message).remedy("Write a query that selects.").into());
    }
    Ok(columns)
}

/// Why a query cannot be described.
fn undescribed(place: &str, number: u32, message: String) -> dmg_connector::Error {
    // From 11500 on: it may be sound, but tells its columns only when it runs.
    if (11_500..11_600).contains(&number) {
        let message = format!("The server cannot tell the columns of the query before it runs (error {number}).");
        let remedy = "Write EXEC ... WITH RESULT SETS ((name type, ...)), or select from a table instead.";
        return Fault::new("UserErrorSettings", message).remedy(remedy).with("errorNumber", number).into();
    }
    errors::error(place, &ServerError { number, message, ..ServerError::default() })
}

/// The same table read as planned: the plan's columns, order and kinds, not the catalog's.
pub(super) fn as_planned(found: &[Readable], planned: &[ColumnPlan]) -> Result<Vec<Readable>> {
    planned
        .iter()
        .map(|plan| {
            let readable = found.iter().find(|readable| readable.column.name == plan.sink).ok_or_else(|| {
                let message = format!("Column \"{}\" is no longer in the target.", plan.sink);
                Fault::new("UserErrorColumnMissing", message).with("column", &plan.sink)
            })?;
            let form = reading_as(&readable.native, plan.kind).ok_or_else(|| {
                let message = format!(
                    "Column \"{}\" of type {} cannot be read back as {}.",
                    plan.sink, readable.column.type_name, plan.kind
                );
                Fault::new("UserErrorSchemaMismatch", message).with("column", &plan.sink)
            })?;
            let column = Column { kind: plan.kind, nullable: true, ..readable.column.clone() };
            Ok(Readable { column, form, ..readable.clone() })
        })
        .collect()
}

/// Columns of the primary key, in its order.
pub(super) async fn primary_key(session: &mut dyn Driver, relation: &Relation) -> Result<Vec<String>> {
    let sql = "SELECT c.name FROM sys.indexes i JOIN sys.index_columns k ON k.object_id = i.object_id \
         AND k.index_id = i.index_id JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id \
         WHERE i.object_id = CAST(@P1 AS int) AND i.is_primary_key = 1 ORDER BY k.key_ordinal";
    Ok(session.query(sql, &[Some(&relation.id)]).await?.into_iter().map(|row| texts(row)()).collect())
}

/// The first column of the clustered index or, failing that, of the primary key.
pub(super) async fn leading_column(session: &mut dyn Driver, relation: &Relation) -> Result<Option<String>> {
    let sql = "SELECT TOP (1) c.name FROM sys.indexes i JOIN sys.index_columns k ON k.object_id = i.object_id \
         AND k.index_id = i.index_id JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id \
         WHERE i.object_id = CAST(@P1 AS int) AND k.key_ordinal = 1 AND (i.type = 1 OR i.is_primary_key = 1) \
         ORDER BY i.type, i.index_id";
    Ok(session.query(sql, &[Some(&relation.id)]).await?.into_iter().next().map(|row| texts(row)()))
}

/// Rows as the server counts them by the way.
pub(super) async fn rows_estimate(session: &mut dyn Driver, relation: &Relation) -> Result<Option<u64>> {
    let sql = "SELECT SUM(p.rows) FROM sys.partitions p WHERE p.object_id = CAST(@P1 AS int) AND p.index_id IN (0, 1)";
    let rows = session.query(sql, &[Some(&relation.id)]).await?;
    Ok(rows.into_iter().next().and_then(|row| texts(row)().parse().ok()))
}

/// Schemas that are not the server's own.
pub(super) async fn schemas(session: &mut dyn Driver) -> Result<Vec<String>> {
    let sql = "SELECT s.name FROM sys.schemas s WHERE s.name NOT IN ('sys', 'INFORMATION_SCHEMA', 'guest') \
         AND s.name NOT LIKE 'db[_]%' ORDER BY s.name";
    let mut names: Vec<String> = session.batch(sql).await?.into_iter().map(|row| texts(row)()).collect();
    names.sort();
    Ok(names)
}

/// Tables and views of a schema, ours left out.
pub(super) async fn tables(session: &mut dyn Driver, schema: Option<&str>, limit: usize) -> Result<Vec<ListedTable>> {
    let sql = "SELECT s.name, o.name, o.type, \
         (SELECT SUM(p.rows) FROM sys.partitions p WHERE p.object_id = o.object_id AND p.index_id IN (0, 1)) \
         FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id \
         WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 AND s.name = ISNULL(@P1, SCHEMA_NAME()) ORDER BY o.name";
    let rows = session.query(sql, &[schema]).await?;
    let mut tables: Vec<ListedTable> = rows
        .into_iter()
        .map(|row| {
            let mut next = texts(row);
            let (schema, name, kind, rows) = (next(), next(), next(), next());
            let is_table = kind.trim() == "U";
            ListedTable {
                schema: Some(schema),
                name,
                kind: if is_table { "table" } else { "view" }.to_owned(),
                rows_estimate: rows.parse().ok().filter(|_| is_table),
                bytes: None,
            }
        })
        .filter(|table| !table.name.starts_with("_dmg_") && !table.name.starts_with("__dmg_"))
        .collect();
    // The server's order follows its collation.
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables.truncate(limit);
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_once_and_for_all() {
        assert_eq!(quoted("a]b"), "[a]]b]");
        assert_eq!(literal("it's"), "N'it''s'");
        for (name, expected) in [
            ("usp_merge", Some("[usp_merge]")),
            ("dbo.usp_merge", Some("[dbo].[usp_merge]")),
            ("[dbo].[usp merge]", Some("[dbo].[usp merge]")),
            ("[odd]]name]", Some("[odd]]name]")),
            ("db..proc", Some("[db]..[proc]")),
            ("x; DROP TABLE t --", Some("[x; DROP TABLE t --]")),
            ("[x] y", None),
            ("[x", None),
            ("", None),
            ("dbo.", None),
            ("a.b.c.d.e", None),
        ] {
            assert_eq!(requoted(name).as_deref(), expected, "{name}");
        }
    }
}
