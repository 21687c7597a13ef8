//! Compares two stores without changing either: digests first, then, where they differ, only the part of the rows that
//! can hold the difference, until the rows are named. Memory is bounded whatever the size of the two sides; what
//! cannot be compared exactly is refused, never guessed.

mod align;
mod buckets;
mod count;
mod meeting;
mod name;
mod pairs;
mod scan;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_connector::{BatchLimits, Budget, Column, Result, Session, Source};
use dmg_protocol::job::{CopyOptions, Endpoint};
use dmg_protocol::worker::Progress;
use dmg_protocol::{Fault, Kind, Secrets};
use tokio_util::sync::CancellationToken;

use crate::open::{self, Stores};
use crate::watchdog::{self, Watchdog};
use buckets::Buckets;
use count::{Count, ENTRY_BYTES, Of, Table, Tally};
pub use pairs::ColumnChoice;
use pairs::Pair;
use scan::{Reading, scan};

/// Lanes per side when the caller names no number.
const LANES: usize = 2;
/// Most lanes per side.
const LANES_MAX: usize = 16;
/// Rows of one batch.
const BATCH_ROWS: usize = 8 * 1024;
/// Rows a part should have.
const ROWS_PER_PART: u64 = 500_000;
/// Most differences that are named; all are counted.
pub const DIFFERENCES_MAX: usize = 10_000;
/// Pause between two progress reports.
const PROGRESS: Duration = Duration::from_millis(250);

/// What to compare.
pub struct VerifyRequest {
    /// One side.
    pub from: Endpoint,
    /// The other.
    pub to: Endpoint,
    /// Opened secrets of the one.
    pub from_secrets: Secrets,
    /// Opened secrets of the other.
    pub to_secrets: Secrets,
    /// PEM of certificate authorities trusted besides the system's.
    pub extra_ca: Vec<Vec<u8>>,
    /// Columns that identify a row.
    pub key: KeyChoice,
    /// Which columns.
    pub columns: ColumnChoice,
    /// Most differences that are named, at most [`DIFFERENCES_MAX`]; all are counted.
    pub limit: usize,
    /// Parts of a side read at once; absent: chosen.
    pub parallel: Option<u32>,
    /// Memory budget in MiB.
    pub memory_mib: u32,
    /// Longest wait for an answer of a store, as [`CopyOptions::query_timeout_millis`].
    pub query_timeout_millis: Option<u64>,
    /// Longest silence of a store in the middle of rows, as [`CopyOptions::stall_timeout_millis`].
    pub stall_timeout_millis: Option<u64>,
}

/// Columns that identify a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChoice {
    /// The primary key of either side, where one is known; else whole rows.
    Known,
    /// Whole rows.
    None,
    /// These, by their names in FROM.
    Columns(Vec<String>),
}

/// One compared column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedColumn {
    /// Name in FROM.
    pub from: String,
    /// Name in TO.
    pub to: String,
    /// The kind both were compared in.
    pub kind: Kind,
    /// Whether its digests differ.
    pub differs: bool,
    /// Whether it belongs to the key.
    pub key: bool,
}

/// One side as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSide {
    /// For people, without secrets.
    pub label: String,
    /// Rows.
    pub rows: u64,
    /// Row sum, 32 hex digits.
    pub digest: String,
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Only in FROM.
    OnlyFrom,
    /// Only in TO.
    OnlyTo,
    /// In both, with other values.
    Changed,
}

/// One difference: values in the order of the report's columns, long ones cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How.
    pub change: Change,
    /// How often the same.
    pub times: u64,
    /// The row of FROM; empty where there is none.
    pub from: Vec<Option<String>>,
    /// The row of TO; empty where there is none.
    pub to: Vec<Option<String>>,
    /// Places of the columns that differ, for a changed row.
    pub columns: Vec<usize>,
}

impl Difference {
    fn alone(change: Change, times: u64, row: Vec<Option<String>>) -> Self {
        let (from, to) = if change == Change::OnlyFrom { (row, Vec::new()) } else { (Vec::new(), row) };
        Difference { change, times, from, to, columns: Vec::new() }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// One side.
    pub from: VerifiedSide,
    /// The other.
    pub to: VerifiedSide,
    /// The columns, in the order of FROM.
    pub columns: Vec<VerifiedColumn>,
    /// Rows that are equal.
    pub equal: u64,
    /// Rows only in FROM.
    pub only_from: u64,
    /// Rows only in TO.
    pub only_to: u64,
    /// Rows of the same key with other values.
    pub changed: u64,
    /// Some of the differences, by key.
    pub differences: Vec<Difference>,
    /// Remarks.
    pub notices: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.only_from == 0 && self.only_to == 0 && self.changed == 0
    }
}

/// Compares. `watch` is told a few times a second how far it is.
pub async fn verify(
    ambient: &Ambient,
    stores: &dyn Stores,
    request: VerifyRequest,
    watch: &(dyn Fn(Progress) + Send + Sync),
    cancel: &CancellationToken,
) -> std::result::Result<VerifyReport, Fault> {
    let rows = Arc::new(AtomicU64::new(0));
    let started = ambient.uptime();
    let mut work = std::pin::pin!(compare(ambient, stores, request, rows.clone()));
    let result = loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return Err(Fault::new("UserErrorCancelled", "The comparison was cancelled; it changed nothing."));
            }
            result = &mut work => break result,
            () = ambient.sleep(PROGRESS) => watch(Progress {
                stage: "compare".to_owned(),
                rows_read: rows.load(Ordering::Relaxed),
                seconds: (ambient.uptime() - started).as_secs_f64(),
                ..Progress::default()
            }),
        }
    };
    result.map_err(|error| {
        if let Some(cause) = &error.cause {
            tracing::debug!(code = %error.fault.code, cause = %cause, "comparison failed");
        }
        *error.fault
    })
}

async fn compare(
    ambient: &Ambient,
    stores: &dyn Stores,
    request: VerifyRequest,
    rows: Arc<AtomicU64>,
) -> Result<VerifyReport> {
    let budget = request.memory_mib.max(32) as usize * 1024 * 1024;
    let limit = request.limit.min(DIFFERENCES_MAX);
    let Opened { from, to, pairs } = open_both(ambient, stores, &request, rows, budget).await?;
    let (left, right) = tokio::try_join!(scan(&from, from.parts(), Buckets::new), scan(&to, to.parts(), Buckets::new))?;
    let (from_sums, to_sums) = (left.0, right.0);
    let (left, right) = (Buckets::merged(left.1), Buckets::merged(right.1));
    let differing = left.differing(&right);
    let mut tally = Tally { equal: left.equal_rows(&differing), ..Tally::default() };
    // Half of the budget is for batches of both sides.
    let entries_max = budget / 2 / ENTRY_BYTES;
    for group in buckets::groups(&differing, (entries_max / 2) as u64) {
        let (wanted, table) = (Arc::new(group), Arc::new(Table::default()));
        let count = |of: Of| {
            let (wanted, table) = (wanted.clone(), table.clone());
            move || Count { of, wanted: wanted.clone(), table: table.clone(), entries_max }
        };
        let again = tokio::try_join!(scan(&from, from.parts(), count(Of::From)), scan(&to, to.parts(), count(Of::To)))?;
        // Counts of two states would tell of neither.
        for (reading, sums, again) in [(&from, &from_sums, &again.0.0), (&to, &to_sums, &again.1.0)] {
            if sums != again {
                return Err(name::changed(&reading.source.label()).into());
            }
        }
        tally.add(&table, limit);
    }
    let differences = name::differences(&from, &to, &tally.groups, limit).await?;
    tokio::try_join!(from.source.finish(), to.source.finish())?;
    let mut notices = from.source.notices();
    notices.extend(to.source.notices());
    let differs = |at: &usize| from_sums.columns[*at] != to_sums.columns[*at];
    notices.extend(pairs::hint((0..pairs.len()).filter(differs).map(|at| &pairs[at])));
    let side = |reading: &Reading, sums: &dmg_connector::Sums| VerifiedSide {
        label: reading.source.label(),
        rows: sums.rows,
        digest: sums.row_hex(),
    };
    let columns = pairs
        .iter()
        .enumerate()
        .map(|(at, pair)| VerifiedColumn {
            from: pair.from.name.clone(),
            to: pair.to.name.clone(),
            kind: pair.kind,
            differs: from_sums.columns[at] != to_sums.columns[at],
            key: from.key.contains(&at),
        })
        .collect();
    Ok(VerifyReport {
        from: side(&from, &from_sums),
        to: side(&to, &to_sums),
        columns,
        equal: tally.equal,
        only_from: tally.only_from,
        only_to: tally.only_to,
        changed: tally.changed,
        differences,
        notices,
    })
}

/// Both sides, ready to be read.
struct Opened {
    from: Arc<Reading>,
    to: Arc<Reading>,
    pairs: Vec<Pair>,
}

async fn open_both(
    ambient: &Ambient,
    stores: &dyn Stores,
    request: &VerifyRequest,
    rows: Arc<AtomicU64>,
    budget: usize,
) -> Result<Opened> {
    let lanes = request.parallel.map_or(LANES, |lanes| lanes as usize).clamp(1, LANES_MAX);
    let session = || Session {
        ambient: ambient.clone(),
        application: "dmg/verify".to_owned(),
        extra_ca: Arc::new(request.extra_ca.clone()),
    };
    // One each: a side that is done with its rows says nothing of the other.
    let open = async |side: watchdog::Side, endpoint: &Endpoint, secrets: &Secrets| {
        let opening = open::source(stores, endpoint, secrets, session(), lanes, ROWS_PER_PART);
        let title = open::title(stores, &endpoint.store);
        Watchdog::new(ambient.clone(), &limits_of(request)).opened_side(side, &title, endpoint, opening).await
    };
    let (from, to) = tokio::try_join!(
        open(watchdog::Side::From, &request.from, &request.from_secrets),
        open(watchdog::Side::To, &request.to, &request.to_secrets),
    )?;
    let pairs = pairs::pairs(from.columns(), to.columns(), &request.columns)?;
    let key = key(&pairs, &request.key, from.columns(), to.columns())?;
    let columns: Vec<Column> = pairs
        .iter()
        .map(|pair| Column {
            name: pair.from.name.clone(),
            kind: pair.hashed,
            type_name: String::new(),
            nullable: true,
            key: false,
        })
        .collect();
    let limits =
        BatchLimits { rows: BATCH_ROWS, bytes: (budget / 64).max(1024 * 1024), value_bytes: (budget / 4).max(1) };
    let shared = Budget::of(&limits);
    let reading = |source: Box<dyn Source>, pick: fn(&Pair) -> &pairs::Side| {
        let sides = pairs.iter().map(|pair| pick(pair).clone()).collect();
        let limits = (limits, lanes, shared.clone());
        Arc::new(Reading::new(source, sides, columns.clone(), key.clone(), limits, rows.clone()))
    };
    let (from, to) = (reading(from, |pair| &pair.from), reading(to, |pair| &pair.to));
    Ok(Opened { from, to, pairs })
}

fn limits_of(request: &VerifyRequest) -> CopyOptions {
    CopyOptions {
        query_timeout_millis: request.query_timeout_millis,
        stall_timeout_millis: request.stall_timeout_millis,
        ..CopyOptions::default()
    }
}

/// Places of the key among the pairs.
fn key(pairs: &[Pair], choice: &KeyChoice, from: &[Column], to: &[Column]) -> std::result::Result<Vec<usize>, Fault> {
    let of_side = |columns: &[Column], pick: fn(&Pair) -> &pairs::Side| -> Vec<usize> {
        let places: Vec<usize> = (0..pairs.len()).filter(|at| pick(&pairs[*at]).key).collect();
        // A key of which a column is left out tells no rows apart.
        if places.len() == columns.iter().filter(|column| column.key).count() { places } else { Vec::new() }
    };
    match choice {
        KeyChoice::None => Ok(Vec::new()),
        KeyChoice::Known => {
            let places = of_side(from, |pair| &pair.from);
            Ok(if places.is_empty() { of_side(to, |pair| &pair.to) } else { places })
        }
        KeyChoice::Columns(names) => names
            .iter()
            .map(|name| {
                let is = |column: &str| column == name || column.eq_ignore_ascii_case(name);
                pairs.iter().position(|pair| is(&pair.from.name) || is(&pair.to.name)).ok_or_else(|| {
                    let known = pairs.iter().map(|pair| pair.from.name.as_str()).collect::<Vec<_>>().join(", ");
                    let message = format!("The key names \"{name}\", which is not compared. Compared are: {known}.");
                    Fault::new("UserErrorColumnMissing", message).with("column", name)
                })
            })
            .collect(),
    }
}
