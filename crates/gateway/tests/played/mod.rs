//! A TLS listener that plays the service for tests in which the service must misbehave: impostors, outages, lost
//! leases. It answers the channel's messages and checks every signature; it stores nothing and decides nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use dmg_ambient::TaskGroup;
use dmg_protocol::channel::{Hello, HelloRequest};
use dmg_protocol::{GatewayId, Secret};
use dmg_seal::{GatewayKey, KeyLook, SigningKey, base64url, format_key, identity_pin, sha256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// One request as it came.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value)
    }
}

pub(crate) type Answered = Pin<Box<dyn Future<Output = (u16, Vec<u8>)> + Send>>;
pub(crate) type Answer = dyn Fn(Request) -> Answered + Send + Sync;

/// A TLS listener on a free loopback port.
pub(crate) struct Listener {
    pub(crate) endpoint: String,
    _tasks: TaskGroup,
}

/// Starts a listener. `make` gets the SPKI hash of its TLS key.
pub(crate) async fn listen(make: impl FnOnce(String) -> Arc<Answer>) -> Listener {
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
    let answer = make(spki);
    let mut tasks = TaskGroup::new();
    tasks.spawn(async move {
        let mut connections = TaskGroup::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            connections.spawn(async move {
                // A client that goes away is no failure of the test.
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = serve(stream, &*answer).await;
                }
            });
        }
    });
    Listener { endpoint, _tasks: tasks }
}

/// Answers one request and closes.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, answer: &Answer) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = Request { path: String::new(), headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some((name, value)) => request.headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => request.path = line.split(' ').nth(1).unwrap_or_default().to_owned(),
        }
    }
    let length = request.headers.iter().find(|(name, _)| name == "content-length");
    request.body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    stream.read_exact(&mut request.body).await?;
    let (status, body) = answer(request).await;
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// An answer that is ready.
pub(crate) fn ready(status: u16, body: Vec<u8>) -> Answered {
    Box::pin(async move { (status, body) })
}

/// A signed hello, listing a TLS key.
pub(crate) fn hello(identity: &SigningKey, spki: &str, request: &[u8]) -> Vec<u8> {
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

pub(crate) const GATEWAY: &str = "0f66c5a1-3a63-4f6f-9f05-2f1c7f0e8a55";

/// A key text for a service.
pub(crate) fn key_text(endpoint: &str, identity: &SigningKey) -> Secret<String> {
    format_key(&GatewayKey {
        look: KeyLook::V2,
        gateway_id: GatewayId::new(GATEWAY),
        factory: "sales".into(),
        service_id: None,
        endpoint: endpoint.into(),
        secret: Secret::new([7; 32]),
        pin: identity_pin(&identity.public_key()),
    })
}
