//! What all parts of the service share: state, identity, presence and the bell that wakes whoever waits. It starts
//! nothing by itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dmg_ambient::Ambient;
use dmg_protocol::{Fault, Secret};
use dmg_seal::{SigningKey, hmac_sha256, verify_hmac};
use dmg_state::{Moment, State};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::channel::Sessions;
use crate::folder::Folder;
use crate::presence::Presence;
use crate::server::Server;
use crate::tls::{self, GivenCertificate};

/// This program's version, as told to clients and nodes.
pub(crate) const PROGRAM: &str = concat!("dmg/", env!("CARGO_PKG_VERSION"));

/// How the service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Folder for everything the service keeps.
    pub data: PathBuf,
    /// Address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// `host:port` that gateway keys name. Absent: the address under which the caller who asks for a key came.
    pub public_endpoint: Option<String>,
    /// Certificate and key files (PEM) for TLS. Absent: a certificate is made at the first start.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl ServiceConfig {
    /// The usual service in that folder at that address.
    pub fn new(data: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        ServiceConfig { data: data.into(), listen, public_endpoint: None, certificate: None }
    }
}

/// What the parts share.
pub(crate) struct Service {
    pub(crate) ambient: Ambient,
    pub(crate) state: State,
    pub(crate) identity: SigningKey,
    pub(crate) root_key: Secret<[u8; 32]>,
    pub(crate) sessions: Sessions,
    pub(crate) presence: Presence,
    pub(crate) tls_spki: Vec<String>,
    pub(crate) stopping: CancellationToken,
    public_endpoint: Option<String>,
    listen: SocketAddr,
    token_key: [u8; 32],
    token_tag: [u8; 32],
    bell: watch::Sender<u64>,
}

impl Service {
    /// Now, as the database stores it.
    pub(crate) fn now(&self) -> Moment {
        self.ambient.unix_micros()
    }

    /// Wakes everybody who waits for work, cancels or the end of a session.
    pub(crate) fn ring(&self) {
        self.bell.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The bell.
    pub(crate) fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// Whether that is the owner's token; takes the same time wherever it differs.
    pub(crate) fn is_token(&self, token: &str) -> bool {
        verify_hmac(&self.token_key, token.as_bytes(), &self.token_tag)
    }

    /// `host:port` for keys and links, for a caller who came under `host`.
    pub(crate) fn endpoint(&self, host: Option<&str>) -> String {
        if let Some(endpoint) = &self.public_endpoint {
            return endpoint.clone();
        }
        match host.map(str::trim).filter(|host| !host.is_empty()) {
            Some(host) if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => host.to_owned(),
            Some(host) => format!("{host}:443"),
            None => self.listen.to_string(),
        }
    }
}

/// Opens the folder, binds the address and answers a server that is ready to run.
pub async fn build(config: ServiceConfig, ambient: &Ambient) -> Result<Server, Fault> {
    let folder = Folder::open(&config.data)?;
    let identity = folder.identity()?;
    let root_key = folder.root_key()?;
    let (token, token_file) = folder.admin_token()?;
    let given = config.certificate.map(|(certificate, key)| GivenCertificate { certificate, key });
    let public_host = config.public_endpoint.as_deref().and_then(|endpoint| endpoint.rsplit_once(':'));
    let extra: Vec<String> =
        public_host.map(|(host, _)| host.trim_matches(['[', ']']).to_owned()).into_iter().collect();
    let tls = tls::prepare(&folder, given.as_ref(), &tls::names(config.listen, &extra))?;
    folder.protect_database()?;
    let state = State::open(&folder.database())?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        Fault::new("UserErrorSettings", format!("The service cannot listen on {}: {error}.", config.listen))
            .remedy("Choose another address and port with --listen, or stop the program that uses it.")
    })?;
    let listen = listener.local_addr().map_err(|error| {
        Fault::new("SystemErrorInternal", format!("The listening address cannot be read: {error}."))
    })?;
    let token_key = dmg_seal::random_bytes::<32>();
    let service = Service {
        ambient: ambient.clone(),
        state,
        identity,
        root_key,
        sessions: Sessions::default(),
        presence: Presence::default(),
        tls_spki: vec![tls.spki],
        stopping: CancellationToken::new(),
        public_endpoint: config.public_endpoint,
        listen,
        token_tag: hmac_sha256(&token_key, token.expose().as_bytes()),
        token_key,
        bell: watch::Sender::new(0),
    };
    Ok(Server::new(Arc::new(service), folder, listener, tls.config, token_file))
}
