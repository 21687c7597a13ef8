//! Envelopes as callers meet them: who can open them, for what, and what is said when they cannot.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use dmg_protocol::{Secret, Secrets};
use dmg_seal::{CredentialKey, KeyAlgorithm, base64url, envelope_binding, envelope_recipients, from_base64url, seal};

fn binding(host: &str, port: &str) -> BTreeMap<String, String> {
    [("factory", "f1"), ("linkedService", "Sales"), ("host", host), ("port", port)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn secrets(password: &str) -> Secrets {
    [("password".to_owned(), Secret::from(password))].into_iter().collect()
}

fn json(envelope: &str) -> serde_json::Value {
    serde_json::from_slice(&from_base64url(envelope).unwrap()).unwrap()
}

fn text(json: &serde_json::Value) -> String {
    base64url(json.to_string().as_bytes())
}

#[test]
fn several_recipients_of_both_kinds_open_it() {
    let keys = [
        CredentialKey::generate("gateway one"),
        CredentialKey::generate_with("gateway two", KeyAlgorithm::Rsa3072),
        CredentialKey::generate("gateway three"),
    ];
    let recipients = [keys[0].certificate().clone(), keys[1].certificate().clone()];
    let bound = binding("db1", "5432");
    let sealed = seal(&recipients, &bound, &secrets("s€cret")).unwrap();
    assert_eq!(envelope_binding(&sealed).unwrap(), bound);
    assert_eq!(envelope_recipients(&sealed).unwrap(), recipients.each_ref().map(|one| one.thumbprint().to_owned()));
    for key in &keys[..2] {
        assert_eq!(key.open(&bound, &sealed).unwrap().get("password").unwrap().expose(), "s€cret");
    }
    assert_eq!(keys[2].open(&bound, &sealed).unwrap_err().code, "UserErrorCertificateLost");
}

#[test]
fn another_target_is_named_and_refused() {
    let key = CredentialKey::generate("g");
    let sealed = seal(&[key.certificate().clone()], &binding("db1", "1433"), &secrets("x")).unwrap();
    let fault = key.open(&binding("db2", "1433"), &sealed).unwrap_err();
    assert_eq!(fault.code, "UserErrorCredentialBound");
    assert_eq!(fault.message, "The credential is not for this target (host: sealed for \"db1\", asked for \"db2\").");
    let mut fewer = binding("db1", "1433");
    fewer.remove("port");
    let fault = key.open(&fewer, &sealed).unwrap_err();
    assert_eq!(fault.message, "The credential is not for this target (port: sealed for \"1433\", asked for nothing).");
}

#[test]
fn length_tells_nothing_about_the_password() {
    let key = CredentialKey::generate("g");
    let length = |password: &str| {
        let sealed = seal(&[key.certificate().clone()], &BTreeMap::new(), &secrets(password)).unwrap();
        json(&sealed)["ciphertext"].as_str().unwrap().len()
    };
    assert_eq!(length("a"), length(&"b".repeat(200)));
    // One step more: 256 bytes, as base64url.
    assert_eq!(length(&"b".repeat(300)) - length("a"), 683 - 342);
}

#[test]
fn every_altered_member_is_found() {
    let key = CredentialKey::generate("g");
    let bound = binding("db1", "5432");
    let sealed = seal(&[key.certificate().clone()], &bound, &secrets("x")).unwrap();
    let whole = json(&sealed);
    for member in ["iv", "ciphertext", "tag"] {
        let mut altered = whole.clone();
        let mut bytes = from_base64url(altered[member].as_str().unwrap()).unwrap();
        bytes[3] ^= 1;
        altered[member] = base64url(&bytes).into();
        assert_eq!(key.open(&bound, &text(&altered)).unwrap_err().code, "UserErrorCredentialDamaged", "{member}");
    }
    // The readable binding rewritten for the thief's host.
    let moved = binding("thief", "5432");
    let mut altered = whole.clone();
    altered["aad"] = base64url(serde_json::to_string(&moved).unwrap().as_bytes()).into();
    assert_eq!(key.open(&moved, &text(&altered)).unwrap_err().code, "UserErrorCredentialDamaged");
    // Everything that is not our one profile.
    for (pointer, value) in [
        ("/recipients/0/header/alg", serde_json::json!("dir")),
        ("/recipients/0/header/alg", serde_json::json!("RSA1_5")),
        ("/recipients/0/header/epk/crv", serde_json::json!("P-384")),
        ("/protected", serde_json::json!(base64url(br#"{"enc":"A128CBC-HS256"}"#))),
        ("/protected", serde_json::json!(base64url(br#"{"enc":"A256GCM","zip":"DEF"}"#))),
    ] {
        let mut altered = whole.clone();
        *altered.pointer_mut(pointer).unwrap() = value;
        assert_eq!(key.open(&bound, &text(&altered)).unwrap_err().code, "UserErrorCredentialDamaged", "{pointer}");
    }
    for end in (0..sealed.len()).step_by(17) {
        assert_eq!(key.open(&bound, &sealed[..end]).unwrap_err().code, "UserErrorCredentialDamaged", "cut at {end}");
    }
}

#[test]
fn a_pfx_carries_the_key_to_another_node() {
    for algorithm in [KeyAlgorithm::EllipticP256, KeyAlgorithm::Rsa3072] {
        let key = CredentialKey::generate_with("g", algorithm);
        let password = Secret::from("correct horse");
        let pfx = key.to_pfx(&password).unwrap();
        let other = CredentialKey::from_pfx(&pfx, &password).unwrap();
        let bound = binding("db1", "5432");
        let sealed = seal(&[key.certificate().clone()], &bound, &secrets("x")).unwrap();
        assert_eq!(other.open(&bound, &sealed).unwrap().get("password").unwrap().expose(), "x");
        assert_eq!(other.digest_key().expose(), key.digest_key().expose());
        let fault = CredentialKey::from_pfx(&pfx, &Secret::from("wrong")).unwrap_err();
        assert_eq!(fault.message, "The PFX file cannot be opened with this password, or it is damaged.");
    }
}
