//! Files as a sink: a byte store joined with a format. With a file name there is one file, encoded by all lanes and
//! written in the order of the source's parts; without one there is a file per part.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_ambient::Ambient;
use dmg_connector::{
    ByteStore, Column, Committed, Condition, Digester, Format, FragmentEncoder, Holding, MarkContent, MarkState, Meter,
    PartReport, PartWriter, Result, Sink, SinkPlan, SinkRequest, Source, Traffic, published_seed,
};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{ColumnPlan, Fault, VerifyLevel, WriteMode};
use tokio::sync::Mutex;

use crate::assemble::Assembler;
use crate::file_source::{FileSource, join};

pub(crate) struct FileSink {
    store: Arc<dyn ByteStore>,
    format: Arc<dyn Format>,
    request: SinkRequest,
    folder: String,
    file: Option<String>,
    verify: VerifyLevel,
    columns: Vec<Column>,
    meter: Meter,
    /// The files being written, by path; one only where a file name was given.
    open: Mutex<BTreeMap<String, Arc<Assembler>>>,
    /// What stood in the place of the one file when the copy was planned.
    planned: Option<Condition>,
}

impl FileSink {
    pub(crate) fn new(
        store: Arc<dyn ByteStore>,
        format: Arc<dyn Format>,
        request: SinkRequest,
        verify: VerifyLevel,
        ambient: Ambient,
    ) -> Result<Self> {
        let StoreObject::Files { folder, file, .. } = &request.object else {
            let message = format!("{} takes files, not tables.", store.label());
            return Err(Fault::new("UserErrorSettings", message).into());
        };
        if !matches!(request.mode, WriteMode::Append | WriteMode::Overwrite) {
            let message = "A file is written as a whole: rows in it cannot be replaced by key, slice or procedure.";
            return Err(Fault::new("UserErrorNotSupported", message).into());
        }
        if request.pre_copy_script.is_some() {
            let message = "A pre-copy script needs a database as sink; files cannot run one.";
            return Err(Fault::new("UserErrorSettings", message).into());
        }
        let (folder, file) = (folder.trim_matches('/').to_owned(), file.clone());
        let meter = Meter { ambient, traffic: store.traffic() };
        let (columns, open) = (Vec::new(), Mutex::default());
        Ok(FileSink { store, format, request, folder, file, verify, columns, meter, open, planned: None })
    }

    /// The file a part goes into. Names follow from run and part, not from the epoch, so that a later attempt
    /// meets what an earlier one committed.
    fn path(&self, part: u32) -> String {
        match &self.file {
            Some(file) => join(&self.folder, file),
            None => {
                let run: String =
                    self.request.attempt.run.as_str().chars().filter(char::is_ascii_alphanumeric).take(12).collect();
                join(&self.folder, &format!("part-{part:05}-{run}{}", self.format.extension()))
            }
        }
    }

    async fn condition(&self, path: &str) -> Result<Condition> {
        let Some(entry) = self.store.stat(path).await? else { return Ok(Condition::Absent) };
        if self.request.mode == WriteMode::Append && self.file.is_some() {
            let message = format!("The file \"{path}\" already exists in {}.", self.store.label());
            return Err(Fault::new("UserErrorTargetExists", message).into());
        }
        Ok(Condition::Stamp(entry.stamp))
    }

    async fn assembler(&self, part: u32) -> Result<Arc<Assembler>> {
        let path = self.path(part);
        let mut open = self.open.lock().await;
        if let Some(assembler) = open.get(&path) {
            return Ok(assembler.clone());
        }
        // What stood there when it was planned, not what stands there now: a successor may have committed since.
        let condition = match &self.planned {
            Some(condition) => condition.clone(),
            None => self.condition(&path).await?,
        };
        let budget = if self.file.is_some() {
            self.request.budget_bytes
        } else {
            self.request.budget_bytes / self.request.lanes.max(1)
        };
        let staged = self.store.stage(&path, &self.request.attempt, condition, budget).await?;
        let first = if self.file.is_some() { 0 } else { part };
        let encoder = self.format.encoder(&self.columns)?;
        let assembler = Arc::new(Assembler::start(encoder, staged, first, self.meter.clone()).await?);
        open.insert(path, assembler.clone());
        Ok(assembler)
    }

    /// Whether what is staged must be proved by decoding it before it goes out, because it cannot be read back.
    fn decodes(&self) -> bool {
        self.verify >= VerifyLevel::Transferred && self.store.shape() == dmg_protocol::CommitShape::BlockList
    }

    async fn files_now(&self) -> Vec<(String, Arc<Assembler>)> {
        self.open.lock().await.iter().map(|(path, assembler)| (path.clone(), assembler.clone())).collect()
    }
}

#[async_trait]
impl Sink for FileSink {
    fn label(&self) -> String {
        match &self.file {
            Some(file) => format!("{}, file {}", self.store.label(), join(&self.folder, file)),
            None => format!("{}, folder {}", self.store.label(), self.folder),
        }
    }

    async fn columns(&self) -> Result<Option<Vec<Column>>> {
        Ok(None)
    }

    fn hold(&self, source: &Column, _target: Option<&Column>) -> Holding {
        self.format.hold(source)
    }

    fn span(&self, holding: &Holding) -> Option<(i128, i128)> {
        self.format.span(holding)
    }

    async fn plan(&mut self, columns: &[ColumnPlan]) -> Result<SinkPlan> {
        self.columns = columns
            .iter()
            .map(|column| Column {
                name: column.sink.clone(),
                kind: column.kind,
                type_name: column.source_type.clone(),
                nullable: true,
                key: false,
            })
            .collect();
        let mut notices = Vec::new();
        let condition = match &self.file {
            Some(_) => {
                let condition = self.condition(&self.path(0)).await;
                // Whoever of this run committed before that look has a mark by now.
                if let MarkState::Committed(Committed { epoch, .. }) | MarkState::Newer(epoch) = self.mark().await? {
                    let message = format!("Another attempt (epoch {epoch}) of this run committed meanwhile.");
                    return Err(Fault::new("StoreErrorConflict", message).into());
                }
                let condition = condition?;
                let words = match &condition {
                    Condition::Absent => "absent".to_owned(),
                    Condition::Stamp(stamp) => stamp.clone(),
                };
                self.planned = Some(condition);
                words
            }
            None => {
                notices.push("Each file appears at once, the folder as a whole does not.".to_owned());
                "one file per part".to_owned()
            }
        };
        Ok(SinkPlan { shape: self.store.shape(), condition: Some(condition), notices })
    }

    async fn mark(&self) -> Result<MarkState> {
        if self.file.is_none() {
            // A folder is committed file by file; each file's own mark is read at its commit.
            return Ok(MarkState::None);
        }
        let attempt = &self.request.attempt;
        let Some(mark) = self.store.mark(&self.path(0)).await? else { return Ok(MarkState::None) };
        if mark.namespace != attempt.namespace || mark.run != attempt.run.as_str() {
            return Ok(MarkState::None);
        }
        if mark.epoch > attempt.epoch {
            return Ok(MarkState::Newer(mark.epoch));
        }
        Ok(MarkState::Committed(Committed {
            mark: mark.stamp,
            rows: mark.rows,
            digest: mark.digest,
            epoch: mark.epoch,
        }))
    }

    async fn begin(&self) -> Result<()> {
        self.store.sweep(&self.path(0), &self.request.attempt).await
    }

    async fn part(&self, index: u32) -> Result<Box<dyn PartWriter>> {
        let assembler = self.assembler(index).await?;
        let (rows_max, bytes_max) = self.format.fragment_limits();
        let bytes_max = bytes_max.min(self.request.budget_bytes / (2 * self.request.lanes.max(2)));
        Ok(Box::new(FilePart {
            index,
            assembler,
            fragment: None,
            rows_max,
            bytes_max,
            report: PartReport::default(),
            decode: self.decodes().then(|| Decode {
                format: self.format.clone(),
                columns: self.columns.clone(),
                digester: Digester::new(&self.columns, published_seed()),
            }),
        }))
    }

    async fn staged(&self, _lanes: usize) -> Result<Option<Box<dyn Source>>> {
        let mut readers = Vec::new();
        for (_, assembler) in self.files_now().await {
            assembler.finish().await?;
            match assembler.reader().await? {
                Some(reader) => readers.push(reader),
                None => return Ok(None),
            }
        }
        if readers.is_empty() {
            return Ok(None);
        }
        let label = format!("staged {}", self.label());
        Ok(Some(Box::new(FileSource::staged(label, readers, self.format.clone(), &self.columns).await?)))
    }

    async fn commit(&self, content: &MarkContent) -> Result<Committed> {
        let mut last = None;
        for (_, assembler) in self.files_now().await {
            assembler.finish().await?;
            last = Some(assembler.commit(&self.request.attempt, content).await?);
        }
        last.ok_or_else(|| Fault::new("SystemErrorInternal", "There was no file to commit.").into())
    }

    async fn committed(&self, _lanes: usize) -> Result<Option<Box<dyn Source>>> {
        let mut readers = Vec::new();
        for (path, _) in self.files_now().await {
            let entry = self.store.stat(&path).await?.ok_or_else(|| {
                Fault::new("StoreErrorCommitRefused", format!("The file \"{path}\" is gone right after its commit."))
            })?;
            readers.push(self.store.open(&entry).await?);
        }
        let label = format!("committed {}", self.label());
        Ok(Some(Box::new(FileSource::staged(label, readers, self.format.clone(), &self.columns).await?)))
    }

    async fn abort(&self) -> Result<()> {
        let mut result = Ok(());
        for (_, assembler) in self.files_now().await {
            if let Err(error) = assembler.abort().await {
                result = Err(error);
            }
        }
        result
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.store.traffic()
    }

    fn files(&self) -> u64 {
        self.open.try_lock().map_or(0, |open| open.len() as u64)
    }

    async fn file(&self, index: usize) -> Result<Option<(String, u64)>> {
        let found = self.open.lock().await.iter().nth(index).map(|(path, file)| (path.clone(), file.clone()));
        let Some((path, assembler)) = found else { return Ok(None) };
        assembler.finish().await?;
        Ok(Some((path, assembler.bytes().await)))
    }
}

struct FilePart {
    index: u32,
    assembler: Arc<Assembler>,
    fragment: Option<Box<dyn FragmentEncoder>>,
    rows_max: u64,
    bytes_max: usize,
    report: PartReport,
    decode: Option<Decode>,
}

struct Decode {
    format: Arc<dyn Format>,
    columns: Vec<Column>,
    digester: Digester,
}

impl FilePart {
    async fn end_fragment(&mut self) -> Result<()> {
        let Some(encoder) = self.fragment.take() else { return Ok(()) };
        if encoder.rows() == 0 {
            return Ok(());
        }
        let fragment = encoder.finish()?;
        if let Some(decode) = &mut self.decode {
            for batch in decode.format.decode(&decode.columns, &fragment)? {
                decode.digester.update(&batch)?;
            }
        }
        self.report.rows += fragment.rows;
        self.report.bytes += self.assembler.push(self.index, fragment).await?;
        Ok(())
    }
}

#[async_trait]
impl PartWriter for FilePart {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if self.fragment.as_ref().is_some_and(|fragment| fragment.ends_before(&batch)) {
            self.end_fragment().await?;
        }
        let fragment = match &mut self.fragment {
            Some(fragment) => fragment,
            empty => empty.insert(self.assembler.fragment().await?),
        };
        fragment.write(&batch)?;
        // What is long is now held twice, and will be once more when the fragment ends.
        drop(batch);
        if fragment.rows() >= self.rows_max || fragment.size() >= self.bytes_max {
            self.end_fragment().await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<PartReport> {
        self.end_fragment().await?;
        self.assembler.end_part(self.index).await?;
        self.report.decoded = self.decode.take().map(|decode| decode.digester.finish());
        Ok(std::mem::take(&mut self.report))
    }
}
