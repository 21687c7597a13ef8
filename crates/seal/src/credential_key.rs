//! The gateway's credential key: a certificate with its private key, the only thing that opens envelopes. One per
//! gateway. It goes to other nodes as PFX with a password, never through the service.

use std::collections::BTreeMap;

use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::encoding::{AsBigEndian as _, AsDer as _, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::rsa::{OaepPrivateDecryptingKey, PrivateDecryptingKey};
use dmg_protocol::{Fault, Secret, Secrets};
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, Pkcs12Archive, PrivateKey, PrivateKeyChain,
};
use zeroize::Zeroizing;

use crate::certificate::{PublicKey, RecipientCertificate};
use crate::envelope::{self, damaged};
use crate::key_wrap::{self, Header};
use crate::{base64url, hmac_sha256};

const PFX_ITERATIONS: u32 = 600_000;

/// What kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyAlgorithm {
    /// P-256.
    #[default]
    EllipticP256,
    /// RSA with 3072 bits.
    Rsa3072,
}

/// A certificate with its private key.
pub struct CredentialKey {
    certificate: RecipientCertificate,
    pkcs8: Zeroizing<Vec<u8>>,
    private: Private,
}

enum Private {
    Rsa(Box<OaepPrivateDecryptingKey>),
    P256(Box<agreement::PrivateKey>),
}

impl std::fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CredentialKey({})", self.certificate.thumbprint())
    }
}

impl CredentialKey {
    /// A new key on P-256 with a self-made certificate.
    pub fn generate(common_name: &str) -> Self {
        Self::generate_with(common_name, KeyAlgorithm::default())
    }

    /// A new key of a chosen kind with a self-made certificate. The certificate carries the key and no trust, so it
    /// has no end of its own; it is replaced, not renewed.
    pub fn generate_with(common_name: &str, algorithm: KeyAlgorithm) -> Self {
        let pair = match algorithm {
            KeyAlgorithm::EllipticP256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyAlgorithm::Rsa3072 => {
                rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_3072)
            }
        }
        .expect("the system's random generator does not fail once it is seeded");
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        parameters.key_usages = vec![match algorithm {
            KeyAlgorithm::EllipticP256 => rcgen::KeyUsagePurpose::KeyAgreement,
            KeyAlgorithm::Rsa3072 => rcgen::KeyUsagePurpose::KeyEncipherment,
        }];
        let certificate = parameters.self_signed(&pair).expect("the parameters are complete");
        Self::from_parts(certificate.der(), Zeroizing::new(pair.serialize_der()))
            .expect("a key of a supported kind with its own certificate")
    }

    /// A key from its certificate in DER and its private key in PKCS#8.
    pub fn from_parts(certificate: &[u8], pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, Fault> {
        let certificate = RecipientCertificate::from_der(certificate)?;
        let mismatch = || {
            Fault::new("UserErrorSettings", "The private key does not belong to the certificate.")
                .remedy("Give a certificate together with its own key.")
        };
        let private = match &certificate.key {
            PublicKey::Rsa(spki) => {
                let key = PrivateDecryptingKey::from_pkcs8(&pkcs8).map_err(|_| mismatch())?;
                if key.public_key().as_der().map_err(|_| mismatch())?.as_ref() != spki.as_slice() {
                    return Err(mismatch());
                }
                Private::Rsa(Box::new(OaepPrivateDecryptingKey::new(key).map_err(|_| mismatch())?))
            }
            PublicKey::P256(point) => {
                let key = agreement::PrivateKey::from_private_key_der(&ECDH_P256, &pkcs8).map_err(|_| mismatch())?;
                if key.compute_public_key().map_err(|_| mismatch())?.as_ref() != point.as_slice() {
                    return Err(mismatch());
                }
                Private::P256(Box::new(key))
            }
        };
        Ok(CredentialKey { certificate, pkcs8, private })
    }

    /// Reads a PFX file (PKCS#12 with AES).
    pub fn from_pfx(bytes: &[u8], password: &Secret<String>) -> Result<Self, Fault> {
        let refused = |message: &str| {
            Fault::new("UserErrorSettings", message).remedy(
                "Check the password. A file in the old RC2 or triple DES form must be exported anew with AES-256.",
            )
        };
        let archive = Pkcs12Archive::from_pkcs12(bytes, password.expose())
            .map_err(|_| refused("The PFX file cannot be opened with this password, or it is damaged."))?;
        for key in &archive.keys {
            for bag in &archive.certs {
                let pkcs8 = Zeroizing::new(key.key.as_der().to_vec());
                if let Ok(found) = Self::from_parts(bag.cert.as_der(), pkcs8) {
                    return Ok(found);
                }
            }
        }
        Err(refused("The PFX file holds no certificate with an RSA or P-256 private key that belongs to it."))
    }

    /// Writes a PFX file, encrypted with AES-256 under 600,000 rounds of PBKDF2.
    pub fn to_pfx(&self, password: &Secret<String>) -> Result<Vec<u8>, Fault> {
        let failed = || Fault::new("SystemErrorInternal", "The PFX file cannot be written.");
        let key = PrivateKey::from_der(&self.pkcs8).map_err(|_| failed())?;
        let certificate = Certificate::from_der(self.certificate.der()).map_err(|_| failed())?;
        let mut store = KeyStore::new();
        let id = crate::hash::sha256(self.certificate.der())[..20].to_vec();
        store.add_entry("gateway", KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(id, key, [certificate])));
        store
            .writer(password.expose())
            .encryption_algorithm(EncryptionAlgorithm::PbeWithHmacSha256AndAes256)
            .encryption_iterations(PFX_ITERATIONS)
            .mac_algorithm(MacAlgorithm::HmacSha256)
            .mac_iterations(PFX_ITERATIONS)
            .write()
            .map_err(|_| failed())
    }

    /// The public half.
    pub fn certificate(&self) -> &RecipientCertificate {
        &self.certificate
    }

    /// The certificate in PEM, without the key.
    pub fn certificate_pem(&self) -> String {
        self.certificate.to_pem()
    }

    /// The private key in PKCS#8, for a file that only its owner can read.
    pub fn to_pkcs8(&self) -> &Zeroizing<Vec<u8>> {
        &self.pkcs8
    }

    /// Opens an envelope for exactly the target it was sealed for.
    pub fn open(&self, binding: &BTreeMap<String, String>, envelope: &str) -> Result<Secrets, Fault> {
        let envelope = envelope::read(envelope)?;
        let ours = envelope.recipients.iter().find(|one| one.header.kid() == self.certificate.thumbprint());
        let Some(ours) = ours else {
            return Err(Fault::new(
                "UserErrorCertificateLost",
                "The credential was sealed to another certificate than the one this gateway holds.",
            )
            .with("thumbprint", self.certificate.thumbprint()));
        };
        let wrapped = envelope::wrapped_key(ours)?;
        let content_key = match (&self.private, &ours.header) {
            (Private::Rsa(key), Header::RsaOaep256 { .. }) => key_wrap::unwrap_rsa(key, &wrapped),
            (Private::P256(key), Header::EcdhEsA256Kw { epk, .. }) => key_wrap::unwrap_ec(key, epk, &wrapped),
            _ => None,
        }
        .ok_or_else(damaged)?;
        envelope::open(&envelope, &content_key, binding)
    }

    /// The key for digests that the service must not be able to guess, base64url. It follows from the private key
    /// alone, so all nodes of the gateway share it without another secret to hand round.
    pub fn digest_key(&self) -> Secret<String> {
        let bytes = match &self.private {
            // The number itself, not its file form, which differs between programs.
            Private::P256(key) => {
                let number: Result<EcPrivateKeyBin<'_>, _> = key.as_be_bytes();
                Zeroizing::new(number.expect("the key is on the curve").as_ref().to_vec())
            }
            Private::Rsa(_) => {
                let key = PrivateDecryptingKey::from_pkcs8(&self.pkcs8).expect("it was read before");
                let document: Result<Pkcs8V1Der<'_>, _> = key.as_der();
                Zeroizing::new(document.expect("the key is whole").as_ref().to_vec())
            }
        };
        Secret::new(base64url(&hmac_sha256(&bytes, b"dmg-digest-key/1")))
    }
}
