//! A blob being written: blocks go up several at once, each with its MD5, under ids that carry run, epoch and index;
//! the commit names them in order, under the condition of the plan. Nothing is sent twice.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::RequestContent;
use azure_storage_blob::models::{
    BlockBlobClientCommitBlockListOptions, BlockBlobClientCommitBlockListResultHeaders as _,
    BlockBlobClientStageBlockOptions, BlockLookupList,
};
use bytes::{Bytes, BytesMut};
use dmg_ambient::TaskGroup;
use dmg_connector::{Committed, Condition, MarkContent, RangeReader, Result, StagedFile, Traffic};
use dmg_protocol::{Attempt, Fault};
use md5::{Digest as _, Md5};

use super::client::{Blob, etag, stamp};
use super::errors::{failed, outcome_unknown, strange};
use super::reader::Stream;
use crate::blocking::{blocking, joined};

const BLOCK_BYTES_MAX: usize = 8 * 1024 * 1024;
const BLOCK_BYTES_MIN: usize = 256 * 1024;
const UPLOADS_MAX: usize = 4;
/// The service's own limit.
const BLOCKS_MAX: u32 = 50_000;

pub(super) struct StagedBlob {
    blob: Blob,
    condition: Condition,
    /// Run and epoch, as every block id of this attempt begins.
    prefix: String,
    block_bytes: usize,
    uploads_max: usize,
    /// What is larger is waited for.
    large_bytes: usize,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    blocks: u32,
    uploads: TaskGroup<Result<()>>,
    broken: bool,
    sealed: bool,
    traffic: Arc<Traffic>,
}

impl StagedBlob {
    pub(super) fn new(
        blob: Blob,
        attempt: &Attempt,
        condition: Condition,
        budget_bytes: usize,
        traffic: Arc<Traffic>,
    ) -> Self {
        // One block is being filled while the others are under way.
        let block_bytes = (budget_bytes / (UPLOADS_MAX + 1)).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        let uploads_max = (budget_bytes / block_bytes).saturating_sub(1).clamp(1, UPLOADS_MAX);
        let run: String = attempt.run.as_str().chars().filter(char::is_ascii_hexdigit).take(12).collect();
        StagedBlob {
            blob,
            condition,
            prefix: format!(
                "{run:0>12}{:016x}",
                if dmg_ambient::planted!("re-use-block-ids") { 0 } else { attempt.epoch.0 }
            ),
            block_bytes,
            uploads_max,
            large_bytes: (budget_bytes / 4).max(BLOCK_BYTES_MAX),
            pending: Vec::new(),
            pending_bytes: 0,
            blocks: 0,
            uploads: TaskGroup::new(),
            broken: false,
            sealed: false,
            traffic,
        }
    }

    /// All ids of a blob have one length, and no two epochs ever share one.
    fn block_id(&self, index: u32) -> Vec<u8> {
        format!("{}{index:08x}", self.prefix).into_bytes()
    }

    /// The next block out of what is pending.
    fn take_block(&mut self) -> Bytes {
        let length = self.pending_bytes.min(self.block_bytes);
        self.pending_bytes -= length;
        if self.pending.first().is_some_and(|first| first.len() == length) {
            return self.pending.remove(0);
        }
        let mut block = BytesMut::with_capacity(length);
        let mut whole = 0;
        for bytes in &mut self.pending {
            let part = bytes.split_to(bytes.len().min(length - block.len()));
            block.extend_from_slice(&part);
            if !bytes.is_empty() {
                break;
            }
            whole += 1;
        }
        self.pending.drain(..whole);
        block.freeze()
    }

    async fn upload_next(&mut self) -> Result<()> {
        while self.uploads.len() >= self.uploads_max {
            joined(self.uploads.join_next().await)?;
        }
        if self.blocks >= BLOCKS_MAX {
            let message = format!(
                "The blob \"{}\" needs more than {BLOCKS_MAX} blocks of {} KiB.",
                self.blob.path,
                self.block_bytes >> 10
            );
            return Err(Fault::new("UserErrorBudgetExceeded", message)
                .remedy("Write several files, or raise --memory.")
                .into());
        }
        let block = self.take_block();
        let id = self.block_id(self.blocks);
        self.blocks += 1;
        let (blob, traffic) = (self.blob.clone(), self.traffic.clone());
        self.uploads.spawn(async move { upload(&blob, &id, block, &traffic).await });
        Ok(())
    }

    async fn flush(&mut self, all: bool) -> Result<()> {
        while self.pending_bytes >= self.block_bytes || (all && self.pending_bytes > 0) {
            self.upload_next().await?;
        }
        while all && !self.uploads.is_empty() {
            joined(self.uploads.join_next().await)?;
        }
        Ok(())
    }

    fn usable(&self) -> Result<()> {
        if self.broken {
            let message = format!("Writing the blob \"{}\" failed before; it cannot go on.", self.blob.path);
            return Err(Fault::new("StoreErrorFailed", message).into());
        }
        Ok(())
    }

    fn options(&self, attempt: &Attempt, content: &MarkContent) -> BlockBlobClientCommitBlockListOptions<'static> {
        let mut metadata = HashMap::from([
            ("dmgnamespace".to_owned(), attempt.namespace.clone()),
            ("dmgrun".to_owned(), attempt.run.as_str().to_owned()),
            ("dmgepoch".to_owned(), attempt.epoch.to_string()),
            ("dmgrows".to_owned(), content.rows.to_string()),
        ]);
        if !content.digest.is_empty() {
            metadata.insert("dmgdigest".to_owned(), content.digest.clone());
        }
        let mut options = BlockBlobClientCommitBlockListOptions {
            metadata: Some(metadata),
            blob_content_type: Some(content_type(&self.blob.path).to_owned()),
            ..BlockBlobClientCommitBlockListOptions::default()
        };
        match &self.condition {
            _ if dmg_ambient::planted!("forget-the-condition") => {}
            Condition::Absent => options.if_none_match = Some("*".into()),
            Condition::Stamp(stamp) => options.if_match = Some(etag(stamp)),
        }
        options
    }

    /// A refused commit may be the repeat of one that happened: the mark tells.
    async fn committed_before(&self, attempt: &Attempt) -> Result<Option<Committed>> {
        let mark = self.blob.look().await?.and_then(|seen| seen.mark);
        Ok(mark
            .filter(|mark| {
                mark.namespace == attempt.namespace && mark.run == attempt.run.as_str() && mark.epoch == attempt.epoch
            })
            .map(|mark| Committed { mark: mark.stamp, rows: mark.rows, digest: mark.digest, epoch: mark.epoch }))
    }
}

async fn upload(blob: &Blob, id: &[u8], block: Bytes, traffic: &Arc<Traffic>) -> Result<()> {
    let hashed = block.clone();
    let md5 = blocking(move || Ok(Md5::digest(&hashed).to_vec())).await?;
    let _stream = Stream::new(traffic);
    let length = block.len() as u64;
    let options = BlockBlobClientStageBlockOptions {
        transactional_content_md5: Some(md5),
        ..BlockBlobClientStageBlockOptions::default()
    };
    let content: RequestContent<Bytes, azure_core::http::NoFormat> = block.into();
    dmg_ambient::failpoint!("azblob.block", dmg_connector::cut());
    let client = blob.client.block_blob_client();
    client
        .stage_block(id, length, content, Some(options))
        .await
        .map_err(|error| failed(&error, &blob.doing("write")))?;
    dmg_ambient::failpoint!("azblob.block.put", dmg_connector::cut());
    traffic.add_bytes(length);
    Ok(())
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
        Some("parquet") => "application/vnd.apache.parquet",
        Some("csv") => "text/csv",
        Some("txt" | "tsv") => "text/plain",
        _ => "application/octet-stream",
    }
}

#[async_trait]
impl StagedFile for StagedBlob {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.usable()?;
        if bytes.is_empty() {
            return Ok(());
        }
        // Who wrote what is large may hold as much again while it is still in memory here.
        let large = bytes.len() > self.large_bytes;
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
        let result = self.flush(large).await;
        self.broken |= result.is_err();
        result
    }

    async fn seal(&mut self) -> Result<()> {
        self.usable()?;
        let result = self.flush(true).await;
        self.broken |= result.is_err();
        self.sealed = result.is_ok();
        result
    }

    async fn reader(&self) -> Result<Option<Arc<dyn RangeReader>>> {
        // The service shows uncommitted blocks to nobody.
        Ok(None)
    }

    async fn commit(&mut self, attempt: &Attempt, content: &MarkContent) -> Result<Committed> {
        self.usable()?;
        if !self.sealed {
            return Err(Fault::new("SystemErrorInternal", "A blob was to be committed before it was sealed.").into());
        }
        let doing = self.blob.doing("write");
        let list = BlockLookupList {
            uncommitted: Some((0..self.blocks).map(|index| self.block_id(index)).collect()),
            ..BlockLookupList::default()
        };
        let list = RequestContent::try_from(list).map_err(|error| failed(&error, &doing))?;
        let options = self.options(attempt, content);
        dmg_ambient::failpoint!("azblob.list", dmg_connector::cut());
        let answered = self.blob.client.block_blob_client().commit_block_list(list, Some(options)).await;
        dmg_ambient::failpoint!("azblob.list.put", dmg_connector::cut().with_unknown_outcome());
        match answered {
            Ok(answer) => match answer.etag() {
                Ok(Some(etag)) => Ok(Committed {
                    mark: stamp(etag.as_ref()),
                    rows: content.rows,
                    digest: content.digest.clone(),
                    epoch: attempt.epoch,
                }),
                _ => Err(dmg_connector::Error::from(strange(&doing, "it names no ETag after a commit"))
                    .with_unknown_outcome()),
            },
            Err(error) => {
                let unknown = outcome_unknown(&error);
                let failure = failed(&error, &doing);
                if unknown {
                    return Err(failure.with_unknown_outcome());
                }
                if failure.fault.code == "StoreErrorCommitRefused"
                    && let Some(committed) = self.committed_before(attempt).await?
                {
                    return Ok(committed);
                }
                Err(failure)
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.uploads.shutdown().await;
        self.pending.clear();
        self.broken = true;
        // What went up stays invisible and falls away by itself; the service has no call to remove it.
        Ok(())
    }
}
