//! The move: lanes take parts in source order, read them, convert, digest and hand them to the sink. A lane is one
//! task; decoding and encoding happen in it, so batches never cross a thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::{
    BatchLimits, BatchStream, Budget, Checkpoint, Digester, Error, PartReport, PartWriter, Reject, Rejects, Result,
    Sink, Source, Sums, published_seed,
};
use dmg_protocol::{Fault, PartPlan, Repeated};
use futures::StreamExt;

use crate::nanos;
use crate::planner::Planned;
use crate::reread;
use crate::retry::Tries;
use crate::screen;
use crate::throttle::Throttle;
use crate::tolerate::{self, LeftOut, Tolerate};

/// What a lane needs to know.
pub(crate) struct Work {
    pub(crate) ambient: Ambient,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) columns: Vec<Planned>,
    /// Columns as the sink gets them.
    pub(crate) schema: SchemaRef,
    pub(crate) hashed: Vec<dmg_connector::Column>,
    pub(crate) limits: BatchLimits,
    pub(crate) lanes: usize,
    /// Whether parts get into the target in their order, as they do into a file.
    pub(crate) ordered: bool,
    pub(crate) digest: bool,
    pub(crate) counters: Arc<Counters>,
    /// Rows that do not fit are left out; absent: the first one stops the copy.
    pub(crate) tolerate: Option<Arc<Tolerate>>,
    /// For tolerance: whether the target takes no NULL in a column.
    pub(crate) required: Vec<bool>,
    /// For tolerance: columns of the source itself; added ones stand behind them.
    pub(crate) own_columns: usize,
    pub(crate) throttle: Option<Throttle>,
    /// The schema with the numbers of rows behind, where the sink screens.
    pub(crate) numbered: Option<SchemaRef>,
    /// Parts that an earlier attempt had staged, by index.
    pub(crate) kept: BTreeMap<u32, Checkpoint>,
}

/// Numbers everybody may look at while the copy runs.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) rows_read: AtomicU64,
    pub(crate) rows_written: AtomicU64,
    pub(crate) parts_done: AtomicU32,
    reading: AtomicU32,
    /// Microseconds during which at least two lanes read at once.
    parallel: AtomicU64,
    parallel_since: AtomicU64,
}

impl Counters {
    fn enter(&self, now: Duration) {
        if self.reading.fetch_add(1, Ordering::SeqCst) == 1 {
            self.parallel_since.store(now.as_micros() as u64, Ordering::SeqCst);
        }
    }

    fn leave(&self, now: Duration) {
        if self.reading.fetch_sub(1, Ordering::SeqCst) == 2 {
            let since = self.parallel_since.load(Ordering::SeqCst);
            self.parallel.fetch_add((now.as_micros() as u64).saturating_sub(since), Ordering::SeqCst);
        }
    }

    /// Seconds during which at least two source streams were active.
    pub(crate) fn parallel_seconds(&self) -> f64 {
        self.parallel.load(Ordering::SeqCst) as f64 / 1e6
    }
}

/// What the move did, over all lanes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved {
    pub(crate) read: Sums,
    pub(crate) decoded: Option<Sums>,
    pub(crate) rows_written: u64,
    pub(crate) bytes_written: u64,
    pub(crate) read_seconds: f64,
    pub(crate) convert_seconds: f64,
    pub(crate) write_seconds: f64,
    /// Waited by the author's own limit.
    pub(crate) throttled_seconds: f64,
    /// Seconds the stores let the lanes wait, and the lanes each other, as far as they are counted.
    pub(crate) source_waited: f64,
    pub(crate) sink_waited: f64,
    pub(crate) queued: f64,
    pub(crate) repeated: Repeated,
    /// Whether staged rows were taken out again, because the target refuses them.
    pub(crate) screened: bool,
}

impl Moved {
    fn merge(&mut self, other: &Moved) {
        self.read.merge(&other.read);
        if let Some(decoded) = &other.decoded {
            self.decoded.get_or_insert_with(Sums::default).merge(decoded);
        }
        self.rows_written += other.rows_written;
        self.bytes_written += other.bytes_written;
        self.read_seconds += other.read_seconds;
        self.convert_seconds += other.convert_seconds;
        self.write_seconds += other.write_seconds;
        self.throttled_seconds += other.throttled_seconds;
        self.repeated.parts += other.repeated.parts;
        self.repeated.rows += other.repeated.rows;
        for (code, times) in &other.repeated.by_code {
            *self.repeated.by_code.entry(code.clone()).or_default() += times;
        }
    }

    /// Takes rows off that were staged and do not stay.
    pub(crate) fn take_off(&mut self, sums: &Sums) {
        self.read.take_off(sums);
        self.rows_written = self.rows_written.saturating_sub(sums.rows);
        self.screened = sums.rows > 0;
    }

    fn count_repeated(&mut self, code: String, rows: u64) {
        self.repeated.parts += 1;
        self.repeated.rows += rows;
        *self.repeated.by_code.entry(code).or_default() += 1;
    }

    fn add_part(&mut self, report: &PartReport) {
        self.rows_written += report.rows;
        self.bytes_written += report.bytes;
        if let Some(decoded) = &report.decoded {
            self.decoded.get_or_insert_with(Sums::default).merge(decoded);
        }
    }
}

/// A task that panicked.
pub(crate) fn crashed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Fault::new("SystemErrorInternal", "A task of the copy crashed."), error)
}

/// Runs all lanes to their end. The first failure stops the others.
pub(crate) async fn run(work: Arc<Work>) -> Result<Moved> {
    let budget = if work.ordered { Budget::ordered(&work.limits) } else { Budget::of(&work.limits) };
    let mut tasks: TaskGroup<Result<Moved>> = TaskGroup::new();
    for _ in 0..work.lanes {
        let (work, seat) = (work.clone(), budget.seat());
        tasks.spawn(seat.clone().scope(async move {
            let mut lane = Lane::new(&work);
            while let Some(part) = work.source.parts().get(seat.turn()) {
                lane.part(part).await?;
                work.counters.parts_done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(lane.moved)
        }));
    }
    let mut moved = Moved { read: Sums { columns: vec![0; work.hashed.len()], ..Sums::default() }, ..Moved::default() };
    while let Some(lane) = tasks.join_next().await {
        match lane.map_err(crashed).and_then(|lane| lane) {
            Ok(lane) => moved.merge(&lane),
            Err(error) => {
                tasks.shutdown().await;
                return Err(error);
            }
        }
    }
    Ok(moved)
}

struct Lane<'a> {
    work: &'a Work,
    /// A digester that has seen nothing.
    blank: Digester,
    moved: Moved,
}

/// One try of a part: what must be forgotten if it breaks off, and count once if it does not.
struct Try {
    digester: Digester,
    rows_read: u64,
    rows: u64,
    /// Rows left out that nobody was told of yet.
    left_out: LeftOut,
    /// Fault code of its end.
    broke: Option<String>,
    /// How often its read was taken up where it was.
    rereads: Tries,
}

impl<'a> Lane<'a> {
    fn new(work: &'a Work) -> Self {
        let blank = Digester::new(&work.hashed, published_seed());
        let read = Sums { columns: vec![0; work.hashed.len()], ..Sums::default() };
        Lane { work, blank, moved: Moved { read, ..Moved::default() } }
    }

    fn a_try(&self) -> Try {
        let left_out = LeftOut::new(self.work.sink.checkpoints());
        let rereads = Tries::of_part();
        Try { digester: self.blank.clone(), rows_read: 0, rows: 0, left_out, broke: None, rereads }
    }

    /// Brings a part into the staging, once. If it breaks off on the way it is done again, where source and sink can.
    async fn part(&mut self, part: &PartPlan) -> Result<()> {
        if let Some(kept) = self.work.kept.get(&part.index) {
            self.moved.read.merge(&kept.read);
            self.moved.add_part(&kept.report);
            return Ok(());
        }
        let mut tries = Tries::of_part();
        let mut tried = self.a_try();
        let (read, report) = loop {
            match self.try_part(part, &mut tried).await {
                Ok(done) => break done,
                Err(error) if self.work.sink.checkpoints() && tried.left_out.is_held() && broke_off(&error) => {
                    tried.broke = Some(error.fault.code.clone());
                    tries.again(&self.work.ambient, error).await?;
                }
                Err(error) => return Err(error),
            }
        };
        if let Some(tolerate) = &self.work.tolerate {
            tried.left_out.tell(tolerate, part).await?;
            tolerate.end_part(part).await?;
        }
        self.moved.read.merge(&read);
        self.moved.add_part(&report);
        Ok(())
    }

    /// What was read for the part, and what is staged of it.
    async fn try_part(&mut self, part: &PartPlan, tried: &mut Try) -> Result<(Sums, PartReport)> {
        let work = self.work;
        if tried.broke.is_some() {
            // Its last answer may have been lost: what the sink says is staged is staged, and must not come twice.
            dmg_ambient::failpoint!("lane.part.settle", dmg_connector::cut());
            if let Some(kept) = work.sink.settle(part.index).await? {
                return Ok((kept.read, kept.report));
            }
            self.forget(tried);
        }
        dmg_ambient::failpoint!("lane.part", dmg_connector::cut());
        let mut writer = work.sink.part(part.index).await?;
        let reading = Reading::start(work);
        let copied = self.rows_of(part, writer.as_mut(), tried).await;
        drop(reading);
        copied?;
        let read = tried.sums(work);
        writer.note(&read);
        let started = work.ambient.uptime();
        dmg_ambient::failpoint!("lane.part.read", dmg_connector::cut());
        let report = writer.finish().await?;
        dmg_ambient::failpoint!("lane.part.done", dmg_connector::cut());
        self.moved.write_seconds += (work.ambient.uptime() - started).as_secs_f64();
        Ok((read, report))
    }

    /// Nothing of a try is staged: it never was.
    fn forget(&mut self, tried: &mut Try) {
        let broken = std::mem::replace(tried, self.a_try());
        if dmg_ambient::planted!("count-what-broke") {
            self.moved.read.merge(&broken.sums(self.work));
        }
        let counters = &self.work.counters;
        counters.rows_read.fetch_sub(broken.rows_read, Ordering::Relaxed);
        counters.rows_written.fetch_sub(broken.rows, Ordering::Relaxed);
        self.moved.count_repeated(broken.broke.unwrap_or_default(), broken.rows_read);
    }

    async fn rows_of(&mut self, part: &PartPlan, writer: &mut dyn PartWriter, tried: &mut Try) -> Result<()> {
        let work = self.work;
        let mut clock = work.ambient.uptime();
        let mut lap = |total: &mut f64| {
            let now = work.ambient.uptime();
            *total += (now - clock).as_secs_f64();
            clock = now;
        };
        let rejects = work.tolerate.as_ref().map(|_| Arc::new(Rejects::default()));
        let opened = match &rejects {
            None => work.source.read(part, work.limits).await,
            Some(rejects) => work.source.read_tolerant(part, work.limits, rejects.clone()).await,
        };
        let mut batches = match opened {
            Err(error) if self.rereads(&error) => self.read_again(part, tried, error).await?,
            opened => opened?,
        };
        // Rows of the part so far, those left out included.
        let mut seen = 0_u64;
        while let Some(batch) = batches.next().await {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) if self.rereads(&error) => {
                    batches = self.read_again(part, tried, error).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            dmg_ambient::failpoint!("lane.batch", dmg_connector::cut());
            lap(&mut self.moved.read_seconds);
            let rows = batch.num_rows() as u64;
            tried.count_read(work, rows);
            if let Some(throttle) = &work.throttle {
                throttle.pace(&work.ambient, rows, &work.source.traffic()).await;
                lap(&mut self.moved.throttled_seconds);
            }
            let before = seen;
            seen += rows;
            let (converted, numbers) = match (&work.tolerate, &rejects) {
                (Some(tolerate), Some(rejects)) => {
                    let left_out = rejects.take();
                    seen += left_out.len() as u64;
                    tried.count_read(work, left_out.len() as u64);
                    let Fitting { converted, numbers, left_out } = fitting(work, &batch, part, before, left_out)?;
                    tried.left_out.add(tolerate, part, left_out).await?;
                    (converted, numbers)
                }
                _ => (convert(work, &batch, part, before)?, Vec::new()),
            };
            // The writer is to be the last who has it: its values may be long, and it frees them when it has encoded them.
            drop(batch);
            let batch = converted;
            if dmg_ambient::planted!("drop-the-last-batch") && batch.num_rows() < work.limits.rows {
                continue;
            }
            if dmg_ambient::planted!("double-the-first") && before == 0 {
                tried.digester.update(&batch)?;
                writer.write(batch.clone()).await?;
            }
            if work.digest {
                tried.digester.update(&batch)?;
            }
            lap(&mut self.moved.convert_seconds);
            let rows = batch.num_rows() as u64;
            if rows > 0 {
                let batch = match &work.numbered {
                    Some(numbered) => screen::number(&batch, numbered, part.index, &numbers)?,
                    None => batch,
                };
                writer.write(batch).await?;
            }
            tried.rows += rows;
            work.counters.rows_written.fetch_add(rows, Ordering::Relaxed);
            lap(&mut self.moved.write_seconds);
            // Decoding and encoding take long; the other tasks want a turn too.
            tokio::task::yield_now().await;
        }
        lap(&mut self.moved.read_seconds);
        Ok(())
    }
}

impl Lane<'_> {
    /// Whether a broken read can be taken up where it was, although the sink cannot forget what it has: the digest
    /// tells whether the rows are the same, as long as all of them were handed over.
    fn rereads(&self, error: &Error) -> bool {
        let work = self.work;
        !work.sink.checkpoints() && work.digest && work.tolerate.is_none() && broke_off(error)
    }

    /// Takes the read up where it was.
    async fn read_again(&mut self, part: &PartPlan, tried: &mut Try, mut error: Error) -> Result<BatchStream> {
        loop {
            let code = error.fault.code.clone();
            // Kept for the case that the rows come in another order now.
            let broken = error.fault.clone();
            tried.rereads.again(&self.work.ambient, error).await?;
            match reread::behind(self.work, part, tried.digester.sums(), self.blank.clone()).await {
                Ok(Some(batches)) => {
                    self.moved.count_repeated(code, tried.rows);
                    return Ok(batches);
                }
                Ok(None) => return Err((*broken).into()),
                Err(again) if broke_off(&again) => error = again,
                Err(again) => return Err(again),
            }
        }
    }
}

impl Try {
    fn count_read(&mut self, work: &Work, rows: u64) {
        self.rows_read += rows;
        work.counters.rows_read.fetch_add(rows, Ordering::Relaxed);
    }

    fn sums(&self, work: &Work) -> Sums {
        if work.digest {
            self.digester.sums().clone()
        } else {
            Sums { rows: self.rows, columns: vec![0; work.hashed.len()], row: 0 }
        }
    }
}

/// Whether a failure says nothing about the rows: the same part may well succeed.
fn broke_off(error: &Error) -> bool {
    let code = &error.fault.code;
    code.starts_with("NetworkError") || code == "StoreErrorConflict"
}

/// Marks a lane as reading for as long as it lives.
struct Reading<'a>(&'a Work);

impl<'a> Reading<'a> {
    fn start(work: &'a Work) -> Self {
        work.counters.enter(work.ambient.uptime());
        Reading(work)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.counters.leave(self.0.ambient.uptime());
    }
}

/// A batch of which every row fits.
struct Fitting {
    converted: RecordBatch,
    /// Numbers of its rows, where the sink screens.
    numbers: Vec<u64>,
    /// Rows that do not fit, with those the reader left out.
    left_out: Vec<Reject>,
}

fn fitting(
    work: &Work,
    batch: &RecordBatch,
    part: &PartPlan,
    before: u64,
    mut left_out: Vec<Reject>,
) -> Result<Fitting> {
    let mut required = work.columns.iter().zip(&work.required).filter(|(_, required)| **required);
    let complete = required.all(|(planned, _)| batch.column(planned.source).null_count() == 0);
    let converted = if complete {
        convert(work, batch, part, before)
    } else {
        Err(Fault::new("UserErrorValue", "A value is missing.").into())
    };
    match converted {
        Ok(converted) => {
            let screened = work.numbered.is_some();
            let numbers = if screened { tolerate::numbers(batch.num_rows(), before, &left_out) } else { Vec::new() };
            Ok(Fitting { converted, numbers, left_out })
        }
        Err(error) if error.fault.code != "UserErrorValue" => Err(error),
        Err(_) => {
            let numbers = tolerate::numbers(batch.num_rows(), before, &left_out);
            let source = &work.source.columns()[..work.own_columns];
            let sorted = tolerate::sort(batch, source, &work.columns, &work.required, &numbers)?;
            left_out.extend(sorted.unfit);
            left_out.sort_by_key(|reject| reject.row);
            let converted = convert(work, &sorted.kept, part, before)?;
            Ok(Fitting { converted, numbers: sorted.numbers, left_out })
        }
    }
}

pub(crate) fn convert(work: &Work, batch: &RecordBatch, part: &PartPlan, rows_before: u64) -> Result<RecordBatch> {
    let mut arrays = Vec::with_capacity(work.columns.len());
    for planned in &work.columns {
        let array = planned.conversion.apply(batch.column(planned.source)).map_err(|unfit| {
            let row = rows_before + unfit.row as u64 + 1;
            let place = work.source.place(part, row);
            let (label, row) = place.as_ref().map_or((&part.label, row), |place| (&place.label, place.row));
            let message = format!(
                "Column \"{}\" holds a value that is {} in row {row} of {label}; the target's type {} cannot take it.",
                planned.plan.source, unfit.class, planned.plan.sink_type
            );
            let fault = Fault::new("UserErrorValue", message).with("column", &planned.plan.source).with("row", row);
            match nanos::remedy(&planned.plan, &unfit.class) {
                Some(remedy) => fault.remedy(remedy),
                None => fault,
            }
        })?;
        arrays.push(array);
    }
    if dmg_ambient::planted!("swap-two-columns") {
        arrays.swap(0, 1);
    }
    RecordBatch::try_new(work.schema.clone(), arrays).map_err(|error| {
        Error::caused(Fault::new("SystemErrorInternal", "A batch does not have the planned columns."), error)
    })
}
