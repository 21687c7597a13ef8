//! `dmg login`: remembers a service under a name, after trying it. Keeps paths and names, never the token itself.

use std::path::{Path, PathBuf};

use clap::Args;
use dmg_protocol::Fault;
use serde_json::json;

use crate::client::{Client, V2};
use crate::context::{CONTEXT, Context, Contexts, ServiceArguments};
use crate::display::Output;
use crate::failure::{Failure, IntoConfiguration, file_fault};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// Address of the service, https://host:port
    #[arg(long, value_name = "URL")]
    service: String,
    /// File that holds the access token; the service wrote one to admin.token in its data folder
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// PEM file of the certificate to trust, for a service with one of its own
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Factory to use where none is named
    #[arg(long, value_name = "NAME")]
    factory: Option<String>,
    /// Resource group to use where none is named
    #[arg(long, value_name = "NAME")]
    resource_group: Option<String>,
    /// Subscription to use where none is named
    #[arg(long, value_name = "ID")]
    subscription: Option<String>,
    /// Name to remember it by; it becomes the current one
    #[arg(long, value_name = "NAME", default_value = CONTEXT)]
    context: String,
}

/// Tries the service and writes the context.
pub(crate) async fn run(arguments: LoginArguments, output: Output) -> Result<u8, Failure> {
    let LoginArguments { service, token_file, ca, factory, resource_group, subscription, context } = arguments;
    let token_file = absolute(&token_file)?;
    let ca = ca.as_deref().map(absolute).transpose()?;
    let client = Client::open(&ServiceArguments {
        context: None,
        service: Some(service),
        token_file: Some(token_file.clone()),
        ca: ca.clone(),
        factory: factory.clone(),
        resource_group: resource_group.clone(),
        subscription: subscription.clone(),
    })?;
    let factories = client.list(&client.factories(), V2).await?;
    if let Some(name) = &factory {
        let known = factories.iter().filter_map(|one| one["name"].as_str());
        if !known.into_iter().any(|one| one.eq_ignore_ascii_case(name)) {
            return Err(Fault::new(
                "UserErrorNotFound",
                format!("The service has no factory \"{name}\" in this group."),
            )
            .remedy("Check the name, or log in without --factory and make it first.")
            .into());
        }
    }
    let path = Contexts::path()?;
    let mut all = Contexts::load(&path)?;
    let service = client.service().to_owned();
    let entry = Context { service: service.clone(), token_file, ca, factory, resource_group, subscription };
    all.contexts.insert(context.clone(), entry);
    all.current = Some(context.clone());
    all.save(&path)?;
    let count = factories.len();
    output.answer(&json!({ "context": context, "service": service, "factories": count, "file": path }), || {
        let factories = match count {
            0 => "no factory yet".to_owned(),
            1 => format!("factory {}", factories[0]["name"].as_str().unwrap_or_default()),
            many => format!("{many} factories"),
        };
        format!("Logged in to {service} ({factories}). Remembered as \"{context}\" in {}.", path.display())
    });
    Ok(0)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| file_fault("found", path, &error).into_configuration())
}
