//! The API's door for secrets: what comes in clear is sealed to gateway certificates here, before it is stored, queued
//! or logged. Nothing behind this file sees a secret.

use dmg_authoring::{Dialect, gateway_of, seal_binding, split_secrets, unchanged, with_envelope};
use dmg_protocol::{Fault, MASK};
use dmg_seal::{RecipientCertificate, envelope_recipients, seal};
use dmg_state::{Factory, Gateway};
use http::StatusCode;
use serde_json::Value;

use crate::error::{Refusal, Result};
use crate::service::Service;

/// The certificates a linked service's secret is sealed to: its gateway's, or those of all gateways of the factory.
pub(crate) fn recipients(gateways: &[Gateway], named: Option<&str>) -> Result<Vec<(String, RecipientCertificate)>> {
    let wanted = gateways.iter().filter(|gateway| named.is_none_or(|name| gateway.name.eq_ignore_ascii_case(name)));
    wanted
        .filter_map(|gateway| gateway.certificate.as_deref().map(|pem| (gateway, pem)))
        .map(|(gateway, pem)| Ok((gateway.name.clone(), RecipientCertificate::from_pem(pem)?)))
        .collect()
}

/// A linked service ready to store: secrets sealed, masks filled from what is stored.
pub(crate) async fn linked_service(
    service: &Service,
    factory: &Factory,
    dialect: Dialect,
    name: &str,
    sent: &Value,
    stored: Option<&Value>,
) -> Result<Value> {
    let split = split_secrets(dialect, sent)?;
    let factory_id = factory.id.as_str();
    let gateways = service.state.gateways(&factory.id).await?;
    let gateway = gateway_of(dialect, sent);
    let recipients = recipients(&gateways, gateway.as_deref())?;
    if !split.secrets.is_empty() {
        if recipients.is_empty() {
            return Err(nobody(name, gateway.as_deref()));
        }
        let binding = seal_binding(dialect, name, factory_id, &split.document_without_secrets)?;
        let certificates: Vec<RecipientCertificate> =
            recipients.into_iter().map(|(_, certificate)| certificate).collect();
        let envelope = seal(&certificates, &binding, &split.secrets)?;
        return Ok(with_envelope(dialect, &split.document_without_secrets, &envelope));
    }
    if split.masked.is_empty() {
        return Ok(split.document_without_secrets);
    }
    let filled = unchanged(dialect, name, factory_id, &split.document_without_secrets, stored)?;
    let envelope = split_secrets(dialect, &filled)?.envelope;
    let sealed_to = envelope.as_deref().map(envelope_recipients).transpose()?.unwrap_or_default();
    if gateway.is_some() && !recipients.iter().any(|(_, one)| sealed_to.iter().any(|id| id == one.thumbprint())) {
        let message = format!(
            "The stored secret of the linked service \"{name}\" is not sealed to the gateway \"{}\".",
            gateway.unwrap_or_default()
        );
        return Err(Fault::new("UserErrorCredentialBound", message)
            .remedy("Enter the secret again; it is then sealed to that gateway.")
            .into());
    }
    Ok(filled)
}

/// Nobody could open the secret.
fn nobody(name: &str, gateway: Option<&str>) -> Refusal {
    let whose = match gateway {
        Some(gateway) => format!("the gateway \"{gateway}\" has no certificate yet"),
        None => "no gateway of the factory has a certificate yet".to_owned(),
    };
    let message = format!("The secret of the linked service \"{name}\" cannot be sealed: {whose}.");
    Refusal::with_status(Fault::new("UserErrorNoGatewayToSealTo", message), StatusCode::CONFLICT).about(name)
}

/// Datasets and pipelines hold no secrets: one in them would be stored in clear.
pub(crate) fn refuse_secrets(title: &str, name: &str, document: &Value) -> Result<()> {
    match secret_path(document, "$") {
        Some(path) => Err(Fault::new(
            "UserErrorNotSupported",
            format!("The {title} \"{name}\" holds a secret at {path}, where it would be stored in clear."),
        )
        .remedy("Put the secret into a linked service.")
        .into()),
        None => Ok(()),
    }
}

fn secret_path(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(members) => {
            let find = |name: &str| members.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
            let is = |kind: &str| {
                find("type").and_then(|(_, kind)| kind.as_str()).is_some_and(|have| have.eq_ignore_ascii_case(kind))
            };
            let holds = |name: &str| {
                find(name).is_some_and(|(_, inner)| inner.as_str().is_some_and(|text| !text.is_empty() && text != MASK))
            };
            if is("SecureString") && (holds("value") || holds("defaultValue")) {
                return Some(path.to_owned());
            }
            members.iter().find_map(|(name, inner)| secret_path(inner, &format!("{path}.{name}")))
        }
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, inner)| secret_path(inner, &format!("{path}[{index}]")))
        }
        _ => None,
    }
}
