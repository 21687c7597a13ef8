//! The node's side of the channel: hello, session, signed requests. It only asks. What it is told is believed only
//! under the identity key that the gateway key named; what to do about it is decided elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_protocol::channel::{
    HEADER_NONCE, HEADER_SESSION, HEADER_SIGNATURE, HELLO, Hello, HelloRequest, SESSION, Session, SessionRequest,
    request_text, session_text,
};
use dmg_protocol::{Fault, NodeId, SessionId, Signed};
use dmg_seal::{SigningKey, base64url, open_signed, random_bytes, sha256_hex};
use reqwest::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::egress::{Answer, Egress};
use super::trust::Accept;

/// The protocol versions this program speaks.
const VERSIONS: [u32; 1] = [1];
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// This program's version, as told to the service.
pub(crate) const PROGRAM: &str = concat!("dmg/", env!("CARGO_PKG_VERSION"));

/// What hello established: a client that talks to nobody else, and a challenge good for one request.
pub(crate) struct Greeted {
    pub(crate) egress: Egress,
    pub(crate) challenge: String,
    /// The service's identity key, proved.
    pub(crate) service_key: String,
}

/// Says hello and checks who answers. `is_known` says whether an identity key is the expected one.
pub(crate) async fn hello(
    endpoint: &str,
    extra_ca: Option<&str>,
    is_known: impl Fn(&str) -> bool,
) -> Result<Greeted, Fault> {
    let stranger = Egress::new(endpoint, extra_ca, Accept::Anybody)?;
    let nonce = base64url(&random_bytes::<32>());
    let request = HelloRequest { nonce: nonce.clone(), versions: VERSIONS.to_vec() };
    let answer = stranger.post(HELLO, &[], json(&request), HANDSHAKE_TIMEOUT).await?;
    let wrong_identity = |cause: &str| {
        Fault::new(
            "NetworkErrorServiceIdentity",
            format!("What answers at {endpoint} is not the service that the gateway key was made by: {cause}."),
        )
    };
    if answer.status.is_server_error() {
        return Err(unavailable(endpoint, answer.status));
    }
    let signed: Signed = serde_json::from_slice(&answer.body)
        .map_err(|_| wrong_identity(&format!("it does not answer as a service does (status {})", answer.status)))?;
    let service_key = signed.signature.public_key.clone();
    if !is_known(&service_key) {
        return Err(wrong_identity("it has another identity key"));
    }
    let hello: Hello = open_signed(&signed, "dmg-hello/1", &service_key)?;
    if hello.nonce != nonce {
        return Err(wrong_identity("it repeated an old answer"));
    }
    if !VERSIONS.contains(&hello.version) {
        return Err(Fault::new(
            "UserErrorNotSupported",
            format!(
                "The service {endpoint} speaks version {} of the channel, which this node does not.",
                hello.version
            ),
        )
        .remedy("Install the node in the version of the service."));
    }
    let known_way = stranger.presented().is_some_and(|seen| seen.by_authority || hello.tls_spki.contains(&seen.spki));
    if !known_way {
        return Err(Fault::new(
            "NetworkErrorTls",
            format!(
                "The service behind {endpoint} is the right one, but the certificate on the way to it is neither its \
                 own nor signed by a trusted authority: something in between opens the connection."
            ),
        )
        .remedy("Give the authority of the proxy in between with --ca, or connect without it."));
    }
    let egress = Egress::new(endpoint, extra_ca, Accept::Listed(hello.tls_spki))?;
    Ok(Greeted { egress, challenge: hello.challenge, service_key })
}

/// Who speaks, to whom.
pub(crate) struct Parties {
    pub(crate) endpoint: String,
    pub(crate) extra_ca: Option<String>,
    pub(crate) service_key: String,
    pub(crate) node_id: NodeId,
    pub(crate) identity: SigningKey,
}

/// Signed requests under a session that is opened when needed.
pub(crate) struct Channel {
    ambient: Ambient,
    parties: Parties,
    session: Mutex<Option<Arc<Open>>>,
}

struct Open {
    egress: Egress,
    id: SessionId,
    nonce: AtomicU64,
    until: Duration,
}

impl Channel {
    /// A channel without a session yet.
    pub(crate) fn new(ambient: Ambient, parties: Parties) -> Self {
        Channel { ambient, parties, session: Mutex::new(None) }
    }

    /// The service's identity key.
    pub(crate) fn service_key(&self) -> &str {
        &self.parties.service_key
    }

    /// The node's key, to sign receipts with.
    pub(crate) fn identity(&self) -> &SigningKey {
        &self.parties.identity
    }

    /// This node.
    pub(crate) fn node_id(&self) -> &NodeId {
        &self.parties.node_id
    }

    /// One signed request. A session that the service no longer knows is opened anew, once. Also gives the request's
    /// number, which some answers repeat.
    pub(crate) async fn call<A: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
        timeout: Duration,
    ) -> Result<(A, u64), Fault> {
        let body = json(request);
        let mut renewed = false;
        loop {
            let open = self.open().await?;
            let nonce = open.nonce.fetch_add(1, Ordering::SeqCst) + 1;
            let text = request_text("POST", path, &sha256_hex(&body), open.id.as_str(), nonce);
            let headers = [
                (HEADER_SESSION, open.id.to_string()),
                (HEADER_NONCE, nonce.to_string()),
                (HEADER_SIGNATURE, self.parties.identity.sign_bytes(text.as_bytes())),
            ];
            let answer = open.egress.post(path, &headers, body.clone(), timeout).await?;
            if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && !renewed {
                renewed = true;
                self.forget(&open).await;
                continue;
            }
            return Ok((read(&self.parties.endpoint, &answer)?, nonce));
        }
    }

    async fn open(&self) -> Result<Arc<Open>, Fault> {
        let mut session = self.session.lock().await;
        if let Some(open) = session.as_ref().filter(|open| self.ambient.uptime() < open.until) {
            return Ok(Arc::clone(open));
        }
        let Parties { endpoint, extra_ca, service_key, node_id, identity } = &self.parties;
        let greeted = hello(endpoint, extra_ca.as_deref(), |key| key == service_key).await?;
        let request = SessionRequest {
            node_id: node_id.clone(),
            signature: identity.sign_bytes(session_text(node_id, &greeted.challenge).as_bytes()),
            challenge: greeted.challenge,
            program: PROGRAM.to_owned(),
        };
        let asked = self.ambient.uptime();
        let answer = greeted.egress.post(SESSION, &[], json(&request), HANDSHAKE_TIMEOUT).await?;
        if is_refusal(answer.status) {
            return Err(Fault::new("UserErrorGatewayKey", "Gateway is not registered. Gateway key is invalid.")
                .remedy(
                    "The gateway was deleted, its key was regenerated, or this node was removed. Register the node \
                     again with a new key: dmg node register.",
                ));
        }
        let opened: Session = read(endpoint, &answer)?;
        // Renewed before the service's own end, so that no request meets it.
        let until = asked + Duration::from_secs(opened.seconds) * 4 / 5;
        let open = Arc::new(Open { egress: greeted.egress, id: opened.session_id, nonce: AtomicU64::new(0), until });
        *session = Some(Arc::clone(&open));
        Ok(open)
    }

    async fn forget(&self, open: &Arc<Open>) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|current| Arc::ptr_eq(current, open)) {
            *session = None;
        }
    }
}

/// Whether the service refuses who asks, not what is asked.
pub(crate) fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE)
}

/// The document of a good answer, or the fault of a bad one.
pub(crate) fn read<A: DeserializeOwned>(endpoint: &str, answer: &Answer) -> Result<A, Fault> {
    if answer.status.is_success() {
        return serde_json::from_slice(&answer.body).map_err(|error| {
            Fault::new(
                "SystemErrorInternal",
                format!("The service {endpoint} gave an answer that cannot be read: {error}."),
            )
        });
    }
    if let Some(fault) = fault_of(&answer.body) {
        return Err(fault);
    }
    if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS {
        return Err(unavailable(endpoint, answer.status));
    }
    Err(Fault::new(
        "SystemErrorInternal",
        format!("The service {endpoint} refused a request with status {}.", answer.status),
    ))
}

/// The fault in the body of a refusal: as such, or in the envelope of the public API.
fn fault_of(body: &[u8]) -> Option<Fault> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    if let Ok(fault) = serde_json::from_value::<Fault>(value.clone()) {
        return Some(fault);
    }
    let error = value.get("error")?;
    if let Ok(fault) = serde_json::from_value::<Fault>(error.clone()) {
        return Some(fault);
    }
    let (code, message) = (error.get("code")?.as_str()?, error.get("message")?.as_str()?);
    Some(match dmg_protocol::fault_info(code) {
        Some(_) => Fault::new(code, message),
        None => Fault::new("SystemErrorInternal", format!("The service refused with {code}: {message}")),
    })
}

fn unavailable(endpoint: &str, status: StatusCode) -> Fault {
    Fault::new("NetworkErrorServiceUnreachable", format!("The service {endpoint} answers with status {status}."))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("channel messages have string keys and always serialise")
}
