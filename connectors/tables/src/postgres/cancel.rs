//! Asks a server to stop what one of its sessions is doing. It is a courtesy: whoever asks is gone already, nobody
//! waits for the answer, and a request that gets lost costs the server what it would have cost anyway.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dmg_ambient::TaskGroup;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::settings::Server;

/// No request may take longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests under way at once; more are not sent.
const REQUESTS_MAX: usize = 32;
/// The code of a request to cancel, where a log-in has its version.
const CANCEL: i32 = 80_877_102;

/// Requests under way. They outlive the session they are about, so they belong to the process.
static REQUESTS: Mutex<Option<TaskGroup>> = Mutex::new(None);

/// Sends the request from a task of its own, over a connection of its own, in clear as the protocol has it: the two
/// numbers are of no use to anybody once the session has ended, which is what happens to it now.
pub(super) fn request(server: Arc<Server>, process: i32, secret: i32) {
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    let Ok(mut requests) = REQUESTS.lock() else { return };
    let requests = requests.get_or_insert_default();
    while requests.try_join_next().is_some() {}
    if requests.len() >= REQUESTS_MAX {
        return;
    }
    requests.spawn(async move {
        let send = async {
            let mut stream = server.session.connect(&server.host, server.port).await?;
            let words = [16, CANCEL, process, secret].map(i32::to_be_bytes);
            stream.write_all(&words.concat()).await?;
            // The server closes the connection when it has passed the request on.
            stream.read_u8().await
        };
        tokio::select! {
            _ = send => {}
            () = server.session.ambient.sleep(PATIENCE) => {}
        }
    });
}
