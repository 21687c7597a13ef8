//! CREATE, ALTER and DROP: SQLite's table beside the fixture's own records of it.

use rusqlite::params;

use super::catalog::{self, ColumnInfo, TableInfo};
use super::constraints::{NewIndex, checks, foreign_keys, keys};
use super::emit::Emit;
use super::parse::{Parsed, Parser};
use super::run::Done;
use super::scope::{Piece, Scope, ScopeTable, quoted, same};
use super::tree::*;
use crate::errors::SqlError;
use crate::out::Column;
use crate::session::Session;
use crate::types::Type;
use crate::value::Value;

impl Session {
    pub(super) fn run_ddl(&mut self, kind: &Kind) -> Done<()> {
        match kind {
            Kind::CreateTable(name, columns, constraints) => self.create_table(name, columns, constraints)?,
            Kind::AlterTable(name, alter) => self.alter_table(name, alter)?,
            Kind::CreateIndex { name, table, unique, clustered, columns, included, filter } => {
                let table = self.target(&Target::Table(table.clone()))?;
                let (unique, clustered, filter) = (*unique, *clustered, filter.as_ref());
                let index = NewIndex { name, primary: None, unique, clustered, key: columns, included, filter };
                self.create_key(&table, &index)?;
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

    pub(super) fn create_procedure(
        &mut self,
        name: &Name,
        parameters: &[Parameter],
        text: &str,
        replace: bool,
    ) -> Parsed<()> {
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

    pub(super) fn exists(name: &str) -> SqlError {
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
        if temporary {
            for (name, expr, _) in checks(&name.object, defs, constraints) {
                let condition = self.row_expression(expr, &columns, "")?.sql;
                parts.push(format!("CONSTRAINT {} CHECK ({condition})", quoted(&name)));
            }
        }
        for foreign in foreign_keys(defs, constraints) {
            let own = same(&foreign.table.object, &name.object)
                && same(foreign.table.schema.as_deref().unwrap_or("dbo"), &schema);
            parts.push(self.foreign_sql(&foreign, own.then_some(sqlite.as_str()))?);
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
            self.create_key(&table, &NewIndex::key(&name, primary, clustered, &key))?;
        }
        if !temporary {
            self.record_others(&table, defs, constraints)?;
        }
        Ok(())
    }

    pub(super) fn schema_for(&self, name: &Name) -> Parsed<String> {
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
                let piece = self.row_expression(expr, &columns, "")?;
                info.column.ty = piece.ty;
                info.column.nullable = def.nullable.unwrap_or(true);
            }
            columns.push(info);
        }
        Ok(columns)
    }

    /// An expression on a row of the table itself, whose columns have that before their names.
    pub(super) fn row_expression(&self, expr: &Expr, columns: &[ColumnInfo], row: &str) -> Parsed<Piece> {
        let mut emit = Emit::new(self);
        let columns: Vec<Column> = columns.iter().map(|info| info.column.clone()).collect();
        let scope =
            Scope { tables: vec![ScopeTable { alias: String::new(), sql: "\"row\"".into(), columns }], outer: None };
        let piece = emit.expr(expr, &scope)?;
        let mut sql = piece.sql.replace("\"row\".", row);
        // A definition holds no parameters: constants are written out, the last first so that ?1 is not found in ?10.
        for (at, value) in emit.params.iter().enumerate().rev() {
            sql = sql.replace(&format!("?{}", at + 1), &literal(value));
        }
        Ok(Piece { sql, ..piece })
    }

    pub(super) fn column_sql(&self, def: &ColumnDef, info: &ColumnInfo, columns: &[ColumnInfo]) -> Parsed<String> {
        let mut sql = quoted(&def.name);
        if let Some(collation) = info.column.ty.sqlite_collation(info.column.collation) {
            sql.push_str(&format!(" COLLATE {collation}"));
        }
        if let Some((expr, _, persisted)) = &def.computed {
            let kind = if *persisted { "STORED" } else { "VIRTUAL" };
            sql.push_str(&format!(" AS ({}) {kind}", self.row_expression(expr, columns, "")?.sql));
        }
        if !info.column.nullable {
            sql.push_str(" NOT NULL");
        }
        Ok(sql)
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

    pub(super) fn record_column(
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
        keys: Vec::new(),
        checks: Vec::new(),
        references: None,
    }
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
