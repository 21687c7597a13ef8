//! MariaDB and MySQL, tables and queries, as source and sink. Special is that rows come as text and go straight into
//! Arrow columns over a small protocol client of our own, that DDL commits by itself, and that sessions have no name.
//! It does not follow changes and does not alter tables, except to add columns where the author says so.
//!
//! **Whose session is it.** There is no application name, and the performance schema that would show connection
//! attributes is off by default in MariaDB. So every session of a sink holds a user lock for as long as it lives:
//! `dmg_<run>_<epoch>_<slot>`. `IS_USED_LOCK` tells a successor which session that is; it ends it by `KILL`, and waits
//! for the end by asking for the lock itself. The server gives the lock back when the session ends, however it ends.
//!
//! **How a copy becomes visible.** *swap*: the staging table is a complete table, its comment becomes the mark, and one
//! `RENAME TABLE` puts it in the target's place. *staged*: rows and mark in one InnoDB transaction. A lower epoch cannot
//! commit either way once its staging table is gone, which is what a successor sees to first.

mod auth;
mod browse;
mod call;
mod calls;
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
mod parse;
mod publish;
mod read;
mod screen;
mod sessions;
mod settings;
mod shape;
mod types;
mod wire;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use dmg_connector::{Column, Result, Session, Sink, SinkRequest, Source, TableConnection};
use dmg_protocol::Secrets;
use dmg_protocol::catalog::{Capability, StoreDescriptor};
use dmg_protocol::job::{ListedTable, ProcedureCall, ProcedureOutcome, StoreObject};
use serde_json::{Map, Value};

use crate::connector::Connector;
use settings::Server;

/// What the catalog says of MariaDB and MySQL.
static DESCRIPTOR: StoreDescriptor = StoreDescriptor {
    name: "mysql",
    title: "MariaDB and MySQL",
    family: "tables",
    v1_types: &["OnPremisesMySql"],
    v2_types: &["MySql", "MariaDB", "AzureMySql", "AzureMariaDB"],
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
        let client = connect::connect(&self.server, connect::Purpose::Read).await?;
        let product = if client.version.mariadb { "MariaDB" } else { "MySQL" };
        Ok(format!("{product} {}", client.version.text))
    }

    async fn source(&self, object: &StoreObject, lanes: usize, rows_per_part: u64) -> Result<Box<dyn Source>> {
        Ok(Box::new(read::MySqlSource::open(self.server.clone(), object, lanes, rows_per_part).await?))
    }

    async fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        Ok(Box::new(write::MySqlSink::open(self.server.clone(), request).await?))
    }

    async fn schemas(&self) -> Result<Vec<String>> {
        browse::schemas(&self.server).await
    }

    async fn tables(&self, schema: Option<&str>, limit: usize) -> Result<Vec<ListedTable>> {
        browse::tables(&self.server, schema, limit).await
    }

    async fn describe(&self, object: &StoreObject) -> Result<Vec<Column>> {
        browse::describe(&self.server, object).await
    }

    async fn call(&self, call: &ProcedureCall) -> Result<ProcedureOutcome> {
        call::call(&self.server, call).await
    }
}
