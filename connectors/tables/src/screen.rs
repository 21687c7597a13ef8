//! What screening by queries has in common: a rule of the target with the query that finds the staged rows that break it,
//! and the order in which rules are gone through. It knows no engine's SQL.

use dmg_connector::{Error, Refused, Result, Rule};

/// Name of the staging table's column that says which rule refuses a row.
pub(crate) const REFUSED_COLUMN: &str = "__dmg_refused";
/// Rules are gone through again as long as a row that was refused was needed by another one; so deep at most.
const ROUNDS_MAX: u32 = 100;

/// A rule, and the query that yields the numbers of the rows that break it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    rule: Rule,
    pub(crate) query: String,
    /// Whether other rows being refused may make this one refused as well.
    again: bool,
}

impl Held {
    /// A key by which rows are replaced has to be there.
    pub(crate) fn missing_key(key: &str, query: String) -> Self {
        let reason = "The key by which rows are replaced is NULL.".to_owned();
        Self::value(vec![key.to_owned()], reason, query, false)
    }

    pub(crate) fn check(name: &str, columns: Vec<String>, query: String) -> Self {
        Self::value(columns, format!("The row breaks the check \"{name}\" of the target."), query, false)
    }

    /// A foreign key; whether it points to the target itself.
    pub(crate) fn foreign(name: &str, columns: Vec<String>, itself: bool, query: String) -> Self {
        Self::value(columns, format!("The foreign key \"{name}\" of the target points to no row."), query, itself)
    }

    /// A row that stays in the target has the key; whether it may come to stay by another one being refused.
    pub(crate) fn taken(key: &str, columns: &[String], again: bool, query: String) -> Self {
        Self::double(format!("The target has a row with the same {}.", list(key, columns)), columns, again, query)
    }

    /// A staged row before it has the key.
    pub(crate) fn repeated(key: &str, columns: &[String], query: String) -> Self {
        Self::double(format!("A row before it has the same {}.", list(key, columns)), columns, false, query)
    }

    fn value(columns: Vec<String>, reason: String, query: String, again: bool) -> Self {
        Held { rule: Rule { columns, code: "UserErrorValue", reason }, query, again }
    }

    fn double(reason: String, columns: &[String], again: bool, query: String) -> Self {
        Held { rule: Rule { columns: columns.to_vec(), code: "UserErrorDuplicateKey", reason }, query, again }
    }
}

/// A key for people. One without a name is the author's own.
fn list(name: &str, columns: &[String]) -> String {
    let key = if name.is_empty() { "key of the copy".to_owned() } else { format!("key \"{name}\"") };
    format!("{key} ({})", columns.join(", "))
}

/// Goes through rules in order, and through those again that other rows being refused may concern.
pub(crate) struct Rounds<'a> {
    rules: &'a [Held],
    next: usize,
    round: u32,
    refused: u64,
    refused_before: u64,
    /// Rules that the server cannot follow over these rows.
    passed: Vec<usize>,
}

impl<'a> Rounds<'a> {
    pub(crate) fn over(rules: &'a [Held]) -> Self {
        Rounds { rules, next: 0, round: 0, refused: 0, refused_before: 0, passed: Vec::new() }
    }

    /// The rule that comes now, and its mark.
    pub(crate) fn next(&mut self) -> Option<(usize, &'a Held)> {
        loop {
            let at = self.next;
            let Some(held) = self.rules.get(at) else {
                if self.refused == self.refused_before || self.round + 1 == ROUNDS_MAX {
                    return None;
                }
                (self.next, self.round, self.refused_before) = (0, self.round + 1, self.refused);
                continue;
            };
            self.next += 1;
            if !self.passed.contains(&at) && (self.round == 0 || held.again) {
                return Some((at, held));
            }
        }
    }

    /// What came of it: so many rows marked. A rule that the server itself could not follow over these rows is left to
    /// the commit, which will tell.
    pub(crate) fn told(&mut self, marked: Result<u64>, usable: bool) -> Result<()> {
        match marked {
            Ok(rows) => self.refused += rows,
            Err(error) if usable && follows_not(&error) => self.passed.push(self.next - 1),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The rules in the order of their marks; none where every row fits.
    pub(crate) fn rules(&self) -> Vec<Rule> {
        if self.refused == 0 { Vec::new() } else { self.rules.iter().map(|held| held.rule.clone()).collect() }
    }
}

/// Whether the server told something about the rule: what it computes, over some row, is an error.
fn follows_not(error: &Error) -> bool {
    error.fault.code.starts_with("UserError") || error.fault.code == "StoreErrorFailed"
}

/// Marked rows as a query gives them: the row's number, and its mark.
pub(crate) fn refused(rows: &[Vec<Option<String>>]) -> Vec<Refused> {
    let number = |value: &Option<String>| value.as_deref().and_then(|text| text.parse::<i64>().ok());
    let row = |row: &Vec<Option<String>>| {
        Some(Refused { row: number(row.first()?)?, rule: usize::try_from(number(row.get(1)?)?).ok()? })
    };
    rows.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_gone_through_until_nothing_is_refused_any_more() {
        let rules = [
            Held::foreign("f", vec!["parent".into()], true, "f".into()),
            Held::check("c", vec!["x".into()], "c".into()),
            Held::repeated("", &["id".into()], "r".into()),
        ];
        let mut rounds = Rounds::over(&rules);
        let mut seen = Vec::new();
        while let Some((mark, held)) = rounds.next() {
            seen.push(held.query.clone());
            let fault = dmg_protocol::Fault::new("UserErrorValue", "Cannot be followed.");
            let marked = if mark == 1 { Err(fault.into()) } else { Ok(u64::from(seen.len() < 4)) };
            rounds.told(marked, true).expect("only the server's own errors end it");
        }
        assert_eq!(seen, ["f", "c", "r", "f"]);
        let reasons: Vec<String> = rounds.rules().into_iter().map(|rule| rule.reason).collect();
        assert_eq!(reasons[2], "A row before it has the same key of the copy (id).");
        let broken =
            Rounds::over(&rules).told(Err(dmg_protocol::Fault::new("NetworkErrorStoreUnreachable", "x").into()), true);
        assert!(broken.is_err());
    }
}
