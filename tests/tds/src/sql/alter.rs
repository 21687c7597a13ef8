//! ALTER, DROP and sp_rename: the fixture's own records follow SQLite's tables.

use rusqlite::params;

use super::catalog::{self, TableInfo};
use super::constraints::{NewIndex, checks, keys};
use super::ddl::literal;
use super::emit::Emit;
use super::parse::{Parsed, Parser};
use super::scope::{quoted, same};
use super::tree::*;
use crate::errors::SqlError;
use crate::session::Session;
use crate::types::Type;
use crate::value::Value;

impl Session {
    pub(crate) fn alter_table(&mut self, name: &Name, alter: &Alter) -> Parsed<()> {
        let table = self.target(&Target::Table(name.clone())).map_err(|error| match error.number {
            208 => SqlError::new(
                4902,
                format!("Cannot find the object \"{name}\" because it does not exist or you do not have permissions."),
            ),
            _ => error,
        })?;
        match alter {
            Alter::Accepted => Ok(()),
            Alter::Enforce(enforced, names) => self.enforce(&table, *enforced, names),
            Alter::Add(defs, constraints) => self.add_to_table(&table, defs, constraints),
            Alter::DropColumn(if_exists, names) => {
                for name in names {
                    let Ok(at) = table.position(name) else {
                        if *if_exists {
                            continue;
                        }
                        return Err(SqlError::new(
                            4924,
                            format!(
                                "ALTER TABLE DROP COLUMN failed because column '{name}' does not exist in table '{}'.",
                                table.name
                            ),
                        ));
                    };
                    let column = quoted(&table.columns[at].column.name);
                    self.db.execute_batch(&format!("ALTER TABLE {} DROP COLUMN {column}", table.sqlite))?;
                    self.db.execute(
                        "DELETE FROM fx_columns WHERE object_id = ?1 AND name = ?2",
                        params![table.object_id, name],
                    )?;
                }
                self.refresh_temporary(&table, names);
                Ok(())
            }
            Alter::DropConstraint(if_exists, names) => self.drop_constraints(&table, *if_exists, names),
            Alter::Column(def) => self.alter_column(&table, def),
            Alter::Switch(to) => {
                let to = self.target(&Target::Table(to.clone()))?;
                let count: i64 =
                    self.db.query_row(&format!("SELECT count(*) FROM {}", to.sqlite), [], |row| row.get(0))?;
                if count > 0 {
                    return Err(SqlError::new(
                        4905,
                        format!("ALTER TABLE SWITCH statement failed. The target table '{}' must be empty.", to.name),
                    ));
                }
                self.db.execute_batch(&format!(
                    "INSERT INTO {} SELECT * FROM {}; DELETE FROM {}",
                    to.sqlite, table.sqlite, table.sqlite
                ))?;
                Ok(())
            }
        }
    }

    pub(super) fn refresh_temporary(&mut self, table: &TableInfo, gone: &[String]) {
        for known in &mut self.temporary {
            if known.object_id == table.object_id {
                known.columns.retain(|column| !gone.iter().any(|name| same(name, &column.column.name)));
            }
        }
    }

    pub(super) fn add_to_table(
        &mut self,
        table: &TableInfo,
        defs: &[ColumnDef],
        constraints: &[Constraint],
    ) -> Parsed<()> {
        let fresh = self.columns(defs, constraints)?;
        let mut all = table.clone();
        for (def, info) in defs.iter().zip(&fresh) {
            if all.position(&def.name).is_ok() {
                return Err(SqlError::new(
                    2705,
                    format!(
                        "Column names in each table must be unique. Column name '{}' in table '{}' is specified more than once.",
                        def.name, table.name
                    ),
                ));
            }
            all.columns.push(info.clone());
            let count: i64 =
                self.db.query_row(&format!("SELECT count(*) FROM {}", table.sqlite), [], |row| row.get(0))?;
            let fills = info.default.is_some() || info.identity.is_some() || def.computed.is_some();
            if !info.column.nullable && !fills && count > 0 && info.column.ty != Type::RowVersion {
                return Err(SqlError::new(
                    4901,
                    format!(
                        "ALTER TABLE only allows columns to be added that can contain nulls, or have a DEFAULT definition specified. Column '{}' cannot be added to non-empty table '{}'.",
                        def.name, table.name
                    ),
                ));
            }
            let mut sql = self.column_sql(def, info, &all.columns)?;
            if !info.column.nullable {
                let default = match &info.default {
                    Some(text) => {
                        let (ty, value) = Emit::constant(self, &Parser::new(text)?.expr()?)?;
                        super::convert::convert(&value, &ty, &info.column.ty, 0, super::convert::Why::Assign)?
                    }
                    None => Value::Integer(0),
                };
                if def.computed.is_none() {
                    sql.push_str(&format!(" DEFAULT ({})", literal(&default)));
                }
            }
            self.db.execute_batch(&format!("ALTER TABLE {} ADD COLUMN {sql}", table.sqlite))?;
            if table.object_id > 0 {
                let next: i64 = self.db.query_row(
                    "SELECT coalesce(max(column_id), 0) + 1 FROM fx_columns WHERE object_id = ?1",
                    [table.object_id],
                    |row| row.get(0),
                )?;
                self.record_column(&all, next, def, info, constraints)?;
            }
        }
        for known in &mut self.temporary {
            if known.object_id == table.object_id {
                known.columns.clone_from(&all.columns);
            }
        }
        for constraint in constraints {
            match constraint {
                Constraint::Foreign { .. } => return Err(SqlError::unknown("ALTER TABLE ADD of a foreign key")),
                Constraint::Default { name, column, text, .. } => {
                    let at = all.position(column)?;
                    let name = name.clone().unwrap_or_else(|| format!("DF__{}__{column}", table.name));
                    let id = self.record_object(&table.schema, &name, "D", None, table.object_id, None)?;
                    self.db.execute(
                        "UPDATE fx_columns SET default_text = ?1, default_id = ?2 WHERE object_id = ?3 AND name = ?4",
                        params![text, id, table.object_id, all.columns[at].column.name],
                    )?;
                }
                Constraint::Key { .. } | Constraint::Check { .. } => {}
            }
        }
        for (name, expr, text) in checks(&table.name, defs, constraints) {
            self.add_check(&all, &name, expr, &text)?;
        }
        for (name, primary, clustered, key) in
            keys(&format!("{}__{:X}", table.name, table.object_id), defs, constraints)
        {
            self.create_key(&all, &NewIndex::key(&name, primary, clustered, &key))?;
        }
        Ok(())
    }

    /// A wider type or another nullability: the values are converted where they stand.
    pub(super) fn alter_column(&mut self, table: &TableInfo, def: &ColumnDef) -> Parsed<()> {
        let at = table.position(&def.name)?;
        let old = &table.columns[at].column;
        let nullable = def.nullable.unwrap_or(true);
        if nullable != old.nullable
            || old.ty.sqlite_collation(old.collation) != def.ty.sqlite_collation(def.collation.unwrap_or_default())
        {
            return Err(SqlError::unknown("ALTER COLUMN to another nullability or kind of type"));
        }
        let (from, to) = (old.ty.interned(), def.ty.interned());
        let column = quoted(&old.name);
        self.db
            .execute_batch(&format!("UPDATE {} SET {column} = tds_cast({column}, {from}, {to}, 0, 1)", table.sqlite))?;
        let (length, precision, scale) = def.ty.sizes();
        let (system, user) = def.ty.ids();
        self.db.execute(
            "UPDATE fx_columns SET declared = ?1, type_name = ?2, system_type_id = ?3, user_type_id = ?4, max_length = ?5,
               precision = ?6, scale = ?7 WHERE object_id = ?8 AND name = ?9",
            params![def.ty.declared(), def.ty.name(), system, user, length, precision, scale, table.object_id, old.name],
        )?;
        Ok(())
    }

    pub(crate) fn drop_objects(
        &mut self,
        what: &str,
        names: &[Name],
        if_exists: bool,
        on: Option<&Name>,
    ) -> Parsed<()> {
        for name in names {
            self.drop_one(what, name, if_exists, on)?;
        }
        Ok(())
    }

    pub(super) fn drop_one(&mut self, what: &str, name: &Name, if_exists: bool, on: Option<&Name>) -> Parsed<()> {
        let missing = || {
            SqlError::new(
                if what == "TYPE" { 218 } else { 3701 },
                format!(
                    "Cannot drop the {} '{name}', because it does not exist or you do not have permission.",
                    what.to_lowercase()
                ),
            )
        };
        match what {
            "SCHEMA" => {
                let used: i64 =
                    self.db.query_row("SELECT count(*) FROM fx_objects WHERE schema = ?1", [&name.object], |row| {
                        row.get(0)
                    })?;
                if used > 0 {
                    return Err(SqlError::new(
                        3729,
                        format!("Cannot drop schema '{}' because it is being referenced by an object.", name.object),
                    ));
                }
                let gone =
                    self.db.execute("DELETE FROM fx_schemas WHERE name = ?1 AND schema_id > 4", [&name.object])?;
                return if gone == 0 && !if_exists { Err(missing()) } else { Ok(()) };
            }
            "DATABASE" => {
                return if self.server.drop_database(&name.object) || if_exists { Ok(()) } else { Err(missing()) };
            }
            "INDEX" => {
                // Both `name ON table` and the older `table.name`.
                let table = match (on, &name.schema) {
                    (Some(table), _) => table.clone(),
                    (None, Some(table)) => Name { database: None, schema: None, object: table.clone() },
                    (None, None) => return Err(missing()),
                };
                let table = self.target(&Target::Table(table))?;
                return match self.drop_index(&table, &name.object) {
                    Err(_) if if_exists => Ok(()),
                    other => other,
                };
            }
            _ => {}
        }
        if name.object.starts_with('#') && !name.object.starts_with("##") {
            let Some(at) = self.temporary.iter().position(|table| same(&table.name, &name.object)) else {
                return if if_exists { Ok(()) } else { Err(missing()) };
            };
            let table = self.temporary.remove(at);
            self.db.execute_batch(&format!("DROP TABLE IF EXISTS {}", table.sqlite))?;
            return Ok(());
        }
        self.check_database(name)?;
        let schema = name
            .schema
            .clone()
            .unwrap_or_else(|| if name.object.starts_with("##") { "tempdb".into() } else { "dbo".into() });
        let kind = match what {
            "TABLE" => "U",
            "VIEW" => "V",
            "PROCEDURE" => "P",
            "TRIGGER" => "TR",
            _ => "TT",
        };
        let found = self.object_named(&schema, &name.object)?.filter(|(_, have)| have == kind);
        let Some((id, _)) = found else {
            return if if_exists { Ok(()) } else { Err(missing()) };
        };
        if kind == "U" {
            let used: i64 = self.db.query_row(
                "SELECT count(*) FROM fx_foreign WHERE referenced = ?1 AND parent <> ?1",
                [id],
                |row| row.get(0),
            )?;
            if used > 0 {
                return Err(SqlError::new(
                    3726,
                    format!("Could not drop object '{name}' because it is referenced by a FOREIGN KEY constraint."),
                ));
            }
        }
        let sqlite = quoted(&format!("{schema}.{}", name.object));
        match kind {
            "U" => self.db.execute_batch(&format!("DROP TABLE {sqlite}"))?,
            "V" => self.db.execute_batch(&format!("DROP VIEW {sqlite}"))?,
            "TT" => {
                self.db.execute("DELETE FROM fx_types WHERE object_id = ?1", [id])?;
            }
            _ => {}
        }
        for own in ["fx_columns", "fx_indexes", "fx_index_columns", "fx_parameters", "fx_properties"] {
            self.db.execute(&format!("DELETE FROM {own} WHERE object_id = ?1"), [id])?;
        }
        self.db.execute(
            "DELETE FROM fx_foreign_columns WHERE object_id IN (SELECT object_id FROM fx_foreign WHERE parent = ?1)",
            [id],
        )?;
        self.db.execute("DELETE FROM fx_foreign WHERE parent = ?1", [id])?;
        self.db.execute("DELETE FROM fx_objects WHERE object_id = ?1 OR parent = ?1", [id])?;
        self.server.forget_identity(&self.database, id);
        Ok(())
    }

    /// `sp_rename`: a table, a view, a procedure, an index or a column.
    pub(crate) fn rename(&mut self, old: &str, new: &str, kind: Option<&str>) -> Parsed<()> {
        let wrong = || {
            SqlError::new(
                15225,
                format!("No item by the name of '{old}' could be found in the current database '{}'.", self.database),
            )
        };
        let parts = Parser::new(old).and_then(|mut parser| parser.name()).map_err(|_| wrong())?;
        let kind = kind.map(str::to_ascii_uppercase);
        match kind.as_deref() {
            Some("COLUMN" | "INDEX") => {
                let table = Name {
                    database: None,
                    schema: parts.database.clone(),
                    object: parts.schema.clone().ok_or_else(wrong)?,
                };
                let table = catalog::find(self, &table)?.ok_or_else(wrong)?;
                if kind.as_deref() == Some("COLUMN") {
                    let at = table.position(&parts.object).map_err(|_| wrong())?;
                    let from = &table.columns[at].column.name;
                    self.db.execute_batch(&format!(
                        "ALTER TABLE {} RENAME COLUMN {} TO {}",
                        table.sqlite,
                        quoted(from),
                        quoted(new)
                    ))?;
                    self.db.execute(
                        "UPDATE fx_columns SET name = ?1 WHERE object_id = ?2 AND name = ?3",
                        params![new, table.object_id, from],
                    )?;
                } else {
                    let gone = self.db.execute(
                        "UPDATE fx_indexes SET name = ?1 WHERE object_id = ?2 AND name = ?3",
                        params![new, table.object_id, parts.object],
                    )?;
                    if gone == 0 {
                        return Err(wrong());
                    }
                    self.db.execute(
                        "UPDATE fx_objects SET name = ?1 WHERE parent = ?2 AND name = ?3",
                        params![new, table.object_id, parts.object],
                    )?;
                }
                Ok(())
            }
            None | Some("OBJECT") => {
                let schema = parts.schema.clone().unwrap_or_else(|| "dbo".into());
                let (id, kind) = self.object_named(&schema, &parts.object)?.ok_or_else(wrong)?;
                if self.object_named(&schema, new)?.is_some() {
                    return Err(SqlError::new(
                        15335,
                        format!(
                            "Error: The new name '{new}' is already in use as a OBJECT name and would cause a duplicate that is not permitted."
                        ),
                    ));
                }
                if kind == "U" {
                    let to = quoted(&format!("{schema}.{new}"));
                    self.db.execute_batch(&format!(
                        "ALTER TABLE {} RENAME TO {to}",
                        quoted(&format!("{schema}.{}", parts.object))
                    ))?;
                    self.db.execute("UPDATE fx_objects SET sqlite = ?1 WHERE object_id = ?2", params![to, id])?;
                } else if kind == "V" {
                    return Err(SqlError::unknown("sp_rename of a view"));
                }
                if kind == "PK" || kind == "UQ" {
                    self.db.execute(
                        "UPDATE fx_indexes SET name = ?1 WHERE name = ?2 AND object_id = (SELECT parent FROM fx_objects WHERE object_id = ?3)",
                        params![new, parts.object, id],
                    )?;
                }
                self.db.execute("UPDATE fx_objects SET name = ?1 WHERE object_id = ?2", params![new, id])?;
                Ok(())
            }
            Some(_) => Err(SqlError::new(15249, "Error: Explicit @objtype is unrecognized.")),
        }
    }
}
