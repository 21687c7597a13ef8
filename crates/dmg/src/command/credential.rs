//! `dmg credential encrypt`: seals the secrets of a linked service to the gateway's certificate, in this process. What
//! leaves it is an envelope that only the gateway opens, and only for the place it was made for.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dmg_authoring::{DocumentKind, gateway_of, seal_binding, split_secrets, with_envelope, without_masks};
use dmg_protocol::Fault;
use serde_json::Value;

use crate::client::Client;
use crate::command::document::{self, Document};
use crate::context::ServiceArguments;
use crate::display::Output;
use crate::failure::{Failure, IntoConfiguration, file_fault};
use crate::ours;

/// `dmg credential …`
#[derive(Debug, Subcommand)]
pub(crate) enum CredentialCommand {
    /// Print a linked service with its secrets sealed to a gateway
    Encrypt(Encrypt),
}

/// What to seal, and to whom.
#[derive(Debug, Args)]
pub(crate) struct Encrypt {
    /// JSON file of the linked service, secrets in clear
    file: PathBuf,
    /// The gateway that will open it
    #[arg(long, value_name = "G")]
    gateway: String,
    /// Name of the linked service; the document's own where none is given. The envelope is good for that name only
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    service: ServiceArguments,
}

/// Runs `dmg credential`.
pub(crate) async fn run(command: CredentialCommand, output: Output) -> Result<u8, Failure> {
    let CredentialCommand::Encrypt(arguments) = command;
    let document = document::read(&arguments.file, arguments.name.as_deref())?;
    if document.kind != DocumentKind::LinkedService {
        let message = format!("{} is a {}, and holds no credential.", arguments.file.display(), document.kind.title());
        return Err(Fault::new("UserErrorDocument", message).remedy("Give the file of a linked service.").into());
    }
    if !has_secrets(&document)? {
        let message = format!("{} holds no secret in clear.", arguments.file.display());
        return Err(Fault::new("UserErrorDocument", message).remedy("Nothing is to be done; send it as it is.").into());
    }
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    let sealed = seal(&client, &factory, &document, Some(&arguments.gateway)).await?;
    let sealed = without_masks(document.dialect, &sealed);
    let text = serde_json::to_string_pretty(&sealed).unwrap_or_default();
    match &arguments.out {
        Some(path) => {
            std::fs::write(path, text + "\n")
                .map_err(|error| file_fault("written", path, &error).into_configuration())?;
            output
                .answer(&sealed, || format!("Sealed to gateway {}; written to {}.", arguments.gateway, path.display()));
        }
        // The document is the answer in either form of output.
        None => crate::display::say(&text),
    }
    Ok(0)
}

/// Whether the document brings a secret in clear.
pub(crate) fn has_secrets(document: &Document) -> Result<bool, Failure> {
    Ok(!split_secrets(document.dialect, &document.body)?.secrets.is_empty())
}

/// The document as it goes to the service: secrets masked, with an envelope beside them.
pub(crate) async fn seal_for_service(client: &Client, factory: &str, document: &Document) -> Result<Value, Failure> {
    let gateway = gateway_of(document.dialect, &document.body);
    Ok(seal(client, factory, document, gateway.as_deref()).await?)
}

async fn seal(client: &Client, factory: &str, document: &Document, gateway: Option<&str>) -> Result<Value, Fault> {
    let sealing = ours::sealing(client, factory, gateway).await?;
    let split = split_secrets(document.dialect, &document.body)?;
    let binding = seal_binding(document.dialect, &document.name, &sealing.factory_id, &document.body)?;
    let envelope = dmg_seal::seal(&sealing.recipients, &binding, &split.secrets)?;
    Ok(with_envelope(document.dialect, &split.document_without_secrets, &envelope))
}
