//! Gateway keys: secrets derived from the root key, never stored, so that they can be shown again. The database only
//! knows how often each was regenerated.

use dmg_protocol::Secret;
use dmg_seal::{GatewayKey, KeyLook, SECRET_BYTES, format_key, hmac_sha256, identity_pin, sha256};
use dmg_state::{Factory, Gateway, Slot};

use crate::service::Service;

/// The secret of a slot at its present generation.
pub(crate) fn slot_secret(service: &Service, gateway: &Gateway, slot: Slot) -> Secret<[u8; SECRET_BYTES]> {
    let (number, generation) = match slot {
        Slot::One => (1, gateway.generations[0]),
        Slot::Two => (2, gateway.generations[1]),
    };
    let text = format!("dmg-gateway-key/1\n{}\n{number}\n{generation}", gateway.id);
    Secret::new(hmac_sha256(service.root_key.expose(), text.as_bytes()))
}

/// The text of a slot's key in one of its looks.
pub(crate) fn key_text(
    service: &Service,
    factory: &Factory,
    gateway: &Gateway,
    slot: Slot,
    look: KeyLook,
    endpoint: &str,
) -> String {
    let key = GatewayKey {
        look,
        gateway_id: gateway.id.clone(),
        factory: if look == KeyLook::V2 { factory.name.clone() } else { factory.id.to_string() },
        service_id: (look == KeyLook::V1Adf).then(|| service_id(service)),
        endpoint: endpoint.to_owned(),
        secret: slot_secret(service, gateway, slot),
        pin: identity_pin(&service.identity.public_key()),
    };
    format_key(&key).expose().clone()
}

/// The service's own id: its identity in the look of a UUID.
fn service_id(service: &Service) -> String {
    let hash = sha256(service.identity.public_key().as_bytes());
    let hex: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
