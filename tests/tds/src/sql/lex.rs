//! Text to tokens: names, quoted names, variables, strings, numbers, binary constants, signs. Comments go.

use crate::errors::SqlError;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A bare word; keywords are words too.
    Word(String),
    /// A name in brackets or double quotes.
    Quoted(String),
    /// A variable with its signs, such as `@p1` or `@@ROWCOUNT`.
    Variable(String),
    /// A string, and whether it is Unicode.
    Text(String, bool),
    Number(String),
    Bytes(Vec<u8>),
    Sign(&'static str),
    End,
}

#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    /// Where it starts in the text, in bytes.
    pub(crate) at: usize,
    pub(crate) line: u32,
}

const SIGNS: [&str; 32] = [
    "<>", "<=", ">=", "!=", "!<", "!>", "+=", "-=", "*=", "/=", "::", "{", "}", "(", ")", ",", ";", ".", "=", "<", ">",
    "+", "-", "*", "/", "%", "&", "|", "^", "~", ":", "?",
];

pub(crate) fn tokens(text: &str) -> Result<Vec<Placed>, SqlError> {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        let rest = &text[at..];
        let first = rest.chars().next().expect("not at the end");
        if first.is_whitespace() || first == '\0' || first == '\u{feff}' {
            line += u32::from(first == '\n');
            at += first.len_utf8();
            continue;
        }
        if rest.starts_with("--") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if rest.starts_with("/*") {
            let length = comment(rest)?;
            line += rest[..length].matches('\n').count() as u32;
            at += length;
            continue;
        }
        let (token, length) = one(rest, first)?;
        line += rest[..length].matches('\n').count() as u32;
        at += length;
        out.push(Placed { token, at: start, line });
    }
    out.push(Placed { token: Token::End, at: text.len(), line });
    Ok(out)
}

fn one(rest: &str, first: char) -> Result<(Token, usize), SqlError> {
    let bytes = rest.as_bytes();
    if (first == 'N' || first == 'n') && bytes.get(1) == Some(&b'\'') {
        let (text, length) = delimited(&rest[1..], '\'')?;
        return Ok((Token::Text(text, true), length + 1));
    }
    match first {
        '\'' => {
            let (text, length) = delimited(rest, '\'')?;
            Ok((Token::Text(text, false), length))
        }
        '[' => {
            let (text, length) = delimited(rest, ']')?;
            Ok((Token::Quoted(text), length))
        }
        '"' => {
            let (text, length) = delimited(rest, '"')?;
            Ok((Token::Quoted(text), length))
        }
        '0' if matches!(bytes.get(1), Some(b'x' | b'X')) => {
            let count = bytes[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let digits = &rest[2..2 + count];
            let digits = if count % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
            let value = (0..digits.len() / 2)
                .map(|index| u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).expect("two digits"))
                .collect();
            Ok((Token::Bytes(value), 2 + count))
        }
        '0'..='9' => Ok(number(rest)),
        '.' if bytes.get(1).is_some_and(u8::is_ascii_digit) => Ok(number(rest)),
        '$' if bytes.get(1).is_some_and(u8::is_ascii_digit) => {
            let (token, length) = number(&rest[1..]);
            Ok((token, length + 1))
        }
        '@' => {
            let length = word_length(&rest[1..]) + 1;
            Ok((Token::Variable(rest[..length].to_ascii_lowercase()), length))
        }
        _ if first.is_alphabetic() || first == '_' || first == '#' || first == '$' => {
            let length = word_length(rest);
            Ok((Token::Word(rest[..length].to_owned()), length))
        }
        _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => Ok((Token::Sign(sign), sign.len())),
            None => Err(SqlError::syntax(&first.to_string())),
        },
    }
}

fn word_length(rest: &str) -> usize {
    rest.find(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '#' | '$' | '@')))
        .unwrap_or(rest.len())
}

/// The content between delimiters, where a doubled closing one stands for itself.
fn delimited(rest: &str, close: char) -> Result<(String, usize), SqlError> {
    let mut out = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == close {
            match characters.peek() {
                Some((_, next)) if *next == close => {
                    characters.next();
                }
                _ => return Ok((out, at + close.len_utf8())),
            }
        }
        out.push(character);
    }
    Err(SqlError::new(105, "Unclosed quotation mark after the character string."))
}

/// Digits, a point, an exponent.
fn number(rest: &str) -> (Token, usize) {
    let bytes = rest.as_bytes();
    let mut at = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        at += bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let digits = bytes[at + 1 + sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 {
            at += 1 + sign + digits;
        }
    }
    (Token::Number(rest[..at].to_owned()), at)
}

/// The length of a comment, which may hold others.
fn comment(rest: &str) -> Result<usize, SqlError> {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'/', b'*') => {
                depth += 1;
                at += 2;
            }
            (b'*', b'/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Ok(at);
                }
            }
            _ => at += 1,
        }
    }
    Err(SqlError::new(113, "Missing end comment mark '*/'."))
}
