//! How a secret enters: from a file, or typed on a terminal. Never from an argument or the environment.

use std::io::IsTerminal;
use std::path::Path;

use dmg_protocol::{Fault, Secret};

use crate::failure::{Failure, IntoConfiguration, file_fault};

/// A password from a file, else typed; `confirm` asks twice, for a password that nobody could correct later.
pub(crate) fn password(
    file: Option<&Path>,
    prompt: &str,
    flag: &str,
    confirm: bool,
) -> Result<Secret<String>, Failure> {
    if let Some(path) = file {
        return from_file(path);
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::configuration("A password is needed, and there is no terminal to ask on.")
            .remedy(format!("Put it into a file and name that with {flag} FILE.")));
    }
    let typed = ask(prompt)?;
    if confirm && ask("The same again: ")?.expose() != typed.expose() {
        return Err(Failure::configuration("The two passwords differ.").remedy("Try again."));
    }
    Ok(typed)
}

/// The first line of a file.
pub(crate) fn from_file(path: &Path) -> Result<Secret<String>, Failure> {
    let text = Secret::new(
        std::fs::read_to_string(path).map_err(|error| file_fault("read", path, &error).into_configuration())?,
    );
    let line = text.expose().lines().next().unwrap_or_default().to_owned();
    if line.is_empty() {
        return Err(Failure::configuration(format!("The file {} is empty.", path.display()))
            .remedy("Put the secret on its first line."));
    }
    Ok(Secret::new(line))
}

fn ask(prompt: &str) -> Result<Secret<String>, Failure> {
    rpassword::prompt_password(prompt).map(Secret::new).map_err(|error| {
        Fault::new("UserErrorSettings", format!("The password cannot be asked for: {error}.")).into_configuration()
    })
}
