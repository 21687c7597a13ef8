//! Table stores: one folder each, and the one list of them. Nothing here knows file formats, the engine or the
//! service.

mod arrays;
mod batch;
mod checkpoint;
mod connector;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod lost;
mod mysql;
mod parts;
mod postgres;
mod screen;
mod settings;
mod sql_server;
mod sqlite;
mod tls;

use dmg_connector::TableConnector;

/// All table stores. A new one is a folder and a line here.
pub const STORES: &[&dyn TableConnector] = &[&mysql::STORE, &postgres::STORE, &sql_server::STORE, &sqlite::STORE];

/// The store of that connector name.
pub fn store(name: &str) -> Option<&'static dyn TableConnector> {
    STORES.iter().copied().find(|store| store.descriptor().name == name)
}
