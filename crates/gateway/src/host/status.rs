//! What the node can say about itself without asking the service: who it is, whether its host runs, what it is doing.

use std::path::Path;

use dmg_ambient::Ambient;
use dmg_protocol::Fault;
use serde::{Deserialize, Serialize};

use super::folder::{NodeFolder, read_json, write_json};
use super::journal::Journal;

const CONNECTION: &str = "connection.json";

/// How the host stands with the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "connection", rename_all = "camelCase")]
pub enum Connection {
    /// It polls and is answered.
    Connected,
    /// The service does not answer; the host goes on asking.
    Disconnected {
        /// Why, as far as is known.
        reason: String,
    },
    /// The service does not know the node any more.
    Refused {
        /// What was said.
        reason: String,
    },
    /// The host was stopped in order.
    Stopped,
}

#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    #[serde(flatten)]
    connection: Connection,
    since: String,
}

/// What `dmg node status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Node name.
    pub node: String,
    /// Gateway name.
    pub gateway: String,
    /// Factory name.
    pub factory: String,
    /// `host:port` of the service.
    pub endpoint: String,
    /// When it was registered.
    pub registered: String,
    /// Whether a host runs on the folder.
    pub host_running: bool,
    /// How it stands with the service; absent when no host runs.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// Since when, RFC 3339 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Thumbprint of the gateway certificate whose key is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_thumbprint: Option<String>,
    /// Jobs that run or whose end is not reported yet.
    pub jobs: Vec<String>,
}

/// Looks at a node's folder.
pub fn status(data: &Path) -> Result<NodeReport, Fault> {
    let folder = NodeFolder::open(data)?;
    let state = folder.state()?.ok_or_else(|| super::folder::not_registered(data))?;
    let record = state.record()?;
    let host_running = folder.lock()?.is_none();
    let noted: Option<Noted> = read_json(&folder.path().join(CONNECTION))?.filter(|_| host_running);
    let (connection, since) = noted.map(|noted| (noted.connection, noted.since)).unzip();
    Ok(NodeReport {
        node: record.node,
        gateway: record.gateway,
        factory: record.factory,
        endpoint: state.endpoint,
        registered: record.registered,
        host_running,
        connection,
        since,
        certificate_thumbprint: folder.credential_key()?.map(|key| key.certificate().thumbprint().to_owned()),
        jobs: Journal::new(&folder).entries().into_iter().map(|entry| entry.job_id.to_string()).collect(),
    })
}

/// Notes how the host stands with the service. It is for people to look at; failing to note it stops nothing.
pub(crate) fn note_connection(folder: &NodeFolder, ambient: &Ambient, connection: Connection) {
    let noted = Noted { connection, since: ambient.rfc3339() };
    if let Err(fault) = write_json(&folder.path().join(CONNECTION), &noted) {
        tracing::warn!("the state of the connection cannot be noted: {fault}");
    }
}
