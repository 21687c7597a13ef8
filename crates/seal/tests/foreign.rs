//! Foreign proof: `jwcrypto` and `cryptography` (PyPI) open what we seal and seal what we open.
//! `DMG_TEST_PYTHON` names a Python that has both; without one the test says that it was skipped.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says why it is skipped")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use dmg_protocol::{Secret, Secrets};
use dmg_seal::{CredentialKey, KeyAlgorithm, seal};

#[expect(clippy::disallowed_methods, reason = "a test asks where the judge's Python is")]
fn python() -> Option<String> {
    let python = std::env::var("DMG_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&python).args(["-c", "import jwcrypto, cryptography"]).output();
    match found {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            eprintln!("SKIPPED: {python} has no jwcrypto; set DMG_TEST_PYTHON to one that has");
            None
        }
    }
}

fn judge(python: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/judge/jwe.py");
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn jwcrypto_and_we_understand_each_other() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("password"), "a test's pass phrase").unwrap();
    let password = Secret::from("a test's pass phrase");
    let binding: BTreeMap<String, String> = [("host", "db1"), ("linkedService", "Größe \"A\"")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let spare = CredentialKey::generate("spare");
    for algorithm in [KeyAlgorithm::EllipticP256, KeyAlgorithm::Rsa3072] {
        let key = CredentialKey::generate_with("gateway", algorithm);
        std::fs::write(path("key.pfx"), key.to_pfx(&password).unwrap()).unwrap();
        let secrets: Secrets = [("password".to_owned(), Secret::from("pä$$"))].into_iter().collect();
        let recipients = [spare.certificate().clone(), key.certificate().clone()];
        std::fs::write(path("envelope"), seal(&recipients, &binding, &secrets).unwrap()).unwrap();
        let opened = judge(&python, &["open", &path("key.pfx"), &path("password"), &path("envelope")]);
        let opened: serde_json::Value = serde_json::from_str(&opened).unwrap();
        assert_eq!(opened, serde_json::json!({ "binding": binding, "secrets": { "password": "pä$$" } }));

        std::fs::write(path("certificate.pem"), key.certificate_pem()).unwrap();
        let bound = serde_json::to_string(&binding).unwrap();
        let sealed = judge(&python, &["seal", &path("certificate.pem"), &bound, r#"{"password":"from outside"}"#]);
        assert_eq!(key.open(&binding, &sealed).unwrap().get("password").unwrap().expose(), "from outside");
    }
    for kind in ["ec", "rsa"] {
        judge(&python, &["pfx", "foreign", &path("password"), &path("foreign.pfx"), kind]);
        let key = CredentialKey::from_pfx(&std::fs::read(path("foreign.pfx")).unwrap(), &password).unwrap();
        let sealed = seal(&[key.certificate().clone()], &binding, &Secrets::none()).unwrap();
        assert!(key.open(&binding, &sealed).unwrap().is_empty());
    }
}
