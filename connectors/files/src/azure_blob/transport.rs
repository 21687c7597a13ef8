//! Sends the SDK's requests. It is ours so that the signature is put on at the last moment and never stands in a URL
//! that the SDK could log or put into an error, so that certificate authorities can be added, and so that a failure
//! says whether the request may have arrived. It does not retry.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request};
use dmg_connector::{Result, Session};
use dmg_protocol::Fault;
use futures::TryStreamExt as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::login::Login;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence of the store; it has to cover the upload of one block over a slow line.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(180);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What went wrong below HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The request was never sent.
    Unreachable,
    /// The request was never sent, because of the certificate.
    Untrusted,
    /// The connection broke; the request may have arrived.
    Lost,
    /// What came back is not HTTP; the request may have arrived.
    Garbage,
}

/// A failure below HTTP, without address and query.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub(super) struct TransportError {
    pub(super) broken: Broken,
    words: String,
}

pub(super) struct Transport {
    client: reqwest::Client,
    login: Arc<Login>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    pub(super) fn new(login: Login, https: bool, session: &Session) -> Result<Self> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(https, session)?)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| {
                let message = "The HTTP client for Azure Blob Storage could not be made.";
                dmg_connector::Error::caused(Fault::new("SystemErrorInternal", message), error.without_url())
            })?;
        Ok(Transport { client, login: Arc::new(login) })
    }
}

/// Trust in the system's certificate authorities and those of the session.
fn tls(https: bool, session: &Session) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    if https {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for pem in session.extra_ca.iter() {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let added = certificate
                    .map_err(|error| error.to_string())
                    .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
                added.map_err(|why| {
                    Fault::new(
                        "UserErrorSettings",
                        format!("A certificate authority to be trusted cannot be read: {why}."),
                    )
                })?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3");
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut url = request.url().clone();
        {
            let token = self.login.token();
            let query = match url.query() {
                Some(query) if !query.is_empty() => format!("{query}&{}", token.expose()),
                _ => token.expose().clone(),
            };
            url.set_query(Some(&query));
        }
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .expect("the SDK uses the methods of HTTP");
        let mut builder = self.client.request(method, url);
        for (name, value) in request.headers().iter() {
            builder = builder.header(name.as_str(), value.as_str());
        }
        builder = match request.body().clone() {
            Body::Bytes(bytes) => builder.body(bytes),
            Body::SeekableStream(stream) => builder.body(reqwest::Body::wrap_stream(stream)),
        };
        let response = builder.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut headers = Headers::new();
        for (name, value) in response.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
            }
        }
        let body = Box::pin(response.bytes_stream().map_err(failed));
        Ok(AsyncRawResponse::new(status.into(), headers, body))
    }
}

/// Classifies a failure. The text never has the URL in it, for that carries the signature.
fn failed(error: reqwest::Error) -> azure_core::Error {
    let error = error.without_url();
    let (mut broken, mut words) = (Broken::Lost, error.to_string());
    let never_sent = error.is_connect() || error.is_builder();
    if never_sent {
        broken = Broken::Unreachable;
    }
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = next {
        words = format!("{words}: {cause}");
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            broken = Broken::Garbage;
        }
        if let Some(tls) = tls_error(cause) {
            // Garbage in place of a handshake is no certificate problem.
            broken = match tls {
                rustls::Error::InvalidMessage(_) => Broken::Garbage,
                _ => Broken::Untrusted,
            };
        }
        next = cause.source();
    }
    let kind = match broken {
        Broken::Unreachable | Broken::Untrusted => azure_core::error::ErrorKind::Connection,
        Broken::Lost | Broken::Garbage => azure_core::error::ErrorKind::Io,
    };
    azure_core::Error::with_error(kind, TransportError { broken, words }, "the request failed below HTTP")
}

/// The TLS failure inside an error, however often it was wrapped: an error of the standard library does not name what
/// it wraps as its source.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut error = error;
    while let Some(wrapped) = error.downcast_ref::<std::io::Error>() {
        error = wrapped.get_ref()?;
    }
    error.downcast_ref()
}
