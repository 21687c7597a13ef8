//! INSERT, UPDATE, DELETE and MERGE: the new values are worked out first, then stored row by row.

use rusqlite::params_from_iter;

use super::catalog::TableInfo;
use super::convert::{Why, convert};
use super::emit::Emit;
use super::parse::{Parsed, Parser};
use super::run::Flow;
use super::scope::{Scope, ScopeTable, quoted, same};
use super::tree::*;
use crate::errors::{Failure, SqlError};
use crate::out::{Column, Out};
use crate::session::Session;
use crate::types::Type;
use crate::value::Value;

pub(super) type Done<T> = Result<T, Failure>;

/// A row to be stored: values by the table's columns; none where the table gives its own.
pub(super) type NewRow = Vec<Option<Value>>;

impl Session {
    pub(crate) fn target(&self, target: &Target) -> Parsed<TableInfo> {
        let table = match target {
            Target::Table(name) => {
                super::catalog::find(self, name)?.ok_or_else(|| SqlError::no_object(&name.to_string()))?
            }
            Target::Variable(name) => self.table_variable(name)?.clone(),
        };
        if table.kind == "V" {
            return Err(SqlError::new(4406, format!("Update or insert of view or function '{}' failed.", table.name)));
        }
        Ok(table)
    }

    /// Stores rows; gives them as stored, for OUTPUT.
    pub(crate) fn store(&mut self, table: &TableInfo, rows: Vec<NewRow>) -> Done<Vec<Vec<Value>>> {
        let stored: Vec<usize> = (0..table.columns.len())
            .filter(|at| !table.columns[*at].column.computed || is_version(table, *at))
            .collect();
        let names: Vec<String> = stored.iter().map(|at| quoted(&table.columns[*at].column.name)).collect();
        let marks: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
        let sql = if names.is_empty() {
            format!("INSERT INTO {} DEFAULT VALUES", table.sqlite)
        } else {
            format!("INSERT INTO {}({}) VALUES ({})", table.sqlite, names.join(", "), marks.join(", "))
        };
        let db = self.db.clone();
        let mut statement = db.prepare_cached(&sql)?;
        let mut out = Vec::with_capacity(rows.len());
        for row in rows {
            let mut values = Vec::with_capacity(table.columns.len());
            for (at, given) in row.into_iter().enumerate() {
                values.push(match given {
                    Some(value) => self.note_identity(table, at, value),
                    None => self.own_value(table, at)?,
                });
            }
            let bound = params_from_iter(stored.iter().map(|at| &values[*at]));
            statement.execute(bound).map_err(|error| self.refused(table, error))?;
            out.push(values);
        }
        Ok(out)
    }

    pub(super) fn note_identity(&mut self, table: &TableInfo, at: usize, value: Value) -> Value {
        if table.columns[at].identity.is_some()
            && let Some(number) = value.to_integer()
        {
            self.server.raise_identity(&self.database, table.object_id, number);
            self.identity = Some(number);
        }
        value
    }

    /// What the table gives a column that is not named.
    pub(super) fn own_value(&mut self, table: &TableInfo, at: usize) -> Parsed<Value> {
        let column = &table.columns[at];
        if let Some((seed, step)) = column.identity {
            let number = self.server.next_identity(&self.database, table.object_id, seed, step);
            self.identity = Some(number);
            return convert(&Value::Integer(number), &Type::BigInt, &column.column.ty, 0, Why::Assign);
        }
        if column.column.ty == Type::RowVersion {
            return Ok(Value::Bytes(self.server.next_version().to_be_bytes().to_vec()));
        }
        match &column.default {
            Some(text) => {
                let expr = Parser::new(text)?.expr()?;
                let (ty, value) = Emit::constant(self, &expr)?;
                convert(&value, &ty, &column.column.ty, 0, Why::Assign)
            }
            None => Ok(Value::Null),
        }
    }

    /// All rows of a query, with their types.
    pub(crate) fn rows_of(&self, query: &Query) -> Done<(Vec<Column>, Vec<Vec<Value>>)> {
        let mut emit = Emit::new(self);
        let (sql, columns) = emit.query(query, None)?;
        let rows = self.rows_of_sql(&sql, &emit.params)?;
        Ok((columns, rows))
    }

    pub(crate) fn rows_of_sql(&self, sql: &str, params: &[Value]) -> Done<Vec<Vec<Value>>> {
        let mut statement = self.db.prepare_cached(sql)?;
        let width = statement.column_count();
        let mut rows = statement.query(params_from_iter(params.iter()))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let values: rusqlite::Result<Vec<Value>> = (0..width).map(|at| Ok(Value::of(row.get_ref(at)?))).collect();
            all.push(values?);
        }
        Ok(all)
    }

    /// The rows a statement is about: their numbers, and expressions worked out on them.
    pub(super) fn affected(
        &self,
        target: &Target,
        from: Option<&Source>,
        filter: Option<&Expr>,
        with: &[(String, Vec<String>, Query)],
        top: Option<&Expr>,
        exprs: &[&Expr],
    ) -> Done<(TableInfo, Vec<crate::types::Type>, Vec<Vec<Value>>)> {
        let mut emit = Emit::new(self);
        let with = emit.with_clause(with, None)?;
        let mut scope = Scope::default();
        let (table, sql, alias) = match (from, target) {
            (Some(from), Target::Table(name)) => {
                let sql = emit.source(from, &mut scope)?;
                // The target names an alias of the FROM clause, or a table in it.
                let at = scope.tables.iter().position(|table| same(&table.alias, &name.object));
                let at = at.ok_or_else(|| SqlError::no_object(&name.to_string()))?;
                let real = table_of(from, &name.object).unwrap_or_else(|| Target::Table(name.clone()));
                (self.target(&real)?, sql, scope.tables[at].sql.clone())
            }
            _ => {
                let table = self.target(target)?;
                let columns = table.columns.iter().map(|column| column.column.clone()).collect();
                let shown = match target {
                    Target::Table(name) => name.object.clone(),
                    Target::Variable(name) => name.clone(),
                };
                scope.tables.push(ScopeTable { alias: shown, sql: "\"target\"".into(), columns });
                let mut sql = format!("{} AS \"target\"", table.sqlite);
                if let Some(from) = from {
                    let other = emit.source(from, &mut scope)?;
                    sql = format!("{sql} CROSS JOIN {other}");
                }
                (table, sql, "\"target\"".to_owned())
            }
        };
        let mut items = vec![format!("{alias}.rowid")];
        let mut types = Vec::new();
        for expr in exprs {
            let piece = if matches!(expr, Expr::Default) {
                super::scope::Piece::new("NULL", Type::Int)
            } else {
                emit.expr(expr, &scope)?
            };
            items.push(piece.sql);
            types.push(piece.ty);
        }
        let mut sql = format!("{with}SELECT {} FROM {sql}", items.join(", "));
        if let Some(filter) = filter {
            sql.push_str(&format!(" WHERE {}", emit.expr(filter, &scope)?.sql));
        }
        if let Some(top) = top {
            sql.push_str(&format!(" LIMIT {}", emit.count(top)?));
        }
        let rows = self.rows_of_sql(&sql, &emit.params)?;
        Ok((table, types, rows))
    }

    pub(super) fn row_of(&self, table: &TableInfo, rowid: &Value) -> Done<Vec<Value>> {
        let names: Vec<String> = table.columns.iter().map(|column| quoted(&column.column.name)).collect();
        let sql = format!("SELECT {} FROM {} WHERE rowid = ?1", names.join(", "), table.sqlite);
        let rows = self.rows_of_sql(&sql, std::slice::from_ref(rowid))?;
        Ok(rows.into_iter().next().unwrap_or_else(|| vec![Value::Null; names.len()]))
    }

    pub(crate) fn update(&mut self, update: &Update, out: &mut Out) -> Done<u64> {
        let exprs: Vec<&Expr> = update.set.iter().map(|(_, expr)| expr).collect();
        let (table, types, rows) = self.affected(
            &update.target,
            update.from.as_ref(),
            update.filter.as_ref(),
            &update.with,
            update.top.as_ref(),
            &exprs,
        )?;
        let mut seen = std::collections::BTreeSet::new();
        let mut pairs = Vec::new();
        let mut count = 0;
        for row in rows {
            let mut cells = row.into_iter();
            let rowid = cells.next().unwrap_or(Value::Null);
            if !seen.insert(rowid.to_integer()) {
                continue;
            }
            let mut set = Vec::new();
            for (((to, expr), value), ty) in update.set.iter().zip(cells).zip(&types) {
                match to {
                    SetTo::Column(name) => {
                        let at = self.settable(&table, name)?;
                        let value = match expr {
                            Expr::Default => self.own_value(&table, at)?,
                            _ => convert(&value, ty, &table.columns[at].column.ty, 0, Why::Assign)
                                .map_err(|error| truncation(error, &table, at))?,
                        };
                        set.push((at, value));
                    }
                    SetTo::Variable(name) => self.assign(name, ty, &value)?,
                }
            }
            let before = if update.output.is_empty() { Vec::new() } else { self.row_of(&table, &rowid)? };
            self.change(&table, &rowid, set)?;
            if !update.output.is_empty() {
                pairs.push((before, self.row_of(&table, &rowid)?, "UPDATE"));
            }
            count += 1;
        }
        if !update.output.is_empty() {
            self.output(&table, &update.output, &pairs, out)?;
        }
        Ok(count)
    }

    pub(super) fn settable(&self, table: &TableInfo, name: &str) -> Parsed<usize> {
        let at = table.position(name)?;
        let column = &table.columns[at];
        if column.identity.is_some() {
            return Err(SqlError::new(8102, format!("Cannot update identity column '{name}'.")));
        }
        if column.column.ty == Type::RowVersion {
            return Err(SqlError::new(272, "Cannot update a timestamp column."));
        }
        if column.column.computed {
            return Err(SqlError::new(
                271,
                format!("The column \"{name}\" cannot be modified because it is a computed column."),
            ));
        }
        Ok(at)
    }

    pub(super) fn change(&mut self, table: &TableInfo, rowid: &Value, mut set: Vec<(usize, Value)>) -> Done<()> {
        for at in 0..table.columns.len() {
            if is_version(table, at) {
                set.push((at, Value::Bytes(self.server.next_version().to_be_bytes().to_vec())));
            }
        }
        if set.is_empty() {
            return Ok(());
        }
        let parts: Vec<String> = set
            .iter()
            .enumerate()
            .map(|(index, (at, _))| format!("{} = ?{}", quoted(&table.columns[*at].column.name), index + 1))
            .collect();
        let sql = format!("UPDATE {} SET {} WHERE rowid = ?{}", table.sqlite, parts.join(", "), set.len() + 1);
        let mut statement = self.db.prepare_cached(&sql)?;
        let bound = params_from_iter(set.iter().map(|(_, value)| value).chain([rowid]));
        statement.execute(bound).map_err(|error| self.refused(table, error))?;
        Ok(())
    }

    pub(crate) fn delete(&mut self, delete: &Delete, out: &mut Out) -> Done<u64> {
        let (table, _, rows) = self.affected(
            &delete.target,
            delete.from.as_ref(),
            delete.filter.as_ref(),
            &delete.with,
            delete.top.as_ref(),
            &[],
        )?;
        if delete.output.is_empty() {
            return self.remove_all(&table, &rows);
        }
        let mut pairs = Vec::new();
        let mut count = 0;
        for row in rows {
            let rowid = &row[0];
            let before = self.row_of(&table, rowid)?;
            let gone = self.remove(&table, rowid)?;
            if gone {
                let width = before.len();
                pairs.push((before, vec![Value::Null; width], "DELETE"));
            }
            count += u64::from(gone);
        }
        self.output(&table, &delete.output, &pairs, out)?;
        Ok(count)
    }

    /// Rows go in one statement: those that point to each other may.
    fn remove_all(&self, table: &TableInfo, rows: &[Vec<Value>]) -> Done<u64> {
        let ids: Vec<String> = rows.iter().filter_map(|row| Some(row[0].to_integer()?.to_string())).collect();
        let sql = format!("DELETE FROM {} WHERE rowid IN (SELECT value FROM json_each(?1))", table.sqlite);
        Ok(self.db.prepare_cached(&sql)?.execute([format!("[{}]", ids.join(","))])? as u64)
    }

    pub(super) fn remove(&self, table: &TableInfo, rowid: &Value) -> Done<bool> {
        let mut statement = self.db.prepare_cached(&format!("DELETE FROM {} WHERE rowid = ?1", table.sqlite))?;
        Ok(statement.execute([rowid])? > 0)
    }

    /// The rows of an OUTPUT clause, from pairs of a row before and after.
    pub(super) fn output(
        &mut self,
        table: &TableInfo,
        items: &[Item],
        pairs: &[(Vec<Value>, Vec<Value>, &str)],
        out: &mut Out,
    ) -> Done<()> {
        let mut picks = Vec::new();
        let mut columns = Vec::new();
        for item in items {
            let (parts, alias) = match item {
                Item::Star(Some(side)) => {
                    for (at, column) in table.columns.iter().enumerate() {
                        columns.push(Column { nullable: true, identity: false, ..column.column.clone() });
                        picks.push((same(side, "deleted"), Some(at)));
                    }
                    continue;
                }
                Item::Value(Expr::Column(parts), alias) => (parts, alias),
                _ => return Err(SqlError::unknown("an expression in OUTPUT").into()),
            };
            let name = parts.last().cloned().unwrap_or_default();
            if name.eq_ignore_ascii_case("$action") {
                columns.push(Column::new(alias.clone().unwrap_or(name), Type::NVarChar(10)));
                picks.push((false, None));
                continue;
            }
            let at = table.position(&name)?;
            let column = &table.columns[at].column;
            let deleted = parts.len() > 1 && same(&parts[parts.len() - 2], "deleted");
            columns.push(Column {
                name: alias.clone().unwrap_or_else(|| column.name.clone()),
                nullable: true,
                identity: false,
                ..column.clone()
            });
            picks.push((deleted, Some(at)));
        }
        out.columns(&columns)?;
        for (before, after, action) in pairs {
            let row: Vec<Value> = picks
                .iter()
                .map(|(deleted, at)| match at {
                    None => Value::text(*action),
                    Some(at) => {
                        if *deleted {
                            before[*at].clone()
                        } else {
                            after[*at].clone()
                        }
                    }
                })
                .collect();
            out.row(&columns, &row)?;
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, name: &Name) -> Done<Flow> {
        let table = self.target(&Target::Table(name.clone()))?;
        let referenced: i64 =
            self.db.query_row("SELECT count(*) FROM fx_foreign WHERE referenced = ?1", [table.object_id], |row| {
                row.get(0)
            })?;
        if referenced > 0 {
            return Err(SqlError::new(
                4712,
                format!(
                    "Cannot truncate table '{}' because it is being referenced by a FOREIGN KEY constraint.",
                    table.name
                ),
            )
            .into());
        }
        self.db.execute(&format!("DELETE FROM {}", table.sqlite), [])?;
        self.server.forget_identity(&self.database, table.object_id);
        Ok(Flow::Next)
    }
}

fn is_version(table: &TableInfo, at: usize) -> bool {
    table.columns[at].column.ty == Type::RowVersion
}

pub(super) fn check_width(have: usize, want: usize) -> Parsed<()> {
    match have.cmp(&want) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(SqlError::new(
            120,
            "The select list for the INSERT statement contains fewer items than the insert list.",
        )),
        std::cmp::Ordering::Greater => Err(SqlError::new(
            121,
            "The select list for the INSERT statement contains more items than the insert list.",
        )),
    }
}

pub(super) fn truncation(error: SqlError, table: &TableInfo, at: usize) -> SqlError {
    if error.number != 2628 {
        return error;
    }
    SqlError::new(
        2628,
        format!(
            "String or binary data would be truncated in table '{}.{}', column '{}'.",
            table.schema, table.name, table.columns[at].column.name
        ),
    )
}

/// The table an alias of a FROM clause stands for.
fn table_of(source: &Source, wanted: &str) -> Option<Target> {
    match source {
        Source::Table(name, alias) => {
            let shown = alias.as_ref().unwrap_or(&name.object);
            same(shown, wanted).then(|| Target::Table(name.clone()))
        }
        Source::Variable(name, alias) => {
            same(alias.as_ref().unwrap_or(name), wanted).then(|| Target::Variable(name.clone()))
        }
        Source::Join(_, left, right, _) => table_of(left, wanted).or_else(|| table_of(right, wanted)),
        _ => None,
    }
}
