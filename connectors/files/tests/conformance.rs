//! Holds every byte store against the suite of its family, on a real disk and a real emulator, and prints what each
//! claims. Blobs need Azurite (DMG_TEST_AZURITE); without it that store is skipped, loudly.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dmg_ambient::Ambient;
use dmg_connector::conformance::{FileWorld, files};
use dmg_protocol::{Secret, Secrets};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ACCOUNT: &str = "devstoreaccount1";

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_store_does_what_it_claims_and_refuses_the_rest() {
    let mut broken = Vec::new();
    for store in dmg_files::STORES {
        let name = store.descriptor().name;
        let world: Box<dyn FileWorld> = match name {
            "file" => Box::new(Disk(tempfile::tempdir().unwrap())),
            "azblob" => match Azurite::new().await {
                Some(world) => Box::new(world),
                None => {
                    eprintln!("SKIPPED: the conformance of {name}: DMG_TEST_AZURITE names no emulator");
                    continue;
                }
            },
            other => panic!("store {other} has no world to be tested in"),
        };
        let report = files(*store, world.as_ref()).await;
        eprint!("{report}");
        if !report.holds() {
            broken.push(name);
        }
    }
    assert!(broken.is_empty(), "see the lines above: {broken:?}");
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// A folder of its own.
struct Disk(tempfile::TempDir);

fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { below(&path, found) } else { found.push(path) }
    }
}

#[async_trait]
impl FileWorld for Disk {
    fn settings(&self) -> Map<String, Value> {
        object(json!({ "root": self.0.path() }))
    }

    fn nowhere(&self) -> Map<String, Value> {
        object(json!({ "root": self.0.path().join("nowhere") }))
    }

    fn secrets(&self) -> Secrets {
        Secrets::none()
    }

    async fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    async fn names(&self) -> Vec<String> {
        let mut found = Vec::new();
        below(self.0.path(), &mut found);
        let relative = |path: &PathBuf| path.strip_prefix(self.0.path()).unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = found.iter().map(relative).collect();
        names.sort();
        names
    }
}

/// A container of its own in the emulator, filled and listed by requests made by hand.
struct Azurite {
    endpoint: String,
    key: String,
    container: String,
}

impl Azurite {
    async fn new() -> Option<Self> {
        let server = dmg_ambient::environment("DMG_TEST_AZURITE")?;
        let key_file = dmg_ambient::environment("DMG_TEST_AZURITE_KEY_FILE")?;
        let key = std::fs::read_to_string(key_file).unwrap().trim().to_owned();
        let container = format!("conformance-{}", Ambient::real().uuid());
        let world = Azurite { endpoint: format!("{server}/{ACCOUNT}"), key, container };
        let answer = world.raw("PUT", "?restype=container", "", b"").await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        Some(world)
    }

    fn token(&self) -> String {
        let (permissions, expiry) = ("rwdlac", "2099-01-01T00:00:00Z");
        let signed = format!("{ACCOUNT}\n{permissions}\nb\nsco\n\n{expiry}\n\nhttps,http\n2023-11-03\n\n");
        let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(&self.key).unwrap()).unwrap();
        mac.update(signed.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("sv=2023-11-03&ss=b&srt=sco&sp={permissions}&se={expiry}&spr=https,http&sig={signature}")
    }

    /// One request; the whole answer.
    async fn raw(&self, method: &str, path_and_query: &str, headers: &str, body: &[u8]) -> String {
        let (authority, account) = self.endpoint.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut stream = TcpStream::connect(authority).await.unwrap();
        let join = if path_and_query.contains('?') { '&' } else { '?' };
        let (container, token, length) = (&self.container, self.token(), body.len());
        let request = format!(
            "{method} /{account}/{container}{path_and_query}{join}{token} HTTP/1.1\r\nhost: {authority}\r\n\
             x-ms-version: 2023-11-03\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[async_trait]
impl FileWorld for Azurite {
    fn settings(&self) -> Map<String, Value> {
        object(json!({ "endpoint": self.endpoint, "container": self.container }))
    }

    fn nowhere(&self) -> Map<String, Value> {
        object(json!({ "endpoint": self.endpoint, "container": "no-such-container" }))
    }

    fn secrets(&self) -> Secrets {
        [("accountKey".to_owned(), Secret::new(self.key.clone()))].into_iter().collect()
    }

    async fn put(&self, path: &str, bytes: &[u8]) {
        let path = format!("/{}", path.replace('%', "%25").replace(' ', "%20"));
        let answer = self.raw("PUT", &path, "x-ms-blob-type: BlockBlob\r\n", bytes).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    async fn names(&self) -> Vec<String> {
        let answer = self.raw("GET", "?restype=container&comp=list", "", b"").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let pieces = answer.split("<Name>").skip(1);
        let mut names: Vec<String> = pieces.map(|piece| piece.split("</Name>").next().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}
