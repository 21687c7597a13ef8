//! No secret is found anywhere after a run with failures in it: not in state, logs at trace level, answers, arguments,
//! environments or temporary files, in any usual encoding. One planted hit per place and encoding proves that the
//! scanner would see it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dmg_system_tests::installation::kill_process;
use dmg_system_tests::scan::{Form, Hit, forms, in_bytes, in_folder, in_process};
use dmg_system_tests::{Database, Installation, azurite, judge, need, wait};
use serde_json::{Value, json};

/// A password in which every encoding shows.
fn secret() -> String {
    format!("pä\"ss\\ {}%+/=&", dmg_ambient::Ambient::real().uuid())
}

fn postgres(database: &Database, user: &str, password: &str) -> Value {
    let (host, port) = database.host_and_port();
    json!({
        "type": "PostgreSqlV2",
        "connectVia": { "referenceName": "onprem", "type": "IntegrationRuntimeReference" },
        "typeProperties": {
            "server": host, "port": port, "database": database.name, "username": user, "sslMode": 0,
            "authenticationType": "Basic", "password": { "type": "SecureString", "value": password },
        },
    })
}

fn copy(source: &str, sink: &str) -> Value {
    json!({ "activities": [{
        "name": "copy", "type": "Copy",
        "inputs": [{ "referenceName": source, "type": "DatasetReference" }],
        "outputs": [{ "referenceName": sink, "type": "DatasetReference" }],
        "typeProperties": { "source": { "type": "PostgreSqlV2Source" }, "sink": { "type": "ParquetSink" } },
    }] })
}

fn table(linked_service: &str, table: &str) -> Value {
    json!({
        "type": "PostgreSqlV2Table",
        "linkedServiceName": { "referenceName": linked_service, "type": "LinkedServiceReference" },
        "typeProperties": { "schema": "public", "table": table },
    })
}

#[test]
fn no_secret_is_left_anywhere() {
    let database = need!(Database::create());
    let azurite = need!(azurite());
    let (right, wrong) = (secret(), secret());
    let user = format!("etl_{}", database.name);
    database.sql(&format!(
        "CREATE ROLE {user} LOGIN PASSWORD '{right}'; CREATE TABLE plenty AS SELECT g AS id, md5(g::text) AS t
         FROM generate_series(1, 300000) g; GRANT SELECT ON plenty TO {user}"
    ));
    let container = database.name.replace('_', "-");
    let mut make = need!(judge("judge/container.py", [&azurite.endpoint, &azurite.key_file, &container]));
    let _ = dmg_system_tests::Answer::of(&mut make).ok();
    let key = std::fs::read_to_string(&azurite.key_file).expect("the key").trim().to_owned();
    let all: Vec<Form> = [&right, &wrong, &key].into_iter().flat_map(|secret| forms(secret)).collect();

    let mut site = Installation::start("trace");
    let mut hits = Vec::new();
    let mut answers = Vec::new();
    // The command line seals what it can before it sends it; the API door seals what came in clear.
    site.put("linked-service", "right", postgres(&database, &user, &right));
    site.put("linked-service", "wrong", postgres(&database, &user, &wrong));
    let connection = format!(
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint={}",
        azurite.endpoint
    );
    site.put(
        "linked-service",
        "blob",
        json!({
            "type": "AzureBlobStorage",
            "connectVia": { "referenceName": "onprem", "type": "IntegrationRuntimeReference" },
            "typeProperties": { "connectionString": { "type": "SecureString", "value": connection } },
        }),
    );
    for (name, service, relation) in
        [("some", "right", "plenty"), ("missing", "right", "no_such"), ("locked", "wrong", "plenty")]
    {
        site.put("dataset", name, table(service, relation));
    }
    site.put("dataset", "file", json!({
        "type": "Parquet",
        "linkedServiceName": { "referenceName": "blob", "type": "LinkedServiceReference" },
        "typeProperties": { "location": { "type": "AzureBlobStorageLocation", "container": container, "fileName": "x.parquet" } },
    }));
    for source in ["some", "missing", "locked"] {
        site.put("pipeline", &format!("copy-{source}"), copy(source, "file"));
    }
    for service in ["right", "wrong", "blob"] {
        let tested = site.dmg(["linked-service", "test", service]);
        answers.push(format!("{}{}", tested.output, tested.errors));
    }

    let mut statuses = Vec::new();
    for pipeline in ["copy-missing", "copy-locked", "copy-some"] {
        let run = site.run(pipeline);
        if pipeline == "copy-some" {
            // A killed worker costs an attempt; what it leaves is looked at as well.
            let worker = wait::until("a worker", Duration::from_secs(30), || {
                hits.extend(site.processes().iter().flat_map(|pid| in_process(*pid, &all)));
                site.workers().first().copied()
            });
            kill_process(worker);
        }
        let done = AtomicBool::new(false);
        let (status, shown) = std::thread::scope(|scope| {
            let seen = scope.spawn(|| {
                let mut seen = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    seen.extend(site.processes().iter().flat_map(|pid| in_process(*pid, &all)));
                    std::thread::sleep(Duration::from_millis(5));
                }
                seen
            });
            let end = site.wait_run(&run, Duration::from_secs(90));
            done.store(true, Ordering::Relaxed);
            hits.extend(seen.join().expect("the watcher ends"));
            end
        });
        statuses.push(status);
        answers.push(shown.to_string());
        let receipt = site.dmg(["run", "receipt", &run]);
        answers.push(format!("{}{}", receipt.output, receipt.errors));
    }
    assert_eq!(statuses, ["Failed", "Failed", "Succeeded"], "{answers:?}");
    site.kill_service();
    site.start_service();
    for (noun, name) in [
        ("linked-service", "right"),
        ("linked-service", "wrong"),
        ("linked-service", "blob"),
        ("dataset", "file"),
        ("pipeline", "copy-some"),
        ("gateway", "onprem"),
    ] {
        for words in [vec![noun, "show", name], vec![noun, "list"]] {
            let said = site.dmg(words);
            answers.push(format!("{}{}", said.output, said.errors));
        }
    }

    hits.extend(answers.iter().flat_map(|answer| in_bytes("an answer", answer.as_bytes(), &all)));
    hits.extend(in_folder(&site.path(""), &all));
    hits.extend(temporary_files(&site.path(""), &all));
    assert!(site.log_text("node").lines().count() > 100, "the log is at trace level");
    hits.dedup();
    assert_eq!(hits, [], "secrets were found");
    planted_secrets_are_found(&right, &site.path(""));
    database.sql(&format!("DROP OWNED BY {user}; DROP ROLE {user}"));
}

/// Files that are directly in the folder for temporary ones, or in folders of ours in it.
fn temporary_files(site: &Path, all: &[Form]) -> Vec<Hit> {
    let mut hits = Vec::new();
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().contains("dmg"));
        // The servers' own folders hold their credentials by right.
        let server = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dmg-servers-"));
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            hits.extend(in_bytes(&path.display().to_string(), &bytes, all));
        } else if ours && !server && path != site {
            hits.extend(in_folder(&path, all));
        }
    }
    hits
}

/// Every form in every place, one at a time: the scanner must see each.
fn planted_secrets_are_found(secret: &str, folder: &Path) {
    let all = forms(secret);
    for form in &all {
        let padded = [b"before ".as_slice(), &form.bytes, b" after"].concat();
        for place in
            ["service/state.db-wal", "service/planted.db", "node/planted-journal", "node.log", "service.log", "x.part"]
        {
            let path = folder.join("planted").join(place);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
            std::fs::write(&path, &padded).expect("it can be written");
            let hits = in_folder(&folder.join("planted"), &all);
            assert!(hits.iter().any(|hit| hit.form == form.name), "{} in {place} was not seen", form.name);
            std::fs::remove_file(&path).expect("it was there");
        }
        assert!(in_bytes("an answer", &padded, &all).iter().any(|hit| hit.form == form.name));
        // Neither arguments nor environments can hold a zero byte.
        if form.bytes.contains(&0) {
            continue;
        }
        use std::os::unix::ffi::OsStrExt;
        let text = std::ffi::OsStr::from_bytes(&padded);
        for as_argument in [true, false] {
            let mut command = Command::new("sh");
            command.args(["-c", "read line"]).stdin(Stdio::piped());
            if as_argument {
                command.arg(text);
            } else {
                command.env("PLANTED", text);
            }
            let mut child = command.spawn().expect("sh starts");
            let hits = wait::until("the planted process", Duration::from_secs(5), || {
                let hits = in_process(child.id(), &all);
                (!hits.is_empty()).then_some(hits)
            });
            assert!(hits.iter().any(|hit| hit.form == form.name), "{} in a process was not seen", form.name);
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}
