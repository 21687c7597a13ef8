//! Ed25519: who said this. A signature covers the kind of a document and its text byte for byte, so no canonical JSON
//! is needed to check it. Whether a key is the right one is the caller's knowledge.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use dmg_protocol::{Fault, Signature, Signed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::{base64url, from_base64url, hash::sha256};

const ALGORITHM: &str = "ed25519";

/// A private Ed25519 key: the identity of a service or of a node.
pub struct SigningKey(Ed25519KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public_key())
    }
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> Self {
        SigningKey(Ed25519KeyPair::generate().expect("the system's random generator does not fail once it is seeded"))
    }

    /// Reads what [`SigningKey::to_pkcs8`] wrote.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, Fault> {
        Ed25519KeyPair::from_pkcs8(bytes)
            .map(SigningKey)
            .map_err(|_| Fault::new("SystemErrorState", "The identity key is damaged: it is not an Ed25519 key."))
    }

    /// The key as PKCS#8, for a file that only its owner can read.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let document = self.0.to_pkcs8().expect("a key that exists can be written");
        Zeroizing::new(document.as_ref().to_vec())
    }

    /// The public half, base64url.
    pub fn public_key(&self) -> String {
        base64url(self.0.public_key().as_ref())
    }

    /// Signs bytes; the signature as base64url.
    pub fn sign_bytes(&self, bytes: &[u8]) -> String {
        base64url(self.0.sign(bytes).as_ref())
    }

    /// Signs a document under its kind.
    pub fn sign(&self, kind: &str, payload: &impl Serialize) -> Signed {
        let payload = serde_json::to_string(payload).expect("protocol documents have string keys and always serialise");
        let value = self.sign_bytes(signed_text(kind, &payload).as_bytes());
        Signed {
            kind: kind.to_owned(),
            payload,
            signature: Signature { algorithm: ALGORITHM.to_owned(), public_key: self.public_key(), value },
            vouched: None,
        }
    }
}

/// Whether the owner of `public_key` (base64url) made `signature` (base64url) over `bytes`.
pub fn verify_bytes(public_key: &str, bytes: &[u8], signature: &str) -> bool {
    let (Some(key), Some(signature)) = (from_base64url(public_key), from_base64url(signature)) else { return false };
    UnparsedPublicKey::new(&ED25519, key).verify(bytes, &signature).is_ok()
}

/// Opens a signed document: the right kind, signed by the owner of `public_key`, and readable.
pub fn open_signed<T: DeserializeOwned>(signed: &Signed, kind: &str, public_key: &str) -> Result<T, Fault> {
    let code = match kind.split('/').next() {
        Some("dmg-receipt" | "dmg-node-record") => "UserErrorReceipt",
        _ => "NetworkErrorServiceIdentity",
    };
    if signed.kind != kind {
        return Err(Fault::new(code, format!("A document of kind {kind} was expected, but {} came.", signed.kind)));
    }
    if signed.signature.algorithm != ALGORITHM || signed.signature.public_key != public_key {
        return Err(Fault::new(code, format!("The document {kind} is signed by somebody else.")));
    }
    if !verify_bytes(public_key, signed_text(kind, &signed.payload).as_bytes(), &signed.signature.value) {
        return Err(Fault::new(code, format!("The signature of the document {kind} does not fit its text.")));
    }
    serde_json::from_str(&signed.payload).map_err(|error| {
        Fault::new("SystemErrorInternal", format!("The signed document {kind} is unreadable: {error}."))
    })
}

/// The pin of an identity: base64url of the SHA-256 of the raw public key, 43 characters.
pub fn identity_pin(public_key: &str) -> String {
    base64url(&sha256(&from_base64url(public_key).unwrap_or_default()))
}

fn signed_text(kind: &str, payload: &str) -> String {
    format!("{kind}\n{payload}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8032_test_2() {
        let seed: Vec<u8> = (0..32)
            .map(|i| {
                u8::from_str_radix(
                    &"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"[i * 2..i * 2 + 2],
                    16,
                )
                .unwrap()
            })
            .collect();
        let key = SigningKey(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
        let signature = from_base64url(&key.sign_bytes(&[0x72])).unwrap();
        assert_eq!(signature[..4], [0x92, 0xa0, 0x09, 0xa9]);
        assert_eq!(from_base64url(&key.public_key()).unwrap()[..4], [0x3d, 0x40, 0x17, 0xc3]);
    }

    #[test]
    fn signed_documents() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let signed = key.sign("dmg-hints/1", &vec![1, 2, 3]);
        assert_eq!(open_signed::<Vec<u32>>(&signed, "dmg-hints/1", &key.public_key()).unwrap(), [1, 2, 3]);
        assert!(open_signed::<Vec<u32>>(&signed, "dmg-job/1", &key.public_key()).is_err());
        assert!(open_signed::<Vec<u32>>(&signed, "dmg-hints/1", &other.public_key()).is_err());
        let mut altered = signed.clone();
        altered.payload = "[1,2,4]".into();
        let fault = open_signed::<Vec<u32>>(&altered, "dmg-hints/1", &key.public_key()).unwrap_err();
        assert_eq!(fault.code, "NetworkErrorServiceIdentity");
        let mut renamed = signed;
        renamed.kind = "dmg-job/1".into();
        assert!(open_signed::<Vec<u32>>(&renamed, "dmg-job/1", &key.public_key()).is_err());
    }

    #[test]
    fn key_survives_its_file() {
        let key = SigningKey::generate();
        let again = SigningKey::from_pkcs8(&key.to_pkcs8()).unwrap();
        assert_eq!(key.public_key(), again.public_key());
        assert_eq!(identity_pin(&key.public_key()).len(), 43);
    }
}
