//! The connector every table store is: a descriptor, and a function from settings to a connection. Naming a server or a
//! file opens nothing yet; sessions are opened as they are needed.

use std::sync::Arc;

use async_trait::async_trait;
use dmg_ambient::Ambient;
use dmg_connector::{Result, Session, TableConnection, TableConnector};
use dmg_protocol::Secrets;
use dmg_protocol::catalog::StoreDescriptor;
use serde_json::{Map, Value};

/// Checks the settings and joins them with secrets and session. It needs no network.
type Connect = fn(&Map<String, Value>, &Secrets, Session) -> Result<Arc<dyn TableConnection>>;

/// One table store.
pub(crate) struct Connector {
    pub(crate) descriptor: &'static StoreDescriptor,
    pub(crate) connection: Connect,
}

#[async_trait]
impl TableConnector for Connector {
    fn descriptor(&self) -> &'static StoreDescriptor {
        self.descriptor
    }

    fn validate(&self, settings: &Map<String, Value>) -> Result<()> {
        let session = Session::new(Ambient::real(), "dmg/validate");
        (self.connection)(settings, &Secrets::none(), session).map(drop)
    }

    async fn open(
        &self,
        settings: &Map<String, Value>,
        secrets: &Secrets,
        session: Session,
    ) -> Result<Arc<dyn TableConnection>> {
        (self.connection)(settings, secrets, session)
    }
}
