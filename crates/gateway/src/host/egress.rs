//! Everything that leaves the host goes through here: HTTPS to the one service it belongs to, directly or through the
//! proxy that the environment names. What goes wrong on the way becomes a fault in the original's words.

use std::time::Duration;

use dmg_protocol::{Fault, Retry};
use reqwest::{Client, NoProxy, Proxy, StatusCode};

use super::trust::{Accept, Presented, trust};

const CONNECT_SECONDS: u64 = 10;
const IDLE_SECONDS: u64 = 30;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A client for one service.
pub(crate) struct Egress {
    endpoint: String,
    client: Client,
    presented: std::sync::Arc<std::sync::Mutex<Option<Presented>>>,
}

/// An answer with its status.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Egress {
    /// A client for `host:port`.
    pub(crate) fn new(endpoint: &str, extra_ca: Option<&str>, accept: Accept) -> Result<Self, Fault> {
        let trust = trust(extra_ca, accept)?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(trust.config)
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS))
            .pool_idle_timeout(Duration::from_secs(IDLE_SECONDS))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let named = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
        if let Some(address) = named.iter().find_map(|name| dmg_ambient::environment(name)) {
            let except = ["NO_PROXY", "no_proxy"].iter().find_map(|name| dmg_ambient::environment(name));
            let proxy = Proxy::all(&address).map_err(|_| {
                Fault::new("UserErrorSettings", "The environment variable HTTPS_PROXY does not hold an address.")
                    .remedy("Set it to http://host:port or remove it.")
            })?;
            builder = builder.proxy(proxy.no_proxy(except.as_deref().and_then(NoProxy::from_string)));
        }
        let client = builder.build().map_err(|error| {
            Fault::new("SystemErrorInternal", format!("The HTTPS client cannot be set up: {}.", chain(&error)))
        })?;
        Ok(Egress { endpoint: endpoint.to_owned(), client, presented: trust.presented })
    }

    /// What the service presented in its TLS handshake last.
    pub(crate) fn presented(&self) -> Option<Presented> {
        self.presented.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Posts a JSON body and reads the answer whole.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Answer, Fault> {
        let mut request = self
            .client
            .post(format!("https://{}{path}", self.endpoint))
            .header("content-type", "application/json")
            .timeout(timeout)
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut response = request.send().await.map_err(|error| self.fault(&error))?;
        let status = response.status();
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(self.proxy_authentication());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.fault(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Fault::new(
                    "NetworkErrorServiceUnreachable",
                    format!("The service {} sends more than an answer may hold.", self.endpoint),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }

    fn proxy_authentication(&self) -> Fault {
        Fault::new(
            "NetworkErrorProxyAuthentication",
            format!(
                "The remote server returned an error: (407) Proxy Authentication Required. A proxy between this machine \
                 and {} asks for a log-in.",
                self.endpoint
            ),
        )
    }

    /// A transport error as a fault: the proxy, the certificate or the way.
    fn fault(&self, error: &reqwest::Error) -> Fault {
        let cause = chain(error);
        if cause.contains("proxy authorization required") {
            return self.proxy_authentication();
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            return self.tls_fault(tls);
        }
        let reason = match find::<std::io::Error>(error).map(std::io::Error::kind) {
            _ if error.is_timeout() => "it did not answer in time".to_owned(),
            Some(std::io::ErrorKind::ConnectionRefused) => {
                "the connection was refused, nothing listens there".to_owned()
            }
            Some(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof) => {
                "the connection was cut".to_owned()
            }
            _ if cause.contains("dns error") || cause.contains("failed to lookup") => {
                "its name cannot be resolved".to_owned()
            }
            _ => cause,
        };
        Fault::new(
            "NetworkErrorServiceUnreachable",
            format!(
                "Unable to connect to the remote server. The service {} cannot be reached: {reason}.",
                self.endpoint
            ),
        )
    }

    fn tls_fault(&self, error: &rustls::Error) -> Fault {
        match error {
            rustls::Error::InvalidCertificate(reason) => Fault::new(
                "NetworkErrorTls",
                format!(
                    "Unable to connect to the remote server. The certificate that {} presents is neither signed by a \
                     trusted authority nor one that the service named as its own ({reason:?}). Perhaps a proxy in \
                     between opens the connection.",
                    self.endpoint
                ),
            )
            .remedy("Give the authority that signs it with --ca, or connect without the proxy."),
            other => Fault::new(
                "NetworkErrorTls",
                format!(
                    "Unable to connect to the remote server. {} does not speak TLS as it should: {other}.",
                    self.endpoint
                ),
            )
            .remedy("Check that host and port in the gateway key lead to the service.")
            .retry(Retry::Later),
        }
    }
}

/// An error with its causes on one line, without the address, which the caller names.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        next = error.source();
    }
    if text.is_empty() { "the request failed".into() } else { text }
}

/// The first cause of a type; also looks inside input/output errors, which hide what they carry.
fn find<T: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
