//! One storage account as the SDK sees it: where a path lies, what is there, what a listing says. It neither reads
//! nor writes content.

use std::collections::HashMap;
use std::sync::Arc;

use azure_core::http::{ClientOptions, RetryOptions, Transport as SdkTransport};
use azure_storage_blob::models::{
    BlobClientGetPropertiesResultHeaders as _, BlobContainerClientListBlobsOptions, ListBlobsIncludeItem,
};
use azure_storage_blob::{
    BlobClient, BlobContainerClient, BlobContainerClientOptions, BlobServiceClient, BlobServiceClientOptions,
};
use dmg_connector::{FileEntry, FileMark, Result, Session};
use dmg_protocol::{Epoch, Fault};
use futures::TryStreamExt as _;
use url::Url;

use super::errors::{Doing, code, failed, strange};
use super::login::{Login, VERSION};
use super::settings::{Target, container_name};
use super::transport::Transport;
use crate::path::segments;

/// Blobs a listing may have at most; a folder beyond it is refused, never cut.
const LISTED_MAX: usize = 1_000_000;

pub(super) struct Account {
    target: Target,
    options: ClientOptions,
}

/// One blob, ready for requests.
#[derive(Clone)]
pub(super) struct Blob {
    pub(super) client: Arc<BlobClient>,
    pub(super) path: String,
    store: String,
}

/// What is there.
pub(super) struct Seen {
    pub(super) entry: FileEntry,
    pub(super) mark: Option<FileMark>,
}

/// An ETag as a stamp: listings give it bare, headers in quotes.
pub(super) fn stamp(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

/// A stamp as a condition.
pub(super) fn etag(stamp: &str) -> azure_core::http::Etag {
    format!("\"{stamp}\"").into()
}

impl Blob {
    pub(super) fn doing(&self, action: &'static str) -> Doing {
        Doing { action, what: format!("blob \"{}\"", self.path), store: self.store.clone() }
    }

    /// What is there now, or none.
    pub(super) async fn look(&self) -> Result<Option<Seen>> {
        let doing = self.doing("read");
        let answer = match self.client.get_properties(None).await {
            Ok(answer) => answer,
            Err(error) => match code(&error) {
                Some((404, code)) if code == "BlobNotFound" => return Ok(None),
                _ => return Err(failed(&error, &doing)),
            },
        };
        let (Ok(Some(etag)), Ok(Some(size))) = (answer.etag(), answer.content_length()) else {
            return Err(strange(&doing, "it names neither size nor ETag").into());
        };
        let stamp = stamp(etag.as_ref());
        let mark = mark_of(&answer.metadata().unwrap_or_default(), &stamp);
        Ok(Some(Seen { entry: FileEntry { path: self.path.clone(), size, stamp }, mark }))
    }
}

fn mark_of(metadata: &HashMap<String, String>, stamp: &str) -> Option<FileMark> {
    let value =
        |name: &str| metadata.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
    Some(FileMark {
        namespace: value("dmgnamespace")?,
        run: value("dmgrun")?,
        epoch: Epoch(value("dmgepoch")?.parse().ok()?),
        rows: value("dmgrows")?.parse().ok()?,
        // Without proof the digest is empty, and empty metadata is not kept by every service.
        digest: value("dmgdigest").unwrap_or_default(),
        stamp: stamp.to_owned(),
    })
}

impl Account {
    pub(super) fn open(target: Target, login: Login, session: &Session) -> Result<Self> {
        let transport = Transport::new(login, target.endpoint.scheme() == "https", session)?;
        let options = ClientOptions {
            transport: Some(SdkTransport::new(Arc::new(transport))),
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        };
        Ok(Account { target, options })
    }

    fn store(&self) -> String {
        format!("Azure Blob Storage {}", self.target.account)
    }

    pub(super) fn label(&self) -> String {
        match &self.target.container {
            Some(container) => format!("blob container {}/{container}", self.target.account),
            None => format!("blob account {}", self.target.account),
        }
    }

    /// Container and blob name of a path.
    fn split(&self, path: &str) -> Result<(String, String)> {
        let mut names = segments(path)?.into_iter();
        let container = match &self.target.container {
            Some(container) => container.clone(),
            None => names.next().map(str::to_owned).ok_or_else(|| {
                Fault::new("UserErrorSettings", format!("The path \"{path}\" names no container in {}.", self.label()))
                    .remedy("Begin the path with the name of the container.")
            })?,
        };
        container_name(&container)?;
        Ok((container, names.collect::<Vec<_>>().join("/")))
    }

    fn url(&self, container: &str, blob: &str) -> Url {
        let mut url = self.target.endpoint.clone();
        let mut path = url.path_segments_mut().expect("an http address has a path");
        path.pop_if_empty().push(container);
        for name in blob.split('/').filter(|name| !name.is_empty()) {
            path.push(name);
        }
        drop(path);
        url
    }

    fn container(&self, name: &str) -> Result<BlobContainerClient> {
        let options = BlobContainerClientOptions { client_options: self.options.clone(), version: VERSION.to_owned() };
        BlobContainerClient::new(self.url(name, ""), None, Some(options))
            .map_err(|error| failed(&error, &self.doing_container("open", name)))
    }

    fn doing_container(&self, action: &'static str, name: &str) -> Doing {
        Doing { action, what: format!("container \"{name}\""), store: self.store() }
    }

    pub(super) fn blob(&self, path: &str) -> Result<Blob> {
        let (container, name) = self.split(path)?;
        if name.is_empty() || path.ends_with('/') {
            let fault = Fault::new("UserErrorSettings", format!("The path \"{path}\" names no blob."));
            return Err(fault.remedy("Give the name of a blob.").into());
        }
        let options =
            azure_storage_blob::BlobClientOptions { client_options: self.options.clone(), version: VERSION.to_owned() };
        let path = segments(path)?.join("/");
        let doing = Doing { action: "open", what: format!("blob \"{path}\""), store: self.store() };
        let client = BlobClient::new(self.url(&container, &name), None, Some(options))
            .map_err(|error| failed(&error, &doing))?;
        Ok(Blob { client: Arc::new(client), path, store: self.store() })
    }

    pub(super) async fn look(&self, path: &str) -> Result<Option<Seen>> {
        self.blob(path)?.look().await
    }

    /// Asks for what the log-in may see: the container, or the account.
    pub(super) async fn probe(&self) -> Result<String> {
        let server = match &self.target.container {
            Some(name) => {
                let answer = self.container(name)?.get_properties(None).await;
                let answer = answer.map_err(|error| failed(&error, &self.doing_container("open", name)))?;
                answer.headers().get_optional_string(&"server".into())
            }
            None => {
                let options =
                    BlobServiceClientOptions { client_options: self.options.clone(), version: VERSION.to_owned() };
                let doing = Doing { action: "open", what: "account".to_owned(), store: self.store() };
                let service = BlobServiceClient::new(self.target.endpoint.clone(), None, Some(options))
                    .map_err(|error| failed(&error, &doing))?;
                match service.get_properties(None).await {
                    Ok(answer) => answer.headers().get_optional_string(&"server".into()),
                    // The log-in was accepted; it is made for containers, not for the account as a whole.
                    Err(error)
                        if code(&error).is_some_and(|(_, code)| {
                            code == "AuthorizationResourceTypeMismatch" || code == "AuthorizationPermissionMismatch"
                        }) =>
                    {
                        None
                    }
                    Err(error) => return Err(failed(&error, &doing)),
                }
            }
        };
        Ok(format!("{}, {}", self.label(), server.unwrap_or_else(|| "log-in accepted".to_owned())))
    }

    /// Blobs below a folder. The SDK lists flat, so the blobs of sub-folders are fetched and left out.
    pub(super) async fn list(&self, folder: &str, recursive: bool) -> Result<Vec<FileEntry>> {
        let (container, name) = self.split(folder)?;
        let prefix = if name.is_empty() { String::new() } else { format!("{name}/") };
        let doing = self.doing_container("list", &container);
        let options = BlobContainerClientListBlobsOptions {
            prefix: (!prefix.is_empty()).then(|| prefix.clone()),
            include: Some(vec![ListBlobsIncludeItem::Metadata]),
            ..BlobContainerClientListBlobsOptions::default()
        };
        let mut pager =
            self.container(&container)?.list_blobs(Some(options)).map_err(|error| failed(&error, &doing))?;
        let mut found = Vec::new();
        let mut any = false;
        while let Some(item) = pager.try_next().await.map_err(|error| failed(&error, &doing))? {
            any = true;
            let named =
                item.name.zip(item.properties.and_then(|properties| properties.content_length.zip(properties.etag)));
            let Some((blob, (size, etag))) = named else {
                return Err(strange(&doing, "a listed blob lacks name, size or ETag").into());
            };
            let Some(rest) = blob.strip_prefix(&prefix) else { continue };
            let is_folder = item.metadata.is_some_and(|metadata| {
                metadata.values.is_some_and(|all| all.keys().any(|key| key.eq_ignore_ascii_case("hdi_isfolder")))
            });
            if rest.is_empty() || rest.ends_with('/') || is_folder || (!recursive && rest.contains('/')) {
                continue;
            }
            let path = if self.target.container.is_some() { blob } else { format!("{container}/{blob}") };
            found.push(FileEntry { path, size, stamp: stamp(etag.as_ref()) });
            if found.len() > LISTED_MAX {
                let message =
                    format!("The folder \"{folder}\" in {} holds more than {LISTED_MAX} blobs.", self.label());
                return Err(Fault::new("UserErrorNotSupported", message)
                    .remedy("Copy its sub-folders one by one.")
                    .into());
            }
        }
        if !any && !name.is_empty() {
            let message = format!("There is no folder \"{folder}\" in {}.", self.label());
            return Err(Fault::new("UserErrorContainerMissing", message).into());
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}
