//! The whole flow driven by azure-mgmt-datafactory, a client nobody here wrote; the result read by azure-storage-blob
//! and pyarrow and compared with the source by psql's own text.

use std::path::Path;
use std::process::{Child, Stdio};

use dmg_system_tests::{Answer, Database, Installation, azurite, dmg, judge, need};
use serde_json::{Value, json};

const ROWS: i64 = 5000;

const TABLE: &str = "
CREATE TABLE orders (id bigint PRIMARY KEY, customer text, price numeric(12,2), weight double precision, paid boolean,
  placed timestamptz, day date, code char(6), note varchar(80), raw bytea, tag uuid, small smallint, at time);
INSERT INTO orders SELECT g, CASE WHEN g % 7 = 0 THEN NULL WHEN g % 7 = 1 THEN '' ELSE 'customer \"' || g || E'\",\\n' END,
  g * 1.25, g / 3.0, g % 2 = 0, timestamptz '2024-01-01 00:00+00' + g * interval '1 minute 0.000001 second',
  date '2000-01-01' + g::int, 'c' || g % 100, repeat('n', g::int % 80), decode(md5(g::text), 'hex'),
  md5(g::text)::uuid, g % 100, time '00:00' + g * interval '1 second' FROM generate_series(1, 5000) g";

/// A node of the client's own gateway; the installation's node belongs to another factory.
struct Node(Child);

impl Node {
    fn register_and_run(key: &str, folder: &Path) -> Node {
        let file = folder.join("sdk.key");
        std::fs::write(&file, key).expect("the key can be written");
        let data = folder.join("sdk-node");
        let mut register = dmg(["node", "register", "--name", "sdk-node"]);
        let _ = Answer::of(register.arg("--key-file").arg(&file).arg("--data").arg(&data)).ok();
        let log = std::fs::File::create(folder.join("sdk-node.log")).expect("a log");
        let mut run = dmg(["node", "run"]);
        run.arg("--data").arg(&data).env("DMG_LOG", "info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Node(run.spawn().expect("the node starts"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_public_client_library_does_the_whole_flow() {
    let database = need!(Database::create());
    let azurite = need!(azurite());
    database.sql(TABLE);
    let container = database.name.replace('_', "-");
    let mut make = need!(judge("judge/container.py", [&azurite.endpoint, &azurite.key_file, &container]));
    let _ = Answer::of(&mut make).ok();
    let site = Installation::start("info");
    let folder = tempfile::tempdir().expect("a folder");
    let text_path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (host, port) = database.host_and_port();
    let config = text_path("config.json");
    let settings = json!({
        "url": site.url(), "ca": site.ca(), "tokenFile": site.token_file(), "folder": folder.path(),
        "postgres": { "host": host, "port": port, "database": database.name, "user": database.user(),
                      "passwordFile": database.password_file, "table": "orders" },
        "azurite": { "endpoint": azurite.endpoint, "keyFile": azurite.key_file, "container": container },
    });
    std::fs::write(&config, settings.to_string()).expect("the settings can be written");
    let flow = |phase: &str| Answer::of(&mut judge("judge/sdk_flow.py", [phase, &config]).expect("it was there")).ok();

    let key = flow("gateway").output;
    let _node = Node::register_and_run(key.trim(), folder.path());
    let outputs: Value = serde_json::from_str(&flow("copy").output).expect("the outputs are JSON");
    for name in ["to parquet", "to text"] {
        let output = &outputs[name];
        assert_eq!((&output["rowsRead"], &output["rowsCopied"]), (&json!(ROWS), &json!(ROWS)), "{name}: {output}");
        assert!(output["dataWritten"].as_i64().is_some_and(|bytes| bytes > 0), "{name}: {output}");
        assert!(output.get("receipt").is_some_and(|receipt| !receipt.is_null()), "{name}: {output}");
    }
    let (url, password) = (database.url(), database.password_file.clone());
    let (parquet, text) = (text_path("t.parquet"), text_path("t.csv"));
    let judged = judge("judge/compare.py", ["parquet", &url, &password, "orders", &parquet]);
    let _ = Answer::of(&mut judged.expect("it was there")).ok();
    // The file's NULL is \N and its quotes are doubled; the server's COPY reads the same dialect with these options.
    let judged = judge("judge/compare.py", ["text", &url, &password, "orders", &text, "--null", "\\N"]);
    let _ = Answer::of(&mut judged.expect("it was there")).ok();
    let _ = flow("errors");
    let _ = flow("cleanup");
}
