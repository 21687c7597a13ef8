//! Bad input at the command line: each gives exactly one fault, says what to do, betrays no secret, and leaves the
//! old target and nothing else behind. The texts are snapshots, to be read aloud. Everything is real: servers, files,
//! a full disk, a source that goes away. It does not test what only a service can be given.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dmg_system_tests::wait::until;
use dmg_system_tests::{Answer, Azurite, Database, azurite, dmg, judge, need, skipped};
use serde_json::Value;

/// A password that is wrong, and must not be seen either.
const WRONG: &str = "wrong-pass-Zq7+/ü";
const DEADLINE: Duration = Duration::from_secs(60);

/// Two databases, a folder for targets and one for what is read, and what was said so far.
struct World {
    source: Database,
    target: Database,
    files: tempfile::TempDir,
    targets: tempfile::TempDir,
    keys: tempfile::TempDir,
    secrets: Vec<String>,
    redactions: Vec<(String, &'static str)>,
    said: String,
    wrong: Vec<String>,
}

impl World {
    /// `rows` has three rows; `old.parquet` and table `old` hold their old content.
    fn new() -> Option<World> {
        let (source, target) = (Database::create()?, Database::create()?);
        let folder = || tempfile::tempdir().expect("a folder");
        source.sql(
            "CREATE TABLE rows (id bigint, name text); INSERT INTO rows VALUES (1, 'one'), (2, 'two'), (3, NULL); \
             CREATE TABLE large (id bigint, body text); \
             INSERT INTO large VALUES (1, 'x'), (2, repeat('secret value ', 1000000))",
        );
        target.sql(
            "CREATE TABLE old (id bigint, name text); CREATE TABLE dated (id date, name text); \
             CREATE TABLE narrow (id bigint); CREATE TABLE required (id bigint, name text NOT NULL)",
        );
        let password = std::fs::read_to_string(&source.password_file).expect("the password").trim().to_owned();
        let mut world = World {
            redactions: vec![
                (source.host_and_port().1.to_string(), "PORT"),
                (source.name.clone(), "SOURCE"),
                (target.name.clone(), "TARGET"),
            ],
            source,
            target,
            files: folder(),
            targets: folder(),
            keys: folder(),
            secrets: vec![password, WRONG.to_owned()],
            said: String::new(),
            wrong: Vec::new(),
        };
        for (path, name) in [(&world.files, "FILES"), (&world.targets, "TARGETS"), (&world.keys, "KEYS")] {
            world.redactions.push((path.path().to_string_lossy().into_owned(), name));
        }
        std::fs::write(world.keys.path().join("wrong"), WRONG).expect("writes");
        let _ = world
            .copy(&world.rows_of_source(), &[&world.to_file("old.parquet"), &strings(&["--mode", "overwrite"])])
            .ok();
        let _ = world.copy(&world.rows_of_source(), &[&world.to_table("old")]).ok();
        Some(world)
    }

    fn from(&self, what: &str, name: &str) -> Vec<String> {
        strings(&["--from", &self.source.url(), "--secret-file", &self.source.password_file, what, name])
    }

    fn rows_of_source(&self) -> Vec<String> {
        self.from("--table", "rows")
    }

    fn file_of_source(&self, name: &str) -> Vec<String> {
        strings(&["--from", &format!("file:{}", self.files.path().join(name).display())])
    }

    fn to_file(&self, name: &str) -> Vec<String> {
        strings(&["--to", &format!("file:{}", self.targets.path().join(name).display())])
    }

    /// Over the old file: what fails must not take it away.
    fn over_file(&self) -> Vec<String> {
        [self.to_file("old.parquet"), strings(&["--mode", "overwrite"])].concat()
    }

    fn to_table(&self, table: &str) -> Vec<String> {
        strings(&["--to", &self.target.url(), "--secret-file", &self.target.password_file, "--table", table])
    }

    fn over_table(&self) -> Vec<String> {
        [self.to_table("old"), strings(&["--mode", "overwrite"])].concat()
    }

    fn command(from: &[String], rest: &[&Vec<String>]) -> Command {
        let head = strings(&["--output", "json", "copy"]);
        dmg(head.iter().chain(from).chain(rest.iter().copied().flatten()))
    }

    fn copy(&self, from: &[String], rest: &[&Vec<String>]) -> Answer {
        Answer::of(&mut Self::command(from, rest))
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).expect("writes");
        path
    }

    /// Everything a failed copy could have changed: both databases and the folder of targets, hidden files too.
    fn state(&self) -> BTreeMap<String, Vec<u8>> {
        let tables = "SELECT table_schema || '.' || table_name || ' ' || \
             md5(query_to_xml(format('SELECT t::text FROM %I.%I t ORDER BY 1', table_schema, table_name), true, false, '')::text) \
             FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";
        let mut state = BTreeMap::new();
        for database in [&self.source, &self.target] {
            state.insert(database.name.clone(), database.sql(tables).into_bytes());
        }
        for entry in std::fs::read_dir(self.targets.path()).expect("the folder") {
            let path = entry.expect("an entry").path();
            state.insert(path.display().to_string(), std::fs::read(&path).expect("reads"));
        }
        state
    }

    fn refused(&mut self, case: &str, code: &str, from: &[String], rest: &[&Vec<String>]) {
        let before = self.state();
        let answer = self.copy(from, rest);
        self.judge(case, code, &answer);
        assert!(self.state() == before, "{case}: the target changed, or something was left over");
    }

    /// One fault, complete, without secrets; kept for the snapshot.
    fn judge(&mut self, case: &str, code: &str, answer: &Answer) {
        let shown = format!("{case}: exit code {}\n{}\n{}", answer.code, answer.output, answer.errors);
        assert_eq!(answer.code, 1, "{shown}");
        assert_eq!(answer.output, "", "{shown}");
        for secret in &self.secrets {
            assert!(!answer.errors.contains(secret.as_str()), "{case} betrays a secret");
        }
        for word in ["panicked", "RUST_BACKTRACE", "secret value"] {
            assert!(!answer.errors.contains(word), "{shown}");
        }
        let said: Value = serde_json::from_str(&answer.errors).unwrap_or_else(|error| panic!("{error} in {shown}"));
        let word = |name: &str| said["error"][name].as_str().unwrap_or_default().to_owned();
        if word("code") != code {
            self.wrong.push(format!("wanted {code}: {shown}"));
        }
        assert!(!word("message").is_empty() && !word("remedy").is_empty(), "{shown}");
        let text = format!("{case}\n  {}: {}\n  {}\n\n", word("code"), word("message"), word("remedy"));
        // What the Parquet library says of damage depends on where in which encoding it hit.
        let text = match (text.find(" (Parquet"), text.find(").")) {
            (Some(from), Some(to)) => format!("{} (DETAIL{}", &text[..from], &text[to..]),
            _ => text,
        };
        let redacted = self.redactions.iter().fold(text, |text, (from, to)| text.replace(from.as_str(), to));
        self.said.push_str(&redacted);
    }
}

impl World {
    /// All cases had the code they should, and what they said is what was read aloud.
    fn done(&self, name: &str) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        insta::assert_snapshot!(name, self.said);
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A server that answers every caller with the same words.
fn junk(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        while let Ok((mut caller, _)) = listener.accept() {
            let _ = caller.set_read_timeout(Some(Duration::from_secs(2)));
            let _ = caller.read(&mut [0; 65536]);
            let _ = caller.write_all(answer);
            let _ = caller.shutdown(std::net::Shutdown::Write);
            let _ = caller.read(&mut [0; 65536]);
        }
    });
    port
}

fn closed_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A session that holds what its SQL takes until it is dropped.
struct Held(Child);

impl Held {
    fn new(database: &Database, sql: &str) -> Held {
        let password = std::fs::read_to_string(&database.password_file).expect("the password");
        let mut child = Command::new("psql")
            .args(["-qAtX", "-v", "ON_ERROR_STOP=1", &database.url()])
            .env("PGPASSWORD", password.trim())
            .env("PGAPPNAME", "holder")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql is installed");
        child
            .stdin
            .as_mut()
            .expect("piped")
            .write_all(format!("{sql};\n\\echo held\n").as_bytes())
            .expect("psql reads");
        let mut heard = Vec::new();
        let mut byte = [0];
        let output = child.stdout.as_mut().expect("piped");
        while !heard.ends_with(b"held\n") {
            output.read_exact(&mut byte).expect("psql answers");
            heard.push(byte[0]);
        }
        Held(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A copy that goes on in the background.
fn start(from: &[String], rest: &[&Vec<String>]) -> Child {
    let mut command = World::command(from, rest);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

fn answer(child: Child) -> Answer {
    let output = child.wait_with_output().expect("the program ends");
    Answer {
        code: output.status.code().unwrap_or(-1),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn wait_for_waiting(database: &Database, sessions: i64) {
    until("sessions that wait for a lock", DEADLINE, || {
        let query = "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_database d ON d.oid = database \
             WHERE NOT granted AND d.datname = current_database()";
        (database.number(query) >= sessions).then_some(())
    });
}

#[test]
fn words_that_cannot_be_meant() {
    let mut world = need!(World::new());
    let (over, table) = (world.over_file(), strings(&["--table", "rows"]));
    let from = |uri: &str| [strings(&["--from", uri]), table.clone()].concat();
    let url = world.source.url();
    let with_password = url.replace('@', &format!(":{}@", "hunter2-in-uri"));
    world.secrets.push("hunter2-in-uri".to_owned());
    world.refused("a password in the URI", "UserErrorPasswordInUri", &from(&with_password), &[&over]);
    let in_query = format!("{url}?password=hunter2-in-uri");
    world.refused("a password among the parameters", "UserErrorPasswordInUri", &from(&in_query), &[&over]);
    let sas = strings(&["--to", "azblob://acct/box/x.parquet?sv=1&sig=hunter2-in-uri"]);
    world.refused("a SAS token in the URI", "UserErrorPasswordInUri", &world.rows_of_source(), &[&sas]);
    world.refused("an unknown scheme", "UserErrorSettings", &from("oracle://etl@db01/sales"), &[&over]);
    world.refused("no scheme", "UserErrorSettings", &from("sales.csv"), &[&over]);
    world.refused("no table", "UserErrorSettings", &strings(&["--from", &url]), &[&over]);
    let unknown = world.to_file("x.xlsx");
    world.refused("a file format nobody knows", "UserErrorSettings", &world.rows_of_source(), &[&unknown]);
    let (file, by_key) = (world.to_file("x.parquet"), strings(&["--mode", "upsert", "--key", "id"]));
    let case = "rows of a file to be replaced by key";
    world.refused(case, "UserErrorNotSupported", &world.rows_of_source(), &[&file, &by_key]);
    let missing = strings(&["--from", &url, "--secret-file", "/no/such/file", "--table", "rows"]);
    world.refused("a secret file that is missing", "UserErrorSettings", &missing, &[&over]);
    world.done("words");

    let before = world.state();
    for wrong in [strings(&["--mode", "sideways"]), strings(&["--no-such-option"]), strings(&["--memory", "lots"])] {
        let answer = world.copy(&world.rows_of_source(), &[&world.to_file("new.parquet"), &wrong]);
        assert_eq!((answer.code, answer.output.as_str()), (2, ""), "{}", answer.errors);
        assert!(answer.errors.starts_with("error: "), "{}", answer.errors);
    }
    assert!(world.state() == before, "nothing happened");
}

#[test]
fn servers_that_do_not_answer_as_they_should() {
    let mut world = need!(World::new());
    let over = world.over_file();
    let (url, user) = (world.source.url(), world.source.user());
    let wrong = world.keys.path().join("wrong").display().to_string();
    let from = |uri: &str, secret: &str| strings(&["--from", uri, "--secret-file", secret, "--table", "rows"]);
    world.refused("a wrong password", "UserErrorLoginRefused", &from(&url, &wrong), &[&over]);
    let none = strings(&["--from", &url, "--table", "rows"]);
    world.refused("no password at all", "UserErrorLoginRefused", &none, &[&over]);
    let good = world.source.password_file.clone();
    let elsewhere = url.replace(&world.source.name, "nowhere");
    world.refused("a missing database", "UserErrorContainerMissing", &from(&elsewhere, &good), &[&over]);
    let strict = format!("{url}?sslmode=verify-full");
    world.refused("verify-full where the server has no TLS", "NetworkErrorTls", &from(&strict, &good), &[&over]);
    let closed = closed_port();
    let smtp = junk(b"220 mail.example.com ESMTP\r\n");
    let ssh = junk(b"SSH-2.0-OpenSSH_9.2\r\n");
    for port in [closed, smtp, ssh] {
        world.redactions.push((port.to_string(), "PORT"));
    }
    for (case, host, code) in [
        ("a host that does not exist", "no-such-host.invalid".to_owned(), "NetworkErrorStoreUnreachable"),
        ("a closed port", format!("127.0.0.1:{closed}"), "NetworkErrorStoreUnreachable"),
        ("a mail server", format!("127.0.0.1:{smtp}"), "StoreErrorAnswer"),
        ("a server that speaks SSH", format!("127.0.0.1:{ssh}"), "StoreErrorAnswer"),
    ] {
        world.refused(case, code, &from(&format!("postgres://{user}@{host}/sales"), &good), &[&over]);
        let to = strings(&["--to", &format!("postgres://{user}@{host}/sales"), "--secret-file", &good, "--table", "t"]);
        world.refused(&format!("{case} as the sink"), code, &world.rows_of_source(), &[&to]);
    }
    world.done("servers");
}

#[test]
fn tables_that_do_not_fit() {
    let mut world = need!(World::new());
    let over = world.over_file();
    let query = |world: &World, text: &str| world.from("--query", text);
    world.refused("a missing table", "UserErrorTableMissing", &world.from("--table", "nowhere"), &[&over]);
    world.refused("a missing schema", "UserErrorTableMissing", &world.from("--table", "nowhere.rows"), &[&over]);
    let column = [world.over_file(), strings(&["--column", "id", "--column", "nmae"])].concat();
    world.refused("a missing column", "UserErrorColumnMissing", &world.rows_of_source(), &[&column]);
    world.refused(
        "a missing column in a query",
        "UserErrorColumnMissing",
        &query(&world, "SELECT nmae FROM rows"),
        &[&over],
    );
    world.refused("a broken query", "UserErrorSettings", &query(&world, "SELEC 1"), &[&over]);
    world.refused("a query that writes", "UserErrorSettings", &query(&world, "DELETE FROM rows"), &[&over]);
    world.refused(
        "a query that fails half way",
        "UserErrorValue",
        &query(&world, "SELECT 1 / (3 - id) AS x FROM rows ORDER BY id"),
        &[&over],
    );
    let small = [world.over_file(), strings(&["--memory", "32"])].concat();
    world.refused(
        "a value too large for the budget",
        "UserErrorBudgetExceeded",
        &world.from("--table", "large"),
        &[&small],
    );
    for (case, table, code) in [
        ("a missing target table", "nowhere", "UserErrorTableMissing"),
        ("a target column of another type", "dated", "UserErrorSchemaMismatch"),
        ("a target without one of the columns", "narrow", "UserErrorColumnMissing"),
        ("a NULL where the target allows none", "required", "UserErrorValue"),
    ] {
        world.refused(case, code, &world.rows_of_source(), &[&world.to_table(table)]);
    }
    world.done("tables");
}

#[test]
fn files_that_are_broken_or_in_the_way() {
    let mut world = need!(World::new());
    let over = world.over_table();
    world.refused("a missing file", "UserErrorContainerMissing", &world.file_of_source("none.parquet"), &[&over]);
    world.refused("a missing folder", "UserErrorContainerMissing", &world.file_of_source("none/x.csv"), &[&over]);
    let whole = std::fs::read(world.targets.path().join("old.parquet")).expect("it was written");
    let mut damaged = whole.clone();
    for byte in &mut damaged[4..60] {
        *byte ^= 0x5a;
    }
    for (case, content) in [
        ("a Parquet file cut short", &whole[..whole.len() - 20]),
        ("a Parquet file with damaged pages", &damaged),
        ("a text file that is called Parquet", b"id,name\n1,one\n"),
        ("an empty Parquet file", b""),
    ] {
        world.file("broken.parquet", content);
        world.refused(case, "UserErrorFileFormat", &world.file_of_source("broken.parquet"), &[&over]);
    }
    for (case, content, code) in [
        ("a quote that never ends", "id,name\n1,\"one\n2,two\n".as_bytes(), "UserErrorFileFormat"),
        ("a line with too many columns", b"id,name\n1,one\n2,two,secret value\n", "UserErrorFileFormat"),
        ("a line with too few columns", b"id,name\n1,one\n2\n", "UserErrorFileFormat"),
        ("bytes that are not UTF-8", b"id,name\n1,\xff\xfe\n", "UserErrorFileFormat"),
        ("text where a number is wanted", b"id,name\nsecret value,one\n", "UserErrorValue"),
        ("a column the target lacks", b"id,nmae\n1,one\n", "UserErrorColumnMissing"),
    ] {
        world.file("broken.csv", content);
        world.refused(case, code, &world.file_of_source("broken.csv"), &[&over]);
    }
    let append = world.to_file("old.parquet");
    world.refused("a target file that exists", "UserErrorTargetExists", &world.rows_of_source(), &[&append]);
    world.done("files");
}

/// A container of one test's own, with one old blob.
fn container(world: &mut World) -> Option<(Azurite, String)> {
    let azurite = azurite()?;
    let name = world.source.name.replace('_', "-");
    let _ = Answer::of(&mut judge("judge/container.py", [&azurite.endpoint, &azurite.key_file, &name])?).ok();
    let port = azurite.endpoint.split([':', '/']).nth(4).expect("a port").to_owned();
    world.redactions.push((port, "PORT"));
    world.redactions.push((name.clone(), "CONTAINER"));
    world.secrets.push(std::fs::read_to_string(&azurite.key_file).expect("the key").trim().to_owned());
    Some((azurite, name))
}

#[test]
fn blobs_that_cannot_be_reached_or_are_in_the_way() {
    let mut world = need!(World::new());
    let (azurite, name) = need!(container(&mut world));
    let end = |side: &str, path: &str, endpoint: &str, key: &str| {
        strings(&[side, &format!("azblob://devstoreaccount1/{path}"), "--endpoint", endpoint, "--secret-file", key])
    };
    let blob = |side: &str, path: &str| end(side, path, &azurite.endpoint, &azurite.key_file);
    let old = format!("{name}/old.parquet");
    let _ = world.copy(&world.rows_of_source(), &[&blob("--to", &old)]).ok();
    let list = || {
        let command = judge("judge/blobs.py", [&azurite.endpoint, &azurite.key_file, &name]);
        Answer::of(&mut command.expect("it was there before")).ok().output
    };
    let before = list();
    let wrong = world.keys.path().join("wrong-key");
    let wrong_key = "d3Jvbmcga2V5IG9mIHNvbWUgbGVuZ3RoLCBub3QgdGhlIHJpZ2h0IG9uZQ==";
    std::fs::write(&wrong, wrong_key).expect("writes");
    world.secrets.push(wrong_key.to_owned());
    let wrong = wrong.display().to_string();
    let (closed, smtp) = (closed_port(), junk(b"220 mail.example.com ESMTP\r\n"));
    let web = junk(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
    for port in [closed, smtp, web] {
        world.redactions.push((port.to_string(), "PORT"));
    }
    let place = |port: u16| format!("http://127.0.0.1:{port}/devstoreaccount1");
    let overwrite = strings(&["--mode", "overwrite"]);
    let key = azurite.key_file.clone();
    for (case, path, endpoint, key, code) in [
        ("a missing container", "no-such-container/x.parquet", &azurite.endpoint, &key, "UserErrorContainerMissing"),
        ("a wrong account key", old.as_str(), &azurite.endpoint, &wrong, "UserErrorLoginRefused"),
        ("a closed port", old.as_str(), &place(closed), &key, "NetworkErrorStoreUnreachable"),
        ("a mail server", old.as_str(), &place(smtp), &key, "StoreErrorAnswer"),
        ("another web server", old.as_str(), &place(web), &key, "StoreErrorAnswer"),
        ("a name no container can have", "No_Container/x.parquet", &azurite.endpoint, &key, "UserErrorSettings"),
    ] {
        let from = end("--from", path, endpoint, key);
        world.refused(&format!("{case} as the source"), code, &from, &[&world.over_table()]);
        let to = end("--to", path, endpoint, key);
        world.refused(&format!("{case} as the sink"), code, &world.rows_of_source(), &[&to, &overwrite]);
    }
    let none = blob("--from", &format!("{name}/none.parquet"));
    world.refused("a missing blob", "UserErrorContainerMissing", &none, &[&world.over_table()]);
    let append = blob("--to", &old);
    world.refused("a target blob that exists", "UserErrorTargetExists", &world.rows_of_source(), &[&append]);
    let half_way = world.from("--query", "SELECT 1 / (3 - id) AS x FROM rows ORDER BY id");
    world.refused("a source that fails half way", "UserErrorValue", &half_way, &[&append, &overwrite]);
    assert_eq!(list(), before, "the old blob and nothing else");
    world.done("blobs");
}

/// A small file system of its own.
struct Mount(PathBuf);

impl Mount {
    fn new(path: &Path) -> Option<Mount> {
        std::fs::create_dir(path).expect("a folder");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(path).output();
        done.is_ok_and(|output| output.status.success()).then(|| Mount(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk() {
    let mut world = need!(World::new());
    let Some(mount) = Mount::new(&world.keys.path().join("small")) else {
        skipped("bad_input: a tmpfs cannot be mounted here");
        return;
    };
    let old = mount.0.join("old.csv");
    std::fs::write(&old, "id\n1\n").expect("writes");
    let to = strings(&["--to", &format!("file:{}", old.display()), "--mode", "overwrite"]);
    let many = world.from("--query", "SELECT g AS id, md5(g::text) AS name FROM generate_series(1, 200000) g");
    world.refused("a full disk", "StoreErrorNoSpace", &many, &[&to]);
    assert_eq!(std::fs::read(&old).expect("reads"), b"id\n1\n");
    let left: Vec<_> = std::fs::read_dir(&mount.0).expect("the folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    world.done("full_disk");
}

/// A query that waits, at its first row, for whoever holds the lock.
const WAITING: &str = "SELECT id, name FROM rows WHERE pg_advisory_xact_lock_shared(7)::text IS NOT NULL";

#[test]
fn a_source_that_goes_away() {
    let mut world = need!(World::new());
    let before = world.state();
    let held = Held::new(&world.source, "SELECT pg_advisory_lock(7)");
    let copy = start(&world.from("--query", WAITING), &[&world.over_file()]);
    wait_for_waiting(&world.source, 1);
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name LIKE 'dmg/%'";
    assert!(world.source.number(ended) > 0, "the sessions of the copy were ended");
    // The part would be read again, but nobody holds its snapshot any more.
    world.judge("a server that ends the session", "UserErrorSourceChanged", &answer(copy));
    drop(held);
    assert!(world.state() == before, "the target changed, or something was left over");

    let file = world.file("source.csv", b"id,name\n1,one\n2,two\n");
    for (case, code) in
        [("a file that changes", "UserErrorSourceChanged"), ("a file that is removed", "UserErrorSourceChanged")]
    {
        std::fs::write(&file, b"id,name\n1,one\n2,two\n").expect("writes");
        // Looking at the target goes on, so that the source is opened and planned; making the staging table waits.
        let held = Held::new(&world.target, "BEGIN; LOCK TABLE pg_class IN EXCLUSIVE MODE");
        let copy = start(&world.file_of_source("source.csv"), &[&world.over_table()]);
        wait_for_waiting(&world.target, 1);
        if case.ends_with("removed") {
            std::fs::remove_file(&file).expect("removes");
        } else {
            std::fs::write(&file, b"id,name\n1,one\n2,two\n3,three\n").expect("writes");
        }
        drop(held);
        world.judge(case, code, &answer(copy));
        assert!(world.state() == before, "{case}: the target changed, or something was left over");
    }
    world.done("vanished");
}

#[test]
fn two_runs_on_one_target() {
    let mut world = need!(World::new());
    let held = Held::new(&world.source, "SELECT pg_advisory_lock(7)");
    let copies: Vec<Child> = (0..2).map(|_| start(&world.from("--query", WAITING), &[&world.over_file()])).collect();
    wait_for_waiting(&world.source, 2);
    drop(held);
    let (won, lost): (Vec<Answer>, Vec<Answer>) = copies.into_iter().map(answer).partition(|answer| answer.code == 0);
    assert_eq!((won.len(), lost.len()), (1, 1), "{won:?} {lost:?}");
    world.judge("the second of two runs", "StoreErrorCommitRefused", &lost[0]);
    let left: Vec<_> = std::fs::read_dir(world.targets.path()).expect("the folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let _ = world.copy(&strings(&["--from", &world.over_file()[1]]), &[&world.over_table()]).ok();
    assert_eq!(world.target.number("SELECT count(*) FROM old"), 3, "the winner's content is whole");
    world.done("two_runs");
}
