//! Sealing and opening credentials, signatures and gateway keys: the only crate that touches ciphers. Pure functions;
//! it opens no file and no connection, and decides nothing about who may ask.

mod certificate;
mod credential_key;
mod envelope;
mod gateway_key;
mod hash;
mod key_wrap;
mod random;
mod sign;

pub use certificate::RecipientCertificate;
pub use credential_key::{CredentialKey, KeyAlgorithm};
pub use envelope::{envelope_binding, envelope_recipients, seal};
pub use gateway_key::{GatewayKey, KeyLook, SECRET_BYTES, format_key, parse_key};
pub use hash::{hmac_sha256, sha256, sha256_hex, verify_hmac};
pub use random::{base64url, from_base64url, random_bytes};
pub use sign::{SigningKey, identity_pin, open_signed, verify_bytes};
