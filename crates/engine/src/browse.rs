//! Looks into a store: schemas, tables, columns, the first rows. Changes nothing, and everything it answers is bounded.

use std::collections::BTreeMap;

use arrow_array::{Array, RecordBatch};
use dmg_connector::{BatchLimits, Column, Result, Session, Source, text_form};
use dmg_protocol::Secrets;
use dmg_protocol::job::{
    Browse, BrowseJob, Endpoint, FormatSpec, LISTING_MAX, ListedColumn, ListedTable, Listing, PREVIEW_ROWS_MAX,
    PREVIEW_VALUE_CHARS_MAX, ParquetFormat, StoreObject, TextFormat,
};
use futures::StreamExt;

use crate::open::{self, Stores, unknown};
use crate::retry::retrying;

/// Rows a part of a previewed table should have: the first one is all that is read, usually not to its end.
const ROWS_PER_PART: u64 = 100_000;
/// Bytes of one batch of a preview.
const BATCH_BYTES: usize = 4 << 20;
/// Largest value that is looked at; a larger one is refused, not cut, since it would have to be read whole.
const VALUE_BYTES: usize = 64 << 20;
/// Most text of one preview; rows beyond are left out.
const PREVIEW_BYTES_MAX: usize = 4 << 20;

/// Looks. The secrets are the store's.
pub async fn browse(stores: &dyn Stores, job: &BrowseJob, secrets: &Secrets, session: Session) -> Result<Listing> {
    match &job.browse {
        Browse::Columns { object } | Browse::Preview { object, .. } => {
            let mut endpoint = Endpoint {
                store: job.store.clone(),
                object: object.clone(),
                format: job.format.clone(),
                declared: Vec::new(),
            };
            if endpoint.format.is_none() {
                endpoint.format = format_by_name(object);
            }
            match job.browse {
                Browse::Preview { rows, .. } => preview(stores, &endpoint, secrets, session, rows).await,
                _ => columns(stores, &endpoint, secrets, session).await,
            }
        }
        Browse::Schemas | Browse::Tables { .. } => {
            if stores.tables(&job.store.store).is_some() {
                tables(stores, job, secrets, session).await
            } else {
                files(stores, job, secrets, session).await
            }
        }
    }
}

/// Schemas or tables of a table store.
async fn tables(stores: &dyn Stores, job: &BrowseJob, secrets: &Secrets, session: Session) -> Result<Listing> {
    let connector = stores.tables(&job.store.store).ok_or_else(|| unknown(&job.store.store))?;
    connector.validate(&job.store.settings)?;
    let ambient = session.ambient.clone();
    retrying(&ambient, "browse", || async {
        let connection = connector.open(&job.store.settings, secrets, session.clone()).await?;
        Ok(match &job.browse {
            Browse::Tables { schema } => {
                let (tables, more) = cut(connection.tables(schema.as_deref(), LISTING_MAX + 1).await?);
                Listing::Tables { tables, more }
            }
            _ => {
                let (names, more) = cut(connection.schemas().await?);
                Listing::Schemas { names, more }
            }
        })
    })
    .await
}

/// Root folders, or what is in a folder, of a byte store. A byte store knows files only; folders are what their paths
/// begin with.
async fn files(stores: &dyn Stores, job: &BrowseJob, secrets: &Secrets, session: Session) -> Result<Listing> {
    let connector = stores.files(&job.store.store).ok_or_else(|| unknown(&job.store.store))?;
    connector.validate(&job.store.settings)?;
    let folder = match &job.browse {
        Browse::Tables { schema: Some(folder) } => folder.trim_matches('/').to_owned(),
        _ => String::new(),
    };
    let ambient = session.ambient.clone();
    let entries = retrying(&ambient, "browse", || async {
        connector.open(&job.store.settings, secrets, session.clone()).await?.list(&folder, true).await
    })
    .await?;
    let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut folders: BTreeMap<&str, u64> = BTreeMap::new();
    let mut listed = Vec::new();
    let schema = (!folder.is_empty()).then(|| folder.clone());
    for entry in &entries {
        let Some(rest) = entry.path.strip_prefix(&start) else { continue };
        match rest.split_once('/') {
            Some((name, _)) => *folders.entry(name).or_default() += entry.size,
            None => listed.push(ListedTable {
                schema: schema.clone(),
                name: rest.to_owned(),
                kind: "file".to_owned(),
                rows_estimate: None,
                bytes: Some(entry.size),
            }),
        }
    }
    if job.browse == Browse::Schemas {
        let (names, more) = cut(folders.into_keys().map(str::to_owned).collect());
        return Ok(Listing::Schemas { names, more });
    }
    listed.extend(folders.into_iter().map(|(name, bytes)| ListedTable {
        schema: schema.clone(),
        name: name.to_owned(),
        kind: "folder".to_owned(),
        rows_estimate: None,
        bytes: Some(bytes),
    }));
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let (tables, more) = cut(listed);
    Ok(Listing::Tables { tables, more })
}

fn cut<T>(mut all: Vec<T>) -> (Vec<T>, bool) {
    let more = all.len() > LISTING_MAX;
    all.truncate(LISTING_MAX);
    (all, more)
}

async fn columns(stores: &dyn Stores, endpoint: &Endpoint, secrets: &Secrets, session: Session) -> Result<Listing> {
    let store = &endpoint.store;
    let columns = match stores.tables(&store.store) {
        Some(connector) => {
            connector.validate(&store.settings)?;
            let ambient = session.ambient.clone();
            retrying(&ambient, "browse", || async {
                let connection = connector.open(&store.settings, secrets, session.clone()).await?;
                connection.describe(&endpoint.object).await
            })
            .await?
        }
        None => {
            let source = open::source(stores, endpoint, secrets, session, 1, ROWS_PER_PART).await?;
            source.columns().to_vec()
        }
    };
    Ok(Listing::Columns { columns: columns.iter().map(listed).collect() })
}

fn listed(column: &Column) -> ListedColumn {
    ListedColumn {
        name: column.name.clone(),
        type_name: column.type_name.clone(),
        kind: column.kind,
        nullable: column.nullable,
        key: column.key,
    }
}

async fn preview(
    stores: &dyn Stores,
    endpoint: &Endpoint,
    secrets: &Secrets,
    session: Session,
    rows: u32,
) -> Result<Listing> {
    let wanted = rows.clamp(1, PREVIEW_ROWS_MAX) as usize;
    let source = open::source(stores, endpoint, secrets, session, 1, ROWS_PER_PART).await?;
    let columns: Vec<ListedColumn> = source.columns().iter().map(listed).collect();
    let rows = first_rows(source.as_ref(), wanted).await?;
    Ok(Listing::Preview { columns, rows })
}

/// The first rows: part after part until there are enough. Dropping the stream ends the read at the store.
async fn first_rows(source: &dyn Source, wanted: usize) -> Result<Vec<Vec<Option<String>>>> {
    let limits = BatchLimits { rows: wanted, bytes: BATCH_BYTES, value_bytes: VALUE_BYTES };
    let mut rows = Vec::new();
    let mut room = PREVIEW_BYTES_MAX;
    for part in source.parts() {
        let mut batches = source.read(part, limits).await?;
        while rows.len() < wanted
            && let Some(batch) = batches.next().await
        {
            let batch = batch?;
            for row in 0..batch.num_rows().min(wanted - rows.len()) {
                let texts = row_texts(&batch, source.columns(), row);
                let size: usize = texts.iter().map(|text| text.as_ref().map_or(8, |text| text.len() + 8)).sum();
                let Some(left) = room.checked_sub(size) else { return Ok(rows) };
                room = left;
                rows.push(texts);
            }
        }
        if rows.len() >= wanted {
            break;
        }
    }
    Ok(rows)
}

/// One row as texts, each cut.
pub(crate) fn row_texts(batch: &RecordBatch, columns: &[Column], row: usize) -> Vec<Option<String>> {
    columns
        .iter()
        .zip(batch.columns())
        .map(|(column, array)| {
            let text = text_form::array_to_text(&array.slice(row, 1), column.kind);
            text.is_valid(0).then(|| cut_text(text.value(0)))
        })
        .collect()
}

/// At most so many characters, and a sign that there were more.
fn cut_text(text: &str) -> String {
    match text.char_indices().nth(PREVIEW_VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The format of a file by the ending of its name, as `dmg copy` takes it.
fn format_by_name(object: &StoreObject) -> Option<FormatSpec> {
    let StoreObject::Files { file: Some(file), .. } = object else { return None };
    match file.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
        "parquet" => Some(FormatSpec::Parquet(ParquetFormat::default())),
        "csv" | "txt" => Some(FormatSpec::Text(TextFormat::lossless())),
        "tsv" | "tab" => Some(FormatSpec::Text(TextFormat { column_delimiter: "\t".into(), ..TextFormat::lossless() })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_at_a_character() {
        assert_eq!(cut_text("kurz"), "kurz");
        let long = "é".repeat(PREVIEW_VALUE_CHARS_MAX + 5);
        let cut = cut_text(&long);
        assert_eq!(cut.chars().count(), PREVIEW_VALUE_CHARS_MAX + 1);
        assert!(cut.ends_with('…'));
    }
}
