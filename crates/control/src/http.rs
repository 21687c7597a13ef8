//! One call and its answer, apart from any web framework: path parameters, query, conditions, body, JSON. It reads
//! no resource and decides nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value};

use crate::error::{Refusal, Result};
use crate::router::Version;
use crate::service::Service;

/// One authorized call to a route.
pub(crate) struct Call {
    /// The service.
    pub(crate) service: Arc<Service>,
    /// Values of the route's path parameters.
    pub(crate) parameters: Vec<(&'static str, String)>,
    /// The query, decoded.
    pub(crate) query: Vec<(String, String)>,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// The body, whole.
    pub(crate) body: Bytes,
    /// The version that was asked for.
    pub(crate) version: Version,
}

/// What `If-Match` and `If-None-Match` ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conditions {
    if_match: Option<Vec<String>>,
    if_none_match: Option<Vec<String>>,
}

impl Call {
    /// A path parameter of the route.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(have, _)| *have == name).map_or("", |(_, value)| value)
    }

    /// A query parameter, its name without case.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; nothing where it is empty.
    pub(crate) fn json(&self) -> Result<Value> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        // The parser's message names a place and never repeats the text, which may hold secrets.
        serde_json::from_slice(&self.body).map_err(|error| {
            Refusal::bad_request(format!(
                "The body is not valid JSON: line {}, column {}.",
                error.line(),
                error.column()
            ))
        })
    }

    /// The body as a JSON object; an empty one where there is none.
    pub(crate) fn object(&self) -> Result<Map<String, Value>> {
        match self.json()? {
            Value::Object(members) => Ok(members),
            Value::Null => Ok(Map::new()),
            _ => Err(Refusal::bad_request("The body must be a JSON object.")),
        }
    }

    /// The conditions of the call.
    pub(crate) fn conditions(&self) -> Conditions {
        let tags = |name: HeaderName| {
            let text = self.headers.get(name)?.to_str().ok()?;
            Some(text.split(',').map(bare).filter(|tag| !tag.is_empty()).collect())
        };
        Conditions { if_match: tags(IF_MATCH), if_none_match: tags(IF_NONE_MATCH) }
    }

    /// `host:port` under which the caller reached the service: what keys and next pages name.
    pub(crate) fn endpoint(&self) -> String {
        let host = self.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        self.service.endpoint(host)
    }
}

/// The opaque part of an entity tag.
fn bare(tag: &str) -> String {
    tag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

impl Conditions {
    /// Whether a write may go on over a resource with that tag, or none.
    pub(crate) fn allow_write(&self, etag: Option<&str>) -> bool {
        match &self.if_match {
            None => true,
            Some(tags) => tags.iter().any(|tag| tag == "*" || etag.is_some_and(|etag| bare(etag) == *tag)),
        }
    }

    /// Whether the caller already has what it asks for.
    pub(crate) fn already_has(&self, etag: &str) -> bool {
        self.if_none_match.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == "*" || *tag == bare(etag)))
    }
}

/// A sequence number as the original's tags look.
pub(crate) fn etag(number: i64) -> String {
    format!("{:08x}-0000-0000-0000-{:012x}", number >> 48, number & 0xffff_ffff_ffff)
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    body: Option<Value>,
    page: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Answer {
    /// 200 with a document.
    pub(crate) fn ok(body: Value) -> Self {
        Answer { status: StatusCode::OK, body: Some(body), page: None, headers: Vec::new() }
    }

    /// Another status with a document.
    pub(crate) fn with_status(status: StatusCode, body: Value) -> Self {
        Answer { status, ..Answer::ok(body) }
    }

    /// A status alone.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Answer { status, body: None, page: None, headers: Vec::new() }
    }

    /// 200 if something was deleted, 204 if there was nothing.
    pub(crate) fn deleted(there: bool) -> Self {
        Answer::empty(if there { StatusCode::OK } else { StatusCode::NO_CONTENT })
    }

    /// 200 with a page for people.
    pub(crate) fn page(html: String) -> Self {
        Answer { status: StatusCode::OK, body: None, page: Some(html), headers: Vec::new() }
    }

    /// A resource with its tag: 304 where the caller has it.
    pub(crate) fn resource(call: &Call, body: Value, etag: &str) -> Self {
        if call.conditions().already_has(etag) {
            return Answer::empty(StatusCode::NOT_MODIFIED).header(ETAG, &format!("\"{etag}\""));
        }
        Answer::ok(body).header(ETAG, &format!("\"{etag}\""))
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// A refusal.
    pub(crate) fn refusal(refusal: &Refusal) -> Self {
        Answer::with_status(refusal.status, refusal.body())
    }

    /// As HTTP.
    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let (content_type, bytes) = match (self.page, self.body) {
            (Some(page), _) => (Some("text/html; charset=utf-8"), Bytes::from(page)),
            (None, Some(body)) => (Some("application/json; charset=utf-8"), Bytes::from(body.to_string())),
            (None, None) => (None, Bytes::new()),
        };
        let mut response = Response::new(Full::new(bytes));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_compare_tags() {
        let tags = |tags: &[&str]| Some(tags.iter().map(|tag| bare(tag)).collect());
        let of = |if_match, if_none_match| Conditions { if_match, if_none_match };
        assert!(of(None, None).allow_write(None));
        assert!(of(tags(&["*"]), None).allow_write(None));
        assert!(of(tags(&["\"a\""]), None).allow_write(Some("a")));
        assert!(!of(tags(&["a"]), None).allow_write(Some("b")));
        assert!(!of(tags(&["a"]), None).allow_write(None));
        assert!(of(None, tags(&["W/\"a\""])).already_has("a"));
        assert!(!of(None, tags(&["b"])).already_has("a"));
        assert_eq!(etag(26), "00000000-0000-0000-0000-00000000001a");
    }
}
