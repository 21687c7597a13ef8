//! Hello, enrolment and session: the service proves who it is, a node proves that it knows a key, then that it owns
//! its own. The key's secret never crosses the wire.

use dmg_protocol::channel::{
    EnrollRequest, Enrolled, Hello, HelloRequest, SESSION_SECONDS, Session, SessionRequest, enroll_text, session_text,
};
use dmg_protocol::{Fault, NodeId, NodeRecord, SessionId, Signed, names};
use dmg_seal::{base64url, from_base64url, random_bytes, verify_bytes, verify_hmac};
use dmg_state::{Node, Slot};
use http::StatusCode;

use super::sessions::Owner;
use super::{Result, not_registered};
use crate::error::Refusal;
use crate::keys::slot_secret;
use crate::service::{PROGRAM, Service};

const VERSION: u32 = 1;
const NONCE_MAX: usize = 64;
const TEXT_MAX: usize = 256;
/// Characters of an Ed25519 public key in base64url.
const PUBLIC_KEY_CHARACTERS: usize = 43;

/// Says who the service is.
pub(crate) fn hello(service: &Service, request: HelloRequest) -> Result<Signed> {
    if request.nonce.len() > NONCE_MAX {
        return Err(Refusal::bad_request("The nonce is too long."));
    }
    let challenge = base64url(&random_bytes::<32>());
    service.sessions.challenge(challenge.clone(), service.ambient.uptime());
    let hello = Hello {
        nonce: request.nonce,
        challenge,
        tls_spki: service.tls_spki.clone(),
        unix_time: service.ambient.unix_seconds(),
        version: VERSION,
        program: PROGRAM.to_owned(),
    };
    Ok(service.identity.sign("dmg-hello/1", &hello))
}

/// Makes a node of whoever proves to know a key.
pub(crate) async fn enroll(service: &Service, request: EnrollRequest) -> Result<Enrolled> {
    let refused = || {
        let message = "The gateway key is invalid or empty. Specify a valid gateway key from the portal.";
        Refusal::with_status(Fault::new("UserErrorGatewayKey", message), StatusCode::FORBIDDEN)
    };
    if !service.sessions.redeem(&request.challenge, service.ambient.uptime()) {
        return Err(Fault::new("UserErrorBadRequest", "The challenge is unknown or over.").into());
    }
    let gateway = service.state.gateway_by_id(&request.gateway_id).await?.ok_or_else(refused)?;
    let proof = from_base64url(&request.proof).unwrap_or_default();
    let text = enroll_text(&request.gateway_id, &request.challenge, &request.node_name, &request.public_key);
    let knows = |slot| verify_hmac(slot_secret(service, &gateway, slot).expose(), text.as_bytes(), &proof);
    if !knows(Slot::One) && !knows(Slot::Two) {
        tracing::warn!(gateway = %gateway.name, "a registration with a wrong key was refused");
        return Err(refused());
    }
    if !names::is_node_name(&request.node_name) {
        return Err(Fault::new("UserErrorName", format!("\"{}\" is not a name for a node.", request.node_name)).into());
    }
    if request.public_key.len() != PUBLIC_KEY_CHARACTERS
        || request.machine_name.len() > TEXT_MAX
        || request.program.len() > TEXT_MAX
    {
        return Err(Refusal::bad_request("The node's key or names have a wrong length."));
    }
    let Some(factory) = service.state.factory_by_id(&gateway.factory).await? else { return Err(refused()) };
    let now = service.now();
    let node = Node {
        id: NodeId::new(service.ambient.uuid()),
        gateway: gateway.id.clone(),
        name: request.node_name,
        machine: request.machine_name,
        public_key: request.public_key,
        program: request.program,
        registered: now,
        last_start: None,
        last_connect: None,
        status: None,
        jobs_limit: None,
    };
    let record = NodeRecord {
        factory: factory.name,
        factory_id: factory.id,
        gateway: gateway.name.clone(),
        gateway_id: gateway.id.clone(),
        node_id: node.id.clone(),
        node: node.name.clone(),
        public_key: node.public_key.clone(),
        registered: dmg_ambient::rfc3339(now),
    };
    tracing::info!(gateway = %gateway.name, node = %node.name, "a node registered");
    service.state.put_node(node).await?;
    // A node of the same name was replaced; its poll must end.
    service.ring();
    Ok(Enrolled { record: service.identity.sign("dmg-node-record/1", &record), certificate: gateway.certificate })
}

/// Opens a session for a node that proves to own its key.
pub(crate) async fn session(service: &Service, request: SessionRequest) -> Result<Session> {
    let now = service.ambient.uptime();
    if !service.sessions.redeem(&request.challenge, now) {
        return Err(Fault::new("UserErrorBadRequest", "The challenge is unknown or over.").into());
    }
    let Some(node) = service.state.node(&request.node_id).await? else { return Err(not_registered()) };
    let text = session_text(&request.node_id, &request.challenge);
    if !verify_bytes(&node.public_key, text.as_bytes(), &request.signature) {
        return Err(not_registered());
    }
    let id = SessionId::new(base64url(&random_bytes::<24>()));
    service.sessions.open(id.clone(), Owner { node: node.id.clone(), public_key: node.public_key }, now);
    let (connected, _) = service.presence.of(&node.id, now);
    let program = (request.program.len() <= TEXT_MAX).then_some(request.program);
    service.presence.touch(&node.id, now);
    service.state.note_node(&node.id, None, program, !connected, service.now()).await?;
    Ok(Session { session_id: id, seconds: SESSION_SECONDS, unix_time: service.ambient.unix_seconds() })
}
