//! `dmg store`: what a store holds, and calls of its procedures. Either straight from this machine, by a URI, or
//! through the service and a gateway, by the name of a linked service.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use dmg_ambient::Ambient;
use dmg_connector::Session;
use dmg_protocol::job::{
    Browse, BrowseJob, FormatSpec, ListedColumn, Listing, ProcedureCall, ProcedureOutcome, ProcedureParameter,
    StoreObject,
};
use dmg_protocol::{Fault, Secrets};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::copy::{read_all, secrets};
use super::receipt::thousands;
use crate::client::{Client, segment};
use crate::context::ServiceArguments;
use crate::display::{Output, Table};
use crate::failure::{EXIT_FAULT, Failure};
use crate::ours::{self, OURS};
use crate::uri::{self, Parsed, Side};

/// How long we ask for the answer of a gateway.
const LOOK_SECONDS_MAX: u64 = 300;
/// Characters of a previewed value that are shown to people.
const SHOWN_CHARS: usize = 40;

/// `dmg store …`
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List schemas (databases, root folders)
    Schemas(Place),
    /// List tables and views, or files and folders
    Tables {
        /// Schema or folder; the store's default where left out
        #[arg(long, value_name = "NAME")]
        schema: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Show the columns of a table, query or file
    Columns {
        #[command(flatten)]
        object: Object,
        #[command(flatten)]
        place: Place,
    },
    /// Show the first rows of a table, query or file
    Preview {
        #[command(flatten)]
        object: Object,
        /// Rows to show, at most 1000
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rows: u32,
        #[command(flatten)]
        place: Place,
    },
    /// Call a stored procedure, once, from this machine
    Call(CallArguments),
}

/// Which store.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The store: a URI as dmg copy takes it, without a table
    #[arg(value_name = "URI", required_unless_present = "linked_service", conflicts_with = "linked_service")]
    uri: Option<String>,
    /// A linked service of the factory instead: its gateway looks
    #[arg(long, value_name = "NAME")]
    linked_service: Option<String>,
    /// File that holds the password, account key or SAS token; asked for on a terminal otherwise
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Blob endpoint other than the cloud's own, for emulators
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// PEM file of a certificate authority to trust besides the system's
    #[arg(long, value_name = "FILE")]
    store_ca: Vec<PathBuf>,
    #[command(flatten)]
    service: ServiceArguments,
}

/// What of it.
#[derive(Debug, Args)]
pub(crate) struct Object {
    /// Table or view, as NAME or SCHEMA.NAME
    #[arg(long, value_name = "T")]
    table: Option<String>,
    /// Query instead of a table
    #[arg(long, value_name = "SQL", conflicts_with = "table")]
    query: Option<String>,
    /// File of a linked service, as FOLDER/NAME
    #[arg(long, value_name = "PATH", conflicts_with_all = ["table", "query"])]
    file: Option<String>,
    /// File format where the name does not tell: parquet, csv, tsv
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// `dmg store call`
#[derive(Debug, Args)]
pub(crate) struct CallArguments {
    /// The database: a URI as dmg copy takes it, without a table
    #[arg(value_name = "URI")]
    uri: String,
    /// The procedure, with or without schema
    #[arg(value_name = "NAME")]
    name: String,
    /// A parameter as NAME=VALUE or NAME=VALUE:TYPE (String, Int32, Decimal, DateTime, …); NAME alone is NULL
    #[arg(long, value_name = "P")]
    param: Vec<String>,
    /// Seconds after which the call is cancelled at the server
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// File that holds the password; asked for on a terminal otherwise
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// PEM file of a certificate authority to trust besides the system's
    #[arg(long, value_name = "FILE")]
    store_ca: Vec<PathBuf>,
}

/// Runs `dmg store`.
pub(crate) async fn run(
    command: StoreCommand,
    ambient: &Ambient,
    output: Output,
    cancel: &CancellationToken,
) -> Result<u8, Failure> {
    let (place, look) = match command {
        StoreCommand::Call(arguments) => return call(arguments, ambient, output, cancel).await,
        StoreCommand::Schemas(place) => (place, Look::Schemas),
        StoreCommand::Tables { place, schema } => (place, Look::Tables(schema)),
        StoreCommand::Columns { place, object } => (place, Look::Columns(object)),
        StoreCommand::Preview { place, object, rows } => (place, Look::Preview(object, rows)),
    };
    let listing = match &place.linked_service {
        Some(name) => through_service(&place, name, look, ambient).await?,
        None => straight(&place, look, ambient, cancel).await?,
    };
    output.answer(&json!(listing), || text(&listing));
    Ok(0)
}

/// What is looked at, as typed.
enum Look {
    Schemas,
    Tables(Option<String>),
    Columns(Object),
    Preview(Object, u32),
}

/// From this machine.
async fn straight(
    place: &Place,
    look: Look,
    ambient: &Ambient,
    cancel: &CancellationToken,
) -> Result<Listing, Failure> {
    let uri = place.uri.clone().unwrap_or_default();
    let side = |object: Option<&Object>| {
        let mut side = Side { uri: uri.clone(), endpoint: place.endpoint.clone(), ..Side::default() };
        match object {
            Some(object) => {
                side.table.clone_from(&object.table);
                side.query.clone_from(&object.query);
                side.format.clone_from(&object.format);
            }
            // Only the store counts; a URI parser wants to know what of it all the same.
            None => (side.table, side.format) = (Some("none".to_owned()), Some("text".to_owned())),
        }
        uri::parse(&side)
    };
    let (parsed, browse) = match look {
        Look::Schemas => {
            let parsed = side(None)?;
            // The folder that the URI names is the root that is meant.
            let browse = match folder(&parsed.object) {
                Some(folder) if !folder.is_empty() => Browse::Tables { schema: Some(folder) },
                _ => Browse::Schemas,
            };
            (parsed, browse)
        }
        Look::Tables(schema) => {
            let parsed = side(None)?;
            let schema = match (folder(&parsed.object), schema) {
                (Some(folder), Some(schema)) if !folder.is_empty() => Some(format!("{folder}/{schema}")),
                (Some(folder), None) => Some(folder).filter(|folder| !folder.is_empty()),
                (_, schema) => schema,
            };
            (parsed, Browse::Tables { schema })
        }
        Look::Columns(object) => {
            let parsed = side(Some(&object))?;
            let object = parsed.object.clone();
            (parsed, Browse::Columns { object })
        }
        Look::Preview(object, rows) => {
            let parsed = side(Some(&object))?;
            let object = parsed.object.clone();
            (parsed, Browse::Preview { object, rows })
        }
    };
    let secrets = secrets(&parsed, place.secret_file.as_ref(), &uri)?;
    let Parsed { store, format, .. } = parsed;
    let job = BrowseJob { store, browse, format };
    let stores = dmg_gateway::worker::stores();
    let session = session(ambient, "dmg/browse", &place.store_ca)?;
    tokio::select! {
        listing = dmg_engine::browse(stores.as_ref(), &job, &secrets, session) => {
            Ok(listing.map_err(|error| *error.fault)?)
        }
        () = cancel.cancelled() => Err(Fault::new("UserErrorCancelled", "The look was cancelled.").into()),
    }
}

/// The folder a URI of a byte store names: its last name may be a folder too.
fn folder(object: &StoreObject) -> Option<String> {
    let StoreObject::Files { folder, file, .. } = object else { return None };
    let pieces = [folder.as_str(), file.as_deref().unwrap_or_default()];
    Some(pieces.into_iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join("/"))
}

fn session(ambient: &Ambient, application: &str, extra_ca: &[PathBuf]) -> Result<Session, Fault> {
    let mut session = Session::new(ambient.clone(), application);
    session.extra_ca = std::sync::Arc::new(read_all(extra_ca)?);
    Ok(session)
}

/// Through the service and a gateway.
async fn through_service(place: &Place, name: &str, look: Look, ambient: &Ambient) -> Result<Listing, Failure> {
    let client = Client::open(&place.service)?;
    let factory = client.factory().await?;
    let mut format = None;
    let mut named = |object: Object| -> Result<StoreObject, Fault> {
        format = format_of(&object)?;
        object_of(object)
    };
    let browse = match look {
        Look::Schemas => Browse::Schemas,
        Look::Tables(schema) => Browse::Tables { schema },
        Look::Columns(object) => Browse::Columns { object: named(object)? },
        Look::Preview(object, rows) => Browse::Preview { object: named(object)?, rows },
    };
    let mut body = json!(browse);
    if let Some(format) = format {
        body["format"] = json!(format);
    }
    let path = ours::browse(&client, &factory, name);
    let mut answer = client.post(&path, OURS, &body).await?;
    let deadline = ambient.uptime() + Duration::from_secs(LOOK_SECONDS_MAX);
    while matches!(answer["status"].as_str(), Some("Queued" | "InProgress")) {
        if ambient.uptime() > deadline {
            let message = format!("The gateway has not answered after {LOOK_SECONDS_MAX} s.");
            return Err(Fault::new("NetworkErrorStoreUnreachable", message)
                .remedy("Check that a node of the gateway is online: dmg gateway list.")
                .into());
        }
        ambient.sleep(Duration::from_millis(300)).await;
        let id = answer["id"].as_str().unwrap_or_default().to_owned();
        answer = client.get(&format!("{path}/{}", segment(&id)), OURS).await?;
    }
    if let Ok(fault) = serde_json::from_value::<Fault>(answer["fault"].clone()) {
        return Err(fault.into());
    }
    serde_json::from_value(answer["listing"].take()).map_err(|_| {
        let message = format!("The look ended without an answer: {}.", answer["status"].as_str().unwrap_or_default());
        Failure { fault: Fault::new("SystemErrorAborted", message), exit: EXIT_FAULT }
    })
}

fn object_of(object: Object) -> Result<StoreObject, Fault> {
    if let Some(path) = object.file {
        let (folder, file) = path.trim_matches('/').rsplit_once('/').map_or(("", path.as_str()), |pair| pair);
        return Ok(StoreObject::Files { folder: folder.to_owned(), file: Some(file.to_owned()), recursive: false });
    }
    if object.table.is_none() && object.query.is_none() {
        return Err(Fault::new("UserErrorSettings", "Nothing says what to look at.")
            .remedy("Add --table NAME, --query SQL or --file FOLDER/NAME."));
    }
    uri::table_or_query(&Side { table: object.table, query: object.query, ..Side::default() })
}

fn format_of(object: &Object) -> Result<Option<FormatSpec>, Fault> {
    let Some(format) = &object.format else { return Ok(None) };
    let uri = format!("file:/{}", object.file.as_deref().unwrap_or("file"));
    Ok(uri::parse(&Side { uri, format: Some(format.clone()), ..Side::default() })?.format)
}

async fn call(
    arguments: CallArguments,
    ambient: &Ambient,
    output: Output,
    cancel: &CancellationToken,
) -> Result<u8, Failure> {
    let side = Side { uri: arguments.uri.clone(), table: Some("none".to_owned()), ..Side::default() };
    let parsed = uri::parse(&Side { format: Some("text".to_owned()), ..side })?;
    let secrets: Secrets = secrets(&parsed, arguments.secret_file.as_ref(), &arguments.uri)?;
    let call = ProcedureCall {
        name: arguments.name,
        parameters: arguments.param.iter().map(|text| parameter(text)).collect(),
        timeout_seconds: arguments.timeout,
    };
    let stores = dmg_gateway::worker::stores();
    let session = session(ambient, "dmg/call", &arguments.store_ca)?;
    let outcome = dmg_engine::call(stores.as_ref(), &parsed.store, &secrets, session, &call, cancel).await?;
    output.answer(&json!(outcome), || outcome_text(&call.name, &outcome));
    Ok(0)
}

/// `NAME`, `NAME=VALUE` or `NAME=VALUE:TYPE`. What follows the last colon is a type only where it is the name of one.
fn parameter(text: &str) -> ProcedureParameter {
    let Some((name, value)) = text.split_once('=') else {
        return ProcedureParameter { name: plain(text), type_name: None, value: None };
    };
    let is_type = |word: &str| dmg_authoring::PARAMETER_TYPES.iter().any(|known| known.eq_ignore_ascii_case(word));
    let (value, type_name) = match value.rsplit_once(':') {
        Some((value, word)) if is_type(word) => (value, Some(word.to_owned())),
        _ => (value, None),
    };
    ProcedureParameter { name: plain(name), type_name, value: Some(value.to_owned()) }
}

fn plain(name: &str) -> String {
    name.trim_start_matches('@').to_owned()
}

fn outcome_text(name: &str, outcome: &ProcedureOutcome) -> String {
    let mut lines = vec![format!("{name} was called.")];
    if let Some(status) = outcome.return_status {
        lines.push(format!("returned  {status}"));
    }
    if let Some(rows) = outcome.rows_affected {
        lines.push(format!("rows      {}", thousands(rows)));
    }
    let outputs = outcome.outputs.iter();
    lines.extend(outputs.map(|(name, value)| format!("{name} = {}", value.as_deref().unwrap_or("NULL"))));
    lines.extend(outcome.messages.iter().map(|message| format!("message: {message}")));
    lines.join("\n")
}

/// A listing for people.
fn text(listing: &Listing) -> String {
    match listing {
        Listing::Schemas { names, more } => with_more(names.join("\n"), names.is_empty(), "There is none.", *more),
        Listing::Tables { tables, more } => {
            let mut shown = Table::new(&["NAME", "SCHEMA", "KIND", "ROWS (ABOUT)", "BYTES"]);
            for table in tables {
                shown.row([
                    table.name.clone(),
                    table.schema.clone().unwrap_or_default(),
                    table.kind.clone(),
                    table.rows_estimate.map_or(String::new(), thousands),
                    table.bytes.map_or(String::new(), thousands),
                ]);
            }
            with_more(shown.text("There is none."), false, "", *more)
        }
        Listing::Columns { columns } => columns_text(columns),
        Listing::Preview { columns, rows } => {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let mut shown = Table::new(&names);
            for row in rows {
                shown.row(row.iter().map(|value| cell(value.as_deref())));
            }
            shown.text("There is no row.")
        }
    }
}

fn with_more(text: String, is_empty: bool, if_empty: &str, more: bool) -> String {
    let text = if is_empty { if_empty.to_owned() } else { text };
    if more { format!("{}\n… there are more", text.trim_end()) } else { text }
}

fn columns_text(columns: &[ListedColumn]) -> String {
    let mut shown = Table::new(&["COLUMN", "TYPE", "KIND", "NULL", "KEY"]);
    for column in columns {
        shown.row([
            column.name.clone(),
            column.type_name.clone(),
            column.kind.to_string(),
            if column.nullable { "yes" } else { "no" }.to_owned(),
            if column.key { "key" } else { "" }.to_owned(),
        ]);
    }
    shown.text("It has no columns.")
}

/// One cell: one line, cut, NULL as a sign that no text is.
fn cell(value: Option<&str>) -> String {
    let Some(text) = value else { return "∅".to_owned() };
    let line: String = text.chars().map(|c| if c.is_control() { '␣' } else { c }).take(SHOWN_CHARS).collect();
    if text.chars().count() > SHOWN_CHARS { format!("{line}…") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_as_typed() {
        let check = |text: &str, name: &str, value: Option<&str>, type_name: Option<&str>| {
            let expected = ProcedureParameter {
                name: name.to_owned(),
                type_name: type_name.map(str::to_owned),
                value: value.map(str::to_owned),
            };
            assert_eq!(parameter(text), expected, "{text}");
        };
        check("a=1:Int32", "a", Some("1"), Some("Int32"));
        check("@a=10:30", "a", Some("10:30"), None);
        check("when=2026-01-01T10:30:00:DateTime", "when", Some("2026-01-01T10:30:00"), Some("DateTime"));
        check("a=", "a", Some(""), None);
        check("a", "a", None, None);
    }

    #[test]
    fn cells() {
        assert_eq!(cell(None), "∅");
        assert_eq!(cell(Some("a\nb")), "a␣b");
        let listing = Listing::Preview { columns: Vec::new(), rows: Vec::new() };
        assert_eq!(text(&listing), "There is no row.");
        let value = json!(listing);
        assert_eq!(value["found"], "preview");
    }
}
