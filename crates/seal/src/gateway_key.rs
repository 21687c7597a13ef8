//! The gateway key: one line of text that says where the service is, how to know it again and what to prove to it.
//! It looks as the original's keys look. Everything about it can be checked before any connection is made.

use dmg_protocol::{FactoryId, Fault, GatewayId, MASK, Secret};
use zeroize::Zeroizing;

use crate::hash::sha256;
use crate::{base64url, from_base64url};

/// Length of the secret in bytes.
pub const SECRET_BYTES: usize = 32;
const PIN_BYTES: usize = 18;
const CHECKSUM_BYTES: usize = 4;
const ENDPOINT: &str = "ServiceEndpoint=";

/// The look of a key text. All looks are texts of the same two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLook {
    /// `IR@{gatewayId}@{factory}@ServiceEndpoint={host:port}@{secret}`
    V2,
    /// `ADF#{gatewayId}@{factoryId}@{serviceId}@{host:port}#{secret}`
    V1Adf,
    /// `DMG@{gatewayId}@{factoryId}@{host:port}@{secret}`
    V1Dmg,
}

/// What a key text says.
#[derive(Debug)]
pub struct GatewayKey {
    /// How it is written.
    pub look: KeyLook,
    /// Which gateway.
    pub gateway_id: GatewayId,
    /// The factory's name in the look of version 2, its id in the looks of version 1.
    pub factory: String,
    /// The service's own id, only in [`KeyLook::V1Adf`].
    pub service_id: Option<String>,
    /// `host:port` of the service.
    pub endpoint: String,
    /// What the node proves to know; never sent.
    pub secret: Secret<[u8; SECRET_BYTES]>,
    /// The first 24 characters of [`crate::identity_pin`] of the service's identity key.
    pub pin: String,
}

impl GatewayKey {
    /// Whether an identity key (base64url) is the one the key text names.
    pub fn names_identity(&self, public_key: &str) -> bool {
        crate::identity_pin(public_key).starts_with(&self.pin)
    }

    /// The factory's id, where the look carries it.
    pub fn factory_id(&self) -> Option<FactoryId> {
        (self.look != KeyLook::V2).then(|| FactoryId::new(self.factory.clone()))
    }

    fn head(&self) -> String {
        let GatewayKey { gateway_id, factory, endpoint, .. } = self;
        match self.look {
            KeyLook::V2 => format!("IR@{gateway_id}@{factory}@{ENDPOINT}{endpoint}@"),
            KeyLook::V1Dmg => format!("DMG@{gateway_id}@{factory}@{endpoint}@"),
            KeyLook::V1Adf => {
                let service = self.service_id.as_deref().unwrap_or_default();
                format!("ADF#{gateway_id}@{factory}@{service}@{endpoint}#")
            }
        }
    }
}

/// Writes a key text. `key.pin` may be the whole identity pin; its first 24 characters are used.
pub fn format_key(key: &GatewayKey) -> Secret<String> {
    let head = key.head();
    let mut tail = Zeroizing::new(Vec::with_capacity(SECRET_BYTES + PIN_BYTES + CHECKSUM_BYTES));
    tail.extend_from_slice(key.secret.expose());
    let pin = key.pin.get(..PIN_BYTES / 3 * 4).and_then(from_base64url).unwrap_or_else(|| vec![0; PIN_BYTES]);
    tail.extend_from_slice(&pin);
    let check = checksum(&head, &tail);
    tail.extend_from_slice(&check);
    let tail = Zeroizing::new(base64url(&tail));
    Secret::new(format!("{head}{}", tail.as_str()))
}

/// Reads a key text without any connection. What is wrong with it is said; the secret part is never repeated.
pub fn parse_key(text: &str) -> Result<GatewayKey, Fault> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Fault::new(
            "UserErrorGatewayKey",
            "The gateway key is invalid or empty. Specify a valid gateway key from the portal.",
        )
        .remedy("Copy the key from the service: dmg gateway key list prints it."));
    }
    let malformed = |cause: &str| malformed(text, cause);
    let parts = split(text).map_err(|cause| malformed(&cause))?;
    if !is_uuid(parts.gateway_id) {
        return Err(malformed("Its second part is not the id of a gateway, so the beginning is damaged."));
    }
    if !is_endpoint(parts.endpoint) {
        return Err(malformed("The address of the service in it is not of the form host:port."));
    }
    let bytes = from_base64url(parts.secret.trim_end_matches('=')).map(Zeroizing::new);
    let bytes = bytes.filter(|bytes| bytes.len() == SECRET_BYTES + PIN_BYTES + CHECKSUM_BYTES).ok_or_else(|| {
        let (have, want) = (parts.secret.chars().count(), (SECRET_BYTES + PIN_BYTES + CHECKSUM_BYTES) / 3 * 4);
        malformed(&match have.cmp(&want) {
            std::cmp::Ordering::Less => format!("Its end is cut off: the last part has {have} of {want} characters."),
            std::cmp::Ordering::Greater => {
                format!("Something was added at its end: the last part has {have} characters instead of {want}.")
            }
            std::cmp::Ordering::Equal => "Its last part holds a character that no key has.".to_owned(),
        })
    })?;
    let (tail, check) = bytes.split_at(SECRET_BYTES + PIN_BYTES);
    let mut secret = [0; SECRET_BYTES];
    secret.copy_from_slice(&tail[..SECRET_BYTES]);
    let key = GatewayKey {
        look: parts.look,
        gateway_id: GatewayId::new(parts.gateway_id),
        factory: parts.factory.to_owned(),
        service_id: parts.service_id.map(str::to_owned),
        endpoint: parts.endpoint.to_owned(),
        secret: Secret::new(secret),
        pin: base64url(&tail[SECRET_BYTES..]),
    };
    if checksum(&key.head(), tail) != check {
        return Err(malformed("Its checksum does not fit: a character was lost or mistyped."));
    }
    Ok(key)
}

struct Parts<'a> {
    look: KeyLook,
    gateway_id: &'a str,
    factory: &'a str,
    service_id: Option<&'a str>,
    endpoint: &'a str,
    secret: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, String> {
    let missing =
        |have: usize, want: usize| format!("It is cut off or incomplete: {have} of its {want} parts are there.");
    let parts: Vec<&str> = text.split(['@', '#']).collect();
    match (text.get(..3), parts.as_slice()) {
        (Some("IR@"), [_, gateway_id, factory, endpoint, secret]) => {
            let endpoint = endpoint
                .strip_prefix(ENDPOINT)
                .ok_or("It does not say where the service is: the part ServiceEndpoint=host:port is missing.")?;
            Ok(Parts { look: KeyLook::V2, gateway_id, factory, service_id: None, endpoint, secret })
        }
        (Some("DMG"), [_, gateway_id, factory, endpoint, secret]) => {
            Ok(Parts { look: KeyLook::V1Dmg, gateway_id, factory, service_id: None, endpoint, secret })
        }
        (Some("ADF"), [_, gateway_id, factory, service_id, endpoint, secret]) => {
            Ok(Parts { look: KeyLook::V1Adf, gateway_id, factory, service_id: Some(service_id), endpoint, secret })
        }
        (Some("IR@" | "DMG"), parts) if parts.len() < 5 => Err(missing(parts.len(), 5)),
        (Some("ADF"), parts) if parts.len() < 6 => Err(missing(parts.len(), 6)),
        (Some("IR@" | "DMG" | "ADF"), _) => {
            Err("It has more parts than a key has; perhaps it was pasted twice.".into())
        }
        _ => Err("It does not begin as a gateway key does, with IR@, DMG@ or ADF#.".into()),
    }
}

fn malformed(text: &str, cause: &str) -> Fault {
    Fault::new(
        "UserErrorGatewayKey",
        format!(
            "The content or format of the gateway key \"{}\" is invalid, please go to azure portal to create one new \
             gateway or regenerate the gateway key. {cause}",
            masked(text)
        ),
    )
    .remedy("Copy the whole key again from the service: dmg gateway key list prints it. Nothing was sent.")
}

/// The readable beginning of a key text. A part is shown only if it looks as the part at its place must look.
fn masked(text: &str) -> String {
    let (prefix, rest) = match text.get(..4) {
        Some(start @ ("DMG@" | "ADF#")) => (start, &text[4..]),
        Some(start) if start.starts_with("IR@") => ("IR@", &text[3..]),
        _ => return MASK.to_owned(),
    };
    let mut shown = prefix.to_owned();
    for (index, part) in rest.split(['@', '#']).enumerate() {
        let harmless = match index {
            0 => is_uuid(part),
            1 | 2 => {
                is_uuid(part)
                    || part.strip_prefix(ENDPOINT).is_some_and(is_endpoint)
                    || part.len() < 30 && is_endpoint_or_name(part)
            }
            3 => prefix == "ADF#" && is_endpoint(part),
            _ => false,
        };
        if !harmless {
            break;
        }
        shown.push_str(part);
        shown.push('@');
    }
    shown + MASK
}

fn checksum(head: &str, tail: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut text = Zeroizing::new(b"dmg-gateway-key/1\n".to_vec());
    text.extend_from_slice(head.as_bytes());
    text.extend_from_slice(tail);
    let hash = sha256(&text);
    [hash[0], hash[1], hash[2], hash[3]]
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    port.parse::<u16>().is_ok_and(|port| port > 0)
        && !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
}

fn is_endpoint_or_name(text: &str) -> bool {
    is_endpoint(text) || dmg_protocol::names::is_factory_name(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    fn sample(look: KeyLook, identity: &str) -> GatewayKey {
        GatewayKey {
            look,
            gateway_id: GatewayId::new("0f66c5a1-3a63-4f6f-9f05-2f1c7f0e8a55"),
            factory: if look == KeyLook::V2 { "sales".into() } else { "59cc36c5-0c2f-4d6d-8a3c-5a5d1d4f8a10".into() },
            service_id: (look == KeyLook::V1Adf).then(|| "41fcd9f2-7d2a-4f0e-9d55-0d8ce0b7a111".into()),
            endpoint: "gateway.example:8443".into(),
            secret: Secret::new([7; 32]),
            pin: crate::identity_pin(identity),
        }
    }

    #[test]
    fn all_looks_come_back() {
        let identity = SigningKey::generate().public_key();
        for (look, start) in [(KeyLook::V2, "IR@"), (KeyLook::V1Adf, "ADF#"), (KeyLook::V1Dmg, "DMG@")] {
            let text = format_key(&sample(look, &identity));
            assert!(text.expose().starts_with(start), "{look:?}");
            let key = parse_key(&format!("  {}\n", text.expose())).unwrap();
            assert_eq!(key.look, look);
            assert_eq!(key.endpoint, "gateway.example:8443");
            assert_eq!(key.secret.expose(), &[7; 32]);
            assert!(key.names_identity(&identity));
            assert!(!key.names_identity(&SigningKey::generate().public_key()));
            assert_eq!(format_key(&key).expose(), text.expose());
        }
    }

    /// Every cut and every changed character is found before a connection is made, and the secret is not repeated.
    #[test]
    fn every_cut_and_every_slip_is_named() {
        for look in [KeyLook::V2, KeyLook::V1Adf, KeyLook::V1Dmg] {
            let text = format_key(&sample(look, &SigningKey::generate().public_key()));
            let text = text.expose().as_str();
            let secret = text.rsplit(['@', '#']).next().unwrap();
            for end in 0..text.len() {
                let fault = parse_key(&text[..end]).unwrap_err();
                assert!(!fault.message.contains(&secret[..8]), "{}", fault.message);
                assert!(parse_key(&text[end + 1..]).is_err());
            }
            for at in 0..text.len() {
                let mut slip = text.as_bytes().to_vec();
                slip[at] = if slip[at] == b'x' { b'y' } else { b'x' };
                let slip = String::from_utf8(slip).unwrap();
                let fault = parse_key(&slip).unwrap_err();
                assert!(!fault.message.contains(&secret[40..48]), "{}", fault.message);
            }
        }
    }

    #[test]
    fn texts_are_the_originals() {
        let text = format_key(&sample(KeyLook::V2, &SigningKey::generate().public_key()));
        let text = text.expose();
        for (input, expect) in [
            (
                &text[..text.len() - 5],
                "The content or format of the gateway key \"IR@0f66c5a1-3a63-4f6f-9f05-2f1c7f0e8a55@sales@ServiceEndpoint=gateway.example:8443@**********\" is invalid, please go to azure portal to create one new gateway or regenerate the gateway key. Its end is cut off: the last part has 67 of 72 characters.",
            ),
            (
                "hello",
                "The content or format of the gateway key \"**********\" is invalid, please go to azure portal to create one new gateway or regenerate the gateway key. It does not begin as a gateway key does, with IR@, DMG@ or ADF#.",
            ),
            (
                "IR@0f66c5a1-3a63-4f6f-9f05-2f1c7f0e8a55@sal",
                "The content or format of the gateway key \"IR@0f66c5a1-3a63-4f6f-9f05-2f1c7f0e8a55@sal@**********\" is invalid, please go to azure portal to create one new gateway or regenerate the gateway key. It is cut off or incomplete: 3 of its 5 parts are there.",
            ),
            ("", "The gateway key is invalid or empty. Specify a valid gateway key from the portal."),
        ] {
            assert_eq!(parse_key(input).unwrap_err().message, expect);
        }
    }
}
