//! The public half of a gateway certificate: whom to seal to. It trusts nobody: whose certificate it is must be known
//! by other means.

use dmg_protocol::Fault;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::sha256_hex;

const RSA_BITS_MIN: usize = 2048;
const OID_RSA: &str = "1.2.840.113549.1.1.1";
const OID_EC: &str = "1.2.840.10045.2.1";
const OID_P256: &str = "1.2.840.10045.3.1.7";

/// A certificate that a credential can be sealed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientCertificate {
    thumbprint: String,
    der: Vec<u8>,
    subject: String,
    pub(crate) key: PublicKey,
}

/// The two kinds of keys there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// DER of the SubjectPublicKeyInfo.
    Rsa(Vec<u8>),
    /// The uncompressed point on P-256, 65 bytes.
    P256(Vec<u8>),
}

impl RecipientCertificate {
    /// Reads the first certificate of a PEM text.
    pub fn from_pem(pem: &str) -> Result<Self, Fault> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| refused("The text is not a certificate in PEM form."))?;
        Self::from_der(&der)
    }

    /// Reads a certificate in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, Fault> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| refused("The certificate is damaged."))?;
        if !rest.is_empty() {
            return Err(refused("The certificate is followed by something else."));
        }
        let public = certificate.public_key();
        let curve =
            public.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
        let key = match public.algorithm.algorithm.to_id_string().as_str() {
            OID_RSA => {
                let key = aws_lc_rs::rsa::PublicEncryptingKey::from_der(public.raw)
                    .map_err(|_| refused("The RSA key of the certificate cannot be used."))?;
                if key.key_size_bits() < RSA_BITS_MIN {
                    return Err(refused("The RSA key of the certificate is shorter than 2048 bits."));
                }
                PublicKey::Rsa(public.raw.to_vec())
            }
            OID_EC if curve.as_deref() == Some(OID_P256) => {
                let point = public.subject_public_key.data.to_vec();
                if point.len() != 65 || point[0] != 4 {
                    return Err(refused("The elliptic key of the certificate is damaged."));
                }
                PublicKey::P256(point)
            }
            _ => return Err(refused("The key of the certificate is neither RSA nor on the curve P-256.")),
        };
        Ok(RecipientCertificate {
            thumbprint: sha256_hex(der),
            der: der.to_vec(),
            subject: certificate.subject().to_string(),
            key,
        })
    }

    /// SHA-256 of the certificate, hex.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The subject, for people.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM.
    pub fn to_pem(&self) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem + "-----END CERTIFICATE-----\n"
    }
}

fn refused(message: &str) -> Fault {
    Fault::new("UserErrorSettings", message)
        .remedy("Give a certificate with an RSA key of 2048 bits or more, or with a P-256 key.")
}
