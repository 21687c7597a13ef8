//! Linked services, datasets and pipelines as sent, secrets already replaced by envelopes. One name space per kind
//! and factory over both dialects.

use dmg_protocol::FactoryId;
use rusqlite::{OptionalExtension as _, Row, params};
use serde_json::Value;

use crate::schema::{json, next, parse};
use crate::{Error, Moment, Result, State};

/// Where a document is. `kind` is `linkedservice`, `dataset` or `pipeline`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentKey {
    /// Its factory.
    pub factory: FactoryId,
    /// What it defines.
    pub kind: &'static str,
    /// Name, matched without case.
    pub name: String,
}

/// A document to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDocument {
    /// Where.
    pub key: DocumentKey,
    /// `v1` or `v2`.
    pub dialect: &'static str,
    /// The document.
    pub body: Value,
}

/// A stored document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it defines.
    pub kind: String,
    /// Name as first written.
    pub name: String,
    /// `v1` or `v2`.
    pub dialect: String,
    /// The document.
    pub body: Value,
    /// Grows with every change.
    pub etag: i64,
    /// When it was first stored.
    pub created: Moment,
}

const COLUMNS: &str = "kind, name, dialect, body, etag, created";

fn read(row: &Row<'_>) -> rusqlite::Result<(Document, String)> {
    let document = Document {
        kind: row.get(0)?,
        name: row.get(1)?,
        dialect: row.get(2)?,
        body: Value::Null,
        etag: row.get(4)?,
        created: row.get(5)?,
    };
    Ok((document, row.get(3)?))
}

fn whole((mut document, body): (Document, String)) -> Result<Document> {
    document.body = parse("document", &body)?;
    Ok(document)
}

impl State {
    /// The document at that place.
    pub async fn document(&self, key: &DocumentKey) -> Result<Option<Document>> {
        let key = key.clone();
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM documents WHERE factory = ?1 AND kind = ?2 AND name = ?3");
            t.prepare_cached(&sql)?
                .query_row([key.factory.as_str(), key.kind, &key.name], read)
                .optional()?
                .map(whole)
                .transpose()
        })
        .await
    }

    /// All documents of a factory, by kind and name.
    pub async fn documents(&self, factory: &FactoryId) -> Result<Vec<Document>> {
        let factory = factory.to_string();
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM documents WHERE factory = ?1 ORDER BY kind, name");
            let rows: Vec<_> = t.prepare_cached(&sql)?.query_map([factory], read)?.collect::<rusqlite::Result<_>>()?;
            rows.into_iter().map(whole).collect()
        })
        .await
    }

    /// Stores a document. `expect` is the etag it must still have; `base` the one its content was worked out from, so
    /// that two writers cannot overtake each other between reading and writing.
    pub async fn put_document(
        &self,
        new: NewDocument,
        expect: Option<i64>,
        base: Option<i64>,
        now: Moment,
    ) -> Result<Document> {
        self.write(move |t| {
            let NewDocument { key, dialect, body } = new;
            let before: Option<(i64, String)> = t
                .query_row(
                    "SELECT etag, dialect FROM documents WHERE factory = ?1 AND kind = ?2 AND name = ?3",
                    [key.factory.as_str(), key.kind, &key.name],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            if before.as_ref().is_some_and(|(_, have)| have != dialect) {
                return Err(Error::Taken);
            }
            let etag = before.map(|(etag, _)| etag);
            if expect.is_some() && expect != etag || base != etag {
                return Err(Error::Changed);
            }
            let sql = format!(
                "INSERT INTO documents (factory, kind, name, dialect, body, etag, created, changed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
                 ON CONFLICT (factory, kind, name)
                 DO UPDATE SET body = excluded.body, etag = excluded.etag, changed = excluded.changed
                 RETURNING {COLUMNS}"
            );
            whole(t.query_row(
                &sql,
                params![key.factory.as_str(), key.kind, key.name, dialect, json(&body), next(t, "etag")?, now],
                read,
            )?)
        })
        .await
    }

    /// Deletes a document; says whether it was there.
    pub async fn delete_document(&self, key: &DocumentKey) -> Result<bool> {
        let key = key.clone();
        self.write(move |t| {
            let count = t.execute(
                "DELETE FROM documents WHERE factory = ?1 AND kind = ?2 AND name = ?3",
                [key.factory.as_str(), key.kind, &key.name],
            )?;
            Ok(count > 0)
        })
        .await
    }
}
