//! Registration against everything that can be in its way. The service itself is played by a TLS listener that
//! answers as an impostor, a foreign program or a refusing service would; registration that works is tested with the
//! real service in `tests/system`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod played;

use std::sync::Arc;

use dmg_ambient::{Ambient, TaskGroup, environment};
use dmg_gateway::host;
use dmg_protocol::Fault;
use dmg_protocol::channel::{ENROLL, HELLO};
use dmg_seal::SigningKey;
use played::{hello, key_text, listen, ready};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

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
        Arc::new(move |request| {
            assert_eq!(request.path, HELLO, "an impostor is told more than hello");
            assert_eq!(request.header("content-type"), "application/json");
            ready(200, hello(&theirs, &spki, &request.body))
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
    let listener = listen(|_| Arc::new(|_| ready(404, b"<html>not here</html>".to_vec()))).await;
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
    let service = SigningKey::from_pkcs8(&identity.to_pkcs8()).unwrap();
    let listener = listen(|_| Arc::new(move |request| ready(200, hello(&service, "another-key", &request.body)))).await;
    let fault = register(key_text(&listener.endpoint, &identity).expose()).await;
    let message = format!(
        "The service behind {} is the right one, but the certificate on the way to it is neither its own nor signed by a trusted authority: something in between opens the connection.",
        listener.endpoint
    );
    check(&fault, "NetworkErrorTls", &message);
}

#[tokio::test]
async fn a_regenerated_key_is_refused_in_the_originals_words() {
    for status in [401, 403, 404, 410] {
        let identity = SigningKey::generate();
        let service = SigningKey::from_pkcs8(&identity.to_pkcs8()).unwrap();
        let listener = listen(|spki| {
            Arc::new(move |request| match request.path.as_str() {
                HELLO => ready(200, hello(&service, &spki, &request.body)),
                ENROLL => ready(status, br#"{"error":{"code":"Forbidden","message":"no"}}"#.to_vec()),
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
