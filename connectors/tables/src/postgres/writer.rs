//! One part on its way into a table, by COPY: binary, or as text where only the server can make a value of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_connector::{
    BatchLimits, Column, Digester, Error, PartReport, PartWriter, Result, Sums, Traffic, published_seed,
};
use dmg_protocol::{ColumnPlan, Fault, Kind};
use tokio::sync::OwnedMutexGuard;

use super::binary::{self, Putting};
use super::catalog::Readable;
use super::checkpoint;
use super::client::{COPY_BYTES, COPY_HEAD, Client};
use super::decode::Decoder;
use super::encode;
use super::types::Form;
use crate::lost::InHand;

/// Rows decoded again at once.
const CHECK_ROWS: usize = 8 * 1024;
/// A buffer that has grown beyond this, for an unusually long value, is not kept.
const LARGE_BYTES: usize = 16 * COPY_BYTES;

/// How the rows of all parts are written down.
pub(super) struct Encoding {
    columns: Vec<Column>,
    forms: Vec<Form>,
    puttings: Option<Vec<Putting>>,
    kinds: Vec<Kind>,
}

impl Encoding {
    /// Binary if every column can be.
    pub(super) fn of(columns: &[Readable], planned: &[ColumnPlan]) -> Self {
        let puttings = columns.iter().zip(planned).map(|(column, plan)| {
            let (type_oid, modifier) = column.base;
            binary::putting(plan.kind, type_oid, modifier)
        });
        Encoding {
            columns: columns.iter().map(|column| column.column.clone()).collect(),
            forms: columns.iter().map(|column| column.reading.form).collect(),
            puttings: puttings.collect(),
            kinds: planned.iter().map(|plan| plan.kind).collect(),
        }
    }

    pub(super) fn is_binary(&self) -> bool {
        self.puttings.is_some()
    }

    /// What follows the COPY statement.
    pub(super) fn option(&self) -> &'static str {
        if self.is_binary() { " (FORMAT binary)" } else { "" }
    }
}

/// Rows that the server took, by part.
pub(super) type Taken = Arc<Mutex<BTreeMap<u32, u64>>>;

/// The checkpoint that is written with a part.
pub(super) struct Noting {
    /// The table of checkpoints, quoted.
    pub(super) table: String,
    pub(super) session: InHand,
}

/// Where a session comes from and goes back to.
pub(super) enum Place {
    /// Any session will do.
    Staging(Arc<Mutex<Vec<Client>>>),
    /// The one session whose transaction takes all rows.
    Direct(OwnedMutexGuard<Option<Client>>),
}

impl Place {
    /// A session, if there is one.
    pub(super) fn take(&mut self) -> Option<Client> {
        match self {
            Place::Staging(idle) => idle.lock().expect("no one panics while holding it").pop(),
            Place::Direct(slot) => slot.take(),
        }
    }

    fn give_back(&mut self, client: Client) {
        match self {
            Place::Staging(idle) => idle.lock().expect("no one panics while holding it").push(client),
            Place::Direct(slot) => **slot = Some(client),
        }
    }
}

/// A part. Dropped early, it closes its session and the server forgets the rows.
pub(super) struct Writer {
    client: Option<Client>,
    place: Place,
    taken: Taken,
    encoding: Arc<Encoding>,
    buffer: Vec<u8>,
    /// Where the rows of the buffer begin.
    rows_at: usize,
    check: Option<Check>,
    /// Where rows are staged in a transaction of the part's own.
    noting: Option<Noting>,
    read: Sums,
    report: PartReport,
    index: u32,
    traffic: Arc<Traffic>,
}

impl Writer {
    /// Starts the COPY.
    pub(super) async fn start(
        mut client: Client,
        statement: &str,
        (place, taken): (Place, Taken),
        encoding: Arc<Encoding>,
        (index, noting): (u32, Option<Noting>),
        traffic: Arc<Traffic>,
    ) -> Result<Self> {
        client.copy_in(statement).await?;
        dmg_ambient::failpoint!("postgres.copy.begun", dmg_connector::cut());
        traffic.opened();
        client.wire.count_waits(&traffic);
        let mut buffer = Vec::with_capacity(COPY_BYTES + COPY_BYTES / 4);
        buffer.resize(COPY_HEAD, 0);
        if encoding.is_binary() {
            buffer.extend_from_slice(binary::HEADER);
        }
        let check = matches!(place, Place::Direct(_)).then(|| Check::new(&encoding, index));
        let rows_at = buffer.len();
        let client = Some(client);
        Ok(Writer {
            client,
            place,
            taken,
            encoding,
            buffer,
            rows_at,
            check,
            noting,
            read: Sums::default(),
            report: PartReport::default(),
            index,
            traffic,
        })
    }

    async fn send(&mut self) -> Result<()> {
        if let Some(check) = &mut self.check {
            check.rows(&self.buffer[self.rows_at..])?;
        }
        let client = self.client.as_mut().ok_or_else(ended)?;
        dmg_ambient::failpoint!("postgres.copy.send", dmg_connector::cut());
        client.copy_data(&mut self.buffer).await?;
        let bytes = (self.buffer.len() - COPY_HEAD) as u64;
        self.report.bytes += bytes;
        self.traffic.add_bytes(bytes);
        self.buffer.truncate(COPY_HEAD);
        if self.buffer.capacity() > LARGE_BYTES {
            self.buffer.shrink_to(COPY_BYTES);
        }
        self.rows_at = COPY_HEAD;
        Ok(())
    }

    fn unfit(&self, unfit: binary::Unfit, rows_before: u64) -> Error {
        let Column { name, type_name, .. } = &self.encoding.columns[unfit.column];
        let row = rows_before + unfit.row as u64 + 1;
        let message = format!(
            "Column \"{name}\" ({type_name}) cannot take what row {row} of part {} holds: {}.",
            self.index, unfit.what
        );
        Fault::new("UserErrorValue", message).with("column", name).with("row", row).into()
    }
}

fn ended() -> Error {
    Fault::new("SystemErrorInternal", "A part was written to after its end.").into()
}

#[async_trait]
impl PartWriter for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let mut row = 0;
        while row < batch.num_rows() {
            row = match &self.encoding.puttings {
                Some(puttings) => binary::rows(&batch, puttings, row, COPY_BYTES, &mut self.buffer)
                    .map_err(|unfit| self.unfit(unfit, self.report.rows))?,
                None => encode::rows(&batch, &self.encoding.kinds, row, COPY_BYTES, &mut self.buffer),
            };
            if self.buffer.len() >= COPY_BYTES {
                self.send().await?;
            }
        }
        self.report.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn note(&mut self, read: &Sums) {
        self.read = read.clone();
    }

    async fn finish(mut self: Box<Self>) -> Result<PartReport> {
        if self.buffer.len() > self.rows_at {
            self.send().await?;
        }
        let mut client = self.client.take().ok_or_else(ended)?;
        if self.encoding.is_binary() {
            self.buffer.extend_from_slice(binary::TRAILER);
            client.copy_data(&mut self.buffer).await?;
        }
        dmg_ambient::failpoint!("postgres.copy.finish", dmg_connector::cut());
        let rows = client.copy_finish().await?;
        dmg_ambient::failpoint!("postgres.copy.finished", dmg_connector::cut());
        if rows != self.report.rows {
            let message = format!(
                "{} took {rows} rows of part {} where {} were sent.",
                client.wire.place, self.index, self.report.rows
            );
            let remedy = "Look for triggers or rules on the table that drop or add rows; nothing was committed.";
            return Err(Fault::new("SystemErrorVerification", message).remedy(remedy).into());
        }
        if let Some(check) = self.check.take() {
            self.report.decoded = Some(check.finish()?);
        }
        if let Some(noting) = &mut self.noting {
            dmg_ambient::failpoint!("postgres.part.note", dmg_connector::cut());
            let sql = checkpoint::note(&noting.table, self.index, &self.report, &self.read);
            client.batch(&sql).await.map_err(|error| checkpoint::explained(self.index, error))?;
            dmg_ambient::failpoint!("postgres.part.noted", dmg_connector::cut());
            noting.session.give_back();
        }
        *self.taken.lock().expect("no one panics while holding it").entry(self.index).or_default() += rows;
        self.place.give_back(client);
        Ok(self.report.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.traffic.closed();
    }
}

/// Decodes again what is about to be sent, where nobody can read it back before the commit.
struct Check {
    decoder: Decoder,
    digester: Digester,
}

impl Check {
    fn new(encoding: &Encoding, index: u32) -> Self {
        let limits = BatchLimits { rows: CHECK_ROWS, bytes: 4 << 20, value_bytes: usize::MAX };
        let label = format!("part {index} as it was encoded");
        Check {
            decoder: Decoder::new(&encoding.columns, &encoding.forms, limits, &label),
            digester: Digester::new(&encoding.columns, published_seed()),
        }
    }

    fn rows(&mut self, bytes: &[u8]) -> Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let end = binary::row_end(bytes, at).ok_or_else(|| {
                Fault::new("SystemErrorVerification", "A row was encoded in a way that cannot be decoded.")
            })?;
            self.decoder.row(&bytes[at..end])?;
            if self.decoder.full() {
                self.digester.update(&self.decoder.take()?)?;
            }
            at = end;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Sums> {
        if !self.decoder.is_empty() {
            self.digester.update(&self.decoder.take()?)?;
        }
        Ok(self.digester.finish())
    }
}
