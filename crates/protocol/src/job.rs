//! What a gateway is asked to do, fully evaluated: nothing here knows version 1 from version 2 or an expression
//! from a value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use crate::beside::{FilePlace, LogLevel, Redirect, RedirectLayout, SessionLog};
use crate::{Fault, Verdict, VerifyLevel, WriteMode};

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Job {
    /// Move data from one store to another.
    Copy(Box<CopyJob>),
    /// Connect to a store and say whether it works.
    Probe(Box<ProbeJob>),
    /// Call a stored procedure. At least once: a lost answer is followed by another call.
    Procedure(Box<ProcedureJob>),
    /// Look at what a store holds. Changes nothing.
    Browse(Box<BrowseJob>),
}

/// One copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyJob {
    /// Names for the receipt.
    pub parties: crate::ReceiptParties,
    /// Where rows come from.
    pub source: Endpoint,
    /// Where rows go.
    pub sink: Endpoint,
    /// Which column goes where; empty means by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapping: Vec<ColumnMapping>,
    /// How to go about it.
    #[serde(default)]
    pub options: CopyOptions,
}

/// A connection test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeJob {
    /// The store to reach.
    pub store: StoreRef,
}

/// One call of a stored procedure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcedureJob {
    /// Names for the outcome.
    pub parties: crate::ReceiptParties,
    /// The store to call it in.
    pub store: StoreRef,
    /// What to call.
    pub call: ProcedureCall,
}

/// A stored procedure and what it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcedureCall {
    /// Name as the author wrote it, with or without schema: `dbo.usp_merge`, `[dbo].[usp merge]`.
    pub name: String,
    /// Parameters, in the author's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ProcedureParameter>,
    /// Seconds after which the call is cancelled at the server; absent: the run's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

impl ProcedureCall {
    /// What a call that took longer than its limit ends in, whatever the store.
    pub fn too_long(&self) -> Fault {
        let (name, seconds) = (&self.name, self.timeout_seconds.unwrap_or_default());
        let message = format!(
            "The stored procedure \"{name}\" did not end within {seconds} s and was cancelled; what it had committed by \
             then stays."
        );
        Fault::new("StoreErrorTimeout", message).remedy("Raise the timeout, or look what the procedure waits for.")
    }
}

/// One parameter of a stored procedure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcedureParameter {
    /// Name without `@`.
    pub name: String,
    /// The author's type name (`Int32`, `DateTime`, ...), where one was given; else the server converts the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    /// Value as invariant text; absent means NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What a call gave back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ProcedureOutcome {
    /// Output values by parameter name, as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Option<String>>,
    /// The return status, where the store has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_status: Option<i64>,
    /// Rows the server says it changed, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_affected: Option<u64>,
    /// What the server said meanwhile: PRINT, NOTICE. Bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
}

/// One look into a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrowseJob {
    /// The store.
    pub store: StoreRef,
    /// What to look at.
    pub browse: Browse,
    /// The format of a file to preview, for byte stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FormatSpec>,
}

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "look", rename_all = "camelCase")]
pub enum Browse {
    /// Schemas (databases in MariaDB and MySQL), or containers and root folders of a byte store.
    Schemas,
    /// Tables and views of a schema, or files and folders of a folder.
    Tables {
        /// Schema; the store's default where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<String>,
    },
    /// Columns of a table, view, query or file.
    Columns {
        /// Which.
        object: StoreObject,
    },
    /// First rows of a table, view, query or file.
    Preview {
        /// Which.
        object: StoreObject,
        /// How many rows, at most [`PREVIEW_ROWS_MAX`].
        rows: u32,
    },
}

/// Most entries of one listing; what is beyond is cut, and said.
pub const LISTING_MAX: usize = 10_000;
/// Most rows of a preview.
pub const PREVIEW_ROWS_MAX: u32 = 1_000;
/// A previewed value is cut after so many characters.
pub const PREVIEW_VALUE_CHARS_MAX: usize = 1_000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "camelCase")]
pub enum Listing {
    /// Names of schemas.
    Schemas {
        /// In the store's order.
        names: Vec<String>,
        /// Whether there are more.
        more: bool,
    },
    /// Tables, views, files, folders.
    Tables {
        /// In order of name.
        tables: Vec<ListedTable>,
        /// Whether there are more.
        more: bool,
    },
    /// Columns in order.
    Columns {
        /// The columns.
        columns: Vec<ListedColumn>,
    },
    /// Rows as text.
    Preview {
        /// The columns.
        columns: Vec<ListedColumn>,
        /// One text per column; absent is NULL.
        rows: Vec<Vec<Option<String>>>,
    },
}

/// A table in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedTable {
    /// Schema or folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Name.
    pub name: String,
    /// `table`, `view`, `file`, `folder`.
    pub kind: String,
    /// Rows as the store estimates them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_estimate: Option<u64>,
    /// Bytes, where the store tells cheaply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// A column in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedColumn {
    /// Name.
    pub name: String,
    /// The store's own type name.
    pub type_name: String,
    /// The kind it is carried in.
    pub kind: crate::Kind,
    /// Whether NULL may occur.
    pub nullable: bool,
    /// Whether it belongs to the primary key.
    pub key: bool,
}

/// A store and what of it is meant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The store and how to log in.
    pub store: StoreRef,
    /// Table, query or files.
    pub object: StoreObject,
    /// The file format, for byte stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FormatSpec>,
    /// Column names and interim types the author declared (`structure`, `schema`), in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<DeclaredColumn>,
}

/// A store: which connector, its settings without secrets, and its secrets as an envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// Connector name in the catalog: `postgres`, `sqlite`, `file`, `azblob`.
    pub store: String,
    /// Linked service name, for messages; absent for `dmg copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked_service: Option<String>,
    /// The connector's settings, without secrets.
    pub settings: Map<String, Value>,
    /// The envelope text of the secrets. Opened by the host only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<String>,
    /// What the envelope must be bound to; recomputed from the settings by the opener.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binding: BTreeMap<String, String>,
}

/// What inside a store is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum StoreObject {
    /// A table or view.
    Table {
        /// Schema; the store's default where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<String>,
        /// Name.
        table: String,
    },
    /// A query in the store's own language.
    Query {
        /// The text, evaluated.
        text: String,
    },
    /// One file, or the files of a folder.
    Files {
        /// Folder relative to the store's root; for blobs `container/folder`. Empty means the root.
        folder: String,
        /// File name; absent means all files of the folder (source) or one per part (sink).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// Whether sub-folders are read.
        #[serde(default)]
        recursive: bool,
    },
}

/// A column the author declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredColumn {
    /// Name.
    pub name: String,
    /// Kind, where a type was declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<crate::Kind>,
    /// .NET format of its text, as `dd/MM/yyyy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Culture of its text, as `fr-fr`; absent: invariant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub culture: Option<String>,
}

impl DeclaredColumn {
    /// A column of which only the name is declared.
    pub fn named(name: impl Into<String>) -> Self {
        DeclaredColumn { name: name.into(), kind: None, format: None, culture: None }
    }
}

/// One line of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnMapping {
    /// Column name in the source.
    pub source: String,
    /// Column name in the sink.
    pub sink: String,
    /// Kind the author wants in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<crate::Kind>,
    /// .NET format by which text is read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Culture by which text is read or written; absent: invariant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub culture: Option<String>,
}

impl ColumnMapping {
    /// A line that only names.
    pub fn named(source: impl Into<String>, sink: impl Into<String>) -> Self {
        ColumnMapping { source: source.into(), sink: sink.into(), kind: None, format: None, culture: None }
    }
}

/// A file format with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "camelCase")]
pub enum FormatSpec {
    /// Delimited text.
    Text(TextFormat),
    /// Apache Parquet.
    Parquet(ParquetFormat),
}

/// Delimited text. Defaults are those of version 1 `TextFormat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TextFormat {
    /// Between columns.
    pub column_delimiter: String,
    /// Between rows; absent: written as `\r\n`, read as any of `\r\n`, `\r`, `\n`.
    pub row_delimiter: Option<String>,
    /// Makes the next character plain. Not together with `quote_char`, unless it doubles the quote (version 2).
    pub escape_char: Option<char>,
    /// Encloses values.
    pub quote_char: Option<char>,
    /// What NULL is written as; on reading, each of these is NULL. The first is written.
    pub null_values: Vec<String>,
    /// .NET encoding name. Only UTF-8 now.
    pub encoding: String,
    /// First row holds the names.
    pub first_row_as_header: bool,
    /// Lines to skip before the header.
    pub skip_lines: u32,
    /// An empty value is read as NULL.
    pub empty_as_null: bool,
    /// Quote every value that is not NULL, so that empty text and NULL differ.
    pub quote_all: bool,
}

impl Default for TextFormat {
    fn default() -> Self {
        TextFormat {
            column_delimiter: ",".into(),
            row_delimiter: None,
            escape_char: None,
            quote_char: None,
            null_values: vec!["\\N".into(), "NULL".into()],
            encoding: "utf-8".into(),
            first_row_as_header: false,
            skip_lines: 0,
            empty_as_null: true,
            quote_all: false,
        }
    }
}

impl TextFormat {
    /// The profile of `dmg copy` without a dataset: everything a column can hold reads back as it was. Comma,
    /// `\n`, every value quoted with doubled quotes, NULL as nothing between the delimiters, a header.
    pub fn lossless() -> Self {
        TextFormat {
            row_delimiter: Some("\n".into()),
            quote_char: Some('"'),
            escape_char: Some('"'),
            null_values: vec![String::new()],
            first_row_as_header: true,
            empty_as_null: false,
            quote_all: true,
            ..TextFormat::default()
        }
    }
}

/// Parquet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ParquetFormat {
    /// Compression of written files.
    pub compression: ParquetCompression,
}

/// Compression of Parquet pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ParquetCompression {
    /// Uncompressed.
    None,
    /// Snappy, the original's default.
    #[default]
    Snappy,
    /// Zstandard, level 1.
    Zstd,
}

/// The rows of a target that one slice owns: those with this value in this column. The sink gives it to the rows it
/// writes; the source has no such column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slice {
    /// Column name in the sink.
    pub column: String,
    /// 64 hex digits: a hash of what identifies the slice. A binary column takes 32 bytes, a text column the digits.
    pub value: String,
}

/// A stored procedure that takes rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteProcedure {
    /// Its name, with or without schema.
    pub name: String,
    /// The table type of its table parameter (SQL Server); elsewhere it is called once per row, with a parameter per
    /// column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_type: Option<String>,
    /// Name of the table parameter; absent: the name of the target dataset's table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_parameter: Option<String>,
    /// Further parameters, the same for all rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ProcedureParameter>,
}

/// A column the copy adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddedColumn {
    /// Name, as a column of the source would have.
    pub name: String,
    /// What it holds.
    pub value: AddedValue,
}

/// What an added column holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum AddedValue {
    /// The same text in every row: a literal, the start of the slice, an evaluated expression.
    Text {
        /// The text.
        text: String,
    },
    /// The id of the activity run.
    RunId,
    /// Path of the file the row came from; NULL where there is none.
    SourceFile,
    /// Number of the row in its part, from 1; in its file, for files.
    RowNumber,
    /// The value of another column of the source.
    Column {
        /// Its name.
        column: String,
    },
}

/// What to do when the source has columns that the target does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Drift {
    /// Refuse the plan.
    #[default]
    Refuse,
    /// Add the columns to the target, nullable, in the commit transaction.
    Add,
}

/// What the author says about values that change their kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TypeConversion {
    /// Every column may lose digits, parts of a second or day, a UTC offset, or the end of a text.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_truncation: bool,
    /// True and false may become 1 and 0, and numbers booleans.
    #[serde(skip_serializing_if = "is_default")]
    pub boolean_as_number: bool,
    /// Culture of texts, as `fr-fr`; absent: invariant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub culture: Option<String>,
    /// .NET format of dates in texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date_format: Option<String>,
    /// .NET format of timestamps in texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_format: Option<String>,
    /// .NET format of instants in texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instant_format: Option<String>,
    /// .NET format of times of day in texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_format: Option<String>,
    /// Kinds that columns (sink names) are handed over as, whatever the source holds them as.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, crate::Kind>,
}

/// How many rows may be left out, and where they go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Tolerance {
    /// Most rows left out; absent: no limit by count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_max: Option<u64>,
    /// Largest share of rows left out, 0 to 1; absent: no limit by share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_max: Option<f64>,
    /// Store and folder that rows left out are written to; absent: they are only counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Box<Redirect>>,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Options of one copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CopyOptions {
    /// What happens to what is already in the target.
    pub mode: WriteMode,
    /// Columns (sink names) that identify a row, for mode `upsert`; empty: the target's primary key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// The slice that is replaced, for mode `slice`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<Slice>,
    /// The procedure that takes the rows, for mode `procedure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub procedure: Option<WriteProcedure>,
    /// Rows of one write to the server, where the store writes in batches; absent: chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_rows: Option<u32>,
    /// Seconds one write may take; absent: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_timeout_seconds: Option<u64>,
    /// Longest wait for an answer of the source, such as the first rows of a query. Absent: the default; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_timeout_millis: Option<u64>,
    /// Longest wait for an answer of the sink, such as the end of the commit. Absent: the default; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_timeout_millis: Option<u64>,
    /// Longest silence of a store in the middle of rows. Absent: the default; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_timeout_millis: Option<u64>,
    /// Columns the copy adds to what it reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<AddedColumn>,
    /// What to do when the source has columns that the target does not.
    #[serde(skip_serializing_if = "is_default")]
    pub drift: Drift,
    /// What the author says about values that change their kind.
    #[serde(skip_serializing_if = "is_default")]
    pub conversion: TypeConversion,
    /// Whether rows that do not fit are left out, and how many; absent: the first one stops the copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Tolerance>,
    /// The log of the copy, which rows left out are told in instead of a redirect file; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Box<SessionLog>>,
    /// Most rows a second; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_per_second: Option<u64>,
    /// Most bytes a second, as the source counts them; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// How far to prove.
    pub verify: VerifyLevel,
    /// Upper bound of parts read at once; absent: chosen.
    pub parallel: Option<u32>,
    /// Memory budget in MiB.
    pub memory_mib: u32,
    /// Columns (sink names) that may be lossy by the author's word.
    pub allow_lossy: Vec<String>,
    /// SQL run in the commit transaction before rows become visible.
    pub pre_copy_script: Option<String>,
    /// Whether a missing target table is created.
    pub create_table: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions {
            mode: WriteMode::Append,
            keys: Vec::new(),
            slice: None,
            procedure: None,
            batch_rows: None,
            batch_timeout_seconds: None,
            query_timeout_millis: None,
            commit_timeout_millis: None,
            stall_timeout_millis: None,
            added: Vec::new(),
            drift: Drift::Refuse,
            conversion: TypeConversion::default(),
            tolerance: None,
            log: None,
            rows_per_second: None,
            bytes_per_second: None,
            verify: VerifyLevel::Transferred,
            parallel: None,
            memory_mib: 256,
            allow_lossy: Vec::new(),
            pre_copy_script: None,
            create_table: false,
        }
    }
}

impl CopyOptions {
    /// Whether a verdict on that column may stand.
    pub fn allows(&self, column: &str, verdict: Verdict) -> bool {
        verdict != Verdict::Lossy || self.allow_lossy.iter().any(|name| name == column)
    }

    /// Where rows left out are redirected to, without a log.
    pub fn redirect(&self) -> Option<&Redirect> {
        self.tolerance.as_ref().and_then(|tolerance| tolerance.redirect.as_deref())
    }

    /// The store of the file beside the target, where there is one.
    pub fn beside(&mut self) -> Option<&mut StoreRef> {
        let redirect = self.tolerance.as_mut().and_then(|tolerance| tolerance.redirect.as_mut());
        let log = self.log.as_mut().map(|log| &mut log.store);
        log.or(redirect.map(|redirect| &mut redirect.store))
    }
}
