//! Statements that change rows, and those that change what there is.

use super::lex::Token;
use super::parse::{Parsed, Parser};
use super::tree::*;
use crate::errors::SqlError;
use crate::types::Collation;

type With = Vec<(String, Vec<String>, Query)>;

impl Parser<'_> {
    pub(super) fn target(&mut self) -> Parsed<Target> {
        if matches!(self.peek(), Token::Variable(_)) {
            return self.variable().map(Target::Variable);
        }
        self.name().map(Target::Table)
    }

    pub(super) fn output(&mut self) -> Parsed<Vec<Item>> {
        if !self.take("OUTPUT") {
            return Ok(Vec::new());
        }
        let items = self.list(Self::item)?;
        if self.is("INTO") {
            return Err(SqlError::unknown("OUTPUT ... INTO"));
        }
        Ok(items)
    }

    pub(crate) fn insert_or_bulk(&mut self, with: With) -> Parsed<Kind> {
        self.expect("INSERT")?;
        if self.take("BULK") {
            return self.bulk();
        }
        let top = self.top()?;
        self.take("INTO");
        let into = self.target()?;
        self.hints()?;
        let mut columns = Vec::new();
        if self.is_sign("(") && !matches!(self.peek_at(1), Token::Word(word) if word.eq_ignore_ascii_case("SELECT")) {
            columns = self.in_brackets(Self::identifier)?;
        }
        let output = self.output()?;
        let from = if self.take_all(&["DEFAULT", "VALUES"]) {
            InsertFrom::Defaults
        } else if self.take("VALUES") {
            InsertFrom::Values(self.list(|parser| parser.in_brackets(Self::expr))?)
        } else if self.is("EXEC") || self.is("EXECUTE") {
            InsertFrom::Exec(Box::new(self.statement()?))
        } else {
            InsertFrom::Query(Box::new(self.query()?))
        };
        self.option()?;
        Ok(Kind::Insert(Insert { with, top, into, columns, output, from }))
    }

    pub(super) fn bulk(&mut self) -> Parsed<Kind> {
        let table = self.name()?;
        let columns = self.in_brackets(|parser| {
            let name = parser.identifier()?;
            let ty = parser.ty()?;
            let collation = if parser.take("COLLATE") { parser.collation()? } else { Collation::default() };
            if parser.take("NOT") {
                parser.expect("NULL")?;
            } else {
                parser.take("NULL");
            }
            Ok((name, ty, collation))
        })?;
        let mut options = Vec::new();
        if self.take("WITH") {
            self.sign("(")?;
            let mut open = 1;
            let start = self.position();
            while open > 0 {
                if self.is_sign(")") {
                    open -= 1;
                    if open == 0 {
                        break;
                    }
                } else if self.is_sign("(") {
                    open += 1;
                } else if *self.peek() == Token::End {
                    return Err(self.wrong());
                }
                self.next();
            }
            options = self.text_from(start).split(',').map(|part| part.trim().to_ascii_uppercase()).collect();
            self.sign(")")?;
        }
        Ok(Kind::InsertBulk(table, columns, options))
    }

    pub(crate) fn update(&mut self, with: With) -> Parsed<Update> {
        self.expect("UPDATE")?;
        let top = self.top()?;
        let target = self.target()?;
        self.hints()?;
        self.expect("SET")?;
        let set = self.list(|parser| {
            if let Token::Variable(name) = parser.peek().clone() {
                parser.next();
                parser.sign("=")?;
                return Ok((SetTo::Variable(name), parser.expr()?));
            }
            let column = parser.name()?.object;
            for (sign, operation) in [("+=", "+"), ("-=", "-"), ("*=", "*"), ("/=", "/")] {
                if parser.take_sign(sign) {
                    let own = Expr::Column(vec![column.clone()]);
                    return Ok((
                        SetTo::Column(column),
                        Expr::Binary(operation, Box::new(own), Box::new(parser.expr()?)),
                    ));
                }
            }
            parser.sign("=")?;
            Ok((SetTo::Column(column), parser.expr()?))
        })?;
        let output = self.output()?;
        let from = if self.take("FROM") { Some(self.sources()?) } else { None };
        let filter = if self.take("WHERE") { Some(self.expr()?) } else { None };
        self.option()?;
        Ok(Update { with, top, target, set, output, from, filter })
    }

    pub(crate) fn delete(&mut self, with: With) -> Parsed<Delete> {
        self.expect("DELETE")?;
        let top = self.top()?;
        self.take("FROM");
        let target = self.target()?;
        self.hints()?;
        let output = self.output()?;
        let from = if self.take("FROM") { Some(self.sources()?) } else { None };
        let filter = if self.take("WHERE") { Some(self.expr()?) } else { None };
        self.option()?;
        Ok(Delete { with, top, target, output, from, filter })
    }

    pub(crate) fn merge(&mut self) -> Parsed<Merge> {
        self.expect("MERGE")?;
        self.take("INTO");
        let target = self.target()?;
        self.hints()?;
        let alias = match self.alias()? {
            Some(alias) => alias,
            None => match &target {
                Target::Table(name) => name.object.clone(),
                Target::Variable(name) => name.clone(),
            },
        };
        self.hints()?;
        self.expect("USING")?;
        let source = self.sources()?;
        self.expect("ON")?;
        let on = self.expr()?;
        let mut branches = Vec::new();
        while self.take("WHEN") {
            let when = if self.take("MATCHED") {
                When::Matched
            } else {
                self.expect("NOT")?;
                self.expect("MATCHED")?;
                if self.take_all(&["BY", "SOURCE"]) {
                    When::NotMatchedBySource
                } else {
                    self.take_all(&["BY", "TARGET"]);
                    When::NotMatched
                }
            };
            let condition = if self.take("AND") { Some(self.expr()?) } else { None };
            self.expect("THEN")?;
            branches.push((when, condition, self.merge_action()?));
        }
        let output = self.output()?;
        self.option()?;
        if branches.is_empty() {
            return Err(self.wrong());
        }
        Ok(Merge { target, alias, source, on, branches, output })
    }

    pub(super) fn merge_action(&mut self) -> Parsed<MergeAction> {
        if self.take("DELETE") {
            return Ok(MergeAction::Delete);
        }
        if self.take("UPDATE") {
            self.expect("SET")?;
            let set = self.list(|parser| {
                let column = parser.name()?.object;
                parser.sign("=")?;
                Ok((column, parser.expr()?))
            })?;
            return Ok(MergeAction::Update(set));
        }
        self.expect("INSERT")?;
        let columns = if self.is_sign("(") { self.in_brackets(Self::identifier)? } else { Vec::new() };
        self.expect("VALUES")?;
        Ok(MergeAction::Insert(columns, self.in_brackets(Self::expr)?))
    }

    pub(crate) fn ddl(&mut self, start: usize) -> Parsed<Kind> {
        let verb = self.identifier()?.to_ascii_uppercase();
        let what = self.identifier()?.to_ascii_uppercase();
        match (verb.as_str(), what.as_str()) {
            ("CREATE", "TABLE") => {
                let name = self.name()?;
                let (columns, constraints) = self.table_body()?;
                self.table_options()?;
                Ok(Kind::CreateTable(name, columns, constraints))
            }
            ("CREATE", "UNIQUE" | "CLUSTERED" | "NONCLUSTERED" | "INDEX") => self.index(&what),
            ("CREATE", "SCHEMA") => {
                let name = self.identifier()?;
                if self.take("AUTHORIZATION") {
                    self.identifier()?;
                }
                Ok(Kind::CreateSchema(name))
            }
            ("CREATE", "DATABASE") => {
                let name = self.identifier()?;
                if self.take("COLLATE") {
                    self.collation()?;
                }
                Ok(Kind::CreateDatabase(name))
            }
            ("CREATE" | "ALTER", "VIEW") => {
                let name = self.name()?;
                let columns = if self.is_sign("(") { self.in_brackets(Self::identifier)? } else { Vec::new() };
                self.expect("AS")?;
                let query = Box::new(self.query()?);
                let text = self.text_from(start);
                Ok(Kind::CreateView { name, columns, query, text })
            }
            ("CREATE" | "ALTER", "PROCEDURE" | "PROC" | "OR") => {
                let replace = what == "OR";
                if replace {
                    self.expect("ALTER")?;
                    if !(self.take("PROCEDURE") || self.take("PROC")) {
                        return Err(self.wrong());
                    }
                }
                self.procedure(start, replace, verb == "ALTER")
            }
            ("CREATE", "TRIGGER") => {
                let name = self.name()?;
                self.expect("ON")?;
                let table = self.name()?;
                while *self.peek() != Token::End {
                    self.next();
                }
                Ok(Kind::CreateTrigger { name, table, text: self.text_from(start) })
            }
            ("CREATE", "TYPE") => {
                let name = self.name()?;
                self.expect("AS")?;
                self.expect("TABLE")?;
                let (columns, constraints) = self.table_body()?;
                Ok(Kind::CreateType(name, columns, constraints))
            }
            ("ALTER", "TABLE") => self.alter_table(),
            ("ALTER", "DATABASE") => {
                // Options of a database change nothing here; only SET is known.
                self.identifier()?;
                self.expect("SET")?;
                while *self.peek() != Token::End && !self.is_sign(";") {
                    self.next();
                }
                Ok(Kind::Accepted)
            }
            (
                "DROP",
                "TABLE" | "VIEW" | "PROCEDURE" | "PROC" | "SCHEMA" | "TYPE" | "DATABASE" | "TRIGGER" | "INDEX",
            ) => {
                let if_exists = self.take_all(&["IF", "EXISTS"]);
                let names = self.list(Self::name)?;
                let on = if self.take("ON") { Some(self.name()?) } else { None };
                Ok(Kind::Drop { what: if what == "PROC" { "PROCEDURE".into() } else { what }, names, if_exists, on })
            }
            _ => Err(SqlError::unknown(&format!("{verb} {what}"))),
        }
    }

    pub(super) fn procedure(&mut self, start: usize, replace: bool, alter: bool) -> Parsed<Kind> {
        let name = self.name()?;
        let brackets = self.take_sign("(");
        let mut parameters = Vec::new();
        if matches!(self.peek(), Token::Variable(_)) {
            parameters = self.parameters()?;
        }
        if brackets {
            self.sign(")")?;
        }
        if self.take("WITH") {
            self.list(|parser| {
                parser.identifier()?;
                if parser.take("AS") {
                    parser.identifier()?;
                }
                Ok(())
            })?;
        }
        self.expect("AS")?;
        let body_start = self.position();
        // The body is read now, so that its mistakes show now, and again when it runs.
        self.statements(&[])?;
        Ok(Kind::CreateProcedure {
            name,
            parameters,
            body: self.text_from(body_start),
            text: self.text_from(start),
            replace,
            alter,
        })
    }

    /// `@name type [= default] [OUTPUT] [READONLY]`, separated by commas.
    pub(crate) fn parameters(&mut self) -> Parsed<Vec<Parameter>> {
        self.list(|parser| {
            let name = parser.variable()?;
            parser.take("AS");
            let ty = parser.ty()?;
            if parser.take("COLLATE") {
                parser.collation()?;
            }
            parser.take("NULL");
            let default = if parser.take_sign("=") { Some(parser.expr()?) } else { None };
            let output = parser.take("OUTPUT") || parser.take("OUT");
            parser.take("READONLY");
            Ok(Parameter { name, ty, default, output })
        })
    }
}
