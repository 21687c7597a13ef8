//! SQL Server, Azure SQL Database and Synapse, tables, queries and procedures, as source and sink. Special is that
//! the server speaks only its own protocol, for which a driver is used behind one trait (`driver.rs`), and that it
//! would round, cut or pad values in silence: every value is checked before it goes. It does not follow changes.

mod admit;
mod call;
mod carrier;
mod catalog;
mod cell;
mod commit;
mod connect;
mod decode;
mod driver;
mod encode;
mod errors;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod hold;
mod moment;
mod ntlm;
mod pool;
mod publish;
mod read;
mod route;
mod screen;
mod settings;
mod tds;
mod types;
mod variant;
mod windows;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use dmg_connector::{Column, Result, Session, Sink, SinkRequest, Source, TableConnection};
use dmg_protocol::catalog::{Capability, StoreDescriptor};
use dmg_protocol::job::{ListedTable, ProcedureCall, ProcedureOutcome, StoreObject};
use dmg_protocol::{Fault, Secrets};
use serde_json::{Map, Value};

use crate::connector::Connector;
use settings::Server;

/// What the catalog says of SQL Server.
static DESCRIPTOR: StoreDescriptor = StoreDescriptor {
    name: "sqlserver",
    title: "SQL Server",
    family: "tables",
    v1_types: &["OnPremisesSqlServer", "AzureSqlDatabase", "AzureSqlDW"],
    v2_types: &["SqlServer", "AzureSqlDatabase", "AzureSqlMI", "AzureSqlDW", "AmazonRdsForSqlServer"],
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
        let mut session = connect::connect(&self.server).await?;
        let sql = "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)), \
             CAST(SERVERPROPERTY('Edition') AS nvarchar(128))";
        let row = session.batch(sql).await?.into_iter().next().unwrap_or_default();
        let mut next = catalog::texts(row);
        Ok(format!("SQL Server {} ({})", next(), next()))
    }

    async fn source(&self, object: &StoreObject, lanes: usize, rows_per_part: u64) -> Result<Box<dyn Source>> {
        Ok(Box::new(read::SqlServerSource::open(self.server.clone(), object, lanes, rows_per_part).await?))
    }

    async fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        Ok(Box::new(write::SqlServerSink::open(self.server.clone(), request).await?))
    }

    async fn schemas(&self) -> Result<Vec<String>> {
        catalog::schemas(connect::connect(&self.server).await?.as_mut()).await
    }

    async fn tables(&self, schema: Option<&str>, limit: usize) -> Result<Vec<ListedTable>> {
        catalog::tables(connect::connect(&self.server).await?.as_mut(), schema, limit).await
    }

    async fn describe(&self, object: &StoreObject) -> Result<Vec<Column>> {
        let mut session = connect::connect(&self.server).await?;
        let columns = match object {
            StoreObject::Table { schema, table } => {
                let relation = catalog::relation(session.as_mut(), schema.as_deref(), table).await?;
                let missing = || catalog::missing(&self.server.place(), schema.as_deref(), table);
                catalog::table_columns(session.as_mut(), &relation.ok_or_else(missing)?).await?
            }
            StoreObject::Query { text } => catalog::query_columns(session.as_mut(), text).await?,
            StoreObject::Files { .. } => {
                return Err(Fault::new("UserErrorSettings", "SQL Server has tables, not files.").into());
            }
        };
        Ok(columns.into_iter().map(|column| column.column).collect())
    }

    async fn call(&self, call: &ProcedureCall) -> Result<ProcedureOutcome> {
        let mut session = connect::connect(&self.server).await?;
        call::call(session.as_mut(), call).await
    }
}
