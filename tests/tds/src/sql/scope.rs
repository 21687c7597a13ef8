//! Which columns an expression may name, and what has been worked out of one.

use super::parse::Parsed;
use crate::errors::SqlError;
use crate::out::Column;
use crate::types::{Collation, Type};

/// SQL for SQLite and what it yields.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) sql: String,
    pub(crate) ty: Type,
    pub(crate) nullable: bool,
    pub(crate) collation: Collation,
    /// Whether COLLATE says so, which wins over any column.
    pub(crate) explicit: bool,
    /// A literal NULL takes any type.
    pub(crate) untyped: bool,
    /// The column it is, when it is nothing but one.
    pub(crate) column: Option<Box<Column>>,
}

impl Piece {
    pub(crate) fn new(sql: impl Into<String>, ty: Type) -> Self {
        Self {
            sql: sql.into(),
            ty,
            nullable: true,
            collation: Collation::default(),
            explicit: false,
            untyped: false,
            column: None,
        }
    }

    pub(crate) fn not_null(self) -> Self {
        Self { nullable: false, ..self }
    }

    /// The text with the collation its type compares by.
    pub(crate) fn collated(&self) -> String {
        match self.ty.sqlite_collation(self.collation) {
            Some(collation) => format!("({} COLLATE {collation})", self.sql),
            None => self.sql.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ScopeTable {
    pub(crate) alias: String,
    /// Its name in SQLite's SQL, quoted.
    pub(crate) sql: String,
    pub(crate) columns: Vec<Column>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Scope<'s> {
    pub(crate) tables: Vec<ScopeTable>,
    pub(crate) outer: Option<&'s Scope<'s>>,
}

impl Scope<'_> {
    pub(crate) fn column(&self, parts: &[String]) -> Parsed<Piece> {
        let (name, qualifier) = parts.split_last().ok_or_else(|| SqlError::no_column(""))?;
        let qualifier = qualifier.last();
        let mut found = None;
        for table in &self.tables {
            if qualifier.is_some_and(|qualifier| !qualifier.eq_ignore_ascii_case(&table.alias)) {
                continue;
            }
            for column in table.columns.iter().filter(|column| same(&column.name, name)) {
                if found.is_some() {
                    return Err(SqlError::new(209, format!("Ambiguous column name '{name}'.")));
                }
                found = Some(Piece {
                    sql: format!("{}.{}", table.sql, quoted(&column.name)),
                    ty: column.ty.clone(),
                    nullable: column.nullable,
                    collation: column.collation,
                    explicit: false,
                    untyped: false,
                    column: Some(Box::new(column.clone())),
                });
            }
        }
        match (found, self.outer) {
            (Some(piece), _) => Ok(piece),
            (None, Some(outer)) => outer.column(parts),
            (None, None) if qualifier.is_some() => Err(SqlError::new(
                4104,
                format!("The multi-part identifier \"{}\" could not be bound.", parts.join(".")),
            )),
            (None, None) => Err(SqlError::no_column(name)),
        }
    }
}

pub(crate) fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase()
}

/// A name for SQLite's SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
