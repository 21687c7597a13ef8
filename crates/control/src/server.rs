//! Accepts connections and serves HTTP/1.1 over TLS under named limits. What a request means is the router's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dmg_ambient::TaskGroup;
use dmg_protocol::Fault;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::duties;
use crate::folder::Folder;
use crate::router;
use crate::service::Service;

/// Connections served at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const HEADER_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// How long open requests may take to end after a stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection, for lack of files for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A service that listens and is ready to run.
pub struct Server {
    service: Arc<Service>,
    folder: Folder,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    token_file: PathBuf,
}

impl Server {
    pub(crate) fn new(
        service: Arc<Service>,
        folder: Folder,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        token_file: PathBuf,
    ) -> Self {
        Server { service, folder, listener, tls, token_file }
    }

    /// The address it listens on.
    pub fn address(&self) -> Result<SocketAddr, Fault> {
        self.listener
            .local_addr()
            .map_err(|error| Fault::new("SystemErrorInternal", format!("The address cannot be read: {error}.")))
    }

    /// The file with the owner's token.
    pub fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// The file with the certificate that clients trust.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.certificate()
    }

    /// Serves until `shutdown`, then lets open requests end.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Fault> {
        let Server { service, folder: _folder, listener, tls, .. } = self;
        duties::start(&service).await?;
        let acceptor = TlsAcceptor::from(tls);
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = TaskGroup::new();
        let mut background = TaskGroup::new();
        background.spawn(duties::run(Arc::clone(&service), shutdown.clone()));
        loop {
            while connections.try_join_next().is_some() {}
            let slot = tokio::select! {
                () = shutdown.cancelled() => break,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            let stream = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match (slot, stream) {
                (Ok(slot), Ok((stream, _))) => {
                    let (service, acceptor, stop) = (Arc::clone(&service), acceptor.clone(), shutdown.clone());
                    connections.spawn(async move {
                        serve(service, acceptor, stream, stop).await;
                        drop(slot);
                    });
                }
                (_, Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    service.ambient.sleep(ACCEPT_PAUSE).await;
                }
                (Err(_), _) => break,
            }
        }
        drop(listener);
        service.stopping.cancel();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::info!(open = connections.len(), "connections were cut at the stop");
        }
        connections.shutdown().await;
        background.shutdown().await;
        Ok(())
    }
}

async fn serve(service: Arc<Service>, acceptor: TlsAcceptor, stream: TcpStream, stop: CancellationToken) {
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let handler = service_fn(move |request: Request<Incoming>| {
        let service = Arc::clone(&service);
        async move { Ok::<Response<Full<Bytes>>, std::convert::Infallible>(router::answer(service, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), handler);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
