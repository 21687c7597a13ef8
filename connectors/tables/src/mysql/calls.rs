//! Mode procedure: each staged row is handed to a procedure of the author's. MariaDB does so by itself, so that what was
//! proven is not sent again. Older servers and MySQL know no statement that loops; there the rows are read and sent back as
//! calls, over an encrypted connection only, which would notice a turned bit.

use dmg_connector::{Error, Result};
use dmg_protocol::Fault;
use dmg_protocol::job::WriteProcedure;

use super::call::{self, Parameter};
use super::catalog;
use super::client::{Client, Version, literal, quoted};
use super::connect::{Purpose, connect};
use super::errors;
use super::types::{ColumnType, spatial};
use super::wire::{PACKET_BYTES_MAX, Walk};
use super::write::MySqlSink;

/// Calls sent to the server at once, and bytes of them.
const CALLS: usize = 500;
const CALL_BYTES: usize = 256 * 1024;

/// What a parameter of the procedure gets.
enum Argument {
    /// A value of the author's, as a literal.
    Fixed(String),
    /// The column of that name.
    Column(String),
}

/// Refuses what could not be done without sending proven rows again unguarded.
pub(super) fn check(client: &Client) -> Result<()> {
    if loops(&client.version) || client.encrypted {
        return Ok(());
    }
    let message = format!(
        "{} cannot hand staged rows to a procedure by itself, and over an unencrypted connection nobody would notice \
         a bit turned on the way.",
        client.wire.place
    );
    let remedy = "Set sslMode to require, or use MariaDB 10.3 or later.";
    Err(Fault::new("UserErrorSettings", message).remedy(remedy).into())
}

/// Whether the server runs a loop that is no part of a procedure.
fn loops(version: &Version) -> bool {
    version.mariadb && version.number >= (10, 3, 0)
}

/// Calls the procedure for each staged row; gives how often that was.
pub(super) async fn calls(sink: &MySqlSink, client: &mut Client) -> Result<u64> {
    let Some(procedure) = &sink.request.procedure else { return Ok(0) };
    check(client)?;
    let arguments = arguments(sink, client, procedure).await?;
    let name = call::name(&sink.server, &procedure.name).quoted();
    if loops(&client.version) {
        at_the_server(sink, client, &name, &arguments).await
    } else {
        over_the_wire(sink, client, &name, &arguments).await
    }
}

async fn arguments(sink: &MySqlSink, client: &mut Client, procedure: &WriteProcedure) -> Result<Vec<Argument>> {
    let parameters = call::parameters(client, &sink.server, &procedure.name).await?;
    let known = |name: &str| parameters.iter().any(|parameter| parameter.name.eq_ignore_ascii_case(name));
    if let Some(plan) = sink.planned.iter().find(|plan| !known(&plan.sink)) {
        let message = format!("Procedure {} has no parameter for column \"{}\".", procedure.name, plan.sink);
        return Err(Fault::new("UserErrorSettings", message).with("column", &plan.sink).into());
    }
    let argument = |parameter: &Parameter| {
        let column = sink.planned.iter().find(|plan| plan.sink.eq_ignore_ascii_case(&parameter.name));
        let fixed = procedure.parameters.iter().find(|given| given.name.eq_ignore_ascii_case(&parameter.name));
        match (column, fixed) {
            (_, Some(given)) => Ok(Argument::Fixed(given.value.as_deref().map_or("NULL".to_owned(), literal))),
            (Some(plan), None) => Ok(Argument::Column(plan.sink.clone())),
            (None, None) => Err(unfed(parameter, &procedure.name)),
        }
    };
    parameters.iter().map(argument).collect()
}

async fn at_the_server(sink: &MySqlSink, client: &mut Client, name: &str, arguments: &[Argument]) -> Result<u64> {
    let (mut columns, mut given) = (Vec::new(), Vec::new());
    for argument in arguments {
        given.push(match argument {
            Argument::Fixed(value) => value.clone(),
            Argument::Column(column) => {
                columns.push(format!("{} AS c{}", quoted(column), columns.len()));
                format!("staged.c{}", columns.len() - 1)
            }
        });
    }
    if columns.is_empty() {
        columns.push("1".to_owned());
    }
    // The loop handles nothing: what the procedure leaves unhandled ends the commit.
    let all = format!(
        "BEGIN NOT ATOMIC DECLARE called BIGINT DEFAULT 0; FOR staged IN (SELECT {} FROM {}) \
         DO CALL {name}({}); SET called = called + 1; END FOR; SET @dmg_called = called; END",
        columns.join(", "),
        sink.staging_quoted(),
        given.join(", ")
    );
    client.batch("SET @dmg_called = NULL").await?;
    client.batch(&all).await?;
    let called = client.query("SELECT @dmg_called").await?.single().and_then(|called| called.parse().ok());
    called.ok_or_else(|| errors::garbled(&client.wire.place, "no number of calls"))
}

/// Rows are asked for as literals, so that no value is bent on the way.
async fn over_the_wire(sink: &MySqlSink, client: &mut Client, name: &str, arguments: &[Argument]) -> Result<u64> {
    let literals: Vec<String> = arguments
        .iter()
        .map(|argument| match argument {
            Argument::Fixed(value) => literal(value),
            Argument::Column(column) => column_literal(sink, column),
        })
        .collect();
    let list = if literals.is_empty() { "''".to_owned() } else { format!("CONCAT_WS(',', {})", literals.join(", ")) };
    let mut reader = connect(&sink.server, Purpose::Read).await?;
    reader.stream(&format!("SELECT {list} FROM {}", sink.staging_quoted())).await?;
    let (mut script, mut pending, mut rows) = (String::new(), 0, 0_u64);
    loop {
        let limit = PACKET_BYTES_MAX;
        let end = match reader.buffered_row(limit)? {
            None => {
                reader.wire.fill(limit).await?;
                continue;
            }
            Some(None) => true,
            Some(Some(packet)) => {
                let body = reader.wire.body(packet);
                let values = Walk(body).text();
                let values = values.ok_or_else(|| errors::garbled(&reader.wire.place, "a damaged row"))?;
                script.push_str(&format!("CALL {name}({values});"));
                pending += 1;
                rows += 1;
                false
            }
        };
        if pending > 0 && (end || pending >= CALLS || script.len() >= CALL_BYTES) {
            client.script(&script).await?;
            script.clear();
            pending = 0;
        }
        if end {
            return Ok(rows);
        }
    }
}

fn unfed(parameter: &Parameter, procedure: &str) -> Error {
    let message = format!("Parameter \"{}\" of procedure {procedure} gets no value.", parameter.name);
    let remedy =
        "Map a column of the source to a column of that name, or give it in the stored procedure's parameters.";
    Fault::new("UserErrorSettings", message).remedy(remedy).with("parameter", &parameter.name).into()
}

/// An expression that yields the value of a column as a literal.
fn column_literal(sink: &MySqlSink, name: &str) -> String {
    let column = quoted(name);
    let own = catalog::find(&sink.found, name).map(|found| found.own.clone());
    let planned = sink.planned.iter().find(|plan| plan.sink == name);
    let own = own.unwrap_or_else(|| {
        ColumnType::parse(planned.map_or("", |plan| plan.sink_type.as_str()), Some("utf8mb4".to_owned()), false)
    });
    let base = own.base.as_str();
    if base.ends_with("binary") || base.ends_with("blob") || spatial(base) {
        return format!("COALESCE(CONCAT('x''', HEX({column}), ''''), 'NULL')");
    }
    match base {
        "bit" => format!("COALESCE(CAST({column} AS UNSIGNED), 'NULL')"),
        "float" => format!("COALESCE({column} * 1e0, 'NULL')"),
        _ => format!("QUOTE({column})"),
    }
}

#[cfg(test)]
mod tests {
    use super::loops;
    use crate::mysql::client::Version;

    #[test]
    fn who_loops_by_itself() {
        for (version, expect) in [
            ("10.11.6-MariaDB-0+deb12u1", true),
            ("5.5.5-10.3.39-MariaDB", true),
            ("10.2.44-MariaDB", false),
            ("8.0.36", false),
            ("11.4.2-MariaDB-log", true),
        ] {
            assert_eq!(loops(&Version::parse(version)), expect, "{version}");
        }
    }
}
