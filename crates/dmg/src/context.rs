//! Which service a command talks to: flags first, then a named context of the user's configuration folder, then
//! defaults. A context holds paths and names; the token stays in its own file.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use dmg_protocol::{Fault, Secret};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, IntoConfiguration, file_fault};

/// The subscription (tenant) of a service that serves one company.
pub(crate) const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";
/// The resource group used where none is named.
pub(crate) const RESOURCE_GROUP: &str = "default";
/// The context `dmg login` writes where no name is given.
pub(crate) const CONTEXT: &str = "default";

/// Which service, and what of it. Each flag is for this one command and wins over the context.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct ServiceArguments {
    /// Context written by `dmg login`; the last one where none is named
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Address of the service, https://host:port
    #[arg(long, value_name = "URL")]
    pub(crate) service: Option<String>,
    /// File that holds the access token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file of the certificate to trust, for a service with one of its own
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Factory; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    pub(crate) factory: Option<String>,
    /// Resource group
    #[arg(long, value_name = "NAME")]
    pub(crate) resource_group: Option<String>,
    /// Subscription
    #[arg(long, value_name = "ID")]
    pub(crate) subscription: Option<String>,
}

/// All contexts of a user, `contexts.toml`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one used where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One remembered service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Address.
    pub(crate) service: String,
    /// File that holds the token.
    pub(crate) token_file: PathBuf,
    /// Certificate to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// Factory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) factory: Option<String>,
    /// Resource group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resource_group: Option<String>,
    /// Subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subscription: Option<String>,
}

/// Everything needed to talk to a service.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) service: String,
    pub(crate) token: Secret<String>,
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) factory: Option<String>,
    pub(crate) resource_group: String,
    pub(crate) subscription: String,
}

impl Contexts {
    /// `$XDG_CONFIG_HOME/dmg/contexts.toml`.
    pub(crate) fn path() -> Result<PathBuf, Failure> {
        dmg_ambient::environment("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| dmg_ambient::environment("HOME").map(|home| Path::new(&home).join(".config")))
            .map(|folder| folder.join("dmg/contexts.toml"))
            .ok_or_else(|| {
                Failure::configuration("Neither XDG_CONFIG_HOME nor HOME says where your configuration is.")
                    .remedy("Set one of them, or give --service and --token-file.")
            })
    }

    /// Reads the user's contexts; none where there is no file.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(file_fault("read", path, &error).into_configuration()),
        };
        toml::from_str(&text).map_err(|error| {
            Failure::configuration(format!("{} cannot be understood: {}", path.display(), error.to_string().trim_end()))
                .remedy("Correct the file, or delete it and run dmg login again.")
        })
    }

    /// Writes them in one step, for their owner only.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self).expect("names and paths always become TOML");
        let folder = path.parent().unwrap_or(Path::new("."));
        let beside = path.with_extension("part");
        let write = || {
            std::fs::create_dir_all(folder)?;
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        write().map_err(|error| file_fault("written", path, &error).into_configuration())
    }
}

impl ServiceArguments {
    /// The context these flags name, if any is there.
    fn stored(&self) -> Result<Option<Context>, Failure> {
        if self.service.is_some() && self.context.is_none() {
            return Ok(None);
        }
        let mut all = Contexts::load(&Contexts::path()?)?;
        let named = self.context.clone();
        let Some(name) = named.or(all.current.take()) else { return Ok(None) };
        match all.contexts.remove(&name) {
            Some(context) => Ok(Some(context)),
            None => {
                let known: Vec<_> = all.contexts.keys().cloned().collect();
                let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
                Err(Failure::configuration(format!("There is no context \"{name}\"; known: {known}."))
                    .remedy("Name a known one, or run dmg login --service URL --token-file FILE first."))
            }
        }
    }

    /// Flags over context over defaults.
    pub(crate) fn connection(&self) -> Result<Connection, Failure> {
        let stored = self.stored()?;
        let stored = stored.as_ref();
        let service = self.service.clone().or_else(|| stored.map(|context| context.service.clone()));
        let Some(service) = service else {
            return Err(Failure::configuration("Nothing says which service is meant.")
                .remedy("Run dmg login --service URL --token-file FILE once, or give these flags."));
        };
        let service = check_service(&service)?;
        let token_file = self.token_file.clone().or_else(|| stored.map(|context| context.token_file.clone()));
        let Some(token_file) = token_file else {
            return Err(Failure::configuration("Nothing says where the access token is.")
                .remedy("Add --token-file FILE; the service wrote one to admin.token in its data folder."));
        };
        let token = std::fs::read_to_string(&token_file)
            .map_err(|error| file_fault("read", &token_file, &error).into_configuration())?;
        let ca = match self.ca.as_deref().or_else(|| stored.and_then(|context| context.ca.as_deref())) {
            Some(path) => {
                Some(std::fs::read(path).map_err(|error| file_fault("read", path, &error).into_configuration())?)
            }
            None => None,
        };
        let pick =
            |flag: &Option<String>, stored: Option<&Option<String>>| flag.clone().or_else(|| stored.cloned().flatten());
        Ok(Connection {
            service,
            token: Secret::new(token.trim().to_owned()),
            ca,
            factory: pick(&self.factory, stored.map(|context| &context.factory)),
            resource_group: pick(&self.resource_group, stored.map(|context| &context.resource_group))
                .unwrap_or_else(|| RESOURCE_GROUP.to_owned()),
            subscription: pick(&self.subscription, stored.map(|context| &context.subscription))
                .unwrap_or_else(|| SUBSCRIPTION.to_owned()),
        })
    }
}

/// The address without a trailing slash; refused unless it is `https://host[:port]`.
pub(crate) fn check_service(text: &str) -> Result<String, Failure> {
    let refuse = |why: &str| {
        Fault::new("UserErrorSettings", format!("\"{text}\" is no address of a service: {why}."))
            .remedy("Write https://host:port.")
            .into_configuration()
    };
    let url = url::Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
    if url.scheme() != "https" {
        return Err(refuse("only https is spoken"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(refuse("it holds more than host and port"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_survive_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("dmg/contexts.toml");
        assert!(Contexts::load(&path).expect("empty").contexts.is_empty());
        let mut all = Contexts { current: Some("a".into()), ..Contexts::default() };
        let context = Context {
            service: "https://h:1".into(),
            token_file: "/t".into(),
            ca: None,
            factory: Some("acme".into()),
            resource_group: None,
            subscription: None,
        };
        all.contexts.insert("a".into(), context.clone());
        all.save(&path).expect("saved");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("there").permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Contexts::load(&path).expect("read").contexts["a"], context);
        std::fs::write(&path, "current = [").expect("written");
        assert_eq!(Contexts::load(&path).expect_err("broken").exit, 64);
    }

    #[test]
    fn addresses() {
        assert_eq!(check_service("https://h:1/").expect("good"), "https://h:1");
        for bad in ["http://h:1", "h:1", "https://u:p@h", "https://h?x=1"] {
            assert_eq!(check_service(bad).expect_err(bad).exit, 64, "{bad}");
        }
    }
}
