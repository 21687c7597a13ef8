//! Registration: a pasted key becomes a node. The key is checked before any connection is made, the service proves
//! itself before it learns anything, and the secret in the key is never sent.

use std::path::Path;

use dmg_ambient::Ambient;
use dmg_protocol::channel::{CERTIFICATE, CertificateRequest, ENROLL, EnrollRequest, Enrolled, enroll_text};
use dmg_protocol::{Fault, NodeRecord, names};
use dmg_seal::{
    CredentialKey, GatewayKey, RecipientCertificate, SigningKey, base64url, hmac_sha256, open_signed, parse_key,
};
use std::time::Duration;

use super::channel::{Channel, PROGRAM, Parties, hello, is_refusal, read};
use super::folder::{NodeFolder, NodeState};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A fresh registration, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Who the node is now.
    pub record: NodeRecord,
    /// `host:port` of the service.
    pub endpoint: String,
    /// Thumbprint of the gateway certificate (SHA-256, hex).
    pub thumbprint: String,
    /// Whether this node holds its private key. If not, import it from the node that does.
    pub holds_certificate: bool,
    /// Whether the certificate was made just now.
    pub made_certificate: bool,
}

/// Registers this machine as a node. The name is the machine's where none is given; `extra_ca` is PEM.
pub async fn register(
    key_text: &str,
    node_name: Option<&str>,
    data: &Path,
    extra_ca: Option<&str>,
    ambient: &Ambient,
) -> Result<Registered, Fault> {
    let key = parse_key(key_text)?;
    let machine = machine_name();
    let node_name = node_name.map_or_else(|| node_name_of(&machine), str::to_owned);
    if !names::is_node_name(&node_name) {
        return Err(Fault::new("UserErrorName", format!("\"{node_name}\" is not a name for a node."))
            .remedy("Start with a letter or digit, then letters, digits, _ and -, at most 150 characters."));
    }
    let folder = NodeFolder::create(data)?;
    refuse_second_registration(&folder, &key)?;

    let greeted = hello(&key.endpoint, extra_ca, |identity| key.names_identity(identity)).await?;
    let identity = SigningKey::generate();
    let public_key = identity.public_key();
    let proof = hmac_sha256(
        key.secret.expose(),
        enroll_text(&key.gateway_id, &greeted.challenge, &node_name, &public_key).as_bytes(),
    );
    let request = EnrollRequest {
        gateway_id: key.gateway_id.clone(),
        challenge: greeted.challenge,
        node_name,
        machine_name: machine,
        public_key: public_key.clone(),
        program: PROGRAM.to_owned(),
        proof: base64url(&proof),
    };
    let body = serde_json::to_vec(&request).expect("channel messages have string keys and always serialise");
    let answer = greeted.egress.post(ENROLL, &[], body, TIMEOUT).await?;
    if is_refusal(answer.status) {
        return Err(key_refused());
    }
    let enrolled: Enrolled = read(&key.endpoint, &answer).map_err(|fault| match fault.code.as_str() {
        "UserErrorGatewayKey" => key_refused(),
        _ => Fault {
            message: format!("The gateway has encountered an error during registration. {}", fault.message),
            ..fault
        },
    })?;
    let record: NodeRecord = open_signed(&enrolled.record, "dmg-node-record/1", &greeted.service_key)?;
    if record.public_key != public_key || record.gateway_id != key.gateway_id {
        return Err(Fault::new("NetworkErrorServiceIdentity", "The service answered with the record of another node."));
    }
    folder.save_identity(&identity)?;
    folder.save_state(&NodeState {
        version: 1,
        endpoint: key.endpoint.clone(),
        service_key: greeted.service_key.clone(),
        extra_ca: extra_ca.map(str::to_owned),
        record: enrolled.record,
    })?;
    let parties = Parties {
        endpoint: key.endpoint.clone(),
        extra_ca: extra_ca.map(str::to_owned),
        service_key: greeted.service_key,
        node_id: record.node_id.clone(),
        identity,
    };
    let channel = Channel::new(ambient.clone(), parties);
    let (thumbprint, holds, made) =
        settle_certificate(&folder, &channel, &record, enrolled.certificate.as_deref()).await?;
    Ok(Registered { record, endpoint: key.endpoint, thumbprint, holds_certificate: holds, made_certificate: made })
}

/// Makes and publishes the gateway certificate if there is none yet. Gives its thumbprint, whether this node holds the
/// private key, and whether it was made now.
async fn settle_certificate(
    folder: &NodeFolder,
    channel: &Channel,
    record: &NodeRecord,
    published: Option<&str>,
) -> Result<(String, bool, bool), Fault> {
    let held = folder.credential_key()?;
    if let Some(pem) = published {
        let certificate = RecipientCertificate::from_pem(pem)?;
        let holds = held.is_some_and(|key| key.certificate().thumbprint() == certificate.thumbprint());
        return Ok((certificate.thumbprint().to_owned(), holds, false));
    }
    let made = held.is_none();
    let key = held.unwrap_or_else(|| CredentialKey::generate(&record.gateway));
    // Saved before it is published: a certificate that was published and then lost opens nothing.
    folder.save_credential_key(&key)?;
    if let Err(fault) = publish(channel, &key, false).await {
        if made && fault.code == "UserErrorNameTaken" {
            // Another node was first. Nothing is sealed to ours yet, and it must not stand in the way of an import.
            folder.forget_credential_key()?;
        }
        return Err(fault);
    }
    Ok((key.certificate().thumbprint().to_owned(), true, made))
}

/// Publishes the certificate, without the key.
pub(crate) async fn publish(channel: &Channel, key: &CredentialKey, replace: bool) -> Result<(), Fault> {
    let request = CertificateRequest { certificate: key.certificate_pem(), replace };
    channel.call::<serde_json::Value>(CERTIFICATE, &request, TIMEOUT).await.map(|_| ())
}

fn key_refused() -> Fault {
    Fault::new(
        "UserErrorGatewayKey",
        "The gateway key is invalid or empty. Specify a valid gateway key from the portal. The service does not accept \
         the key: it was regenerated, or its gateway was deleted.",
    )
    .remedy(
        "Copy the present key from the service: dmg gateway key list prints it. If the gateway is gone, create one.",
    )
}

fn refuse_second_registration(folder: &NodeFolder, key: &GatewayKey) -> Result<(), Fault> {
    let Some(state) = folder.state()? else { return Ok(()) };
    let record = state.record()?;
    if record.gateway_id == key.gateway_id {
        return Ok(());
    }
    Err(Fault::new(
        "UserErrorInUse",
        format!(
            "Abort installing a new gateway on this computer because this computer has an existing installed gateway \
             and a computer without any installed gateway is required for installing a new gateway. The folder {} \
             belongs to node \"{}\" of gateway \"{}\".",
            folder.path().display(),
            record.node,
            record.gateway
        ),
    )
    .remedy("Give the new node a folder of its own with --data."))
}

/// What the machine calls itself.
fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .or_else(|| dmg_ambient::environment("COMPUTERNAME"))
        .or_else(|| dmg_ambient::environment("HOSTNAME"))
        .unwrap_or_else(|| "node".to_owned())
}

/// A node name after a machine name: what the rule does not allow becomes `-`.
fn node_name_of(machine: &str) -> String {
    let name: String =
        machine.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).take(150).collect();
    let name = name.trim_start_matches(['-', '_']);
    if name.is_empty() { "node".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_names_become_node_names() {
        for (machine, node) in
            [("db-host01", "db-host01"), ("db.example", "db-example"), ("-x", "x"), ("é", "node"), ("", "node")]
        {
            assert_eq!(node_name_of(machine), node);
            assert!(names::is_node_name(&node_name_of(machine)));
        }
    }
}
