//! A registered node at work: everything its tasks share. It is rebuilt when the node is registered anew.

use std::sync::Arc;

use dmg_ambient::Ambient;
use dmg_protocol::{Fault, NodeRecord, Signed};

use super::channel::{Channel, Parties};
use super::folder::{NodeFolder, NodeState, not_registered};
use super::journal::Journal;
use super::load::Meter;
use super::process::{Spawner, WorkerProgram};
use super::vault::Vault;

/// What the tasks of a node share.
pub(crate) struct Node {
    pub(crate) ambient: Ambient,
    pub(crate) channel: Arc<Channel>,
    pub(crate) record: NodeRecord,
    pub(crate) record_signed: Signed,
    pub(crate) vault: Vault,
    pub(crate) journal: Journal,
    pub(crate) spawner: Spawner,
    pub(crate) program: WorkerProgram,
    pub(crate) meter: Meter,
}

impl Node {
    /// Reads who the node is from its folder.
    pub(crate) fn load(
        folder: &NodeFolder,
        ambient: &Ambient,
        spawner: Spawner,
        program: WorkerProgram,
    ) -> Result<(Self, NodeState), Fault> {
        let state = folder.state()?.ok_or_else(|| not_registered(folder.path()))?;
        let record = state.record()?;
        let channel = Arc::new(channel(folder, &state, &record, ambient)?);
        let node = Node {
            ambient: ambient.clone(),
            channel,
            record,
            record_signed: state.record.clone(),
            vault: Vault::new(folder.clone()),
            journal: Journal::new(folder),
            spawner,
            program,
            meter: Meter::default(),
        };
        Ok((node, state))
    }
}

/// The channel of a registered node.
pub(crate) fn channel(
    folder: &NodeFolder,
    state: &NodeState,
    record: &NodeRecord,
    ambient: &Ambient,
) -> Result<Channel, Fault> {
    let parties = Parties {
        endpoint: state.endpoint.clone(),
        extra_ca: state.extra_ca.clone(),
        service_key: state.service_key.clone(),
        node_id: record.node_id.clone(),
        identity: folder.identity()?,
    };
    Ok(Channel::new(ambient.clone(), parties))
}
