//! The settings of a linked service to local files, checked. Nothing is opened here.

use std::path::PathBuf;

use dmg_connector::Result;
use dmg_protocol::Fault;
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    root: Option<String>,
    user_id: Option<String>,
}

/// What the store needs to know.
#[derive(Debug)]
pub(super) struct Settings {
    /// An absolute folder.
    pub(super) root: PathBuf,
}

/// Why a user name or password is refused.
pub(super) fn no_log_in() -> Fault {
    Fault::new("UserErrorNotSupported", "Logging in to a file server with user name and password is not supported.")
        .remedy("Mount the share on the gateway's machine, name the mounted folder as host, and leave userId and password out.")
}

impl Settings {
    pub(super) fn read(settings: &Map<String, Value>) -> Result<Self> {
        let written: Written = serde_json::from_value(Value::Object(settings.clone())).map_err(|error| {
            Fault::new("UserErrorSettings", format!("The settings of the file system are refused: {error}."))
        })?;
        if written.user_id.is_some_and(|user| !user.trim().is_empty()) {
            return Err(no_log_in().into());
        }
        let root = match written.root.as_deref().map(str::trim) {
            // The original meant the gateway's own machine by "localhost"; the path then names the whole way.
            None | Some("" | "localhost") => "/",
            Some(root) => root,
        };
        if root.starts_with("\\\\") {
            let fault = Fault::new(
                "UserErrorNotSupported",
                format!("The file share \"{root}\" cannot be opened by its network name."),
            );
            return Err(fault
                .remedy("Mount the share on the gateway's machine and name the mounted folder as host.")
                .into());
        }
        if !root.starts_with('/') || root.contains('\0') {
            let fault = Fault::new(
                "UserErrorSettings",
                format!("The folder \"{root}\" is not an absolute path of the gateway's machine."),
            );
            return Err(fault.remedy("Give the whole path from / on, such as /srv/data.").into());
        }
        Ok(Settings { root: PathBuf::from(root) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: Value) -> String {
        let Value::Object(written) = written else { panic!("settings are an object") };
        match Settings::read(&written) {
            Ok(settings) => settings.root.display().to_string(),
            Err(error) => error.fault.code.clone(),
        }
    }

    #[test]
    fn roots_are_folders_of_this_machine() {
        use serde_json::json;
        assert_eq!(check(json!({})), "/");
        assert_eq!(check(json!({"root": "localhost"})), "/");
        assert_eq!(check(json!({"root": "/srv/data"})), "/srv/data");
        assert_eq!(check(json!({"root": "srv"})), "UserErrorSettings");
        assert_eq!(check(json!({"root": "D:\\"})), "UserErrorSettings");
        assert_eq!(check(json!({"root": "\\\\server\\share"})), "UserErrorNotSupported");
        assert_eq!(check(json!({"root": "/x", "userId": "DOM\\bob"})), "UserErrorNotSupported");
        assert_eq!(check(json!({"rooot": "/x"})), "UserErrorSettings");
        assert_eq!(check(json!({"root": 7})), "UserErrorSettings");
    }
}
