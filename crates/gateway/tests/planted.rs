//! Plants faults between decoding and encoding, and in the stored bytes, and expects the copy to find every one of
//! them before its commit; and to raise no alarm where none was planted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, PrimitiveArray, RecordBatch, StringArray, UInt32Array};
use async_trait::async_trait;
use bytes::Bytes;
use dmg_ambient::Ambient;
use dmg_connector::{
    BatchLimits, BatchStream, ByteStore, ByteStoreConnector, Column, Committed, Condition, FileEncoder, FileEntry,
    FileMark, FileShape, Format, Fragment, FragmentEncoder, Holding, MarkContent, RangeReader, Rejects, Result,
    Session, StagedFile, TableConnector, Traffic,
};
use dmg_engine::{CopyRequest, Observer, Stores};
use dmg_gateway::worker::Registry;
use dmg_protocol::catalog::StoreDescriptor;
use dmg_protocol::job::{
    CopyJob, CopyOptions, DeclaredColumn, Endpoint, FormatSpec, ParquetFormat, StoreObject, StoreRef, TextFormat,
};
use dmg_protocol::worker::Progress;
use dmg_protocol::{
    Attempt, CommitShape, Epoch, Fault, Kind, PartPlan, Plan, Receipt, ReceiptParties, RunId, Secrets, WriteMode,
};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

const ROWS: u64 = 3_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault4Test {
    None,
    Cell { column: usize, row: u64 },
    Drop { row: u64 },
    Double { row: u64 },
    SwapValues { column: usize, row: u64 },
    FlipStoredBit { byte: u64, bit: u8 },
}

/// One plant: a fault and whether it has been done.
struct Plant {
    fault: Fault4Test,
    rows_seen: AtomicU64,
    bytes_seen: AtomicU64,
    done: AtomicBool,
}

impl Plant {
    fn batch(&self, batch: &RecordBatch) -> RecordBatch {
        let before = self.rows_seen.fetch_add(batch.num_rows() as u64, Ordering::SeqCst);
        let here =
            |row: u64| (row >= before && row < before + batch.num_rows() as u64).then(|| (row - before) as usize);
        let take = |indices: Vec<u32>| {
            let indices = UInt32Array::from(indices);
            let columns =
                batch.columns().iter().map(|column| arrow_select::take::take(column, &indices, None).expect("take"));
            RecordBatch::try_new(batch.schema(), columns.collect()).expect("same schema")
        };
        let all = 0..batch.num_rows() as u32;
        let changed = match self.fault {
            Fault4Test::Drop { row } => here(row).map(|at| take(all.filter(|i| *i != at as u32).collect())),
            Fault4Test::Double { row } => here(row).map(|at| take(all.chain([at as u32]).collect())),
            Fault4Test::Cell { column, row } => {
                here(row).map(|at| replace(batch, column, change(batch.column(column), at)))
            }
            Fault4Test::SwapValues { column, row } => here(row).and_then(|at| swap(batch, column, at)),
            Fault4Test::None | Fault4Test::FlipStoredBit { .. } => None,
        };
        if changed.is_some() {
            self.done.store(true, Ordering::SeqCst);
        }
        changed.unwrap_or_else(|| batch.clone())
    }

    fn bytes(&self, bytes: Bytes) -> Bytes {
        let before = self.bytes_seen.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        let Fault4Test::FlipStoredBit { byte, bit } = self.fault else { return bytes };
        if byte < before || byte >= before + bytes.len() as u64 {
            return bytes;
        }
        let mut changed = bytes.to_vec();
        changed[(byte - before) as usize] ^= 1 << bit;
        self.done.store(true, Ordering::SeqCst);
        changed.into()
    }
}

fn replace(batch: &RecordBatch, column: usize, array: ArrayRef) -> RecordBatch {
    let mut columns = batch.columns().to_vec();
    columns[column] = array;
    RecordBatch::try_new(batch.schema(), columns).expect("same type")
}

/// Swaps a value with the nearest different one below it.
fn swap(batch: &RecordBatch, column: usize, at: usize) -> Option<RecordBatch> {
    let array = batch.column(column);
    let other = (at + 1..array.len()).find(|other| array.slice(at, 1).to_data() != array.slice(*other, 1).to_data())?;
    let mut indices: Vec<u32> = (0..array.len() as u32).collect();
    indices.swap(at, other);
    let swapped = arrow_select::take::take(array, &UInt32Array::from(indices), None).expect("take");
    Some(replace(batch, column, swapped))
}

/// The smallest change of one cell.
fn change(array: &ArrayRef, at: usize) -> ArrayRef {
    fn primitive<T: arrow_array::ArrowPrimitiveType>(
        array: &ArrayRef,
        at: usize,
        next: impl Fn(T::Native) -> T::Native,
    ) -> ArrayRef {
        let source = array.as_primitive::<T>();
        let values = (0..source.len()).map(|row| match (row == at, source.is_null(row)) {
            (true, true) => Some(T::Native::default()),
            (true, false) => Some(next(source.value(row))),
            (false, null) => (!null).then(|| source.value(row)),
        });
        Arc::new(values.collect::<PrimitiveArray<T>>().with_data_type(source.data_type().clone()))
    }
    use arrow_schema::DataType;
    match array.data_type() {
        DataType::Int64 => primitive::<Int64Type>(array, at, |value| value ^ 1),
        DataType::Float64 => primitive::<Float64Type>(array, at, |value| f64::from_bits(value.to_bits() ^ 1)),
        DataType::Decimal128(..) => primitive::<Decimal128Type>(array, at, |value| value ^ 1),
        DataType::Date32 => primitive::<Date32Type>(array, at, |value| value ^ 1),
        DataType::Timestamp(..) => primitive::<TimestampMicrosecondType>(array, at, |value| value ^ 1),
        DataType::Boolean => {
            let source = array.as_boolean();
            Arc::new((0..source.len()).map(|row| Some(source.value(row) ^ (row == at))).collect::<BooleanArray>())
        }
        DataType::Utf8 => {
            let source = array.as_string::<i32>();
            let values = (0..source.len()).map(|row| match (row == at, source.is_null(row)) {
                (true, true) => Some(String::new()),
                (true, false) => Some(format!("{} ", source.value(row))),
                (false, null) => (!null).then(|| source.value(row).to_owned()),
            });
            Arc::new(values.collect::<StringArray>())
        }
        other => panic!("no change for {other}"),
    }
}

/// The real stores and formats, with the plant between them.
struct PlantedStores {
    plant: Arc<Plant>,
    files: PlantedConnector,
}

impl Stores for PlantedStores {
    fn tables(&self, name: &str) -> Option<&dyn TableConnector> {
        Registry.tables(name).map(|_| panic!("only files here"))
    }

    fn files(&self, name: &str) -> Option<&dyn ByteStoreConnector> {
        (name == "file").then_some(&self.files)
    }

    fn format(&self, spec: &FormatSpec) -> std::result::Result<Arc<dyn Format>, Fault> {
        Ok(Arc::new(PlantedFormat { inner: Registry.format(spec)?, plant: self.plant.clone() }))
    }
}

struct PlantedConnector(Arc<Plant>);

#[async_trait]
impl ByteStoreConnector for PlantedConnector {
    fn descriptor(&self) -> &'static StoreDescriptor {
        real_files().descriptor()
    }

    fn validate(&self, settings: &Map<String, Value>) -> Result<()> {
        real_files().validate(settings)
    }

    async fn open(
        &self,
        settings: &Map<String, Value>,
        secrets: &Secrets,
        session: Session,
    ) -> Result<Arc<dyn ByteStore>> {
        let inner = real_files().open(settings, secrets, session).await?;
        Ok(Arc::new(PlantedStore { inner, plant: self.0.clone() }))
    }
}

fn real_files() -> &'static dyn ByteStoreConnector {
    *dmg_files::STORES.iter().find(|store| store.descriptor().name == "file").expect("local files")
}

struct PlantedStore {
    inner: Arc<dyn ByteStore>,
    plant: Arc<Plant>,
}

#[async_trait]
impl ByteStore for PlantedStore {
    fn label(&self) -> String {
        self.inner.label()
    }
    async fn probe(&self) -> Result<String> {
        self.inner.probe().await
    }
    async fn list(&self, folder: &str, recursive: bool) -> Result<Vec<FileEntry>> {
        self.inner.list(folder, recursive).await
    }
    async fn stat(&self, path: &str) -> Result<Option<FileEntry>> {
        self.inner.stat(path).await
    }
    async fn open(&self, entry: &FileEntry) -> Result<Arc<dyn RangeReader>> {
        self.inner.open(entry).await
    }
    fn shape(&self) -> CommitShape {
        self.inner.shape()
    }
    async fn mark(&self, path: &str) -> Result<Option<FileMark>> {
        self.inner.mark(path).await
    }
    async fn sweep(&self, path: &str, attempt: &Attempt) -> Result<()> {
        self.inner.sweep(path, attempt).await
    }
    async fn stage(
        &self,
        path: &str,
        attempt: &Attempt,
        condition: Condition,
        budget: usize,
    ) -> Result<Box<dyn StagedFile>> {
        let inner = self.inner.stage(path, attempt, condition, budget).await?;
        Ok(Box::new(PlantedFile { inner, plant: self.plant.clone() }))
    }
    fn traffic(&self) -> Arc<Traffic> {
        self.inner.traffic()
    }
}

struct PlantedFile {
    inner: Box<dyn StagedFile>,
    plant: Arc<Plant>,
}

#[async_trait]
impl StagedFile for PlantedFile {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.inner.write(self.plant.bytes(bytes)).await
    }
    async fn seal(&mut self) -> Result<()> {
        self.inner.seal().await
    }
    async fn reader(&self) -> Result<Option<Arc<dyn RangeReader>>> {
        self.inner.reader().await
    }
    async fn commit(&mut self, attempt: &Attempt, content: &MarkContent) -> Result<Committed> {
        self.inner.commit(attempt, content).await
    }
    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

struct PlantedFormat {
    inner: Arc<dyn Format>,
    plant: Arc<Plant>,
}

#[async_trait]
impl Format for PlantedFormat {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn extension(&self) -> &'static str {
        self.inner.extension()
    }
    fn hold(&self, column: &Column) -> Holding {
        self.inner.hold(column)
    }
    fn span(&self, holding: &Holding) -> Option<(i128, i128)> {
        self.inner.span(holding)
    }
    fn fragment_limits(&self) -> (u64, usize) {
        (1_000, 1024 * 1024)
    }
    fn encoder(&self, columns: &[Column]) -> Result<Box<dyn FileEncoder>> {
        Ok(Box::new(PlantedEncoder { inner: self.inner.encoder(columns)?, plant: self.plant.clone() }))
    }
    async fn inspect(&self, file: Arc<dyn RangeReader>, declared: &[DeclaredColumn]) -> Result<FileShape> {
        self.inner.inspect(file, declared).await
    }
    async fn read(
        &self,
        file: Arc<dyn RangeReader>,
        shape: &FileShape,
        part: &PartPlan,
        limits: BatchLimits,
    ) -> Result<BatchStream> {
        self.inner.read(file, shape, part, limits).await
    }
    async fn read_tolerant(
        &self,
        file: Arc<dyn RangeReader>,
        shape: &FileShape,
        part: &PartPlan,
        limits: BatchLimits,
        rejects: Arc<Rejects>,
    ) -> Result<BatchStream> {
        self.inner.read_tolerant(file, shape, part, limits, rejects).await
    }
    fn decode(&self, columns: &[Column], fragment: &Fragment) -> Result<Vec<RecordBatch>> {
        self.inner.decode(columns, fragment)
    }
}

struct PlantedEncoder {
    inner: Box<dyn FileEncoder>,
    plant: Arc<Plant>,
}

impl FileEncoder for PlantedEncoder {
    fn fragment(&self) -> Result<Box<dyn FragmentEncoder>> {
        Ok(Box::new(PlantedFragment { inner: self.inner.fragment()?, plant: self.plant.clone() }))
    }
    fn start(&mut self) -> Result<Bytes> {
        self.inner.start()
    }
    fn append(&mut self, fragment: Fragment) -> Result<Bytes> {
        self.inner.append(fragment)
    }
    fn finish(&mut self) -> Result<Bytes> {
        self.inner.finish()
    }
}

struct PlantedFragment {
    inner: Box<dyn FragmentEncoder>,
    plant: Arc<Plant>,
}

impl FragmentEncoder for PlantedFragment {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.inner.write(&self.plant.batch(batch))
    }
    fn rows(&self) -> u64 {
        self.inner.rows()
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
    fn finish(self: Box<Self>) -> Result<Fragment> {
        self.inner.finish()
    }
}

struct Nobody;

#[async_trait]
impl Observer for Nobody {
    async fn planned(&self, _plan: &Plan) -> std::result::Result<(), Fault> {
        Ok(())
    }
    fn progress(&self, _progress: Progress) {}
    async fn may_commit(&self) -> std::result::Result<bool, Fault> {
        Ok(true)
    }
}

fn kinds() -> Vec<(&'static str, Kind)> {
    vec![
        ("id", Kind::Int64),
        ("name", Kind::Text),
        ("price", Kind::Decimal { precision: 15, scale: 2 }),
        ("ratio", Kind::Float64),
        ("day", Kind::Date),
        ("at", Kind::Timestamp),
        ("flag", Kind::Boolean),
    ]
}

/// A text file with every kind, NULLs and empty texts.
fn write_source(folder: &Path, ambient: &Ambient) {
    let mut text = String::from("id,name,price,ratio,day,at,flag\n");
    for row in 0..ROWS {
        let draw = ambient.draw();
        let name = match draw % 7 {
            0 => String::new(),
            1 => "\"\"".to_owned(),
            2 => "\"a,\"\"b\"\"\nc\"".to_owned(),
            n => format!("\"name {n} {row}\""),
        };
        text.push_str(&format!(
            "\"{row}\",{name},\"{}.{:02}\",\"{}\",\"20{:02}-{:02}-{:02}\",\"2024-05-06 07:08:09.{:06}\",\"{}\"\n",
            draw % 100_000,
            draw % 100,
            (draw % 1_000_000) as f64 / 7.0,
            draw % 90 + 10,
            draw % 12 + 1,
            draw % 28 + 1,
            draw % 999_999 + 1,
            draw.is_multiple_of(2),
        ));
    }
    std::fs::write(folder.join("source.csv"), text).expect("source file");
}

async fn copy(
    folder: &Path,
    target: &str,
    fault: Fault4Test,
    number: u64,
) -> (bool, std::result::Result<Receipt, Fault>) {
    let plant = Arc::new(Plant {
        fault,
        rows_seen: AtomicU64::new(0),
        bytes_seen: AtomicU64::new(0),
        done: AtomicBool::new(false),
    });
    let stores = PlantedStores { plant: plant.clone(), files: PlantedConnector(plant.clone()) };
    let endpoint = |file: &str, format: FormatSpec, declared: Vec<DeclaredColumn>| Endpoint {
        store: StoreRef {
            store: "file".into(),
            linked_service: None,
            settings: Map::from_iter([("root".to_owned(), json!(folder.to_str()))]),
            envelope: None,
            binding: Default::default(),
        },
        object: StoreObject::Files { folder: String::new(), file: Some(file.into()), recursive: false },
        format: Some(format),
        declared,
    };
    let declared = kinds()
        .into_iter()
        .map(|(name, kind)| DeclaredColumn { kind: Some(kind), ..DeclaredColumn::named(name) })
        .collect();
    let format = if target.ends_with("parquet") {
        FormatSpec::Parquet(ParquetFormat::default())
    } else {
        FormatSpec::Text(TextFormat::lossless())
    };
    let request = CopyRequest {
        job: CopyJob {
            parties: ReceiptParties::default(),
            source: endpoint("source.csv", FormatSpec::Text(TextFormat::lossless()), declared),
            sink: endpoint(target, format, Vec::new()),
            mapping: Vec::new(),
            options: CopyOptions { mode: WriteMode::Overwrite, ..CopyOptions::default() },
        },
        attempt: Attempt { namespace: "test".into(), run: RunId::new(format!("{number:032x}")), epoch: Epoch(1) },
        source_secrets: Secrets::none(),
        sink_secrets: Secrets::none(),
        redirect_secrets: Secrets::none(),
        extra_ca: Vec::new(),
        earlier: false,
    };
    let result = dmg_engine::copy(&Ambient::real(), &stores, request, &Nobody, &CancellationToken::new()).await;
    (plant.done.load(Ordering::SeqCst), result)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_planted_faults_are_found_and_two_hundred_clean_copies_pass() {
    let ambient = Ambient::test(20_261_121);
    let folder = tempfile::tempdir().expect("folder");
    write_source(folder.path(), &ambient);
    let (mut found, mut clean, mut number) = (0, 0, 0);
    for trial in 0..200_u64 {
        let target = if trial % 2 == 0 { "out.parquet" } else { "out.csv" };
        number += 1;
        let (_, receipt) = copy(folder.path(), target, Fault4Test::None, number).await;
        let receipt = receipt.unwrap_or_else(|fault| panic!("false alarm in clean run {trial}: {fault}"));
        assert_eq!(receipt.written.rows, ROWS);
        clean += 1;
        let before = std::fs::read(folder.path().join(target)).expect("target");
        loop {
            let (row, column) = (ambient.draw() % ROWS, (ambient.draw() % kinds().len() as u64) as usize);
            let fault = match trial {
                _ if trial >= 100 => Fault4Test::FlipStoredBit {
                    byte: ambient.draw() % before.len() as u64,
                    bit: (ambient.draw() % 8) as u8,
                },
                _ if trial % 5 == 0 => Fault4Test::Drop { row },
                _ if trial % 5 == 1 => Fault4Test::Double { row },
                _ if trial % 5 == 2 => Fault4Test::SwapValues { column, row },
                _ => Fault4Test::Cell { column, row },
            };
            number += 1;
            let (planted, result) = copy(folder.path(), target, fault, number).await;
            if !planted {
                // Two equal values cannot be swapped: plant elsewhere.
                assert!(result.is_ok(), "nothing planted, so nothing to find");
                continue;
            }
            let fault_found = result.expect_err(&format!("{fault:?} into {target} must be found"));
            assert_eq!(fault_found.code, "SystemErrorVerification", "{fault:?} into {target}: {fault_found}");
            break;
        }
        found += 1;
        if trial >= 100 || trial % 5 != 2 {
            let after = std::fs::read(folder.path().join(target)).expect("target");
            assert_eq!(before, after, "a refused copy leaves the old content whole");
        }
    }
    println!("planted faults found: {found} of 200; clean runs without alarm: {clean} of 200");
    assert_eq!((found, clean), (200, 200));
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).expect("folder").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(left.len(), 3, "no staging left behind: {left:?}");
}
