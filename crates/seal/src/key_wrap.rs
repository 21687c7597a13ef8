//! How the content key of an envelope reaches one recipient: RSA-OAEP-256 (RFC 7518, 4.3) or ECDH-ES+A256KW on P-256
//! (RFC 7518, 4.6). There is no third way, and none can be named.

use aws_lc_rs::agreement::{self, ECDH_P256, UnparsedPublicKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PublicEncryptingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::certificate::PublicKey;
use crate::{base64url, from_base64url};

/// Length of a content key.
pub(crate) const KEY_BYTES: usize = 32;

/// Header of one recipient. Each way carries what it needs and nothing else; unknown members are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "alg", deny_unknown_fields)]
pub(crate) enum Header {
    #[serde(rename = "RSA-OAEP-256")]
    RsaOaep256 { kid: String },
    #[serde(rename = "ECDH-ES+A256KW")]
    EcdhEsA256Kw { kid: String, epk: Point },
}

impl Header {
    pub(crate) fn kid(&self) -> &str {
        match self {
            Header::RsaOaep256 { kid } | Header::EcdhEsA256Kw { kid, .. } => kid,
        }
    }
}

/// A public key on P-256 as JWK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    kty: Ec,
    crv: P256,
    x: String,
    y: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Ec {
    #[serde(rename = "EC")]
    Ec,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum P256 {
    #[serde(rename = "P-256")]
    P256,
}

impl Point {
    fn new(uncompressed: &[u8]) -> Self {
        let (x, y) = uncompressed[1..].split_at(32);
        Point { kty: Ec::Ec, crv: P256::P256, x: base64url(x), y: base64url(y) }
    }

    fn uncompressed(&self) -> Option<Vec<u8>> {
        let (x, y) = (from_base64url(&self.x)?, from_base64url(&self.y)?);
        (x.len() == 32 && y.len() == 32).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
    }
}

/// Wraps a content key for one recipient. None if the key of the certificate is not usable after all.
pub(crate) fn wrap(key: &PublicKey, kid: &str, content_key: &[u8; KEY_BYTES]) -> Option<(Header, Vec<u8>)> {
    match key {
        PublicKey::Rsa(spki) => {
            let public = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(spki).ok()?).ok()?;
            let mut wrapped = vec![0; public.ciphertext_size()];
            public.encrypt(&OAEP_SHA256_MGF1SHA256, content_key, &mut wrapped, None).ok()?;
            Some((Header::RsaOaep256 { kid: kid.to_owned() }, wrapped))
        }
        PublicKey::P256(point) => {
            let ephemeral = agreement::PrivateKey::generate(&ECDH_P256).ok()?;
            let epk = Point::new(ephemeral.compute_public_key().ok()?.as_ref());
            let kek = key_encryption_key(&ephemeral, point)?;
            let mut wrapped = vec![0; KEY_BYTES + 8];
            AesKek::new(&AES_256, kek.as_slice()).ok()?.wrap(content_key, &mut wrapped).ok()?;
            Some((Header::EcdhEsA256Kw { kid: kid.to_owned(), epk }, wrapped))
        }
    }
}

/// Unwraps with an RSA key.
pub(crate) fn unwrap_rsa(private: &OaepPrivateDecryptingKey, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(vec![0; private.min_output_size()]);
    let length = private.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut key, None).ok()?.len();
    key.truncate(length);
    (length == KEY_BYTES).then_some(key)
}

/// Unwraps with a key on P-256.
pub(crate) fn unwrap_ec(private: &agreement::PrivateKey, epk: &Point, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if wrapped.len() != KEY_BYTES + 8 {
        return None;
    }
    let kek = key_encryption_key(private, &epk.uncompressed()?)?;
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    AesKek::new(&AES_256, kek.as_slice()).ok()?.unwrap(wrapped, &mut key).ok()?;
    Some(key)
}

fn key_encryption_key(private: &agreement::PrivateKey, point: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    agreement::agree(private, UnparsedPublicKey::new(&ECDH_P256, point), (), |shared| {
        Ok(concat_kdf(shared, "ECDH-ES+A256KW", b"", b""))
    })
    .ok()
}

/// Concat KDF of NIST SP 800-56A, one round of SHA-256, as RFC 7518 4.6.2 fills it in, for 256 bits. Party names stay
/// empty in our envelopes.
fn concat_kdf(shared: &[u8], algorithm: &str, producer: &[u8], consumer: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut hash = Context::new(&SHA256);
    hash.update(&1_u32.to_be_bytes());
    hash.update(shared);
    for part in [algorithm.as_bytes(), producer, consumer] {
        hash.update(&(part.len() as u32).to_be_bytes());
        hash.update(part);
    }
    hash.update(&(KEY_BYTES as u32 * 8).to_be_bytes());
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    key.copy_from_slice(hash.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 7518, appendix C: the shared secret of its example keys. Its derived key is 128 bits long, so the length
    /// field differs and only the agreement can be compared; the derivation is checked against `jwcrypto` in
    /// `tests/judge/jwe.py`.
    #[test]
    fn rfc7518_appendix_c_agreement() {
        let alice = from_base64url("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo").unwrap();
        let private = agreement::PrivateKey::from_private_key(&ECDH_P256, &alice).unwrap();
        let bob = Point {
            kty: Ec::Ec,
            crv: P256::P256,
            x: "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ".into(),
            y: "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck".into(),
        };
        let point = bob.uncompressed().unwrap();
        let shared =
            agreement::agree(&private, UnparsedPublicKey::new(&ECDH_P256, &point), (), |z| Ok(hex(z))).unwrap();
        assert_eq!(shared, "9e56d91d817135d372834283bf84269cfb316ea3da806a48f6daa7798cfe90c4");
    }

    /// RFC 3394, 4.6: 256 bits of key data with a 256-bit key.
    #[test]
    fn rfc3394_wrap() {
        let kek: Vec<u8> = (0..32).collect();
        let data: Vec<u8> = (0..16).map(|i| i * 17).chain(0..16).collect();
        let mut wrapped = [0; 40];
        AesKek::new(&AES_256, &kek).unwrap().wrap(&data, &mut wrapped).unwrap();
        assert_eq!(hex(&wrapped), "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21");
    }
}
