//! What a database file says of the table that is written to: its columns, what depends on it, how it was made. Reads
//! the schema only.

use std::path::Path;

use dmg_connector::{Column, Result};
use dmg_protocol::{Fault, Kind};
use rusqlite::{Connection, OptionalExtension};

use super::errors::error;
use super::types::kind;

/// Names of our staging tables begin so.
pub(super) const STAGING_PREFIX: &str = "_dmg_";
/// Table of marks.
pub(super) const MARK_TABLE: &str = "__dmg_commit";

/// A name as SQL takes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names with commas between.
pub(super) fn quoted_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(quoted).collect::<Vec<_>>().join(", ")
}

/// What SQLite does to a value that goes into a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    /// Integers and reals become text.
    Text,
    /// Text that looks like a number becomes one.
    Numeric,
    /// Integers become reals.
    Real,
    /// Nothing.
    None,
}

impl Affinity {
    /// By SQLite's own rules, in their order.
    pub(super) fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
        match () {
            () if has(&["INT"]) => Affinity::Numeric,
            () if has(&["CHAR", "CLOB", "TEXT"]) => Affinity::Text,
            () if declared.is_empty() || has(&["BLOB"]) => Affinity::None,
            () if has(&["REAL", "FLOA", "DOUB"]) => Affinity::Real,
            () => Affinity::Numeric,
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) column: Column,
    /// Computed by the database; cannot be written.
    pub(super) generated: bool,
}

/// The table rows go into.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Its name, as the database spells it where it exists.
    pub(super) table: String,
    /// The statement that made it; none where the commit makes it.
    pub(super) sql: Option<String>,
    pub(super) found: Vec<Found>,
    /// Whether values are held against the declared types.
    pub(super) strict: bool,
    /// Why another table cannot simply take its name.
    pub(super) bound: Option<&'static str>,
}

impl Target {
    /// Looks at a table; a missing one may be made later.
    pub(super) fn look(connection: &Connection, path: &Path, table: &str) -> Result<Self> {
        let failed = |e| error(path, e);
        let sql =
            "SELECT type, name, sql FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?));
        let Some((kind, name, sql)) = connection.query_row(sql, [table], row).optional().map_err(failed)? else {
            return Ok(Target::absent(table));
        };
        if kind != "table" {
            let message = format!("\"{name}\" in SQLite {} is no table but a view.", path.display());
            return Err(Fault::new("UserErrorSettings", message).remedy("Name a table as the target.").into());
        }
        let strict = "SELECT strict FROM pragma_table_list WHERE schema = 'main' AND name = ?1";
        let strict = connection.query_row(strict, [&name], |row| row.get(0)).optional().map_err(failed)?;
        let strict = strict.unwrap_or(false);
        let found = columns(connection, &name, strict).map_err(failed)?;
        let sql: String = sql;
        let bound = bound(connection, &name, &sql).map_err(failed)?;
        Ok(Target { table: name, sql: Some(sql), found, strict, bound })
    }

    /// A table that is yet to be made.
    pub(super) fn absent(table: &str) -> Self {
        Target { table: table.to_owned(), sql: None, found: Vec::new(), strict: false, bound: None }
    }

    pub(super) fn exists(&self) -> bool {
        self.sql.is_some()
    }

    pub(super) fn column(&self, name: &str) -> Option<&Found> {
        let exact = self.found.iter().find(|found| found.column.name == name);
        exact.or_else(|| self.found.iter().find(|found| found.column.name.eq_ignore_ascii_case(name)))
    }

    /// The statement that makes an empty table of the same definition under another name.
    pub(super) fn alike(&self, name: &str) -> Option<String> {
        Some(format!("CREATE TABLE {}{}", quoted(name), definition(self.sql.as_deref()?)?))
    }
}

/// Columns by name, with what the table says of them.
pub(super) fn columns(connection: &Connection, table: &str, strict: bool) -> rusqlite::Result<Vec<Found>> {
    let sql = "SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([table], |row| {
        let (name, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let (required, key, hidden): (bool, u32, u32) = (row.get(2)?, row.get(3)?, row.get(4)?);
        // Where types bind, ANY does nothing to a value; elsewhere it is a type like any other.
        let type_name = if strict && declared.eq_ignore_ascii_case("ANY") { String::new() } else { declared };
        let kind = kind(&type_name).unwrap_or(Kind::Text);
        let column = Column { name, kind, type_name, nullable: !required, key: key > 0 };
        Ok(Found { column, generated: hidden != 0 })
    })?;
    let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    // An INTEGER PRIMARY KEY never holds NULL: the database would make up a number instead.
    let mut keys = found.iter_mut().filter(|found| found.column.key);
    if let (Some(key), None) = (keys.next(), keys.next())
        && key.column.type_name.eq_ignore_ascii_case("INTEGER")
    {
        key.column.nullable = false;
    }
    Ok(found)
}

/// What keeps a table from being replaced by another of its name.
fn bound(connection: &Connection, table: &str, sql: &str) -> rusqlite::Result<Option<&'static str>> {
    let any = |query: &str| connection.query_row(query, [table], |row| row.get::<_, bool>(0));
    let upper = sql.to_ascii_uppercase();
    if upper.starts_with("CREATE VIRTUAL") {
        return Ok(Some("it is a virtual table"));
    }
    if upper.contains("AUTOINCREMENT") {
        return Ok(Some("its key goes on counting"));
    }
    if definition(sql).is_none_or(|rest| rest.to_lowercase().contains(&table.to_lowercase())) {
        return Ok(Some("its definition names the table itself"));
    }
    let mentioned = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type IN ('view', 'trigger') \
         AND (tbl_name = ?1 COLLATE NOCASE OR instr(lower(sql), lower(?1)) > 0))";
    if any(mentioned)? {
        return Ok(Some("a view or trigger depends on it"));
    }
    let linked = "SELECT EXISTS (SELECT 1 FROM pragma_foreign_key_list(?1)) OR EXISTS (SELECT 1 FROM sqlite_schema m, \
         pragma_foreign_key_list(m.name) f WHERE m.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE)";
    Ok(any(linked)?.then_some("foreign keys lead to it or from it"))
}

/// What stands behind the name in `CREATE TABLE name …`. SQLite keeps these two words as they are here, and drops a
/// schema in front of the name.
fn definition(sql: &str) -> Option<&str> {
    let rest = sql.strip_prefix("CREATE TABLE ")?.trim_start();
    let close = match rest.chars().next()? {
        '[' => ']',
        quote @ ('"' | '`' | '\'') => quote,
        _ => {
            let end = rest.find(|c: char| c.is_whitespace() || c == '(')?;
            return Some(&rest[end..]);
        }
    };
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c != close {
            continue;
        }
        if close != ']' && characters.peek().is_some_and(|(_, next)| *next == close) {
            characters.next();
            continue;
        }
        return Some(&rest[at + 1..]);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities() {
        for (declared, expected) in [
            ("INTEGER", Affinity::Numeric),
            ("VARCHAR(20)", Affinity::Text),
            ("DECIMAL_TEXT(15,2)", Affinity::Text),
            ("DECIMAL(15,2)", Affinity::Numeric),
            ("DATE", Affinity::Numeric),
            ("DOUBLE", Affinity::Real),
            ("BLOB", Affinity::None),
            ("", Affinity::None),
            ("odd", Affinity::Numeric),
        ] {
            assert_eq!(Affinity::of(declared), expected, "{declared}");
        }
    }

    #[test]
    fn what_stands_behind_the_name() {
        for (sql, expected) in [
            ("CREATE TABLE t(a)", Some("(a)")),
            ("CREATE TABLE t (a) STRICT", Some(" (a) STRICT")),
            ("CREATE TABLE \"a\"\"b(\" (a)", Some(" (a)")),
            ("CREATE TABLE [a\"b](a)", Some("(a)")),
            ("CREATE VIRTUAL TABLE t USING fts5(a)", None),
        ] {
            assert_eq!(definition(sql), expected, "{sql}");
        }
    }
}
