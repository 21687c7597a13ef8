//! The whole product against the TDS fixture: what a log-in may cost, a token from the command line, a redirect.

use std::path::Path;

use dmg_system_tests::{Answer, dmg};
use dmg_tds_fixture::{Armed, Fault, Fixture, Options};

fn fixture(token: &str) -> Fixture {
    Fixture::start(Options { token: token.into(), ..Options::default() }).expect("the TDS fixture starts")
}

/// `dmg copy` of a query into a file, with the secret in a file.
fn copy(fixture: &Fixture, user: &str, more: &str, secret: &str, folder: &Path) -> Answer {
    let file = folder.join("secret");
    std::fs::write(&file, secret).expect("written");
    let uri = format!("sqlserver://{user}127.0.0.1:{}/fixture?trustServerCertificate=true{more}", fixture.port);
    let to = format!("file:{}", folder.join("out.parquet").display());
    let file = file.to_str().expect("a name");
    let query = "SELECT 1 AS id, N'a' AS name";
    let mut command =
        dmg(["copy", "--from", &uri, "--secret-file", file, "--query", query, "--to", &to, "--mode", "overwrite"]);
    // As much as there is to be seen.
    Answer::of(command.env("DMG_LOG", "trace"))
}

fn count(fixture: &Fixture, text: &str) -> usize {
    fixture.requests().iter().filter(|request| request.starts_with(text)).count()
}

#[test]
fn a_wrong_password_is_tried_once_by_a_whole_copy() {
    let (server, folder) = (fixture("t"), tempfile::tempdir().expect("a folder"));
    let _ = copy(&server, "sa@", "", "wrong", folder.path()).fault("UserErrorLoginRefused");
    assert_eq!(count(&server, "login refused"), 1, "the server counts tries and locks the log-in");
    assert!(!folder.path().join("out.parquet").exists());
    let _ = copy(&server, "sa@", "", "Fixture-Password-1", folder.path()).ok();
    assert!(folder.path().join("out.parquet").exists());
}

#[test]
fn a_token_logs_in_from_the_command_line() {
    let (server, folder) = (fixture("entra-7"), tempfile::tempdir().expect("a folder"));
    let _ = copy(&server, "", "&authenticationType=AccessToken", "entra-7", folder.path()).ok();
    let answer =
        copy(&server, "", "&authenticationType=AccessToken", "entra-8", folder.path()).fault("UserErrorLoginRefused");
    assert!(!format!("{answer:?}").contains("entra-8"), "a token is never shown");
    let _ =
        copy(&server, "sa@", "&authenticationType=ServicePrincipal", "x", folder.path()).fault("UserErrorNotSupported");
}

#[test]
fn what_the_server_quotes_of_a_row_is_never_shown() {
    let (server, folder) = (fixture("t"), tempfile::tempdir().expect("a folder"));
    let message = "Violation of PRIMARY KEY constraint 'PK'. The duplicate key value is (private-value).";
    server.fault(Armed { when: "N'a' AS name".into(), times: 100, ..Armed::next(Fault::Error(2627, message.into())) });
    let answer = copy(&server, "sa@", "", "Fixture-Password-1", folder.path()).fault("UserErrorValue");
    assert!(!format!("{answer:?}").contains("private-value"), "{answer:?}");
}

#[test]
fn a_redirect_to_a_host_that_nobody_named_ends_the_copy() {
    let (front, back) = (fixture("t"), fixture("t"));
    let folder = tempfile::tempdir().expect("a folder");
    let sends_on = || {
        let fault = Fault::Redirect("localhost".into(), back.port);
        front.fault(Armed { times: 1000, ..Armed::next(fault) });
    };
    sends_on();
    let answer = copy(&front, "sa@", "", "Fixture-Password-1", folder.path()).fault("UserErrorCredentialBound");
    assert!(
        answer.errors.contains("localhost") && answer.errors.contains("redirectHosts=localhost"),
        "{}",
        answer.errors
    );
    assert_eq!(count(&back, "login"), 0, "nothing was sent there");
    let _ = copy(&front, "sa@", "&redirectHosts=localhost", "Fixture-Password-1", folder.path()).ok();
    assert!(count(&back, "login sa fixture") > 0);
}
