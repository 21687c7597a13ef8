//! One connection from accept to close: messages in, answers out, faults applied.

use std::cell::RefCell;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::errors::{Failure, SqlError};
use crate::fault::Fault;
use crate::login;
use crate::out::{ATTENTION, ERROR, IN_TRANSACTION, Out};
use crate::read::{Reader, WireError};
use crate::rpc;
use crate::server::Server;
use crate::session::{Isolation, Session};
use crate::sql::run::run_text;
use crate::transport::{Line, Transport};

/// Serves one client until it leaves, in any way.
pub(crate) fn serve(tcp: TcpStream, server: &Arc<Server>) {
    let Ok(handle) = tcp.try_clone() else { return };
    let id = server.enter(handle);
    let _leaving = Leaving { server, id };
    if let Ok(transport) = Transport::new(tcp) {
        let line = Rc::new(RefCell::new(transport));
        if let Ok(Some(mut session)) = login::log_in(&line, server, id) {
            // Whatever ends the loop ends the connection; the session takes its transaction back when it is dropped.
            let _ = messages(&line, &mut session);
            session.abandon();
        }
        line.borrow_mut().close();
    }
}

/// Takes a session off the list however it ends, and remembers if it ended badly.
struct Leaving<'s> {
    server: &'s Arc<Server>,
    id: i32,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.server.panics.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.server.leave(self.id);
    }
}

fn messages(line: &Line, session: &mut Session) -> Result<(), WireError> {
    loop {
        let begun = line.borrow_mut().begin();
        let (kind, content, ended) = match begun {
            Ok(message) => message,
            Err(WireError::Ignored) => {
                let mut out = Out::new(line);
                out.done(ERROR, 0, 0);
                out.finish()?;
                continue;
            }
            Err(other) => return Err(other),
        };
        let mut out = Out::new(line);
        if kind == 0x06 {
            session.server.note("attention");
            out.done(ATTENTION, 0, 0);
            out.finish()?;
            continue;
        }
        if line.borrow().status & 0x08 != 0 {
            session.reset();
            out.environment(18, "", "");
        }
        let mut reader = Reader::new(Box::new(line.clone()), content, ended);
        let result = answer(kind, &mut reader, session, &mut out);
        out.deaf = false;
        // Attention inside a message that was being read, or an answer that was being written.
        match result {
            Ok(()) => out.finish()?,
            Err(Failure::Sql(error)) => {
                session.last_error = error.number;
                out.error(&error);
                let lost = error.ends_transaction() || session.abort_on_error;
                if lost && session.transactions > 0 {
                    session.abandon();
                    out.environment_bytes(10, &[], &1_u64.to_le_bytes());
                }
                out.done(ERROR | if session.transactions > 0 { IN_TRANSACTION } else { 0 }, 0, 0);
                out.finish()?;
            }
            Err(Failure::Attention | Failure::Wire(WireError::Attention)) => {
                session.server.note("attention");
                if session.transactions == 0 || session.abort_on_error {
                    session.abandon();
                }
                session.nesting = 0;
                while session.frames.len() > 1 {
                    session.drop_frame();
                }
                out.finish_cancelled()?;
            }
            Err(Failure::Wire(WireError::Ignored)) => {
                out.done(ERROR, 0, 0);
                out.finish()?;
            }
            Err(Failure::Wire(wrong @ (WireError::Invalid(_) | WireError::Short | WireError::TooLong))) => {
                // As the server does: an error, then the end of the connection.
                let what = wrong.to_string();
                let text = format!("The incoming tabular data stream (TDS) protocol stream is incorrect: {what}.");
                out.error(&SqlError { class: 20, ..SqlError::new(4002, text) });
                out.done(ERROR, 0, 0);
                out.finish()?;
                return Ok(());
            }
            Err(Failure::Wire(other)) => return Err(other),
        }
    }
}

fn answer(kind: u8, from: &mut Reader, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
    match kind {
        0x01 => {
            skip_headers(from)?;
            let bytes = from.rest()?;
            let text = String::from_utf8_lossy(&crate::value::from_utf16(&bytes)).into_owned();
            session.server.note(&text);
            let after = faulty(session, &text, out)?;
            session.frames.truncate(1);
            session.frames[0].variables.clear();
            run_text(session, &text, out)?;
            finish_fault(after)
        }
        0x03 => {
            let calls = rpc::read(from)?;
            let mut text = String::new();
            for call in &calls {
                text.push_str(&format!("RPC {}", call.name));
                if call.name.object.starts_with("sp_") {
                    for argument in call.arguments.iter().take(3) {
                        text.push_str(&format!(" {}", argument.value.to_text()));
                    }
                }
            }
            session.server.note(&text);
            let after = faulty(session, &text, out)?;
            rpc::run(session, calls, out)?;
            finish_fault(after)
        }
        0x07 => {
            let text = session.bulk.as_ref().map(|bulk| format!("rows of {}", bulk.text)).unwrap_or_default();
            session.server.note(&text);
            out.deaf = true;
            let hit = faulty(session, &text, out);
            if let Err(Failure::Sql(_)) = &hit {
                from.skip_rest()?;
                session.bulk = None;
            }
            let after = hit?;
            session.run_bulk(from, out)?;
            finish_fault(after)
        }
        0x0E => transaction(from, session, out),
        other => {
            from.skip_rest()?;
            Err(WireError::Invalid(format!("a message of kind {other:#04x}")).into())
        }
    }
}

/// Applies the faults that hit a request; true when the connection is to break once it is done.
fn faulty(session: &mut Session, text: &str, out: &mut Out) -> Result<bool, Failure> {
    let mut after = false;
    for fault in session.server.faults(text, false) {
        match fault {
            Fault::Cut(bytes) => out.bytes_fault(|bytes_fault| bytes_fault.cut = Some(bytes)),
            Fault::Drip(size, pause) => out.bytes_fault(|bytes_fault| bytes_fault.drip = Some((size, pause))),
            Fault::Truncate => out.truncate = true,
            Fault::WrongToken => out.wrong_token = true,
            Fault::Delay(milliseconds) => out.listen(Duration::from_millis(milliseconds))?,
            Fault::Error(1205, _) => return Err(SqlError::deadlock().into()),
            Fault::Error(number, text) => {
                let text = if text.is_empty() { format!("Error {number} on demand.") } else { text };
                return Err(SqlError::new(number, text).into());
            }
            Fault::DoneThenCut => after = true,
            Fault::Redirect(..) | Fault::LoginError(..) => {}
        }
    }
    Ok(after)
}

fn finish_fault(after: bool) -> Result<(), Failure> {
    if after {
        return Err(WireError::Io(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "cut by a fault")).into());
    }
    Ok(())
}

/// Skips the headers in front of a request.
pub(crate) fn skip_headers(from: &mut Reader) -> Result<(), WireError> {
    let total = from.u32()? as usize;
    let rest = total.checked_sub(4).filter(|rest| *rest <= 65_536);
    from.slice(rest.ok_or_else(|| WireError::Invalid("impossible headers".into()))?)?;
    Ok(())
}

/// Begin, commit, roll back and save by a message of their own.
fn transaction(from: &mut Reader, session: &mut Session, out: &mut Out) -> Result<(), Failure> {
    skip_headers(from)?;
    let request = from.u16()?;
    let isolation = |session: &mut Session, level: u8| {
        session.isolation = match level {
            0 => session.isolation,
            5 => Isolation::Snapshot,
            3 | 4 => Isolation::Strict,
            _ => Isolation::Committed,
        };
    };
    let name = |from: &mut Reader| -> Result<String, WireError> {
        let length = usize::from(from.u8()?);
        let bytes = from.bytes(length)?;
        Ok(String::from_utf8_lossy(&crate::value::from_utf16(&bytes)).into_owned())
    };
    session.server.note(&format!("transaction request {request}"));
    faulty(
        session,
        ["begin transaction", "commit transaction", "roll back transaction", ""][match request {
            5 => 0,
            7 => 1,
            8 => 2,
            _ => 3,
        }],
        out,
    )
    .and_then(|after| {
        match request {
            5 => {
                let level = from.u8()?;
                name(from)?;
                isolation(session, level);
                session.begin_told(out);
            }
            7 | 8 => {
                name(from)?;
                let flags = from.u8()?;
                if request == 7 {
                    session.commit_told(out)?;
                } else {
                    if session.transactions == 0 {
                        return Err(SqlError::new(
                            3903,
                            "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.",
                        )
                        .into());
                    }
                    session.abandon();
                    out.environment_bytes(10, &[], &1_u64.to_le_bytes());
                }
                if flags & 1 != 0 {
                    let level = from.u8()?;
                    name(from)?;
                    isolation(session, level);
                    session.begin_told(out);
                }
            }
            9 => {
                let name = name(from)?;
                from.skip_rest()?;
                let quoted = name.replace(']', "]]");
                run_text(session, &format!("SAVE TRAN [{quoted}]"), out)?;
                return finish_fault(after);
            }
            other => {
                from.skip_rest()?;
                return Err(SqlError::unknown(&format!("transaction request {other}")).into());
            }
        }
        from.skip_rest()?;
        out.done(if session.transactions > 0 { IN_TRANSACTION } else { 0 }, 0, 0);
        finish_fault(after)
    })
}
