//! Azure Blob Storage, through the official SDK over a transport of our own. A write goes up as uncommitted blocks
//! that no reader sees; one conditional block list makes them the blob. An account key never leaves the process: it
//! signs short-lived tokens.

mod client;
mod errors;
mod login;
mod reader;
mod settings;
mod staged;
mod transport;

use std::sync::Arc;

use async_trait::async_trait;
use dmg_connector::{
    ByteStore, ByteStoreConnector, Condition, FileEntry, FileMark, RangeReader, Result, Session, StagedFile, Traffic,
};
use dmg_protocol::catalog::{Capability, SettingDescriptor, SettingKind, StoreDescriptor};
use dmg_protocol::{Attempt, CommitShape, Secrets};
use serde_json::{Map, Value};

use client::Account;
use reader::BlobReader;
use settings::Settings;
use staged::StagedBlob;

/// The connector of Azure Blob Storage.
#[derive(Debug, Clone, Copy)]
pub struct AzureBlob;

const fn setting(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: SettingKind,
    bound: bool,
    help: &'static str,
) -> SettingDescriptor {
    SettingDescriptor { name, aliases, kind, required: false, bound, help }
}

static DESCRIPTOR: StoreDescriptor = StoreDescriptor {
    name: "azblob",
    title: "Azure Blob Storage",
    family: "files",
    v1_types: &["AzureStorage", "AzureStorageSas"],
    v2_types: &["AzureBlobStorage", "AzureStorage"],
    settings: &[
        setting("account", &["AccountName"], SettingKind::Text, true, "The storage account's name."),
        setting(
            "endpoint",
            &["BlobEndpoint", "serviceEndpoint"],
            SettingKind::Text,
            true,
            "The blob endpoint; https://ACCOUNT.blob.core.windows.net where it is left out.",
        ),
        setting(
            "container",
            &[],
            SettingKind::Text,
            true,
            "The container; where it is left out, paths begin with the container's name.",
        ),
        setting("defaultEndpointsProtocol", &[], SettingKind::Text, true, "https or http, of the endpoint left out."),
        setting("endpointSuffix", &[], SettingKind::Text, true, "core.windows.net or that of another cloud."),
        setting("accountKind", &[], SettingKind::Text, false, "Storage, StorageV2, BlobStorage or BlockBlobStorage."),
        setting("authenticationType", &[], SettingKind::Text, false, "AccountKey or SasUri."),
        setting("accountKey", &[], SettingKind::Secret, false, "The account's key."),
        setting("sasToken", &["SharedAccessSignature"], SettingKind::Secret, false, "A shared access signature."),
        setting("sasUri", &[], SettingKind::Secret, false, "A shared access signature with the address before it."),
    ],
    capabilities: &[
        Capability::ReadFiles,
        Capability::WriteFiles,
        Capability::WriteOverwrite,
        Capability::ReadBack,
        Capability::Probe,
    ],
};

#[async_trait]
impl ByteStoreConnector for AzureBlob {
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
        session: Session,
    ) -> Result<Arc<dyn ByteStore>> {
        let (target, login) = Settings::read(settings)?.with_secrets(secrets, &session.ambient)?;
        let account = Account::open(target, login, &session)?;
        Ok(Arc::new(BlobStore { account: Arc::new(account), traffic: Arc::default() }))
    }
}

struct BlobStore {
    account: Arc<Account>,
    traffic: Arc<Traffic>,
}

#[async_trait]
impl ByteStore for BlobStore {
    fn label(&self) -> String {
        self.account.label()
    }

    async fn probe(&self) -> Result<String> {
        self.account.probe().await
    }

    async fn list(&self, folder: &str, recursive: bool) -> Result<Vec<FileEntry>> {
        self.account.list(folder, recursive).await
    }

    async fn stat(&self, path: &str) -> Result<Option<FileEntry>> {
        Ok(self.account.look(path).await?.map(|seen| seen.entry))
    }

    async fn open(&self, entry: &FileEntry) -> Result<Arc<dyn RangeReader>> {
        let blob = self.account.blob(&entry.path)?;
        Ok(Arc::new(BlobReader::new(blob, entry, self.traffic.clone())))
    }

    fn shape(&self) -> CommitShape {
        CommitShape::BlockList
    }

    async fn mark(&self, path: &str) -> Result<Option<FileMark>> {
        Ok(self.account.look(path).await?.and_then(|seen| seen.mark))
    }

    async fn sweep(&self, _path: &str, _attempt: &Attempt) -> Result<()> {
        // Blocks of a lower epoch are invisible, are never named by a higher one, and fall away with the next commit
        // or after a week.
        Ok(())
    }

    async fn stage(
        &self,
        path: &str,
        attempt: &Attempt,
        condition: Condition,
        budget_bytes: usize,
    ) -> Result<Box<dyn StagedFile>> {
        let blob = self.account.blob(path)?;
        Ok(Box::new(StagedBlob::new(blob, attempt, condition, budget_bytes, self.traffic.clone())))
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }
}
