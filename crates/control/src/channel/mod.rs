//! The channel to nodes: hello, enrolment, sessions, signed requests, work. A node is believed only what its key
//! signed, and may touch only the jobs of its own gateway.

mod handshake;
mod sessions;
mod work;

use bytes::Bytes;
use dmg_protocol::channel::{
    self as wire, CERTIFICATE, ENROLL, FINISH, HEADER_NONCE, HEADER_SESSION, HEADER_SIGNATURE, HELLO, PLAN, POLL,
    RENEW, SESSION, TAKE,
};
use dmg_protocol::{Fault, SessionId};
use dmg_seal::{sha256_hex, verify_bytes};
use dmg_state::Node;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Refusal;
use crate::router::read_node_body;
use crate::service::Service;

pub(crate) use sessions::Sessions;
pub(crate) use work::opens_credentials;

/// What a channel handler answers: a JSON document, or the fault a node understands.
pub(crate) type Result<T> = std::result::Result<T, Refusal>;

/// A node whose request was checked.
pub(crate) struct Caller {
    /// Who.
    pub(crate) node: Node,
    /// Its session.
    pub(crate) session: SessionId,
    /// The request's number.
    pub(crate) nonce: u64,
}

/// Answers a request below [`wire::BASE`].
pub(crate) async fn answer(service: &Service, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match dispatch(service, request).await {
        Ok(body) => json(StatusCode::OK, &body),
        Err(refusal) => json(refusal.status, &refusal.fault),
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let bytes = serde_json::to_vec(body).expect("channel messages have string keys and always serialise");
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn dispatch(service: &Service, request: Request<Incoming>) -> Result<Value> {
    if request.method() != Method::POST {
        let fault = Fault::new("UserErrorBadRequest", "Nodes speak by POST only.");
        return Err(Refusal::with_status(fault, StatusCode::METHOD_NOT_ALLOWED));
    }
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path == HELLO {
        return value(handshake::hello(service, read(&read_node_body(body).await?)?)?);
    }
    if path == ENROLL {
        return value(handshake::enroll(service, read(&read_node_body(body).await?)?).await?);
    }
    if path == SESSION {
        return value(handshake::session(service, read(&read_node_body(body).await?)?).await?);
    }
    let full = head.uri.path_and_query().map_or(path, |full| full.as_str());
    let body = read_node_body(body).await?;
    let caller = authenticate(service, full, &head.headers, &body).await?;
    match path {
        POLL => value(work::poll(service, caller, read(&body)?).await?),
        TAKE => value(work::take(service, caller, read(&body)?).await?),
        RENEW => value(work::renew(service, caller, read(&body)?).await?),
        PLAN => value(work::plan(service, caller, read(&body)?).await?),
        FINISH => value(work::finish(service, caller, read(&body)?).await?),
        CERTIFICATE => value(work::certificate(service, caller, read(&body)?).await?),
        _ => Err(Refusal::no_such_path("channel version 1")),
    }
}

fn value(body: impl Serialize) -> Result<Value> {
    serde_json::to_value(body)
        .map_err(|error| Fault::new("SystemErrorInternal", format!("An answer cannot be written: {error}.")).into())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Fault::new("UserErrorBadRequest", format!("The node's message cannot be read at {place}.")).into()
    })
}

/// The session is unknown or over: the node opens a new one.
pub(crate) fn no_session() -> Refusal {
    Fault::new("UserErrorAuthentication", "The session is unknown or over.").remedy("Open a new session.").into()
}

/// The node is not one of ours any more: it stops until it is registered again.
pub(crate) fn not_registered() -> Refusal {
    let fault = Fault::new("UserErrorGatewayKey", "Gateway is not registered. Gateway key is invalid.");
    Refusal::with_status(fault, StatusCode::UNAUTHORIZED)
}

/// Checks session, signature and number of a request, in this order, so that a forged one uses no number up.
async fn authenticate(service: &Service, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Caller> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(session), Some(nonce), Some(signature)) = (
        header(HEADER_SESSION).map(SessionId::new),
        header(HEADER_NONCE).and_then(|text| text.parse::<u64>().ok()),
        header(HEADER_SIGNATURE),
    ) else {
        return Err(Fault::new("UserErrorAuthentication", "The request is not signed.").into());
    };
    let now = service.ambient.uptime();
    let Some(owner) = service.sessions.owner(&session, now) else { return Err(no_session()) };
    let text = wire::request_text("POST", path, &sha256_hex(body), session.as_str(), nonce);
    if !verify_bytes(&owner.public_key, text.as_bytes(), signature) {
        return Err(Fault::new("UserErrorAuthentication", "The request's signature does not fit.").into());
    }
    if !service.sessions.accept(&session, nonce) {
        return Err(Fault::new("UserErrorAuthentication", "The request was seen before, or is too old.").into());
    }
    let Some(node) = service.state.node(&owner.node).await? else {
        service.sessions.end(&session);
        return Err(not_registered());
    };
    if node.public_key != owner.public_key {
        return Err(not_registered());
    }
    Ok(Caller { node, session, nonce })
}
