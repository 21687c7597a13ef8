//! Foreign clients drive the fixture: five unrelated readings of the protocol must agree with ours.
#![expect(clippy::print_stderr, reason = "what the judges say belongs to the test's output")]

use std::path::{Path, PathBuf};
use std::process::Command;

use dmg_tds_fixture::{Encryption, Fixture, Options};

/// What a judge needs, or a line that says it is missing.
fn judge() -> Option<(PathBuf, PathBuf)> {
    #[expect(clippy::disallowed_methods, reason = "a test is told by its environment where the judges are")]
    let python = std::env::var("DMG_TEST_PYTHON");
    let Ok(python) = python else {
        eprintln!("SKIPPED: DMG_TEST_PYTHON is not set, so no foreign client drives the TDS fixture");
        return None;
    };
    let python = PathBuf::from(python);
    // `.test-servers/venv/bin/python3` stands beside `.test-servers/tedious`.
    let place = python.parent()?.parent()?.parent()?.join("tedious");
    Some((python, place))
}

fn run(script: &str, options: Options) {
    let Some((python, tedious)) = judge() else { return };
    let fixture = Fixture::start(options).expect("the fixture starts");
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = folder.path().join("ca.pem");
    std::fs::write(&certificate, &fixture.certificate).expect("written");
    let output = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("judge").join(script))
        .arg(fixture.port.to_string())
        .env("DMG_TEST_TEDIOUS", tedious)
        .env("TDS_CERTIFICATE", certificate)
        .output()
        .expect("the judge starts");
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the judge found problems");
}

#[test]
fn every_type_is_read_written_and_loaded_alike_by_five_clients() {
    run("every_type.py", Options::default());
}

#[test]
fn clients_encrypt_fail_cancel_and_call() {
    run("conduct.py", Options::default());
}

#[test]
fn clr_types_row_versions_and_variants_are_read_alike() {
    run("others.py", Options::default());
}

#[test]
fn the_statements_it_knows_do_what_they_say() {
    run("statements.py", Options::default());
}

#[test]
fn a_server_that_requires_encryption_gets_it() {
    run("required.py", Options { encryption: Encryption::Required, ..Options::default() });
}

#[test]
fn clients_log_in_with_an_account_of_windows() {
    let windows = Some(("CORP\\etl".to_owned(), "Grüße-Windows-1".to_owned()));
    run("windows.py", Options { windows, ..Options::default() });
}
