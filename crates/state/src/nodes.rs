//! Nodes: who may speak for a gateway. A node that is not here is cut off.

use dmg_protocol::channel::NodeStatus;
use dmg_protocol::{GatewayId, NodeId};
use rusqlite::{OptionalExtension as _, Row, params};

use crate::schema::{json, parse_some};
use crate::{Moment, Result, State};

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its id; a node that registers again gets a new one.
    pub id: NodeId,
    /// Its gateway.
    pub gateway: GatewayId,
    /// Name.
    pub name: String,
    /// Machine.
    pub machine: String,
    /// Ed25519 public key, base64url.
    pub public_key: String,
    /// Program and version.
    pub program: String,
    /// When it registered.
    pub registered: Moment,
    /// When it last opened a session after a pause.
    pub last_start: Option<Moment>,
    /// When it was last heard of; written now and then, not with every word.
    pub last_connect: Option<Moment>,
    /// What it last said about itself.
    pub status: Option<NodeStatus>,
    /// The operator's limit of concurrent jobs.
    pub jobs_limit: Option<u32>,
}

const COLUMNS: &str =
    "id, gateway, name, machine, public_key, program, registered, last_start, last_connect, status, jobs_limit";

fn read(row: &Row<'_>) -> rusqlite::Result<(Node, Option<String>)> {
    let node = Node {
        id: NodeId::new(row.get::<_, String>(0)?),
        gateway: GatewayId::new(row.get::<_, String>(1)?),
        name: row.get(2)?,
        machine: row.get(3)?,
        public_key: row.get(4)?,
        program: row.get(5)?,
        registered: row.get(6)?,
        last_start: row.get(7)?,
        last_connect: row.get(8)?,
        status: None,
        jobs_limit: row.get(10)?,
    };
    Ok((node, row.get(9)?))
}

fn whole((mut node, status): (Node, Option<String>)) -> Result<Node> {
    node.status = parse_some("node status", status)?;
    Ok(node)
}

impl State {
    /// Registers a node. One of the same name in the same gateway is replaced: its key opens nothing any more.
    pub async fn put_node(&self, node: Node) -> Result<()> {
        self.write(move |t| {
            t.execute("DELETE FROM nodes WHERE gateway = ?1 AND name = ?2", [node.gateway.as_str(), &node.name])?;
            t.execute(
                "INSERT INTO nodes (id, gateway, name, machine, public_key, program, registered, jobs_limit)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    node.id.as_str(),
                    node.gateway.as_str(),
                    node.name,
                    node.machine,
                    node.public_key,
                    node.program,
                    node.registered,
                    node.jobs_limit
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// The node of that id.
    pub async fn node(&self, id: &NodeId) -> Result<Option<Node>> {
        let id = id.to_string();
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM nodes WHERE id = ?1");
            t.prepare_cached(&sql)?.query_row([id], read).optional()?.map(whole).transpose()
        })
        .await
    }

    /// The nodes of a gateway, in the order they registered.
    pub async fn nodes(&self, gateway: &GatewayId) -> Result<Vec<Node>> {
        let gateway = gateway.to_string();
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM nodes WHERE gateway = ?1 ORDER BY registered, name");
            let rows: Vec<_> = t.prepare_cached(&sql)?.query_map([gateway], read)?.collect::<rusqlite::Result<_>>()?;
            rows.into_iter().map(whole).collect()
        })
        .await
    }

    /// Notes that a node was heard of.
    pub async fn note_node(
        &self,
        id: &NodeId,
        status: Option<NodeStatus>,
        program: Option<String>,
        started: bool,
        now: Moment,
    ) -> Result<()> {
        let id = id.to_string();
        self.write(move |t| {
            t.execute(
                "UPDATE nodes SET last_connect = ?2, status = coalesce(?3, status), program = coalesce(?4, program),
                   last_start = CASE WHEN ?5 THEN ?2 ELSE last_start END WHERE id = ?1",
                params![id, now, status.map(|status| json(&status)), program, started],
            )?;
            Ok(())
        })
        .await
    }

    /// Sets the operator's limit of concurrent jobs.
    pub async fn limit_node(&self, id: &NodeId, limit: u32) -> Result<bool> {
        let id = id.to_string();
        self.write(move |t| Ok(t.execute("UPDATE nodes SET jobs_limit = ?2 WHERE id = ?1", params![id, limit])? > 0))
            .await
    }

    /// Cuts one node off; says whether it was there.
    pub async fn delete_node(&self, id: &NodeId) -> Result<bool> {
        let id = id.to_string();
        self.write(move |t| Ok(t.execute("DELETE FROM nodes WHERE id = ?1", [id])? > 0)).await
    }

    /// Cuts all nodes of a gateway off; says which.
    pub async fn delete_nodes(&self, gateway: &GatewayId) -> Result<Vec<NodeId>> {
        let gateway = gateway.to_string();
        self.write(move |t| {
            let ids: Vec<String> = t
                .prepare("DELETE FROM nodes WHERE gateway = ?1 RETURNING id")?
                .query_map([gateway], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(ids.into_iter().map(NodeId::new).collect())
        })
        .await
    }
}
