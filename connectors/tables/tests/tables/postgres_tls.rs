//! What each `sslMode` accepts, against a server that speaks TLS and then hangs up: getting as far as the hang-up
//! means that the certificate was accepted.

use std::sync::Arc;

use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::Session;
use dmg_protocol::{Secret, Secrets};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::code;

/// A certificate of that name and the PEM of its authority.
fn certificate(name: &str) -> (TlsAcceptor, Vec<u8>) {
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::<String>::new()).expect("a subject");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signed = authority.self_signed(&key).expect("signs");
    let issuer = Issuer::new(authority, key);
    let server_key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec![name.to_owned()]).expect("a name").signed_by(&server_key, &issuer);
    let chain = vec![CertificateDer::from(server.expect("signs").der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a key that fits");
    (TlsAcceptor::from(Arc::new(config)), signed.pem().into_bytes())
}

/// The code of the failure that ends a connection to a server with a certificate of that name.
async fn attempt(name: &str, mode: &str, trusted: bool) -> String {
    let (acceptor, authority) = certificate(name);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut tasks = TaskGroup::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a caller");
        stream.read_exact(&mut [0; 8]).await.expect("a request for TLS");
        stream.write_all(b"S").await.expect("agrees");
        if let Ok(mut encrypted) = acceptor.accept(stream).await {
            let _ = encrypted.read(&mut [0; 512]).await;
            let _ = encrypted.shutdown().await;
        }
    });
    let settings = json!({"host": "localhost", "port": port, "database": "d", "user": "u", "sslMode": mode});
    let mut session = Session::new(Ambient::real(), "dmg/probe");
    if trusted {
        session.extra_ca = Arc::new(vec![authority]);
    }
    let secrets: Secrets = [("password".to_owned(), Secret::from("x"))].into_iter().collect();
    let store = dmg_tables::store("postgres").expect("listed");
    let connection = store.open(settings.as_object().expect("an object"), &secrets, session).await.expect("settings");
    code(connection.probe().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_check_what_they_say() {
    const ACCEPTED: &str = "NetworkErrorStoreUnreachable";
    const REFUSED: &str = "NetworkErrorTls";
    for (name, mode, trusted, expected) in [
        ("localhost", "verify-full", true, ACCEPTED),
        ("localhost", "verify-full", false, REFUSED),
        ("elsewhere", "verify-full", true, REFUSED),
        ("elsewhere", "verify-ca", true, ACCEPTED),
        ("elsewhere", "verify-ca", false, REFUSED),
        ("elsewhere", "require", false, ACCEPTED),
        ("elsewhere", "prefer", false, ACCEPTED),
    ] {
        assert_eq!(attempt(name, mode, trusted).await, expected, "{mode}, certificate of {name}, trusted: {trusted}");
    }
}
