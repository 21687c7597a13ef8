//! What a parsed request is made of.

use crate::types::{Collation, Type};
use crate::value::Value;

/// A name of up to four parts; the last is the object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name {
    pub(crate) database: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) object: String,
}

impl Name {
    /// In brackets, so that it can be read again whatever it holds.
    pub(crate) fn quoted(&self) -> String {
        let parts = [self.database.as_ref(), self.schema.as_ref(), Some(&self.object)];
        let quoted = parts.into_iter().flatten().map(|part| format!("[{}]", part.replace(']', "]]")));
        quoted.collect::<Vec<_>>().join(".")
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(database) = &self.database {
            write!(f, "{database}.")?;
        }
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.object)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    Literal(Value, Type),
    Variable(String),
    /// Parts of a column's name, the column last.
    Column(Vec<String>),
    Unary(&'static str, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull(Box<Expr>, bool),
    In(Box<Expr>, Vec<Expr>, bool),
    InQuery(Box<Expr>, Box<Query>, bool),
    Between(Box<Expr>, Box<Expr>, Box<Expr>, bool),
    Like(Box<Expr>, Box<Expr>, Option<Box<Expr>>, bool),
    Exists(Box<Query>),
    Scalar(Box<Query>),
    Case(Option<Box<Expr>>, Vec<(Expr, Expr)>, Option<Box<Expr>>),
    /// To a type, with a style; whether a failure is NULL.
    Cast(Box<Expr>, Type, i64, bool),
    Call(Name, Vec<Expr>, CallExtra),
    Collate(Box<Expr>, Collation),
    Default,
}

/// Expressions to order by, and whether each goes down.
pub(crate) type Order = Vec<(Expr, bool)>;

#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct CallExtra {
    pub(crate) star: bool,
    pub(crate) distinct: bool,
    /// PARTITION BY and ORDER BY.
    pub(crate) over: Option<(Vec<Expr>, Order)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) with: Vec<(String, Vec<String>, Query)>,
    pub(crate) body: Body,
    pub(crate) order: Order,
    pub(crate) offset: Option<Expr>,
    pub(crate) fetch: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    Select(Box<Select>),
    Set(&'static str, Box<Body>, Box<Body>),
    Nested(Box<Query>),
    Values(Vec<Vec<Expr>>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Select {
    pub(crate) distinct: bool,
    /// Whether a hint asks for a lock that others wait for.
    pub(crate) locks: bool,
    pub(crate) top: Option<Expr>,
    pub(crate) items: Vec<Item>,
    pub(crate) into: Option<Name>,
    pub(crate) from: Option<Source>,
    pub(crate) filter: Option<Expr>,
    pub(crate) group: Vec<Expr>,
    pub(crate) having: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Star(Option<String>),
    Value(Expr, Option<String>),
    Assign(String, Expr),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Table(Name, Option<String>),
    /// A table variable.
    Variable(String, Option<String>),
    Derived(Box<Query>, String, Vec<String>),
    Function(Name, Vec<Expr>, Option<String>),
    Join(&'static str, Box<Source>, Box<Source>, Option<Expr>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Table(Name),
    Variable(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum InsertFrom {
    Values(Vec<Vec<Expr>>),
    Query(Box<Query>),
    Exec(Box<Statement>),
    Defaults,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Insert {
    pub(crate) with: Vec<(String, Vec<String>, Query)>,
    pub(crate) top: Option<Expr>,
    pub(crate) into: Target,
    pub(crate) columns: Vec<String>,
    pub(crate) output: Vec<Item>,
    pub(crate) from: InsertFrom,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Update {
    pub(crate) with: Vec<(String, Vec<String>, Query)>,
    pub(crate) top: Option<Expr>,
    pub(crate) target: Target,
    pub(crate) set: Vec<(SetTo, Expr)>,
    pub(crate) output: Vec<Item>,
    pub(crate) from: Option<Source>,
    pub(crate) filter: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SetTo {
    Column(String),
    Variable(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delete {
    pub(crate) with: Vec<(String, Vec<String>, Query)>,
    pub(crate) top: Option<Expr>,
    pub(crate) target: Target,
    pub(crate) output: Vec<Item>,
    pub(crate) from: Option<Source>,
    pub(crate) filter: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Merge {
    pub(crate) target: Target,
    pub(crate) alias: String,
    pub(crate) source: Source,
    pub(crate) on: Expr,
    pub(crate) branches: Vec<(When, Option<Expr>, MergeAction)>,
    pub(crate) output: Vec<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Matched,
    NotMatched,
    NotMatchedBySource,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MergeAction {
    Update(Vec<(String, Expr)>),
    Delete,
    Insert(Vec<String>, Vec<Expr>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnDef {
    pub(crate) name: String,
    pub(crate) ty: Type,
    /// NULL or NOT NULL as said.
    pub(crate) nullable: Option<bool>,
    pub(crate) collation: Option<Collation>,
    pub(crate) identity: Option<(i64, i64)>,
    pub(crate) default: Option<(Option<String>, Expr, String)>,
    pub(crate) computed: Option<(Expr, String, bool)>,
    pub(crate) sparse: bool,
    /// Keys of this column alone: the name, and whether it is the primary one.
    pub(crate) keys: Vec<(Option<String>, bool)>,
    pub(crate) checks: Vec<(Option<String>, Expr, String)>,
    /// A foreign key: its name, and where it points.
    pub(crate) references: Option<(Option<String>, Name, Vec<String>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Constraint {
    Key { name: Option<String>, primary: bool, clustered: Option<bool>, columns: Vec<(String, bool)> },
    Foreign { name: Option<String>, columns: Vec<String>, table: Name, to: Vec<String> },
    Check { name: Option<String>, expr: Expr, text: String },
    Default { name: Option<String>, column: String, expr: Expr, text: String },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) default: Option<Expr>,
    pub(crate) output: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Alter {
    Add(Vec<ColumnDef>, Vec<Constraint>),
    DropColumn(bool, Vec<String>),
    DropConstraint(bool, Vec<String>),
    Column(Box<ColumnDef>),
    Switch(Name),
    /// Whether constraints are enforced from now on; all of them where none is named.
    Enforce(bool, Vec<String>),
    /// Options without effect here, such as REBUILD.
    Accepted,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Argument {
    pub(crate) name: Option<String>,
    pub(crate) value: Expr,
    pub(crate) output: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Query(Query),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    Merge(Merge),
    InsertBulk(Name, Vec<(String, Type, Collation)>, Vec<String>),
    Truncate(Name),
    CreateTable(Name, Vec<ColumnDef>, Vec<Constraint>),
    AlterTable(Name, Alter),
    CreateIndex {
        name: String,
        table: Name,
        unique: bool,
        clustered: bool,
        columns: Vec<(String, bool)>,
        included: Vec<String>,
        /// Which rows it is about, as an expression and its text.
        filter: Option<(Expr, String)>,
    },
    CreateSchema(String),
    CreateDatabase(String),
    CreateView {
        name: Name,
        columns: Vec<String>,
        query: Box<Query>,
        text: String,
    },
    CreateProcedure {
        name: Name,
        parameters: Vec<Parameter>,
        body: String,
        text: String,
        replace: bool,
        alter: bool,
    },
    CreateTrigger {
        name: Name,
        table: Name,
        text: String,
    },
    CreateType(Name, Vec<ColumnDef>, Vec<Constraint>),
    Drop {
        what: String,
        names: Vec<Name>,
        if_exists: bool,
        on: Option<Name>,
    },
    Begin(Option<String>),
    Commit,
    Rollback(Option<String>),
    Save(String),
    Declare(Vec<(String, Declared, Option<Expr>)>),
    SetVariable(String, &'static str, Expr),
    SetOption(String, Vec<String>),
    Use(String),
    If(Expr, Box<Statement>, Option<Box<Statement>>),
    While(Expr, Box<Statement>),
    Break,
    Continue,
    Block(Vec<Statement>),
    Try(Vec<Statement>, Vec<Statement>),
    Exec {
        status: Option<String>,
        name: Name,
        arguments: Vec<Argument>,
    },
    ExecText(Expr),
    Print(Expr),
    Raise(Vec<Expr>),
    Throw(Option<(Expr, Expr, Expr)>),
    Return(Option<Expr>),
    WaitDelay(Expr),
    Kill(Expr),
    Accepted,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Declared {
    Scalar(Type),
    Table(Vec<ColumnDef>, Vec<Constraint>),
    TableType(Name),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statement {
    pub(crate) kind: Kind,
    pub(crate) line: u32,
}
