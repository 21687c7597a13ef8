//! The settings of a linked service to Azure Blob Storage, checked, and joined with its secrets into an endpoint and
//! a way to log in. Nothing is opened here.

use dmg_ambient::Ambient;
use dmg_connector::Result;
use dmg_protocol::{Fault, Secret, Secrets};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::{Host, Url};

use super::login::Login;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Settings {
    account: Option<String>,
    endpoint: Option<String>,
    container: Option<String>,
    default_endpoints_protocol: Option<String>,
    endpoint_suffix: Option<String>,
    /// Every kind that has blobs is used alike.
    #[serde(rename = "accountKind")]
    _account_kind: Option<String>,
    authentication_type: Option<String>,
}

/// Where the blobs are.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) account: String,
    /// Without query, ending in the account.
    pub(super) endpoint: Url,
    pub(super) container: Option<String>,
}

fn refused(message: impl Into<String>) -> Fault {
    Fault::new("UserErrorSettings", message)
}

impl Settings {
    pub(super) fn read(settings: &Map<String, Value>) -> Result<Self> {
        let mut read: Settings = serde_json::from_value(Value::Object(settings.clone()))
            .map_err(|error| refused(format!("The settings of Azure Blob Storage are refused: {error}.")))?;
        for text in [
            &mut read.account,
            &mut read.endpoint,
            &mut read.container,
            &mut read.default_endpoints_protocol,
            &mut read.endpoint_suffix,
        ] {
            *text = text.take().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        }
        if let Some(account) = &read.account
            && (account.len() > 64 || !account.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
        {
            return Err(refused(format!("\"{account}\" is not the name of a storage account.")).into());
        }
        if let Some(container) = &read.container {
            container_name(container)?;
        }
        if let Some(how) = &read.authentication_type
            && !["accountkey", "sasuri", "sastoken"].contains(&how.to_ascii_lowercase().as_str())
        {
            let message = format!("Logging in to Azure Blob Storage by \"{how}\" is not supported yet.");
            let fault = Fault::new("UserErrorNotSupported", message);
            return Err(fault.remedy("Use an account key or a shared access signature.").into());
        }
        if read.endpoint.is_some() || read.account.is_some() {
            read.address()?;
        }
        Ok(read)
    }

    /// The endpoint by the settings alone.
    fn address(&self) -> Result<Url> {
        let text = match (&self.endpoint, &self.account) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(account)) => {
                let protocol = self.default_endpoints_protocol.as_deref().unwrap_or("https");
                let suffix = self.endpoint_suffix.as_deref().unwrap_or("core.windows.net");
                format!("{protocol}://{account}.blob.{suffix}")
            }
            (None, None) => {
                let fault = refused("The linked service names neither a storage account nor an endpoint.");
                return Err(fault.remedy("Give account or endpoint, or a SAS URI.").into());
            }
        };
        let url = Url::parse(&text).map_err(|_| refused("The blob endpoint is not a URL."))?;
        checked(url)
    }

    /// Joins the settings with the secrets.
    pub(super) fn with_secrets(self, secrets: &Secrets, ambient: &Ambient) -> Result<(Target, Login)> {
        if let Some(uri) = secrets.get("sasUri") {
            return self.with_sas_uri(uri, secrets);
        }
        let endpoint = self.address()?;
        let account = self.account.clone().or_else(|| account_of(&endpoint)).ok_or_else(|| {
            refused("The storage account's name cannot be told from the endpoint.")
                .remedy("Give the account's name as well.")
        })?;
        let login = match (secrets.get("accountKey"), secrets.get("sasToken")) {
            (Some(key), _) => Login::by_key(&account, key, endpoint.scheme() == "https", ambient.clone())?,
            (None, Some(token)) => Login::by_token(token)?,
            (None, None) => return Err(no_secret().into()),
        };
        Ok((Target { account, endpoint, container: self.container }, login))
    }

    fn with_sas_uri(self, uri: &Secret<String>, secrets: &Secrets) -> Result<(Target, Login)> {
        let parsed = Url::parse(uri.expose().trim()).map_err(|_| refused("The SAS URI is not a URL."))?;
        let token = match (parsed.query(), secrets.get("sasToken")) {
            (Some(query), _) if !query.is_empty() => Login::by_token(&Secret::new(query.to_owned()))?,
            (_, Some(token)) => Login::by_token(token)?,
            _ => return Err(refused("The SAS URI has no signature after a question mark.").into()),
        };
        let mut endpoint = parsed.clone();
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        // Emulators put the account first in the path; what follows it, or all of the path elsewhere, is the container.
        let in_path = !matches!(parsed.host(), Some(Host::Domain(host)) if host != "localhost");
        let mut names: Vec<String> =
            parsed.path().split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let first = if in_path && !names.is_empty() { names.remove(0) } else { String::new() };
        endpoint.set_path(&first);
        if names.len() > 1 {
            let fault = refused("The SAS URI leads to a single blob; that is not supported.");
            return Err(fault.remedy("Give a SAS URI of the account or of a container.").into());
        }
        let container = match (names.pop(), self.container.clone()) {
            (Some(named), Some(set)) if named != set => {
                return Err(refused(format!(
                    "The SAS URI is for container \"{named}\", the linked service names \"{set}\"."
                ))
                .into());
            }
            (named, set) => named.or(set),
        };
        let endpoint = checked(endpoint)?;
        if self.endpoint.is_some() || self.account.is_some() {
            let set = self.address()?;
            if (set.host_str(), set.port_or_known_default()) != (endpoint.host_str(), endpoint.port_or_known_default())
            {
                return Err(
                    refused("The SAS URI leads to another host than the endpoint of the linked service.").into()
                );
            }
        }
        let account = self.account.or_else(|| account_of(&endpoint)).unwrap_or_else(|| "?".to_owned());
        Ok((Target { account, endpoint, container }, token))
    }
}

fn no_secret() -> Fault {
    Fault::new(
        "UserErrorLoginRefused",
        "There is neither an account key nor a shared access signature for Azure Blob Storage.",
    )
    .remedy("Give the linked service an account key or a shared access signature.")
}

/// Naming rule of containers; `$root`, `$web` and `$logs` are the store's own.
pub(super) fn container_name(name: &str) -> Result<()> {
    let plain = (3..=63).contains(&name.len())
        && name.split('-').all(|group| !group.is_empty())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if plain || ["$root", "$web", "$logs"].contains(&name) {
        return Ok(());
    }
    let fault = refused(format!("\"{name}\" cannot be the name of a blob container."));
    Err(fault.remedy("Use 3 to 63 lower-case letters, digits and single dashes; a path begins with the container where the linked service names none.").into())
}

fn checked(mut url: Url) -> Result<Url> {
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refused("The blob endpoint must begin with https:// or http:// and name a host.").into());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        let fault = refused("The blob endpoint must hold neither a log-in nor a signature.");
        return Err(fault.remedy("Give a shared access signature as sasUri or sasToken.").into());
    }
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn account_of(endpoint: &Url) -> Option<String> {
    match endpoint.host()? {
        Host::Domain(host) if host != "localhost" => host.split('.').next().map(str::to_owned),
        _ => endpoint.path_segments()?.next().filter(|name| !name.is_empty()).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(settings: Value, secrets: &[(&str, &str)]) -> String {
        let Value::Object(settings) = settings else { panic!("settings are an object") };
        let secrets = secrets.iter().map(|(name, value)| ((*name).to_owned(), Secret::from(*value))).collect();
        let joined = Settings::read(&settings).and_then(|read| read.with_secrets(&secrets, &Ambient::test(1)));
        match joined {
            Ok((target, _)) => {
                format!("{} {} {}", target.account, target.endpoint, target.container.unwrap_or_default())
            }
            Err(error) => format!("{}: {}", error.fault.code, error.fault.message),
        }
    }

    #[test]
    fn endpoints_and_containers() {
        let key = [("accountKey", "a2V5")];
        let sas = "sv=2023-11-03&sig=c2ln";
        assert_eq!(check(json!({"account": "acme"}), &key), "acme https://acme.blob.core.windows.net/ ");
        assert_eq!(
            check(json!({"account": "acme", "endpointSuffix": "core.chinacloudapi.cn", "container": "raw"}), &key),
            "acme https://acme.blob.core.chinacloudapi.cn/ raw"
        );
        assert_eq!(
            check(json!({"account": "devstoreaccount1", "endpoint": "http://127.0.0.1:10000/devstoreaccount1/"}), &key),
            "devstoreaccount1 http://127.0.0.1:10000/devstoreaccount1 "
        );
        for (uri, expected) in [
            ("https://acme.blob.core.windows.net/?", "acme https://acme.blob.core.windows.net/ "),
            ("https://acme.blob.core.windows.net/raw?", "acme https://acme.blob.core.windows.net/ raw"),
            ("http://127.0.0.1:1/devstoreaccount1/raw?", "devstoreaccount1 http://127.0.0.1:1/devstoreaccount1 raw"),
        ] {
            assert_eq!(check(json!({}), &[("sasUri", &format!("{uri}{sas}"))]), expected);
        }
        assert_eq!(
            check(json!({"account": "acme"}), &[("sasToken", "?sv=1&sig=x")]),
            "acme https://acme.blob.core.windows.net/ "
        );
    }

    #[test]
    fn what_is_refused_says_why_without_the_secret() {
        for (settings, secrets, code) in [
            (json!({"account": "acme"}), vec![], "UserErrorLoginRefused"),
            (json!({}), vec![("accountKey", "a2V5")], "UserErrorSettings"),
            (json!({"account": "acme"}), vec![("accountKey", "hunter2 hunter2")], "UserErrorLoginRefused"),
            (json!({"account": "a/b"}), vec![], "UserErrorSettings"),
            (json!({"account": "acme", "container": "Raw"}), vec![], "UserErrorSettings"),
            (json!({"account": "acme", "authenticationType": "Msi"}), vec![], "UserErrorNotSupported"),
            (json!({"endpoint": "https://a.b?sig=hunter2"}), vec![], "UserErrorSettings"),
            (
                json!({"account": "other"}),
                vec![("sasUri", "https://acme.blob.core.windows.net?sig=hunter2")],
                "UserErrorSettings",
            ),
            (json!({}), vec![("sasUri", "https://acme.blob.core.windows.net/")], "UserErrorSettings"),
        ] {
            let answer = check(settings, &secrets);
            assert!(answer.starts_with(code), "{answer}");
            assert!(!answer.contains("hunter2"), "{answer}");
        }
    }
}
