//! SQLite, tables and queries, as source. Special is that a column's declared type binds no value: every value is
//! checked against the column's kind and refused by row if it is of another storage class. It does not write.

mod errors;
mod read;
mod settings;
mod types;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use dmg_connector::{Result, Session, Sink, SinkRequest, Source, TableConnection, TableConnector};
use dmg_protocol::catalog::{Capability, StoreDescriptor};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{Fault, Secrets};
use serde_json::{Map, Value};

/// What the catalog says of SQLite.
static DESCRIPTOR: StoreDescriptor = StoreDescriptor {
    name: "sqlite",
    title: "SQLite",
    family: "tables",
    v1_types: &["Sqlite"],
    v2_types: &["Sqlite"],
    settings: settings::SETTINGS,
    capabilities: &[Capability::ReadTable, Capability::ReadQuery, Capability::Probe],
};

/// The connector.
pub(crate) struct Sqlite;

#[async_trait]
impl TableConnector for Sqlite {
    fn descriptor(&self) -> &'static StoreDescriptor {
        &DESCRIPTOR
    }

    fn validate(&self, settings: &Map<String, Value>) -> Result<()> {
        settings::path(settings).map(drop)
    }

    async fn open(
        &self,
        settings: &Map<String, Value>,
        _secrets: &Secrets,
        _session: Session,
    ) -> Result<Arc<dyn TableConnection>> {
        Ok(Arc::new(Connection { path: settings::path(settings)? }))
    }
}

/// A database file that was named.
struct Connection {
    path: PathBuf,
}

#[async_trait]
impl TableConnection for Connection {
    async fn probe(&self) -> Result<String> {
        read::probe(self.path.clone()).await
    }

    async fn source(&self, object: &StoreObject, _lanes: usize, _rows_per_part: u64) -> Result<Box<dyn Source>> {
        Ok(Box::new(read::SqliteSource::open(self.path.clone(), object).await?))
    }

    async fn sink(&self, _request: SinkRequest) -> Result<Box<dyn Sink>> {
        Err(Fault::new("UserErrorNotSupported", "Writing into SQLite is not supported yet.").into())
    }
}
