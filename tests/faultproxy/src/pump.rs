//! One connection: bytes go both ways until an end closes or the fault strikes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::{Action, Fault, Shared, Way};

const PIECE: usize = 16 * 1024;
/// How long what was cut off is still read, so that its sender sees an end and not a reset.
const DRAIN: Duration = Duration::from_secs(5);
const CLOCK: Duration = Duration::from_millis(20);

/// How one way ended.
enum End {
    Closed,
    Struck(Action),
}

/// Passes on until the end.
pub(crate) async fn run(mut client: TcpStream, mut server: TcpStream, shared: &Shared) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ambient = dmg_ambient::Ambient::real();
    let struck = {
        let (mut client_in, mut client_out) = client.split();
        let (mut server_in, mut server_out) = server.split();
        let up = pass(&ambient, &mut client_in, &mut server_out, Way::Up, shared);
        let down = pass(&ambient, &mut server_in, &mut client_out, Way::Down, shared);
        let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
        let mut open = 2;
        let (mut up_open, mut down_open) = (true, true);
        loop {
            let end = tokio::select! {
                end = &mut up, if up_open => { up_open = false; end }
                end = &mut down, if down_open => { down_open = false; end }
            };
            match end {
                End::Struck(action) => break Some(action),
                End::Closed => open -= 1,
            }
            if open == 0 {
                break None;
            }
        }
    };
    match struck {
        None | Some(Action::Cut) => {}
        Some(Action::Reset) => {
            // Closing without lingering sends a reset instead of an end.
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
        Some(Action::HalfOpen) => {
            // Held open, and nothing is read any more, until the proxy gets another order.
            let fault = shared.fault();
            while shared.fault() == fault {
                ambient.sleep(CLOCK).await;
            }
        }
        Some(Action::Http(status, retry)) => refuse(&mut client, status, retry).await,
        Some(_) => {
            let _ = client.shutdown().await;
            let mut rest = [0_u8; PIECE];
            let drained = async { while client.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
            tokio::select! {
                () = drained => {}
                () = ambient.sleep(DRAIN) => {}
            }
        }
    }
}

async fn pass(
    ambient: &dmg_ambient::Ambient,
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    way: Way,
    shared: &Shared,
) -> End {
    let mut piece = vec![0_u8; PIECE];
    let (mut passed, mut requests) = (0_u64, 0_u64);
    let mut slow: Option<Action> = None;
    let mut order = shared.fault();
    loop {
        // A reset is an end as well: who is not told of it keeps its transaction open.
        let read = from.read(&mut piece).await.unwrap_or(0);
        if read == 0 {
            let _ = to.shutdown().await;
            return End::Closed;
        }
        let now = shared.fault();
        if now != order {
            (order, slow, passed, requests) = (now, None, 0, 0);
        }
        let bytes = &mut piece[..read];
        let mut keep = read;
        if let Some(at) = struck_at(order, way, passed, &mut requests, bytes)
            && shared.strike(order)
        {
            match order.action {
                Action::Corrupt => bytes[at] ^= 0x10,
                Action::Delay(_) | Action::Throttle(_) => slow = Some(order.action),
                _ => keep = at,
            }
        }
        match slow {
            Some(Action::Delay(pause)) => ambient.sleep(pause).await,
            Some(Action::Throttle(rate)) => ambient.sleep(Duration::from_secs_f64(read as f64 / rate as f64)).await,
            _ => {}
        }
        if to.write_all(&bytes[..keep]).await.is_err() {
            return End::Closed;
        }
        passed += keep as u64;
        shared.passed(way, keep as u64);
        // A place is always inside a piece, so that something is left over when the fault struck.
        if keep < read {
            return End::Struck(order.action);
        }
    }
}

/// The byte of this piece at which the fault has its place.
fn struck_at(fault: Fault, way: Way, passed: u64, requests: &mut u64, bytes: &[u8]) -> Option<usize> {
    match fault.action {
        Action::None => None,
        Action::Http(..) => {
            if way != Way::Up || !begins_request(bytes) {
                return None;
            }
            *requests += 1;
            (*requests > fault.after).then_some(0)
        }
        _ if fault.way != way => None,
        _ => {
            let at = fault.after.checked_sub(passed)?;
            (at < bytes.len() as u64).then_some(at as usize)
        }
    }
}

fn begins_request(bytes: &[u8]) -> bool {
    ["GET ", "PUT ", "POST ", "HEAD ", "DELETE ", "PATCH "].iter().any(|method| bytes.starts_with(method.as_bytes()))
}

/// Answers a request in the server's place and ends the connection.
async fn refuse(client: &mut TcpStream, status: u16, retry: u32) {
    let reason = if status == 429 { "Too Many Requests" } else { "Service Unavailable" };
    let code = if status == 429 { "TooManyRequests" } else { "ServerBusy" };
    let body =
        format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>Busy.</Message></Error>");
    let answer = format!(
        "HTTP/1.1 {status} {reason}\r\nRetry-After: {retry}\r\nx-ms-error-code: {code}\r\nContent-Type: application/xml\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = client.write_all(answer.as_bytes()).await;
    let _ = client.shutdown().await;
    let mut rest = [0_u8; PIECE];
    let ambient = dmg_ambient::Ambient::real();
    let drained = async { while client.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    tokio::select! {
        () = drained => {}
        () = ambient.sleep(DRAIN) => {}
    }
}
