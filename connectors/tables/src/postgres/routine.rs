//! Stored procedures and functions: finding the one that was meant among its namesakes, and calling it. A call happens
//! at least once; whether twice does harm is the routine's own business.

use dmg_connector::{Column, Error, Result};
use dmg_protocol::Fault;
use dmg_protocol::job::{ProcedureCall, ProcedureOutcome, ProcedureParameter};

use super::catalog::quoted;
use super::client::{Answer, Client};
use super::errors::{self, ServerError};
use super::shape::literal;
use super::types::reading;

/// Rows looked at of what a call gives back.
const ROWS_MAX: usize = 2;
/// Most bytes kept of one remark or output value.
const TEXT_BYTES_MAX: usize = 10_000;

/// A procedure or function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Routine {
    schema: String,
    name: String,
    /// Called, not selected from.
    procedure: bool,
    inputs: Vec<Input>,
    /// Names and types of what a procedure gives back only.
    outputs: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Input {
    name: String,
    type_oid: u32,
    type_name: String,
    /// Whether it may be left out.
    optional: bool,
    /// Whether it comes back as well.
    output: bool,
}

impl Routine {
    fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    fn input(&self, name: &str) -> Option<&Input> {
        let exact = self.inputs.iter().find(|input| input.name == name);
        exact.or_else(|| self.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(name)))
    }

    /// Whether it can be called with exactly those.
    fn takes(&self, names: &[&str]) -> bool {
        let known = names.iter().all(|name| self.input(name).is_some());
        let given = |input: &Input| names.iter().any(|name| self.input(name) == Some(input));
        known && self.inputs.iter().all(|input| input.optional || given(input))
    }

    /// The parameters that are not among those, as columns.
    pub(super) fn columns(&self, fixed: &[ProcedureParameter]) -> Vec<Column> {
        let fixed: Vec<&Input> = fixed.iter().filter_map(|parameter| self.input(&parameter.name)).collect();
        let free = self.inputs.iter().filter(|input| !fixed.contains(input));
        free.map(|input| Column {
            name: input.name.clone(),
            kind: reading(input.type_oid, -1).kind,
            type_name: input.type_name.clone(),
            nullable: true,
            key: false,
        })
        .collect()
    }

    /// The statement that calls it for every row of a table, whose columns have the names of parameters.
    pub(super) fn for_each_row(&self, table: &str, columns: &[&str], fixed: &[ProcedureParameter]) -> Result<String> {
        let mut names: Vec<&str> = columns.to_vec();
        names.extend(fixed.iter().map(|parameter| parameter.name.as_str()));
        if !self.takes(&names) {
            return Err(self.unfit(&names));
        }
        let mut declared = Vec::new();
        let mut given = Vec::new();
        for input in &self.inputs {
            let parameter = fixed.iter().find(|parameter| self.input(&parameter.name) == Some(input));
            let value = match parameter {
                Some(ProcedureParameter { value: Some(value), .. }) => {
                    format!("CAST({} AS {})", literal(value), input.type_name)
                }
                Some(_) => format!("CAST(NULL AS {})", input.type_name),
                None if columns.contains(&input.name.as_str()) => format!("dmg_row.{}", quoted(&input.name)),
                None => continue,
            };
            if input.output && self.procedure {
                // What comes back needs somewhere to go.
                let variable = format!("dmg_{}", declared.len());
                declared.push((variable.clone(), input.type_name.clone(), value));
                given.push(format!("{} => {variable}", quoted(&input.name)));
            } else {
                given.push(format!("{} => {value}", quoted(&input.name)));
            }
        }
        for (name, type_name) in &self.outputs {
            let variable = format!("dmg_{}", declared.len());
            declared.push((variable.clone(), type_name.clone(), "NULL".to_owned()));
            given.push(format!("{} => {variable}", quoted(name)));
        }
        let verb = if self.procedure { "CALL" } else { "PERFORM" };
        let variables: String = declared.iter().map(|(name, type_name, _)| format!("{name} {type_name}; ")).collect();
        let set: String = declared.iter().map(|(name, _, value)| format!("{name} := {value}; ")).collect();
        let list: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
        let body = format!(
            "DECLARE dmg_row record; {variables}BEGIN FOR dmg_row IN SELECT {} FROM {table} LOOP \
             {set}{verb} {}({}); END LOOP; END",
            list.join(", "),
            self.quoted(),
            given.join(", ")
        );
        Ok(format!("DO {}", literal(&body)))
    }

    fn unfit(&self, names: &[&str]) -> Error {
        let known: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
        let what = match names.iter().find(|name| self.input(name).is_none()) {
            Some(name) => format!("has no parameter \"{name}\""),
            None => {
                let missing = |input: &&Input| !input.optional && !names.iter().any(|n| self.input(n) == Some(input));
                let missing = self.inputs.iter().find(missing).map_or("", |input| input.name.as_str());
                format!("needs its parameter \"{missing}\"")
            }
        };
        let message = format!("{}.{} {what}. It takes: {}.", self.schema, self.name, known.join(", "));
        Fault::new("UserErrorSettings", message).remedy("Correct the names of the parameters.").into()
    }
}

/// Schema and name out of what an author wrote: `etl.load`, `"Etl"."Load"`, `[etl].[load]`.
fn parse_name(text: &str) -> Option<(Option<String>, String)> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let close = match rest.chars().next()? {
            '"' => Some('"'),
            '[' => Some(']'),
            _ => None,
        };
        let (part, after) = match close {
            Some(close) => {
                let end = rest[1..].find(close)? + 1;
                (rest[1..end].to_owned(), &rest[end + 1..])
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            }
        };
        parts.push(part);
        match after.trim_start().strip_prefix('.') {
            Some(next) => rest = next,
            None if after.trim().is_empty() => break,
            None => return None,
        }
    }
    let name = parts.pop().filter(|name| !name.is_empty())?;
    match parts.as_slice() {
        [] => Some((None, name)),
        [schema] => Some((Some(schema.clone()), name)),
        _ => None,
    }
}

const ROUTINES: &str = "SELECT p.oid, n.nspname, p.proname, p.prokind, p.pronargdefaults, a.type, \
     format_type(a.type, NULL), coalesce(p.proargnames[a.number], ''), coalesce(p.proargmodes[a.number]::text, 'i') \
     FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
     LEFT JOIN LATERAL unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY a (type, number) ON true \
     WHERE p.prokind IN ('p', 'f') AND p.proname IN ($2::text, lower($2::text)) \
     AND CASE WHEN $1::text IS NULL THEN pg_function_is_visible(p.oid) ELSE n.nspname IN ($1::text, lower($1::text)) END \
     ORDER BY p.proname <> $2::text, p.oid, a.number";

/// The routine of that name which takes exactly those parameters; without names, the only one.
pub(super) async fn find(client: &mut Client, name: &str, parameters: Option<&[&str]>) -> Result<Routine> {
    let mut routines = match parse_name(name) {
        Some((schema, plain)) => gather(client.query(ROUTINES, &[schema.as_deref(), Some(&plain)]).await?.rows),
        None => Vec::new(),
    };
    if routines.is_empty() {
        let place = client.wire.place.clone();
        let message = format!("{place} has no procedure or function {name} that this role can see.");
        return Err(Fault::new("UserErrorProcedureMissing", message).with("procedure", name).into());
    }
    let Some(parameters) = parameters else {
        if routines.len() > 1 {
            let message = format!("There are {} routines named {name}.", routines.len());
            let remedy = "Name the schema too, or give the routine a name of its own.";
            return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
        }
        return Ok(routines.remove(0));
    };
    match routines.iter().position(|routine| routine.takes(parameters)) {
        Some(index) => Ok(routines.swap_remove(index)),
        None => Err(routines[0].unfit(parameters)),
    }
}

fn gather(rows: Vec<Vec<Option<String>>>) -> Vec<Routine> {
    let mut routines: Vec<(String, u32, Routine)> = Vec::new();
    for row in rows {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || values.next().unwrap_or_default();
        let (oid, schema, name, kind) = (next(), next(), next(), next());
        let defaults: u32 = next().parse().unwrap_or(0);
        let (type_oid, type_name, argument, mode) = (next(), next(), next(), next());
        if routines.last().is_none_or(|(last, ..)| *last != oid) {
            let procedure = kind == "p";
            let routine = Routine { schema, name, procedure, inputs: Vec::new(), outputs: Vec::new() };
            routines.push((oid, defaults, routine));
        }
        let Some((_, _, routine)) = routines.last_mut() else { continue };
        let Ok(type_oid) = type_oid.parse() else { continue };
        match mode.as_str() {
            "i" | "b" | "v" => {
                routine.inputs.push(Input { name: argument, type_oid, type_name, optional: false, output: mode == "b" })
            }
            "o" if routine.procedure => routine.outputs.push((argument, type_name)),
            _ => {}
        }
    }
    for (_, defaults, routine) in &mut routines {
        let required = routine.inputs.len().saturating_sub(*defaults as usize);
        routine.inputs.iter_mut().skip(required).for_each(|input| input.optional = true);
    }
    routines.into_iter().map(|(_, _, routine)| routine).collect()
}

/// Calls it, outside of a transaction of ours, so that it may have its own.
pub(super) async fn call(client: &mut Client, call: &ProcedureCall) -> Result<ProcedureOutcome> {
    let names: Vec<&str> = call.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let routine = find(client, &call.name, Some(&names)).await?;
    let mut given: Vec<String> = Vec::new();
    for (index, parameter) in call.parameters.iter().enumerate() {
        if let Some(input) = routine.input(&parameter.name) {
            // By its own type name the server reads the text as it reads any text of that type.
            given.push(format!("{} => ${}::{}", quoted(&input.name), index + 1, input.type_name));
        }
    }
    given.extend(routine.outputs.iter().map(|(name, type_name)| format!("{} => NULL::{type_name}", quoted(name))));
    let verb = if routine.procedure { "CALL" } else { "SELECT * FROM" };
    let statement = format!("{verb} {}({})", routine.quoted(), given.join(", "));
    let milliseconds = call.timeout_seconds.unwrap_or(0).saturating_mul(1000).min(i32::MAX as u64);
    client.batch(&format!("SET client_min_messages = 'notice'; SET statement_timeout = {milliseconds}")).await?;
    let values: Vec<Option<&str>> = call.parameters.iter().map(|parameter| parameter.value.as_deref()).collect();
    match client.call(&statement, &values, ROWS_MAX).await {
        Ok(answer) => Ok(outcome(&routine, answer)),
        Err(error) => Err(explained(call, error, client.refused.take())),
    }
}

fn outcome(routine: &Routine, answer: Answer) -> ProcedureOutcome {
    let mut outcome = ProcedureOutcome {
        messages: answer.remarks.into_iter().map(shortened).collect(),
        ..ProcedureOutcome::default()
    };
    let mut rows = answer.rows.into_iter();
    // A result set is not a set of output values.
    if let (Some(row), None) = (rows.next(), rows.next()) {
        let scalar = !routine.procedure && row.len() == 1 && answer.columns.first() == Some(&routine.name);
        if scalar {
            outcome.return_status = row.first().and_then(|value| value.as_deref()?.parse().ok());
        }
        let nothing = scalar && row.iter().all(|value| value.as_deref() == Some(""));
        if !nothing {
            outcome.outputs = answer.columns.into_iter().zip(row.into_iter().map(|v| v.map(shortened))).collect();
        }
    }
    outcome
}

fn shortened(mut text: String) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn explained(call: &ProcedureCall, error: Error, refused: Option<ServerError>) -> Error {
    let state = error.fault.context.get("sqlState").map(String::as_str);
    let fault = match state {
        Some("57014") if call.timeout_seconds.is_some() => call.too_long(),
        Some(state) if refused.as_ref().is_some_and(|refused| refused.code == state && refused.is_raised()) => {
            errors::raised(&refused.unwrap_or_default())
        }
        Some("2D000") => {
            let message = format!("{} ends a transaction where none of its own can be.", call.name);
            Fault::new("UserErrorSettings", message).remedy("Take COMMIT and ROLLBACK out of the function.")
        }
        _ => return error,
    };
    Error { fault: Box::new(fault), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_authors_write_them() {
        let name = |schema: Option<&str>, name: &str| Some((schema.map(str::to_owned), name.to_owned()));
        for (text, expected) in [
            ("load", name(None, "load")),
            ("etl.load", name(Some("etl"), "load")),
            ("[dbo].[usp merge]", name(Some("dbo"), "usp merge")),
            ("\"A.b\".c", name(Some("A.b"), "c")),
            (" etl . load ", name(Some("etl"), "load")),
            ("", None),
            ("a.b.c", None),
            ("[a", None),
            ("\"a\" b", None),
            ("a.", None),
        ] {
            assert_eq!(parse_name(text), expected, "{text}");
        }
    }

    fn routine(procedure: bool) -> Routine {
        let input = |name: &str, type_oid, type_name: &str, optional| Input {
            name: name.into(),
            type_oid,
            type_name: type_name.into(),
            optional,
            output: false,
        };
        Routine {
            schema: "etl".into(),
            name: "it's".into(),
            procedure,
            inputs: vec![input("id", 20, "bigint", false), input("Note", 25, "text", true)],
            outputs: vec![("done".into(), "integer".into())],
        }
    }

    #[test]
    fn parameters_by_name() {
        let routine = routine(true);
        for (names, takes) in
            [(&["id"][..], true), (&["ID", "note"], true), (&["Note"], false), (&["id", "other"], false), (&[], false)]
        {
            assert_eq!(routine.takes(names), takes, "{names:?}");
        }
    }

    #[test]
    fn one_call_for_each_row() {
        let fixed = [ProcedureParameter { name: "note".into(), type_name: None, value: Some("it's; --".into()) }];
        let statement = routine(true).for_each_row("t", &["id"], &fixed).expect("fits");
        assert_eq!(
            statement,
            "DO 'DECLARE dmg_row record; dmg_0 integer; BEGIN FOR dmg_row IN SELECT \"id\" FROM t LOOP \
             dmg_0 := NULL; CALL \"etl\".\"it''s\"(\"id\" => dmg_row.\"id\", \"Note\" => CAST(''it''''s; --'' AS text), \
             \"done\" => dmg_0); END LOOP; END'"
        );
        assert!(routine(false).for_each_row("t", &["other"], &[]).is_err());
    }
}
