//! A certificate made for this run, and TLS as each dialect wants it.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

type Configs = (String, Arc<ServerConfig>, Arc<ServerConfig>);

/// The certificate in PEM; TLS for log-ins before TDS 8; TLS for strict ones.
pub(crate) fn make() -> io::Result<Configs> {
    let mut params = CertificateParams::new(vec!["localhost".into()]).map_err(io::Error::other)?;
    params.subject_alt_names.push(SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    let config = |versions: &[&'static rustls::SupportedProtocolVersion]| {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(io::Error::other)
    };
    // Inside packets nothing may come after the handshake that TLS 1.3 sends later, so that is left to the strict dialect.
    let plain = config(&[&rustls::version::TLS12])?;
    let mut strict = config(&[&rustls::version::TLS12, &rustls::version::TLS13])?;
    strict.alpn_protocols = vec![b"tds/8.0".to_vec()];
    Ok((certificate.pem(), Arc::new(plain), Arc::new(strict)))
}
