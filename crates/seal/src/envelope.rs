//! The envelope: secrets sealed to one or more gateway certificates and bound to the target they are for. JWE General
//! JSON (RFC 7516) in exactly one profile, so that other people's tools can open it: `A256GCM`, no compression, the
//! binding as authenticated data anybody may read. Every other algorithm fails to parse.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use dmg_protocol::{Fault, Secret, Secrets};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::certificate::RecipientCertificate;
use crate::key_wrap::{self, Header, KEY_BYTES};
use crate::{base64url, from_base64url, random_bytes};

/// The plaintext grows in these steps, so that its length tells nothing about a password.
const PADDING_STEP: usize = 256;
/// Longest envelope text that is read.
const TEXT_BYTES_MAX: usize = 256 * 1024;
const TAG_BYTES: usize = 16;

/// The whole envelope.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Envelope {
    protected: String,
    pub(crate) recipients: Vec<Recipient>,
    aad: String,
    iv: String,
    ciphertext: String,
    tag: String,
}

/// One recipient.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipient {
    pub(crate) header: Header,
    encrypted_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Protected {
    enc: Encryption,
}

#[derive(Serialize, Deserialize)]
enum Encryption {
    #[serde(rename = "A256GCM")]
    A256Gcm,
}

/// Seals secrets to all recipients, bound to the members of `binding`. The answer is one base64url text.
pub fn seal(
    recipients: &[RecipientCertificate],
    binding: &BTreeMap<String, String>,
    secrets: &Secrets,
) -> Result<String, Fault> {
    if recipients.is_empty() {
        return Err(Fault::new("UserErrorNoGatewayToSealTo", "There is no gateway certificate to seal the secret to."));
    }
    let content_key = Zeroizing::new(random_bytes::<KEY_BYTES>());
    let mut sealed_to = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        let (header, wrapped) =
            key_wrap::wrap(&recipient.key, recipient.thumbprint(), &content_key).ok_or_else(|| {
                let message = format!("The certificate {} cannot be sealed to.", recipient.subject());
                Fault::new("UserErrorSettings", message).remedy("Give the gateway another certificate.")
            })?;
        sealed_to.push(Recipient { header, encrypted_key: base64url(&wrapped) });
    }
    let protected = base64url(br#"{"enc":"A256GCM"}"#);
    let aad = base64url(serde_json::to_string(binding).expect("a map of texts always serialises").as_bytes());
    let mut text = plaintext(secrets);
    let iv = random_bytes::<12>();
    let tag = cipher(&content_key)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(iv),
            Aad::from(format!("{protected}.{aad}")),
            &mut text,
        )
        .expect("a text of a few kibibytes is within the limits of the cipher");
    let envelope = Envelope {
        protected,
        recipients: sealed_to,
        aad,
        iv: base64url(&iv),
        ciphertext: base64url(&text),
        tag: base64url(tag.as_ref()),
    };
    Ok(base64url(serde_json::to_string(&envelope).expect("texts always serialise").as_bytes()))
}

/// What an envelope is bound to, as written on it. Only opening proves that it was not altered.
pub fn envelope_binding(envelope: &str) -> Result<BTreeMap<String, String>, Fault> {
    binding_of(&read(envelope)?)
}

/// The certificate thumbprints an envelope is sealed to.
pub fn envelope_recipients(envelope: &str) -> Result<Vec<String>, Fault> {
    Ok(read(envelope)?.recipients.iter().map(|recipient| recipient.header.kid().to_owned()).collect())
}

/// Reads the outer form.
pub(crate) fn read(text: &str) -> Result<Envelope, Fault> {
    let text = text.trim();
    if text.len() > TEXT_BYTES_MAX {
        return Err(damaged());
    }
    let json = from_base64url(text.trim_end_matches('=')).ok_or_else(damaged)?;
    serde_json::from_slice(&json).map_err(|_| damaged())
}

/// Opens with a key-unwrapping function that was given our recipient, and checks the binding after the cipher proved it.
pub(crate) fn open(
    envelope: &Envelope,
    content_key: &[u8],
    binding: &BTreeMap<String, String>,
) -> Result<Secrets, Fault> {
    let header = from_base64url(&envelope.protected).ok_or_else(damaged)?;
    let Protected { enc: Encryption::A256Gcm } = serde_json::from_slice(&header).map_err(|_| damaged())?;
    let iv: [u8; 12] = from_base64url(&envelope.iv).and_then(|iv| iv.try_into().ok()).ok_or_else(damaged)?;
    let mut text = Zeroizing::new(from_base64url(&envelope.ciphertext).ok_or_else(damaged)?);
    let tag = from_base64url(&envelope.tag).filter(|tag| tag.len() == TAG_BYTES).ok_or_else(damaged)?;
    text.extend_from_slice(&tag);
    let key: &[u8; KEY_BYTES] = content_key.try_into().map_err(|_| damaged())?;
    let aad = Aad::from(format!("{}.{}", envelope.protected, envelope.aad));
    let length =
        cipher(key).open_in_place(Nonce::assume_unique_for_key(iv), aad, &mut text).map_err(|_| damaged())?.len();
    check_binding(&binding_of(envelope)?, binding)?;
    let mut secrets: BTreeMap<String, String> = serde_json::from_slice(&text[..length]).map_err(|_| damaged())?;
    Ok(std::mem::take(&mut secrets).into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
}

/// The wrapped content key of one recipient.
pub(crate) fn wrapped_key(recipient: &Recipient) -> Result<Vec<u8>, Fault> {
    from_base64url(&recipient.encrypted_key).ok_or_else(damaged)
}

pub(crate) fn damaged() -> Fault {
    Fault::new("UserErrorCredentialDamaged", "The encrypted credential cannot be opened: its text was cut or altered.")
}

fn binding_of(envelope: &Envelope) -> Result<BTreeMap<String, String>, Fault> {
    let json = from_base64url(&envelope.aad).ok_or_else(damaged)?;
    serde_json::from_slice(&json).map_err(|_| damaged())
}

fn check_binding(sealed: &BTreeMap<String, String>, asked: &BTreeMap<String, String>) -> Result<(), Fault> {
    let names: std::collections::BTreeSet<&String> = sealed.keys().chain(asked.keys()).collect();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|name| sealed.get(*name) != asked.get(*name))
        .map(|name| {
            let quoted = |side: &BTreeMap<String, String>| match side.get(name) {
                Some(value) => format!("\"{value}\""),
                None => "nothing".to_owned(),
            };
            format!("{name}: sealed for {}, asked for {}", quoted(sealed), quoted(asked))
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!("The credential is not for this target ({}).", differences.join("; "));
    Err(Fault::new("UserErrorCredentialBound", message))
}

/// JSON of the secrets, followed by spaces up to the next step: the padding needs no unpadding.
fn plaintext(secrets: &Secrets) -> Zeroizing<Vec<u8>> {
    let plain: BTreeMap<&str, &str> = secrets.iter().map(|(name, value)| (name, value.expose().as_str())).collect();
    let json = Zeroizing::new(serde_json::to_vec(&plain).expect("a map of texts always serialises"));
    // Reserved at once, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(json.len().next_multiple_of(PADDING_STEP).max(PADDING_STEP)));
    text.extend_from_slice(&json);
    text.resize(json.len().next_multiple_of(PADDING_STEP).max(PADDING_STEP), b' ');
    text
}

fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has the cipher's length"))
}
