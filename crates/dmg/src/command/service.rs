//! `dmg service`: starts the service of the control crate and says where it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use dmg_ambient::Ambient;
use dmg_control::{Server, ServiceConfig};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::display::Output;
use crate::failure::{Failure, IntoConfiguration};

/// `dmg service …`
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Run the service until Ctrl-C
    Run(Run),
}

/// Where it keeps its data and listens.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The service's data folder; the first start writes admin.token and service.pem into it
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// host:port that gateway keys name, where nodes reach the service under another address
    #[arg(long, value_name = "HOST:PORT")]
    public_endpoint: Option<String>,
    /// PEM file of a TLS certificate of your own, with its chain
    #[arg(long, value_name = "FILE", requires = "certificate_key")]
    certificate: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    certificate_key: Option<PathBuf>,
}

/// Runs `dmg service`.
pub(crate) async fn run(
    command: ServiceCommand,
    ambient: &Ambient,
    output: Output,
    cancel: CancellationToken,
) -> Result<u8, Failure> {
    let ServiceCommand::Run(Run { data, listen, public_endpoint, certificate, certificate_key }) = command;
    let certificate = certificate.zip(certificate_key);
    let service = build(ServiceConfig { data, listen, public_endpoint, certificate }, ambient).await?;
    let url = format!("https://{}", reachable(service.address()?));
    let (token, certificate) = (service.token_file().to_owned(), service.certificate_file());
    output.answer(&json!({ "service": url, "tokenFile": token, "ca": certificate }), || {
        format!(
            "The service runs at {url}. Stop it with Ctrl-C.\n  token  {}\n  trust  {}",
            token.display(),
            certificate.display()
        )
    });
    service.run(cancel).await?;
    Ok(0)
}

/// A service that listens but does not answer yet. What cannot work is found here.
pub(crate) async fn build(config: ServiceConfig, ambient: &Ambient) -> Result<Server, Failure> {
    dmg_control::build(config, ambient).await.map_err(IntoConfiguration::into_configuration)
}

/// The address to reach a service at from this machine: one that listens everywhere is reached over loopback.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
