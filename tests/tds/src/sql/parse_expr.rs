//! Expressions and queries.

use super::lex::Token;
use super::parse::{Parsed, Parser, is_reserved};
use super::tree::*;
use crate::errors::SqlError;
use crate::types::Type;
use crate::value::Value;

impl Parser<'_> {
    pub(crate) fn expr(&mut self) -> Parsed<Expr> {
        self.deeper(Self::or)
    }

    fn or(&mut self) -> Parsed<Expr> {
        let mut parts = vec![self.and()?];
        while self.take("OR") {
            parts.push(self.and()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) })
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut parts = vec![self.not()?];
        while self.take("AND") {
            parts.push(self.not()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) })
    }

    fn not(&mut self) -> Parsed<Expr> {
        if self.take("NOT") {
            return self.deeper(|parser| Ok(Expr::Not(Box::new(parser.not()?))));
        }
        self.predicate()
    }

    fn predicate(&mut self) -> Parsed<Expr> {
        if self.is("EXISTS") {
            self.next();
            self.sign("(")?;
            let query = self.query()?;
            self.sign(")")?;
            return Ok(Expr::Exists(Box::new(query)));
        }
        let mut left = self.sum()?;
        loop {
            let negated = self.is("NOT") && (self.is_at(1, "IN") || self.is_at(1, "LIKE") || self.is_at(1, "BETWEEN"));
            if negated {
                self.next();
            }
            if self.take("IS") {
                let not = self.take("NOT");
                self.expect("NULL")?;
                left = Expr::IsNull(Box::new(left), not);
            } else if self.take("IN") {
                self.sign("(")?;
                if self.is("SELECT") {
                    let query = self.query()?;
                    left = Expr::InQuery(Box::new(left), Box::new(query), negated);
                } else {
                    left = Expr::In(Box::new(left), self.list(Self::expr)?, negated);
                }
                self.sign(")")?;
            } else if self.take("LIKE") {
                let pattern = Box::new(self.sum()?);
                let escape = if self.take("ESCAPE") { Some(Box::new(self.sum()?)) } else { None };
                left = Expr::Like(Box::new(left), pattern, escape, negated);
            } else if self.take("BETWEEN") {
                let low = Box::new(self.sum()?);
                self.expect("AND")?;
                left = Expr::Between(Box::new(left), low, Box::new(self.sum()?), negated);
            } else {
                let sign = match self.peek() {
                    Token::Sign(sign @ ("=" | "<>" | "!=" | "<" | ">" | "<=" | ">=" | "!<" | "!>")) => *sign,
                    _ => return Ok(left),
                };
                self.next();
                let sign = match sign {
                    "!=" => "<>",
                    "!<" => ">=",
                    "!>" => "<=",
                    other => other,
                };
                left = Expr::Binary(sign, Box::new(left), Box::new(self.sum()?));
            }
        }
    }

    fn sum(&mut self) -> Parsed<Expr> {
        let mut left = self.product()?;
        while let Token::Sign(sign @ ("+" | "-" | "&" | "|" | "^")) = self.peek() {
            let sign = *sign;
            self.next();
            left = Expr::Binary(sign, Box::new(left), Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Parsed<Expr> {
        let mut left = self.unary()?;
        while let Token::Sign(sign @ ("*" | "/" | "%")) = self.peek() {
            let sign = *sign;
            self.next();
            left = Expr::Binary(sign, Box::new(left), Box::new(self.unary()?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        for sign in ["-", "+", "~"] {
            if self.take_sign(sign) {
                return self.deeper(|parser| {
                    let inner = parser.unary()?;
                    Ok(match (sign, inner) {
                        ("+", inner) => inner,
                        ("-", Expr::Literal(Value::Text(text), ty)) if ty.is_exact() => {
                            let text = String::from_utf8_lossy(&text).into_owned();
                            let text = text.strip_prefix('-').map_or_else(|| format!("-{text}"), str::to_owned);
                            literal_number(&text)
                        }
                        ("-", Expr::Literal(Value::Integer(number), ty)) => {
                            Expr::Literal(Value::Integer(number.wrapping_neg()), ty)
                        }
                        ("-", Expr::Literal(Value::Float(number), ty)) => Expr::Literal(Value::Float(-number), ty),
                        (sign, inner) => Expr::Unary(sign, Box::new(inner)),
                    })
                });
            }
        }
        let mut inner = self.primary()?;
        while self.take("COLLATE") {
            inner = Expr::Collate(Box::new(inner), self.collation()?);
        }
        Ok(inner)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        match self.peek().clone() {
            Token::Number(digits) => {
                self.next();
                Ok(literal_number(&digits))
            }
            Token::Text(text, unicode) => {
                self.next();
                Ok(literal_text(text, unicode))
            }
            Token::Bytes(bytes) => {
                self.next();
                let size = bytes.len().max(1);
                let ty = if size > 8000 { Type::VarBinary(crate::types::MAX) } else { Type::VarBinary(size as u16) };
                Ok(Expr::Literal(Value::Bytes(bytes), ty))
            }
            Token::Variable(name) => {
                self.next();
                Ok(Expr::Variable(name))
            }
            Token::Sign("(") => {
                self.next();
                let inner = if self.is("SELECT") || self.is("WITH") {
                    Expr::Scalar(Box::new(self.query()?))
                } else {
                    self.expr()?
                };
                self.sign(")")?;
                Ok(inner)
            }
            Token::Sign("{") => self.escape(),
            Token::Quoted(_) => self.column_or_call(),
            Token::Word(word) => self.worded(&word),
            _ => Err(self.wrong()),
        }
    }

    /// The escapes of ODBC: `{d '2020-01-01'}`, `{ts '...'}`, `{fn now()}`.
    fn escape(&mut self) -> Parsed<Expr> {
        self.next();
        let kind = self.identifier()?.to_ascii_lowercase();
        let inner = self.expr()?;
        self.sign("}")?;
        let ty = match kind.as_str() {
            "d" | "ts" => Type::DateTime,
            "t" => Type::Time(7),
            "guid" => Type::Guid,
            _ => return Ok(inner),
        };
        Ok(Expr::Cast(Box::new(inner), ty, 0, false))
    }

    fn worded(&mut self, word: &str) -> Parsed<Expr> {
        match word.to_ascii_uppercase().as_str() {
            "NULL" => {
                self.next();
                Ok(Expr::Literal(Value::Null, Type::Int))
            }
            "DEFAULT" => {
                self.next();
                Ok(Expr::Default)
            }
            "CASE" => self.case(),
            "CAST" | "TRY_CAST" => {
                self.next();
                self.sign("(")?;
                let inner = self.expr()?;
                self.expect("AS")?;
                let ty = self.ty()?;
                self.sign(")")?;
                Ok(Expr::Cast(Box::new(inner), ty, 0, word.len() > 4))
            }
            "CONVERT" | "TRY_CONVERT" => {
                self.next();
                self.sign("(")?;
                let ty = self.ty()?;
                self.sign(",")?;
                let inner = self.expr()?;
                let style = if self.take_sign(",") { self.integer()? } else { 0 };
                self.sign(")")?;
                Ok(Expr::Cast(Box::new(inner), ty, style, word.len() > 7))
            }
            "EXISTS" => self.predicate(),
            "CURRENT_TIMESTAMP" => {
                self.next();
                Ok(call("GETDATE", Vec::new()))
            }
            "CURRENT_USER" | "SESSION_USER" | "SYSTEM_USER" | "USER"
                if !matches!(self.peek_at(1), Token::Sign("." | "(")) =>
            {
                self.next();
                Ok(call("SUSER_SNAME", Vec::new()))
            }
            "LEFT" | "RIGHT" if matches!(self.peek_at(1), Token::Sign("(")) => self.column_or_call(),
            upper if is_reserved(upper) => Err(self.wrong()),
            _ => self.column_or_call(),
        }
    }

    fn case(&mut self) -> Parsed<Expr> {
        self.next();
        let subject = if self.is("WHEN") { None } else { Some(Box::new(self.expr()?)) };
        let mut branches = Vec::new();
        while self.take("WHEN") {
            let condition = self.expr()?;
            self.expect("THEN")?;
            branches.push((condition, self.expr()?));
        }
        let otherwise = if self.take("ELSE") { Some(Box::new(self.expr()?)) } else { None };
        self.expect("END")?;
        if branches.is_empty() {
            return Err(self.wrong());
        }
        Ok(Expr::Case(subject, branches, otherwise))
    }

    fn column_or_call(&mut self) -> Parsed<Expr> {
        let name = self.name_parts()?;
        // A CLR type's own parser, such as `hierarchyid::Parse('/1/')`, is known for no type.
        if self.is_sign("::") {
            return Err(self.wrong());
        }
        if !self.is_sign("(") {
            return Ok(Expr::Column(name));
        }
        self.next();
        let mut extra = CallExtra::default();
        let mut arguments = Vec::new();
        if self.take_sign("*") {
            extra.star = true;
        } else if !self.is_sign(")") {
            extra.distinct = self.take("DISTINCT");
            // The first argument of these is a word.
            let bare = matches!(
                name[name.len() - 1].to_ascii_uppercase().as_str(),
                "DATEADD" | "DATEDIFF" | "DATEDIFF_BIG" | "DATEPART" | "DATENAME"
            );
            if bare {
                arguments.push(Expr::Literal(Value::text(self.identifier()?.to_ascii_lowercase()), Type::VarChar(20)));
                self.sign(",")?;
            }
            arguments.extend(self.list(Self::expr)?);
        }
        self.sign(")")?;
        if self.take("OVER") {
            self.sign("(")?;
            let mut partition = Vec::new();
            if self.take("PARTITION") {
                self.expect("BY")?;
                partition = self.list(Self::expr)?;
            }
            let order = self.order_by()?;
            self.sign(")")?;
            extra.over = Some((partition, order));
        }
        let mut parts = name;
        let object = parts.pop().unwrap_or_default();
        Ok(Expr::Call(Name { database: None, schema: parts.pop(), object }, arguments, extra))
    }

    fn name_parts(&mut self) -> Parsed<Vec<String>> {
        let mut parts = vec![self.identifier()?];
        while self.is_sign(".") && matches!(self.peek_at(1), Token::Word(_) | Token::Quoted(_) | Token::Sign(".")) {
            self.next();
            if self.is_sign(".") {
                continue;
            }
            parts.push(self.identifier()?);
        }
        Ok(parts)
    }

    pub(crate) fn with_clause(&mut self) -> Parsed<Vec<(String, Vec<String>, Query)>> {
        self.expect("WITH")?;
        self.list(|parser| {
            let name = parser.identifier()?;
            let columns = if parser.is_sign("(") { parser.in_brackets(Self::identifier)? } else { Vec::new() };
            parser.expect("AS")?;
            parser.sign("(")?;
            let query = parser.query()?;
            parser.sign(")")?;
            Ok((name, columns, query))
        })
    }

    pub(crate) fn query(&mut self) -> Parsed<Query> {
        self.deeper(|parser| {
            let with = if parser.is("WITH") { parser.with_clause()? } else { Vec::new() };
            let body = parser.body()?;
            let order = parser.order_by()?;
            let (mut offset, mut fetch) = (None, None);
            if parser.take("OFFSET") {
                offset = Some(parser.expr()?);
                let _ = parser.take("ROWS") || parser.take("ROW");
                if parser.take("FETCH") {
                    let _ = parser.take("NEXT") || parser.take("FIRST");
                    fetch = Some(parser.expr()?);
                    let _ = parser.take("ROWS") || parser.take("ROW");
                    parser.expect("ONLY")?;
                }
            }
            if parser.is("FOR") && (parser.is_at(1, "BROWSE") || parser.is_at(1, "READ")) {
                parser.next();
                parser.next();
                parser.take("ONLY");
            }
            parser.option()?;
            Ok(Query { with, body, order, offset, fetch })
        })
    }

    /// Hints for the planner, which there is none of here.
    pub(crate) fn option(&mut self) -> Parsed<()> {
        if self.is("OPTION") && matches!(self.peek_at(1), Token::Sign("(")) {
            self.next();
            self.next();
            let mut open = 1;
            while open > 0 {
                match self.next() {
                    Token::Sign("(") => open += 1,
                    Token::Sign(")") => open -= 1,
                    Token::End => return Err(self.wrong()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    pub(crate) fn order_by(&mut self) -> Parsed<Vec<(Expr, bool)>> {
        if !(self.is("ORDER") && self.is_at(1, "BY")) {
            return Ok(Vec::new());
        }
        self.next();
        self.next();
        self.list(|parser| {
            let expr = parser.expr()?;
            let descending = parser.take("DESC");
            if !descending {
                parser.take("ASC");
            }
            Ok((expr, descending))
        })
    }

    fn body(&mut self) -> Parsed<Body> {
        let mut left = self.body_part()?;
        loop {
            let operation = if self.take("UNION") {
                if self.take("ALL") { "UNION ALL" } else { "UNION" }
            } else if self.take("EXCEPT") {
                "EXCEPT"
            } else if self.take("INTERSECT") {
                "INTERSECT"
            } else {
                return Ok(left);
            };
            left = Body::Set(operation, Box::new(left), Box::new(self.body_part()?));
        }
    }

    fn body_part(&mut self) -> Parsed<Body> {
        if self.is_sign("(") {
            self.next();
            let query = self.query()?;
            self.sign(")")?;
            return Ok(Body::Nested(Box::new(query)));
        }
        if self.take("VALUES") {
            return Ok(Body::Values(self.list(|parser| parser.in_brackets(Self::expr))?));
        }
        self.expect("SELECT")?;
        let distinct = self.take("DISTINCT");
        if !distinct {
            self.take("ALL");
        }
        let top = self.top()?;
        let items = self.list(Self::item)?;
        let into = if self.take("INTO") { Some(self.name()?) } else { None };
        self.locks = false;
        let from = if self.take("FROM") { Some(self.sources()?) } else { None };
        let locks = self.locks;
        let filter = if self.take("WHERE") { Some(self.expr()?) } else { None };
        let mut group = Vec::new();
        if self.take("GROUP") {
            self.expect("BY")?;
            group = self.list(Self::expr)?;
        }
        let having = if self.take("HAVING") { Some(self.expr()?) } else { None };
        Ok(Body::Select(Box::new(Select { distinct, locks, top, items, into, from, filter, group, having })))
    }

    pub(crate) fn top(&mut self) -> Parsed<Option<Expr>> {
        if !self.take("TOP") {
            return Ok(None);
        }
        let count = if self.take_sign("(") {
            let count = self.expr()?;
            self.sign(")")?;
            count
        } else {
            literal_number(&self.integer()?.to_string())
        };
        if self.is("PERCENT") || self.is("WITH") && self.is_at(1, "TIES") {
            return Err(self.wrong());
        }
        Ok(Some(count))
    }

    pub(crate) fn item(&mut self) -> Parsed<Item> {
        if self.take_sign("*") {
            return Ok(Item::Star(None));
        }
        if let (Token::Variable(name), Token::Sign("=")) = (self.peek().clone(), self.peek_at(1)) {
            self.next();
            self.next();
            return Ok(Item::Assign(name, self.expr()?));
        }
        if let (Token::Word(alias) | Token::Quoted(alias), Token::Sign("."), Token::Sign("*")) =
            (self.peek().clone(), self.peek_at(1), self.peek_at(2))
        {
            self.next();
            self.next();
            self.next();
            return Ok(Item::Star(Some(alias)));
        }
        // The old way to name a column: name = expression.
        if let (Token::Word(alias) | Token::Quoted(alias), Token::Sign("=")) = (self.peek().clone(), self.peek_at(1)) {
            self.next();
            self.next();
            return Ok(Item::Value(self.expr()?, Some(alias)));
        }
        let expr = self.expr()?;
        if let Token::Text(alias, _) = self.peek().clone() {
            self.next();
            return Ok(Item::Value(expr, Some(alias)));
        }
        let alias = self.alias()?;
        Ok(Item::Value(expr, alias))
    }

    pub(crate) fn sources(&mut self) -> Parsed<Source> {
        let mut left = self.joined()?;
        while self.take_sign(",") {
            left = Source::Join("CROSS JOIN", Box::new(left), Box::new(self.joined()?), None);
        }
        Ok(left)
    }

    fn joined(&mut self) -> Parsed<Source> {
        let mut left = self.source()?;
        loop {
            let kind = if self.take("INNER") || self.is("JOIN") {
                "JOIN"
            } else if self.is("LEFT") || self.is("RIGHT") || self.is("FULL") {
                let kind = match self.identifier()?.to_ascii_uppercase().as_str() {
                    "LEFT" => "LEFT JOIN",
                    "RIGHT" => "RIGHT JOIN",
                    _ => "FULL JOIN",
                };
                self.take("OUTER");
                kind
            } else if self.take("CROSS") {
                if self.is("APPLY") {
                    return Err(SqlError::unknown("CROSS APPLY"));
                }
                "CROSS JOIN"
            } else {
                return Ok(left);
            };
            self.expect("JOIN")?;
            let right = self.source()?;
            let on = if kind == "CROSS JOIN" {
                None
            } else {
                self.expect("ON")?;
                Some(self.expr()?)
            };
            left = Source::Join(kind, Box::new(left), Box::new(right), on);
        }
    }

    fn source(&mut self) -> Parsed<Source> {
        self.deeper(|parser| {
            if parser.take_sign("(") {
                if parser.is("SELECT") || parser.is("VALUES") || parser.is("WITH") || parser.is_sign("(") {
                    let query = parser.query()?;
                    parser.sign(")")?;
                    let alias = parser.alias()?.ok_or_else(|| parser.wrong())?;
                    let columns =
                        if parser.is_sign("(") { parser.in_brackets(Parser::identifier)? } else { Vec::new() };
                    return Ok(Source::Derived(Box::new(query), alias, columns));
                }
                let inner = parser.sources()?;
                parser.sign(")")?;
                return Ok(inner);
            }
            if let Token::Variable(name) = parser.peek().clone() {
                parser.next();
                return Ok(Source::Variable(name, parser.alias()?));
            }
            let name = parser.name()?;
            if parser.is_sign("(") {
                parser.next();
                let arguments = if parser.is_sign(")") { Vec::new() } else { parser.list(Parser::expr)? };
                parser.sign(")")?;
                return Ok(Source::Function(name, arguments, parser.alias()?));
            }
            let alias = parser.alias()?;
            parser.hints()?;
            let alias = if alias.is_none() { parser.alias()? } else { alias };
            Ok(Source::Table(name, alias))
        })
    }

    /// Lock hints: one that others would wait for takes SQLite's write lock, the others are superfluous.
    pub(crate) fn hints(&mut self) -> Parsed<()> {
        if self.is("WITH") && matches!(self.peek_at(1), Token::Sign("(")) {
            self.next();
            let mut words = Vec::new();
            self.in_brackets(|parser| {
                words.push(parser.identifier()?.to_ascii_uppercase());
                if parser.is_sign("(") {
                    parser.in_brackets(Parser::next_any)?;
                }
                // Hints may also stand without commas.
                while let Token::Word(word) = parser.peek() {
                    words.push(word.to_ascii_uppercase());
                    parser.next();
                }
                Ok(())
            })?;
            let has = |word: &str| words.iter().any(|have| have == word);
            self.locks |= has("TABLOCKX") || has("XLOCK") || has("UPDLOCK") || has("TABLOCK") && has("HOLDLOCK");
        }
        Ok(())
    }

    fn next_any(&mut self) -> Parsed<()> {
        self.next();
        Ok(())
    }
}

pub(crate) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let name = Name { database: None, schema: None, object: name.to_owned() };
    Expr::Call(name, arguments, CallExtra::default())
}

pub(crate) fn literal_text(text: String, unicode: bool) -> Expr {
    let size = if unicode { text.encode_utf16().count() } else { text.len() }.max(1);
    let longest = if unicode { 4000 } else { 8000 };
    let size = if size > longest { crate::types::MAX } else { size as u16 };
    let ty = if unicode { Type::NVarChar(size) } else { Type::VarChar(size) };
    Expr::Literal(Value::text(text), ty)
}

fn literal_number(digits: &str) -> Expr {
    if digits.contains(['e', 'E']) {
        return Expr::Literal(Value::Float(digits.parse().unwrap_or(0.0)), Type::Float);
    }
    if !digits.contains('.')
        && let Ok(number) = digits.parse::<i64>()
        && i32::try_from(number).is_ok()
    {
        return Expr::Literal(Value::Integer(number), Type::Int);
    }
    let text = digits.trim_end_matches('.');
    let (sign, bare) = match text.strip_prefix('-') {
        Some(bare) => ("-", bare),
        None => ("", text),
    };
    let (whole, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    let whole = whole.trim_start_matches('0');
    let precision = (whole.len() + fraction.len()).clamp(1, 38) as u8;
    let scale = fraction.len().min(usize::from(precision)) as u8;
    let whole = if whole.is_empty() { "0" } else { whole };
    let text = if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
    Expr::Literal(Value::text(text), Type::Decimal { precision, scale, numeric: true })
}
