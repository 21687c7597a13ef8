//! MERGE: both directions are worked out before anything is changed.

use super::catalog::TableInfo;
use super::convert::{Why, convert};
use super::emit::Emit;
use super::parse::Parsed;
use super::scope::{Scope, ScopeTable};
use super::tree::*;
use super::write::{Done, check_width, truncation};
use crate::errors::SqlError;
use crate::out::Out;
use crate::session::Session;
use crate::value::Value;

impl Session {
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
    pub(super) fn merge_rows(
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
}
