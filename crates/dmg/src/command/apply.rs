//! `dmg apply`: documents of a project in the order they need. Everything is read, checked and sealed before the
//! first one is sent, so that a mistake in the last file changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use dmg_authoring::{Dialect, DocumentKind, ReferenceKind, masked, references};
use dmg_protocol::Fault;
use serde_json::{Value, json};

use crate::client::{Client, V2, segment};
use crate::command::credential;
use crate::command::document::{self, Document};
use crate::context::ServiceArguments;
use crate::display::{Output, Table};
use crate::failure::{Failure, IntoConfiguration, file_fault};

/// More files than any project has; a wrong folder is noticed before it is read.
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 16;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// JSON files, or folders of them, version 1 or 2
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    service: ServiceArguments,
}

/// What deploying a document did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    Changed,
    Unchanged,
}

impl Outcome {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Changed => "changed",
            Outcome::Unchanged => "unchanged",
        }
    }
}

/// Deploys.
pub(crate) async fn run(arguments: ApplyArguments, output: Output) -> Result<u8, Failure> {
    let (documents, skipped) = read_all(&arguments.paths)?;
    let documents = in_order(documents)?;
    if documents.is_empty() {
        return Err(Failure::configuration("There is no document to deploy in what was named.")
            .remedy("Name JSON files with linked services, datasets or pipelines, or a folder of them."));
    }
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    check_references(&client, &factory, &documents).await?;
    let mut prepared = Vec::new();
    for document in &documents {
        prepared.push(prepare(&client, &factory, document, !arguments.dry_run).await?);
    }
    let mut done = Vec::new();
    for (document, (outcome, body)) in documents.iter().zip(prepared) {
        if !arguments.dry_run && outcome != Outcome::Unchanged {
            send(&client, &factory, document, &body).await.map_err(|fault| part_way(fault, document, &done))?;
        }
        done.push((document, outcome));
    }
    let rows: Vec<Value> = done
        .iter()
        .map(|(document, outcome)| {
            json!({
                "kind": document.kind.title(),
                "name": document.name,
                "dialect": document.dialect.as_str(),
                "file": document.file,
                "outcome": outcome.word(),
            })
        })
        .collect();
    let value = json!({ "factory": factory, "dryRun": arguments.dry_run, "documents": rows, "skipped": skipped });
    output.answer(&value, || summary(&done, &skipped, arguments.dry_run, output));
    Ok(0)
}

fn summary(done: &[(&Document, Outcome)], skipped: &[PathBuf], dry_run: bool, output: Output) -> String {
    let mut table = Table::new(&["", "KIND", "NAME", "DIALECT", "FILE"]);
    for (document, outcome) in done {
        table.row([
            output.status(outcome.word()),
            document.kind.title().to_owned(),
            document.name.clone(),
            document.dialect.as_str().to_owned(),
            document.file.display().to_string(),
        ]);
    }
    let count = |wanted| done.iter().filter(|(_, outcome)| *outcome == wanted).count();
    let mut text = table.text("");
    for path in skipped {
        text.push_str(&format!("skipped, no document: {}\n", path.display()));
    }
    text.push_str(&format!(
        "{} created, {} changed, {} unchanged.",
        count(Outcome::Created),
        count(Outcome::Changed),
        count(Outcome::Unchanged)
    ));
    if dry_run {
        text.push_str(" Nothing was sent: this was a dry run.");
    }
    text
}

/// A refusal in the middle says what was done before it.
fn part_way(fault: Fault, document: &Document, done: &[(&Document, Outcome)]) -> Fault {
    let sent: Vec<_> = done
        .iter()
        .filter(|(_, outcome)| *outcome != Outcome::Unchanged)
        .map(|(document, _)| format!("{} {}", document.kind.title(), document.name))
        .collect();
    let before = if sent.is_empty() {
        "Nothing was changed.".to_owned()
    } else {
        format!("Deployed before it: {}.", sent.join(", "))
    };
    let message =
        format!("The {} \"{}\" was refused: {} {before}", document.kind.title(), document.name, fault.message);
    Fault { message, ..fault }
}

/// Reads all files. Mistakes are told together.
fn read_all(paths: &[PathBuf]) -> Result<(Vec<Document>, Vec<PathBuf>), Failure> {
    let (mut documents, mut skipped, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        let is_folder = path.is_dir();
        let mut files = Vec::new();
        if is_folder {
            walk(path, 0, &mut files)?
        } else {
            files.push(path.clone())
        }
        for file in files {
            match document::read(&file, None) {
                Ok(document) => documents.push(document),
                Err(failure) if is_folder && failure.fault.context.contains_key(document::NO_DOCUMENT) => {
                    skipped.push(file)
                }
                Err(failure) => failures.push(failure),
            }
        }
    }
    match failures.len() {
        0 => Ok((documents, skipped)),
        1 => Err(failures.remove(0)),
        many => {
            let lines: Vec<_> = failures.iter().map(|failure| failure.fault.message.clone()).collect();
            let message = format!("{many} documents cannot be used.\n{}", lines.join("\n"));
            Err(Fault::new("UserErrorDocument", message)
                .remedy("Correct these places and try again. Nothing was sent.")
                .into())
        }
    }
}

/// The JSON files below a folder, by name. Hidden ones are left alone.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let read = || std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>();
    let mut entries = read().map_err(|error| file_fault("read", folder, &error).into_configuration())?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() && depth < DEPTH_MAX {
            walk(&path, depth + 1, files)?;
        } else if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(Failure::configuration(format!("{} holds more than {FILES_MAX} files.", folder.display()))
                .remedy("Name the folder of the documents."));
        }
    }
    Ok(())
}

type Key = (u8, String);

fn key(kind: DocumentKind, name: &str) -> Key {
    let rank = match kind {
        DocumentKind::LinkedService => 0,
        DocumentKind::Dataset => 1,
        DocumentKind::Pipeline => 2,
    };
    (rank, name.to_lowercase())
}

fn kind_of(kind: ReferenceKind) -> Option<DocumentKind> {
    match kind {
        ReferenceKind::LinkedService => Some(DocumentKind::LinkedService),
        ReferenceKind::Dataset => Some(DocumentKind::Dataset),
        ReferenceKind::Pipeline => Some(DocumentKind::Pipeline),
        ReferenceKind::Gateway => None,
    }
}

/// What is referred to comes first; otherwise linked services, datasets, pipelines, each by name.
fn in_order(mut documents: Vec<Document>) -> Result<Vec<Document>, Failure> {
    documents.sort_by_key(|document| key(document.kind, &document.name));
    for pair in documents.windows(2) {
        if key(pair[0].kind, &pair[0].name) == key(pair[1].kind, &pair[1].name) {
            let (kind, name) = (pair[0].kind.title(), &pair[0].name);
            let (one, two) = (pair[0].file.display(), pair[1].file.display());
            let message = format!("The {kind} \"{name}\" is there twice: in {one} and in {two}.");
            return Err(Fault::new("UserErrorNameTaken", message).remedy("Keep one of them.").into());
        }
    }
    let mut ordered: Vec<Document> = Vec::with_capacity(documents.len());
    let mut placed: BTreeSet<Key> = BTreeSet::new();
    while !documents.is_empty() {
        let open: BTreeSet<Key> = documents.iter().map(|document| key(document.kind, &document.name)).collect();
        let ready = documents
            .iter()
            .position(|document| needed(document).all(|needed| placed.contains(&needed) || !open.contains(&needed)));
        // Documents that need each other in a circle go by kind; the service says whether it takes them.
        let document = documents.remove(ready.unwrap_or(0));
        placed.insert(key(document.kind, &document.name));
        ordered.push(document);
    }
    Ok(ordered)
}

fn needed(document: &Document) -> impl Iterator<Item = Key> {
    let own = key(document.kind, &document.name);
    references(document.dialect, document.kind, &document.body)
        .into_iter()
        .filter_map(|reference| kind_of(reference.kind).map(|kind| key(kind, &reference.name)))
        .filter(move |key| *key != own)
}

/// Everything a document names is in the set or in the factory. All that is missing is told at once.
async fn check_references(client: &Client, factory: &str, documents: &[Document]) -> Result<(), Failure> {
    let given: BTreeSet<Key> = documents.iter().map(|document| key(document.kind, &document.name)).collect();
    let mut asked: BTreeSet<(Option<u8>, String)> = BTreeSet::new();
    let mut missing = Vec::new();
    for document in documents {
        for reference in references(document.dialect, document.kind, &document.body) {
            let kind = kind_of(reference.kind);
            let name = reference.name.to_lowercase();
            if kind.is_some_and(|kind| given.contains(&key(kind, &name)))
                || !asked.insert((kind.map(|kind| key(kind, &name).0), name))
            {
                continue;
            }
            let (there, title) = match kind {
                Some(kind) => (document::find(client, factory, kind, &reference.name).await?.is_some(), kind.title()),
                None => {
                    let path =
                        format!("{}/integrationRuntimes/{}", client.factory_path(factory), segment(&reference.name));
                    (client.find(&path, V2).await?.is_some(), "gateway")
                }
            };
            if !there {
                let (file, path, name) = (document.file.display(), &reference.path, &reference.name);
                missing.push(format!("{file}: {path} names the {title} \"{name}\", which does not exist"));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Fault::new("UserErrorNotFound", format!("{}.", missing.join(";\n")))
        .remedy("Correct the name, or deploy what is missing as well. Nothing was sent.")
        .into())
}

/// Compares with what the service has, and seals what is secret.
async fn prepare(client: &Client, factory: &str, document: &Document, seal: bool) -> Result<(Outcome, Value), Failure> {
    let (path, version) = document::place(client, factory, document.dialect, document.kind, &document.name);
    let there = client.find(&path, version).await?;
    let mut body = document.body.clone();
    let mut has_secrets = false;
    if document.kind == DocumentKind::LinkedService {
        has_secrets = credential::has_secrets(document)?;
        if has_secrets && seal {
            body = credential::seal_for_service(client, factory, document).await?;
        }
    }
    let outcome = match there {
        None => Outcome::Created,
        // What is sealed cannot be compared: a secret that is given again may be a new one.
        Some(_) if has_secrets => Outcome::Changed,
        Some(there) if same(document, &there) => Outcome::Unchanged,
        Some(_) => Outcome::Changed,
    };
    Ok((outcome, body))
}

fn same(document: &Document, there: &Value) -> bool {
    let shown = match document.kind {
        DocumentKind::LinkedService => masked(document.dialect, &document.body),
        _ => document.body.clone(),
    };
    own_members(&shown) == own_members(there)
}

/// The author's part of a document: what the service adds to answers of version 1 is left out.
fn own_members(document: &Value) -> Value {
    let mut properties = document["properties"].clone();
    if let Some(members) = properties.as_object_mut() {
        members.retain(|name, _| name != "provisioningState");
    }
    properties
}

async fn send(client: &Client, factory: &str, document: &Document, body: &Value) -> Result<(), Fault> {
    let (path, version) = document::place(client, factory, document.dialect, document.kind, &document.name);
    let mut body = body.clone();
    if document.dialect == Dialect::V1 && body.get("name").is_none() {
        body["name"] = json!(document.name);
    }
    client.put(&path, version, &body).await.map(|_| ())
}

/// Deploys one document.
pub(crate) async fn deploy(client: &Client, factory: &str, document: &Document) -> Result<Outcome, Failure> {
    let (outcome, body) = prepare(client, factory, document, true).await?;
    if outcome != Outcome::Unchanged {
        send(client, factory, document, &body).await?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, body: Value) {
        std::fs::write(folder.join(name), body.to_string()).expect("written");
    }

    fn project(folder: &Path) {
        write(
            folder,
            "1.json",
            json!({"name": "P", "properties": {"activities": [{
                "name": "c", "type": "Copy",
                "inputs": [{"referenceName": "In", "type": "DatasetReference"}],
                "outputs": [{"referenceName": "Out", "type": "DatasetReference"}],
                "typeProperties": {"source": {"type": "SqliteSource"}, "sink": {"type": "ParquetSink"}}
            }]}}),
        );
        for (file, name) in [("2.json", "In"), ("3.json", "Out")] {
            write(
                folder,
                file,
                json!({"name": name, "properties": {
                    "type": "SqliteTable",
                    "linkedServiceName": {"referenceName": "Db", "type": "LinkedServiceReference"},
                    "typeProperties": {"tableName": "t"}
                }}),
            );
        }
        write(
            folder,
            "4.json",
            json!({"name": "Db", "properties": {
                "type": "Sqlite", "connectVia": {"referenceName": "gw", "type": "IntegrationRuntimeReference"},
                "typeProperties": {"path": "/x.db"}
            }}),
        );
        write(folder, "arm-parameters.json", json!({"parameters": {}}));
    }

    #[test]
    fn what_is_needed_comes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        project(folder.path());
        let (documents, skipped) = read_all(&[folder.path().to_owned()]).expect("all are good");
        assert_eq!(skipped.len(), 1);
        let order: Vec<_> =
            in_order(documents).expect("no doubles").into_iter().map(|document| document.name).collect();
        assert_eq!(order, ["Db", "In", "Out", "P"]);
    }

    #[test]
    fn a_double_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        project(folder.path());
        std::fs::copy(folder.path().join("4.json"), folder.path().join("5.json")).expect("copied");
        let (documents, _) = read_all(&[folder.path().to_owned()]).expect("all are good");
        let failure = in_order(documents).expect_err("a double");
        assert!(failure.fault.message.starts_with("The linked service \"Db\" is there twice"), "{failure:?}");
    }

    #[test]
    fn broken_json_names_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("x.json"), "{\n  \"a\": 1,,\n}").expect("written");
        let failure = read_all(&[folder.path().to_owned()]).expect_err("broken");
        assert!(failure.fault.message.contains("x.json:2:"), "{failure:?}");
    }
}
