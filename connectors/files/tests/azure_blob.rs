//! Azure Blob Storage against a real Azurite: blocks, conditions, epochs, lost answers, log-ins, and what goes wrong.
//! Without the emulator the tests say that they were skipped.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says why it is skipped")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::{ByteStore, ByteStoreConnector as _, Condition, Error, MarkContent, Session, StagedFile};
use dmg_files::azure_blob::AzureBlob;
use dmg_protocol::{Attempt, Epoch, RunId, Secret, Secrets};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const ACCOUNT: &str = "devstoreaccount1";
const BUDGET: usize = 4 << 20;

/// The emulator and a container of this test's own.
struct World {
    endpoint: String,
    key: String,
    container: String,
}

/// A signature with the account key, so that tests can make one of any rights and any age.
fn sas(key: &str, permissions: &str, expiry: &str) -> String {
    let signed = format!("{ACCOUNT}\n{permissions}\nb\nsco\n\n{expiry}\n\nhttps,http\n2023-11-03\n\n");
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(key).unwrap()).unwrap();
    mac.update(signed.as_bytes());
    let signature =
        STANDARD.encode(mac.finalize().into_bytes()).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("sv=2023-11-03&ss=b&srt=sco&sp={permissions}&se={expiry}&spr=https,http&sig={signature}")
}

const LATER: &str = "2099-01-01T00:00:00Z";

impl World {
    async fn new() -> Option<Self> {
        let (Some(server), Some(key_file)) =
            (dmg_ambient::environment("DMG_TEST_AZURITE"), dmg_ambient::environment("DMG_TEST_AZURITE_KEY_FILE"))
        else {
            eprintln!("SKIPPED: DMG_TEST_AZURITE and DMG_TEST_AZURITE_KEY_FILE name no Azurite");
            return None;
        };
        let key = std::fs::read_to_string(key_file).unwrap().trim().to_owned();
        let container = format!("test-{}", Ambient::real().uuid());
        let world = World { endpoint: format!("{server}/{ACCOUNT}"), key, container };
        let token = sas(&world.key, "rwdlac", LATER);
        let status = raw(&world.endpoint, "PUT", &format!("{}?restype=container&{token}", world.container)).await;
        assert!(status.starts_with("HTTP/1.1 201"), "{status}");
        Some(world)
    }

    async fn open(&self) -> Arc<dyn ByteStore> {
        self.open_with(json!({}), &[("accountKey", &self.key)]).await.unwrap()
    }

    async fn open_with(&self, more: Value, secrets: &[(&str, &str)]) -> Result<Arc<dyn ByteStore>, Error> {
        let mut settings = Map::new();
        settings.insert("endpoint".into(), self.endpoint.clone().into());
        settings.insert("container".into(), self.container.clone().into());
        let Value::Object(more) = more else { unreachable!() };
        settings.extend(more);
        settings.retain(|_, value| !value.is_null());
        let secrets: Secrets = secrets.iter().map(|(name, value)| ((*name).to_owned(), Secret::from(*value))).collect();
        AzureBlob.validate(&settings)?;
        AzureBlob.open(&settings, &secrets, Session::new(Ambient::real(), "dmg/test")).await
    }
}

/// One request by hand; the head of the answer.
async fn raw(endpoint: &str, method: &str, path_and_query: &str) -> String {
    let (authority, account) = endpoint.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let request = format!(
        "{method} /{account}/{path_and_query} HTTP/1.1\r\nhost: {authority}\r\nx-ms-version: 2023-11-03\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn attempt(run: u32, epoch: u64) -> Attempt {
    let run = RunId::new(format!("{run:08x}-0000-4000-8000-000000000000"));
    Attempt { namespace: "dmg-copy".into(), run, epoch: Epoch(epoch) }
}

fn content(rows: u64) -> MarkContent {
    MarkContent { rows, digest: format!("{rows:032x}") }
}

async fn stage(
    store: &Arc<dyn ByteStore>,
    path: &str,
    attempt: &Attempt,
    condition: Condition,
    text: &str,
) -> Box<dyn StagedFile> {
    store.sweep(path, attempt).await.unwrap();
    let mut staged = store.stage(path, attempt, condition, BUDGET).await.unwrap();
    staged.write(Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
    staged.seal().await.unwrap();
    staged
}

async fn read(store: &Arc<dyn ByteStore>, path: &str) -> Vec<u8> {
    let entry = store.stat(path).await.unwrap().unwrap();
    let reader = store.open(&entry).await.unwrap();
    reader.read(0..reader.size()).await.unwrap().to_vec()
}

/// Everything an error can show, searched for signatures.
fn code<T>(result: Result<T, Error>) -> String {
    let error = result.err().expect("this must fail");
    let shown = format!(
        "{error:?} {error} {:?} {}",
        error.cause,
        error.cause.as_ref().map_or(String::new(), ToString::to_string)
    );
    assert!(!shown.contains("sig=") && !shown.contains("Signature="), "{shown}");
    error.fault.code.clone()
}

#[tokio::test]
async fn a_blob_appears_at_the_commit_and_says_who_wrote_it() {
    let Some(world) = World::new().await else { return };
    let store = world.open().await;
    let me = attempt(1, 3);
    let path = "out/größe & 100%.parquet";
    assert_eq!(store.stat(path).await.unwrap(), None);
    let mut staged = store.stage(path, &me, Condition::Absent, BUDGET).await.unwrap();
    let mut expected = Vec::new();
    for piece in 0..60_u32 {
        let bytes: Vec<u8> = (0..100_000 + piece).map(|n| (n * 7 + piece) as u8).collect();
        expected.extend_from_slice(&bytes);
        staged.write(Bytes::from(bytes)).await.unwrap();
    }
    staged.seal().await.unwrap();
    assert!(staged.reader().await.unwrap().is_none());
    assert_eq!(store.stat(path).await.unwrap(), None, "uncommitted blocks are not seen");
    assert_eq!(store.list("", true).await.unwrap(), []);

    let committed = staged.commit(&me, &content(7)).await.unwrap();
    assert_eq!((committed.rows, committed.epoch), (7, Epoch(3)));
    assert_eq!(staged.commit(&me, &content(7)).await.unwrap(), committed, "a repeat says the same");
    assert!(read(&store, path).await == expected);
    let mark = store.mark(path).await.unwrap().unwrap();
    assert_eq!((mark.namespace.as_str(), mark.run.as_str(), mark.epoch), ("dmg-copy", me.run.as_str(), Epoch(3)));
    assert_eq!((mark.rows, mark.digest, mark.stamp), (7, format!("{:032x}", 7), committed.mark.clone()));

    let entry = store.stat(path).await.unwrap().unwrap();
    assert_eq!((entry.size, &entry.stamp), (expected.len() as u64, &committed.mark));
    assert_eq!(
        store.list("out", false).await.unwrap(),
        std::slice::from_ref(&entry),
        "list and stat agree on the stamp"
    );
    let reader = store.open(&entry).await.unwrap();
    for range in [0..1, 5..9, 3_000_000..6_000_000, entry.size - 1..entry.size, 4..4] {
        let part = &expected[range.start as usize..range.end as usize];
        assert!(reader.read(range.clone()).await.unwrap() == part, "{range:?}");
    }
    assert!(store.traffic().peak() > 1, "blocks go up several at once");
    assert_eq!(store.traffic().open(), 0);
}

#[tokio::test]
async fn an_empty_blob_can_be_written_and_read() {
    let Some(world) = World::new().await else { return };
    let store = world.open().await;
    let me = attempt(1, 1);
    let mut staged = store.stage("empty", &me, Condition::Absent, BUDGET).await.unwrap();
    staged.seal().await.unwrap();
    staged.commit(&me, &MarkContent { rows: 0, digest: String::new() }).await.unwrap();
    assert_eq!(read(&store, "empty").await, b"");
    assert_eq!(store.mark("empty").await.unwrap().unwrap().digest, "");
}

#[tokio::test]
async fn two_runs_on_one_target_cannot_both_win() {
    let Some(world) = World::new().await else { return };
    let store = world.open().await;
    let (one, two) = (attempt(1, 1), attempt(2, 1));
    let mut first = stage(&store, "x", &one, Condition::Absent, "one").await;
    let mut second = stage(&store, "x", &two, Condition::Absent, "two").await;
    first.commit(&one, &content(1)).await.unwrap();
    assert_eq!(code(second.commit(&two, &content(2)).await), "StoreErrorCommitRefused");
    second.abort().await.unwrap();

    let stamp = Condition::Stamp(store.stat("x").await.unwrap().unwrap().stamp);
    let mut first = stage(&store, "x", &one, stamp.clone(), "one again").await;
    let mut second = stage(&store, "x", &two, stamp, "two again").await;
    second.commit(&two, &content(2)).await.unwrap();
    assert_eq!(code(first.commit(&one, &content(1)).await), "StoreErrorCommitRefused");
    assert_eq!(read(&store, "x").await, b"two again");
    assert_eq!(store.mark("x").await.unwrap().unwrap().run, two.run.as_str());
}

#[tokio::test]
async fn a_zombie_and_its_successor_never_mix_their_blocks() {
    let Some(world) = World::new().await else { return };
    let store = world.open().await;
    let (old, new) = (attempt(1, 1), attempt(1, 2));
    let mut zombie = stage(&store, "x", &old, Condition::Absent, "old").await;
    let mut fresh = stage(&store, "x", &new, Condition::Absent, "new").await;
    fresh.commit(&new, &content(2)).await.unwrap();
    assert_eq!(code(zombie.commit(&old, &content(1)).await), "StoreErrorCommitRefused");
    assert_eq!(read(&store, "x").await, b"new");

    // The other way round the zombie's commit takes the successor's blocks away; the mark tells that the run is done.
    let mut zombie = stage(&store, "y", &old, Condition::Absent, "old").await;
    let mut fresh = stage(&store, "y", &new, Condition::Absent, "new").await;
    zombie.commit(&old, &content(1)).await.unwrap();
    assert_eq!(code(fresh.commit(&new, &content(2)).await), "StoreErrorCommitRefused");
    let mark = store.mark("y").await.unwrap().unwrap();
    assert_eq!((mark.run.as_str(), mark.epoch, mark.rows), (old.run.as_str(), Epoch(1), 1));

    // A foreign commit between staging and commit drops the blocks: re-staged under the new ETag it works.
    let stamp = || async { Condition::Stamp(store.stat("y").await.unwrap().unwrap().stamp) };
    let mut mine = stage(&store, "y", &attempt(3, 1), stamp().await, "mine").await;
    let mut other = stage(&store, "y", &attempt(4, 1), stamp().await, "other").await;
    other.commit(&attempt(4, 1), &content(1)).await.unwrap();
    assert_eq!(code(mine.commit(&attempt(3, 1), &content(1)).await), "StoreErrorCommitRefused");
    let mut mine = stage(&store, "y", &attempt(3, 2), stamp().await, "mine").await;
    mine.commit(&attempt(3, 2), &content(1)).await.unwrap();
    assert_eq!(read(&store, "y").await, b"mine");
}

/// Passes connections on to the emulator until a request has `needle` in it: that one is passed on, and its answer
/// is thrown away together with the connection.
async fn answer_losing_proxy(server: String, needle: &'static str) -> (u16, TaskGroup) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut group = TaskGroup::new();
    group.spawn(async move {
        let mut connections = TaskGroup::<()>::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            connections.spawn(async move {
                let mut upstream = TcpStream::connect(server).await.unwrap();
                let (mut from_client, mut from_server) = (vec![0; 65536], vec![0; 65536]);
                let mut lose = false;
                loop {
                    tokio::select! {
                        read = client.read(&mut from_client) => {
                            let read = read.unwrap_or(0);
                            if read == 0 { return }
                            lose |= String::from_utf8_lossy(&from_client[..read]).contains(needle);
                            upstream.write_all(&from_client[..read]).await.unwrap();
                        }
                        read = upstream.read(&mut from_server) => {
                            let read = read.unwrap_or(0);
                            if read == 0 || lose { return }
                            client.write_all(&from_server[..read]).await.unwrap();
                        }
                    }
                }
            });
        }
    });
    (port, group)
}

#[tokio::test]
async fn a_lost_answer_is_resolved_by_the_mark() {
    let Some(world) = World::new().await else { return };
    let server = world.endpoint.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    let (port, _proxy) = answer_losing_proxy(server, "comp=blocklist").await;
    let endpoint = format!("http://127.0.0.1:{port}/{ACCOUNT}");
    let through = world.open_with(json!({ "endpoint": endpoint }), &[("accountKey", &world.key)]).await.unwrap();
    let me = attempt(1, 1);
    let mut staged = stage(&through, "x", &me, Condition::Absent, "hello").await;
    let error = staged.commit(&me, &content(5)).await.unwrap_err();
    assert!(error.outcome_unknown);
    assert_eq!(code::<()>(Err(error)), "NetworkErrorStoreUnreachable");
    let mark = through.mark("x").await.unwrap().unwrap();
    assert_eq!((mark.run.as_str(), mark.epoch, mark.rows), (me.run.as_str(), Epoch(1), 5));
}

#[tokio::test]
async fn listings_page_sort_and_keep_to_the_folder() {
    let Some(world) = World::new().await else { return };
    let store = world.open().await;
    let me = attempt(1, 1);
    for path in ["b/2", "b/1", "b/c/3", "bb", "a"] {
        stage(&store, path, &me, Condition::Absent, path).await.commit(&me, &content(1)).await.unwrap();
    }
    let listed = async |folder: &str, recursive| -> Vec<String> {
        store.list(folder, recursive).await.unwrap().into_iter().map(|entry| entry.path).collect()
    };
    assert_eq!(listed("", false).await, ["a", "bb"]);
    assert_eq!(listed("b", false).await, ["b/1", "b/2"]);
    assert_eq!(listed("/b/", true).await, ["b/1", "b/2", "b/c/3"]);
    assert_eq!(code(store.list("nothing", true).await), "UserErrorContainerMissing");

    // Without a container in the settings, paths begin with it.
    let account = world.open_with(json!({ "container": null }), &[("accountKey", &world.key)]).await.unwrap();
    let listed = account.list(&format!("{}/b", world.container), true).await.unwrap();
    assert_eq!(listed[0].path, format!("{}/b/1", world.container));
    assert_eq!(read(&account, &listed[0].path).await, b"b/1");
    assert_eq!(code(account.list("", true).await), "UserErrorSettings");
    assert!(account.probe().await.unwrap().contains("Azurite"), "{:?}", account.probe().await);
}

#[tokio::test]
async fn a_source_that_changes_stops_the_read() {
    let Some(world) = World::new().await else { return };
    let store = world.open().await;
    let me = attempt(1, 1);
    stage(&store, "x", &me, Condition::Absent, "0123456789").await.commit(&me, &content(1)).await.unwrap();
    let entry = store.stat("x").await.unwrap().unwrap();
    let reader = store.open(&entry).await.unwrap();
    assert_eq!(reader.read(2..5).await.unwrap(), "234");
    let next = attempt(2, 1);
    let stamp = Condition::Stamp(entry.stamp.clone());
    stage(&store, "x", &next, stamp, "other").await.commit(&next, &content(1)).await.unwrap();
    assert_eq!(code(reader.read(2..5).await), "UserErrorSourceChanged");
    assert_eq!(code(reader.read(0..10).await), "UserErrorSourceChanged");
}

#[tokio::test]
async fn log_ins_work_or_say_what_is_wrong() {
    let Some(world) = World::new().await else { return };
    let full = sas(&world.key, "rwlc", LATER);
    let uri = format!("{}/{}?{full}", world.endpoint, world.container);
    let me = attempt(1, 1);
    for (name, value) in [("sasToken", &full), ("sasUri", &uri)] {
        let store = world.open_with(json!({}), &[(name, value)]).await.unwrap();
        assert!(store.probe().await.unwrap().contains("Azurite"));
        let mut staged = stage(&store, name, &me, Condition::Absent, "hello").await;
        staged.commit(&me, &content(1)).await.unwrap();
        assert_eq!(read(&store, name).await, b"hello");
    }
    let only = world.open_with(json!({ "endpoint": null, "container": null }), &[("sasUri", &uri)]).await.unwrap();
    assert_eq!(only.label(), format!("blob container {ACCOUNT}/{}", world.container));
    assert_eq!(read(&only, "sasUri").await, b"hello");

    let wrong_key = STANDARD.encode("another key of some length, but not the right one");
    let wrong = world.open_with(json!({}), &[("accountKey", &wrong_key)]).await.unwrap();
    let expired =
        world.open_with(json!({}), &[("sasToken", &sas(&world.key, "rwlc", "2020-01-01T00:00:00Z"))]).await.unwrap();
    for store in [wrong, expired] {
        assert_eq!(code(store.probe().await), "UserErrorLoginRefused");
        assert_eq!(code(store.stat("x").await), "UserErrorLoginRefused");
        assert_eq!(code(store.list("", true).await), "UserErrorLoginRefused");
        let mut staged = store.stage("x", &me, Condition::Absent, BUDGET).await.unwrap();
        staged.write(Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(code(staged.seal().await), "UserErrorLoginRefused");
        assert_eq!(code(staged.seal().await), "StoreErrorFailed", "a broken blob stays broken");
        staged.abort().await.unwrap();
    }
    let reading = world.open_with(json!({}), &[("sasToken", &sas(&world.key, "rl", LATER))]).await.unwrap();
    let mut staged = reading.stage("x", &me, Condition::Absent, BUDGET).await.unwrap();
    staged.write(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(code(staged.seal().await), "UserErrorPermission");
}

#[tokio::test]
async fn missing_containers_and_strange_servers_say_so() {
    let Some(world) = World::new().await else { return };
    let key: &[(&str, &str)] = &[("accountKey", &world.key)];
    let missing = world.open_with(json!({ "container": "not-there" }), key).await.unwrap();
    assert_eq!(code(missing.probe().await), "UserErrorContainerMissing");
    assert_eq!(code(missing.stat("x").await), "UserErrorContainerMissing");
    assert_eq!(code(missing.list("", true).await), "UserErrorContainerMissing");
    let mut staged = missing.stage("x", &attempt(1, 1), Condition::Absent, BUDGET).await.unwrap();
    staged.write(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(code(staged.seal().await), "UserErrorContainerMissing");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let closed =
        world.open_with(json!({ "endpoint": format!("http://127.0.0.1:{port}/{ACCOUNT}") }), key).await.unwrap();
    assert_eq!(code(closed.probe().await), "NetworkErrorStoreUnreachable");

    for (answer, https, expected) in [
        ("220 smtp.example.com ESMTP\r\n", false, "StoreErrorAnswer"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello", false, "StoreErrorAnswer"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello", false, "StoreErrorAnswer"),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://evil.example/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            false,
            "StoreErrorAnswer",
        ),
        ("", false, "NetworkErrorStoreUnreachable"),
        ("HTTP/1.1 200 OK\r\n\r\n", true, "StoreErrorAnswer"),
    ] {
        let (port, _server) = answering(answer).await;
        let scheme = if https { "https" } else { "http" };
        let endpoint = format!("{scheme}://127.0.0.1:{port}/{ACCOUNT}");
        let store = world.open_with(json!({ "endpoint": endpoint }), key).await.unwrap();
        assert_eq!(code(store.stat("x").await), expected, "{answer}");
        assert_eq!(code(store.list("", true).await), expected, "{answer}");
        let mut staged = store.stage("x", &attempt(1, 1), Condition::Absent, BUDGET).await.unwrap();
        staged.seal().await.unwrap();
        assert_eq!(code(staged.commit(&attempt(1, 1), &content(1)).await), expected, "{answer}");
    }
}

/// A server that gives the same answer to whatever it reads first.
async fn answering(answer: &'static str) -> (u16, TaskGroup) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut group = TaskGroup::new();
    group.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = vec![0; 65536];
            let _ = tokio::time::timeout(Duration::from_secs(5), client.read(&mut request)).await;
            let _ = client.write_all(answer.as_bytes()).await;
            let _ = client.shutdown().await;
        }
    });
    (port, group)
}
