//! Files as a source: a byte store joined with a format. The listing is frozen when the source opens; a file that
//! changes afterwards stops the copy.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dmg_ambient::Ambient;
use dmg_connector::{
    BatchLimits, BatchStream, ByteStore, Column, FileEntry, FileShape, Format, RangeReader, Rejects, Result, Source,
    Traffic,
};
use dmg_protocol::job::{DeclaredColumn, StoreObject};
use dmg_protocol::{Fault, PartPlan};

use crate::added;
use crate::assemble::Meter;

pub(crate) struct FileSource {
    label: String,
    /// Where the files come from; absent when a staged file is read back.
    store: Option<Arc<dyn ByteStore>>,
    format: Arc<dyn Format>,
    files: Vec<OpenFile>,
    columns: Vec<Column>,
    parts: Vec<PartPlan>,
    traffic: Arc<Traffic>,
}

struct OpenFile {
    entry: Option<FileEntry>,
    /// Its path below the folder that was named, for columns that tell it.
    shown: Option<String>,
    reader: Arc<dyn RangeReader>,
    shape: FileShape,
}

/// `folder/file` with neither being empty.
pub(crate) fn join(folder: &str, file: &str) -> String {
    let folder = folder.trim_matches('/');
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

impl FileSource {
    /// Lists, opens and inspects.
    pub(crate) async fn open(
        store: Arc<dyn ByteStore>,
        format: Arc<dyn Format>,
        object: &StoreObject,
        declared: &[DeclaredColumn],
        ambient: Ambient,
    ) -> Result<Self> {
        let StoreObject::Files { folder, file, recursive } = object else {
            let message = format!("{} has files, not tables.", store.label());
            return Err(Fault::new("UserErrorSettings", message).into());
        };
        let missing = |path: &str| {
            Fault::new("UserErrorContainerMissing", format!("There is no file \"{path}\" in {}.", store.label()))
        };
        let entries = match file {
            Some(file) => {
                let path = join(folder, file);
                vec![store.stat(&path).await?.ok_or_else(|| missing(&path))?]
            }
            None => store.list(folder, *recursive).await?,
        };
        if entries.is_empty() {
            let message = format!("The folder \"{folder}\" in {} holds no file.", store.label());
            return Err(Fault::new("UserErrorContainerMissing", message).into());
        }
        let label = match (file, entries.len()) {
            (Some(_), _) => format!("{}, file {}", store.label(), entries[0].path),
            (None, count) => format!("{}, {count} files of {folder}", store.label()),
        };
        let mut files = Vec::with_capacity(entries.len());
        let meter = Meter { ambient, traffic: store.traffic() };
        for entry in entries {
            let reader: Arc<dyn RangeReader> =
                Arc::new(Metered { inner: store.open(&entry).await?, meter: meter.clone() });
            let shape = format.inspect(reader.clone(), declared).await?;
            let shown = entry.path.strip_prefix(folder.trim_matches('/')).unwrap_or(&entry.path);
            let shown = shown.trim_start_matches('/').to_owned();
            files.push(OpenFile { entry: Some(entry), shown: Some(shown), reader, shape });
        }
        let traffic = store.traffic();
        Self::of(label, Some(store), format, files, traffic)
    }

    /// A staged file, to be read back.
    pub(crate) async fn staged(
        label: String,
        readers: Vec<Arc<dyn RangeReader>>,
        format: Arc<dyn Format>,
        columns: &[Column],
    ) -> Result<Self> {
        let declared: Vec<_> = columns
            .iter()
            .map(|column| DeclaredColumn { kind: Some(column.kind), ..DeclaredColumn::named(column.name.clone()) })
            .collect();
        let mut files = Vec::with_capacity(readers.len());
        for reader in readers {
            let shape = format.inspect(reader.clone(), &declared).await?;
            files.push(OpenFile { entry: None, shown: None, reader, shape });
        }
        Self::of(label, None, format, files, Arc::default())
    }

    fn of(
        label: String,
        store: Option<Arc<dyn ByteStore>>,
        format: Arc<dyn Format>,
        files: Vec<OpenFile>,
        traffic: Arc<Traffic>,
    ) -> Result<Self> {
        let first = &files[0];
        for other in &files[1..] {
            let same = first.shape.columns.len() == other.shape.columns.len()
                && first
                    .shape
                    .columns
                    .iter()
                    .zip(&other.shape.columns)
                    .all(|(a, b)| a.name == b.name && a.kind == b.kind);
            if !same {
                let message =
                    format!("The files {} and {} have different columns.", first.reader.label(), other.reader.label());
                return Err(Fault::new("UserErrorSchemaMismatch", message).into());
            }
        }
        let mut columns = first.shape.columns.clone();
        for (index, column) in columns.iter_mut().enumerate() {
            column.nullable = files.iter().any(|file| file.shape.columns[index].nullable);
        }
        let mut parts = Vec::new();
        for (number, file) in files.iter().enumerate() {
            for part in &file.shape.parts {
                parts.push(PartPlan {
                    index: parts.len() as u32,
                    label: match file.reader.label() {
                        // A format that knows no pieces calls its one part what the file is called.
                        name if name == part.label => name,
                        name => format!("{name}, {}", part.label),
                    },
                    spec: spec(number, file, part),
                });
            }
        }
        Ok(FileSource { label, store, format, files, columns, parts, traffic })
    }

    async fn rows(&self, part: &PartPlan, limits: BatchLimits, rejects: Option<Arc<Rejects>>) -> Result<BatchStream> {
        let number = |name: &str| part.spec.get(name).and_then(serde_json::Value::as_u64).map(|n| n as usize);
        let file = number("file").and_then(|index| self.files.get(index));
        let inner = file.zip(number("part")).and_then(|(file, index)| file.shape.parts.get(index));
        let (Some(file), Some(inner)) = (file, inner) else {
            let message = format!("The plan names a part that the files do not have: {}.", part.label);
            return Err(Fault::new("SystemErrorInternal", message).into());
        };
        let reader = file.reader.clone();
        let stream = match rejects {
            None => self.format.read(reader, &file.shape, inner, limits).await?,
            Some(rejects) => self.format.read_tolerant(reader, &file.shape, inner, limits, rejects).await?,
        };
        if self.files.len() == 1 {
            return Ok(stream);
        }
        // Files may differ in nullability; batches must not.
        let schema = dmg_connector::schema(&self.columns);
        Ok(Box::pin(futures::StreamExt::map(stream, move |batch| {
            batch.and_then(|batch| {
                arrow_array::RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(|error| {
                    let message = "Two files of one folder disagree about their columns.";
                    dmg_connector::Error::caused(Fault::new("UserErrorSchemaMismatch", message), error)
                })
            })
        })))
    }
}

/// A reader whose time counts as waiting for the store.
struct Metered {
    inner: Arc<dyn RangeReader>,
    meter: Meter,
}

#[async_trait]
impl RangeReader for Metered {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.meter.waited(self.inner.read(range)).await
    }

    fn label(&self) -> String {
        self.inner.label()
    }
}

/// A part as the plan keeps it; path and rows before it only for columns that tell them.
fn spec(number: usize, file: &OpenFile, part: &PartPlan) -> serde_json::Value {
    let mut spec = serde_json::json!({ "file": number, "part": part.index });
    if let Some(shown) = &file.shown {
        spec[added::PATH] = shown.as_str().into();
    }
    if let Some(first) = part.spec.get("firstRow") {
        spec[added::ROWS_BEFORE] = first.clone();
    }
    spec
}

#[async_trait]
impl Source for FileSource {
    fn label(&self) -> String {
        self.label.clone()
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn parts(&self) -> &[PartPlan] {
        &self.parts
    }

    fn rows_estimate(&self) -> Option<u64> {
        self.files.iter().map(|file| file.shape.rows).sum()
    }

    fn repeatable(&self) -> bool {
        true
    }

    fn identity(&self) -> Option<String> {
        let entries: Option<Vec<&FileEntry>> = self.files.iter().map(|file| file.entry.as_ref()).collect();
        entries.map(|entries| format!("{} {}", self.label, serde_json::to_string(&entries).expect("entries are JSON")))
    }

    async fn read(&self, part: &PartPlan, limits: BatchLimits) -> Result<BatchStream> {
        self.rows(part, limits, None).await
    }

    async fn read_tolerant(&self, part: &PartPlan, limits: BatchLimits, rejects: Arc<Rejects>) -> Result<BatchStream> {
        self.rows(part, limits, Some(rejects)).await
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    async fn finish(&self) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        for file in &self.files {
            let Some(entry) = &file.entry else { continue };
            if store.stat(&entry.path).await?.as_ref() != Some(entry) {
                let message = format!("The file {} changed while it was copied.", file.reader.label());
                return Err(Fault::new("UserErrorSourceChanged", message).into());
            }
        }
        Ok(())
    }
}
