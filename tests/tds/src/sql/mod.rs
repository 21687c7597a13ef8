//! A small front end for T-SQL: text to tokens to a tree, the tree to SQLite's SQL with the types worked out. What it does
//! not know is an error, never a silent success.

pub(crate) mod alter;
pub(crate) mod calls;
pub(crate) mod catalog;
pub(crate) mod constraints;
pub(crate) mod convert;
pub(crate) mod ddl;
pub(crate) mod emit;
pub(crate) mod functions;
pub(crate) mod insert;
pub(crate) mod lex;
pub(crate) mod merge;
pub(crate) mod parse;
pub(crate) mod parse_ddl;
pub(crate) mod parse_expr;
pub(crate) mod parse_table;
pub(crate) mod raise;
pub(crate) mod run;
pub(crate) mod scope;
pub(crate) mod select;
pub(crate) mod transactions;
pub(crate) mod tree;
pub(crate) mod views;
pub(crate) mod write;
