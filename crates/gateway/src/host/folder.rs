//! The node's data folder: what it is, its two keys, and what it was doing. Files are replaced in one step and only
//! their owner can read them. Nothing here talks to anybody.
//!
//! ```text
//! node.json        who this node is and where its service is
//! identity.key     the node's Ed25519 key, PKCS#8
//! certificate.pem  the gateway certificate
//! credential.key   its private key, PKCS#8; the only thing that opens credentials
//! journal/         one file per job that is running or whose end is not reported yet
//! host.lock        held by the running host
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use dmg_protocol::{Fault, NodeRecord, Signed};
use dmg_seal::{CredentialKey, SigningKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const NODE: &str = "node.json";
const IDENTITY: &str = "identity.key";
const CERTIFICATE: &str = "certificate.pem";
const CREDENTIAL: &str = "credential.key";
const JOURNAL: &str = "journal";
const LOCK: &str = "host.lock";

/// Who a registered node is. Stored as `node.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeState {
    /// Version of this file.
    pub version: u32,
    /// `host:port` of the service.
    pub endpoint: String,
    /// The service's identity key, base64url; it was checked against the pin in the gateway key.
    pub service_key: String,
    /// PEM of certificate authorities trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_ca: Option<String>,
    /// The node record as the service signed it.
    pub record: Signed,
}

impl NodeState {
    /// The node record inside.
    pub fn record(&self) -> Result<NodeRecord, Fault> {
        dmg_seal::open_signed(&self.record, "dmg-node-record/1", &self.service_key)
    }
}

/// A node's data folder.
#[derive(Debug, Clone)]
pub struct NodeFolder(PathBuf);

impl NodeFolder {
    /// Makes the folder if need be, readable by its owner only.
    pub fn create(path: &Path) -> Result<Self, Fault> {
        let folder = NodeFolder(path.to_owned());
        for path in [path.to_owned(), folder.journal()] {
            fs::create_dir_all(&path).map_err(|error| failed(&path, "be made", &error))?;
            owner_only(&path, 0o700)?;
        }
        Ok(folder)
    }

    /// Opens the folder of a registered node.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        if path.join(NODE).is_file() { Self::create(path) } else { Err(not_registered(path)) }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.0.join(JOURNAL)
    }

    /// Takes the folder for one host; none if another host runs on it.
    pub fn lock(&self) -> Result<Option<File>, Fault> {
        let path = self.0.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| failed(&path, "be opened", &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(failed(&path, "be locked", &error)),
        }
    }

    /// Who the node is; none before it is registered.
    pub fn state(&self) -> Result<Option<NodeState>, Fault> {
        read_json(&self.0.join(NODE))
    }

    /// Writes who the node is.
    pub fn save_state(&self, state: &NodeState) -> Result<(), Fault> {
        write_json(&self.0.join(NODE), state)
    }

    /// The node's identity key.
    pub fn identity(&self) -> Result<SigningKey, Fault> {
        let path = self.0.join(IDENTITY);
        SigningKey::from_pkcs8(&zeroize_read(&path)?)
    }

    /// Writes the node's identity key.
    pub fn save_identity(&self, key: &SigningKey) -> Result<(), Fault> {
        write(&self.0.join(IDENTITY), &key.to_pkcs8())
    }

    /// The gateway certificate with its private key; none if this node does not hold it.
    pub fn credential_key(&self) -> Result<Option<CredentialKey>, Fault> {
        let (certificate, key) = (self.0.join(CERTIFICATE), self.0.join(CREDENTIAL));
        if !certificate.is_file() || !key.is_file() {
            return Ok(None);
        }
        let pem = fs::read(&certificate).map_err(|error| failed(&certificate, "be read", &error))?;
        let damaged = || Fault::new("SystemErrorState", format!("{} is not a certificate.", certificate.display()));
        let der = CertificateDer::from_pem_slice(&pem).map_err(|_| damaged())?;
        CredentialKey::from_parts(&der, zeroize_read(&key)?).map(Some)
    }

    /// Writes the gateway certificate and its private key.
    pub fn save_credential_key(&self, key: &CredentialKey) -> Result<(), Fault> {
        write(&self.0.join(CREDENTIAL), key.to_pkcs8())?;
        write(&self.0.join(CERTIFICATE), key.certificate_pem().as_bytes())
    }
}

impl NodeFolder {
    /// Removes a certificate that nothing was sealed to.
    pub(crate) fn forget_credential_key(&self) -> Result<(), Fault> {
        remove(&self.0.join(CERTIFICATE))?;
        remove(&self.0.join(CREDENTIAL))
    }
}

/// What is said where a registered node is needed and none is.
pub(crate) fn not_registered(path: &Path) -> Fault {
    Fault::new(
        "UserErrorGatewayKey",
        format!("Authentication Key is not assigned yet. No node is registered in {}.", path.display()),
    )
    .remedy("Register it first: dmg node register KEY --data DIR.")
}

/// Reads a JSON file; none if there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Fault> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "be read", &error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Fault::new("SystemErrorState", format!("{} is damaged: {error}.", path.display())))
}

/// Replaces a JSON file in one step.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Fault> {
    let text = serde_json::to_vec_pretty(value).expect("node documents have string keys and always serialise");
    write(path, &text)
}

/// Replaces a file in one step: written beside it, forced to disk, renamed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let result = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    result().map_err(|error| failed(path, "be written", &error))
}

/// Removes a file; one that is gone already is as good.
pub(crate) fn remove(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(path, "be removed", &error)),
        _ => Ok(()),
    }
}

fn zeroize_read(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, Fault> {
    fs::read(path).map(zeroize::Zeroizing::new).map_err(|error| failed(path, "be read", &error))
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> Fault {
    Fault::new("SystemErrorState", format!("{} cannot {what}: {error}.", path.display()))
}

#[cfg(unix)]
fn owner_only(path: &Path, mode: u32) -> Result<(), Fault> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| failed(path, "be protected", &error))
}

#[cfg(not(unix))]
fn owner_only(_path: &Path, _mode: u32) -> Result<(), Fault> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_the_owner_reads_and_only_one_host_runs() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("node");
        assert_eq!(NodeFolder::open(&path).unwrap_err().code, "UserErrorGatewayKey");
        let folder = NodeFolder::create(&path).unwrap();
        folder.save_identity(&SigningKey::generate()).unwrap();
        folder.save_credential_key(&CredentialKey::generate("g")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for file in [IDENTITY, CREDENTIAL, CERTIFICATE] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
        assert!(folder.credential_key().unwrap().is_some());
        let lock = folder.lock().unwrap();
        assert!(lock.is_some() && folder.lock().unwrap().is_none());
        drop(lock);
        assert!(folder.lock().unwrap().is_some());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let data = tempfile::tempdir().unwrap();
        let folder = NodeFolder::create(data.path()).unwrap();
        fs::write(data.path().join(NODE), "{ cut").unwrap();
        let fault = folder.state().unwrap_err();
        assert_eq!(fault.code, "SystemErrorState");
        assert!(fault.message.contains("node.json is damaged"), "{}", fault.message);
    }
}
