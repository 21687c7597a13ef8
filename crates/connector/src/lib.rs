//! What a store or a file format must implement, and nothing about any particular one: sources, sinks, byte
//! stores, formats, the carriers of kinds, and the digest both sides are compared by.
//!
//! Four phases, never mixed: *describe* and *validate* are pure; *open* connects; *run* reads or writes and ends
//! with its future. Connectors classify failures; they neither sleep nor retry.

mod carrier;
#[cfg(feature = "conformance")]
pub mod conformance;
mod digest;
mod error;
mod files;
mod format;
mod moment;
mod rejects;
mod room;
mod session;
mod tables;
pub mod text_form;

pub use carrier::{KIND_KEY, TYPE_KEY, column_of, data_type, field, schema};
pub use digest::{ALGORITHM, ByteDigest, ColumnHasher, Digester, Sums, fingerprint, published_seed};
pub use error::{Error, Result, cut};
pub use files::{ByteStore, ByteStoreConnector, Condition, FileEntry, FileMark, RangeReader, StagedFile};
pub use format::{FileEncoder, FileShape, Format, Fragment, FragmentEncoder, Holding};
pub use moment::{
    NANOS_INFINITY, NANOS_PER_DAY, NANOS_PER_MICRO, OffsetInstantBuilder, OffsetInstants, nanos_of_micros,
    offset_instants,
};
pub use rejects::{Reject, Rejects};
pub use room::{Budget, Room, Seat};
pub use session::{Meter, Session, Traffic};
pub use tables::{
    BatchLimits, BatchStream, Checkpoint, Column, Committed, MarkContent, MarkState, PartReport, PartWriter, Place,
    ROW_COLUMN, Refused, Resumption, Rule, Sink, SinkPlan, SinkRequest, Source, TableConnection, TableConnector,
    row_plan,
};
