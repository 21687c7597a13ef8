//! The gateway certificate as the administrator handles it: show it, carry it to another node, bring one in.

use std::path::Path;

use dmg_ambient::Ambient;
use dmg_protocol::{Fault, Secret};
use dmg_seal::CredentialKey;
use serde::Serialize;

use super::enroll::publish;
use super::folder::{NodeFolder, not_registered};
use super::node::channel;

/// The gateway certificate, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateReport {
    /// Its subject.
    pub subject: String,
    /// SHA-256, hex.
    pub thumbprint: String,
    /// The certificate in PEM, without the key.
    pub pem: String,
}

impl CertificateReport {
    fn of(key: &CredentialKey) -> Self {
        CertificateReport {
            subject: key.certificate().subject().to_owned(),
            thumbprint: key.certificate().thumbprint().to_owned(),
            pem: key.certificate_pem(),
        }
    }
}

/// The certificate whose private key this node holds.
pub fn certificate_show(data: &Path) -> Result<CertificateReport, Fault> {
    held(&NodeFolder::open(data)?).map(|key| CertificateReport::of(&key))
}

/// The certificate with its key as a PFX file under a password.
pub fn certificate_export(data: &Path, password: &Secret<String>) -> Result<Vec<u8>, Fault> {
    if password.expose().is_empty() {
        return Err(Fault::new("UserErrorSettings", "A PFX file without a password is not written.")
            .remedy("Choose a password."));
    }
    held(&NodeFolder::open(data)?)?.to_pfx(password)
}

/// Brings in a certificate with its key and publishes it. `replace` is the administrator's word that a different one
/// may be replaced; credentials sealed to that one must then be entered again.
pub async fn certificate_import(
    data: &Path,
    pfx: &[u8],
    password: &Secret<String>,
    replace: bool,
    ambient: &Ambient,
) -> Result<CertificateReport, Fault> {
    let folder = NodeFolder::open(data)?;
    let state = folder.state()?.ok_or_else(|| not_registered(data))?;
    let key = CredentialKey::from_pfx(pfx, password)?;
    let channel = channel(&folder, &state, &state.record()?, ambient)?;
    // The service's word first: it refuses a different certificate unless it may be replaced.
    publish(&channel, &key, replace).await?;
    folder.save_credential_key(&key)?;
    Ok(CertificateReport::of(&key))
}

fn held(folder: &NodeFolder) -> Result<CredentialKey, Fault> {
    folder.credential_key()?.ok_or_else(|| {
        Fault::new("UserErrorCertificateLost", "This node does not hold the private key of its gateway's certificate.")
    })
}
