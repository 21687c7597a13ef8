//! `dmg node`: the part that runs next to the data. The work is done by the gateway crate; here it is called and its
//! answers are put into words.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use dmg_ambient::Ambient;
use dmg_gateway::host;
use dmg_protocol::Secret;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::display::Output;
use crate::failure::{Failure, IntoConfiguration, file_fault};
use crate::secret_input;

/// Longer than any key; what is longer was not meant for us.
const KEY_BYTES_MAX: u64 = 4096;

/// `dmg node …`
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Register this machine with a gateway key
    Register(Register),
    /// Run the node until Ctrl-C
    Run(Data),
    /// Say who the node is and whether it is connected
    Status(Data),
    /// The gateway certificate that credentials are sealed to
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Run one job; started by the node itself
    #[command(hide = true)]
    Worker,
}

/// `dmg node certificate …`
#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// Show the certificate, without its key
    Show(Data),
    /// Write certificate and key to a PFX file under a password
    Export(Export),
    /// Take certificate and key from a PFX file
    Import(Import),
}

/// Which node.
#[derive(Debug, Args)]
pub(crate) struct Data {
    /// The node's data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// A registration.
#[derive(Debug, Args)]
pub(crate) struct Register {
    /// The key from `dmg gateway create` or `dmg gateway key list`; - reads it from standard input
    #[arg(required_unless_present = "key_file")]
    key: Option<String>,
    /// File that holds the key
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    key_file: Option<PathBuf>,
    /// Name of the node; the machine's name where none is given
    #[arg(long, value_name = "N")]
    name: Option<String>,
    /// PEM file of a certificate authority to trust besides the system's, for a network that inspects TLS
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The node's data folder; made if need be
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Where the PFX file goes.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The PFX file to write; must not exist
    file: PathBuf,
    /// File that holds the password; asked for on a terminal otherwise
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The node's data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Where the PFX file is.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The PFX file
    file: PathBuf,
    /// File that holds the password; asked for on a terminal otherwise
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Replace a different certificate; credentials sealed to that one must then be entered again
    #[arg(long)]
    replace: bool,
    /// The node's data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Runs `dmg node`.
pub(crate) async fn run(
    command: NodeCommand,
    ambient: &Ambient,
    output: Output,
    cancel: CancellationToken,
) -> Result<u8, Failure> {
    match command {
        NodeCommand::Register(arguments) => register(arguments, ambient, output).await,
        NodeCommand::Run(Data { data }) => {
            let node = host::status(&data)?;
            output.note(&format!(
                "Node {} of gateway {} ({}) runs; service {}. Stop it with Ctrl-C.",
                node.node, node.gateway, node.factory, node.endpoint
            ));
            host::run(&data, ambient, cancel).await?;
            Ok(0)
        }
        NodeCommand::Status(Data { data }) => status(&data, output),
        NodeCommand::Certificate(command) => certificate(command, ambient, output).await,
        NodeCommand::Worker => Ok(dmg_gateway::worker::main(ambient.clone()).await),
    }
}

async fn register(arguments: Register, ambient: &Ambient, output: Output) -> Result<u8, Failure> {
    let key = match (&arguments.key_file, arguments.key.as_deref()) {
        (Some(path), _) => secret_input::from_file(path)?,
        (None, Some("-") | None) => {
            let mut text = String::new();
            std::io::stdin().lock().take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(|error| {
                Failure::configuration(format!("The key cannot be read from standard input: {error}."))
            })?;
            Secret::new(text)
        }
        (None, Some(key)) => Secret::from(key),
    };
    let ca = match &arguments.ca {
        Some(path) => {
            Some(std::fs::read_to_string(path).map_err(|error| file_fault("read", path, &error).into_configuration())?)
        }
        None => None,
    };
    let registered =
        host::register(key.expose().trim(), arguments.name.as_deref(), &arguments.data, ca.as_deref(), ambient).await?;
    let record = &registered.record;
    let value = json!({
        "node": record.node,
        "nodeId": record.node_id,
        "gateway": record.gateway,
        "factory": record.factory,
        "service": registered.endpoint,
        "certificateThumbprint": registered.thumbprint,
        "holdsCertificate": registered.holds_certificate,
    });
    output.answer(&value, || {
        let mut text = format!(
            "Integration Runtime registration is successful!\n\
             Node {} of gateway {} in factory {}, service {}.\n",
            record.node, record.gateway, record.factory, registered.endpoint
        );
        if registered.made_certificate {
            text.push_str(
                "The gateway certificate was made on this machine. Keep a copy: dmg node certificate export.\n",
            );
        } else if !registered.holds_certificate {
            text.push_str(
                "The gateway has a certificate already, and its key is on another node.\n\
                 Until you bring it here with dmg node certificate import, this node is limited and gets no work.\n",
            );
        }
        text.push_str(&format!("Start it with: dmg node run --data {}", arguments.data.display()));
        text
    });
    Ok(0)
}

fn status(data: &Path, output: Output) -> Result<u8, Failure> {
    let report = host::status(data)?;
    let value = serde_json::to_value(&report).unwrap_or_default();
    output.answer(&value, || {
        let running = match (&report.host_running, &report.connection) {
            (false, _) => "not running; start it with dmg node run".to_owned(),
            (true, None) => "starting".to_owned(),
            (true, Some(host::Connection::Stopped)) => "stopping".to_owned(),
            (true, Some(host::Connection::Connected)) => "Connected to the cloud service".to_owned(),
            (true, Some(host::Connection::Disconnected { reason })) => format!("Disconnected: {reason}"),
            (true, Some(host::Connection::Refused { reason })) => format!("Gateway is not registered: {reason}"),
        };
        let certificate = match &report.certificate_thumbprint {
            Some(thumbprint) => thumbprint.clone(),
            None => "not on this node; bring it with dmg node certificate import".to_owned(),
        };
        format!(
            "node         {}\ngateway      {}\nfactory      {}\nservice      {}\nregistered   {}\nstatus       {running}\ncertificate  {certificate}",
            report.node,
            report.gateway,
            report.factory,
            report.endpoint,
            crate::display::moment(&report.registered),
        )
    });
    Ok(0)
}

async fn certificate(command: CertificateCommand, ambient: &Ambient, output: Output) -> Result<u8, Failure> {
    match command {
        CertificateCommand::Show(Data { data }) => {
            let report = host::certificate_show(&data)?;
            output.answer(&certificate_value(&report), || {
                format!("subject     {}\nthumbprint  {}\n{}", report.subject, report.thumbprint, report.pem)
            });
        }
        CertificateCommand::Export(Export { file, password_file, data }) => {
            // What can fail cheaply fails before anybody types a password.
            host::certificate_show(&data)?;
            let password = secret_input::password(
                password_file.as_deref(),
                "Password for the PFX file: ",
                "--password-file",
                true,
            )?;
            let pfx = host::certificate_export(&data, &password)?;
            write_new(&file, &pfx)?;
            output.answer(&json!({ "file": file }), || {
                format!("Certificate and key written to {}. Keep the file and its password apart.", file.display())
            });
        }
        CertificateCommand::Import(Import { file, password_file, replace, data }) => {
            let pfx = std::fs::read(&file).map_err(|error| file_fault("read", &file, &error).into_configuration())?;
            let password = secret_input::password(
                password_file.as_deref(),
                "Password of the PFX file: ",
                "--password-file",
                false,
            )?;
            let report = host::certificate_import(&data, &pfx, &password, replace, ambient).await?;
            output.answer(&certificate_value(&report), || {
                format!("Certificate {} is now this node's.", report.thumbprint)
            });
        }
    }
    Ok(0)
}

fn certificate_value(report: &host::CertificateReport) -> serde_json::Value {
    json!({ "subject": report.subject, "thumbprint": report.thumbprint, "certificate": report.pem })
}

/// Writes a file for its owner only, and never over another.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| file_fault("written", path, &error).into_configuration())
}
