//! Bad days of MariaDB: names that need quoting, locks, limits, servers that forbid things. Some start a server of
//! their own. Needs a server (DMG_TEST_MARIADB).

use std::path::PathBuf;
use std::process::Command;

use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::Session;
use dmg_protocol::{Secret, Secrets, WriteMode};

use crate::mysql_support::MariaDb;
use crate::support::{LIMITS, code, content, copy, plan, read_all, request, rows, stage, table, text};

/// A server of the test's own, ended when dropped.
struct Own {
    folder: tempfile::TempDir,
    world: MariaDb,
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers/mariadb").join(name)
}

impl Own {
    /// Starts a server with those settings, or nothing where there is none at all.
    fn start(settings: &[&str]) -> Option<Self> {
        MariaDb::new("own")?;
        let folder = tempfile::Builder::new().prefix("dmg-mariadb").tempdir().expect("a folder");
        let place = folder.path().join("server");
        // The server runs as another user.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opens");
        let quick = ["innodb_flush_log_at_trx_commit=0", "innodb_doublewrite=0"];
        let output = Command::new(script("start")).arg(&place).args(quick).args(settings).output().expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).expect("text");
        let value = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            line.expect(name).to_owned()
        };
        let password = std::fs::read_to_string(value("DMG_TEST_MARIADB_PASSWORD_FILE")).expect("the password");
        let world = MariaDb::on(&value("DMG_TEST_MARIADB"), password.trim(), "own");
        Some(Own { folder, world })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = Command::new(script("stop")).arg(self.folder.path().join("server")).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_need_quoting_go_both_ways() {
    let Some(world) = MariaDb::new("names") else { return };
    let long = "n".repeat(64);
    for name in
        ["select", "a b", "quote'd \"x\"", "back`tick", "dot.ted", "per%cent", "été 🎉x", "semi;colon --", &long]
    {
        // Beyond the basic plane no name is allowed.
        let name = name.replace('🎉', "");
        let quoted = format!("`{}`", name.replace('`', "``"));
        let target = format!("`{}`", format!("{}2", &name.chars().take(63).collect::<String>()).replace('`', "``"));
        let target_name = format!("{}2", &name.chars().take(63).collect::<String>());
        world.run(&format!(
            "CREATE TABLE {quoted} ({quoted} bigint PRIMARY KEY, `group` varchar(10)); INSERT INTO {quoted} VALUES (1, 'x'); \
             CREATE TABLE {target} LIKE {quoted}"
        ));
        for mode in [WriteMode::Append, WriteMode::Overwrite, WriteMode::Upsert] {
            let run = Ambient::real().uuid();
            let source = world.source(table(&name), 1, 100).await.expect(&name);
            let mut sink = world.sink(request(&run, 1, &target_name, mode)).await.expect(&name);
            copy(source.as_ref(), sink.as_mut()).await.expect(&name);
            assert_eq!(world.run(&format!("SELECT * FROM {target}")), "1\tx", "{name}");
            if mode == WriteMode::Append {
                world.run(&format!("DELETE FROM {target}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_held_is_a_conflict_and_nothing_is_lost() {
    let Some(world) = MariaDb::new("deadlock") else { return };
    world.run(
        "CREATE TABLE src (id bigint); INSERT INTO src VALUES (1), (2); \
         CREATE TABLE dst (id bigint PRIMARY KEY) ; INSERT INTO dst VALUES (1), (2), (9)",
    );
    // The other session holds row 2 and then wants row 1, which the upsert has: one of the two is sent home.
    let mut sink = world.sink(request(&world.run_id(1), 1, "dst", WriteMode::Upsert)).await.expect("opens");
    let source = world.source(table("src"), 1, 100).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    let world = std::sync::Arc::new(world);
    let mut tasks: TaskGroup<()> = TaskGroup::new();
    let holder = world.clone();
    tasks.spawn_blocking(move || {
        drop(holder.try_run(
            "START TRANSACTION; UPDATE dst SET id = id WHERE id = 2; SELECT SLEEP(2); UPDATE dst SET id = id WHERE id = 1; \
             SELECT SLEEP(1); COMMIT",
        ));
    });
    while world
        .run("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND STATE = 'User sleep'")
        == "0"
    {
        tokio::task::yield_now().await;
    }
    match sink.commit(&content(&sums)).await {
        Ok(_) => {}
        Err(error) => {
            assert_eq!(error.fault.code, "StoreErrorConflict", "{}", error.fault);
            sink.commit(&content(&sums)).await.expect("the next try");
        }
    }
    while tasks.join_next().await.is_some() {}
    assert_eq!(world.run("SELECT GROUP_CONCAT(id ORDER BY id) FROM dst"), "1,2,9");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_ended_says_so() {
    let Some(world) = MariaDb::new("ended") else { return };
    world.run("CREATE TABLE t (id bigint PRIMARY KEY, v varchar(250)); INSERT INTO t SELECT seq, REPEAT('x', 250) FROM seq_1_to_200000");
    let source = world.source(table("t"), 1, 1_000_000).await.expect("opens");
    let mut stream = source.read(&source.parts()[0], LIMITS).await.expect("reads");
    futures::StreamExt::next(&mut stream).await.expect("a batch").expect("good");
    let ended = world.run(
        "SELECT CONCAT('KILL ', ID, ';') FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID()",
    );
    world.run(&ended);
    let mut failed = "no failure".to_owned();
    while let Some(batch) = futures::StreamExt::next(&mut stream).await {
        if let Err(error) = batch {
            failed = error.fault.code;
        }
    }
    assert_eq!(failed, "NetworkErrorStoreUnreachable");
    // The snapshot is gone with its session; a second reading must not be of another state.
    drop(stream);
    assert_eq!(code(source.read(&source.parts()[0], LIMITS).await.map(drop)), "UserErrorSourceChanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forbids_local_files_gets_inserts() {
    let Some(own) = Own::start(&["local_infile=0"]) else { return };
    let world = &own.world;
    world.run(crate::mysql_write::WIDE);
    world.run("CREATE TABLE arrived LIKE wide");
    let source = world.source(table("wide"), 1, 100).await.expect("opens");
    let mut wanted = request(&world.run_id(1), 1, "arrived", WriteMode::Append);
    wanted.batch_rows = Some(2);
    let mut sink = world.sink(wanted).await.expect("opens");
    let plans = plan(source.as_ref(), sink.as_mut()).await.expect("plans");
    let notices = sink.plan(&plans).await.expect("plans").notices;
    assert!(notices.iter().any(|notice| notice.contains("LOAD DATA LOCAL")), "{notices:?}");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    let columns = world.run(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'wide'",
    );
    let columns: Vec<&str> = columns.lines().filter(|name| !matches!(*name, "f" | "d")).collect();
    world.same("wide", "arrived", &columns);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_read_only_or_full_says_so() {
    let Some(own) = Own::start(&["max_connections=10", "max_user_connections=4"]) else { return };
    let world = &own.world;
    world.run(
        "CREATE TABLE src (id bigint); INSERT INTO src VALUES (1); CREATE TABLE dst (id bigint); \
         CREATE USER plain IDENTIFIED BY 'p'; GRANT SELECT, INSERT, DELETE, CREATE, DROP, ALTER ON *.* TO plain; \
         CREATE USER reader IDENTIFIED BY 'p'; GRANT SELECT ON *.* TO reader; SET GLOBAL read_only = 1",
    );
    let open = |user: &str| {
        let mut settings = world.own_settings();
        settings.insert("user".into(), user.into());
        let secrets: Secrets = [("password".to_owned(), Secret::from("p"))].into_iter().collect();
        let session = Session::new(Ambient::real(), "dmg/test");
        async move { dmg_tables::store("mysql").expect("listed").open(&settings, &secrets, session).await.expect("opens") }
    };
    let plain = open("plain").await;
    for (round, expected) in [("read-only", "read-only"), ("no rights", "denied")] {
        let connection = if round == "read-only" { plain.clone() } else { open("reader").await };
        let mut sink = connection.sink(request(&world.run_id(1), 1, "dst", WriteMode::Append)).await.expect("opens");
        let source = connection.source(&table("src"), 1, 10).await.expect("opens");
        plan(source.as_ref(), sink.as_mut()).await.expect("plans");
        let said = text(sink.begin().await);
        assert!(said.contains("UserErrorPermission") && said.contains(expected), "{round}: {said}");
        world.run("SET GLOBAL read_only = 0");
    }
    // A user that may not lock reads with one session, and reads everything.
    world.run("CREATE TABLE many (id bigint PRIMARY KEY); INSERT INTO many SELECT seq FROM seq_1_to_60000");
    let reader = open("reader").await;
    let source = reader.source(&table("many"), 2, 20_000).await.expect("opens");
    assert!(source.notices().iter().any(|notice| notice.contains("one session")), "{:?}", source.notices());
    assert_eq!(rows(&read_all(source.as_ref(), LIMITS).await.expect("reads")), 60_000);
    // Four sessions are all there are.
    let mut held = Vec::new();
    let refused = loop {
        match reader.source(&table("src"), 1, 10).await {
            Ok(source) => held.push(source),
            Err(error) => break error,
        }
        assert!(held.len() < 10);
    };
    assert_eq!(refused.fault.code, "StoreErrorConflict", "{}", refused.fault);
    assert!(refused.fault.remedy.contains("max_connections"), "{}", refused.fault.remedy);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_used_and_checked_as_asked() {
    let Some(_) = MariaDb::new("tls") else { return };
    let folder = tempfile::Builder::new().prefix("dmg-tls").tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opens");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(Vec::<String>::new()).expect("a subject");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let signed = authority.self_signed(&key).expect("signs");
    let issuer = rcgen::Issuer::new(authority, key);
    let server_key = rcgen::KeyPair::generate().expect("a key");
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let server = server.signed_by(&server_key, &issuer).expect("signs");
    let (certificate, secret) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, server.pem()).expect("writes");
    std::fs::write(&secret, server_key.serialize_pem()).expect("writes");
    let settings = [format!("ssl_cert={}", certificate.display()), format!("ssl_key={}", secret.display())];
    let Some(own) = Own::start(&[&settings[0], &settings[1]]) else { return };
    let world = &own.world;
    let query = crate::support::query(
        "SELECT VARIABLE_VALUE AS cipher FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'",
    );
    for (host, mode, trusted, expected) in [
        ("127.0.0.1", "disable", false, "clear"),
        ("127.0.0.1", "prefer", false, "encrypted"),
        ("127.0.0.1", "require", false, "encrypted"),
        ("127.0.0.1", "verify-ca", true, "encrypted"),
        ("127.0.0.1", "verify-ca", false, "NetworkErrorTls"),
        ("127.0.0.1", "verify-full", true, "NetworkErrorTls"),
        ("localhost", "verify-full", true, "encrypted"),
    ] {
        let mut settings = world.own_settings();
        settings.insert("host".into(), host.into());
        settings.insert("sslMode".into(), mode.into());
        let mut session = Session::new(Ambient::real(), "dmg/test");
        if trusted {
            session.extra_ca = std::sync::Arc::new(vec![signed.pem().into_bytes()]);
        }
        let store = dmg_tables::store("mysql").expect("listed");
        let connection = store.open(&settings, &world.own_secrets(), session).await.expect("settings");
        let found = match connection.source(&query, 1, 10).await {
            Err(error) => error.fault.code,
            Ok(source) => {
                let batches = read_all(source.as_ref(), LIMITS).await.expect("reads");
                let cipher = arrow_array::cast::AsArray::as_string::<i32>(batches[0].column(0)).value(0).to_owned();
                if cipher.is_empty() { "clear" } else { "encrypted" }.to_owned()
            }
        };
        assert_eq!(found, expected, "{host} {mode}, trusted: {trusted}");
    }
}
