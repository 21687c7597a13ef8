//! What people read: help, messages and exit codes, as snapshots.

use crate::world::{World, text};

/// Every command with its help. A new one is added here.
const COMMANDS: &[&[&str]] = &[
    &[],
    &["up"],
    &["copy"],
    &["verify"],
    &["store"],
    &["store", "tables"],
    &["store", "preview"],
    &["store", "call"],
    &["service", "run"],
    &["login"],
    &["factory"],
    &["factory", "create"],
    &["gateway"],
    &["gateway", "create"],
    &["gateway", "key", "list"],
    &["gateway", "key", "regenerate"],
    &["linked-service"],
    &["linked-service", "put"],
    &["dataset"],
    &["pipeline"],
    &["pipeline", "run"],
    &["apply"],
    &["credential", "encrypt"],
    &["run"],
    &["run", "list"],
    &["run", "receipt"],
    &["receipt"],
    &["receipt", "verify"],
    &["node"],
    &["node", "register"],
    &["node", "run"],
    &["node", "certificate"],
    &["node", "certificate", "export"],
    &["node", "certificate", "import"],
    &["completions"],
];

#[test]
fn help() {
    let world = World::new();
    let mut all = String::new();
    for command in COMMANDS {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let said = world.good(&arguments);
        all.push_str(&format!("$ dmg {}\n{said}\n", arguments.join(" ")));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn refusals_and_exit_codes() {
    let world = World::new();
    std::fs::write(world.path("broken.json"), "{\n  \"name\": \"x\",,\n}").expect("written");
    std::fs::write(world.path("strange.json"), "{\"parameters\": {}}").expect("written");
    std::fs::write(world.path("token"), "t").expect("written");
    std::fs::create_dir_all(world.path("taken/service")).expect("made");
    let cases: &[&[&str]] = &[
        &["nonsense"],
        &["factory", "list"],
        &["factory", "list", "--context", "work"],
        &["factory", "list", "--service", "http://h"],
        &["factory", "list", "--service", "https://h", "--token-file", "missing"],
        &["factory", "list", "--service", "https://h", "--token-file", "token", "--ca", "token"],
        &["factory", "list", "--service", "https://127.0.0.1:1", "--token-file", "token"],
        &["node", "status", "--data", "nowhere"],
        &["node", "register", "IR@x@y@ServiceEndpoint=h:1@z", "--data", "node"],
        &["apply", "broken.json"],
        &["apply", "strange.json"],
        &["apply", "missing.json"],
        &["copy", "--from", "postgres://u:secret@h/d", "--table", "t", "--to", "file:x.parquet"],
        &["copy", "--from", "sqlite:a.db", "--table", "t", "--to", "sqlite:b.db", "--table", "t", "--key", "id"],
        &["copy", "--from", "sqlite:a.db", "--table", "t", "--to", "sqlite:b.db", "--table", "t", "--mode", "slice"],
        &["copy", "--from", "sqlite:a.db", "--table", "t", "--to", "sqlite:b.db", "--table", "t", "--add-column", "x"],
        &[
            "copy",
            "--from",
            "sqlite:a.db",
            "--table",
            "t",
            "--to",
            "sqlite:b.db",
            "--table",
            "t",
            "--redirect",
            "file:bad",
        ],
        &["up", "--data", "taken"],
    ];
    let mut all = String::new();
    for arguments in cases {
        let output = world.run(arguments);
        let said = text(&output.stderr).replace(&world.path("").display().to_string(), "/world/");
        all.push_str(&format!("$ dmg {}\n{said}exit {}\n\n", arguments.join(" "), output.status.code().unwrap_or(-1)));
    }
    assert!(!all.replace("postgres://u:secret@h/d", "").contains("secret@"), "a password was repeated");
    insta::assert_snapshot!(all);
}

#[test]
fn a_bad_log_filter_is_a_bad_configuration() {
    let world = World::new();
    let output = world.command().env("DMG_LOG", "dmg=loud").arg("factory").arg("list").output().expect("it starts");
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
}

#[test]
fn completions_know_every_command() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.good(&["completions", shell]);
        assert!(script.contains("linked-service"), "{shell}");
    }
}
