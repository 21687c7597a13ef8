//! Files as a source: a byte store joined with a format. The listing is frozen when the source opens; a file that
//! changes afterwards stops the copy.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use dmg_ambient::Ambient;
use dmg_connector::{
    BatchLimits, BatchStream, ByteDigest, ByteStore, Column, FileEntry, FileShape, Format, Meter, RangeReader, Rejects,
    Result, Seat, Source, Traffic,
};
use dmg_protocol::job::{DeclaredColumn, StoreObject};
use dmg_protocol::{Fault, PartPlan};
use futures::StreamExt;
use futures::future::try_join_all;

use crate::added;

pub(crate) struct FileSource {
    label: String,
    files: Arc<Files>,
    parts: Vec<PartPlan>,
    rows: Option<u64>,
    traffic: Arc<Traffic>,
}

/// What streams of rows go back to while they live.
struct Files {
    format: Arc<dyn Format>,
    held: Vec<Held>,
    columns: Vec<Column>,
    /// Columns by the author's word, to look into a file again with.
    declared: Vec<DeclaredColumn>,
    /// Pieces of all files in order. Parts are made of one each, or of many where there are many.
    pieces: Vec<Piece>,
    /// The pieces of parts that hold many, as far as they were read.
    begun: Mutex<BTreeMap<u32, Vec<Begun>>>,
}

/// A file. Nothing of it is open while nobody reads it: there may be more files than a process may open.
struct Held {
    origin: Origin,
    /// What is in it; absent where there are too many files to keep that.
    shape: Option<FileShape>,
}

enum Origin {
    Listed {
        store: Arc<dyn ByteStore>,
        entry: FileEntry,
        meter: Meter,
        folder: Arc<str>,
    },
    /// A staged file that is read back.
    Staged(Arc<dyn RangeReader>),
}

#[derive(Clone, Copy)]
struct Piece {
    file: usize,
    part: usize,
}

/// Where a piece begins.
struct Begun {
    file: usize,
    /// Rows before it in its part, and in its file.
    before: u64,
    before_in_file: u64,
}

/// Up to so many pieces each is a part of its own, and what is in the files is kept in mind. More of them share
/// parts, in order: a plan has an end, and so has what a part costs a sink.
const PIECES_ALONE_MAX: usize = 1000;
/// Files looked into at once.
const LOOKS: usize = 4;

/// `folder/file` with neither being empty.
pub(crate) fn join(folder: &str, file: &str) -> String {
    let folder = folder.trim_matches('/');
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

impl Origin {
    async fn open(&self) -> Result<Arc<dyn RangeReader>> {
        match self {
            Origin::Listed { store, entry, meter, .. } => {
                Ok(Arc::new(Metered { inner: store.open(entry).await?, meter: meter.clone() }))
            }
            Origin::Staged(reader) => Ok(reader.clone()),
        }
    }

    fn label(&self) -> String {
        match self {
            Origin::Listed { entry, .. } => entry.path.clone(),
            Origin::Staged(reader) => reader.label(),
        }
    }

    /// Its path below the folder that was named, for columns that tell it.
    fn shown(&self) -> Option<&str> {
        match self {
            Origin::Listed { entry, folder, .. } => {
                let shown = entry.path.strip_prefix(&**folder).unwrap_or(&entry.path);
                Some(shown.trim_start_matches('/'))
            }
            Origin::Staged(_) => None,
        }
    }
}

impl Held {
    /// What it means that it cannot be opened any more: it was there when it was listed.
    fn gone(&self, error: dmg_connector::Error) -> dmg_connector::Error {
        if !error.fault.code.ends_with("Missing") {
            return error;
        }
        let message = format!("The file {} was removed while it was copied.", self.origin.label());
        dmg_connector::Error::caused(Fault::new("UserErrorSourceChanged", message), error)
    }

    /// Whether it is still what was listed.
    async fn unchanged(&self) -> Result<()> {
        let Origin::Listed { store, entry, .. } = &self.origin else { return Ok(()) };
        if store.stat(&entry.path).await?.as_ref() != Some(entry) {
            let message = format!("The file {} changed while it was copied.", entry.path);
            return Err(Fault::new("UserErrorSourceChanged", message).into());
        }
        Ok(())
    }
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
        let meter = Meter { ambient, traffic: store.traffic() };
        let folder: Arc<str> = folder.trim_matches('/').into();
        let traffic = store.traffic();
        let places = entries.into_iter().map(|entry| Origin::Listed {
            store: store.clone(),
            entry,
            meter: meter.clone(),
            folder: folder.clone(),
        });
        Self::of(label, format, places.collect(), declared.to_vec(), traffic).await
    }

    /// A staged file, to be read back.
    pub(crate) async fn staged(
        label: String,
        readers: Vec<Arc<dyn RangeReader>>,
        format: Arc<dyn Format>,
        columns: &[Column],
    ) -> Result<Self> {
        let declared = columns
            .iter()
            .map(|column| DeclaredColumn { kind: Some(column.kind), ..DeclaredColumn::named(column.name.clone()) })
            .collect();
        let places = readers.into_iter().map(Origin::Staged).collect();
        Self::of(label, format, places, declared, Arc::default()).await
    }

    async fn of(
        label: String,
        format: Arc<dyn Format>,
        places: Vec<Origin>,
        declared: Vec<DeclaredColumn>,
        traffic: Arc<Traffic>,
    ) -> Result<Self> {
        let keep = places.len() <= PIECES_ALONE_MAX;
        let mut files = Files {
            format,
            held: Vec::with_capacity(places.len()),
            columns: Vec::new(),
            declared,
            pieces: Vec::with_capacity(places.len()),
            begun: Mutex::default(),
        };
        let mut rows = Some(0);
        let look = |place: Origin| {
            let (format, declared) = (files.format.clone(), files.declared.clone());
            async move {
                let shape = format.inspect(place.open().await?, &declared).await?;
                Ok::<_, dmg_connector::Error>((place, shape))
            }
        };
        let mut looks = Box::pin(futures::stream::iter(places).map(look).buffered(LOOKS));
        let (mut held, mut pieces, mut columns) = (Vec::new(), Vec::new(), Vec::<Column>::new());
        while let Some(looked) = looks.next().await {
            let (place, shape) = looked?;
            if held.is_empty() {
                columns.clone_from(&shape.columns);
            } else if !alike(&columns, &shape.columns) {
                let first: &Held = &held[0];
                let message =
                    format!("The files {} and {} have different columns.", first.origin.label(), place.label());
                return Err(Fault::new("UserErrorSchemaMismatch", message).into());
            }
            for (column, own) in columns.iter_mut().zip(&shape.columns) {
                column.nullable |= own.nullable;
            }
            rows = rows.zip(shape.rows).map(|(all, more)| all + more);
            pieces.extend((0..shape.parts.len()).map(|part| Piece { file: held.len(), part }));
            held.push(Held { origin: place, shape: keep.then_some(shape) });
        }
        drop(looks);
        (files.held, files.pieces, files.columns) = (held, pieces, columns);
        let parts = files.parts();
        Ok(FileSource { label, files: Arc::new(files), parts, rows, traffic })
    }
}

/// Whether two files have the same columns, but for whether they may be NULL.
fn alike(one: &[Column], other: &[Column]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.name == b.name && a.kind == b.kind)
}

impl Files {
    fn parts(&self) -> Vec<PartPlan> {
        let together =
            if self.pieces.len() <= PIECES_ALONE_MAX { 1 } else { self.pieces.len().div_ceil(PIECES_ALONE_MAX) };
        let chunks = self.pieces.chunks(together).enumerate();
        chunks.map(|(index, pieces)| self.part(index, index * together, pieces)).collect()
    }

    fn part(&self, index: usize, first: usize, pieces: &[Piece]) -> PartPlan {
        let file = |piece: &Piece| &self.held[piece.file];
        let begins = file(&pieces[0]);
        let name = begins.origin.label();
        let (label, spec) = match (pieces, &begins.shape) {
            ([piece], Some(shape)) => {
                let part = &shape.parts[piece.part];
                // A format that knows no pieces calls its one part what the file is called.
                let label = if name == part.label { name } else { format!("{name}, {}", part.label) };
                (label, spec(piece.file, &begins.origin, part))
            }
            _ => {
                let last = file(&pieces[pieces.len() - 1]).origin.label();
                let label = if name == last { format!("a piece of {name}") } else { format!("{name} to {last}") };
                (label, serde_json::json!({ "first": first, "pieces": pieces.len() }))
            }
        };
        PartPlan { index: index as u32, label, spec }
    }

    /// Rows of one piece, and how many of its file stand before it. Where what is in the file was not kept in mind, it
    /// is looked into again.
    async fn rows(
        &self,
        piece: Piece,
        limits: BatchLimits,
        rejects: Option<Arc<Rejects>>,
    ) -> Result<(BatchStream, u64)> {
        let held = &self.held[piece.file];
        let reader = held.origin.open().await.map_err(|error| held.gone(error))?;
        let looked;
        let shape = match &held.shape {
            Some(shape) => shape,
            None => {
                looked = self.format.inspect(reader.clone(), &self.declared).await?;
                &looked
            }
        };
        let part = shape.parts.get(piece.part).filter(|_| alike(&self.columns, &shape.columns)).ok_or_else(|| {
            let message = format!("The file {} changed while it was copied.", held.origin.label());
            Fault::new("UserErrorSourceChanged", message)
        })?;
        let stream = match rejects {
            None => self.format.read(reader, shape, part, limits).await?,
            Some(rejects) => self.format.read_tolerant(reader, shape, part, limits, rejects).await?,
        };
        let before = part.spec.get("firstRow").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if self.held.len() == 1 {
            return Ok((stream, before));
        }
        // Files may differ in nullability; batches must not.
        let schema = dmg_connector::schema(&self.columns);
        let stream = Box::pin(stream.map(move |batch| {
            batch.and_then(|batch| {
                arrow_array::RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(|error| {
                    let message = "Two files of one folder disagree about their columns.";
                    dmg_connector::Error::caused(Fault::new("UserErrorSchemaMismatch", message), error)
                })
            })
        }));
        Ok((stream, before))
    }

    fn begun(&self) -> MutexGuard<'_, BTreeMap<u32, Vec<Begun>>> {
        // Every change is one entry: a panic of another holder leaves the map whole.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One part of many pieces on its way through.
struct Pieces {
    files: Arc<Files>,
    part: u32,
    next: usize,
    end: usize,
    limits: BatchLimits,
    current: Option<BatchStream>,
    /// Rows of the part so far, and of it those before the current piece; those left out included.
    rows: u64,
    before: u64,
    /// What the reader leaves out, numbered in its piece, and where it is told, numbered in the part.
    rejects: Option<(Arc<Rejects>, Arc<Rejects>)>,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<arrow_array::RecordBatch>> {
        loop {
            if let Some(stream) = &mut self.current {
                let batch = stream.next().await.transpose()?;
                self.tell();
                if let Some(batch) = batch {
                    self.rows += batch.num_rows() as u64;
                    return Ok(Some(batch));
                }
                self.current = None;
            }
            if self.next == self.end {
                return Ok(None);
            }
            let (piece, inner) = (self.files.pieces[self.next], self.rejects.as_ref().map(|(inner, _)| inner.clone()));
            self.next += 1;
            let (stream, before_in_file) = self.files.rows(piece, self.limits, inner).await?;
            (self.before, self.current) = (self.rows, Some(stream));
            let begun = Begun { file: piece.file, before: self.before, before_in_file };
            self.files.begun().entry(self.part).or_default().push(begun);
        }
    }

    fn tell(&mut self) {
        let Some((inner, outer)) = &self.rejects else { return };
        for mut reject in inner.take() {
            reject.row += self.before;
            self.rows += 1;
            outer.push(reject);
        }
    }
}

impl FileSource {
    async fn rows(&self, part: &PartPlan, limits: BatchLimits, rejects: Option<Arc<Rejects>>) -> Result<BatchStream> {
        let number = |name: &str| part.spec.get(name).and_then(serde_json::Value::as_u64).map(|n| n as usize);
        let files = &self.files;
        if let (Some(file), Some(part)) = (number("file"), number("part"))
            && files
                .held
                .get(file)
                .is_some_and(|held| held.shape.as_ref().is_some_and(|shape| part < shape.parts.len()))
        {
            let (stream, _) = files.rows(Piece { file, part }, limits, rejects).await?;
            if files.format.takes_room_at_once() {
                Seat::settle();
            }
            return Ok(stream);
        }
        let range =
            number("first").zip(number("pieces")).and_then(|(first, count)| Some((first, first.checked_add(count)?)));
        let Some((next, end)) = range.filter(|(_, end)| *end <= files.pieces.len()) else {
            let message = format!("The plan names a part that the files do not have: {}.", part.label);
            return Err(Fault::new("SystemErrorInternal", message).into());
        };
        files.begun().remove(&part.index);
        let rejects = rejects.map(|outer| (Arc::default(), outer));
        let (files, part) = (files.clone(), part.index);
        let pieces = Pieces { files, part, next, end, limits, current: None, rows: 0, before: 0, rejects };
        Ok(Box::pin(futures::stream::try_unfold(pieces, |mut pieces| async move {
            Ok(pieces.next().await?.map(|batch| (batch, pieces)))
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
fn spec(number: usize, place: &Origin, part: &PartPlan) -> serde_json::Value {
    let mut spec = serde_json::json!({ "file": number, "part": part.index });
    if let Some(shown) = place.shown() {
        spec[added::PATH] = shown.into();
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
        &self.files.columns
    }

    fn parts(&self) -> &[PartPlan] {
        &self.parts
    }

    fn rows_estimate(&self) -> Option<u64> {
        self.rows
    }

    fn repeatable(&self) -> bool {
        true
    }

    fn identity(&self) -> Option<String> {
        // A digest of the listing: it may be long.
        let mut listing = ByteDigest::new();
        for held in &self.files.held {
            let Origin::Listed { entry, .. } = &held.origin else { return None };
            listing.update(&serde_json::to_vec(entry).expect("entries are JSON"));
        }
        Some(format!("{} {:032x}", self.label, listing.finish()))
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

    fn place(&self, part: &PartPlan, row: u64) -> Option<dmg_connector::Place> {
        let begun = self.files.begun();
        let piece = begun.get(&part.index)?.iter().rev().find(|piece| piece.before < row)?;
        let origin = &self.files.held[piece.file].origin;
        let row = row - piece.before + piece.before_in_file;
        Some(dmg_connector::Place { label: origin.label(), path: origin.shown().map(str::to_owned), row })
    }

    fn file(&self, index: usize) -> Option<&FileEntry> {
        match &self.files.held.get(index)?.origin {
            Origin::Listed { entry, .. } => Some(entry),
            Origin::Staged(_) => None,
        }
    }

    async fn finish(&self) -> Result<()> {
        for few in self.files.held.chunks(LOOKS) {
            try_join_all(few.iter().map(Held::unchanged)).await?;
        }
        Ok(())
    }
}
