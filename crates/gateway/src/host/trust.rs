//! Whose TLS certificate is the service's: one signed by a trusted authority, or one whose key the service listed in
//! its signed hello. The second makes a self-made certificate as good, and an inspecting proxy visible.

use std::sync::{Arc, Mutex};

use dmg_protocol::Fault;
use dmg_seal::{base64url, sha256};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// What one TLS connection is to accept.
#[derive(Debug, Clone)]
pub(crate) enum Accept {
    /// Any certificate: only for hello, whose answer is signed by the pinned identity.
    Anybody,
    /// A certificate of a trusted authority, or one with a listed key.
    Listed(Vec<String>),
}

/// A TLS configuration, and a place where the presented key will be found.
pub(crate) struct Trust {
    pub(crate) config: ClientConfig,
    pub(crate) presented: Arc<Mutex<Option<Presented>>>,
}

/// What the other side presented last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Presented {
    /// SHA-256 of its SPKI, base64url.
    pub(crate) spki: String,
    /// Whether a trusted authority vouches for it under the name we called.
    pub(crate) by_authority: bool,
}

/// Builds the TLS configuration of one client.
pub(crate) fn trust(extra_ca: Option<&str>, accept: Accept) -> Result<Trust, Fault> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let presented = Arc::new(Mutex::new(None));
    let verifier = Arc::new(KnownService {
        authorities: authorities(extra_ca, &provider)?,
        provider: Arc::clone(&provider),
        accept,
        presented: Arc::clone(&presented),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::new("SystemErrorInternal", format!("TLS cannot be set up: {error}.")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Trust { config, presented })
}

fn authorities(
    extra_ca: Option<&str>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, Fault> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = extra_ca {
        let refused = |message: &str| {
            Fault::new("UserErrorSettings", message).remedy("Give --ca a PEM file with one or more CA certificates.")
        };
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| refused("The file of certificate authorities is not PEM."))?;
            roots.add(certificate).map_err(|_| refused("A certificate authority in the file is damaged."))?;
            count += 1;
        }
        if count == 0 {
            return Err(refused("The file of certificate authorities holds none."));
        }
    }
    // A machine without any authority can still be registered: the signed hello lists the key.
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().ok())
}

#[derive(Debug)]
struct KnownService {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    accept: Accept,
    presented: Arc<Mutex<Option<Presented>>>,
}

impl ServerCertVerifier for KnownService {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let by_authority = match &self.authorities {
            Some(verifier) => {
                verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now).map(|_| ())
            }
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        };
        let spki = base64url(&sha256(&ParsedCertificate::try_from(end_entity)?.subject_public_key_info()));
        let presented = Presented { spki: spki.clone(), by_authority: by_authority.is_ok() };
        *self.presented.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(presented);
        match &self.accept {
            Accept::Anybody => Ok(ServerCertVerified::assertion()),
            Accept::Listed(listed) if listed.contains(&spki) => Ok(ServerCertVerified::assertion()),
            Accept::Listed(_) => by_authority.map(|()| ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
