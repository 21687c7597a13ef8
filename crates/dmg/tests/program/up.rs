//! The first minute, and the tools against a real service with a real node: one world, started by `dmg up`.

use crate::world::{World, holds_something, text};
use serde_json::Value;

const LISTEN: &[&str] = &["up", "--data", "up", "--listen", "127.0.0.1:0"];

fn login(world: &World, up: &Value) {
    let member = |name: &str| up[name].as_str().unwrap_or_default().to_owned();
    let said = world.good(&[
        "login",
        "--service",
        &member("service"),
        "--token-file",
        &member("tokenFile"),
        "--ca",
        &member("ca"),
        "--factory",
        "sample",
    ]);
    assert!(said.starts_with("Logged in to https://127.0.0.1:"), "{said}");
}

fn json(world: &World, arguments: &[&str]) -> Value {
    let all: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
    serde_json::from_str(&world.good(&all)).expect("an answer in JSON")
}

#[test]
fn up_copies_proves_and_repeats() {
    let world = World::new();
    let (running, up) = world.serve(LISTEN);
    assert_eq!(up["receipt"]["read"]["rows"], 5000, "{up}");
    assert_eq!(up["receipt"]["read"]["digest"], up["receipt"]["written"]["digest"]);
    assert!(holds_something(&world.path("up/sample/copied/orders.parquet")));
    let said = text(&world.run(LISTEN).stderr);
    assert!(said.contains("Another dmg up runs on"), "{said}");
    assert_eq!(running.interrupt(), Some(0), "{}", world.stderr());

    // Another port: the node is introduced again, and there is still only one.
    let (running, up) = world.serve(LISTEN);
    login(&world, &up);
    let shown = json(&world, &["gateway", "show", "local"]);
    let nodes = shown["properties"]["typeProperties"]["nodes"].as_array().map(Vec::len);
    assert_eq!(nodes, Some(1), "{shown}");
    assert_eq!(json(&world, &["run", "list"]).as_array().map(Vec::len), Some(2));
    assert_eq!(running.interrupt(), Some(0), "{}", world.stderr());

    let (running, up) = world.serve(&[LISTEN, &["--reset"]].concat());
    login(&world, &up);
    assert_eq!(json(&world, &["run", "list"]).as_array().map(Vec::len), Some(1));
    assert_eq!(running.interrupt(), Some(0), "{}", world.stderr());
}

#[test]
fn the_tools_do_what_they_say() {
    let world = World::new();
    let (running, up) = world.serve(LISTEN);
    login(&world, &up);

    assert!(world.good(&["factory", "list"]).contains("sample"));
    assert!(world.good(&["gateway", "list"]).contains("Online"));
    assert!(world.good(&["linked-service", "test", "SampleDatabase"]).starts_with("SampleDatabase works."));
    assert!(world.good(&["linked-service", "list"]).contains("Sqlite"));
    assert!(world.good(&["dataset", "list"]).contains("OrdersFile"));
    assert!(world.good(&["pipeline", "list"]).contains("sample-copy"));

    runs_and_receipts(&world);
    documents(&world);
    gateways_and_keys(&world);
    assert_eq!(running.interrupt(), Some(0), "{}", world.stderr());
}

fn runs_and_receipts(world: &World) {
    let ended = json(world, &["pipeline", "run", "sample-copy", "--wait"]);
    assert_eq!(ended["run"]["status"], "Succeeded", "{ended}");
    assert_eq!(ended["activities"][0]["output"]["rowsCopied"], 5000);
    let id = ended["run"]["runId"].as_str().unwrap_or_default();
    assert!(world.good(&["run", "show", id]).contains("CopyOrders  Succeeded"));
    assert!(world.good(&["run", "receipt", id, "--file", "receipt.json"]).contains("5,000 read, 5,000 written"));
    let verified = json(world, &["receipt", "verify", "receipt.json"]);
    assert_eq!(verified["proven"], true, "{verified}");
    assert!(verified["node"].as_str().is_some_and(|node| node.starts_with("sample/local/")));
    let unknown = world.run(&["run", "show", "no-such-run"]);
    assert_eq!(unknown.status.code(), Some(1));
}

fn documents(world: &World) {
    assert!(world.good(&["apply", "up/documents"]).contains("0 created, 0 changed, 5 unchanged."));
    let path = world.path("up/documents/4-orders-file.json");
    let changed = std::fs::read_to_string(&path).expect("there").replace("\"snappy\"", "\"zstd\"");
    std::fs::write(&path, changed).expect("written");
    let said = world.good(&["apply", "up/documents", "--dry-run"]);
    assert!(said.contains("0 created, 1 changed, 4 unchanged. Nothing was sent"), "{said}");
    assert!(world.good(&["apply", "up/documents"]).contains("0 created, 1 changed, 4 unchanged."));
    assert!(world.good(&["apply", "up/documents"]).contains("0 created, 0 changed, 5 unchanged."));

    std::fs::write(
        world.path("lost.json"),
        r#"{"name": "Lost", "properties": {"type": "SqliteTable", "typeProperties": {"tableName": "t"},
            "linkedServiceName": {"referenceName": "Nowhere", "type": "LinkedServiceReference"}}}"#,
    )
    .expect("written");
    let refused = world.run(&["apply", "lost.json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("the linked service \"Nowhere\", which does not exist"));
    let in_use = world.run(&["linked-service", "delete", "SampleDatabase"]);
    assert!(text(&in_use.stderr).contains("Orders"), "{}", text(&in_use.stderr));

    version_1(world);
    secrets(world);
}

fn version_1(world: &World) {
    std::fs::write(
        world.path("v1.json"),
        r#"{"name": "OldFolder", "properties": {"type": "OnPremisesFileServer",
            "typeProperties": {"host": "/tmp", "gatewayName": "local"}}}"#,
    )
    .expect("written");
    assert!(world.good(&["apply", "v1.json"]).contains("1 created"));
    assert!(world.good(&["apply", "v1.json"]).contains("1 unchanged"));
    assert!(world.good(&["linked-service", "show", "OldFolder"]).contains("gatewayName"));
    world.good(&["linked-service", "delete", "OldFolder"]);

    // A whole project in the original's first dialect, out of order, deployed and run.
    let folder = world.path("up/sample").display().to_string();
    let availability = r#""availability": {"frequency": "Day", "interval": 1}"#;
    std::fs::create_dir_all(world.path("v1")).expect("made");
    for (file, text) in [
        (
            "a-pipeline.json",
            r#"{"name": "OldCopy", "properties": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z",
                "activities": [{"name": "Copy", "type": "Copy", "inputs": [{"name": "OldOrders"}],
                "outputs": [{"name": "OldText"}], "scheduler": {"frequency": "Day", "interval": 1},
                "typeProperties": {"source": {"type": "SqliteSource"}, "sink": {"type": "FileSystemSink"}}}]}}"#
                .to_owned(),
        ),
        (
            "b-orders.json",
            format!(
                r#"{{"name": "OldOrders", "properties": {{"type": "SqliteTable", "linkedServiceName": "OldDb",
                "external": true, "typeProperties": {{"tableName": "orders"}}, {availability}}}}}"#
            ),
        ),
        (
            "c-text.json",
            format!(
                r#"{{"name": "OldText", "properties": {{"type": "FileShare", "linkedServiceName": "OldShare",
                "typeProperties": {{"folderPath": "old", "fileName": "orders.txt",
                "format": {{"type": "TextFormat", "columnDelimiter": "|", "quoteChar": "\"", "nullValue": "NULL"}}}},
                {availability}}}}}"#
            ),
        ),
        (
            "d-db.json",
            format!(
                r#"{{"name": "OldDb", "properties": {{"type": "Sqlite",
                "typeProperties": {{"path": "{folder}/shop.db", "gatewayName": "local"}}}}}}"#
            ),
        ),
        (
            "e-share.json",
            format!(
                r#"{{"name": "OldShare", "properties": {{"type": "OnPremisesFileServer",
                "typeProperties": {{"host": "{folder}", "gatewayName": "local"}}}}}}"#
            ),
        ),
    ] {
        std::fs::write(world.path("v1").join(file), text).expect("written");
    }
    let said = world.good(&["apply", "v1"]);
    assert!(said.contains("5 created") && said.contains("v1"), "{said}");
    assert!(world.good(&["apply", "v1"]).contains("5 unchanged"));
    let ended = world.run(&["pipeline", "run", "OldCopy", "--wait"]);
    assert!(ended.status.success(), "{}{}", text(&ended.stdout), text(&ended.stderr));
    let copied = std::fs::read_to_string(world.path("up/sample/old/orders.txt")).expect("copied");
    assert_eq!(copied.lines().count(), 5000);
}

fn secrets(world: &World) {
    const PASSWORD: &str = "correct-horse-battery";
    std::fs::write(
        world.path("postgres.json"),
        format!(
            r#"{{"name": "Warehouse", "properties": {{"type": "PostgreSqlV2",
            "connectVia": {{"referenceName": "local", "type": "IntegrationRuntimeReference"}},
            "typeProperties": {{"server": "db01", "port": 5432, "database": "dwh", "username": "etl", "sslMode": 1,
            "authenticationType": "Basic", "password": {{"type": "SecureString", "value": "{PASSWORD}"}}}}}}}}"#
        ),
    )
    .expect("written");
    let sealed = world.good(&["credential", "encrypt", "postgres.json", "--gateway", "local"]);
    assert!(sealed.contains("encryptedCredential") && !sealed.contains(PASSWORD), "{sealed}");
    std::fs::write(world.path("sealed.json"), sealed).expect("written");
    assert!(world.good(&["apply", "sealed.json"]).contains("1 created"));
    assert!(world.good(&["apply", "postgres.json"]).contains("1 changed"));
    let shown = world.good(&["linked-service", "show", "Warehouse"]);
    assert!(!shown.contains(PASSWORD), "{shown}");
    for entry in std::fs::read_dir(world.path("up/service")).expect("there").flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let found = bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
        assert!(!found, "the password is in {}", entry.path().display());
    }
}

fn gateways_and_keys(world: &World) {
    let said = world.good(&["gateway", "create", "MyGateway", "--description", "gateway for walkthrough"]);
    assert!(said.starts_with("Name              : MyGateway\nDescription       : gateway for walkthrough\n"), "{said}");
    assert!(said.contains("Status            : NeedRegistration\n"), "{said}");
    assert!(said.contains("\nKey               : "), "{said}");
    let before = json(world, &["gateway", "key", "list", "MyGateway"]);
    let new = json(world, &["gateway", "key", "regenerate", "MyGateway", "--slot", "2"]);
    assert_ne!(before["authKey2"], new["authKey2"]);
    assert_eq!(before["authKey1"], json(world, &["gateway", "key", "list", "MyGateway"])["authKey1"]);

    // The old text is refused, the new one registers, and the folder says so.
    let old = before["authKey2"].as_str().unwrap_or_default();
    let refused = text(&world.run(&["node", "register", old, "--data", "second"]).stderr);
    assert!(refused.contains("The gateway key is invalid or empty."), "{refused}");
    std::fs::write(world.path("key"), new["authKey2"].as_str().unwrap_or_default()).expect("written");
    let said = world.good(&["node", "register", "--key-file", "key", "--name", "second", "--data", "second"]);
    assert!(said.starts_with("Integration Runtime registration is successful!"), "{said}");
    assert!(world.good(&["node", "status", "--data", "second"]).contains("not running"));

    std::fs::write(world.path("password"), "pfx password\n").expect("written");
    world.good(&["node", "certificate", "export", "key.pfx", "--password-file", "password", "--data", "second"]);
    assert!(holds_something(&world.path("key.pfx")));
    world.good(&["node", "certificate", "import", "key.pfx", "--password-file", "password", "--data", "second"]);
    world.good(&["gateway", "delete", "MyGateway"]);
}
