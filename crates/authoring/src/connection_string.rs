//! Connection strings: `name=value;name="va;lue"`. Parsed and written back part by part, so that what is not touched
//! stays byte for byte.

/// One part as it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Name, trimmed.
    pub(crate) name: String,
    /// Value without its quotes.
    pub(crate) value: String,
    /// The part as written, without the semicolon.
    raw: String,
}

impl Part {
    /// The name without case, blanks and underscores.
    pub(crate) fn plain_name(&self) -> String {
        plain(&self.name)
    }
}

/// A name without case, blanks and underscores.
pub(crate) fn plain(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace() && *c != '_').flat_map(char::to_lowercase).collect()
}

/// Splits at semicolons outside quotes.
pub(crate) fn parse(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = part_end(rest);
        let raw = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        if raw.trim().is_empty() {
            continue;
        }
        let (name, value) = raw.split_once('=').unwrap_or((raw, ""));
        parts.push(Part { name: name.trim().to_owned(), value: unquote(value.trim()), raw: raw.to_owned() });
    }
    parts
}

/// Where the first part ends: the first semicolon that is not inside a quoted value.
fn part_end(text: &str) -> usize {
    let Some(equals) = text.find('=') else { return text.find(';').unwrap_or(text.len()) };
    if let Some(semicolon) = text.find(';')
        && semicolon < equals
    {
        return semicolon;
    }
    let value = &text[equals + 1..];
    let lead = value.len() - value.trim_start().len();
    let Some(quote) = value.trim_start().chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return text.find(';').unwrap_or(text.len());
    };
    let start = equals + 1 + lead + 1;
    let mut at = start;
    while let Some(found) = text[at..].find(quote) {
        at += found + 1;
        if text[at..].starts_with(quote) {
            at += 1;
            continue;
        }
        return text[at..].find(';').map_or(text.len(), |end| at + end);
    }
    // The quote is never closed: the value starts with a plain quote character.
    text.find(';').unwrap_or(text.len())
}

fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        if value.len() >= 2 && value.starts_with(quote) && value.ends_with(quote) {
            let inner = &value[1..value.len() - 1];
            return inner.replace(&format!("{quote}{quote}"), &quote.to_string());
        }
    }
    value.to_owned()
}

/// The text again; `change` may replace the value of a part (`Some(Some(text))`) or drop the part (`Some(None)`).
pub(crate) fn rewrite(text: &str, mut change: impl FnMut(&Part) -> Option<Option<String>>) -> String {
    let mut written = Vec::new();
    let mut changed = false;
    for part in parse(text) {
        match change(&part) {
            None => written.push(part.raw.clone()),
            Some(None) => changed = true,
            Some(Some(value)) => {
                changed = true;
                written.push(format!("{}={value}", part.name));
            }
        }
    }
    if changed { written.join(";") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        for (text, expected) in [
            ("a=1;b=2", vec![("a", "1"), ("b", "2")]),
            (" Data Source = db1 ;; x", vec![("Data Source", "db1"), ("x", "")]),
            ("pwd=\"a;b\"\"c\";d=e", vec![("pwd", "a;b\"c"), ("d", "e")]),
            ("pwd='x;y';d=", vec![("pwd", "x;y"), ("d", "")]),
            ("key=abc==;e=f", vec![("key", "abc=="), ("e", "f")]),
            ("pwd=\"open;d=e", vec![("pwd", "\"open"), ("d", "e")]),
            ("pwd=a\"b;d=e", vec![("pwd", "a\"b"), ("d", "e")]),
        ] {
            let parsed = parse(text);
            let found: Vec<_> = parsed.iter().map(|part| (part.name.as_str(), part.value.as_str())).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_touched_stays() {
        let text = "Host = a ; Password=x;  Port=1;";
        assert_eq!(rewrite(text, |_| None), text);
        let masked = rewrite(text, |part| (part.plain_name() == "password").then(|| Some("***".to_owned())));
        assert_eq!(masked, "Host = a ;Password=***;  Port=1");
        let dropped = rewrite(text, |part| (part.plain_name() == "password").then_some(None));
        assert_eq!(dropped, "Host = a ;  Port=1");
    }
}
