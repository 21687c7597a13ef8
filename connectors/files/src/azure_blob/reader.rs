//! Reads ranges of one blob under the ETag it had when it was listed, so that two contents are never mixed.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use azure_storage_blob::models::BlobClientDownloadOptions;
use bytes::Bytes;
use dmg_connector::{FileEntry, RangeReader, Result, Traffic};
use dmg_protocol::Fault;

use super::client::{Blob, etag};
use super::errors::{code, failed, strange};

pub(super) struct BlobReader {
    blob: Blob,
    size: u64,
    stamp: String,
    traffic: Arc<Traffic>,
}

impl BlobReader {
    pub(super) fn new(blob: Blob, entry: &FileEntry, traffic: Arc<Traffic>) -> Self {
        BlobReader { blob, size: entry.size, stamp: entry.stamp.clone(), traffic }
    }

    fn changed(&self) -> Fault {
        Fault::new("UserErrorSourceChanged", format!("The blob \"{}\" changed while it was read.", self.blob.path))
    }
}

/// A request under way, counted for as long as it lives.
pub(super) struct Stream(Arc<Traffic>);

impl Stream {
    pub(super) fn new(traffic: &Arc<Traffic>) -> Self {
        traffic.opened();
        Stream(traffic.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.closed();
    }
}

#[async_trait]
impl RangeReader for BlobReader {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.end > self.size || range.start > range.end {
            let message = format!("Bytes {} to {} of a blob of {} were asked for.", range.start, range.end, self.size);
            return Err(Fault::new("SystemErrorInternal", message).into());
        }
        let length = usize::try_from(range.end - range.start).expect("a range is far smaller than the address space");
        let Some(partition_size) = NonZero::new(length) else { return Ok(Bytes::new()) };
        let _stream = Stream::new(&self.traffic);
        let doing = self.blob.doing("read");
        let options = BlobClientDownloadOptions {
            range: Some((range.start..range.end).into()),
            if_match: Some(etag(&self.stamp)),
            // One request for one range: parallel reading is the engine's business.
            parallel: NonZero::new(1),
            partition_size: Some(partition_size),
            ..BlobClientDownloadOptions::default()
        };
        let mut bytes = vec![0; length];
        let answer = match self.blob.client.download_into(&mut bytes, Some(options)).await {
            Ok(answer) => answer,
            Err(error) => match code(&error) {
                // Gone or replaced since it was listed.
                Some((404 | 412, code)) if code != "ContainerNotFound" => return Err(self.changed().into()),
                _ => return Err(failed(&error, &doing)),
            },
        };
        if answer.len != length {
            return Err(strange(&doing, &format!("{} bytes came where {length} were asked for", answer.len)).into());
        }
        self.traffic.add_bytes(length as u64);
        Ok(Bytes::from(bytes))
    }

    fn label(&self) -> String {
        self.blob.path.clone()
    }
}
