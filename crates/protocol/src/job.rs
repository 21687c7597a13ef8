//! What a gateway is asked to do, fully evaluated: nothing here knows version 1 from version 2 or an expression
//! from a value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Verdict, VerifyLevel, WriteMode};

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Job {
    /// Move data from one store to another.
    Copy(Box<CopyJob>),
    /// Connect to a store and say whether it works.
    Probe(Box<ProbeJob>),
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
}

/// One line of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnMapping {
    /// Column name in the source.
    pub source: String,
    /// Column name in the sink.
    pub sink: String,
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

/// Options of one copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CopyOptions {
    /// Append or overwrite.
    pub mode: WriteMode,
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
}
