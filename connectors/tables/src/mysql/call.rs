//! Calls stored procedures: parameters by name, output values through variables of the session. A call that is
//! dropped or takes too long is ended at the server by a second session, opened before.

use std::collections::BTreeMap;
use std::time::Duration;

use dmg_connector::{Error, Result};
use dmg_protocol::Fault;
use dmg_protocol::job::{ProcedureCall, ProcedureOutcome, ProcedureParameter};

use super::client::{Client, literal, quoted};
use super::connect::{Purpose, connect};
use super::errors;
use super::settings::Server;

/// The number of an error that a procedure signals without naming one.
const SIGNALLED: u16 = 1644;
/// Messages an outcome holds.
const MESSAGES_MAX: usize = 50;

/// A procedure's name.
pub(super) struct Name {
    schema: String,
    name: String,
}

impl Name {
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// Reads `name`, `schema.name`, also in backticks.
pub(super) fn name(server: &Server, text: &str) -> Name {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut inside = false;
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '`' if inside && chars.peek() == Some(&'`') => {
                chars.next();
                part.push('`');
            }
            '`' => inside = !inside,
            '.' if !inside => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    let schema = parts.pop().filter(|schema| !schema.is_empty()).unwrap_or_else(|| server.database.clone());
    Name { schema, name: part }
}

/// One parameter of a procedure as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: String,
    /// Whether it takes a value.
    input: bool,
    /// Whether it gives one.
    output: bool,
}

/// Parameters of a procedure in order; an error if there is none of that name.
pub(super) async fn parameters(client: &mut Client, server: &Server, text: &str) -> Result<Vec<Parameter>> {
    let Name { schema, name } = name(server, text);
    let (schema, name) = (literal(&schema), literal(&name));
    let exists = format!(
        "SELECT COUNT(*) FROM information_schema.ROUTINES \
         WHERE ROUTINE_TYPE = 'PROCEDURE' AND ROUTINE_SCHEMA = {schema} AND ROUTINE_NAME = {name}"
    );
    if client.query(&exists).await?.single().as_deref() != Some("1") {
        let message = format!("{} has no stored procedure \"{text}\" that this user can see.", client.wire.place);
        let remedy = "Check database and name of the procedure, or grant EXECUTE on it.";
        return Err(Fault::new("UserErrorProcedureMissing", message).remedy(remedy).into());
    }
    let sql = format!(
        "SELECT PARAMETER_NAME, PARAMETER_MODE FROM information_schema.PARAMETERS \
         WHERE SPECIFIC_SCHEMA = {schema} AND SPECIFIC_NAME = {name} AND ROUTINE_TYPE = 'PROCEDURE' \
         AND ORDINAL_POSITION > 0 ORDER BY ORDINAL_POSITION"
    );
    let rows = client.query(&sql).await?.rows.into_iter().map(|row| {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let (name, mode) = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
        Parameter { name, input: mode != "OUT", output: mode != "IN" }
    });
    Ok(rows.collect())
}

/// Ends the call at the server if it is still running when this goes.
struct Cancel {
    client: Client,
    victim: u32,
    armed: bool,
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if self.armed {
            self.client.fire(&format!("KILL {}", self.victim));
        }
    }
}

/// Calls a procedure.
pub(super) async fn call(server: &Server, call: &ProcedureCall) -> Result<ProcedureOutcome> {
    let mut client = connect(server, Purpose::Write).await?;
    let parameters = parameters(&mut client, server, &call.name).await?;
    if let Some(unknown) = call
        .parameters
        .iter()
        .find(|given| !parameters.iter().any(|known| known.name.eq_ignore_ascii_case(&given.name)))
    {
        let message = format!("Procedure {} has no parameter \"{}\".", call.name, unknown.name);
        let remedy = "Check the names of the parameters.";
        let fault = Fault::new("UserErrorProcedureMissing", message).remedy(remedy).with("parameter", &unknown.name);
        return Err(fault.into());
    }
    let mut arguments = Vec::new();
    for (index, parameter) in parameters.iter().enumerate() {
        let given = call.parameters.iter().find(|given| given.name.eq_ignore_ascii_case(&parameter.name));
        let value = match given {
            Some(given) => argument(given),
            None if parameter.input && !parameter.output => {
                let message = format!("Parameter \"{}\" of procedure {} gets no value.", parameter.name, call.name);
                let remedy = "Give every parameter of the procedure a value; the server knows no defaults.";
                return Err(Fault::new("UserErrorProcedureMissing", message).remedy(remedy).into());
            }
            None => "NULL".to_owned(),
        };
        if parameter.output {
            client.batch(&format!("SET @dmg_{index} = {value}")).await?;
            arguments.push(format!("@dmg_{index}"));
        } else {
            arguments.push(value);
        }
    }
    let killer = connect(server, Purpose::Read).await?;
    let mut cancel = Cancel { client: killer, victim: client.id, armed: true };
    let statement = format!("CALL {}({})", name(server, &call.name).quoted(), arguments.join(", "));
    let limit = Duration::from_secs(call.timeout_seconds.unwrap_or(u64::MAX >> 24));
    let done = tokio::select! {
        biased;
        done = client.batch(&statement) => done,
        () = server.session.ambient.sleep(limit) => return Err(call.too_long().into()),
    };
    cancel.armed = false;
    let done = done.map_err(|error| raised(&client, error))?;
    let mut outcome = ProcedureOutcome { rows_affected: Some(done.affected), ..ProcedureOutcome::default() };
    if done.warnings > 0 {
        let warnings = client.query(&format!("SHOW WARNINGS LIMIT {MESSAGES_MAX}")).await?.rows;
        outcome.messages = warnings.into_iter().filter_map(|row| row.into_iter().nth(2).flatten()).collect();
    }
    outcome.outputs = outputs(&mut client, &parameters).await?;
    Ok(outcome)
}

/// What the procedure itself signalled is meant for whoever called it.
fn raised(client: &Client, error: Error) -> Error {
    match client.refused.as_ref().filter(|refused| refused.number == SIGNALLED) {
        Some(refused) => Error { fault: Box::new(errors::raised(refused)), ..error },
        None => error,
    }
}

/// A value as the server takes it: it converts texts by itself, except the words for a truth value.
fn argument(given: &ProcedureParameter) -> String {
    let Some(value) = given.value.as_deref() else { return "NULL".to_owned() };
    let is_truth = given.type_name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("Boolean"));
    match value.to_ascii_lowercase().as_str() {
        "true" if is_truth => "1".to_owned(),
        "false" if is_truth => "0".to_owned(),
        _ => literal(value),
    }
}

async fn outputs(client: &mut Client, parameters: &[Parameter]) -> Result<BTreeMap<String, Option<String>>> {
    let output = || parameters.iter().enumerate().filter(|(_, parameter)| parameter.output);
    let variables: Vec<String> = output().map(|(index, _)| format!("CAST(@dmg_{index} AS CHAR)")).collect();
    if variables.is_empty() {
        return Ok(BTreeMap::new());
    }
    let row = client.query(&format!("SELECT {}", variables.join(", "))).await?.rows.into_iter().next();
    let names = output().map(|(_, parameter)| parameter.name.clone());
    Ok(names.zip(row.unwrap_or_default()).collect())
}
