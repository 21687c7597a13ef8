//! Registration against everything that can be in its way. The service itself is played by a TLS listener that
//! answers as an impostor, a foreign program or a refusing service would; registration that works is tested with the
//! real service in `tests/system`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use dmg_ambient::{Ambient, TaskGroup, environment};
use dmg_gateway::host;
use dmg_protocol::channel::{ENROLL, HELLO, Hello, HelloRequest};
use dmg_protocol::{Fault, GatewayId, Secret};
use dmg_seal::{GatewayKey, KeyLook, SigningKey, base64url, format_key, identity_pin, sha256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

type Answer = dyn Fn(&str, &[u8]) -> (u16, Vec<u8>) + Send + Sync;

/// A TLS listener on a free loopback port.
struct Listener {
    endpoint: String,
    spki: String,
    _tasks: TaskGroup,
}

async fn listen(make: impl FnOnce(String) -> Box<Answer>) -> Listener {
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&pair).unwrap();
    let spki = base64url(&sha256(&rcgen::PublicKeyData::subject_public_key_info(&pair)));
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let answer = make(spki.clone());
    let mut tasks = TaskGroup::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            // A client that goes away is no failure of the test.
            let _ = serve(stream, &*answer).await;
        }
    });
    Listener { endpoint, spki, _tasks: tasks }
}

/// Answers one request and closes.
async fn serve(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    answer: &Answer,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("post ") {
            path = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let (status, body) = answer(&path, &body);
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// A signed hello, listing a TLS key.
fn hello(identity: &SigningKey, spki: &str, request: &[u8]) -> Vec<u8> {
    let request: HelloRequest = serde_json::from_slice(request).unwrap();
    let hello = Hello {
        nonce: request.nonce,
        challenge: base64url(&[1; 32]),
        tls_spki: vec![spki.to_owned()],
        unix_time: 0,
        version: 1,
        program: "test".into(),
    };
    serde_json::to_vec(&identity.sign("dmg-hello/1", &hello)).unwrap()
}

fn key_text(endpoint: &str, identity: &SigningKey) -> Secret<String> {
    format_key(&GatewayKey {
        look: KeyLook::V2,
        gateway_id: GatewayId::new("0f66c5a1-3a63-4f6f-9f05-2f1c7f0e8a55"),
        factory: "sales".into(),
        service_id: None,
        endpoint: endpoint.into(),
        secret: Secret::new([7; 32]),
        pin: identity_pin(&identity.public_key()),
    })
}

async fn register(key: &str) -> Fault {
    let folder = tempfile::tempdir().unwrap();
    let fault = host::register(key, Some("n1"), folder.path(), None, &Ambient::real()).await.unwrap_err();
    assert!(!folder.path().join("node.json").exists(), "a refused registration leaves a node behind");
    fault
}

fn check(fault: &Fault, code: &str, message: &str) {
    assert_eq!((fault.code.as_str(), fault.message.as_str()), (code, message));
    assert!(!fault.remedy.is_empty());
}

#[tokio::test]
async fn a_cut_key_is_named_without_any_connection() {
    let key = key_text("127.0.0.1:1", &SigningKey::generate());
    let key = key.expose();
    let fault = register(&key[..key.len() - 10]).await;
    check(
        &fault,
        "UserErrorGatewayKey",
        "The content or format of the gateway key \"IR@0f66c5a1-3a63-4f6f-9f05-2f1c7f0e8a55@sales@ServiceEndpoint=127.0.0.1:1@**********\" is invalid, please go to azure portal to create one new gateway or regenerate the gateway key. Its end is cut off: the last part has 62 of 72 characters.",
    );
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let fault = register(key_text(&format!("127.0.0.1:{port}"), &SigningKey::generate()).expose()).await;
    check(
        &fault,
        "NetworkErrorServiceUnreachable",
        &format!(
            "Unable to connect to the remote server. The service 127.0.0.1:{port} cannot be reached: the connection was refused, nothing listens there."
        ),
    );
    let fault = register(key_text("no-such-host.invalid:443", &SigningKey::generate()).expose()).await;
    check(
        &fault,
        "NetworkErrorServiceUnreachable",
        "Unable to connect to the remote server. The service no-such-host.invalid:443 cannot be reached: its name cannot be resolved.",
    );
}

#[tokio::test]
async fn an_impostor_learns_nothing() {
    let (ours, theirs) = (SigningKey::generate(), SigningKey::generate());
    let listener = listen(|spki| {
        Box::new(move |path, body| {
            assert_eq!(path, HELLO, "an impostor is told more than hello");
            (200, hello(&theirs, &spki, body))
        })
    })
    .await;
    let fault = register(key_text(&listener.endpoint, &ours).expose()).await;
    let message = format!(
        "What answers at {} is not the service that the gateway key was made by: it has another identity key.",
        listener.endpoint
    );
    check(&fault, "NetworkErrorServiceIdentity", &message);
}

#[tokio::test]
async fn a_foreign_program_is_not_the_service() {
    let listener = listen(|_| Box::new(|_, _| (404, b"<html>not here</html>".to_vec()))).await;
    let fault = register(key_text(&listener.endpoint, &SigningKey::generate()).expose()).await;
    let message = format!(
        "What answers at {} is not the service that the gateway key was made by: it does not answer as a service does (status 404 Not Found).",
        listener.endpoint
    );
    check(&fault, "NetworkErrorServiceIdentity", &message);
}

#[tokio::test]
async fn something_that_opens_the_connection_is_seen() {
    let identity = SigningKey::generate();
    let service = identity.to_pkcs8();
    let listener = listen(|_| {
        Box::new(move |_, body| (200, hello(&SigningKey::from_pkcs8(&service).unwrap(), "another-key", body)))
    })
    .await;
    let fault = register(key_text(&listener.endpoint, &identity).expose()).await;
    let message = format!(
        "The service behind {} is the right one, but the certificate on the way to it is neither its own nor signed by a trusted authority: something in between opens the connection.",
        listener.endpoint
    );
    check(&fault, "NetworkErrorTls", &message);
    assert_ne!(listener.spki, "another-key");
}

#[tokio::test]
async fn a_regenerated_key_is_refused_in_the_originals_words() {
    for status in [401, 403, 404, 410] {
        let identity = SigningKey::generate();
        let service = identity.to_pkcs8();
        let listener = listen(|spki| {
            Box::new(move |path, body| match path {
                HELLO => (200, hello(&SigningKey::from_pkcs8(&service).unwrap(), &spki, body)),
                ENROLL => (status, br#"{"error":{"code":"Forbidden","message":"no"}}"#.to_vec()),
                other => panic!("{other} is asked before the node is enrolled"),
            })
        })
        .await;
        let fault = register(key_text(&listener.endpoint, &identity).expose()).await;
        check(
            &fault,
            "UserErrorGatewayKey",
            "The gateway key is invalid or empty. Specify a valid gateway key from the portal. The service does not accept the key: it was regenerated, or its gateway was deleted.",
        );
    }
}

#[tokio::test]
async fn a_port_without_tls_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let mut tasks = TaskGroup::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Read as a real server does, or the system answers the rest with a reset.
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let fault = register(key_text(&endpoint, &SigningKey::generate()).expose()).await;
    assert_eq!(fault.code, "NetworkErrorTls");
    assert!(fault.message.contains("does not speak TLS as it should"), "{}", fault.message);
}

/// The proxy comes from the environment, so the registration runs in a process of its own: this test, called again.
#[tokio::test]
async fn a_proxy_that_wants_a_log_in_is_named() {
    if let Some(key) = environment("DMG_TEST_REGISTER_KEY") {
        let fault = register(&key).await;
        let cause = "A proxy between this machine and service.invalid:443 asks for a log-in.";
        let message = format!("The remote server returned an error: (407) Proxy Authentication Required. {cause}");
        check(&fault, "NetworkErrorProxyAuthentication", &message);
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = TaskGroup::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                line.clear();
            }
            let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\n\r\n";
            let _ = stream.write_all(refusal).await;
        }
    });
    let key = key_text("service.invalid:443", &SigningKey::generate());
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_proxy_that_wants_a_log_in_is_named", "--nocapture"])
        .env("HTTPS_PROXY", proxy)
        .env("DMG_TEST_REGISTER_KEY", key.expose())
        .output()
        .await
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}
