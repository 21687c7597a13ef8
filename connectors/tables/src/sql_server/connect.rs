//! Opens a session: TCP through the one seam, TLS and log-in by the driver, and the settings every session of ours
//! has so that values never depend on the server's configuration.

use dmg_connector::Result;
use dmg_protocol::Fault;

use super::driver::Driver;
use super::settings::Server;
use super::tds;

/// What a session of ours is set to.
const SESSION: &str = "SET XACT_ABORT ON; SET QUOTED_IDENTIFIER ON; SET ANSI_NULLS ON; SET ANSI_PADDING ON; \
     SET ANSI_WARNINGS ON; SET ARITHABORT ON; SET CONCAT_NULL_YIELDS_NULL ON; SET NUMERIC_ROUNDABORT OFF; \
     SET IMPLICIT_TRANSACTIONS OFF; SET DATEFORMAT ymd; SET TEXTSIZE 2147483647; SET LOCK_TIMEOUT -1";

/// Connects and logs in, within the time the settings allow. A refused log-in is never tried again here or above: the
/// server counts tries and locks the log-in.
pub(super) async fn connect(server: &Server) -> Result<Box<dyn Driver>> {
    let place = server.place();
    tokio::select! {
        biased;
        session = open(server) => session,
        () = server.session.ambient.sleep(server.connect_timeout) => {
            let seconds = server.connect_timeout.as_secs();
            let message = format!("{place} did not answer within {seconds} seconds.");
            Err(Fault::new("NetworkErrorStoreUnreachable", message).into())
        }
    }
}

async fn open(server: &Server) -> Result<Box<dyn Driver>> {
    let mut session: Box<dyn Driver> = Box::new(tds::Tds::connect(server).await?);
    session.batch(SESSION).await?;
    Ok(session)
}
