//! What linked services, datasets and pipelines have in common: put, list, show, delete. A document's dialect is told
//! from its shape; the service keeps it as sent.

use std::path::{Path, PathBuf};

use clap::Args;
use dmg_authoring::{Dialect, DocumentKind, Severity, detect, document_name, validate};
use dmg_protocol::Fault;
use serde_json::{Value, json};

use crate::client::{Client, V2, segment};
use crate::context::ServiceArguments;
use crate::display::{Output, Table, word};
use crate::failure::{Failure, IntoConfiguration, file_fault};
use crate::ours::{self, OURS};

/// Longest document file that is read.
const DOCUMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Fact of the fault that a file holds something else than a document.
pub(crate) const NO_DOCUMENT: &str = "noDocument";

/// One file to send.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// JSON file, version 1 or 2
    pub(crate) file: PathBuf,
    /// Name; the document's own, or the file's, where none is given
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) service: ServiceArguments,
}

/// Which service.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) service: ServiceArguments,
}

/// One document.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) service: ServiceArguments,
}

/// A document read from a file.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) dialect: Dialect,
    pub(crate) kind: DocumentKind,
    pub(crate) name: String,
    pub(crate) body: Value,
    pub(crate) file: PathBuf,
}

/// Reads a document, tells what it is and checks all that can be checked here.
pub(crate) fn read(path: &Path, name: Option<&str>) -> Result<Document, Failure> {
    let size = std::fs::metadata(path).map_err(|error| file_fault("read", path, &error).into_configuration())?.len();
    if size > DOCUMENT_BYTES_MAX {
        return Err(Fault::new("UserErrorDocument", format!("{} is too long for a document.", path.display())).into());
    }
    let text = std::fs::read_to_string(path).map_err(|error| file_fault("read", path, &error).into_configuration())?;
    let text = text.trim_start_matches('\u{feff}');
    let body: Value = serde_json::from_str(text).map_err(|error| {
        // serde_json's text ends in the place; the place alone is shown first, the way compilers do.
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default().to_owned();
        let (line, column) = (error.line(), error.column());
        let message = format!("{}:{line}:{column} is not valid JSON: {what}.", path.display());
        Fault::new("UserErrorDocument", message).remedy("Correct the file at that place.")
    })?;
    let Some((dialect, kind)) = detect(&body) else {
        let message = format!("{} is neither a linked service nor a dataset nor a pipeline.", path.display());
        return Err(Fault::new("UserErrorDocument", message)
            .remedy("A document has \"properties\" with \"type\", or with \"activities\".")
            .with(NO_DOCUMENT, true)
            .into());
    };
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.or_else(|| document_name(&body)).map_or(stem, str::to_owned);
    let document = Document { dialect, kind, name, body, file: path.to_owned() };
    check(&document)?;
    Ok(document)
}

/// All errors of a document at once.
fn check(document: &Document) -> Result<(), Failure> {
    let findings = validate(document.dialect, document.kind, &document.name, &document.body);
    let lines: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| format!("  {}: {}", finding.path, finding.message))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let message =
        format!("The {} in {} cannot be used:\n{}", document.kind.title(), document.file.display(), lines.join("\n"));
    Err(Fault::new("UserErrorDocument", message).remedy("Correct these places and try again.").into())
}

/// Where a document lives, and under which version of the API.
pub(crate) fn place(
    client: &Client,
    factory: &str,
    dialect: Dialect,
    kind: DocumentKind,
    name: &str,
) -> (String, &'static str) {
    match dialect {
        Dialect::V2 => (format!("{}/{}/{}", client.factory_path(factory), ours::collection(kind), segment(name)), V2),
        Dialect::V1 => (ours::v1_document(client, factory, kind, name), OURS),
    }
}

/// The document of that name, in whichever dialect it is.
pub(crate) async fn find(
    client: &Client,
    factory: &str,
    kind: DocumentKind,
    name: &str,
) -> Result<Option<(Dialect, Value)>, Fault> {
    for dialect in [Dialect::V2, Dialect::V1] {
        let (path, version) = place(client, factory, dialect, kind, name);
        if let Some(body) = client.find(&path, version).await? {
            return Ok(Some((dialect, body)));
        }
    }
    Ok(None)
}

fn missing(factory: &str, kind: DocumentKind, name: &str) -> Fault {
    Fault::new("UserErrorNotFound", format!("Factory \"{factory}\" has no {} \"{name}\".", kind.title()))
}

/// `put`: says created, changed or unchanged.
pub(crate) async fn put(arguments: Put, kind: DocumentKind, output: Output) -> Result<u8, Failure> {
    let document = read(&arguments.file, arguments.name.as_deref())?;
    if document.kind != kind {
        let message = format!("{} is a {}, not a {}.", arguments.file.display(), document.kind.title(), kind.title());
        return Err(Fault::new("UserErrorDocument", message).remedy("dmg apply takes documents of any kind.").into());
    }
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    let outcome = super::apply::deploy(&client, &factory, &document).await?;
    let value = json!({ "name": document.name, "kind": kind.title(), "dialect": document.dialect.as_str(), "outcome": outcome.word() });
    output.answer(&value, || format!("{} {} {}.", capital(kind.title()), document.name, outcome.word()));
    Ok(0)
}

/// `list`: both dialects.
pub(crate) async fn list(arguments: List, kind: DocumentKind, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    let mut rows = Vec::new();
    for dialect in [Dialect::V2, Dialect::V1] {
        let (path, version) = place(&client, &factory, dialect, kind, "");
        for item in client.list(path.trim_end_matches('/'), version).await? {
            rows.push((dialect, item));
        }
    }
    rows.sort_by_key(|(_, item)| word(&item["name"]).to_lowercase());
    let value: Vec<&Value> = rows.iter().map(|(_, item)| item).collect();
    output.answer(&json!(value), || {
        let mut table = Table::new(&["NAME", "TYPE", "DIALECT"]);
        for (dialect, item) in &rows {
            let properties = &item["properties"];
            let what = match properties["activities"].as_array() {
                Some(activities) => {
                    let types: Vec<_> = activities.iter().map(|activity| word(&activity["type"])).collect();
                    types.join(", ")
                }
                None => word(&properties["type"]),
            };
            table.row([word(&item["name"]), what, dialect.as_str().to_owned()]);
        }
        table.text(&format!("Factory {factory} has no {} yet.", kind.title()))
    });
    Ok(0)
}

/// `show`: the document as the service keeps it, secrets masked.
pub(crate) async fn show(arguments: Name, kind: DocumentKind, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    let found = find(&client, &factory, kind, &arguments.name).await?;
    let (_, body) = found.ok_or_else(|| missing(&factory, kind, &arguments.name))?;
    output.answer(&body, || serde_json::to_string_pretty(&body).unwrap_or_default());
    Ok(0)
}

/// `delete`.
pub(crate) async fn delete(arguments: Name, kind: DocumentKind, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    let found = find(&client, &factory, kind, &arguments.name).await?;
    let (dialect, _) = found.ok_or_else(|| missing(&factory, kind, &arguments.name))?;
    let (path, version) = place(&client, &factory, dialect, kind, &arguments.name);
    let there = client.delete(&path, version).await?;
    output.answer(&json!({ "deleted": there }), || format!("{} {} deleted.", capital(kind.title()), arguments.name));
    Ok(0)
}

/// First letter large, for the start of a sentence.
pub(crate) fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_ascii_uppercase().to_string() + characters.as_str()).unwrap_or_default()
}
