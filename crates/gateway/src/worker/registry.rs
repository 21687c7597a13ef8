//! Joins table stores, byte stores and formats for the engine. Nothing else knows them all.

use std::sync::Arc;

use dmg_connector::{ByteStoreConnector, Format, TableConnector};
use dmg_engine::Stores;
use dmg_protocol::Fault;
use dmg_protocol::catalog::StoreDescriptor;
use dmg_protocol::job::FormatSpec;

/// Every store and format of this program.
#[derive(Debug, Clone, Copy, Default)]
pub struct Registry;

impl Stores for Registry {
    fn tables(&self, name: &str) -> Option<&dyn TableConnector> {
        dmg_tables::STORES.iter().find(|store| store.descriptor().name == name).copied()
    }

    fn files(&self, name: &str) -> Option<&dyn ByteStoreConnector> {
        dmg_files::STORES.iter().find(|store| store.descriptor().name == name).copied()
    }

    fn format(&self, spec: &FormatSpec) -> Result<Arc<dyn Format>, Fault> {
        dmg_formats::open(spec)
    }
}

/// The catalog: what every store is and can do.
pub fn catalog() -> Vec<&'static StoreDescriptor> {
    let tables = dmg_tables::STORES.iter().map(|store| store.descriptor());
    let files = dmg_files::STORES.iter().map(|store| store.descriptor());
    let mut all: Vec<_> = tables.chain(files).collect();
    all.sort_by_key(|descriptor| descriptor.name);
    all
}
