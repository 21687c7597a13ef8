//! The vault: the only place that opens sealed credentials. It computes for itself what a credential must be bound to,
//! from the settings it is asked to use it with; what the job says about that counts for nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use dmg_protocol::job::{Job, StoreRef};
use dmg_protocol::{FactoryId, Fault, Secret, Secrets};
use dmg_seal::CredentialKey;

use super::folder::NodeFolder;

/// Opens credentials with the gateway's certificate.
pub(crate) struct Vault {
    folder: NodeFolder,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    stamp: Option<SystemTime>,
    key: Option<Arc<CredentialKey>>,
}

/// The opened secrets of a job. The first store is the source or the probed one.
pub(crate) struct Opened {
    pub(crate) source: Secrets,
    pub(crate) sink: Secrets,
    pub(crate) redirect: Secrets,
    pub(crate) digest_key: Secret<String>,
}

impl Vault {
    pub(crate) fn new(folder: NodeFolder) -> Self {
        Vault { folder, held: Mutex::default() }
    }

    /// The thumbprint of the certificate whose key is here.
    pub(crate) fn thumbprint(&self) -> Result<Option<String>, Fault> {
        Ok(self.key()?.map(|key| key.certificate().thumbprint().to_owned()))
    }

    /// Opens what a job needs and takes the envelopes out of it.
    pub(crate) fn open_job(&self, factory: &FactoryId, job: &mut Job) -> Result<Opened, Fault> {
        let key = self.key()?.ok_or_else(|| {
            Fault::new(
                "UserErrorCertificateLost",
                "This node does not hold the private key of its gateway's certificate.",
            )
        })?;
        let (source, sink) = match job {
            Job::Copy(copy) => {
                (open(&key, factory, &mut copy.source.store)?, open(&key, factory, &mut copy.sink.store)?)
            }
            Job::Probe(probe) => (open(&key, factory, &mut probe.store)?, Secrets::none()),
            Job::Procedure(procedure) => (open(&key, factory, &mut procedure.store)?, Secrets::none()),
            Job::Browse(browse) => (open(&key, factory, &mut browse.store)?, Secrets::none()),
        };
        let redirect = match job {
            Job::Copy(copy) => match copy.options.beside() {
                Some(store) => open(&key, factory, store)?,
                None => Secrets::none(),
            },
            _ => Secrets::none(),
        };
        Ok(Opened { source, sink, redirect, digest_key: key.digest_key() })
    }

    /// The key in the folder, read again when somebody imported another one.
    fn key(&self) -> Result<Option<Arc<CredentialKey>>, Fault> {
        let path: PathBuf = self.folder.path().join("certificate.pem");
        let stamp = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.key.is_none() || held.stamp != stamp {
            held.key = self.folder.credential_key()?.map(Arc::new);
            held.stamp = stamp;
        }
        Ok(held.key.clone())
    }
}

fn open(key: &CredentialKey, factory: &FactoryId, store: &mut StoreRef) -> Result<Secrets, Fault> {
    let Some(envelope) = store.envelope.take() else { return Ok(Secrets::none()) };
    let linked_service = store.linked_service.clone().unwrap_or_default();
    let bound = dmg_protocol::binding(factory.as_str(), &linked_service, &store.store, &store.settings);
    key.open(&bound, &envelope).map_err(|fault| Fault {
        message: format!("The credential of linked service \"{linked_service}\" cannot be used. {}", fault.message),
        ..fault
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmg_protocol::job::ProbeJob;
    use dmg_seal::{CredentialKey, seal};

    fn probe(host: &str, linked_service: &str, envelope: &str) -> Job {
        let settings = serde_json::json!({ "host": host, "port": 5432, "database": "sales", "user": "etl" });
        let serde_json::Value::Object(settings) = settings else { unreachable!("it is an object") };
        Job::Probe(Box::new(ProbeJob {
            store: StoreRef {
                store: "postgres".into(),
                linked_service: Some(linked_service.into()),
                settings,
                envelope: Some(envelope.into()),
                binding: [("host".to_owned(), "db1".to_owned())].into(),
            },
        }))
    }

    #[test]
    fn a_credential_opens_for_its_target_only() {
        let data = tempfile::tempdir().unwrap();
        let folder = NodeFolder::create(data.path()).unwrap();
        let vault = Vault::new(folder.clone());
        let factory = FactoryId::new("f1");
        let fault = vault.open_job(&factory, &mut probe("db1", "Sales", "x")).err().unwrap();
        assert_eq!(fault.code, "UserErrorCertificateLost");

        let key = CredentialKey::generate("g");
        folder.save_credential_key(&key).unwrap();
        let Job::Probe(job) = probe("db1", "Sales", "") else { unreachable!("it is a probe") };
        let bound = dmg_protocol::binding("f1", "Sales", "postgres", &job.store.settings);
        let secrets = [("password".to_owned(), Secret::from("p"))].into_iter().collect();
        let sealed = seal(&[key.certificate().clone()], &bound, &secrets).unwrap();

        let mut job = probe("db1", "Sales", &sealed);
        let opened = vault.open_job(&factory, &mut job).unwrap();
        assert_eq!(opened.source.get("password").unwrap().expose(), "p");
        assert!(!serde_json::to_string(&job).unwrap().contains(&sealed), "the worker needs no envelope");

        // The job may claim any binding; only its settings count.
        let fault = vault.open_job(&factory, &mut probe("db2", "Sales", &sealed)).err().unwrap();
        assert_eq!(fault.code, "UserErrorCredentialBound");
        assert_eq!(
            fault.message,
            "The credential of linked service \"Sales\" cannot be used. The credential is not for this target (host: \
             sealed for \"db1\", asked for \"db2\")."
        );
        for (factory, linked_service) in [("f1", "Other"), ("f2", "Sales")] {
            let mut job = probe("db1", linked_service, &sealed);
            let fault = vault.open_job(&FactoryId::new(factory), &mut job).err().unwrap();
            assert_eq!(fault.code, "UserErrorCredentialBound");
        }
        // Another certificate is noticed without a restart.
        folder.save_credential_key(&CredentialKey::generate("other")).unwrap();
        let fault = vault.open_job(&factory, &mut probe("db1", "Sales", &sealed)).err().unwrap();
        assert_eq!(fault.code, "UserErrorCertificateLost");
    }
}
