//! The paths of the API that the original does not have, in one place: version 1 documents, connection tests,
//! looks, receipts and the certificates to seal to. They live under the original's resources, with a version of their own.

use dmg_authoring::DocumentKind;
use dmg_protocol::Fault;
use dmg_seal::RecipientCertificate;

use crate::client::{Client, segment};
use crate::display::word;

/// Version of our own additions.
pub(crate) const OURS: &str = "2026-11-01";

/// The collection's name in version 2's paths.
pub(crate) fn collection(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::LinkedService => "linkedservices",
        DocumentKind::Dataset => "datasets",
        DocumentKind::Pipeline => "pipelines",
    }
}

/// A version 1 document; an empty name gives the collection.
pub(crate) fn v1_document(client: &Client, factory: &str, kind: DocumentKind, name: &str) -> String {
    let path = format!("{}/v1documents/{}/{}", client.factory_path(factory), collection(kind), segment(name));
    path.trim_end_matches('/').to_owned()
}

/// The connection test of a linked service.
pub(crate) fn connection_test(client: &Client, factory: &str, name: &str) -> String {
    format!("{}/linkedservices/{}/testConnection", client.factory_path(factory), segment(name))
}

/// Looks into the store of a linked service.
pub(crate) fn browse(client: &Client, factory: &str, name: &str) -> String {
    format!("{}/linkedservices/{}/browse", client.factory_path(factory), segment(name))
}

/// The receipt of an activity run.
pub(crate) fn receipt(client: &Client, factory: &str, run: &str, activity_run: &str) -> String {
    format!(
        "{}/pipelineruns/{}/activityruns/{}/receipt",
        client.factory_path(factory),
        segment(run),
        segment(activity_run)
    )
}

/// To whom a secret is sealed, and the factory it is bound to.
pub(crate) struct Sealing {
    pub(crate) factory_id: String,
    pub(crate) recipients: Vec<RecipientCertificate>,
}

/// Asks for the certificates of one gateway, or of all gateways of the factory.
pub(crate) async fn sealing(client: &Client, factory: &str, gateway: Option<&str>) -> Result<Sealing, Fault> {
    let mut path = format!("{}/sealing", client.factory_path(factory));
    if let Some(gateway) = gateway {
        path.push_str(&format!("?gateway={}", segment(gateway)));
    }
    let answer = client.get(&path, OURS).await?;
    let recipients = answer["recipients"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|recipient| RecipientCertificate::from_pem(&word(&recipient["certificate"])))
        .collect::<Result<Vec<_>, _>>()?;
    if recipients.is_empty() {
        let whose = match gateway {
            Some(gateway) => format!("Gateway \"{gateway}\" has no certificate yet"),
            None => format!("No gateway of factory \"{factory}\" has a certificate yet"),
        };
        return Err(Fault::new("UserErrorNoGatewayToSealTo", format!("{whose}, so nobody could open the secret."))
            .remedy("Register a node first. Nothing was sent."));
    }
    Ok(Sealing { factory_id: word(&answer["factoryId"]), recipients })
}
