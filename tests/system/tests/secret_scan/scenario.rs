//! What happens while the scanner looks: documents by every door, good and bad ones, tests, and copies that succeed,
//! fail, are cancelled and killed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use dmg_system_tests::installation::kill_process;
use dmg_system_tests::scan::{Hit, Scanner, forms};
use dmg_system_tests::{Answer, Azurite, Database, Installation, dmg, judge, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::canary::{self, Canaries};

const FACTORY: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/providers/\
                       Microsoft.DataFactory/factories/tests";
const V2: &str = "2018-06-01";
const OURS: &str = "2026-11-01";
const DEADLINE: Duration = Duration::from_secs(120);

/// Everything the play needs, and what was found on the way.
pub(super) struct World {
    pub(super) site: Installation,
    pub(super) database: Database,
    pub(super) azurite: Azurite,
    pub(super) container: String,
    pub(super) canaries: Canaries,
    pub(super) scanner: Arc<Scanner>,
    pub(super) hits: Vec<Hit>,
}

fn via() -> Value {
    json!({ "referenceName": "onprem", "type": "IntegrationRuntimeReference" })
}

fn secure(value: &str) -> Value {
    json!({ "type": "SecureString", "value": value })
}

fn service(name: &str) -> Value {
    json!({ "referenceName": name, "type": "LinkedServiceReference" })
}

impl World {
    /// Looks at everything the installation has on disk now.
    pub(super) fn look(&mut self) {
        self.hits.extend(self.scanner.folder(&self.site.path("")));
    }

    pub(super) fn play(&mut self) {
        // Files in which a person keeps secrets are outside of the installation.
        let own = tempfile::tempdir().expect("a folder");
        self.tables();
        self.documents(&own);
        self.bad_documents(&own);
        self.tests();
        self.look();
        self.failing_runs();
        self.look();
        self.disturbed_runs();
        self.copies_without_service(&own);
        self.look();
        self.site.kill_service();
        self.look();
        self.site.start_service();
        self.site.wait_online();
        self.questions(&own);
        let user = self.user();
        self.database.sql(&format!("DROP OWNED BY {user}; DROP ROLE {user}"));
    }

    fn user(&self) -> String {
        format!("etl_{}", self.database.name)
    }

    fn tables(&self) {
        let (user, password) = (self.user(), self.canaries.get("password by the command line"));
        let row = self.canaries.get("value of a row");
        self.database.sql(&format!(
            "CREATE ROLE {user} LOGIN PASSWORD '{password}';
             CREATE TABLE readings AS SELECT g AS id, md5(g::text) AS t, CASE WHEN g % 1000 = 0 THEN '{row}' END AS note
             FROM generate_series(1, 300000) g;
             GRANT SELECT ON readings TO {user}"
        ));
    }

    fn postgres(&self, password: &str) -> Value {
        let (host, port) = self.database.host_and_port();
        json!({
            "type": "PostgreSqlV2", "connectVia": via(),
            "typeProperties": {
                "server": host, "port": port, "database": self.database.name, "username": self.user(), "sslMode": 0,
                "authenticationType": "Basic", "password": secure(password),
            },
        })
    }

    fn blob(&self, key: &str) -> Value {
        let endpoint = &self.azurite.endpoint;
        let connection = format!(
            "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint={endpoint}"
        );
        json!({
            "type": "AzureBlobStorage", "connectVia": via(),
            "typeProperties": { "connectionString": secure(&connection) },
        })
    }

    /// Each door once: sealed by the command line, by `credential encrypt`, by `apply`, and clear through the API.
    fn documents(&self, own: &TempDir) {
        let secret = |name: &str| self.canaries.get(name);
        let put = |name: &str, properties: Value| self.site.put("linked-service", name, properties);
        put("right", self.postgres(secret("password by the command line")));
        put("blob", self.blob(secret("account key")));
        put(
            "local",
            json!({
                "type": "FileServer", "connectVia": via(), "typeProperties": { "host": self.site.path("out") },
            }),
        );
        std::fs::create_dir(self.site.path("out")).expect("a folder for files");

        let door = |name: &str, properties: Value| {
            let body = json!({ "properties": properties }).to_string();
            assert_eq!(self.call("PUT", &format!("linkedservices/{name}"), V2, &body), 200, "{name}");
        };
        door("wrong", self.postgres(secret("wrong password by the API")));
        door("wrong-blob", self.blob(secret("wrong account key")));
        let sas = format!(
            "{}?sv=2023-11-03&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00:00:00Z&sig={}",
            self.azurite.endpoint,
            secret("SAS signature").replace('+', "%2B").replace('/', "%2F")
        );
        door(
            "sas",
            json!({
                "type": "AzureBlobStorage", "connectVia": via(), "typeProperties": { "sasUri": secure(&sas) },
            }),
        );

        let clear =
            json!({ "name": "encrypted", "properties": self.postgres(secret("password by credential encrypt")) });
        let clear_file = write(own, "encrypted.json", &clear.to_string());
        let sealed = self.site.path("encrypted.json");
        let words = ["credential", "encrypt", &clear_file, "--gateway", "onprem", "--out", text(&sealed)];
        let _ = self.site.dmg(words).ok();
        let _ = self.site.dmg(["linked-service", "put", text(&sealed)]).ok();

        let (host, port) = self.database.host_and_port();
        let version1 = json!({
            "name": "version1",
            "properties": { "type": "OnPremisesPostgreSql", "typeProperties": {
                "server": format!("{host}:{port}"), "database": self.database.name, "authenticationType": "Basic",
                "username": self.user(), "password": secret("password by apply"), "gatewayName": "onprem",
            } },
        });
        let file = write(own, "version1.json", &version1.to_string());
        let _ = self.site.dmg(["apply", "--dry-run", &file]).ok();
        let _ = self.site.dmg(["apply", &file]).ok();
        self.datasets_and_pipelines();
    }

    fn datasets_and_pipelines(&self) {
        for (name, of, table) in
            [("some", "right", "readings"), ("missing", "right", "no_such"), ("locked", "wrong", "readings")]
        {
            self.site.put(
                "dataset",
                name,
                json!({
                    "type": "PostgreSqlV2Table", "linkedServiceName": service(of),
                    "typeProperties": { "schema": "public", "table": table },
                }),
            );
        }
        for (name, of) in [("file", "blob"), ("wrong-file", "wrong-blob"), ("sas-file", "sas")] {
            self.site.put(
                "dataset",
                name,
                json!({
                    "type": "Parquet", "linkedServiceName": service(of), "typeProperties": { "location": {
                        "type": "AzureBlobStorageLocation", "container": self.container, "fileName": "x.parquet",
                    } },
                }),
            );
        }
        self.site.put(
            "dataset",
            "local-file",
            json!({
                "type": "Parquet", "linkedServiceName": service("local"),
                "typeProperties": { "location": { "type": "FileServerLocation", "fileName": "x.parquet" } },
            }),
        );
        let bad_value = "SELECT id, note::int AS n FROM readings WHERE id % 1000 = 0";
        let plain = "SELECT id, t FROM readings";
        for (name, source, sink, query) in [
            ("missing", "missing", "file", None),
            ("locked", "locked", "file", None),
            ("bad-value", "some", "file", Some(bad_value)),
            ("wrong-key", "some", "wrong-file", None),
            ("wrong-sas", "some", "sas-file", None),
            ("killed", "some", "file", None),
            ("cancelled", "some", "file", None),
            // A file that the reader of the target may read holds rows by right; the canary of rows is not in it.
            ("local", "some", "local-file", Some(plain)),
        ] {
            let mut from = json!({ "type": "PostgreSqlV2Source" });
            if let Some(query) = query {
                from["query"] = json!(query);
            }
            let reference = |name: &str| json!([{ "referenceName": name, "type": "DatasetReference" }]);
            self.site.put(
                "pipeline",
                name,
                json!({ "activities": [{
                "name": "copy", "type": "Copy", "inputs": reference(source), "outputs": reference(sink),
                "typeProperties": { "source": from, "sink": { "type": "ParquetSink" } },
            }] }),
            );
        }
    }

    /// Documents that nobody can read or that are against the rules: what is said about them must not repeat them.
    fn bad_documents(&self, own: &TempDir) {
        let broken = self.canaries.get("password in a broken document");
        let refused = self.canaries.get("password in a refused document");
        let whole = json!({ "properties": self.postgres(broken) }).to_string();
        let cut = &whole[..whole.len() - 3];
        let twice = whole.replace("\"value\":", &format!("\"VALUE\":{},\"value\":", json!(broken)));
        let unquoted = whole.replacen("\"value\":\"", "\"value\":", 1);
        for (path, body) in [
            ("linkedservices/broken", cut),
            ("linkedservices/broken", &unquoted),
            ("linkedservices/broken", &twice),
            ("linkedservices/bro:ken", &whole),
            ("datasets/broken", cut),
            ("pipelines/broken", cut),
            ("nothings/broken", &whole),
        ] {
            let status = self.call("PUT", path, V2, body);
            assert!((400..500).contains(&status), "{path}: {status}");
        }
        assert_eq!(self.call("PUT", "linkedservices/broken", "1999-01-01", &whole), 400);

        let mut elsewhere = self.postgres(refused);
        elsewhere["connectVia"]["referenceName"] = json!("no-such-gateway");
        let mut unknown = self.postgres(refused);
        unknown["type"] = json!("NoSuchStore");
        let mut object = self.postgres(refused);
        object["typeProperties"]["password"] = json!({ "type": "SecureString", "value": { "inside": refused } });
        let mut outside = self.postgres(refused);
        outside["password"] = secure(refused);
        let mut port = self.postgres(refused);
        port["typeProperties"]["port"] = json!({ "type": "SecureString", "value": refused });
        let mut default = self.postgres("@linkedService().pw");
        default["parameters"] = json!({ "pw": { "type": "SecureString", "defaultValue": refused } });
        let dataset = json!({
            "type": "PostgreSqlV2Table", "linkedServiceName": service("right"),
            "typeProperties": { "schema": "public", "table": secure(refused) },
        });
        let pipeline = json!({
            "activities": [],
            "parameters": { "password": { "type": "SecureString", "defaultValue": refused } },
        });
        for (path, properties) in [
            ("linkedservices/elsewhere", elsewhere),
            ("linkedservices/unknown", unknown),
            ("linkedservices/object", object),
            ("linkedservices/outside", outside),
            ("linkedservices/port", port),
            ("linkedservices/default", default),
            ("linkedservices/half-key", self.blob(&format!("{refused};")).clone()),
            ("datasets/secret", dataset),
            ("pipelines/secret", pipeline),
        ] {
            // Whether it is refused or sealed is for other tests; here it must not be repeated or kept in clear.
            let status = self.call("PUT", path, V2, &json!({ "properties": properties }).to_string());
            assert!((200..500).contains(&status), "{path}: {status}");
        }
        let cut_file = write(own, "broken.json", cut);
        for words in [vec!["linked-service", "put", &cut_file], vec!["apply", &cut_file]] {
            assert_ne!(self.site.dmg(words.clone()).code, 0, "{words:?}");
        }
        assert_ne!(self.site.dmg(["credential", "encrypt", &cut_file, "--gateway", "onprem"]).code, 0);
    }

    fn tests(&self) {
        for (name, works) in [
            ("right", true),
            ("blob", true),
            ("local", true),
            ("wrong", false),
            ("encrypted", false),
            ("version1", false),
            ("wrong-blob", false),
            ("sas", false),
        ] {
            let tested = self.site.dmg(["linked-service", "test", name]);
            assert_eq!(tested.code == 0, works, "{name}: {}", tested.output);
        }
    }

    fn failing_runs(&self) {
        for pipeline in ["missing", "locked", "bad-value", "wrong-key", "wrong-sas"] {
            let run = self.site.run(pipeline);
            let (status, shown) = self.site.wait_run(&run, DEADLINE);
            assert_eq!(status, "Failed", "{pipeline}: {shown}");
            let _ = self.site.dmg(["run", "receipt", &run]);
        }
    }

    fn disturbed_runs(&mut self) {
        for pipeline in ["killed", "local"] {
            let run = self.site.run(pipeline);
            let worker = self.a_worker();
            kill_process(worker);
            self.look();
            let (status, shown) = self.site.wait_run(&run, DEADLINE);
            assert_eq!(status, "Succeeded", "{pipeline}: {shown}");
            let _ = self.site.dmg(["run", "receipt", &run]).ok();
        }
        let run = self.site.run("cancelled");
        let _ = self.a_worker();
        let _ = self.site.dmg(["run", "cancel", &run]).ok();
        let (status, shown) = self.site.wait_run(&run, DEADLINE);
        assert_eq!(status, "Cancelled", "{shown}");

        let run = self.site.run("local");
        let _ = self.a_worker();
        self.site.kill_node();
        self.look();
        self.site.start_node();
        let (status, shown) = self.site.wait_run(&run, DEADLINE);
        assert_eq!(status, "Succeeded", "{shown}");
    }

    fn a_worker(&self) -> u32 {
        wait::until("a worker", Duration::from_secs(30), || self.site.workers().first().copied())
    }

    fn copies_without_service(&self, own: &TempDir) {
        let (host, port) = self.database.host_and_port();
        let (user, database) = (self.user(), &self.database.name);
        let from = format!("postgres://{user}@{host}:{port}/{database}");
        let right = write(own, "right", self.canaries.get("password by the command line"));
        let wrong = write(own, "wrong", self.canaries.get("wrong password of a copy"));
        let to = format!("file:{}", self.site.path("out/copied.parquet").display());
        for (secret, code) in [(&right, 0), (&wrong, 1)] {
            let words =
                ["copy", "--from", &from, "--secret-file", secret, "--query", "SELECT id FROM readings", "--to", &to];
            let copied = self.site.answer("copy", &mut dmg(words));
            assert_eq!(copied.code, code, "{}", copied.errors);
        }
        // A password in a URI is in the arguments by its owner's doing; what is said about it must not repeat it.
        let careless = canary::secret("0123456789abcdef").replace(['"', '\\', ' ', '%', '/', '?', '€', 'ü'], "");
        let from = format!("postgres://{user}:{careless}@{host}:{port}/{database}");
        let refused =
            Answer::of(dmg(["copy", "--from", &from, "--table", "readings", "--to", &to]).env("DMG_LOG", "trace"));
        assert_ne!(refused.code, 0);
        let said = format!("{}{}", refused.output, refused.errors);
        assert_eq!(Scanner::new(forms(&careless)).bytes("the refusal", said.as_bytes()), []);
    }

    /// Everything that can be asked, by the command line and by the API.
    fn questions(&self, own: &TempDir) {
        let names = ["right", "wrong", "encrypted", "blob", "wrong-blob", "sas", "local"];
        for name in names {
            let _ = self.site.dmg(["linked-service", "show", name]).ok();
            assert_eq!(self.call("GET", &format!("linkedservices/{name}"), V2, ""), 200);
        }
        for words in [
            ["linked-service", "list"].as_slice(),
            &["dataset", "list"],
            &["pipeline", "list"],
            &["gateway", "list"],
            &["gateway", "show", "onprem"],
            &["run", "list"],
        ] {
            let _ = self.site.dmg(words.iter().copied()).ok();
        }
        let hours = json!({ "lastUpdatedAfter": "2000-01-01T00:00:00Z", "lastUpdatedBefore": "2100-01-01T00:00:00Z" });
        for (method, path, version, body) in [
            ("GET", "linkedservices", V2, String::new()),
            ("GET", "datasets", V2, String::new()),
            ("GET", "pipelines", V2, String::new()),
            ("GET", "integrationruntimes", V2, String::new()),
            ("GET", "integrationruntimes/onprem", V2, String::new()),
            ("GET", "integrationruntimes/onprem/nodes/node1", V2, String::new()),
            ("POST", "integrationruntimes/onprem/getstatus", V2, String::new()),
            ("POST", "integrationruntimes/onprem/getconnectioninfo", V2, String::new()),
            ("POST", "integrationruntimes/onprem/monitoringdata", V2, String::new()),
            ("POST", "querypipelineruns", V2, hours.to_string()),
            ("GET", "sealing", OURS, String::new()),
            ("GET", "v1documents/linkedservices", OURS, String::new()),
            ("GET", "v1documents/linkedservices/version1", OURS, String::new()),
        ] {
            assert_eq!(self.call(method, path, version, &body), 200, "{method} {path}");
        }
        let runs = self.site.dmg(["run", "list"]).ok().json();
        for run in runs.as_array().into_iter().flatten().filter_map(|run| run["runId"].as_str()) {
            let path = format!("pipelineruns/{run}/queryactivityruns");
            assert_eq!(self.call("POST", &path, V2, &hours.to_string()), 200);
            assert_eq!(self.call("GET", &format!("pipelineruns/{run}"), V2, ""), 200);
        }
        let password = write(own, "pfx", self.canaries.get("password of the PFX file"));
        let (data, pfx) = (self.site.node_data(), self.site.path("gateway.pfx"));
        let words = ["node", "certificate", "export", text(&pfx), "--password-file", &password, "--data", text(&data)];
        let _ = self.site.answer("node certificate", &mut dmg(words)).ok();
        for words in [["node", "certificate", "show"].as_slice(), &["node", "status"]] {
            let _ = self.site.answer("node", dmg(words).arg("--data").arg(&data)).ok();
        }
    }

    /// One request to the API by a client of Python's; returns the status. The answer is kept as it came.
    fn call(&self, method: &str, path: &str, version: &str, body: &str) -> u16 {
        let url = format!("{}{FACTORY}/{path}?api-version={version}", self.site.url());
        let (token, ca) = (self.site.token_file(), self.site.ca());
        let mut command = judge("judge/call_api.py", [method, &url, text(&token), text(&ca)]).expect("it was there");
        let answer = self.site.path("answers").join(format!("api {method} {}.output", path.replace('/', " ")));
        let file = std::fs::OpenOptions::new().append(true).create(true).open(answer).expect("a file for the answer");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the interpreter of Python starts");
        child.stdin.take().expect("piped").write_all(body.as_bytes()).expect("the body is taken");
        let output = child.wait_with_output().expect("it ends");
        (&file).write_all(&output.stdout).expect("the answer is kept");
        let text = String::from_utf8_lossy(&output.stdout);
        text.split(' ').next().and_then(|status| status.parse().ok()).expect("the answer begins with its status")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn write(own: &TempDir, name: &str, content: &str) -> String {
    let path: PathBuf = own.path().join(name);
    std::fs::write(&path, content).expect("it can be written");
    text(&path).to_owned()
}
