//! The public REST API as a person uses it from here. The client knows paths and answers, no meaning of documents,
//! and has no door that the portal or a script would not have.

use std::time::Duration;

use dmg_protocol::{Fault, Secret, fault_info};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::context::{Connection, ServiceArguments};
use crate::failure::Failure;

/// Version 1 of the original's API.
pub(crate) const V1: &str = "2015-10-01";
/// Version 2 of the original's API.
pub(crate) const V2: &str = "2018-06-01";

/// What is plain inside one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// A long answer of ours is a page of a list; more than this is not ours.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
const PAGES_MAX: usize = 10_000;

/// A connection to one service.
pub(crate) struct Client {
    http: reqwest::Client,
    service: String,
    token: Secret<String>,
    subscription: String,
    resource_group: String,
    factory: Option<String>,
}

/// An answer with its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

/// One segment of a path, escaped.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

impl Client {
    /// A client for the service these flags name.
    pub(crate) fn open(arguments: &ServiceArguments) -> Result<Self, Failure> {
        Self::new(arguments.connection()?)
    }

    /// A client for a connection.
    pub(crate) fn new(connection: Connection) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(15))
            .timeout(Duration::from_secs(120))
            .user_agent(concat!("dmg/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &connection.ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| {
                    Failure::configuration("The file given with --ca holds no certificate in PEM form.")
                        .remedy("Give the service.pem of the service's data folder, or your authority's certificate.")
                })?;
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder.build().map_err(|error| {
            Failure::configuration(format!("The HTTPS client cannot be set up: {}.", causes(&error)))
        })?;
        let Connection { service, token, factory, resource_group, subscription, .. } = connection;
        Ok(Client { http, service, token, subscription, resource_group, factory })
    }

    /// The service's address.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// `/subscriptions/…/providers/Microsoft.DataFactory` of this subscription and group.
    fn provider(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.DataFactory",
            segment(&self.subscription),
            segment(&self.resource_group)
        )
    }

    /// The path of all factories of the group, in version 2.
    pub(crate) fn factories(&self) -> String {
        format!("{}/factories", self.provider())
    }

    /// The path of one factory in version 2.
    pub(crate) fn factory_path(&self, name: &str) -> String {
        format!("{}/factories/{}", self.provider(), segment(name))
    }

    /// The path of one factory in version 1.
    pub(crate) fn factory_path_v1(&self, name: &str) -> String {
        format!("{}/datafactories/{}", self.provider(), segment(name))
    }

    /// The factory that was named, or the only one there is.
    pub(crate) async fn factory(&self) -> Result<String, Fault> {
        if let Some(name) = &self.factory {
            return Ok(name.clone());
        }
        let all = self.list(&self.factories(), V2).await?;
        let names: Vec<&str> = all.iter().filter_map(|factory| factory["name"].as_str()).collect();
        match names.as_slice() {
            [only] => Ok((*only).to_owned()),
            [] => Err(Fault::new("UserErrorNotFound", "The service has no factory yet.")
                .remedy("Make one with dmg factory create NAME.")),
            many => Err(Fault::new("UserErrorSettings", format!("There are several factories: {}.", many.join(", ")))
                .remedy("Add --factory NAME, or log in again with it.")),
        }
    }

    /// Sends a request; an error answer becomes a fault.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        version: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Fault> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{path}{joint}api-version={version}", self.service);
        let mut request = self.http.request(method, url).bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| unreachable_fault(&self.service, &error))?;
        let status = response.status();
        if response.content_length().unwrap_or(0) > ANSWER_BYTES_MAX {
            return Err(strange(&self.service, "an answer that is too long"));
        }
        let bytes = response.bytes().await.map_err(|error| unreachable_fault(&self.service, &error))?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            match serde_json::from_slice(&bytes) {
                Ok(body) => body,
                Err(_) if !status.is_success() => Value::Null,
                Err(_) => return Err(strange(&self.service, "an answer that is no JSON")),
            }
        };
        if status.is_success() { Ok(Answer { status, body }) } else { Err(refusal(status, &body)) }
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str, version: &str) -> Result<Value, Fault> {
        Ok(self.send(Method::GET, path, version, None).await?.body)
    }

    /// GET; nothing where there is nothing.
    pub(crate) async fn find(&self, path: &str, version: &str) -> Result<Option<Value>, Fault> {
        match self.get(path, version).await {
            Ok(body) => Ok(Some(body)),
            Err(fault) if fault.context.get("status").map(String::as_str) == Some("404") => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// PUT.
    pub(crate) async fn put(&self, path: &str, version: &str, body: &Value) -> Result<Value, Fault> {
        Ok(self.send(Method::PUT, path, version, Some(body)).await?.body)
    }

    /// POST.
    pub(crate) async fn post(&self, path: &str, version: &str, body: &Value) -> Result<Value, Fault> {
        Ok(self.send(Method::POST, path, version, Some(body)).await?.body)
    }

    /// DELETE; says whether there was something.
    pub(crate) async fn delete(&self, path: &str, version: &str) -> Result<bool, Fault> {
        Ok(self.send(Method::DELETE, path, version, None).await?.status != StatusCode::NO_CONTENT)
    }

    /// All pages of a list.
    pub(crate) async fn list(&self, path: &str, version: &str) -> Result<Vec<Value>, Fault> {
        let mut items = Vec::new();
        let mut page = self.get(path, version).await?;
        for _ in 0..PAGES_MAX {
            if let Some(Value::Array(some)) = page.get_mut("value").map(Value::take) {
                items.extend(some);
            }
            let Some(next) = page["nextLink"].as_str().filter(|next| !next.is_empty()) else { break };
            // The token must not follow a link to somebody else.
            let Some(path) = next.strip_prefix(&self.service) else {
                return Err(strange(&self.service, "a next page at another address"));
            };
            let path = path.split(['?', '&']).enumerate().fold(String::new(), |mut path, (index, piece)| {
                if !piece.starts_with("api-version=") {
                    path.push_str(match index {
                        0 => "",
                        _ if path.contains('?') => "&",
                        _ => "?",
                    });
                    path.push_str(piece);
                }
                path
            });
            page = self.get(&path, version).await?;
        }
        Ok(items)
    }
}

fn strange(service: &str, what: &str) -> Fault {
    Fault::new("NetworkErrorServiceUnreachable", format!("{service} gave {what}."))
        .remedy("Check that the address is a Data Management Gateway service.")
}

/// Why no answer came.
fn unreachable_fault(service: &str, error: &reqwest::Error) -> Fault {
    let text = causes(error);
    let lower = text.to_ascii_lowercase();
    if lower.contains("certificate") || lower.contains("tls") {
        return Fault::new("NetworkErrorTls", format!("The certificate of {service} is not trusted: {text}."))
            .remedy("Give the service's own certificate with --ca FILE (service.pem in its data folder).");
    }
    Fault::new("NetworkErrorServiceUnreachable", format!("The service {service} cannot be reached: {text}."))
}

/// The deepest cause of an error; what stands above it only repeats the address.
fn causes(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}

/// What an error answer says, `{"error": {code, message, details}}` or `{code, message}`, as a fault. Our service puts
/// its own words, apart from the remedy, into the first detail.
fn refusal(status: StatusCode, body: &Value) -> Fault {
    let error = if body["error"].is_object() { &body["error"] } else { body };
    let detail = error["details"].get(0).filter(|detail| detail["code"].as_str().and_then(fault_info).is_some());
    let text = |member: &str| detail.unwrap_or(error)[member].as_str().map(str::to_owned);
    let code = text("code").unwrap_or_else(|| code_of(status).to_owned());
    let info = fault_info(&code);
    let message = text("message").unwrap_or_else(|| format!("The service answered {status}."));
    let remedy = text("remedy").or_else(|| info.map(|info| info.remedy.to_owned())).unwrap_or_default();
    // A message that ends in its own remedy is not followed by it a second time.
    let remedy = if message.contains(&remedy) { String::new() } else { remedy };
    Fault {
        code,
        message,
        remedy,
        retry: info.map_or(dmg_protocol::Retry::Never, |info| info.retry),
        context: [("status".to_owned(), status.as_u16().to_string())].into(),
    }
}

fn code_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "UserErrorAuthentication",
        404 => "UserErrorNotFound",
        409 => "UserErrorInUse",
        412 => "UserErrorPrecondition",
        400..=499 => "UserErrorBadRequest",
        _ => "SystemErrorInternal",
    }
}

/// An empty JSON object, for calls without content.
pub(crate) fn nothing() -> Value {
    json!({})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_answers() {
        let both = [
            json!({"error": {"code": "UserErrorInUse", "message": "It is used by dataset \"d\".", "details": []}}),
            json!({"code": "UserErrorInUse", "message": "It is used by dataset \"d\"."}),
            json!({"error": {"code": "Conflict", "message": "…", "details": [
                {"code": "UserErrorInUse", "message": "It is used by dataset \"d\"."}
            ]}}),
        ];
        for body in both {
            let fault = refusal(StatusCode::CONFLICT, &body);
            assert_eq!(fault.code, "UserErrorInUse");
            assert_eq!(fault.message, "It is used by dataset \"d\".");
            assert!(fault.remedy.starts_with("Delete or change"));
        }
        assert_eq!(refusal(StatusCode::UNAUTHORIZED, &Value::Null).code, "UserErrorAuthentication");
        assert_eq!(segment("Sales 2024/x"), "Sales%202024%2Fx");
    }
}
