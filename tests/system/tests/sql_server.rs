//! The whole product against the TDS fixture: what a log-in may cost, a token or an account of Windows from the command
//! line, a redirect.

use std::path::Path;

use dmg_system_tests::scan::{Scanner, named_forms};
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
    let answer = copy(&server, "sa@", "", "Fixture-Password-1", folder.path()).fault("UserErrorDuplicateKey");
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

#[test]
fn an_account_of_windows_copies_there_and_back_and_its_password_is_nowhere() {
    const PASSWORD: &str = "Grüße-Windows-Kanarie-7";
    let windows = Some(("CORP\\etl".to_owned(), PASSWORD.to_owned()));
    let server = Fixture::start(Options { windows, ..Options::default() }).expect("the TDS fixture starts");
    let (folder, kept) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let secret = kept.path().join("secret");
    std::fs::write(&secret, PASSWORD).expect("written");
    let rows: String = (0..5000).map(|row| format!("{row},name {row}\n")).collect();
    let (input, output) = (folder.path().join("in.csv"), folder.path().join("out.csv"));
    std::fs::write(&input, format!("id,name\n{rows}")).expect("written");
    let at = |user: &str| {
        format!(
            "sqlserver://{user}@127.0.0.1:{}/fixture?trustServerCertificate=true&authenticationType=Windows",
            server.port
        )
    };
    let run = |from: &str, to: &str, mode: &str| {
        let secret = secret.to_str().expect("a name");
        let mut arguments = vec!["copy", "--create-table", "--mode", mode];
        for (option, uri) in [("--from", from), ("--to", to)] {
            arguments.extend([option, uri]);
            if uri.starts_with("sqlserver:") {
                arguments.extend(["--secret-file", secret, "--table", "orders"]);
            }
        }
        // As much as there is to be seen.
        Answer::of(dmg(arguments).env("DMG_LOG", "trace").env("TMPDIR", folder.path()))
    };
    let (input, output) = (format!("file:{}", input.display()), format!("file:{}", output.display()));
    let mut answers = vec![
        run(&input, &at("CORP%5Cetl"), "overwrite").ok(),
        run(&at("etl%40corp.example"), &output, "overwrite").ok(),
    ];
    let lines = |name: &str| {
        let text = std::fs::read_to_string(folder.path().join(name)).expect("a file").replace(['"', '\r'], "");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines("in.csv"), lines("out.csv"));
    let before = count(&server, "windows: ");
    answers.push(run(&at("OTHER%5Cetl"), &output, "overwrite").fault("UserErrorLoginRefused"));
    assert_eq!(count(&server, "windows: "), before + 1, "the domain counts tries and locks the account");
    let wrong = format!("{PASSWORD}8");
    std::fs::write(&secret, &wrong).expect("written");
    answers.push(run(&at("CORP%5Cetl"), &output, "overwrite").fault("UserErrorLoginRefused"));

    let scanner = Scanner::new(named_forms("password", PASSWORD));
    let mut hits = scanner.bytes("what the server heard", format!("{:?}", server.requests()).as_bytes());
    for answer in &answers {
        hits.extend(scanner.bytes("an answer", answer.output.as_bytes()));
        hits.extend(scanner.bytes("a log", answer.errors.as_bytes()));
    }
    for file in std::fs::read_dir(folder.path()).expect("a folder").map(|file| file.expect("an entry").path()) {
        if file.is_file() {
            hits.extend(scanner.bytes("a file", &std::fs::read(&file).expect("readable")));
        }
    }
    assert!(hits.is_empty(), "{hits:?}");
    assert!(!scanner.bytes("itself", wrong.as_bytes()).is_empty(), "the scanner sees what is there");
}
