//! The service's data folder: identity, root key, access token and TLS certificate, each in a file of its own that
//! only its owner can read. None of them is ever in the database.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dmg_protocol::{Fault, Secret};
use dmg_seal::{SigningKey, base64url, from_base64url, random_bytes};

/// Name of the database file.
const DATABASE: &str = "service.db";
const IDENTITY: &str = "identity.key";
/// The public half, one line, as `dmg receipt verify --trust` takes it.
const IDENTITY_PUBLIC: &str = "identity.pub";
const ROOT_KEY: &str = "root.key";
const ADMIN_TOKEN: &str = "admin.token";
const CERTIFICATE: &str = "service.pem";
const CERTIFICATE_KEY: &str = "service-key.pem";
const LOCK: &str = "service.lock";

/// A certificate chain and its private key, both PEM.
pub(crate) type CertificateAndKey = (Vec<u8>, Vec<u8>);

/// The folder, locked by this process.
pub(crate) struct Folder {
    path: PathBuf,
    // Held open for the lock on it.
    _lock: std::fs::File,
}

impl Folder {
    /// Opens or makes the folder; refuses one that another service uses.
    pub(crate) fn open(path: &Path) -> Result<Self, Fault> {
        std::fs::create_dir_all(path).map_err(|error| failed("made", path, &error))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .map_err(|error| failed("protected", path, &error))?;
        let lock_path = path.join(LOCK);
        let lock = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| failed("opened", &lock_path, &error))?;
        if lock.try_lock().is_err() {
            return Err(Fault::new(
                "UserErrorInUse",
                format!("Another service is already running on the folder {}.", path.display()),
            )
            .remedy("Stop the other service, or give this one a folder of its own."));
        }
        Ok(Folder { path: path.to_owned(), _lock: lock })
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Makes the database's file readable by its owner only, before anything is written to it.
    pub(crate) fn protect_database(&self) -> Result<(), Fault> {
        let path = self.database();
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map(|_| ())
            .map_err(|error| failed("opened", &path, &error))
    }

    /// The service's identity: made at the first start, kept for good.
    pub(crate) fn identity(&self) -> Result<SigningKey, Fault> {
        let path = self.path.join(IDENTITY);
        let key = match read(&path)? {
            Some(bytes) => SigningKey::from_pkcs8(&bytes)?,
            None => {
                let key = SigningKey::generate();
                write_new(&path, &key.to_pkcs8())?;
                key
            }
        };
        let public = self.path.join(IDENTITY_PUBLIC);
        if read(&public)?.is_none() {
            write_new(&public, format!("{} dmg service\n", key.public_key()).as_bytes())?;
        }
        Ok(key)
    }

    /// The key that gateway keys are derived from.
    pub(crate) fn root_key(&self) -> Result<Secret<[u8; 32]>, Fault> {
        let path = self.path.join(ROOT_KEY);
        let bytes = match read(&path)? {
            Some(text) => std::str::from_utf8(&text).ok().and_then(|text| from_base64url(text.trim())),
            None => {
                let bytes = random_bytes::<32>();
                write_new(&path, base64url(&bytes).as_bytes())?;
                Some(bytes.to_vec())
            }
        };
        let array = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or_else(|| {
            Fault::new("SystemErrorState", format!("The file {} does not hold a root key.", path.display()))
        })?;
        Ok(Secret::new(array))
    }

    /// The access token of the owner, and the file that holds it.
    pub(crate) fn admin_token(&self) -> Result<(Secret<String>, PathBuf), Fault> {
        let path = self.path.join(ADMIN_TOKEN);
        let text = match read(&path)? {
            Some(text) => String::from_utf8_lossy(&text).trim().to_owned(),
            None => {
                let text = base64url(&random_bytes::<32>());
                write_new(&path, format!("{text}\n").as_bytes())?;
                text
            }
        };
        if text.len() < 16 {
            return Err(Fault::new(
                "SystemErrorState",
                format!("The file {} does not hold a usable token.", path.display()),
            )
            .remedy("Remove the file and start the service again; it writes a new one."));
        }
        Ok((Secret::new(text), path))
    }

    /// Certificate and key of the TLS listener, if they were made before.
    pub(crate) fn tls(&self) -> Result<Option<CertificateAndKey>, Fault> {
        let (certificate, key) = (read(&self.certificate())?, read(&self.path.join(CERTIFICATE_KEY))?);
        Ok(certificate.zip(key))
    }

    /// Keeps certificate and key of the TLS listener.
    pub(crate) fn save_tls(&self, certificate: &str, key: &str) -> Result<(), Fault> {
        replace(&self.path.join(CERTIFICATE_KEY), key.as_bytes(), 0o600)?;
        replace(&self.certificate(), certificate.as_bytes(), 0o644)
    }

    /// Keeps a copy of a given certificate where clients look for it.
    pub(crate) fn save_certificate(&self, certificate: &[u8]) -> Result<(), Fault> {
        replace(&self.certificate(), certificate, 0o644)
    }

    /// The file with the certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path.join(CERTIFICATE)
    }
}

fn failed(done: &str, path: &Path, error: &std::io::Error) -> Fault {
    Fault::new("SystemErrorState", format!("{} could not be {done}: {error}.", path.display()))
        .remedy("Check the folder given with --data: its owner, its rights and the space on its disk.")
}

/// Reads a file; nothing where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    replace(path, bytes, 0o600)
}

/// Writes a file whole or not at all.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    let draft = path.with_extension("new");
    let write = || {
        let _ = std::fs::remove_file(&draft);
        let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| failed("written", path, &error))
}
