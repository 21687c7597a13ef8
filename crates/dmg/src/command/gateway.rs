//! `dmg gateway`: gateways and their keys. `create` prints what the original's cmdlet printed, key included, because
//! people have scripts and habits that read it.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, V1, V2, nothing, segment};
use crate::context::ServiceArguments;
use crate::display::{Output, Table, moment, word};
use crate::failure::Failure;

/// `dmg gateway …`
#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Make a gateway and print its key
    Create(Create),
    /// List the gateways of the factory
    List(List),
    /// Show a gateway and its nodes
    Show(Name),
    /// Delete a gateway; its nodes are cut off
    Delete(Name),
    /// The keys nodes register with
    #[command(subcommand)]
    Key(KeyCommand),
}

/// `dmg gateway key …`
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Print both keys; either registers a node
    List(KeyList),
    /// Replace a key; nodes that are registered stay
    Regenerate(Regenerate),
}

/// A new gateway.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name
    name: String,
    /// A line for people
    #[arg(long, default_value = "")]
    description: String,
    #[command(flatten)]
    service: ServiceArguments,
}

/// Which service.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    service: ServiceArguments,
}

/// One gateway.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The gateway
    name: String,
    #[command(flatten)]
    service: ServiceArguments,
}

/// In which look keys are printed. All are texts of the same two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Look {
    /// IR@…
    V2,
    /// DMG@…
    V1,
}

/// Whose keys.
#[derive(Debug, Args)]
pub(crate) struct KeyList {
    /// The gateway
    name: String,
    /// Look of the key: v2 prints IR@…, v1 prints DMG@…
    #[arg(long, value_enum, default_value = "v2", hide_possible_values = true, value_name = "v1|v2")]
    look: Look,
    #[command(flatten)]
    service: ServiceArguments,
}

/// Which key to replace.
#[derive(Debug, Args)]
pub(crate) struct Regenerate {
    /// The gateway
    name: String,
    /// 1 or 2
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    slot: u8,
    /// Also cut off all nodes of the gateway, within seconds (version 1's regenerate key)
    #[arg(long, conflicts_with = "slot")]
    cut_off: bool,
    #[command(flatten)]
    service: ServiceArguments,
}

/// Runs `dmg gateway`.
pub(crate) async fn run(command: GatewayCommand, output: Output) -> Result<u8, Failure> {
    match command {
        GatewayCommand::Create(arguments) => create(arguments, output).await,
        GatewayCommand::List(arguments) => list(arguments, output).await,
        GatewayCommand::Show(arguments) => show(arguments, output).await,
        GatewayCommand::Delete(arguments) => {
            let client = Client::open(&arguments.service)?;
            let there = client.delete(&runtime(&client, &arguments.name).await?, V2).await?;
            output.answer(&json!({ "deleted": there }), || match there {
                true => format!("Gateway {} deleted.", arguments.name),
                false => format!("There was no gateway {}.", arguments.name),
            });
            Ok(0)
        }
        GatewayCommand::Key(KeyCommand::List(arguments)) => key_list(arguments, output).await,
        GatewayCommand::Key(KeyCommand::Regenerate(arguments)) => key_regenerate(arguments, output).await,
    }
}

/// The gateway as version 2's integration runtime.
async fn runtime(client: &Client, name: &str) -> Result<String, Failure> {
    let factory = client.factory().await?;
    Ok(format!("{}/integrationRuntimes/{}", client.factory_path(&factory), segment(name)))
}

/// The gateway as version 1 shows it.
async fn gateway_v1(client: &Client, name: &str) -> Result<String, Failure> {
    let factory = client.factory().await?;
    Ok(format!("{}/gateways/{}", client.factory_path_v1(&factory), segment(name)))
}

async fn create(arguments: Create, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let path = gateway_v1(&client, &arguments.name).await?;
    let body = json!({ "name": arguments.name, "properties": { "description": arguments.description } });
    let gateway = client.send(Method::PUT, &path, V1, Some(&body)).await?.body;
    output.answer(&gateway, || cmdlet_text(&gateway));
    Ok(0)
}

/// The look of the original's `New-AzureDataFactoryGateway`.
pub(crate) fn cmdlet_text(gateway: &Value) -> String {
    let properties = &gateway["properties"];
    let lines = [
        ("Name", word(&gateway["name"])),
        ("Description", word(&properties["description"])),
        ("Version", word(&properties["version"])),
        ("Status", word(&properties["status"])),
        ("VersionStatus", word(&properties["versionStatus"])),
        ("CreateTime", cmdlet_time(&word(&properties["createTime"]))),
        ("RegisterTime", cmdlet_time(&word(&properties["registerTime"]))),
        ("LastConnectTime", cmdlet_time(&word(&properties["lastConnectTime"]))),
        ("ExpiryTime", cmdlet_time(&word(&properties["expiryTime"]))),
        ("ProvisioningState", word(&properties["provisioningState"])),
        ("Key", word(&properties["key"])),
    ];
    let lines = lines.map(|(name, value)| format!("{name:<17} : {value}").trim_end().to_owned());
    lines.join("\n")
}

/// `2014-09-28T10:58:22Z` as the cmdlet wrote it: `9/28/2014 10:58:22`.
fn cmdlet_time(text: &str) -> String {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<u32>().ok());
    match (number(0, 4), number(5, 7), number(8, 10), text.get(11..19)) {
        (Some(year), Some(month), Some(day), Some(time)) => format!("{month}/{day}/{year} {time}"),
        _ => String::new(),
    }
}

async fn list(arguments: List, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    let path = format!("{}/gateways", client.factory_path_v1(&factory));
    let all = client.list(&path, V1).await?;
    output.answer(&json!(all), || {
        let mut table = Table::new(&["NAME", "STATUS", "VERSION", "LAST CONNECTED", "DESCRIPTION"]);
        for gateway in &all {
            let properties = &gateway["properties"];
            table.row([
                word(&gateway["name"]),
                output.status(&word(&properties["status"])),
                word(&properties["version"]),
                moment(&word(&properties["lastConnectTime"])),
                word(&properties["description"]),
            ]);
        }
        table.text("There is no gateway yet. Make one with dmg gateway create NAME.")
    });
    Ok(0)
}

async fn show(arguments: Name, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let path = runtime(&client, &arguments.name).await?;
    let status = client.post(&format!("{path}/getStatus"), V2, &nothing()).await?;
    output.answer(&status, || {
        let inner = &status["properties"]["typeProperties"];
        let mut text = format!(
            "{}  {}\n",
            output.strong(&word(&status["name"])),
            output.status(&word(&status["properties"]["state"]))
        );
        let mut table = Table::new(&["NODE", "STATUS", "MACHINE", "VERSION", "REGISTERED", "LAST CONNECTED", "JOBS"]);
        for node in inner["nodes"].as_array().into_iter().flatten() {
            table.row([
                word(&node["nodeName"]),
                output.status(&word(&node["status"])),
                word(&node["machineName"]),
                word(&node["version"]),
                moment(&word(&node["registerTime"])),
                moment(&word(&node["lastConnectTime"])),
                word(&node["concurrentJobsLimit"]),
            ]);
        }
        text.push_str(&table.text("No node is registered. Run dmg node register KEY --data DIR next to the data."));
        text
    });
    Ok(0)
}

async fn key_list(arguments: KeyList, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let keys = match arguments.look {
        Look::V2 => {
            let path = runtime(&client, &arguments.name).await?;
            client.post(&format!("{path}/listAuthKeys"), V2, &nothing()).await?
        }
        Look::V1 => {
            let path = gateway_v1(&client, &arguments.name).await?;
            client.post(&format!("{path}/listauthkeys"), V1, &nothing()).await?
        }
    };
    output.answer(&keys, || key_lines(&keys));
    Ok(0)
}

async fn key_regenerate(arguments: Regenerate, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let keys = if arguments.cut_off {
        let path = gateway_v1(&client, &arguments.name).await?;
        client.post(&format!("{path}/regeneratekey"), V1, &nothing()).await?
    } else {
        let path = runtime(&client, &arguments.name).await?;
        let body = json!({ "keyName": format!("authKey{}", arguments.slot) });
        client.post(&format!("{path}/regenerateAuthKey"), V2, &body).await?
    };
    output.answer(&keys, || key_lines(&keys));
    Ok(0)
}

/// One key a line, named as the API names it.
fn key_lines(keys: &Value) -> String {
    let members = keys.as_object().into_iter().flatten().filter(|(_, key)| !key.is_null());
    members.map(|(name, key)| format!("{name} : {}\n", word(key))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_looks_like_the_cmdlet() {
        let gateway = json!({
            "name": "MyGateway",
            "properties": {
                "description": "gateway for walkthrough",
                "status": "NeedRegistration",
                "versionStatus": "None",
                "createTime": "2014-09-28T10:58:22.1234567Z",
                "provisioningState": "Succeeded",
                "key": "ADF#g@f@s@h:1#secret"
            }
        });
        let expected = "\
Name              : MyGateway
Description       : gateway for walkthrough
Version           :
Status            : NeedRegistration
VersionStatus     : None
CreateTime        : 9/28/2014 10:58:22
RegisterTime      :
LastConnectTime   :
ExpiryTime        :
ProvisioningState : Succeeded
Key               : ADF#g@f@s@h:1#secret";
        assert_eq!(cmdlet_text(&gateway), expected);
    }
}
