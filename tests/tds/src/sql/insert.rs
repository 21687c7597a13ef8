//! INSERT: from values, from a query row by row, or from a query by SQLite alone.

use rusqlite::params_from_iter;

use super::catalog::TableInfo;
use super::convert::{Why, convert};
use super::emit::Emit;
use super::parse::{Parsed, Parser};
use super::scope::{Scope, quoted};
use super::tree::*;
use super::write::{Done, NewRow, check_width, truncation};
use crate::errors::SqlError;
use crate::out::Out;
use crate::session::Session;
use crate::types::Type;
use crate::value::Value;

impl Session {
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

    pub(super) fn insert_values(
        &mut self,
        table: &TableInfo,
        positions: &[usize],
        rows: &[Vec<Expr>],
    ) -> Parsed<Vec<NewRow>> {
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

    pub(super) fn insert_query(&mut self, table: &TableInfo, positions: &[usize], query: &Query) -> Done<Vec<NewRow>> {
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
    pub(super) fn insert_directly(&mut self, table: &TableInfo, positions: &[usize], query: &Query) -> Done<u64> {
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
        let done = statement.execute(params_from_iter(emit.params.iter()));
        Ok(done.map_err(|error| emit.session.refused(table, error))? as u64)
    }

    pub(super) fn insert_exec(
        &mut self,
        table: &TableInfo,
        positions: &[usize],
        statement: &Statement,
    ) -> Done<Vec<NewRow>> {
        let _ = (table, positions);
        Err(SqlError::unknown(&format!("INSERT ... EXEC at line {}", statement.line)).into())
    }
}

/// Whether rows of a query may go in as they are.
fn plain(table: &TableInfo) -> bool {
    table.columns.iter().all(|column| column.identity.is_none() && column.column.ty != Type::RowVersion)
}
