//! Looking into stores: straight by a URI, and through service and gateway by a linked service. Names, columns and rows
//! are compared with what the test itself put there.

use std::time::Duration;

use dmg_system_tests::{Answer, Database, Installation, dmg, need};
use serde_json::{Value, json};

const SCHEMA: &str = "
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id int PRIMARY KEY, name text NOT NULL, amount numeric(15,2));
CREATE VIEW sales.large AS SELECT * FROM sales.orders WHERE amount > 10;
INSERT INTO sales.orders VALUES (1, 'one', 1.50), (2, E'two\\nlines', NULL), (3, repeat('x', 5000), 30);
CREATE TABLE plain (a int);
";

fn names(listing: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let tables = listing["tables"].as_array().expect("tables");
    tables.iter().map(|table| (text(&table["name"]), text(&table["kind"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect()
}

/// The same looks, whoever carries them out.
fn looks(look: impl Fn(&[&str]) -> Answer) {
    let schemas = look(&["schemas"]).ok().json();
    let schemas: Vec<&str> = schemas["names"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    assert!(schemas.contains(&"sales") && schemas.contains(&"public"), "{schemas:?}");
    assert!(!schemas.iter().any(|name| name.starts_with("pg_")), "{schemas:?}");
    let tables = look(&["tables", "--schema", "sales"]).ok().json();
    assert_eq!(names(&tables), pairs(&[("large", "view"), ("orders", "table")]));
    let tables = look(&["tables"]).ok().json();
    assert_eq!(names(&tables), pairs(&[("plain", "table")]), "the default schema");
    let columns = look(&["columns", "--table", "sales.orders"]).ok().json();
    let columns: Vec<Value> = columns["columns"].as_array().expect("columns").clone();
    let brief = |column: &Value| json!([column["name"], column["kind"], column["nullable"], column["key"]]);
    assert_eq!(
        columns.iter().map(brief).collect::<Vec<_>>(),
        [
            json!(["id", "int32", false, true]),
            json!(["name", "text", false, false]),
            json!(["amount", "decimal(15,2)", true, false])
        ]
    );
    let preview = look(&["preview", "--query", "SELECT * FROM sales.orders ORDER BY id"]).ok().json();
    let long = format!("{}…", "x".repeat(1000));
    assert_eq!(
        preview["rows"],
        json!([["1", "one", "1.50"], ["2", "two\nlines", null], ["3", long, "30.00"]]),
        "long values are cut"
    );
    let preview = look(&["preview", "--table", "sales.orders", "--rows", "2"]).ok().json();
    assert_eq!(preview["rows"].as_array().map(Vec::len), Some(2));
    let _ = look(&["columns", "--table", "sales.nothing"]).fault("UserErrorTableMissing");
    let _ = look(&["preview", "--query", "SELECT * FROM sales.nothing"]).fault("UserErrorTableMissing");
}

#[test]
fn a_database_by_its_uri() {
    let database = need!(Database::create());
    database.sql(SCHEMA);
    let url = database.url();
    looks(|arguments| {
        let (verb, rest) = arguments.split_first().expect("a verb");
        let mut command = dmg(["store", verb, &url]);
        command.args(rest).args(["--secret-file", &database.password_file, "--output", "json"]);
        Answer::of(&mut command)
    });
}

/// A preview ends its read: it must not take the time or the traffic of the whole table.
#[test]
fn a_preview_of_a_large_table_reads_its_beginning() {
    let database = need!(Database::create());
    database.sql(
        "CREATE TABLE large AS SELECT i AS id, repeat(md5(i::text), 20) AS text FROM generate_series(1, 400000) i",
    );
    let url = database.url();
    let secret = ["--secret-file", &database.password_file, "--output", "json"];
    let seconds = |arguments: &[&str]| {
        let started = dmg_system_tests::wait::now();
        let _ = Answer::of(dmg(["store", "preview", &url]).args(arguments).args(secret)).ok();
        started.elapsed()
    };
    let none = seconds(&["--query", "SELECT 1 AS one"]);
    let large = seconds(&["--table", "large", "--rows", "5"]);
    assert!(large < none + Duration::from_secs(3), "{large:?} for five rows, {none:?} for one");
    dmg_system_tests::wait::until("no session to be left", Duration::from_secs(10), || {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dmg/%'";
        (database.number(busy) == 0).then_some(())
    });
}

fn furnish(site: &Installation, database: &Database) {
    let via = json!({ "referenceName": "onprem", "type": "IntegrationRuntimeReference" });
    let (host, port) = database.host_and_port();
    let password = std::fs::read_to_string(&database.password_file).expect("the password");
    let properties = json!({ "type": "PostgreSqlV2", "connectVia": via, "typeProperties": {
        "server": host, "port": port, "database": database.name, "username": database.user(), "sslMode": 0,
        "authenticationType": "Basic", "password": { "type": "SecureString", "value": password.trim() } } });
    site.put("linked-service", "pg", properties);
    std::fs::create_dir_all(site.path("files/deep")).expect("a folder");
    std::fs::write(site.path("files/a.csv"), "\"id\",\"name\"\n\"1\",\"one\"\n\"2\",\n").expect("a file");
    std::fs::write(site.path("files/deep/b.csv"), "\"id\"\n\"7\"\n").expect("a file");
    let root = site.path("files");
    let properties = json!({ "type": "FileServer", "connectVia": via, "typeProperties": { "host": root } });
    site.put("linked-service", "disk", properties);
}

#[test]
fn stores_through_service_and_gateway() {
    let database = need!(Database::create());
    database.sql(SCHEMA);
    let site = Installation::start("info");
    furnish(&site, &database);
    let through = |service: &str, arguments: &[&str]| {
        let (verb, rest) = arguments.split_first().expect("a verb");
        let all: Vec<&str> = ["store", verb, "--linked-service", service].iter().chain(rest).copied().collect();
        site.dmg(all)
    };
    looks(|arguments| through("pg", arguments));
    let disk = |arguments: &[&str]| through("disk", arguments);
    assert_eq!(disk(&["schemas"]).ok().json()["names"], json!(["deep"]));
    let tables = disk(&["tables"]).ok().json();
    assert_eq!(names(&tables), pairs(&[("a.csv", "file"), ("deep", "folder")]));
    assert_eq!(names(&disk(&["tables", "--schema", "deep"]).ok().json()), pairs(&[("b.csv", "file")]));
    let preview = disk(&["preview", "--file", "a.csv"]).ok().json();
    assert_eq!(preview["rows"], json!([["1", "one"], ["2", null]]));
    let columns = disk(&["columns", "--file", "deep/b.csv"]).ok().json();
    assert_eq!(columns["columns"][0]["name"], "id");
    let _ = disk(&["preview", "--file", "none.csv"]).fault("UserErrorContainerMissing");
    let _ = through("nothing", &["schemas"]).fault("UserErrorNotFound");
    let _ = disk(&["preview", "--table", "orders"]).fault("UserErrorSettings");
    // The service's log tells of the looks, never of what was seen.
    for log in ["service", "node"] {
        assert!(!site.log_text(log).contains("two\\nlines"), "rows are in the {log}'s log");
    }
}

#[test]
fn files_by_their_uri() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("in")).expect("a folder");
    std::fs::write(folder.path().join("in/a.csv"), "\"id\",\"name\"\n\"1\",\"one\"\n\"2\",\n").expect("a file");
    let here = folder.path().display().to_string();
    let say = |arguments: &[&str]| {
        let answer = Answer::of(dmg(["store"]).args(arguments));
        let shown =
            format!("$ dmg store {}\n{}{}exit {}\n\n", arguments.join(" "), answer.output, answer.errors, answer.code);
        shown.replace(&here, "/data")
    };
    let (root, file) = (format!("file:{here}/"), format!("file:{here}/in/a.csv"));
    let all = [
        say(&["schemas", &root]),
        say(&["tables", &root]),
        say(&["tables", &format!("file:{here}/in")]),
        say(&["columns", &file]),
        say(&["preview", &file]),
        say(&["preview", &file, "--rows", "0"]),
        say(&["schemas"]),
        say(&["call", &root, "p"]),
    ];
    insta::assert_snapshot!(all.concat());
}
