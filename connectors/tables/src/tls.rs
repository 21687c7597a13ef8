//! TLS to a database server, as far as the settings of its store trust it: encrypt without checking, check the
//! authority, or check authority and name. Ciphers come from aws-lc-rs.

use std::sync::Arc;

use dmg_connector::Session;
use dmg_protocol::Fault;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What is checked of who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Nothing: encrypted, but whoever answers is believed.
    Anybody,
    /// A known authority, whatever the name.
    Authority,
    /// A known authority, and the name.
    Name,
}

/// How TLS is used, where `sslMode` says it; the meaning is that of PostgreSQL's `sslmode` and MySQL's `ssl-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    /// What is checked. Less than `verify-ca` believes whoever answers, as the clients of both servers do.
    pub(crate) fn trust(self) -> Trust {
        match self {
            SslMode::Disable | SslMode::Prefer | SslMode::Require => Trust::Anybody,
            SslMode::VerifyCa => Trust::Authority,
            SslMode::VerifyFull => Trust::Name,
        }
    }
}

/// Why there is no encrypted connection.
pub(crate) enum Failure {
    /// What answered is no TLS.
    NoTls,
    /// As a fault.
    Refused(dmg_connector::Error),
}

/// Encrypts a connection on which the server agreed to TLS. `place` is for messages.
pub(crate) async fn encrypt(
    stream: TcpStream,
    host: &str,
    place: &str,
    trust: Trust,
    session: &Session,
) -> std::result::Result<TlsStream<TcpStream>, Failure> {
    encrypt_with(stream, host, place, trust, session, |_| {}).await
}

/// The same on any stream, with a last word on the configuration. Nothing of it may say less about who is trusted.
pub(crate) async fn encrypt_with<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    place: &str,
    trust: Trust,
    session: &Session,
    adjust: impl FnOnce(&mut ClientConfig),
) -> std::result::Result<TlsStream<S>, Failure> {
    let refuse = |error: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("{place} has no TLS certificate that this gateway trusts.");
        Failure::Refused(dmg_connector::Error::caused(Fault::new("NetworkErrorTls", message), error))
    };
    let mut config = config(trust, session).map_err(|error| refuse(error.into()))?;
    adjust(&mut config);
    let name = ServerName::try_from(host.to_owned()).map_err(|error| refuse(error.into()))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(Error::InvalidMessage(_)) => Failure::NoTls,
            _ => refuse(error.into()),
        }
    })
}

fn config(trust: Trust, session: &Session) -> std::result::Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anybody => Arc::new(Lenient { provider, authorities: None }),
        Trust::Authority => {
            let authorities = Some(authorities(provider.clone(), session)?);
            Arc::new(Lenient { provider, authorities })
        }
        Trust::Name => authorities(provider, session)?,
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Checks against the system's authorities and those added.
fn authorities(
    provider: Arc<CryptoProvider>,
    session: &Session,
) -> std::result::Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for pem in session.extra_ca.iter() {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

/// Checks less than all: that a known authority vouches, whatever the name; or, without authorities, nothing. That who
/// answers holds the key of its certificate is checked always.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
