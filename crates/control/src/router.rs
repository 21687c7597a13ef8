//! Which handler a request goes to: token, version, path without case, method. One table, made of the tables that
//! stand beside the handlers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dmg_protocol::{Fault, channel as wire};
use futures::future::BoxFuture;
use http::header::{ALLOW, AUTHORIZATION, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use crate::error::{Refusal, Result};
use crate::http::{Answer, Call};
use crate::service::Service;
use crate::{api, channel};

/// Longest body of an API call.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest body of a node's call; plans and receipts are long.
const NODE_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests that a caller names are echoed up to this length.
const REQUEST_ID_MAX: usize = 128;

/// The versions of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// The original's version 1.
    V1,
    /// The original's version 2.
    V2,
    /// Version 2 with our additions.
    Ours,
}

impl Version {
    /// `api-version` values.
    pub(crate) const ALL: [(&'static str, Version); 3] =
        [("2015-10-01", Version::V1), ("2018-06-01", Version::V2), ("2026-11-01", Version::Ours)];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, version)| *version)
    }

    pub(crate) fn text(self) -> &'static str {
        Self::ALL.iter().find(|(_, version)| *version == self).map_or("", |(name, _)| name)
    }

    /// Whether a route of `route` answers a call of this version: ours holds all of version 2.
    fn serves(self, route: Version) -> bool {
        self == route || self == Version::Ours && route == Version::V2
    }
}

/// What a caller must be allowed. There is one role yet, the owner's token; the column is there for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Look.
    Read,
    /// Start, stop and test.
    Operate,
    /// Change documents.
    Author,
    /// Everything: factories, gateways, keys.
    Own,
}

/// What a handler is.
pub(crate) type Handler = fn(Call) -> BoxFuture<'static, Result<Answer>>;

/// One route: method, version, path below its base, permission, handler.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) path: &'static str,
    pub(crate) permission: Permission,
    pub(crate) handler: Handler,
}

/// One line of a route table: `route!(GET V2 "~/pipelines" Read => list)`. `~` is a factory in version 2, `F1` one in
/// version 1, `G` a resource group, `S` a subscription.
macro_rules! route {
    ($method:ident $version:ident $path:literal $permission:ident => $handler:path) => {
        $crate::router::Route {
            method: http::Method::$method,
            version: $crate::router::Version::$version,
            path: $path,
            permission: $crate::router::Permission::$permission,
            handler: |call| Box::pin($handler(call)),
        }
    };
}
pub(crate) use route;

const BASES: [(&str, &str); 4] = [
    ("~", "subscriptions/{subscription}/resourcegroups/{group}/providers/microsoft.datafactory/factories/{factory}"),
    (
        "F1",
        "subscriptions/{subscription}/resourcegroups/{group}/providers/microsoft.datafactory/datafactories/{factory}",
    ),
    ("G", "subscriptions/{subscription}/resourcegroups/{group}/providers/microsoft.datafactory"),
    ("S", "subscriptions/{subscription}/providers/microsoft.datafactory"),
];

/// Matches path segments against a route's path; literals without case.
fn matches(path: &'static str, segments: &[String]) -> Option<Vec<(&'static str, String)>> {
    let (base, rest) = path.split_once('/').unwrap_or((path, ""));
    let base = BASES.iter().find(|(name, _)| *name == base).map_or(base, |(_, base)| base);
    let pattern = base.split('/').chain(rest.split('/').filter(|segment| !segment.is_empty()));
    let mut parameters = Vec::new();
    let mut segments = segments.iter();
    for wanted in pattern {
        let have = segments.next()?;
        match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) => parameters.push((name, have.clone())),
            None if wanted.eq_ignore_ascii_case(have) => {}
            None => return None,
        }
    }
    segments.next().is_none().then_some(parameters)
}

/// Answers a request, whatever it is.
pub(crate) async fn answer(service: Arc<Service>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let request_id = service.ambient.uuid();
    let client_id = request.headers().get("x-ms-client-request-id").cloned();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_node = path.starts_with(wire::BASE);
    let mut response = if is_node {
        channel::answer(&service, request).await
    } else {
        match dispatch(service, request).await {
            Ok(answer) => answer.into_response(),
            Err((refusal, headers)) => {
                let mut answer = Answer::refusal(&refusal);
                for (name, value) in headers {
                    answer = answer.header(name, &value);
                }
                answer.into_response()
            }
        }
    };
    if response.status().is_server_error() {
        tracing::error!(%method, path, request = request_id, status = response.status().as_u16(), "a request failed");
    } else {
        tracing::debug!(%method, path, request = request_id, status = response.status().as_u16(), "answered");
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert("x-ms-request-id", value.clone());
        headers.insert("x-ms-correlation-request-id", value);
    }
    if let Some(value) = client_id.filter(|value| value.len() <= REQUEST_ID_MAX) {
        headers.insert("x-ms-client-request-id", value);
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"),
        ("referrer-policy", "no-referrer"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

type Headers = Vec<(HeaderName, String)>;

async fn dispatch(
    service: Arc<Service>,
    request: Request<Incoming>,
) -> std::result::Result<Answer, (Refusal, Headers)> {
    let plain = |refusal: Refusal| (refusal, Vec::new());
    let (head, body) = request.into_parts();
    if head.uri.path() == "/" {
        return Ok(Answer::empty(StatusCode::FOUND).header(LOCATION, "/dmg/status"));
    }
    let is_page = head.uri.path().eq_ignore_ascii_case("/dmg/status");
    authorize(&service, &head.headers, is_page)?;
    let segments = segments(head.uri.path()).map_err(plain)?;
    let query = query(head.uri.query().unwrap_or_default());
    let call = |parameters, version, body| Call {
        service: Arc::clone(&service),
        parameters,
        query: query.clone(),
        headers: head.headers.clone(),
        body,
        version,
    };
    if is_page {
        if head.method != Method::GET {
            return Err(method_refusal(&head.method, &[Method::GET]));
        }
        return api::status::page(call(Vec::new(), Version::Ours, Bytes::new())).await.map_err(plain);
    }
    let version = version(&query).map_err(plain)?;
    let mut allowed = Vec::new();
    for route in api::routes().filter(|route| version.serves(route.version)) {
        let Some(parameters) = matches(route.path, &segments) else { continue };
        if route.method == head.method {
            let body = read_body(body, BODY_BYTES_MAX).await.map_err(plain)?;
            tracing::trace!(permission = ?route.permission, path = route.path, "allowed");
            return (route.handler)(call(parameters, version, body)).await.map_err(plain);
        }
        allowed.push(route.method.clone());
    }
    if !allowed.is_empty() {
        return Err(method_refusal(&head.method, &allowed));
    }
    Err(plain(unknown(version, &segments)))
}

/// A path of the original that is not built yet is told from one that nobody knows.
fn unknown(version: Version, segments: &[String]) -> Refusal {
    let word = |index: usize| segments.get(index).map(|segment| segment.to_ascii_lowercase()).unwrap_or_default();
    let in_factory = word(4) == "providers" && matches!(word(6).as_str(), "factories" | "datafactories");
    if in_factory && (api::NOT_BUILT.contains(&word(8).as_str()) || api::NOT_BUILT.contains(&word(10).as_str())) {
        let what = segments[8..].join("/");
        let fault = Fault::new("UserErrorNotSupported", format!("The operation \"{what}\" is not built yet."));
        return Refusal::with_status(fault, StatusCode::NOT_IMPLEMENTED);
    }
    Refusal::no_such_path(version.text())
}

fn method_refusal(method: &Method, allowed: &[Method]) -> (Refusal, Headers) {
    let names = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let fault = Fault::new("UserErrorBadRequest", format!("The method {method} is not allowed here, but {names} is."));
    (Refusal::with_status(fault, StatusCode::METHOD_NOT_ALLOWED), vec![(ALLOW, names)])
}

fn authorize(service: &Service, headers: &HeaderMap, is_page: bool) -> std::result::Result<(), (Refusal, Headers)> {
    let refuse = |message: &str| {
        // A browser asks for user and password; any user name will do, the token is the password.
        let challenge = if is_page { "Basic realm=\"dmg\"" } else { "Bearer error=\"invalid_token\"" };
        Err((Refusal::unauthorized(message), vec![(WWW_AUTHENTICATE, challenge.to_owned())]))
    };
    let Some(value) = headers.get(AUTHORIZATION) else { return refuse("The request carries no access token.") };
    let Some((scheme, given)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return refuse("The Authorization header cannot be read.");
    };
    let accepted = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => service.is_token(given.trim()),
        "basic" if is_page => basic_password(given).is_some_and(|password| service.is_token(&password)),
        _ => false,
    };
    if accepted { Ok(()) } else { refuse("The access token is not one of this service.") }
}

fn basic_password(given: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(given.trim()).ok()?;
    String::from_utf8(bytes).ok()?.split_once(':').map(|(_, password)| password.to_owned())
}

fn segments(path: &str) -> Result<Vec<String>> {
    path.split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            percent_decode_str(segment)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| Refusal::bad_request("The path is not UTF-8."))
        })
        .collect()
}

fn query(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn version(query: &[(String, String)]) -> Result<Version> {
    let given = query.iter().find(|(name, _)| name.eq_ignore_ascii_case("api-version")).map(|(_, value)| value);
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return Err(Refusal::api_version(
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.".to_owned(),
        ));
    };
    Version::parse(given).ok_or_else(|| {
        let known = Version::ALL.map(|(name, _)| name).join(",");
        let text = format!("The api-version '{given}' is invalid. The supported versions are '{known}'.");
        Refusal::api_version("InvalidApiVersionParameter", text)
    })
}

/// Reads a body whole, within a limit and a time.
pub(crate) async fn read_body(body: Incoming, bytes_max: usize) -> Result<Bytes> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, bytes_max).collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let fault = Fault::new("UserErrorBadRequest", format!("The body is longer than {bytes_max} bytes."));
            Err(Refusal::with_status(fault, StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Err(_)) => Err(Refusal::bad_request("The body was cut.")),
        Err(_) => {
            let fault = Fault::new("UserErrorBadRequest", "The body did not come in time.");
            Err(Refusal::with_status(fault, StatusCode::REQUEST_TIMEOUT))
        }
    }
}

/// Reads the body of a node's call.
pub(crate) async fn read_node_body(body: Incoming) -> Result<Bytes> {
    read_body(body, NODE_BODY_BYTES_MAX).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_without_case_and_keep_names() {
        let path =
            "/Subscriptions/S/resourcegroups/RG/PROVIDERS/Microsoft.DataFactory/factories/F/LinkedServices/Sales%20DB";
        let segments = segments(path).unwrap();
        let found = matches("~/linkedservices/{name}", &segments).unwrap();
        assert_eq!(found.iter().find(|(name, _)| *name == "name").unwrap().1, "Sales DB");
        assert_eq!(found.iter().find(|(name, _)| *name == "factory").unwrap().1, "F");
        assert!(matches("~/linkedservices", &segments).is_none());
        assert!(matches("F1/linkedservices/{name}", &segments).is_none());
        assert!(matches("~", &segments[..8]).is_some());
    }

    #[test]
    fn versions() {
        let of = |value: &str| version(&[("Api-Version".into(), value.into())]);
        assert_eq!(of("2018-06-01").unwrap(), Version::V2);
        assert_eq!(of("2020-01-01").unwrap_err().status, StatusCode::BAD_REQUEST);
        assert!(Version::Ours.serves(Version::V2));
        assert!(!Version::V2.serves(Version::Ours));
        assert!(!Version::Ours.serves(Version::V1));
    }
}
