//! PostgreSQL, tables and queries, as source and sink. Special is that all parts of a copy read one exported
//! snapshot, and that rows come by binary COPY straight into Arrow columns, over a small protocol client of our own:
//! a driver's per-row work would cost more than the decoding. It does not follow changes.

mod binary;
mod browse;
mod cancel;
mod catalog;
mod checkpoint;
mod client;
mod commit;
mod connect;
mod decode;
mod encode;
mod errors;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod hold;
mod mark;
mod numeric;
mod publish;
mod read;
mod routine;
mod screen;
mod sessions;
mod settings;
mod shape;
mod tls;
mod types;
mod wire;
mod write;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use dmg_connector::{Column, Result, Session, Sink, SinkRequest, Source, TableConnection};
use dmg_protocol::Secrets;
use dmg_protocol::catalog::{Capability, StoreDescriptor};
use dmg_protocol::job::{ListedTable, ProcedureCall, ProcedureOutcome, StoreObject};
use serde_json::{Map, Value};

use crate::connector::Connector;
use settings::Server;

/// What the catalog says of PostgreSQL.
static DESCRIPTOR: StoreDescriptor = StoreDescriptor {
    name: "postgres",
    title: "PostgreSQL",
    family: "tables",
    v1_types: &["OnPremisesPostgreSql"],
    v2_types: &["PostgreSql", "PostgreSqlV2", "AzurePostgreSql"],
    settings: settings::SETTINGS,
    capabilities: &[
        Capability::ReadTable,
        Capability::ReadQuery,
        Capability::ReadParts,
        Capability::WriteAppend,
        Capability::WriteOverwrite,
        Capability::CreateTable,
        Capability::ReadStaged,
        Capability::ReadBack,
        Capability::Probe,
        Capability::WriteUpsert,
        Capability::WriteSlice,
        Capability::WriteProcedure,
        Capability::CallProcedure,
        Capability::Browse,
    ],
};

/// The connector.
pub(crate) static STORE: Connector = Connector { descriptor: &DESCRIPTOR, connection };

fn connection(settings: &Map<String, Value>, secrets: &Secrets, session: Session) -> Result<Arc<dyn TableConnection>> {
    Ok(Arc::new(Connection { server: Server::new(settings, secrets, session)? }))
}

/// A server that was named; sessions are opened as they are needed.
struct Connection {
    server: Arc<Server>,
}

#[async_trait]
impl TableConnection for Connection {
    async fn probe(&self) -> Result<String> {
        let client = connect::connect(&self.server).await?;
        Ok(format!("PostgreSQL {}", client.version_text))
    }

    async fn source(&self, object: &StoreObject, lanes: usize, rows_per_part: u64) -> Result<Box<dyn Source>> {
        Ok(Box::new(read::PostgresSource::open(self.server.clone(), object, lanes, rows_per_part).await?))
    }

    async fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        Ok(Box::new(write::PostgresSink::open(self.server.clone(), request).await?))
    }

    async fn schemas(&self) -> Result<Vec<String>> {
        browse::schemas(&mut connect::connect(&self.server).await?).await
    }

    async fn tables(&self, schema: Option<&str>, limit: usize) -> Result<Vec<ListedTable>> {
        browse::tables(&mut connect::connect(&self.server).await?, schema, limit).await
    }

    async fn describe(&self, object: &StoreObject) -> Result<Vec<Column>> {
        browse::describe(&mut connect::connect(&self.server).await?, object).await
    }

    async fn call(&self, call: &ProcedureCall) -> Result<ProcedureOutcome> {
        routine::call(&mut connect::connect(&self.server).await?, call).await
    }
}
