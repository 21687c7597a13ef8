//! Text to tree. Errors are sentences for the author of the expression.

use serde_json::{Number, Value};

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    /// A literal.
    Literal(Value),
    /// A function call.
    Call { name: String, arguments: Vec<Tree> },
    /// `base.name` and `base['name']`; `optional` for `?.` and `?[`.
    Member { base: Box<Tree>, key: Box<Tree>, optional: bool },
}

/// Deepest nesting.
const DEPTH_MAX: usize = 64;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// A text that is one expression from start to end.
pub(super) fn whole(text: &str) -> Result<Tree, String> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let tree = parser.expression()?;
    parser.blanks();
    if parser.at < text.len() {
        return Err(format!("There is something left over at character {}: \"{}\".", parser.position(), parser.rest()));
    }
    Ok(tree)
}

/// The expression behind `@{`, and how many bytes it takes with its closing brace.
pub(super) fn interpolation(text: &str) -> Result<(Tree, usize), String> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let tree = parser.expression()?;
    parser.blanks();
    if !parser.take('}') {
        return Err("A closing brace is missing.".to_owned());
    }
    Ok((tree, parser.at))
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn position(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn blanks(&mut self) {
        let trimmed = self.rest().trim_start();
        self.at = self.text.len() - trimmed.len();
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expression(&mut self) -> Result<Tree, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("It is nested deeper than {DEPTH_MAX} levels."));
        }
        self.blanks();
        let mut tree = match self.peek() {
            None => return Err("It is empty or ends too early.".to_owned()),
            Some('\'') => Tree::Literal(Value::String(self.string()?)),
            Some(c) if c.is_ascii_digit() || c == '-' || c == '+' => Tree::Literal(self.number()?),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.word()?,
            Some(c) => {
                return Err(format!("The character '{c}' at position {} does not belong there.", self.position()));
            }
        };
        loop {
            self.blanks();
            let optional = self.rest().starts_with("?.") || self.rest().starts_with("?[");
            if optional {
                self.at += 1;
            }
            let key = if self.take('.') {
                Tree::Literal(Value::String(self.name()?))
            } else if self.take('[') {
                let key = self.expression()?;
                self.blanks();
                if !self.take(']') {
                    return Err(format!("A closing bracket is missing at character {}.", self.position()));
                }
                key
            } else {
                break;
            };
            tree = Tree::Member { base: Box::new(tree), key: Box::new(key), optional };
        }
        self.depth -= 1;
        Ok(tree)
    }

    fn string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(end) = self.rest().find('\'') else { return Err("A closing quote is missing.".to_owned()) };
            text.push_str(&self.rest()[..end]);
            self.at += end + 1;
            if !self.take('\'') {
                return Ok(text);
            }
            text.push('\'');
        }
    }

    fn number(&mut self) -> Result<Value, String> {
        let length = self
            .rest()
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+')))
            .unwrap_or(self.rest().len());
        let text = self.rest()[..length].to_owned();
        self.at += length;
        if let Ok(whole) = text.parse::<i64>() {
            return Ok(Value::from(whole));
        }
        let float = text.parse::<f64>().ok().and_then(Number::from_f64);
        float.map(Value::Number).ok_or_else(|| format!("\"{text}\" is not a number."))
    }

    fn name(&mut self) -> Result<String, String> {
        self.blanks();
        let length = self
            .rest()
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '$')))
            .unwrap_or(self.rest().len());
        if length == 0 {
            return Err(format!("A name is missing at character {}.", self.position()));
        }
        let name = self.rest()[..length].to_owned();
        self.at += length;
        Ok(name)
    }

    fn word(&mut self) -> Result<Tree, String> {
        let name = self.name()?;
        self.blanks();
        if !self.take('(') {
            return match name.to_ascii_lowercase().as_str() {
                "true" => Ok(Tree::Literal(Value::Bool(true))),
                "false" => Ok(Tree::Literal(Value::Bool(false))),
                "null" => Ok(Tree::Literal(Value::Null)),
                _ => Err(format!("\"{name}\" is neither a function call nor a literal; texts stand in single quotes.")),
            };
        }
        let mut arguments = Vec::new();
        self.blanks();
        if self.take(')') {
            return Ok(Tree::Call { name, arguments });
        }
        loop {
            arguments.push(self.expression()?);
            self.blanks();
            if self.take(',') {
                continue;
            }
            if self.take(')') {
                return Ok(Tree::Call { name, arguments });
            }
            return Err(format!("A comma or a closing parenthesis is missing at character {}.", self.position()));
        }
    }
}
