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

type Done<T> = Result<T, Failure>;

/// A row to be stored: values by the table's columns; none where the table gives its own.
type NewRow = Vec<Option<Value>>;

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
            statement.execute(params_from_iter(stored.iter().map(|at| &values[*at])))?;
            out.push(values);
        }
        Ok(out)
    }

    fn note_identity(&mut self, table: &TableInfo, at: usize, value: Value) -> Value {
        if table.columns[at].identity.is_some()
            && let Some(number) = value.to_integer()
        {
            self.server.raise_identity(&self.database, table.object_id, number);
            self.identity = Some(number);
        }
        value
    }

    /// What the table gives a column that is not named.
    fn own_value(&mut self, table: &TableInfo, at: usize) -> Parsed<Value> {
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

    /// Which columns an INSERT fills, in its order.
    pub(crate) fn insert_columns(&self, table: &TableInfo, named: &[String]) -> Parsed<Vec<usize>> {
        let keeps_identity = self.identity_insert == Some(table.object_id);
        if named.is_empty() {
            return Ok((0..table.columns.len())
                .filter(|at| {
                    let column = &table.columns[*at];
                    !column.column.computed && (column.identity.is_none() || keeps_identity)
                })
                .collect());
        }
        let mut positions = Vec::new();
        for name in named {
            let at = table.position(name)?;
            let column = &table.columns[at];
            if positions.contains(&at) {
                return Err(SqlError::new(
                    264,
                    format!(
                        "The column name '{name}' is specified more than once in the SET clause or column list of an INSERT."
                    ),
                ));
            }
            if column.column.ty == Type::RowVersion {
                return Err(SqlError::new(273, "Cannot insert an explicit value into a timestamp column."));
            }
            if column.column.computed {
                return Err(SqlError::new(
                    271,
                    format!("The column \"{name}\" cannot be modified because it is a computed column."),
                ));
            }
            if column.identity.is_some() && !keeps_identity {
                return Err(SqlError::new(
                    544,
                    format!(
                        "Cannot insert explicit value for identity column in table '{}' when IDENTITY_INSERT is set to OFF.",
                        table.name
                    ),
                ));
            }
            positions.push(at);
        }
        Ok(positions)
    }

    pub(crate) fn insert(&mut self, insert: &Insert, out: &mut Out) -> Done<u64> {
        let table = self.target(&insert.into)?;
        let positions = self.insert_columns(&table, &insert.columns)?;
        let rows = match &insert.from {
            InsertFrom::Defaults => vec![Vec::new()],
            InsertFrom::Values(rows) => self.insert_values(&table, &positions, rows)?,
            InsertFrom::Query(query) => {
                let mut query = (**query).clone();
                let mut with = insert.with.clone();
                with.append(&mut query.with);
                query.with = with;
                if insert.output.is_empty() && insert.top.is_none() && plain(&table) {
                    return self.insert_directly(&table, &positions, &query);
                }
                let mut rows = self.insert_query(&table, &positions, &query)?;
                if let Some(top) = &insert.top {
                    rows.truncate(Emit::new(self).count(top)? as usize);
                }
                rows
            }
            InsertFrom::Exec(statement) => self.insert_exec(&table, &positions, statement)?,
        };
        let rows: Vec<NewRow> = rows
            .into_iter()
            .map(|given| {
                let mut row = vec![None; table.columns.len()];
                for (at, value) in positions.iter().zip(given) {
                    row[*at] = value;
                }
                row
            })
            .collect();
        let count = rows.len() as u64;
        let stored = self.store(&table, rows)?;
        if !insert.output.is_empty() {
            let pairs: Vec<_> = stored.into_iter().map(|row| (vec![Value::Null; row.len()], row, "INSERT")).collect();
            self.output(&table, &insert.output, &pairs, out)?;
        }
        Ok(count)
    }

    fn insert_values(&mut self, table: &TableInfo, positions: &[usize], rows: &[Vec<Expr>]) -> Parsed<Vec<NewRow>> {
        let mut all = Vec::new();
        for row in rows {
            if row.len() != positions.len() {
                let (number, what) = if row.len() < positions.len() { (109, "more") } else { (110, "fewer") };
                return Err(SqlError::new(
                    number,
                    format!(
                        "There are {what} columns in the INSERT statement than values specified in the VALUES clause."
                    ),
                ));
            }
            let mut values = Vec::new();
            for (expr, at) in row.iter().zip(positions) {
                values.push(match expr {
                    Expr::Default => None,
                    expr => {
                        let (ty, value) = Emit::constant(self, expr)?;
                        let column = &table.columns[*at].column;
                        Some(
                            convert(&value, &ty, &column.ty, 0, Why::Assign)
                                .map_err(|error| truncation(error, table, *at))?,
                        )
                    }
                });
            }
            all.push(values);
        }
        Ok(all)
    }

    fn insert_query(&mut self, table: &TableInfo, positions: &[usize], query: &Query) -> Done<Vec<NewRow>> {
        let (columns, rows) = self.rows_of(query)?;
        check_width(columns.len(), positions.len())?;
        let mut all = Vec::new();
        for row in rows {
            let mut values = Vec::new();
            for ((value, column), at) in row.into_iter().zip(&columns).zip(positions) {
                let to = &table.columns[*at].column.ty;
                values.push(Some(
                    convert(&value, &column.ty, to, 0, Why::Assign).map_err(|error| truncation(error, table, *at))?,
                ));
            }
            all.push(values);
        }
        Ok(all)
    }

    /// Where nothing but the query decides what is stored, SQLite does it alone.
    fn insert_directly(&mut self, table: &TableInfo, positions: &[usize], query: &Query) -> Done<u64> {
        let db = self.db.clone();
        let mut emit = Emit::new(self);
        let (sql, columns) = emit.query(query, None)?;
        check_width(columns.len(), positions.len())?;
        let names: Vec<String> = (0..columns.len()).map(|at| format!("\"c{at}\"")).collect();
        let mut items = Vec::new();
        for ((name, column), at) in names.iter().zip(&columns).zip(positions) {
            let piece = super::scope::Piece::new(name.clone(), column.ty.clone());
            items.push(emit.cast(piece, &table.columns[*at].column.ty, 1).sql);
        }
        let mut targets: Vec<String> = positions.iter().map(|at| quoted(&table.columns[*at].column.name)).collect();
        for (at, column) in table.columns.iter().enumerate() {
            if let Some(text) = &column.default
                && !positions.contains(&at)
            {
                let piece = emit.expr(&Parser::new(text)?.expr()?, &Scope::default())?;
                items.push(emit.cast(piece, &column.column.ty, 1).sql);
                targets.push(quoted(&column.column.name));
            }
        }
        let sql = format!(
            "WITH \"source\"({}) AS ({sql}) INSERT INTO {}({}) SELECT {} FROM \"source\"",
            names.join(", "),
            table.sqlite,
            targets.join(", "),
            items.join(", ")
        );
        let mut statement = db.prepare_cached(&sql)?;
        Ok(statement.execute(params_from_iter(emit.params.iter()))? as u64)
    }

    fn insert_exec(&mut self, table: &TableInfo, positions: &[usize], statement: &Statement) -> Done<Vec<NewRow>> {
        let _ = (table, positions);
        Err(SqlError::unknown(&format!("INSERT ... EXEC at line {}", statement.line)).into())
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
    fn affected(
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

    fn row_of(&self, table: &TableInfo, rowid: &Value) -> Done<Vec<Value>> {
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

    fn settable(&self, table: &TableInfo, name: &str) -> Parsed<usize> {
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

    fn change(&mut self, table: &TableInfo, rowid: &Value, mut set: Vec<(usize, Value)>) -> Done<()> {
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
        statement.execute(params_from_iter(set.iter().map(|(_, value)| value).chain([rowid])))?;
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
        let mut pairs = Vec::new();
        let mut count = 0;
        for row in rows {
            let rowid = &row[0];
            let before = if delete.output.is_empty() { Vec::new() } else { self.row_of(&table, rowid)? };
            let gone = self.remove(&table, rowid)?;
            if gone && !delete.output.is_empty() {
                let width = before.len();
                pairs.push((before, vec![Value::Null; width], "DELETE"));
            }
            count += u64::from(gone);
        }
        if !delete.output.is_empty() {
            self.output(&table, &delete.output, &pairs, out)?;
        }
        Ok(count)
    }

    fn remove(&self, table: &TableInfo, rowid: &Value) -> Done<bool> {
        let mut statement = self.db.prepare_cached(&format!("DELETE FROM {} WHERE rowid = ?1", table.sqlite))?;
        Ok(statement.execute([rowid])? > 0)
    }

    /// The rows of an OUTPUT clause, from pairs of a row before and after.
    fn output(
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

    pub(crate) fn merge(&mut self, merge: &Merge, out: &mut Out) -> Done<u64> {
        let table = self.target(&merge.target)?;
        // Both directions are worked out before anything is changed.
        let mut plans = Vec::new();
        for (when, condition, action) in &merge.branches {
            plans.push(self.merge_rows(merge, &table, *when, condition.as_ref(), action)?);
        }
        let mut touched = std::collections::BTreeSet::new();
        let mut inserted = std::collections::BTreeSet::new();
        let mut pairs = Vec::new();
        let mut count = 0;
        for ((when, _, action), rows) in merge.branches.iter().zip(plans) {
            for (target, source, values) in rows {
                let fresh = match when {
                    When::NotMatched => inserted.insert(source),
                    _ => touched.insert(target),
                };
                if !fresh {
                    if *when == When::Matched && matches!(action, MergeAction::Update(_)) {
                        return Err(SqlError::new(
                            8672,
                            "The MERGE statement attempted to UPDATE or DELETE the same row more than once.",
                        )
                        .into());
                    }
                    continue;
                }
                let rowid = Value::Integer(target);
                let before = if *when == When::NotMatched {
                    vec![Value::Null; table.columns.len()]
                } else {
                    self.row_of(&table, &rowid)?
                };
                match action {
                    MergeAction::Delete => {
                        self.remove(&table, &rowid)?;
                        let width = before.len();
                        pairs.push((before, vec![Value::Null; width], "DELETE"));
                    }
                    MergeAction::Update(_) => {
                        let set = values.into_iter().filter_map(|(at, value)| Some((at, value?))).collect();
                        self.change(&table, &rowid, set)?;
                        pairs.push((before, self.row_of(&table, &rowid)?, "UPDATE"));
                    }
                    MergeAction::Insert(..) => {
                        let mut row = vec![None; table.columns.len()];
                        for (at, value) in values {
                            row[at] = value;
                        }
                        let mut stored = self.store(&table, vec![row])?;
                        pairs.push((before, stored.remove(0), "INSERT"));
                    }
                }
                count += 1;
            }
        }
        if !merge.output.is_empty() {
            self.output(&table, &merge.output, &pairs, out)?;
        }
        Ok(count)
    }

    /// What one branch would do: the target's row, the source's row, the columns' new values.
    #[expect(clippy::type_complexity, reason = "one use, taken apart at once")]
    fn merge_rows(
        &self,
        merge: &Merge,
        table: &TableInfo,
        when: When,
        condition: Option<&Expr>,
        action: &MergeAction,
    ) -> Done<Vec<(i64, i64, Vec<(usize, Option<Value>)>)>> {
        let sets: Vec<(usize, Expr)> = match action {
            MergeAction::Update(set) => {
                set.iter().map(|(name, expr)| Ok((self.settable(table, name)?, expr.clone()))).collect::<Parsed<_>>()?
            }
            MergeAction::Insert(columns, values) => {
                let positions = self.insert_columns(table, columns)?;
                check_width(values.len(), positions.len())?;
                positions.into_iter().zip(values.iter().cloned()).collect()
            }
            MergeAction::Delete => Vec::new(),
        };
        let mut emit = Emit::new(self);
        let mut inner = Scope::default();
        let source = emit.source(&merge.source, &mut inner)?;
        let [placed] = inner.tables.as_slice() else {
            return Err(SqlError::unknown("MERGE with a join as its source").into());
        };
        let placed = placed.clone();
        let target_columns = table.columns.iter().map(|column| column.column.clone()).collect();
        let target = ScopeTable { alias: merge.alias.clone(), sql: "\"target\"".into(), columns: target_columns };
        let numbered = format!("(SELECT row_number() OVER () AS \"row number\", * FROM {source}) AS {}", placed.sql);
        let full = Scope { tables: vec![target.clone(), placed.clone()], outer: None };
        let on = emit.expr(&merge.on, &full)?.sql;
        let target_sql = format!("{} AS \"target\"", table.sqlite);
        let (from, base, scope) = match when {
            When::Matched => (format!("{target_sql} JOIN {numbered} ON {on}"), "1".to_owned(), full),
            When::NotMatched => (
                numbered,
                format!("NOT EXISTS (SELECT 1 FROM {target_sql} WHERE {on})"),
                Scope { tables: vec![placed.clone()], outer: None },
            ),
            When::NotMatchedBySource => (
                target_sql,
                format!("NOT EXISTS (SELECT 1 FROM {numbered} WHERE {on})"),
                Scope { tables: vec![target], outer: None },
            ),
        };
        let target_row = if when == When::NotMatched { "0" } else { "\"target\".rowid" };
        let source_row =
            if when == When::NotMatchedBySource { "0".to_owned() } else { format!("{}.\"row number\"", placed.sql) };
        let mut items = vec![target_row.to_owned(), source_row];
        let mut types = Vec::new();
        for (_, expr) in &sets {
            if matches!(expr, Expr::Default) {
                items.push("NULL".into());
                types.push(None);
                continue;
            }
            let piece = emit.expr(expr, &scope)?;
            items.push(piece.sql);
            types.push(Some(piece.ty));
        }
        let mut sql = format!("SELECT {} FROM {from} WHERE {base}", items.join(", "));
        if let Some(condition) = condition {
            sql.push_str(&format!(" AND {}", emit.expr(condition, &scope)?.sql));
        }
        let mut plans = Vec::new();
        for row in self.rows_of_sql(&sql, &emit.params)? {
            let mut cells = row.into_iter();
            let target = cells.next().and_then(|value| value.to_integer()).unwrap_or(0);
            let source = cells.next().and_then(|value| value.to_integer()).unwrap_or(0);
            let mut values = Vec::new();
            for (((at, _), value), ty) in sets.iter().zip(cells).zip(&types) {
                values.push((
                    *at,
                    match ty {
                        Some(ty) => Some(
                            convert(&value, ty, &table.columns[*at].column.ty, 0, Why::Assign)
                                .map_err(|error| truncation(error, table, *at))?,
                        ),
                        None => None,
                    },
                ));
            }
            plans.push((target, source, values));
        }
        Ok(plans)
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

/// Whether rows of a query may go in as they are.
fn plain(table: &TableInfo) -> bool {
    table.columns.iter().all(|column| column.identity.is_none() && column.column.ty != Type::RowVersion)
}

fn check_width(have: usize, want: usize) -> Parsed<()> {
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

fn truncation(error: SqlError, table: &TableInfo, at: usize) -> SqlError {
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
