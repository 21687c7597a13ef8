//! Statements that change rows, and those that change what there is.

use super::lex::Token;
use super::parse::{Parsed, Parser};
use super::tree::*;
use crate::errors::SqlError;
use crate::types::{Collation, Type};

type With = Vec<(String, Vec<String>, Query)>;

impl Parser<'_> {
    fn target(&mut self) -> Parsed<Target> {
        if matches!(self.peek(), Token::Variable(_)) {
            return self.variable().map(Target::Variable);
        }
        self.name().map(Target::Table)
    }

    fn output(&mut self) -> Parsed<Vec<Item>> {
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

    fn bulk(&mut self) -> Parsed<Kind> {
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

    fn merge_action(&mut self) -> Parsed<MergeAction> {
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

    fn table_options(&mut self) -> Parsed<()> {
        loop {
            if self.take("ON") || self.take("TEXTIMAGE_ON") {
                self.identifier()?;
            } else if self.is("WITH") && matches!(self.peek_at(1), Token::Sign("(")) {
                self.next();
                self.brackets()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Anything in brackets, whose meaning is none here.
    fn brackets(&mut self) -> Parsed<()> {
        self.sign("(")?;
        let mut open = 1;
        while open > 0 {
            match self.next() {
                Token::Sign("(") => open += 1,
                Token::Sign(")") => open -= 1,
                Token::End => return Err(self.wrong()),
                _ => {}
            }
        }
        Ok(())
    }

    fn key_columns(&mut self) -> Parsed<Vec<(String, bool)>> {
        self.in_brackets(|parser| {
            let name = parser.identifier()?;
            let descending = parser.take("DESC");
            parser.take("ASC");
            Ok((name, descending))
        })
    }

    fn index(&mut self, first: &str) -> Parsed<Kind> {
        let unique = first == "UNIQUE";
        let mut clustered = first == "CLUSTERED";
        if first != "INDEX" {
            clustered |= self.take("CLUSTERED");
            self.take("NONCLUSTERED");
            self.expect("INDEX")?;
        }
        let name = self.identifier()?;
        self.expect("ON")?;
        let table = self.name()?;
        let columns = self.key_columns()?;
        let included = if self.take("INCLUDE") { self.in_brackets(Self::identifier)? } else { Vec::new() };
        if self.is("WHERE") {
            return Err(SqlError::unknown("a filtered index"));
        }
        self.table_options()?;
        Ok(Kind::CreateIndex { name, table, unique, clustered, columns, included })
    }

    fn procedure(&mut self, start: usize, replace: bool, alter: bool) -> Parsed<Kind> {
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

    pub(crate) fn table_body(&mut self) -> Parsed<(Vec<ColumnDef>, Vec<Constraint>)> {
        self.sign("(")?;
        let (mut columns, mut constraints) = (Vec::new(), Vec::new());
        loop {
            self.column_or_constraint(&mut columns, &mut constraints)?;
            if !self.take_sign(",") || self.is_sign(")") {
                break;
            }
        }
        self.sign(")")?;
        Ok((columns, constraints))
    }

    fn column_or_constraint(&mut self, columns: &mut Vec<ColumnDef>, constraints: &mut Vec<Constraint>) -> Parsed<()> {
        let starts = ["CONSTRAINT", "PRIMARY", "UNIQUE", "FOREIGN", "CHECK", "INDEX"];
        let is_constraint = starts.iter().any(|word| self.is(word))
            && !matches!(self.peek_at(1), Token::Word(word) if Type::named(word, &[]).is_some());
        if is_constraint || self.is("DEFAULT") {
            constraints.push(self.constraint()?);
        } else {
            columns.push(self.column_def()?);
        }
        Ok(())
    }

    fn constraint(&mut self) -> Parsed<Constraint> {
        let name = if self.take("CONSTRAINT") { Some(self.identifier()?) } else { None };
        if self.is("PRIMARY") || self.is("UNIQUE") {
            let primary = self.identifier()?.eq_ignore_ascii_case("PRIMARY");
            if primary {
                self.expect("KEY")?;
            }
            let clustered = self.clustered();
            let columns = self.key_columns()?;
            self.table_options()?;
            return Ok(Constraint::Key { name, primary, clustered, columns });
        }
        if self.take_all(&["FOREIGN", "KEY"]) {
            let columns = self.in_brackets(Self::identifier)?;
            self.expect("REFERENCES")?;
            let table = self.name()?;
            let to = if self.is_sign("(") { self.in_brackets(Self::identifier)? } else { Vec::new() };
            self.foreign_actions()?;
            return Ok(Constraint::Foreign { name, columns, table, to });
        }
        if self.take("CHECK") {
            let start = self.position();
            self.sign("(")?;
            let expr = self.expr()?;
            self.sign(")")?;
            return Ok(Constraint::Check { name, expr, text: self.text_from(start) });
        }
        if self.take("DEFAULT") {
            let start = self.position();
            let expr = self.expr()?;
            let text = self.text_from(start);
            self.expect("FOR")?;
            return Ok(Constraint::Default { name, column: self.identifier()?, expr, text });
        }
        Err(self.wrong())
    }

    fn clustered(&mut self) -> Option<bool> {
        if self.take("CLUSTERED") {
            Some(true)
        } else if self.take("NONCLUSTERED") {
            Some(false)
        } else {
            None
        }
    }

    fn foreign_actions(&mut self) -> Parsed<()> {
        while self.is("ON") && (self.is_at(1, "DELETE") || self.is_at(1, "UPDATE")) {
            self.next();
            self.next();
            if !self.take_all(&["NO", "ACTION"]) {
                return Err(self.wrong());
            }
        }
        Ok(())
    }

    pub(crate) fn column_def(&mut self) -> Parsed<ColumnDef> {
        let mut column = ColumnDef {
            name: self.identifier()?,
            ty: Type::Int,
            nullable: None,
            collation: None,
            identity: None,
            default: None,
            computed: None,
            sparse: false,
            primary: false,
            unique: false,
            checks: Vec::new(),
            references: None,
        };
        if self.take("AS") {
            let start = self.position();
            let expr = self.expr()?;
            let text = self.text_from(start);
            column.computed = Some((expr, text, self.take("PERSISTED")));
        } else if matches!(self.peek(), Token::Sign("," | ")")) && column.name.eq_ignore_ascii_case("timestamp") {
            column.ty = Type::RowVersion;
        } else {
            column.ty = self.ty()?;
            if let Type::Table(name) = &column.ty {
                return Err(SqlError::new(
                    2715,
                    format!("Column, parameter, or variable #1: Cannot find data type {name}."),
                ));
            }
        }
        self.column_options(&mut column)?;
        Ok(column)
    }

    fn column_options(&mut self, column: &mut ColumnDef) -> Parsed<()> {
        loop {
            let name = if self.take("CONSTRAINT") { Some(self.identifier()?) } else { None };
            if self.take_all(&["NOT", "NULL"]) {
                column.nullable = Some(false);
            } else if self.take("NULL") {
                column.nullable = Some(true);
            } else if self.take("COLLATE") {
                column.collation = Some(self.collation()?);
            } else if self.take("IDENTITY") {
                let mut numbers = vec![1, 1];
                if self.is_sign("(") {
                    numbers = self.in_brackets(Self::integer)?;
                }
                column.identity = Some((numbers[0], numbers.get(1).copied().unwrap_or(1)));
                self.take_all(&["NOT", "FOR", "REPLICATION"]);
            } else if self.take("SPARSE") {
                column.sparse = true;
            } else if self.take("ROWGUIDCOL") || self.take("PERSISTED") {
            } else if self.take("DEFAULT") {
                let start = self.position();
                let expr = self.expr()?;
                column.default = Some((name, expr, self.text_from(start)));
            } else if self.take_all(&["PRIMARY", "KEY"]) {
                self.clustered();
                column.primary = true;
                column.nullable = Some(false);
            } else if self.take("UNIQUE") {
                self.clustered();
                column.unique = true;
            } else if self.take("CHECK") {
                let start = self.position();
                self.sign("(")?;
                let expr = self.expr()?;
                self.sign(")")?;
                column.checks.push((name, expr, self.text_from(start)));
            } else if self.is("REFERENCES") || self.is("FOREIGN") {
                self.take_all(&["FOREIGN", "KEY"]);
                self.expect("REFERENCES")?;
                let table = self.name()?;
                let to = if self.is_sign("(") { self.in_brackets(Self::identifier)? } else { Vec::new() };
                self.foreign_actions()?;
                column.references = Some((table, to));
            } else {
                return Ok(());
            }
        }
    }

    fn alter_table(&mut self) -> Parsed<Kind> {
        let table = self.name()?;
        if self.is("WITH") && (self.is_at(1, "CHECK") || self.is_at(1, "NOCHECK")) {
            self.next();
            self.next();
        }
        let alter = if self.take("ADD") {
            let (mut columns, mut constraints) = (Vec::new(), Vec::new());
            loop {
                self.column_or_constraint(&mut columns, &mut constraints)?;
                if !self.take_sign(",") {
                    break;
                }
            }
            Alter::Add(columns, constraints)
        } else if self.take("DROP") {
            let column = self.take("COLUMN");
            if !column {
                self.take("CONSTRAINT");
            }
            let if_exists = self.take_all(&["IF", "EXISTS"]);
            let names = self.list(Self::identifier)?;
            if column { Alter::DropColumn(if_exists, names) } else { Alter::DropConstraint(if_exists, names) }
        } else if self.take_all(&["ALTER", "COLUMN"]) {
            Alter::Column(Box::new(self.column_def()?))
        } else if self.take_all(&["SWITCH", "TO"]) {
            Alter::Switch(self.name()?)
        } else if self.is("REBUILD")
            || self.is("SET")
            || self.is("ENABLE")
            || self.is("DISABLE")
            || self.is("CHECK")
            || self.is("NOCHECK")
        {
            while *self.peek() != Token::End && !self.is_sign(";") {
                self.next();
            }
            Alter::Accepted
        } else {
            return Err(self.wrong());
        };
        Ok(Kind::AlterTable(table, alter))
    }
}
