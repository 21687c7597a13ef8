//! One session with a server: queries with text parameters, scripts, and COPY in both directions. It runs one thing
//! at a time and belongs to one task; a session whose command was cut short is never used again.

use std::sync::Arc;

use dmg_connector::{Error, Result};
use dmg_protocol::Fault;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use super::cancel;
use super::errors::{self, ServerError};
use super::settings::Server;
use super::wire::{Frame, Wire};

/// COPY data is sent in pieces of about this size.
pub(super) const COPY_BYTES: usize = 256 * 1024;
/// What stands before each piece: tag and length of its message.
pub(super) const COPY_HEAD: usize = 5;
/// Remarks of the server kept of one call.
const REMARKS_MAX: usize = 100;

/// One row of text values.
pub(super) type Row = Vec<Option<String>>;

/// Rows of a query and how many the command touched.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    pub(super) affected: u64,
    /// Names of the columns, where they were asked for.
    pub(super) columns: Vec<String>,
    /// What the server remarked meanwhile.
    pub(super) remarks: Vec<String>,
}

impl Answer {
    /// The first value of the first row.
    pub(super) fn single(self) -> Option<String> {
        self.rows.into_iter().next()?.into_iter().next()?
    }
}

/// A column as the server describes it: domains are already replaced by their base types.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) modifier: i32,
}

/// A session.
pub(super) struct Client {
    pub(super) wire: Wire,
    /// Whether it is between commands.
    idle: bool,
    /// Transaction state of the last ReadyForQuery: `I`, `T` or `E`.
    status: u8,
    /// Major version of the server.
    pub(super) version: u32,
    /// The server's version text.
    pub(super) version_text: String,
    /// Process id of the server side.
    pub(super) process: i32,
    /// What a request to cancel must know.
    secret: i32,
    /// The last error the server reported, in its own words, which may quote values.
    pub(super) refused: Option<ServerError>,
    /// Where such a request goes when the session is given up in the middle of a command.
    canceller: Option<Arc<Server>>,
}

impl Client {
    pub(super) fn new(wire: Wire) -> Self {
        Client {
            wire,
            idle: false,
            status: b'I',
            version: 0,
            version_text: String::new(),
            process: 0,
            secret: 0,
            refused: None,
            canceller: None,
        }
    }

    /// From now on, dropping the session in the middle of a command cancels the command at the server.
    pub(super) fn cancel_when_dropped(&mut self, server: Arc<Server>) {
        self.canceller = Some(server);
    }

    /// Whether it may be used for another command.
    pub(super) fn usable(&self) -> bool {
        self.idle
    }

    /// Whether a transaction is open and sound.
    pub(super) fn in_transaction(&self) -> bool {
        self.status == b'T'
    }

    /// Reads what follows the log-in.
    pub(super) async fn settle(&mut self) -> Result<()> {
        self.until_ready(|_, _| Some(())).await
    }

    /// Runs statements without parameters; whatever rows they yield are ignored.
    pub(super) async fn batch(&mut self, sql: &str) -> Result<()> {
        self.start()?;
        frontend::query(sql, &mut self.wire.output).map_err(refuse_text)?;
        self.wire.send().await?;
        self.until_ready(|_, _| Some(())).await
    }

    /// Runs one statement with text parameters and collects its rows as text.
    pub(super) async fn query(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Answer> {
        self.start()?;
        self.statement(sql, parameters)?;
        self.wire.send().await?;
        let mut answer = Answer::default();
        self.until_ready(|tag, body| {
            match tag {
                b'D' => answer.rows.push(text_row(body)?),
                b'C' => answer.affected = affected(body),
                _ => {}
            }
            Some(())
        })
        .await?;
        Ok(answer)
    }

    /// The same with the names of the columns and the server's remarks; of the rows only the first few are kept.
    pub(super) async fn call(&mut self, sql: &str, parameters: &[Option<&str>], rows_max: usize) -> Result<Answer> {
        self.start()?;
        self.prepare(sql, parameters)?;
        frontend::describe(b'P', "", &mut self.wire.output).map_err(refuse_text)?;
        frontend::execute("", 0, &mut self.wire.output).map_err(refuse_text)?;
        frontend::sync(&mut self.wire.output);
        self.wire.send().await?;
        let mut answer = Answer::default();
        self.until_ready(|tag, body| {
            match tag {
                b'T' => answer.columns = described(body)?.into_iter().map(|column| column.name).collect(),
                b'D' if answer.rows.len() < rows_max => answer.rows.push(text_row(body)?),
                b'C' => answer.affected = affected(body),
                b'N' if answer.remarks.len() < REMARKS_MAX => {
                    let remark = ServerError::parse(body);
                    answer.remarks.push(format!("{}: {}", remark.severity, remark.message));
                }
                _ => {}
            }
            Some(())
        })
        .await?;
        Ok(answer)
    }

    /// The columns a statement would yield; none if it yields no rows.
    pub(super) async fn describe(&mut self, sql: &str) -> Result<Vec<Described>> {
        self.start()?;
        frontend::parse("", sql, [], &mut self.wire.output).map_err(refuse_text)?;
        frontend::describe(b'S', "", &mut self.wire.output).map_err(refuse_text)?;
        frontend::sync(&mut self.wire.output);
        self.wire.send().await?;
        let mut columns = Vec::new();
        self.until_ready(|tag, body| {
            if tag == b'T' {
                columns = described(body)?;
            }
            Some(())
        })
        .await?;
        Ok(columns)
    }

    /// Starts a `COPY … TO STDOUT`. The caller reads the rows from the wire and ends with [`Client::ready`]. Sent as
    /// one prepared statement, so that a query cannot smuggle in a second one.
    pub(super) async fn copy_out(&mut self, sql: &str) -> Result<()> {
        self.start()?;
        self.statement(sql, &[])?;
        self.wire.send().await?;
        loop {
            let frame = self.wire.frame().await?;
            match frame.tag {
                b'H' => return Ok(()),
                b'Z' => return Err(errors::garbled(&self.wire.place, "a COPY without data")),
                b'E' => return Err(self.fail(frame).await),
                _ => {}
            }
        }
    }

    /// Starts a `COPY … FROM STDIN`.
    pub(super) async fn copy_in(&mut self, sql: &str) -> Result<()> {
        self.start()?;
        frontend::query(sql, &mut self.wire.output).map_err(refuse_text)?;
        self.wire.send().await?;
        loop {
            let frame = self.wire.frame().await?;
            match frame.tag {
                b'G' => return Ok(()),
                b'Z' => return Err(errors::garbled(&self.wire.place, "a COPY that takes no data")),
                b'E' => return Err(self.fail(frame).await),
                _ => {}
            }
        }
    }

    /// Sends a piece of COPY data, which begins behind [`COPY_HEAD`] bytes that are free for the message's own.
    pub(super) async fn copy_data(&mut self, piece: &mut [u8]) -> Result<()> {
        let length = i32::try_from(piece.len() - 1).map_err(|_| {
            let message = "A row is larger than what one message to PostgreSQL can carry.";
            Error::from(Fault::new("UserErrorBudgetExceeded", message))
        })?;
        piece[0] = b'd';
        piece[1..COPY_HEAD].copy_from_slice(&length.to_be_bytes());
        match self.wire.send_built(piece).await {
            Ok(()) => Ok(()),
            // The server closes the connection on some errors; what it said before is worth more than "broken".
            Err(broken) => Err(self.last_words().await.unwrap_or(broken)),
        }
    }

    /// Ends a `COPY … FROM STDIN`; gives back the rows the server took.
    pub(super) async fn copy_finish(&mut self) -> Result<u64> {
        frontend::copy_done(&mut self.wire.output);
        self.wire.send().await?;
        let mut rows = 0;
        self.until_ready(|tag, body| {
            if tag == b'C' {
                rows = affected(body);
            }
            Some(())
        })
        .await?;
        Ok(rows)
    }

    /// Takes a ReadyForQuery.
    pub(super) fn ready(&mut self, frame: Frame) {
        self.status = self.wire.body(frame).first().copied().unwrap_or(b'I');
        self.idle = true;
    }

    /// The error in that frame; reads on until the session is ready again, if it ever is.
    pub(super) async fn fail(&mut self, frame: Frame) -> Error {
        let error = ServerError::parse(self.wire.body(frame));
        let error = errors::error(&self.wire.place, &error);
        while let Ok(frame) = self.wire.frame().await {
            if frame.tag == b'Z' {
                self.ready(frame);
                break;
            }
        }
        error
    }

    async fn last_words(&mut self) -> Option<Error> {
        loop {
            let frame = self.wire.frame().await.ok()?;
            if frame.tag == b'E' {
                return Some(errors::error(&self.wire.place, &ServerError::parse(self.wire.body(frame))));
            }
        }
    }

    fn start(&mut self) -> Result<()> {
        if !self.idle {
            let message = format!("A connection to {} was used again in the middle of a command.", self.wire.place);
            return Err(Fault::new("NetworkErrorStoreUnreachable", message).into());
        }
        self.idle = false;
        self.wire.output.clear();
        Ok(())
    }

    fn statement(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<()> {
        self.prepare(sql, parameters)?;
        let output = &mut self.wire.output;
        frontend::execute("", 0, output).map_err(refuse_text)?;
        frontend::sync(output);
        Ok(())
    }

    fn prepare(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<()> {
        let output = &mut self.wire.output;
        frontend::parse("", sql, [], output).map_err(refuse_text)?;
        let write = |value: &Option<&str>, output: &mut bytes::BytesMut| match value {
            Some(text) => {
                output.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        };
        frontend::bind("", "", [], parameters, write, [], output).map_err(|_| {
            Error::from(Fault::new("SystemErrorInternal", "A statement has too many or too large parameters."))
        })
    }

    /// Reads until the session is ready; the first error reported on the way is the result.
    async fn until_ready(&mut self, mut each: impl FnMut(u8, &[u8]) -> Option<()>) -> Result<()> {
        let mut failure: Option<Error> = None;
        loop {
            let frame = match self.wire.frame().await {
                Ok(frame) => frame,
                // A fatal error is followed by the end of the connection.
                Err(broken) => return Err(failure.unwrap_or(broken)),
            };
            let body = self.wire.body(frame);
            match frame.tag {
                b'Z' => {
                    self.ready(frame);
                    return failure.map_or(Ok(()), Err);
                }
                b'E' if failure.is_none() => {
                    let error = self.refused.insert(ServerError::parse(body));
                    failure = Some(errors::error(&self.wire.place, error));
                }
                b'S' => self.parameter(frame),
                b'K' => {
                    let word = |at: usize| body.get(at..).and_then(|rest| rest.first_chunk()).copied();
                    (self.process, self.secret) =
                        (word(0).map_or(0, i32::from_be_bytes), word(4).map_or(0, i32::from_be_bytes));
                }
                tag => {
                    if each(tag, body).is_none() {
                        return Err(errors::garbled(&self.wire.place, "a damaged message"));
                    }
                }
            }
        }
    }

    fn parameter(&mut self, frame: Frame) {
        let mut words = self.wire.body(frame).split(|byte| *byte == 0);
        if words.next() == Some(b"server_version") {
            let text = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            self.version = digits.parse().unwrap_or(0);
            self.version_text = text;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.idle
            && self.wire.sound()
            && let Some(server) = self.canceller.take()
        {
            cancel::request(server, self.process, self.secret);
        }
    }
}

/// A zero byte in a statement.
fn refuse_text(error: std::io::Error) -> Error {
    let message = "A statement or name holds a character that PostgreSQL cannot take.";
    Error::caused(Fault::new("UserErrorSettings", message), error)
}

/// The number at the end of a command tag: `INSERT 0 5`, `COPY 7`.
fn affected(body: &[u8]) -> u64 {
    let text = std::str::from_utf8(body).unwrap_or("").trim_end_matches('\0');
    text.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Walks through a message body; every step is `None` at its end.
struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = std::str::from_utf8(self.bytes(end)?).ok()?.to_owned();
        self.bytes(1)?;
        Some(text)
    }
}

fn text_row(body: &[u8]) -> Option<Row> {
    let mut walk = Walk(body);
    let count = u16::from_be_bytes(walk.take()?);
    (0..count)
        .map(|_| {
            let length = i32::from_be_bytes(walk.take()?);
            let Ok(length) = usize::try_from(length) else { return Some(None) };
            Some(Some(std::str::from_utf8(walk.bytes(length)?).ok()?.to_owned()))
        })
        .collect()
}

fn described(body: &[u8]) -> Option<Vec<Described>> {
    let mut walk = Walk(body);
    let count = u16::from_be_bytes(walk.take()?);
    (0..count)
        .map(|_| {
            let name = walk.text()?;
            walk.bytes(6)?; // table and attribute number
            let type_oid = u32::from_be_bytes(walk.take()?);
            walk.bytes(2)?; // size
            let modifier = i32::from_be_bytes(walk.take()?);
            walk.bytes(2)?; // format
            Some(Described { name, type_oid, modifier })
        })
        .collect()
}
