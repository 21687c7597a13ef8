//! What PostgreSQL's own `sslmode` asks of TLS. The ciphers and checks are the family's.

use dmg_connector::Result;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::settings::{Server, SslMode};
use crate::tls::{self, Failure, Trust};

/// Encrypts a connection on which the server agreed to TLS.
pub(super) async fn encrypt(server: &Server, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
    // `prefer` and `require` believe whoever answers, as PostgreSQL's own client does.
    let trust = match server.ssl_mode {
        SslMode::Disable | SslMode::Prefer | SslMode::Require => Trust::Anybody,
        SslMode::VerifyCa => Trust::Authority,
        SslMode::VerifyFull => Trust::Name,
    };
    let place = server.place();
    tls::encrypt(stream, &server.host, &place, trust, &server.session).await.map_err(|failure| match failure {
        Failure::NoTls => super::errors::garbled(&place, "what follows is no TLS"),
        Failure::Refused(error) => error,
    })
}
