//! Files of the machine the gateway runs on, mounted shares included. A write goes into a hidden file of the target's
//! own folder and takes the target's name by a rename. It does not log in to file servers.

mod errors;
mod leftovers;
mod mark;
mod place;
mod reader;
mod root;
mod settings;
mod staged;

use std::sync::Arc;

use async_trait::async_trait;
use dmg_connector::{
    ByteStore, ByteStoreConnector, Condition, FileEntry, FileMark, RangeReader, Result, Session, StagedFile, Traffic,
};
use dmg_protocol::catalog::{Capability, SettingDescriptor, SettingKind, StoreDescriptor};
use dmg_protocol::{Attempt, CommitShape, Secrets};
use serde_json::{Map, Value};

use crate::blocking::blocking;
use place::Place;
use reader::LocalReader;
use root::Root;
use settings::Settings;
use staged::LocalStaged;

/// The connector of local files.
#[derive(Debug, Clone, Copy)]
pub struct LocalFiles;

static DESCRIPTOR: StoreDescriptor = StoreDescriptor {
    name: "file",
    title: "File system",
    family: "files",
    v1_types: &["OnPremisesFileServer"],
    v2_types: &["FileServer"],
    settings: &[
        SettingDescriptor {
            name: "root",
            aliases: &["host"],
            kind: SettingKind::Text,
            required: false,
            bound: true,
            help: "The folder on the gateway's machine that all paths start from; / where it is left out.",
        },
        SettingDescriptor {
            name: "userId",
            aliases: &["user"],
            kind: SettingKind::Text,
            required: false,
            bound: true,
            help: "Not supported: mount the share instead, and leave it out.",
        },
        SettingDescriptor {
            name: "password",
            aliases: &[],
            kind: SettingKind::Secret,
            required: false,
            bound: false,
            help: "Not supported: mount the share instead, and leave it out.",
        },
    ],
    capabilities: &[
        Capability::ReadFiles,
        Capability::WriteFiles,
        Capability::WriteOverwrite,
        Capability::ReadStaged,
        Capability::ReadBack,
        Capability::Probe,
    ],
};

#[async_trait]
impl ByteStoreConnector for LocalFiles {
    fn descriptor(&self) -> &'static StoreDescriptor {
        &DESCRIPTOR
    }

    fn validate(&self, settings: &Map<String, Value>) -> Result<()> {
        Settings::read(settings).map(|_| ())
    }

    async fn open(
        &self,
        settings: &Map<String, Value>,
        secrets: &Secrets,
        _session: Session,
    ) -> Result<Arc<dyn ByteStore>> {
        let settings = Settings::read(settings)?;
        if !secrets.is_empty() {
            return Err(settings::no_log_in().into());
        }
        let root = blocking(move || Root::open(settings.root)).await?;
        Ok(Arc::new(LocalStore { root: Arc::new(root), traffic: Arc::default() }))
    }
}

struct LocalStore {
    root: Arc<Root>,
    traffic: Arc<Traffic>,
}

#[async_trait]
impl ByteStore for LocalStore {
    fn label(&self) -> String {
        self.root.label()
    }

    async fn probe(&self) -> Result<String> {
        let root = self.root.clone();
        blocking(move || {
            let folder = root.folder("")?;
            let free = rustix::fs::fstatvfs(&folder).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
            Ok(format!("{}, {} MiB free", root.label(), free >> 20))
        })
        .await
    }

    async fn list(&self, folder: &str, recursive: bool) -> Result<Vec<FileEntry>> {
        let (root, folder) = (self.root.clone(), folder.to_owned());
        blocking(move || root.list(&folder, recursive)).await
    }

    async fn stat(&self, path: &str) -> Result<Option<FileEntry>> {
        let (root, path) = (self.root.clone(), path.to_owned());
        blocking(move || root.stat(&path)).await
    }

    async fn open(&self, entry: &FileEntry) -> Result<Arc<dyn RangeReader>> {
        let (root, entry, traffic) = (self.root.clone(), entry.clone(), self.traffic.clone());
        let reader = blocking(move || LocalReader::open(&root, &entry, traffic)).await?;
        Ok(Arc::new(reader))
    }

    fn shape(&self) -> CommitShape {
        CommitShape::Rename
    }

    async fn mark(&self, path: &str) -> Result<Option<FileMark>> {
        let (root, path) = (self.root.clone(), path.to_owned());
        blocking(move || match Place::existing(&root, &path)? {
            Some(place) => mark::read(&place),
            None => Ok(None),
        })
        .await
    }

    async fn sweep(&self, path: &str, attempt: &Attempt) -> Result<()> {
        let (root, path, attempt) = (self.root.clone(), path.to_owned(), attempt.clone());
        blocking(move || match Place::existing(&root, &path)? {
            Some(place) => leftovers::sweep(&place, &attempt),
            None => Ok(()),
        })
        .await
    }

    async fn stage(
        &self,
        path: &str,
        attempt: &Attempt,
        condition: Condition,
        budget_bytes: usize,
    ) -> Result<Box<dyn StagedFile>> {
        let (root, path, attempt, traffic) =
            (self.root.clone(), path.to_owned(), attempt.clone(), self.traffic.clone());
        let staged = blocking(move || {
            let place = Place::create(&root, &path)?;
            LocalStaged::create(place, &attempt, condition, budget_bytes, traffic)
        })
        .await?;
        Ok(Box::new(staged))
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }
}
