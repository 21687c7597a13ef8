//! CREATE, ALTER and DROP: SQLite's table beside the fixture's own records of it.

use rusqlite::params;

use super::catalog::{self, ColumnInfo, TableInfo};
use super::emit::Emit;
use super::parse::{Parsed, Parser};
use super::scope::{Piece, Scope, ScopeTable, quoted, same};
use super::tree::*;
use crate::errors::SqlError;
use crate::out::Column;
use crate::session::Session;
use crate::types::Type;
use crate::value::Value;

/// A key as it is made: its name, whether primary, whether clustered, its columns.
type Key = (String, bool, bool, Vec<(String, bool)>);

impl Session {
    fn exists(name: &str) -> SqlError {
        SqlError::new(2714, format!("There is already an object named '{name}' in the database."))
    }

    pub(crate) fn create_table(&mut self, name: &Name, defs: &[ColumnDef], constraints: &[Constraint]) -> Parsed<()> {
        let temporary = name.object.starts_with('#') && !name.object.starts_with("##");
        self.check_database(name)?;
        let schema = self.schema_for(name)?;
        if catalog::find(self, name)?.is_some() || !temporary && self.object_named(&schema, &name.object)?.is_some() {
            return Err(Self::exists(&name.object));
        }
        let names: Vec<&String> = defs.iter().map(|def| &def.name).collect();
        for (at, name) in names.iter().enumerate() {
            if names[..at].iter().any(|other| same(other, name)) {
                return Err(SqlError::new(
                    2705,
                    format!(
                        "Column names in each table must be unique. Column name '{name}' is specified more than once."
                    ),
                ));
            }
            if name.encode_utf16().count() > 128 {
                return Err(SqlError::new(
                    103,
                    format!("The identifier that starts with '{}' is too long.", &name[..8]),
                ));
            }
        }
        let columns = self.columns(defs, constraints)?;
        let sqlite = if temporary {
            format!("temp.{}", quoted(&name.object))
        } else {
            quoted(&format!("{schema}.{}", name.object))
        };
        let mut parts = Vec::new();
        for (def, info) in defs.iter().zip(&columns) {
            parts.push(self.column_sql(def, info, &columns)?);
        }
        for check in checks(defs, constraints) {
            parts.push(format!(
                "CONSTRAINT {} CHECK ({})",
                quoted(&check.0),
                self.row_expression(check.1, &columns)?.sql
            ));
        }
        for constraint in constraints {
            if let Constraint::Foreign { columns, table, to, .. } = constraint {
                parts.push(self.foreign_sql(columns, table, to)?);
            }
        }
        for def in defs {
            if let Some((table, to)) = &def.references {
                parts.push(self.foreign_sql(std::slice::from_ref(&def.name), table, to)?);
            }
        }
        self.db.execute_batch(&format!("CREATE TABLE {sqlite} ({})", parts.join(", ")))?;
        let mut table =
            TableInfo { sqlite, schema, name: name.object.clone(), object_id: 0, kind: "U".into(), columns };
        if temporary {
            table.object_id = -1000 - self.temporary.len() as i64;
            self.temporary.push(table.clone());
        } else {
            table.object_id = self.record_object(&table.schema, &table.name, "U", Some(&table.sqlite), 0, None)?;
            for (at, (def, info)) in defs.iter().zip(&table.columns).enumerate() {
                self.record_column(&table, at as i64 + 1, def, info, constraints)?;
            }
        }
        for (name, primary, clustered, key) in
            keys(&format!("{}__{:X}", table.name, table.object_id), defs, constraints)
        {
            self.create_key(&table, &name, Some(primary), true, clustered, &key, &[])?;
        }
        if !temporary {
            self.record_others(&table, defs, constraints)?;
        }
        Ok(())
    }

    fn schema_for(&self, name: &Name) -> Parsed<String> {
        if name.object.starts_with("##") {
            return Ok("tempdb".into());
        }
        let schema = name.schema.as_deref().unwrap_or("dbo");
        let found = self.db.query_row("SELECT name FROM fx_schemas WHERE name = ?1", [schema], |row| row.get(0));
        found.map_err(|_| {
            SqlError::new(2760, format!("The specified schema name \"{schema}\" either does not exist or you do not have permission to use it."))
        })
    }

    pub(crate) fn object_named(&self, schema: &str, name: &str) -> Parsed<Option<(i64, String)>> {
        let mut statement = self.db.prepare_cached(
            "SELECT object_id, type FROM fx_objects WHERE schema = ?1 AND name = ?2 AND type <> 'IT'",
        )?;
        let mut rows = statement.query(params![schema, name])?;
        Ok(match rows.next()? {
            Some(row) => Some((row.get(0)?, row.get(1)?)),
            None => None,
        })
    }

    /// The definitions as the catalog knows them.
    pub(crate) fn columns(&self, defs: &[ColumnDef], constraints: &[Constraint]) -> Parsed<Vec<ColumnInfo>> {
        let in_key = |name: &str| {
            constraints.iter().any(|constraint| {
                matches!(constraint, Constraint::Key { primary: true, columns, .. }
                    if columns.iter().any(|(column, _)| same(column, name)))
            })
        };
        let mut columns: Vec<ColumnInfo> = Vec::new();
        for def in defs {
            let nullable =
                def.nullable.unwrap_or(def.identity.is_none() && def.ty != Type::RowVersion) && !in_key(&def.name);
            let mut info = ColumnInfo {
                column: Column {
                    name: def.name.clone(),
                    ty: def.ty.clone(),
                    nullable,
                    collation: def.collation.unwrap_or_default(),
                    identity: def.identity.is_some(),
                    computed: def.computed.is_some() || def.ty == Type::RowVersion,
                },
                default: def.default.as_ref().map(|(_, _, text)| text.clone()),
                identity: def.identity,
            };
            for constraint in constraints {
                if let Constraint::Default { column, text, .. } = constraint
                    && same(column, &def.name)
                {
                    info.default = Some(text.clone());
                }
            }
            if let Some((expr, _, _)) = &def.computed {
                let piece = self.row_expression(expr, &columns)?;
                info.column.ty = piece.ty;
                info.column.nullable = def.nullable.unwrap_or(true);
            }
            columns.push(info);
        }
        Ok(columns)
    }

    /// An expression on a row of the table itself.
    fn row_expression(&self, expr: &Expr, columns: &[ColumnInfo]) -> Parsed<Piece> {
        let mut emit = Emit::new(self);
        let columns: Vec<Column> = columns.iter().map(|info| info.column.clone()).collect();
        let scope =
            Scope { tables: vec![ScopeTable { alias: String::new(), sql: "\"row\"".into(), columns }], outer: None };
        let piece = emit.expr(expr, &scope)?;
        let mut sql = piece.sql.replace("\"row\".", "");
        // A definition holds no parameters: constants are written out, the last first so that ?1 is not found in ?10.
        for (at, value) in emit.params.iter().enumerate().rev() {
            sql = sql.replace(&format!("?{}", at + 1), &literal(value));
        }
        Ok(Piece { sql, ..piece })
    }

    fn column_sql(&self, def: &ColumnDef, info: &ColumnInfo, columns: &[ColumnInfo]) -> Parsed<String> {
        let mut sql = quoted(&def.name);
        if let Some(collation) = info.column.ty.sqlite_collation(info.column.collation) {
            sql.push_str(&format!(" COLLATE {collation}"));
        }
        if let Some((expr, _, persisted)) = &def.computed {
            let kind = if *persisted { "STORED" } else { "VIRTUAL" };
            sql.push_str(&format!(" AS ({}) {kind}", self.row_expression(expr, columns)?.sql));
        }
        if !info.column.nullable {
            sql.push_str(" NOT NULL");
        }
        Ok(sql)
    }

    fn foreign_sql(&self, columns: &[String], table: &Name, to: &[String]) -> Parsed<String> {
        let table = catalog::find(self, table)?
            .ok_or_else(|| SqlError::new(1767, format!("Foreign key references invalid table '{table}'.")))?;
        let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let to = if to.is_empty() { String::new() } else { format!("({})", list(to)) };
        Ok(format!("FOREIGN KEY ({}) REFERENCES {}{to}", list(columns), table.sqlite))
    }

    pub(crate) fn record_object(
        &self,
        schema: &str,
        name: &str,
        kind: &str,
        sqlite: Option<&str>,
        parent: i64,
        definition: Option<&str>,
    ) -> Parsed<i64> {
        let now = self.now().to_text();
        let created = format!("{}0000", now.get(..23).unwrap_or(&now));
        self.db.execute(
            "INSERT INTO fx_objects(schema, name, type, sqlite, parent, definition, created) VALUES (?1,?2,?3,?4,?5,?6,?7)",
            params![schema, name, kind, sqlite, parent, definition, created],
        )?;
        Ok(self.db.last_insert_rowid())
    }

    fn record_column(
        &self,
        table: &TableInfo,
        id: i64,
        def: &ColumnDef,
        info: &ColumnInfo,
        constraints: &[Constraint],
    ) -> Parsed<()> {
        let ty = &info.column.ty;
        let (length, precision, scale) = ty.sizes();
        let (system, user) = ty.ids();
        let collation = ty.is_text().then(|| info.column.collation.name()).filter(|_| *ty != Type::Xml);
        let mut default_id = 0;
        if info.default.is_some() {
            let named = def.default.as_ref().and_then(|(name, _, _)| name.clone()).or_else(|| {
                constraints.iter().find_map(|constraint| match constraint {
                    Constraint::Default { name, column, .. } if same(column, &def.name) => name.clone(),
                    _ => None,
                })
            });
            let name = named.unwrap_or_else(|| format!("DF__{}__{}__{}", table.name, def.name, table.object_id));
            default_id = self.record_object(&table.schema, &name, "D", None, table.object_id, None)?;
        }
        let (seed, step) = info.identity.unwrap_or((0, 0));
        let computed = def.computed.as_ref().map(|(_, text, _)| text.as_str());
        let persisted = def.computed.as_ref().is_some_and(|(_, _, persisted)| *persisted);
        self.db.execute(
            "INSERT INTO fx_columns(object_id, column_id, name, declared, type_name, system_type_id, user_type_id, max_length,
               precision, scale, nullable, collation, identity, seed, increment, default_text, default_id, computed_text,
               persisted, sparse)
             VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20)",
            params![
                table.object_id,
                id,
                info.column.name,
                ty.declared(),
                ty.name(),
                system,
                user,
                length,
                precision,
                scale,
                info.column.nullable,
                collation,
                info.identity.is_some(),
                seed,
                step,
                info.default,
                default_id,
                computed,
                persisted,
                def.sparse
            ],
        )?;
        Ok(())
    }

    /// Checks and foreign keys, which SQLite's table has already.
    fn record_others(&self, table: &TableInfo, defs: &[ColumnDef], constraints: &[Constraint]) -> Parsed<()> {
        for (name, _, text) in checks(defs, constraints) {
            self.record_object(&table.schema, &name, "C", None, table.object_id, Some(&text))?;
        }
        let mut foreign = Vec::new();
        for constraint in constraints {
            if let Constraint::Foreign { name, columns, table, to } = constraint {
                foreign.push((name.clone(), columns.clone(), table.clone(), to.clone()));
            }
        }
        for def in defs {
            if let Some((other, to)) = &def.references {
                foreign.push((None, vec![def.name.clone()], other.clone(), to.clone()));
            }
        }
        for (at, (name, columns, other, to)) in foreign.into_iter().enumerate() {
            let name = name.unwrap_or_else(|| format!("FK__{}__{}__{at}", table.name, table.object_id));
            let Some(other) = catalog::find(self, &other)? else { continue };
            let id = self.record_object(&table.schema, &name, "F", None, table.object_id, None)?;
            self.db
                .execute("INSERT INTO fx_foreign VALUES (?1,?2,?3)", params![id, table.object_id, other.object_id])?;
            for (ordinal, column) in columns.iter().enumerate() {
                let parent = table.position(column)? as i64 + 1;
                let referenced = match to.get(ordinal) {
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

    /// A key or an index: `primary` is none for an index.
    #[expect(clippy::too_many_arguments, reason = "an index has that many sides, and one place makes it")]
    pub(crate) fn create_key(
        &self,
        table: &TableInfo,
        name: &str,
        primary: Option<bool>,
        unique: bool,
        clustered: bool,
        key: &[(String, bool)],
        included: &[String],
    ) -> Parsed<()> {
        let list: Parsed<Vec<String>> = key
            .iter()
            .map(|(column, descending)| {
                let at = table.position(column)?;
                Ok(format!("{}{}", quoted(&table.columns[at].column.name), if *descending { " DESC" } else { "" }))
            })
            .collect();
        let list = list?;
        let (place, on) = match table.sqlite.strip_prefix("temp.") {
            Some(bare) => ("temp.", bare),
            None => ("", table.sqlite.as_str()),
        };
        let sqlite = quoted(&format!("{}.{}.{name}", table.schema, table.object_id));
        let unique_word = if unique { "UNIQUE " } else { "" };
        self.db.execute_batch(&format!("CREATE {unique_word}INDEX {place}{sqlite} ON {on} ({})", list.join(", "))).map_err(
            |error| match SqlError::from(error) {
                error if error.number == 2627 => SqlError::new(
                    1505,
                    format!("The CREATE UNIQUE INDEX statement terminated because a duplicate key was found for the object name '{}.{}' and the index name '{name}'.", table.schema, table.name),
                ),
                error => error,
            },
        )?;
        if !place.is_empty() {
            return Ok(());
        }
        let next: i64 = self.db.query_row(
            "SELECT coalesce(max(index_id), 1) + 1 FROM fx_indexes WHERE object_id = ?1",
            [table.object_id],
            |row| row.get(0),
        )?;
        let id = if clustered { 1 } else { next };
        self.db.execute(
            "INSERT INTO fx_indexes VALUES (?1,?2,?3,?4,?5,?6,?7,?8)",
            params![
                table.object_id,
                id,
                name,
                unique,
                primary == Some(true),
                primary == Some(false),
                clustered,
                sqlite
            ],
        )?;
        let all = key.iter().map(|(name, descending)| (name, *descending, false));
        for (at, (column, descending, include)) in
            all.chain(included.iter().map(|name| (name, false, true))).enumerate()
        {
            let column = table.position(column)? as i64 + 1;
            let ordinal = if include { 0 } else { at as i64 + 1 };
            self.db.execute(
                "INSERT INTO fx_index_columns VALUES (?1,?2,?3,?4,?5,?6,?7)",
                params![table.object_id, id, at as i64 + 1, column, ordinal, descending, include],
            )?;
        }
        if let Some(primary) = primary {
            self.record_object(&table.schema, name, if primary { "PK" } else { "UQ" }, None, table.object_id, None)?;
        }
        Ok(())
    }

    pub(crate) fn create_view(&mut self, name: &Name, names: &[String], query: &Query, text: &str) -> Parsed<()> {
        let schema = self.schema_for(name)?;
        if self.object_named(&schema, &name.object)?.is_some() {
            return Err(Self::exists(&name.object));
        }
        let mut emit = Emit::new(self);
        let (mut sql, mut columns) = emit.query(query, None)?;
        for (at, value) in emit.params.iter().enumerate().rev() {
            sql = sql.replace(&format!("?{}", at + 1), &literal(value));
        }
        for (column, name) in columns.iter_mut().zip(names) {
            column.name.clone_from(name);
        }
        let list: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let sqlite = quoted(&format!("{schema}.{}", name.object));
        self.db.execute_batch(&format!("CREATE VIEW {sqlite}({}) AS {sql}", list.join(", ")))?;
        let object_id = self.record_object(&schema, &name.object, "V", Some(&sqlite), 0, Some(text))?;
        let table =
            TableInfo { sqlite, schema, name: name.object.clone(), object_id, kind: "V".into(), columns: Vec::new() };
        for (at, column) in columns.into_iter().enumerate() {
            let def = plain_def(&column);
            let info = ColumnInfo { column: Column { identity: false, ..column }, default: None, identity: None };
            self.record_column(&table, at as i64 + 1, &def, &info, &[])?;
        }
        Ok(())
    }

    pub(crate) fn create_type(&mut self, name: &Name, defs: &[ColumnDef], constraints: &[Constraint]) -> Parsed<()> {
        let schema = self.schema_for(name)?;
        let columns = self.columns(defs, constraints)?;
        let object_id = self.record_object(&schema, &name.object, "TT", Some(""), 0, None)?;
        let table = TableInfo {
            sqlite: String::new(),
            schema,
            name: name.object.clone(),
            object_id,
            kind: "TT".into(),
            columns,
        };
        for (at, (def, info)) in defs.iter().zip(&table.columns).enumerate() {
            self.record_column(&table, at as i64 + 1, def, info, constraints)?;
        }
        self.db.execute(
            "INSERT INTO fx_types SELECT ?1, 243, coalesce(max(user_type_id), 256) + 1, -1, 0, 0,
               (SELECT schema_id FROM fx_schemas WHERE name = ?2), 1, ?3 FROM fx_types",
            params![name.object, table.schema, object_id],
        )?;
        Ok(())
    }

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

    fn refresh_temporary(&mut self, table: &TableInfo, gone: &[String]) {
        for known in &mut self.temporary {
            if known.object_id == table.object_id {
                known.columns.retain(|column| !gone.iter().any(|name| same(name, &column.column.name)));
            }
        }
    }

    fn add_to_table(&mut self, table: &TableInfo, defs: &[ColumnDef], constraints: &[Constraint]) -> Parsed<()> {
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
                Constraint::Foreign { .. } | Constraint::Check { .. } => {
                    return Err(SqlError::unknown("ALTER TABLE ADD of a foreign key or check"));
                }
                Constraint::Default { name, column, text, .. } => {
                    let at = all.position(column)?;
                    let name = name.clone().unwrap_or_else(|| format!("DF__{}__{column}", table.name));
                    let id = self.record_object(&table.schema, &name, "D", None, table.object_id, None)?;
                    self.db.execute(
                        "UPDATE fx_columns SET default_text = ?1, default_id = ?2 WHERE object_id = ?3 AND name = ?4",
                        params![text, id, table.object_id, all.columns[at].column.name],
                    )?;
                }
                Constraint::Key { .. } => {}
            }
        }
        for (name, primary, clustered, key) in
            keys(&format!("{}__{:X}", table.name, table.object_id), defs, constraints)
        {
            self.create_key(&all, &name, Some(primary), true, clustered, &key, &[])?;
        }
        Ok(())
    }

    fn drop_constraints(&mut self, table: &TableInfo, if_exists: bool, names: &[String]) -> Parsed<()> {
        for name in names {
            match self.object_named(&table.schema, name)? {
                Some((_, kind)) if kind == "PK" || kind == "UQ" => self.drop_index(table, name)?,
                Some((id, kind)) if kind == "D" => {
                    self.db.execute(
                        "UPDATE fx_columns SET default_text = NULL, default_id = 0 WHERE object_id = ?1 AND default_id = ?2",
                        params![table.object_id, id],
                    )?;
                }
                Some(_) => return Err(SqlError::unknown("ALTER TABLE DROP of a foreign key or check")),
                None if if_exists => continue,
                None => return Err(SqlError::new(3728, format!("'{name}' is not a constraint."))),
            }
            self.db.execute("DELETE FROM fx_objects WHERE schema = ?1 AND name = ?2", params![table.schema, name])?;
        }
        Ok(())
    }

    fn drop_index(&self, table: &TableInfo, name: &str) -> Parsed<()> {
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
        self.db.execute_batch(&format!("DROP INDEX {sqlite}"))?;
        self.db
            .execute("DELETE FROM fx_indexes WHERE object_id = ?1 AND index_id = ?2", params![table.object_id, id])?;
        self.db.execute(
            "DELETE FROM fx_index_columns WHERE object_id = ?1 AND index_id = ?2",
            params![table.object_id, id],
        )?;
        Ok(())
    }

    /// A wider type or another nullability: the values are converted where they stand.
    fn alter_column(&mut self, table: &TableInfo, def: &ColumnDef) -> Parsed<()> {
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

    fn drop_one(&mut self, what: &str, name: &Name, if_exists: bool, on: Option<&Name>) -> Parsed<()> {
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

    /// A table from a query's columns, for SELECT ... INTO.
    pub(crate) fn table_like(&mut self, name: &Name, columns: &[Column]) -> Parsed<()> {
        let mut defs = Vec::new();
        for column in columns {
            if column.name.is_empty() {
                return Err(SqlError::new(
                    1038,
                    "An object or column name is missing or empty. For SELECT INTO statements, verify each column has a name.",
                ));
            }
            defs.push(ColumnDef { identity: column.identity.then_some((1, 1)), ..plain_def(column) });
        }
        self.create_table(name, &defs, &[])
    }
}

fn plain_def(column: &Column) -> ColumnDef {
    ColumnDef {
        name: column.name.clone(),
        ty: column.ty.clone(),
        nullable: Some(column.nullable),
        collation: Some(column.collation),
        identity: None,
        default: None,
        computed: None,
        sparse: false,
        primary: false,
        unique: false,
        checks: Vec::new(),
        references: None,
    }
}

fn checks<'d>(defs: &'d [ColumnDef], constraints: &'d [Constraint]) -> Vec<(String, &'d Expr, String)> {
    let mut all = Vec::new();
    let own = defs.iter().flat_map(|def| def.checks.iter().map(|(name, expr, text)| (name, expr, text)));
    let rest = constraints.iter().filter_map(|constraint| match constraint {
        Constraint::Check { name, expr, text } => Some((name, expr, text)),
        _ => None,
    });
    for (at, (name, expr, text)) in own.chain(rest).enumerate() {
        all.push((name.clone().unwrap_or_else(|| format!("CK__{at}")), expr, text.clone()));
    }
    all
}

fn keys(table: &str, defs: &[ColumnDef], constraints: &[Constraint]) -> Vec<Key> {
    let mut all: Vec<Key> = Vec::new();
    for def in defs {
        let key = vec![(def.name.clone(), false)];
        if def.primary {
            all.push((format!("PK__{table}__{}", def.name), true, true, key.clone()));
        }
        if def.unique {
            all.push((format!("UQ__{table}__{}", def.name), false, false, key));
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

/// A value in SQLite's own spelling.
pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Text(text) => format!("'{}'", String::from_utf8_lossy(text).replace('\'', "''")),
        Value::Bytes(bytes) => format!("x'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}
