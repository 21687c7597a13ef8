//! Queries to SQLite's SQL.

use super::catalog;
use super::emit::{Emit, common_of};
use super::parse::Parsed;
use super::scope::{Piece, Scope, ScopeTable, quoted, same};
use super::tree::*;
use crate::errors::SqlError;
use crate::out::Column;
use crate::types::Type;
use crate::value::Value;

type Emitted = (String, Vec<Column>);

impl Emit<'_> {
    pub(crate) fn query(&mut self, query: &Query, outer: Option<&Scope<'_>>) -> Parsed<Emitted> {
        let depth = self.with.len();
        let result = self.query_inside(query, outer);
        self.with.truncate(depth);
        result
    }

    fn query_inside(&mut self, query: &Query, outer: Option<&Scope<'_>>) -> Parsed<Emitted> {
        let mut sql = self.with_clause(&query.with, outer)?;
        let (body, columns, scope) = match &query.body {
            Body::Select(select) => self.select(select, outer)?,
            other => {
                let (sql, columns) = self.body(other, outer)?;
                (sql, columns, Scope { tables: Vec::new(), outer })
            }
        };
        sql.push_str(&body);
        if !query.order.is_empty() {
            let mut terms = Vec::new();
            for (expr, descending) in &query.order {
                terms.push(self.order_term(expr, *descending, &columns, &scope)?);
            }
            sql.push_str(&format!(" ORDER BY {}", terms.join(", ")));
        }
        let top = match &query.body {
            Body::Select(select) => select.top.as_ref(),
            _ => None,
        };
        let limit = match top.or(query.fetch.as_ref()) {
            Some(limit) => Some(self.count(limit)?),
            None => None,
        };
        match (limit, &query.offset) {
            (limit, Some(offset)) => {
                let offset = self.count(offset)?;
                sql.push_str(&format!(" LIMIT {} OFFSET {offset}", limit.unwrap_or(-1)));
            }
            (Some(limit), None) => sql.push_str(&format!(" LIMIT {limit}")),
            (None, None) => {}
        }
        Ok((sql, columns))
    }

    pub(crate) fn with_clause(
        &mut self,
        with: &[(String, Vec<String>, Query)],
        outer: Option<&Scope<'_>>,
    ) -> Parsed<String> {
        let mut parts = Vec::new();
        for (name, names, query) in with {
            let (sql, mut columns) = self.query(query, outer)?;
            rename(&mut columns, names);
            let list: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
            parts.push(format!("{}({}) AS ({sql})", quoted(name), list.join(", ")));
            self.with.push((name.clone(), columns));
        }
        Ok(if parts.is_empty() { String::new() } else { format!("WITH {} ", parts.join(", ")) })
    }

    pub(crate) fn count(&mut self, expr: &Expr) -> Parsed<i64> {
        let (_, value) = Emit::constant(self.session, expr)?;
        value.to_integer().filter(|count| *count >= 0).ok_or_else(|| {
            SqlError::new(
                1060,
                "The number of rows provided for a TOP or FETCH clauses row count parameter must be an integer.",
            )
        })
    }

    fn order_term(&mut self, expr: &Expr, descending: bool, columns: &[Column], scope: &Scope<'_>) -> Parsed<String> {
        let direction = if descending { " DESC" } else { "" };
        let by_position = |at: usize| {
            let column = &columns[at];
            let collate = column
                .ty
                .sqlite_collation(column.collation)
                .map_or_else(String::new, |name| format!(" COLLATE {name}"));
            format!("{}{collate}{direction}", at + 1)
        };
        if let Expr::Literal(Value::Integer(at), _) = expr {
            let at = usize::try_from(*at).ok().filter(|at| (1..=columns.len()).contains(at));
            return at.map(|at| by_position(at - 1)).ok_or_else(|| {
                SqlError::new(
                    108,
                    "The ORDER BY position number is out of range of the number of items in the select list.",
                )
            });
        }
        if let Expr::Column(parts) = expr
            && parts.len() == 1
            && let Some(at) = columns.iter().position(|column| same(&column.name, &parts[0]))
        {
            return Ok(by_position(at));
        }
        // `(SELECT NULL)` and the like order nothing.
        let piece = self.expr(expr, scope)?;
        Ok(format!("{}{direction}", piece.collated()))
    }

    fn body(&mut self, body: &Body, outer: Option<&Scope<'_>>) -> Parsed<Emitted> {
        match body {
            Body::Select(select) => {
                let (sql, columns, _) = self.select(select, outer)?;
                if let Some(top) = &select.top {
                    let limit = self.count(top)?;
                    return Ok((format!("SELECT * FROM ({sql} LIMIT {limit})"), columns));
                }
                Ok((sql, columns))
            }
            Body::Nested(query) => {
                let (sql, columns) = self.query(query, outer)?;
                Ok((format!("SELECT * FROM ({sql})"), columns))
            }
            Body::Values(rows) => self.values(rows, outer),
            Body::Set(operation, left, right) => {
                let (left, left_columns) = self.body(left, outer)?;
                let (right, right_columns) = self.body(right, outer)?;
                if left_columns.len() != right_columns.len() {
                    return Err(SqlError::new(
                        205,
                        "All queries combined using a UNION, INTERSECT or EXCEPT operator must have an equal number of \
                         expressions in their target lists.",
                    ));
                }
                let mut columns = Vec::new();
                for (a, b) in left_columns.iter().zip(&right_columns) {
                    let pieces = [piece_of(a), piece_of(b)];
                    columns.push(Column {
                        ty: common_of(&pieces)?,
                        nullable: a.nullable || b.nullable,
                        identity: false,
                        ..a.clone()
                    });
                }
                let left = self.recast(&left, &left_columns, &columns);
                let right = self.recast(&right, &right_columns, &columns);
                Ok((format!("{left} {operation} {right}"), columns))
            }
        }
    }

    /// A query whose columns get other types.
    pub(crate) fn recast(&mut self, sql: &str, have: &[Column], want: &[Column]) -> String {
        self.aliases += 1;
        let alias = format!("\"u{}\"", self.aliases);
        let names: Vec<String> = (0..have.len()).map(|at| format!("\"c{at}\"")).collect();
        let items: Vec<String> = have
            .iter()
            .zip(want)
            .zip(&names)
            .map(|((have, want), name)| {
                let piece = Piece { collation: have.collation, ..Piece::new(name.clone(), have.ty.clone()) };
                let cast = self.cast(piece, &want.ty, 0);
                Piece { collation: want.collation, ..cast }.collated()
            })
            .collect();
        format!(
            "SELECT {} FROM (WITH {alias}({}) AS ({sql}) SELECT * FROM {alias})",
            items.join(", "),
            names.join(", ")
        )
    }

    fn values(&mut self, rows: &[Vec<Expr>], outer: Option<&Scope<'_>>) -> Parsed<Emitted> {
        let scope = Scope { tables: Vec::new(), outer };
        let mut pieces = Vec::new();
        for row in rows {
            let row: Parsed<Vec<Piece>> = row.iter().map(|expr| self.expr(expr, &scope)).collect();
            pieces.push(row?);
        }
        let width = pieces[0].len();
        if pieces.iter().any(|row| row.len() != width) {
            return Err(SqlError::new(
                10709,
                "The number of columns for each row in a table value constructor must be the same.",
            ));
        }
        let mut columns = Vec::new();
        for at in 0..width {
            let all: Vec<Piece> = pieces.iter().map(|row| row[at].clone()).collect();
            let nullable = all.iter().any(|piece| piece.nullable);
            columns.push(Column { nullable, ..Column::new("", common_of(&all)?) });
        }
        let mut sql = Vec::new();
        for row in pieces {
            let cells: Vec<String> =
                row.into_iter().zip(&columns).map(|(piece, column)| self.cast(piece, &column.ty, 0).sql).collect();
            sql.push(format!("({})", cells.join(", ")));
        }
        Ok((format!("VALUES {}", sql.join(", ")), columns))
    }

    fn select<'s>(
        &mut self,
        select: &Select,
        outer: Option<&'s Scope<'s>>,
    ) -> Parsed<(String, Vec<Column>, Scope<'s>)> {
        let mut scope = Scope { tables: Vec::new(), outer };
        let from = match &select.from {
            Some(source) => format!(" FROM {}", self.source(source, &mut scope)?),
            None => String::new(),
        };
        let mut columns = Vec::new();
        let mut items = Vec::new();
        for item in &select.items {
            match item {
                Item::Star(alias) => {
                    let before = items.len();
                    for table in &scope.tables {
                        if alias.as_ref().is_some_and(|alias| !same(alias, &table.alias)) {
                            continue;
                        }
                        for column in &table.columns {
                            items.push(format!("{}.{}", table.sql, quoted(&column.name)));
                            columns.push(column.clone());
                        }
                    }
                    if items.len() == before {
                        return Err(SqlError::syntax("*"));
                    }
                }
                Item::Value(expr, alias) => {
                    let piece = self.expr(expr, &scope)?;
                    let named = match expr {
                        Expr::Column(parts) => parts.last().cloned().unwrap_or_default(),
                        _ => String::new(),
                    };
                    let base = piece.column.as_deref();
                    columns.push(Column {
                        name: alias.clone().unwrap_or_else(|| base.map_or(named, |column| column.name.clone())),
                        ty: piece.ty.clone(),
                        nullable: piece.nullable,
                        collation: piece.collation,
                        identity: base.is_some_and(|column| column.identity),
                        computed: base.is_none_or(|column| column.computed),
                    });
                    items.push(if select.distinct { piece.collated() } else { piece.sql });
                }
                Item::Assign(name, expr) => {
                    let piece = self.expr(expr, &scope)?;
                    columns.push(Column::new(name.clone(), piece.ty.clone()));
                    items.push(piece.sql);
                }
            }
        }
        let mut sql = format!("SELECT {}{}{from}", if select.distinct { "DISTINCT " } else { "" }, items.join(", "));
        if let Some(filter) = &select.filter {
            sql.push_str(&format!(" WHERE {}", self.expr(filter, &scope)?.sql));
        }
        if !select.group.is_empty() {
            let terms: Parsed<Vec<String>> =
                select.group.iter().map(|expr| Ok(self.expr(expr, &scope)?.collated())).collect();
            sql.push_str(&format!(" GROUP BY {}", terms?.join(", ")));
        }
        if let Some(having) = &select.having {
            sql.push_str(&format!(" HAVING {}", self.expr(having, &scope)?.sql));
        }
        Ok((sql, columns, scope))
    }

    pub(crate) fn source(&mut self, source: &Source, scope: &mut Scope<'_>) -> Parsed<String> {
        match source {
            Source::Table(name, alias) => {
                let shown = alias.clone().unwrap_or_else(|| name.object.clone());
                let (sql, columns) = self.table(name)?;
                Ok(self.place(&sql, shown, columns, scope))
            }
            Source::Variable(name, alias) => {
                let table = self.session.table_variable(name)?;
                let columns = table.columns.iter().map(|column| column.column.clone()).collect();
                Ok(self.place(&table.sqlite, alias.clone().unwrap_or_else(|| name.clone()), columns, scope))
            }
            Source::Derived(query, alias, names) => {
                let (sql, mut columns) = self.query(query, scope.outer)?;
                rename(&mut columns, names);
                if columns.iter().any(|column| column.name.is_empty()) {
                    return Err(SqlError::new(
                        8155,
                        format!("No column name was specified for a column of '{alias}'."),
                    ));
                }
                let list: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
                self.aliases += 1;
                let inner = format!("\"d{}\"", self.aliases);
                let sql = format!("(WITH {inner}({}) AS ({sql}) SELECT * FROM {inner})", list.join(", "));
                Ok(self.place(&sql, alias.clone(), columns, scope))
            }
            Source::Function(name, arguments, alias) => {
                let mut values = Vec::new();
                for argument in arguments {
                    values.push(Emit::constant(self.session, argument)?.1);
                }
                let (sql, columns) = catalog::table_function(self.session, name, &values)?;
                Ok(self.place(&sql, alias.clone().unwrap_or_else(|| name.object.clone()), columns, scope))
            }
            Source::Join(kind, left, right, on) => {
                let left = self.source(left, scope)?;
                let right = self.source(right, scope)?;
                let on = match on {
                    Some(on) => format!(" ON {}", self.expr(on, scope)?.sql),
                    None => String::new(),
                };
                if *kind != "JOIN" && *kind != "CROSS JOIN" {
                    for table in &mut scope.tables {
                        for column in &mut table.columns {
                            column.nullable = true;
                        }
                    }
                }
                Ok(format!("{left} {kind} {right}{on}"))
            }
        }
    }

    fn place(&mut self, sql: &str, shown: String, columns: Vec<Column>, scope: &mut Scope<'_>) -> String {
        self.aliases += 1;
        let alias = format!("\"t{}\"", self.aliases);
        scope.tables.push(ScopeTable { alias: shown, sql: alias.clone(), columns });
        format!("{sql} AS {alias}")
    }

    fn table(&mut self, name: &Name) -> Parsed<Emitted> {
        if name.schema.is_none()
            && let Some((with, columns)) = self.with.iter().rev().find(|(with, _)| same(with, &name.object))
        {
            return Ok((quoted(with), columns.clone()));
        }
        if let Some(view) = catalog::system_view(self.session, name)? {
            return Ok(view);
        }
        let table = catalog::find(self.session, name)?.ok_or_else(|| SqlError::no_object(&name.to_string()))?;
        let columns = table.columns.iter().map(|column| column.column.clone()).collect();
        Ok((table.sqlite.clone(), columns))
    }
}

fn rename(columns: &mut [Column], names: &[String]) {
    for (column, name) in columns.iter_mut().zip(names) {
        column.name.clone_from(name);
    }
}

fn piece_of(column: &Column) -> Piece {
    let untyped = column.ty == Type::Int && column.computed && column.nullable && column.name.is_empty();
    Piece { untyped, collation: column.collation, ..Piece::new("", column.ty.clone()) }
}
