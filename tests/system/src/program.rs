//! The real executable and the judges, run as processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a program answered.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Answer {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Answer {
        let output = command.stdin(Stdio::null()).output().expect("the program starts");
        Answer {
            code: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.output, self.errors))
    }

    /// Wants success.
    ///
    /// # Panics
    /// When it failed.
    #[must_use]
    pub fn ok(self) -> Answer {
        assert_eq!(self.code, 0, "{}\n{}", self.output, self.errors);
        self
    }

    /// Wants failure and the fault's code in the text.
    ///
    /// # Panics
    /// When it succeeded or failed otherwise.
    #[must_use]
    pub fn fault(self, code: &str) -> Answer {
        let said = format!("{}\n{}", self.output, self.errors);
        assert!(self.code != 0 && said.contains(code), "wanted {code}, exit code {}:\n{said}", self.code);
        self
    }
}

/// Path of the executable that was built with these tests.
///
/// # Panics
/// When it was not built.
pub fn path() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.parent().and_then(Path::parent).expect("tests are in target/PROFILE/deps");
    let path = folder.join("dmg");
    assert!(path.exists(), "build the executable first: cargo build --profile quick -p dmg");
    path
}

/// The executable with arguments, and no settings of the person who runs the tests.
pub fn dmg<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(path());
    command.args(arguments).env_remove("DMG_LOG").env("XDG_CONFIG_HOME", "/nonexistent");
    command
}

/// A file below `tests/`.
pub fn test_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/").join(name)
}

/// A judge in Python, if its interpreter is there.
pub fn judge<I: AsRef<std::ffi::OsStr>>(script: &str, arguments: impl IntoIterator<Item = I>) -> Option<Command> {
    let mut command = Command::new(dmg_ambient::environment("DMG_TEST_PYTHON")?);
    command.arg(test_file(script)).args(arguments);
    Some(command)
}

/// The payload of a signed receipt.
///
/// # Panics
/// When the file holds none.
pub fn receipt(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("the receipt was written");
    let signed: Value = serde_json::from_str(&text).expect("it is JSON");
    serde_json::from_str(signed["payload"].as_str().expect("it is signed")).expect("its payload is JSON")
}
