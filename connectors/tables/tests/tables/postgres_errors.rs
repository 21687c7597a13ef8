//! What goes wrong with a server, as a person meets it: one clear fault each. Needs a server (DMG_TEST_POSTGRES).

use crate::support::{World, code, content, query, request, stage, table, text};
use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::{MarkState, Session};
use dmg_protocol::{Secret, Secrets, WriteMode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const RUN: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

async fn probe(world: &World, changes: &[(&str, serde_json::Value)], password: &str) -> dmg_connector::Result<String> {
    let mut settings = world.settings();
    for (name, value) in changes {
        settings.insert((*name).to_owned(), value.clone());
    }
    let secrets: Secrets = [("password".to_owned(), Secret::from(password))].into_iter().collect();
    let session = Session::new(Ambient::real(), "dmg/probe");
    dmg_tables::store("postgres").expect("listed").open(&settings, &secrets, session).await?.probe().await
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_in() {
    let Some(world) = World::new("login").await else { return };
    let good = world.password.clone();
    assert!(probe(&world, &[], &good).await.expect("answers").starts_with("PostgreSQL 1"));
    let place = format!("PostgreSQL {}:{}", world.host, world.port);
    assert_eq!(
        text(probe(&world, &[], "wrong-pass-7").await),
        format!(
            "UserErrorLoginRefused: {place} refused the log-in of \"{}\". Check user and password of the linked \
             service, or grant the role access.",
            world.user
        )
    );
    assert_eq!(
        text(probe(&world, &[("database", json!("nowhere"))], &good).await),
        format!(
            "UserErrorContainerMissing: {place} has no database \"nowhere\". Check the database name of the linked \
             service."
        )
    );
    assert_eq!(code(probe(&world, &[("port", json!(1))], &good).await), "NetworkErrorStoreUnreachable");
    assert_eq!(
        code(probe(&world, &[("host", json!("no-such-host.invalid"))], &good).await),
        "NetworkErrorStoreUnreachable"
    );
    assert_eq!(code(probe(&world, &[("port", json!("many"))], &good).await), "UserErrorSettings");
    assert_eq!(code(probe(&world, &[("hots", json!("x"))], &good).await), "UserErrorSettings");
    assert_eq!(code(probe(&world, &[("sslMode", json!("maybe"))], &good).await), "UserErrorSettings");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_and_rights() {
    let Some(world) = World::new("rights").await else { return };
    let role = format!("r_{}", world.database);
    world
        .run(&format!(
            "CREATE TABLE hidden (id bigint); CREATE TABLE seen (id bigint); CREATE ROLE {role} LOGIN PASSWORD 'pw-1'; \
             GRANT SELECT, INSERT ON seen TO {role}"
        ))
        .await;
    assert_eq!(code(world.source(table("absent"), 1, 1000).await), "UserErrorTableMissing");
    assert_eq!(code(world.source(query("SELECT * FROM absent"), 1, 1000).await), "UserErrorTableMissing");
    assert_eq!(code(world.source(query("SELECT absent FROM seen"), 1, 1000).await), "UserErrorColumnMissing");
    assert_eq!(code(world.source(query("SELEC 1"), 1, 1000).await), "UserErrorSettings");
    let mut settings = world.settings();
    settings.insert("user".to_owned(), json!(role));
    let secrets: Secrets = [("password".to_owned(), Secret::from("pw-1"))].into_iter().collect();
    let session = Session::new(Ambient::real(), "dmg/test");
    let store = dmg_tables::store("postgres").expect("listed");
    let connection = store.open(&settings, &secrets, session).await.expect("opens");
    let source = connection.source(&table("hidden"), 1, 1000).await;
    let failure = match source {
        Ok(source) => code(crate::support::read_all(source.as_ref(), crate::support::LIMITS).await),
        Err(error) => error.fault.code,
    };
    assert_eq!(failure, "UserErrorPermission");
    let source = connection.source(&table("seen"), 1, 1000).await.expect("opens");
    let mut sink = connection.sink(request(RUN, 1, "seen", WriteMode::Append)).await.expect("opens");
    assert_eq!(code(stage(source.as_ref(), sink.as_mut()).await), "UserErrorPermission", "no right to create staging");
    world.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_answers() {
    let Some(world) = World::new("garbage").await else { return };
    let answers: [&[u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"N\0\0\0\0\0\0\0\0",
        b"NR\0\0\0\x08\0\0\0\0Z\x7f\xff\xff\xff",
        b"S\x15\x03\x01\0\x02\x02\x46",
        b"",
    ];
    for answer in answers {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut tasks = TaskGroup::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.expect("a request for TLS");
            stream.write_all(answer).await.expect("answers");
            stream.shutdown().await.expect("closes");
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let changes = [("host", json!("127.0.0.1")), ("port", json!(port))];
        let failure = code(probe(&world, &changes, "x").await);
        let expected = ["StoreErrorAnswer", "NetworkErrorStoreUnreachable", "NetworkErrorTls"];
        assert!(expected.contains(&failure.as_str()), "{failure} for {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers() {
    let Some(world) = World::new("silent").await else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let changes = [("host", json!("127.0.0.1")), ("port", json!(port)), ("connectTimeoutSeconds", json!(1))];
    let failure = text(probe(&world, &changes, "x").await);
    assert!(failure.contains("did not answer within 1 seconds"), "{failure}");
    drop(listener);
}

/// Passes bytes on, until a client sends COMMIT: that is passed on, and the answer never comes back.
async fn cutting_proxy(listener: TcpListener, port: u16) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else { return };
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.expect("the test server");
        let (mut from_client, mut from_server) = (vec![0; 65536], vec![0; 65536]);
        let mut cut = false;
        loop {
            tokio::select! {
                read = client.read(&mut from_client) => {
                    let Ok(count @ 1..) = read else { break };
                    cut = &from_client[..count] == b"Q\0\0\0\x0bCOMMIT\0";
                    server.write_all(&from_client[..count]).await.expect("passes on");
                    if cut { break }
                }
                read = server.read(&mut from_server) => {
                    let Ok(count @ 1..) = read else { break };
                    client.write_all(&from_server[..count]).await.expect("passes on");
                }
            }
        }
        if cut {
            // The server does its work; its answer goes nowhere.
            let _ = server.read(&mut from_server).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lost_at_the_commit_is_a_doubt_that_the_mark_ends() {
    let Some(world) = World::new("doubt").await else { return };
    world
        .run("CREATE TABLE src AS SELECT g::bigint AS id FROM generate_series(1, 1000) g; CREATE TABLE dst (id bigint)")
        .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut tasks = TaskGroup::new();
    let real = world.port;
    // The proxy serves one connection at a time, so only what must go through it does.
    let shared = std::sync::Arc::new(listener);
    let served = shared.clone();
    tasks.spawn(async move {
        let mut connections = TaskGroup::new();
        loop {
            let Ok((client, _)) = served.accept().await else { return };
            let one = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let inner = one.local_addr().expect("an address").port();
            connections.spawn(cutting_proxy(one, real));
            connections.spawn(async move {
                let mut client = client;
                let mut next = TcpStream::connect(("127.0.0.1", inner)).await.expect("the proxy");
                let _ = tokio::io::copy_bidirectional(&mut client, &mut next).await;
            });
        }
    });
    let mut settings = world.settings();
    settings.insert("port".to_owned(), json!(port));
    settings.insert("host".to_owned(), json!("127.0.0.1"));
    settings.insert("sslMode".to_owned(), json!("disable"));
    let wanted = request(RUN, 1, "dst", WriteMode::Append);
    let connection = world.open(settings, &wanted.attempt.session_name()).await.expect("opens");
    let mut sink = connection.sink(wanted).await.expect("opens");
    let source = world.source(table("src"), 1, 1000).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    let error = sink.commit(&content(&sums)).await.expect_err("no answer");
    assert!(error.outcome_unknown, "{error}");
    let found = sink.mark().await.expect("reads the mark over a new connection");
    assert!(matches!(found, MarkState::Committed(ref committed) if committed.rows == 1000), "{found:?}");
    assert_eq!(sink.commit(&content(&sums)).await.expect("says the same").rows, 1000);
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "1000");
}
