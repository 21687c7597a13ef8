//! The service's TLS: a given certificate, or one made at the first start. Nodes trust the key because the signed
//! hello lists it; people trust it by the file.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dmg_protocol::Fault;
use dmg_seal::{base64url, sha256};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::ServerConfig;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::folder::{Folder, read};

/// A certificate and key that the operator brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenCertificate {
    /// PEM file with the certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// TLS ready to serve.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// SHA-256 of the SPKI, base64url.
    pub(crate) spki: String,
}

/// Prepares TLS; makes a certificate for `names` if there is none yet.
pub(crate) fn prepare(folder: &Folder, given: Option<&GivenCertificate>, names: &[String]) -> Result<Tls, Fault> {
    let (certificate, key) = match given {
        Some(given) => {
            let missing = |path: &PathBuf| {
                Fault::new("UserErrorSettings", format!("The file {} does not exist.", path.display()))
                    .remedy("Give PEM files that exist, or leave the options out.")
            };
            let certificate = read(&given.certificate)?.ok_or_else(|| missing(&given.certificate))?;
            let key = read(&given.key)?.ok_or_else(|| missing(&given.key))?;
            folder.save_certificate(&certificate)?;
            (certificate, key)
        }
        None => match folder.tls()? {
            Some(both) => both,
            None => {
                let (certificate, key) = make(names)?;
                folder.save_tls(&certificate, &key)?;
                (certificate.into_bytes(), key.into_bytes())
            }
        },
    };
    let unusable = |what: &str| {
        Fault::new("UserErrorSettings", format!("The TLS {what} of the service cannot be used."))
            .remedy("Give a certificate chain and its private key in PEM form.")
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or_else(|| unusable("certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| unusable("key"))?;
    let parsed = ParsedCertificate::try_from(&chain[0]).map_err(|_| unusable("certificate"))?;
    let spki = base64url(&sha256(&parsed.subject_public_key_info()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| unusable("provider"))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|_| unusable("certificate or key"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { config: Arc::new(config), spki })
}

fn make(names: &[String]) -> Result<(String, String), Fault> {
    let failed = |error: rcgen::Error| {
        Fault::new("SystemErrorInternal", format!("The service's certificate could not be made: {error}."))
    };
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "Data Management Gateway service");
    for name in names {
        let san = match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
        };
        if !parameters.subject_alt_names.contains(&san) {
            parameters.subject_alt_names.push(san);
        }
    }
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The names the made certificate is good for.
pub(crate) fn names(listen: std::net::SocketAddr, extra: &[String]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        let host = host.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if !host.is_empty() && host.chars().all(plain) {
            names.push(host.to_owned());
        }
    }
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_string());
    }
    names.extend(extra.iter().cloned());
    names
}
