//! Tokens to statements.

use super::lex::{Placed, Token, tokens};
use super::tree::*;
use crate::errors::SqlError;
use crate::types::{Collation, Type};

pub(crate) type Parsed<T> = Result<T, SqlError>;

/// How deep statements and expressions may nest.
const DEPTH_MAX: u32 = 60;

pub(crate) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Placed>,
    at: usize,
    depth: u32,
    /// Whether a lock hint has been read since a SELECT began.
    pub(crate) locks: bool,
}

/// Words that end a statement or a clause, so that they are no alias.
const RESERVED: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "INNER",
    "LEFT",
    "RIGHT",
    "FULL",
    "CROSS",
    "OUTER",
    "JOIN",
    "ON",
    "SET",
    "VALUES",
    "INTO",
    "INSERT",
    "UPDATE",
    "DELETE",
    "MERGE",
    "WHEN",
    "USING",
    "AS",
    "WITH",
    "OPTION",
    "OFFSET",
    "FETCH",
    "FOR",
    "IF",
    "ELSE",
    "BEGIN",
    "END",
    "EXEC",
    "EXECUTE",
    "DECLARE",
    "CREATE",
    "DROP",
    "ALTER",
    "COMMIT",
    "ROLLBACK",
    "PRINT",
    "RETURN",
    "WHILE",
    "AND",
    "OR",
    "NOT",
    "NULL",
    "CASE",
    "THEN",
    "IN",
    "IS",
    "LIKE",
    "BETWEEN",
    "EXISTS",
    "DEFAULT",
    "OUTPUT",
    "THROW",
    "RAISERROR",
    "WAITFOR",
    "TRUNCATE",
    "USE",
    "GO",
    "KILL",
    "OVER",
    "DESC",
    "ASC",
    "COLLATE",
    "PRIMARY",
    "UNIQUE",
    "CHECK",
    "CONSTRAINT",
    "FOREIGN",
    "REFERENCES",
    "TOP",
    "DISTINCT",
    "SAVE",
];

/// A whole batch.
pub(crate) fn batch(text: &str) -> Parsed<Vec<Statement>> {
    let mut parser = Parser::new(text)?;
    parser.statements(&[])
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str) -> Parsed<Self> {
        Ok(Self { text, tokens: tokens(text)?, at: 0, depth: 0, locks: false })
    }

    pub(crate) fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].token
    }

    pub(crate) fn peek_at(&self, ahead: usize) -> &Token {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].token
    }

    pub(crate) fn position(&self) -> usize {
        self.tokens[self.at.min(self.tokens.len() - 1)].at
    }

    pub(crate) fn text_from(&self, start: usize) -> String {
        self.text[start..self.position()].trim().to_owned()
    }

    pub(crate) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    pub(crate) fn is(&self, word: &str) -> bool {
        self.is_at(0, word)
    }

    pub(crate) fn is_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Word(have) if have.eq_ignore_ascii_case(word))
    }

    pub(crate) fn take(&mut self, word: &str) -> bool {
        let found = self.is(word);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn take_all(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(ahead, word)| self.is_at(ahead, word));
        if found {
            self.at += words.len();
        }
        found
    }

    pub(crate) fn expect(&mut self, word: &str) -> Parsed<()> {
        if self.take(word) { Ok(()) } else { Err(self.wrong()) }
    }

    pub(crate) fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(have) if *have == sign)
    }

    pub(crate) fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn sign(&mut self, sign: &str) -> Parsed<()> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.wrong()) }
    }

    pub(crate) fn wrong(&self) -> SqlError {
        let line = self.tokens[self.at.min(self.tokens.len() - 1)].line;
        let near = match self.peek() {
            Token::Word(word) | Token::Quoted(word) | Token::Variable(word) | Token::Number(word) => word.clone(),
            Token::Text(text, _) => text.clone(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Bytes(_) => "0x".to_owned(),
            Token::End => "the end of the batch".to_owned(),
        };
        SqlError::syntax(&near).at_line(line)
    }

    pub(crate) fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH_MAX {
            return Err(SqlError::new(191, "Some part of your SQL statement is nested too deeply."));
        }
        self.depth += 1;
        let result = part(self);
        self.depth -= 1;
        result
    }

    /// One word of a name.
    pub(crate) fn identifier(&mut self) -> Parsed<String> {
        match self.peek() {
            Token::Word(word) | Token::Quoted(word) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.wrong()),
        }
    }

    pub(crate) fn variable(&mut self) -> Parsed<String> {
        match self.peek() {
            Token::Variable(name) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.wrong()),
        }
    }

    pub(crate) fn name(&mut self) -> Parsed<Name> {
        let mut parts = vec![self.identifier()?];
        while self.take_sign(".") {
            // `database..object` leaves the schema out.
            parts.push(if self.is_sign(".") { String::new() } else { self.identifier()? });
        }
        let some = |part: Option<String>| part.filter(|part| !part.is_empty());
        let object = parts.pop().ok_or_else(|| self.wrong())?;
        let schema = some(parts.pop());
        Ok(Name { database: some(parts.pop()), schema, object })
    }

    /// An alias, with or without AS.
    pub(crate) fn alias(&mut self) -> Parsed<Option<String>> {
        if self.take("AS") {
            return match self.peek().clone() {
                Token::Text(text, _) => {
                    self.at += 1;
                    Ok(Some(text))
                }
                _ => self.identifier().map(Some),
            };
        }
        match self.peek() {
            Token::Quoted(_) => self.identifier().map(Some),
            Token::Word(word) if !is_reserved(word) => self.identifier().map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn list<T>(&mut self, mut part: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut all = vec![part(self)?];
        while self.take_sign(",") {
            all.push(part(self)?);
        }
        Ok(all)
    }

    pub(crate) fn in_brackets<T>(&mut self, part: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.sign("(")?;
        let all = self.list(part)?;
        self.sign(")")?;
        Ok(all)
    }

    pub(crate) fn integer(&mut self) -> Parsed<i64> {
        let negative = self.take_sign("-");
        match self.next() {
            Token::Number(digits) => {
                let number: i64 = digits.parse().map_err(|_| SqlError::syntax(&digits))?;
                Ok(if negative { -number } else { number })
            }
            _ => {
                self.at -= 1;
                Err(self.wrong())
            }
        }
    }

    /// A type with its sizes.
    pub(crate) fn ty(&mut self) -> Parsed<Type> {
        let name = self.name()?;
        let mut word = name.object.clone();
        if self.is("precision") && word.eq_ignore_ascii_case("double") {
            self.at += 1;
        }
        if self.take("varying") {
            word = match word.to_ascii_lowercase().as_str() {
                "char" | "character" => "varchar".into(),
                "binary" => "varbinary".into(),
                other => other.to_owned(),
            };
        }
        let mut arguments = Vec::new();
        if self.is_sign("(") && Type::named(&word, &[]).is_some() {
            arguments = self.in_brackets(|parser| if parser.take("max") { Ok(-1) } else { parser.integer() })?;
        }
        match Type::named(&word, &arguments) {
            Some(ty) => Ok(ty),
            None if arguments.is_empty() => Ok(Type::Table(name.quoted())),
            None => Err(SqlError::new(2750, format!("Specified length or precision is invalid for type {word}."))),
        }
    }

    pub(crate) fn collation(&mut self) -> Parsed<Collation> {
        let name = self.identifier()?;
        Collation::named(&name).ok_or_else(|| SqlError::new(448, format!("Invalid collation '{name}'.")))
    }

    /// Statements up to one of the words, which stays.
    pub(crate) fn statements(&mut self, until: &[&str]) -> Parsed<Vec<Statement>> {
        let mut all = Vec::new();
        loop {
            while self.take_sign(";") {}
            if *self.peek() == Token::End {
                return if until.is_empty() { Ok(all) } else { Err(self.wrong()) };
            }
            if until.iter().any(|word| self.is(word)) {
                return Ok(all);
            }
            all.push(self.statement()?);
        }
    }

    pub(crate) fn statement(&mut self) -> Parsed<Statement> {
        while self.take_sign(";") {}
        let line = self.tokens[self.at.min(self.tokens.len() - 1)].line;
        let start = self.position();
        let kind = self.deeper(|parser| parser.kind(start)).map_err(|error| error.at_line(line))?;
        Ok(Statement { kind, line })
    }

    fn kind(&mut self, start: usize) -> Parsed<Kind> {
        let Token::Word(word) = self.peek().clone() else {
            if self.is_sign("(") {
                return Ok(Kind::Query(self.query()?));
            }
            // A procedure's name alone, in brackets, runs it.
            return match self.peek() {
                Token::Quoted(_) if start == 0 => self.exec_named(None),
                _ => Err(self.wrong()),
            };
        };
        match word.to_ascii_uppercase().as_str() {
            "SELECT" | "VALUES" => Ok(Kind::Query(self.query()?)),
            "WITH" => self.with_statement(),
            "INSERT" => self.insert_or_bulk(Vec::new()),
            "UPDATE" => self.update(Vec::new()).map(Kind::Update),
            "DELETE" => self.delete(Vec::new()).map(Kind::Delete),
            "MERGE" => self.merge().map(Kind::Merge),
            "TRUNCATE" => {
                self.next();
                self.expect("TABLE")?;
                Ok(Kind::Truncate(self.name()?))
            }
            "CREATE" | "ALTER" | "DROP" => self.ddl(start),
            "BEGIN" => self.begin(),
            "COMMIT" => {
                self.next();
                self.transaction_name()?;
                Ok(Kind::Commit)
            }
            "ROLLBACK" => {
                self.next();
                Ok(Kind::Rollback(self.transaction_name()?))
            }
            "SAVE" => {
                self.next();
                Ok(Kind::Save(self.transaction_name()?.unwrap_or_default()))
            }
            "DECLARE" => self.declare(),
            "SET" => self.set(),
            "USE" => {
                self.next();
                Ok(Kind::Use(self.identifier()?))
            }
            "IF" => {
                self.next();
                let condition = self.expr()?;
                let then = Box::new(self.statement()?);
                while self.is_sign(";")
                    && matches!(self.peek_at(1), Token::Word(word) if word.eq_ignore_ascii_case("ELSE"))
                {
                    self.next();
                }
                let otherwise = if self.take("ELSE") { Some(Box::new(self.statement()?)) } else { None };
                Ok(Kind::If(condition, then, otherwise))
            }
            "WHILE" => {
                self.next();
                let condition = self.expr()?;
                Ok(Kind::While(condition, Box::new(self.statement()?)))
            }
            "BREAK" => {
                self.next();
                Ok(Kind::Break)
            }
            "CONTINUE" => {
                self.next();
                Ok(Kind::Continue)
            }
            "EXEC" | "EXECUTE" => {
                self.next();
                self.exec()
            }
            "PRINT" => {
                self.next();
                Ok(Kind::Print(self.expr()?))
            }
            "RAISERROR" => {
                self.next();
                let arguments = self.in_brackets(Self::expr)?;
                if self.take("WITH") {
                    self.list(Self::identifier)?;
                }
                Ok(Kind::Raise(arguments))
            }
            "THROW" => {
                self.next();
                if matches!(self.peek(), Token::Number(_) | Token::Variable(_)) {
                    let number = self.expr()?;
                    self.sign(",")?;
                    let message = self.expr()?;
                    self.sign(",")?;
                    return Ok(Kind::Throw(Some((number, message, self.expr()?))));
                }
                Ok(Kind::Throw(None))
            }
            "RETURN" => {
                self.next();
                let ends = match self.peek() {
                    Token::End => true,
                    Token::Sign(sign) => *sign == ";",
                    Token::Word(word) => is_reserved(word) && !word.eq_ignore_ascii_case("CASE"),
                    _ => false,
                };
                Ok(Kind::Return(if ends { None } else { Some(self.expr()?) }))
            }
            "WAITFOR" => {
                self.next();
                self.expect("DELAY")?;
                Ok(Kind::WaitDelay(self.expr()?))
            }
            "KILL" => {
                self.next();
                Ok(Kind::Kill(self.expr()?))
            }
            "GRANT" | "REVOKE" | "DENY" => {
                while !matches!(self.peek(), Token::End) && !self.is_sign(";") {
                    self.next();
                }
                Ok(Kind::Accepted)
            }
            _ if start == self.first_position() => self.exec_named(None),
            _ => Err(SqlError::unknown(&self.text[start..])),
        }
    }

    fn first_position(&self) -> usize {
        self.tokens[0].at
    }

    fn with_statement(&mut self) -> Parsed<Kind> {
        let with = self.with_clause()?;
        match self.peek() {
            Token::Word(word) if word.eq_ignore_ascii_case("INSERT") => self.insert_or_bulk(with),
            Token::Word(word) if word.eq_ignore_ascii_case("UPDATE") => self.update(with).map(Kind::Update),
            Token::Word(word) if word.eq_ignore_ascii_case("DELETE") => self.delete(with).map(Kind::Delete),
            _ => {
                let mut query = self.query()?;
                query.with = with;
                Ok(Kind::Query(query))
            }
        }
    }

    fn transaction_name(&mut self) -> Parsed<Option<String>> {
        if !self.take("TRAN") && !self.take("TRANSACTION") {
            self.take("WORK");
        }
        let name = match self.peek() {
            Token::Word(word) if !is_reserved(word) => Some(self.identifier()?),
            Token::Quoted(_) => Some(self.identifier()?),
            Token::Variable(_) => Some(self.variable()?),
            _ => None,
        };
        if self.is("WITH") && matches!(self.peek_at(1), Token::Sign("(")) {
            self.next();
            self.in_brackets(|parser| {
                parser.identifier()?;
                if parser.take_sign("=") {
                    parser.next();
                }
                Ok(())
            })?;
        }
        Ok(name)
    }

    fn begin(&mut self) -> Parsed<Kind> {
        self.next();
        if self.is("TRAN") || self.is("TRANSACTION") {
            return Ok(Kind::Begin(self.transaction_name()?));
        }
        if self.take("TRY") {
            let body = self.statements(&["END"])?;
            self.expect("END")?;
            self.expect("TRY")?;
            while self.take_sign(";") {}
            self.expect("BEGIN")?;
            self.expect("CATCH")?;
            let handler = self.statements(&["END"])?;
            self.expect("END")?;
            self.expect("CATCH")?;
            return Ok(Kind::Try(body, handler));
        }
        let body = self.statements(&["END"])?;
        self.expect("END")?;
        Ok(Kind::Block(body))
    }

    fn declare(&mut self) -> Parsed<Kind> {
        self.next();
        let all = self.list(|parser| {
            let name = parser.variable()?;
            parser.take("AS");
            if parser.take("TABLE") {
                let (columns, constraints) = parser.table_body()?;
                return Ok((name, Declared::Table(columns, constraints), None));
            }
            let declared = match parser.ty()? {
                Type::Table(text) => Declared::TableType(Parser::new(&text)?.name()?),
                ty => Declared::Scalar(ty),
            };
            let value = if parser.take_sign("=") { Some(parser.expr()?) } else { None };
            Ok((name, declared, value))
        })?;
        Ok(Kind::Declare(all))
    }

    fn set(&mut self) -> Parsed<Kind> {
        self.next();
        if let Token::Variable(name) = self.peek().clone() {
            self.next();
            for (sign, operation) in [("=", ""), ("+=", "+"), ("-=", "-"), ("*=", "*"), ("/=", "/")] {
                if self.take_sign(sign) {
                    return Ok(Kind::SetVariable(name, operation, self.expr()?));
                }
            }
            return Err(self.wrong());
        }
        let mut words = Vec::new();
        loop {
            match self.peek().clone() {
                Token::Word(word) if words.is_empty() || !starts_statement(&word) => {
                    words.push(word.to_ascii_uppercase());
                    self.next();
                    // The names of several options stand before one ON or OFF.
                    if self.take_sign(",") {
                        continue;
                    }
                    if self.is_sign(".") && words.len() > 1 && words[0] == "IDENTITY_INSERT" {
                        self.next();
                    }
                }
                Token::Quoted(word) | Token::Variable(word) => {
                    words.push(word);
                    self.next();
                    self.take_sign(".");
                }
                Token::Number(word) => {
                    words.push(word);
                    self.next();
                }
                Token::Text(word, _) => {
                    words.push(word);
                    self.next();
                }
                Token::Sign("-") => {
                    self.next();
                    words.push(format!("-{}", self.integer()?));
                }
                _ => break,
            }
            if matches!(words.last().map(String::as_str), Some("ON" | "OFF")) {
                break;
            }
        }
        if words.is_empty() {
            return Err(self.wrong());
        }
        let first = words.remove(0);
        Ok(Kind::SetOption(first, words))
    }

    fn exec(&mut self) -> Parsed<Kind> {
        if self.is_sign("(") {
            self.next();
            let text = self.expr()?;
            self.sign(")")?;
            return Ok(Kind::ExecText(text));
        }
        let mut status = None;
        if let (Token::Variable(name), Token::Sign("=")) = (self.peek().clone(), self.peek_at(1)) {
            status = Some(name);
            self.at += 2;
        }
        self.exec_named(status)
    }

    fn exec_named(&mut self, status: Option<String>) -> Parsed<Kind> {
        let name = self.name()?;
        let mut arguments = Vec::new();
        let ends = |parser: &Self| match parser.peek() {
            Token::End => true,
            Token::Sign(sign) => *sign == ";",
            Token::Word(word) => starts_statement(word) || word.eq_ignore_ascii_case("END"),
            _ => false,
        };
        if !ends(self) {
            arguments = self.list(|parser| {
                let mut name = None;
                if let (Token::Variable(variable), Token::Sign("=")) = (parser.peek().clone(), parser.peek_at(1)) {
                    name = Some(variable);
                    parser.at += 2;
                }
                // A bare word is text here.
                let value = match (parser.peek().clone(), parser.peek_at(1)) {
                    (Token::Word(word), Token::Sign("," | ";") | Token::End)
                        if !word.eq_ignore_ascii_case("NULL") && !word.eq_ignore_ascii_case("DEFAULT") =>
                    {
                        parser.next();
                        Expr::Literal(crate::value::Value::text(word), Type::NVarChar(128))
                    }
                    _ => parser.expr()?,
                };
                let output = parser.take("OUTPUT") || parser.take("OUT");
                Ok(Argument { name, value, output })
            })?;
        }
        if self.take_all(&["WITH", "RESULT", "SETS"]) {
            return Err(self.wrong());
        }
        Ok(Kind::Exec { status, name, arguments })
    }
}

pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word))
}

fn starts_statement(word: &str) -> bool {
    [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "MERGE",
        "SET",
        "EXEC",
        "EXECUTE",
        "DECLARE",
        "IF",
        "BEGIN",
        "CREATE",
        "DROP",
        "ALTER",
        "USE",
        "COMMIT",
        "ROLLBACK",
        "WHILE",
        "PRINT",
        "RETURN",
        "TRUNCATE",
        "THROW",
        "RAISERROR",
        "WAITFOR",
        "ELSE",
    ]
    .iter()
    .any(|start| start.eq_ignore_ascii_case(word))
}
