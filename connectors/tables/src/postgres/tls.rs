//! What PostgreSQL's own `sslmode` asks of TLS. The ciphers and checks are the family's.

use dmg_connector::Result;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::settings::Server;
use crate::tls::{self, Failure};

/// Encrypts a connection on which the server agreed to TLS.
pub(super) async fn encrypt(server: &Server, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
    let place = server.place();
    tls::encrypt(stream, &server.host, &place, server.ssl_mode.trust(), &server.session).await.map_err(|failure| {
        match failure {
            Failure::NoTls => super::errors::garbled(&place, "what follows is no TLS"),
            Failure::Refused(error) => error,
        }
    })
}
