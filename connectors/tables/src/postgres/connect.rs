//! Opens a session: TCP through the one seam, TLS as asked, log-in, and the settings every session of ours has so
//! that texts of values never depend on the server's configuration.

use std::sync::Arc;

use bytes::BytesMut;
use dmg_connector::{Error, Result};
use dmg_protocol::Fault;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Client;
use super::errors::{self, ServerError};
use super::settings::Server;
use super::tls;
use super::wire::{Stream, Wire};
use crate::tls::SslMode;

/// What a session of ours is set to. Texts of values follow from these; the last makes a commit that was answered one that
/// lasts, where the server's owner lets go of that for others.
const SESSION: &str = "SET client_encoding = 'UTF8'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
     SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; \
     SET xmloption = 'content'; SET standard_conforming_strings = on; SET statement_timeout = 0; \
     SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET client_min_messages = 'warning'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// No answer before the log-in is longer.
const GREETING_BYTES_MAX: usize = 64 * 1024;

/// Connects and logs in, within the time the settings allow.
pub(super) async fn connect(server: &Arc<Server>) -> Result<Client> {
    let place = server.place();
    tokio::select! {
        biased;
        client = open(server) => client,
        () = server.session.ambient.sleep(server.connect_timeout) => {
            let seconds = server.connect_timeout.as_secs();
            let message = format!("{place} did not answer within {seconds} seconds.");
            Err(Fault::new("NetworkErrorStoreUnreachable", message).into())
        }
    }
}

async fn open(server: &Arc<Server>) -> Result<Client> {
    dmg_ambient::failpoint!("postgres.connect", dmg_connector::cut());
    let place = server.place();
    let (stream, encrypted) = stream(server).await?;
    let mut wire = Wire::new(stream, place);
    wire.clock = Some(server.session.ambient.clone());
    log_in(&mut wire, server, encrypted).await?;
    let mut client = Client::new(wire);
    client.settle().await.map_err(|error| explain(server, error))?;
    client.batch(SESSION).await?;
    if client.version >= 14 {
        // Without it a server that computes before it sends would not notice that we went away. Not every platform
        // can, and a copy works without it, so a refusal is no failure.
        let comfort = "SET client_connection_check_interval = '5s'; SET idle_session_timeout = 0";
        let _ = client.batch(comfort).await;
    }
    client.cancel_when_dropped(server.clone());
    Ok(client)
}

async fn stream(server: &Server) -> Result<(Box<dyn Stream>, bool)> {
    let place = server.place();
    let unreachable = |error: std::io::Error| {
        let message = format!("{place} cannot be reached: {error}.");
        Error::caused(Fault::new("NetworkErrorStoreUnreachable", message), error)
    };
    let mut tcp = server.session.connect(&server.host, server.port).await.map_err(unreachable)?;
    if server.ssl_mode == SslMode::Disable {
        return Ok((Box::new(tcp), false));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(|error| errors::broken(&place, error))?;
    match tcp.read_u8().await {
        Ok(b'S') => Ok((Box::new(tls::encrypt(server, tcp).await?), true)),
        Ok(b'N') if server.ssl_mode == SslMode::Prefer => Ok((Box::new(tcp), false)),
        Ok(b'N') => {
            let message = format!("{place} does not offer TLS, which sslMode asks for.");
            let remedy = "Switch TLS on at the server, or set sslMode to disable if the network may be trusted.";
            Err(Fault::new("NetworkErrorTls", message).remedy(remedy).into())
        }
        Ok(other) => Err(errors::garbled(&place, &format!("its answer begins with {:?}", char::from(other)))),
        Err(error) => Err(errors::broken(&place, error)),
    }
}

async fn log_in(wire: &mut Wire, server: &Server, encrypted: bool) -> Result<()> {
    let parameters = [
        ("user", server.user.as_str()),
        ("database", server.database.as_str()),
        ("application_name", server.session.application.as_str()),
        ("client_encoding", "UTF8"),
    ];
    frontend::startup_message(parameters, &mut wire.output).map_err(|error| unfit(server, error))?;
    wire.send().await?;
    let mut scram: Option<ScramSha256> = None;
    loop {
        let frame = loop {
            if let Some(frame) = wire.buffered(GREETING_BYTES_MAX)? {
                break frame;
            }
            wire.fill(GREETING_BYTES_MAX).await?;
        };
        let body = wire.body(frame).to_vec();
        match frame.tag {
            b'E' => return Err(explain(server, errors::error(&server.place(), &ServerError::parse(&body)))),
            b'N' => continue,
            b'R' => {}
            other => return Err(errors::garbled(&wire.place, &format!("message {other} during the log-in"))),
        }
        let Some((code, data)) = body.split_first_chunk::<4>() else {
            return Err(errors::garbled(&wire.place, "a cut message during the log-in"));
        };
        match i32::from_be_bytes(*code) {
            0 => return Ok(()),
            3 if !encrypted => {
                let message = format!("{} asks for the password in clear over an unencrypted connection.", wire.place);
                let remedy = "Set sslMode to require, or let the server ask for scram-sha-256.";
                return Err(Fault::new("UserErrorLoginRefused", message).remedy(remedy).into());
            }
            3 => {
                frontend::password_message(password(server)?.as_bytes(), &mut wire.output)
                    .map_err(|error| unfit(server, error))?;
            }
            5 => {
                let salt = data.first_chunk::<4>().ok_or_else(|| errors::garbled(&wire.place, "a cut salt"))?;
                let hash = md5_hash(server.user.as_bytes(), password(server)?.as_bytes(), *salt);
                frontend::password_message(hash.as_bytes(), &mut wire.output).map_err(|error| unfit(server, error))?;
            }
            10 if data.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) => {
                let started = ScramSha256::new(password(server)?.as_bytes(), ChannelBinding::unsupported());
                frontend::sasl_initial_response(SCRAM_SHA_256, started.message(), &mut wire.output)
                    .map_err(|error| unfit(server, error))?;
                scram = Some(started);
            }
            11 => {
                let scram = scram.as_mut().ok_or_else(|| errors::garbled(&wire.place, "a log-in out of order"))?;
                scram.update(data).map_err(|error| impostor(server, error))?;
                frontend::sasl_response(scram.message(), &mut wire.output).map_err(|error| unfit(server, error))?;
            }
            12 => {
                let scram = scram.as_mut().ok_or_else(|| errors::garbled(&wire.place, "a log-in out of order"))?;
                scram.finish(data).map_err(|error| impostor(server, error))?;
                continue;
            }
            other => {
                let message = format!("{} asks for a way to log in that is not supported ({other}).", wire.place);
                let remedy = "Let the server ask this role for scram-sha-256, md5 or password.";
                return Err(Fault::new("UserErrorNotSupported", message).remedy(remedy).into());
            }
        }
        wire.send().await?;
    }
}

fn password(server: &Server) -> Result<&str> {
    server.password.as_ref().map(|secret| secret.expose().as_str()).ok_or_else(|| {
        let message = format!("{} asks for a password of \"{}\", and none is given.", server.place(), server.user);
        let remedy = "Enter the password of the linked service, or give it with --secret-file right after its URI.";
        Fault::new("UserErrorLoginRefused", message).remedy(remedy).into()
    })
}

/// A name with a zero byte in it, the only thing a start-up message cannot say.
fn unfit(server: &Server, error: std::io::Error) -> Error {
    let message = format!("User, database or password of {} cannot be sent.", server.place());
    Error::caused(Fault::new("UserErrorSettings", message), error)
}

/// The server could not prove that it knows the password either.
fn impostor(server: &Server, error: std::io::Error) -> Error {
    let message = format!("{} could not complete the log-in of \"{}\".", server.place(), server.user);
    Error::caused(Fault::new("UserErrorLoginRefused", message), error)
}

/// Puts the user's own words on what a server says during the log-in.
fn explain(server: &Server, error: Error) -> Error {
    let place = server.place();
    let message = match error.fault.code.as_str() {
        "UserErrorLoginRefused" => format!("{place} refused the log-in of \"{}\".", server.user),
        "UserErrorContainerMissing" => format!("{place} has no database \"{}\".", server.database),
        _ => return error,
    };
    let remedy = match error.fault.code.as_str() {
        "UserErrorLoginRefused" => "Check user and password of the linked service, or grant the role access.",
        _ => "Check the database name of the linked service.",
    };
    let fault = Fault { message, remedy: remedy.to_owned(), ..*error.fault };
    Error { fault: Box::new(fault), ..error }
}
