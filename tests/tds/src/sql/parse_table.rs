//! Definitions of tables: columns, constraints, indexes, and what ALTER TABLE changes.

use super::lex::Token;
use super::parse::{Parsed, Parser};
use super::tree::*;
use crate::errors::SqlError;
use crate::types::Type;

impl Parser<'_> {
    pub(super) fn table_options(&mut self) -> Parsed<()> {
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
    pub(super) fn brackets(&mut self) -> Parsed<()> {
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

    pub(super) fn key_columns(&mut self) -> Parsed<Vec<(String, bool)>> {
        self.in_brackets(|parser| {
            let name = parser.identifier()?;
            let descending = parser.take("DESC");
            parser.take("ASC");
            Ok((name, descending))
        })
    }

    pub(super) fn index(&mut self, first: &str) -> Parsed<Kind> {
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
        let mut filter = None;
        if self.take("WHERE") {
            let start = self.position();
            let expr = self.expr()?;
            filter = Some((expr, self.text_from(start)));
        }
        self.table_options()?;
        Ok(Kind::CreateIndex { name, table, unique, clustered, columns, included, filter })
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

    pub(super) fn column_or_constraint(
        &mut self,
        columns: &mut Vec<ColumnDef>,
        constraints: &mut Vec<Constraint>,
    ) -> Parsed<()> {
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

    pub(super) fn constraint(&mut self) -> Parsed<Constraint> {
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

    pub(super) fn clustered(&mut self) -> Option<bool> {
        if self.take("CLUSTERED") {
            Some(true)
        } else if self.take("NONCLUSTERED") {
            Some(false)
        } else {
            None
        }
    }

    pub(super) fn foreign_actions(&mut self) -> Parsed<()> {
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
            keys: Vec::new(),
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

    pub(super) fn column_options(&mut self, column: &mut ColumnDef) -> Parsed<()> {
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
                column.keys.push((name, true));
                column.nullable = Some(false);
            } else if self.take("UNIQUE") {
                self.clustered();
                column.keys.push((name, false));
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
                column.references = Some((name, table, to));
            } else {
                return Ok(());
            }
        }
    }

    pub(super) fn alter_table(&mut self) -> Parsed<Kind> {
        let table = self.name()?;
        let unchecked = self.is("WITH") && self.is_at(1, "NOCHECK");
        if unchecked || self.is("WITH") && self.is_at(1, "CHECK") {
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
            if unchecked && !constraints.is_empty() {
                return Err(SqlError::unknown("a constraint that rows before it may break"));
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
        } else if (self.is("CHECK") || self.is("NOCHECK")) && self.is_at(1, "CONSTRAINT") {
            let enforced = self.take("CHECK") || !self.take("NOCHECK");
            self.expect("CONSTRAINT")?;
            let names = if self.take("ALL") { Vec::new() } else { self.list(Self::identifier)? };
            Alter::Enforce(enforced, names)
        } else if self.is("REBUILD") || self.is("SET") || self.is("ENABLE") || self.is("DISABLE") {
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
