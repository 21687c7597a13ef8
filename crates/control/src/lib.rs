//! The service: the public REST API, the channel to nodes, and the duties that keep runs moving. It knows stores only
//! by name, links no driver, and holds no key that opens a credential.

mod api;
mod channel;
mod duties;
mod error;
mod folder;
mod http;
mod keys;
mod presence;
mod router;
mod runs;
mod server;
mod service;
mod tls;

pub use server::Server;
pub use service::{ServiceConfig, build};
