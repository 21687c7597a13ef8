//! SQLite, tables and queries. Special is that a column's declared type binds no value: every value read is checked
//! against the column's kind and refused by row if it is of another storage class, and every value written is held
//! against what SQLite would make of it. It calls no procedures: there are none.

mod browse;
mod commit;
mod encode;
mod errors;
mod hold;
mod read;
mod screen;
mod settings;
mod target;
mod types;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use dmg_ambient::Ambient;
use dmg_connector::{Column, Result, Session, Sink, SinkRequest, Source, TableConnection};
use dmg_protocol::Secrets;
use dmg_protocol::catalog::{Capability, StoreDescriptor};
use dmg_protocol::job::{ListedTable, StoreObject};
use serde_json::{Map, Value};

use crate::connector::Connector;

/// What the catalog says of SQLite.
static DESCRIPTOR: StoreDescriptor = StoreDescriptor {
    name: "sqlite",
    title: "SQLite",
    family: "tables",
    v1_types: &["Sqlite"],
    v2_types: &["Sqlite"],
    settings: settings::SETTINGS,
    capabilities: &[
        Capability::ReadTable,
        Capability::ReadQuery,
        Capability::WriteAppend,
        Capability::WriteOverwrite,
        Capability::CreateTable,
        Capability::ReadStaged,
        Capability::ReadBack,
        Capability::Probe,
        Capability::WriteUpsert,
        Capability::WriteSlice,
        Capability::Browse,
    ],
};

/// The connector.
pub(crate) static STORE: Connector = Connector { descriptor: &DESCRIPTOR, connection };

fn connection(settings: &Map<String, Value>, _secrets: &Secrets, session: Session) -> Result<Arc<dyn TableConnection>> {
    Ok(Arc::new(Connection { path: settings::path(settings)?, ambient: session.ambient }))
}

/// A database file that was named.
struct Connection {
    path: PathBuf,
    ambient: Ambient,
}

#[async_trait]
impl TableConnection for Connection {
    async fn probe(&self) -> Result<String> {
        read::probe(self.path.clone()).await
    }

    async fn source(&self, object: &StoreObject, _lanes: usize, _rows_per_part: u64) -> Result<Box<dyn Source>> {
        Ok(Box::new(read::SqliteSource::open(self.path.clone(), object).await?))
    }

    async fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        Ok(Box::new(write::SqliteSink::open(self.path.clone(), self.ambient.clone(), request).await?))
    }

    async fn schemas(&self) -> Result<Vec<String>> {
        read::probe(self.path.clone()).await?;
        Ok(vec!["main".to_owned()])
    }

    async fn tables(&self, schema: Option<&str>, limit: usize) -> Result<Vec<ListedTable>> {
        browse::tables(self.path.clone(), schema, limit).await
    }

    async fn describe(&self, object: &StoreObject) -> Result<Vec<Column>> {
        Ok(read::SqliteSource::open(self.path.clone(), object).await?.columns().to_vec())
    }
}
