//! The byte stores: one folder each, one table of all of them. Nothing here knows a file format.

pub mod azure_blob;
mod blocking;
pub mod local;
mod path;

use dmg_connector::ByteStoreConnector;

/// Every byte store there is.
pub const STORES: &[&dyn ByteStoreConnector] = &[&azure_blob::AzureBlob, &local::LocalFiles];
