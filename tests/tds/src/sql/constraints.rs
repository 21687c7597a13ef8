//! Keys, indexes, checks and foreign keys: what SQLite enforces of them, and the fixture's own records of them.

use rusqlite::params;

use super::catalog::{self, ColumnInfo, TableInfo};
use super::ddl::literal;
use super::lex::{Token, tokens};
use super::parse::{Parsed, Parser};
use super::scope::{quoted, same};
use super::tree::*;
use crate::errors::SqlError;
use crate::session::Session;
use crate::value::Value;

/// A key as it is made: its name, whether primary, whether clustered, its columns.
pub(super) type Key = (String, bool, bool, Vec<(String, bool)>);

/// What follows the name of an index in that of its companion, for which NULL is equal to NULL.
const NULLS: &str = "~nulls";

/// A foreign key as it is made.
pub(super) struct Foreign<'d> {
    name: Option<&'d str>,
    columns: &'d [String],
    pub(super) table: &'d Name,
    to: &'d [String],
}

/// An index as it is made.
pub(super) struct NewIndex<'d> {
    pub(super) name: &'d str,
    /// None for an index that is no constraint.
    pub(super) primary: Option<bool>,
    pub(super) unique: bool,
    pub(super) clustered: bool,
    pub(super) key: &'d [(String, bool)],
    pub(super) included: &'d [String],
    pub(super) filter: Option<&'d (Expr, String)>,
}

impl<'d> NewIndex<'d> {
    pub(super) fn key(name: &'d str, primary: bool, clustered: bool, key: &'d [(String, bool)]) -> Self {
        NewIndex { name, primary: Some(primary), unique: true, clustered, key, included: &[], filter: None }
    }
}

impl Session {
    /// `own` is the table that is being made, where the key points to it.
    pub(super) fn foreign_sql(&self, foreign: &Foreign<'_>, own: Option<&str>) -> Parsed<String> {
        let table = match own {
            Some(own) => own.to_owned(),
            None => {
                let missing =
                    || SqlError::new(1767, format!("Foreign key references invalid table '{}'.", foreign.table));
                catalog::find(self, foreign.table)?.ok_or_else(missing)?.sqlite
            }
        };
        let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let to = if foreign.to.is_empty() { String::new() } else { format!("({})", list(foreign.to)) };
        Ok(format!("FOREIGN KEY ({}) REFERENCES {table}{to}", list(foreign.columns)))
    }

    /// Checks, and foreign keys, which SQLite's table has already.
    pub(super) fn record_others(
        &self,
        table: &TableInfo,
        defs: &[ColumnDef],
        constraints: &[Constraint],
    ) -> Parsed<()> {
        for (name, expr, text) in checks(&table.name, defs, constraints) {
            self.add_check(table, &name, expr, &text)?;
        }
        for (at, foreign) in foreign_keys(defs, constraints).into_iter().enumerate() {
            let unnamed = || format!("FK__{}__{}__{at}", table.name, table.object_id);
            let name = foreign.name.map_or_else(unnamed, str::to_owned);
            let Some(other) = catalog::find(self, foreign.table)? else { continue };
            let id = self.record_object(&table.schema, &name, "F", None, table.object_id, None)?;
            self.db
                .execute("INSERT INTO fx_foreign VALUES (?1,?2,?3)", params![id, table.object_id, other.object_id])?;
            for (ordinal, column) in foreign.columns.iter().enumerate() {
                let parent = table.position(column)? as i64 + 1;
                let referenced = match foreign.to.get(ordinal) {
                    Some(column) => other.position(column)? as i64 + 1,
                    None => ordinal as i64 + 1,
                };
                self.db.execute(
                    "INSERT INTO fx_foreign_columns VALUES (?1,?2,?3,?4)",
                    params![id, ordinal as i64 + 1, parent, referenced],
                )?;
            }
        }
        Ok(())
    }

    /// Makes a check, which the rows that are there have to pass.
    pub(super) fn add_check(&self, table: &TableInfo, name: &str, expr: &Expr, text: &str) -> Parsed<()> {
        let condition = self.row_expression(expr, &table.columns, "")?.sql;
        let broken = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE NOT ({condition}))", table.sqlite);
        if self.db.query_row(&broken, [], |row| row.get(0))? {
            let message = format!("The ALTER TABLE statement conflicted with the CHECK constraint \"{name}\".");
            return Err(SqlError::new(547, message));
        }
        let text = kept(text, &table.columns)?;
        let id = self.record_object(&table.schema, name, "C", None, table.object_id, Some(&text))?;
        self.guard(table, id, name, expr)
    }

    /// A check is a trigger in SQLite, for it may be made later and switched off.
    fn guard(&self, table: &TableInfo, id: i64, name: &str, expr: &Expr) -> Parsed<()> {
        let condition = self.row_expression(expr, &table.columns, "NEW.")?.sql;
        let message = literal(&Value::text(format!("CHECK constraint failed: {name}")));
        for event in ["INSERT", "UPDATE"] {
            self.db.execute_batch(&format!(
                "CREATE TRIGGER \"check {id} {event}\" AFTER {event} ON {} \
                 BEGIN SELECT RAISE(ABORT, {message}) WHERE NOT ({condition}); END",
                table.sqlite
            ))?;
        }
        Ok(())
    }

    fn unguard(&self, id: i64) -> Parsed<()> {
        for event in ["INSERT", "UPDATE"] {
            self.db.execute_batch(&format!("DROP TRIGGER IF EXISTS \"check {id} {event}\""))?;
        }
        Ok(())
    }

    /// Switches checks on or off; all of them where none is named.
    pub(super) fn enforce(&self, table: &TableInfo, enforced: bool, names: &[String]) -> Parsed<()> {
        let mut statement = self.db.prepare(
            "SELECT object_id, name, type, definition FROM fx_objects WHERE parent = ?1 AND type IN ('C', 'F')",
        )?;
        let found = statement
            .query_map([table.object_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
            .collect::<rusqlite::Result<Vec<(i64, String, String, Option<String>)>>>()?;
        if let Some(name) = names.iter().find(|name| !found.iter().any(|(_, known, ..)| same(known, name))) {
            return Err(SqlError::new(4917, format!("Constraint '{name}' does not exist.")));
        }
        let meant = |known: &str| names.is_empty() || names.iter().any(|name| same(name, known));
        for (id, name, kind, text) in found.iter().filter(|(_, known, ..)| meant(known)) {
            if kind == "F" {
                return Err(SqlError::unknown("CHECK or NOCHECK of a foreign key"));
            }
            self.unguard(*id)?;
            if enforced {
                let expr = Parser::new(text.as_deref().unwrap_or_default())?.expr()?;
                self.guard(table, *id, name, &expr)?;
            }
            self.db.execute("UPDATE fx_objects SET disabled = ?1 WHERE object_id = ?2", params![!enforced, id])?;
        }
        Ok(())
    }

    /// A key or an index.
    pub(super) fn create_key(&self, table: &TableInfo, index: &NewIndex<'_>) -> Parsed<()> {
        let (place, _) = placed(table);
        let sqlite = quoted(&format!("{}.{}.{}", table.schema, table.object_id, index.name));
        self.create_in_sqlite(table, index).map_err(|error| match error.number {
            2627 => SqlError::new(
                1505,
                format!(
                    "The CREATE UNIQUE INDEX statement terminated because a duplicate key was found for the object name \
                     '{}.{}' and the index name '{}'.",
                    table.schema, table.name, index.name
                ),
            ),
            _ => error,
        })?;
        if !place.is_empty() {
            return Ok(());
        }
        let next: i64 = self.db.query_row(
            "SELECT coalesce(max(index_id), 1) + 1 FROM fx_indexes WHERE object_id = ?1",
            [table.object_id],
            |row| row.get(0),
        )?;
        let id = if index.clustered { 1 } else { next };
        let filter = index.filter.map(|(_, text)| kept(text, &table.columns)).transpose()?;
        self.db.execute(
            "INSERT INTO fx_indexes VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)",
            params![
                table.object_id,
                id,
                index.name,
                index.unique,
                index.primary == Some(true),
                index.primary == Some(false),
                index.clustered,
                sqlite,
                filter
            ],
        )?;
        let all = index.key.iter().map(|(name, descending)| (name, *descending, false));
        for (at, (column, descending, include)) in
            all.chain(index.included.iter().map(|name| (name, false, true))).enumerate()
        {
            let column = table.position(column)? as i64 + 1;
            let ordinal = if include { 0 } else { at as i64 + 1 };
            self.db.execute(
                "INSERT INTO fx_index_columns VALUES (?1,?2,?3,?4,?5,?6,?7)",
                params![table.object_id, id, at as i64 + 1, column, ordinal, descending, include],
            )?;
        }
        if let Some(primary) = index.primary {
            let kind = if primary { "PK" } else { "UQ" };
            self.record_object(&table.schema, index.name, kind, None, table.object_id, None)?;
        }
        Ok(())
    }

    /// To SQLite no NULL is equal to another one; to the server they are. So a unique index has a companion, over the
    /// rows with a NULL in the key.
    fn create_in_sqlite(&self, table: &TableInfo, index: &NewIndex<'_>) -> Parsed<()> {
        let (place, on) = placed(table);
        let name = format!("{}.{}.{}", table.schema, table.object_id, index.name);
        let (mut plain, mut folded, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
        for (column, descending) in index.key {
            let column = &table.columns[table.position(column)?].column;
            let own = quoted(&column.name);
            plain.push(format!("{own}{}", if *descending { " DESC" } else { "" }));
            if !column.nullable {
                folded.push(own);
                continue;
            }
            let collation = column.ty.sqlite_collation(column.collation);
            let collate = collation.map_or_else(String::new, |collation| format!(" COLLATE {collation}"));
            folded.push(format!("({own} IS NULL), ifnull({own}, 0){collate}"));
            nulls.push(format!("{own} IS NULL"));
        }
        let filter = match index.filter {
            Some((expr, _)) => vec![format!("({})", self.row_expression(expr, &table.columns, "")?.sql)],
            None => Vec::new(),
        };
        let make = |unique: &str, name: &str, columns: &[String], conditions: &[String]| {
            let condition =
                if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
            let (name, columns) = (quoted(name), columns.join(", "));
            self.db.execute_batch(&format!("CREATE {unique}INDEX {place}{name} ON {on} ({columns}){condition}"))
        };
        make(if index.unique { "UNIQUE " } else { "" }, &name, &plain, &filter)?;
        if index.unique && !nulls.is_empty() {
            let some = format!("({})", nulls.join(" OR "));
            make("UNIQUE ", &format!("{name}{NULLS}"), &folded, &[filter, vec![some]].concat())?;
        }
        Ok(())
    }

    /// What SQLite refused, as the server tells it: a key that is there already by the name of what guards it.
    pub(super) fn refused(&self, table: &TableInfo, error: rusqlite::Error) -> SqlError {
        let text = error.to_string();
        let guard = text.strip_prefix("UNIQUE constraint failed: ").and_then(|what| self.guard_of(table, what));
        let Some((name, primary, constraint)) = guard else { return error.into() };
        let object = format!("{}.{}", table.schema, table.name);
        if primary || constraint {
            let kind = if primary { "PRIMARY KEY" } else { "UNIQUE KEY" };
            let message =
                format!("Violation of {kind} constraint '{name}'. Cannot insert duplicate key in object '{object}'.");
            return SqlError::new(2627, message);
        }
        let message = format!("Cannot insert duplicate key row in object '{object}' with unique index '{name}'.");
        SqlError::new(2601, message)
    }

    /// The index that SQLite speaks of, by its name or by its columns: its name, whether primary, whether a constraint.
    fn guard_of(&self, table: &TableInfo, what: &str) -> Option<(String, bool, bool)> {
        let columns: Option<Vec<&str>> = what.split(", ").map(|part| Some(part.rsplit_once('.')?.1)).collect();
        let own = what.strip_prefix("index '").and_then(|name| name.strip_suffix('\''));
        let own = own.map(|name| quoted(name.trim_end_matches(NULLS)));
        let sql = "SELECT i.name, i.is_primary, i.is_constraint, i.sqlite, \
             group_concat(c.name, ', ' ORDER BY k.key_ordinal) FROM fx_indexes i \
             JOIN fx_index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id \
             JOIN fx_columns c ON c.object_id = k.object_id AND c.column_id = k.column_id \
             WHERE i.object_id = ?1 AND i.is_unique AND k.key_ordinal > 0 GROUP BY i.index_id";
        let mut statement = self.db.prepare(sql).ok()?;
        let mut rows = statement.query([table.object_id]).ok()?;
        while let Some(row) = rows.next().ok()? {
            let (sqlite, list): (String, String) = (row.get(3).ok()?, row.get(4).ok()?);
            let found = match &own {
                Some(own) => *own == sqlite,
                None => columns.as_ref().is_some_and(|columns| columns.join(", ") == list),
            };
            if found {
                return Some((row.get(0).ok()?, row.get(1).ok()?, row.get(2).ok()?));
            }
        }
        None
    }

    pub(super) fn drop_constraints(&mut self, table: &TableInfo, if_exists: bool, names: &[String]) -> Parsed<()> {
        for name in names {
            match self.object_named(&table.schema, name)? {
                Some((_, kind)) if kind == "PK" || kind == "UQ" => self.drop_index(table, name)?,
                Some((id, kind)) if kind == "D" => {
                    self.db.execute(
                        "UPDATE fx_columns SET default_text = NULL, default_id = 0 WHERE object_id = ?1 AND default_id = ?2",
                        params![table.object_id, id],
                    )?;
                }
                Some((id, kind)) if kind == "C" => self.unguard(id)?,
                Some(_) => return Err(SqlError::unknown("ALTER TABLE DROP of a foreign key")),
                None if if_exists => continue,
                None => return Err(SqlError::new(3728, format!("'{name}' is not a constraint."))),
            }
            self.db.execute("DELETE FROM fx_objects WHERE schema = ?1 AND name = ?2", params![table.schema, name])?;
        }
        Ok(())
    }

    pub(super) fn drop_index(&self, table: &TableInfo, name: &str) -> Parsed<()> {
        let found = self.db.query_row(
            "SELECT index_id, sqlite FROM fx_indexes WHERE object_id = ?1 AND name = ?2",
            params![table.object_id, name],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
        );
        let (id, sqlite) = found.map_err(|_| {
            SqlError::new(
                3701,
                format!(
                    "Cannot drop the index '{}.{name}', because it does not exist or you do not have permission.",
                    table.name
                ),
            )
        })?;
        let nulls = format!("{}{NULLS}\"", sqlite.trim_end_matches('"'));
        self.db.execute_batch(&format!("DROP INDEX {sqlite}; DROP INDEX IF EXISTS {nulls}"))?;
        self.db
            .execute("DELETE FROM fx_indexes WHERE object_id = ?1 AND index_id = ?2", params![table.object_id, id])?;
        self.db.execute(
            "DELETE FROM fx_index_columns WHERE object_id = ?1 AND index_id = ?2",
            params![table.object_id, id],
        )?;
        Ok(())
    }
}

/// Schema of SQLite before an index's name, and the table's name in it.
fn placed(table: &TableInfo) -> (&'static str, &str) {
    match table.sqlite.strip_prefix("temp.") {
        Some(bare) => ("temp.", bare),
        None => ("", &table.sqlite),
    }
}

/// An expression on a row as the server keeps it: in brackets, and every column's name in square ones.
fn kept(text: &str, columns: &[ColumnInfo]) -> Parsed<String> {
    let tokens = tokens(text)?;
    let (mut kept, mut from) = ("(".to_owned(), 0);
    for (placed, next) in tokens.iter().zip(tokens.iter().skip(1)) {
        let (name, end) = match &placed.token {
            Token::Word(name) if next.token != Token::Sign("(") => (name, placed.at + name.len()),
            Token::Quoted(name) => (name, placed.at + text[placed.at..next.at].trim_end().len()),
            _ => continue,
        };
        if let Some(column) = columns.iter().find(|column| same(&column.column.name, name)) {
            kept.push_str(&text[from..placed.at]);
            kept.push_str(&format!("[{}]", column.column.name.replace(']', "]]")));
            from = end;
        }
    }
    kept.push_str(&text[from..]);
    Ok(kept + ")")
}

pub(super) fn checks<'d>(
    table: &str,
    defs: &'d [ColumnDef],
    constraints: &'d [Constraint],
) -> Vec<(String, &'d Expr, String)> {
    let mut all = Vec::new();
    let own = defs.iter().flat_map(|def| def.checks.iter().map(|(name, expr, text)| (name, expr, text)));
    let rest = constraints.iter().filter_map(|constraint| match constraint {
        Constraint::Check { name, expr, text } => Some((name, expr, text)),
        _ => None,
    });
    for (at, (name, expr, text)) in own.chain(rest).enumerate() {
        all.push((name.clone().unwrap_or_else(|| format!("CK__{table}__{at}")), expr, text.clone()));
    }
    all
}

pub(super) fn foreign_keys<'d>(defs: &'d [ColumnDef], constraints: &'d [Constraint]) -> Vec<Foreign<'d>> {
    let of_table = constraints.iter().filter_map(|constraint| match constraint {
        Constraint::Foreign { name, columns, table, to } => Some(Foreign { name: name.as_deref(), columns, table, to }),
        _ => None,
    });
    let of_columns = defs.iter().filter_map(|def| {
        let (name, table, to) = def.references.as_ref()?;
        Some(Foreign { name: name.as_deref(), columns: std::slice::from_ref(&def.name), table, to })
    });
    of_table.chain(of_columns).collect()
}

pub(super) fn keys(table: &str, defs: &[ColumnDef], constraints: &[Constraint]) -> Vec<Key> {
    let mut all: Vec<Key> = Vec::new();
    for def in defs {
        for (name, primary) in &def.keys {
            let prefix = if *primary { "PK" } else { "UQ" };
            let name = name.clone().unwrap_or_else(|| format!("{prefix}__{table}__{}", def.name));
            all.push((name, *primary, *primary, vec![(def.name.clone(), false)]));
        }
    }
    for (at, constraint) in constraints.iter().enumerate() {
        if let Constraint::Key { name, primary, clustered, columns } = constraint {
            let prefix = if *primary { "PK" } else { "UQ" };
            let name = name.clone().unwrap_or_else(|| format!("{prefix}__{table}__{at}"));
            all.push((name, *primary, clustered.unwrap_or(*primary), columns.clone()));
        }
    }
    all
}
