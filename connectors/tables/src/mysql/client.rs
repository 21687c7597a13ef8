//! One session with a server: statements, rows as text, and files sent by LOAD DATA. It runs one thing at a time and
//! belongs to one task; a session whose command was cut short is never used again.

use dmg_connector::{Error, Result};
use dmg_protocol::Fault;

use super::errors::{self, ServerError};
use super::wire::{PACKET_BYTES_MAX, Packet, Walk, Wire};

const QUERY: u8 = 0x03;
const PREPARE: u8 = 0x16;
const CLOSE: u8 = 0x19;
const SET_OPTION: u8 = 0x1b;
/// A transaction is open.
const IN_TRANSACTION: u16 = 1;
/// Another result follows.
const MORE_RESULTS: u16 = 8;
/// Bytes of a file that one packet carries: each is put together in memory.
const LOAD_BYTES: usize = 1024 * 1024;
/// Rows an answer may have that is kept in memory.
const ROWS_MAX: usize = 200_000;
/// Columns a table or query may have: more than any version allows.
const COLUMNS_MAX: u64 = 4096;

/// One row of text values.
pub(super) type Row = Vec<Option<String>>;

/// What a statement did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) affected: u64,
    pub(super) warnings: u16,
}

/// Rows of a query and what it did.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    pub(super) done: Done,
}

impl Answer {
    /// The first value of the first row.
    pub(super) fn single(self) -> Option<String> {
        self.rows.into_iter().next()?.into_iter().next()?
    }
}

/// A column as the server describes it on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) charset: u16,
    pub(super) length: u32,
    pub(super) code: u8,
    pub(super) flags: u16,
    pub(super) decimals: u8,
}

/// Which product, and how new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) mariadb: bool,
    pub(super) number: (u32, u32, u32),
    pub(super) text: String,
}

impl Version {
    /// Reads `10.11.6-MariaDB-0+deb12u1`, also behind the `5.5.5-` that MariaDB tells older clients, and `8.0.36`.
    pub(super) fn parse(text: &str) -> Self {
        let mariadb = text.to_ascii_lowercase().contains("mariadb");
        let text = if mariadb { text.strip_prefix("5.5.5-").unwrap_or(text) } else { text };
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Version { mariadb, number: (next(), next(), next()), text: text.to_owned() }
    }
}

/// A session.
pub(super) struct Client {
    pub(super) wire: Wire,
    /// Whether it is between commands.
    idle: bool,
    status: u16,
    pub(super) version: Version,
    /// Whether the connection is under TLS.
    pub(super) encrypted: bool,
    /// The number by which other sessions can end it.
    pub(super) id: u32,
    /// The last error the server reported, in its own words, which may quote values.
    pub(super) refused: Option<ServerError>,
}

/// What the first packet of an answer is.
enum First {
    /// The statement yields no rows.
    Done,
    /// So many columns follow.
    Columns(u64),
    /// The server waits for a file.
    File,
}

impl Client {
    pub(super) fn new(wire: Wire, version: Version, encrypted: bool, id: u32) -> Self {
        Client { wire, idle: true, status: 0, version, encrypted, id, refused: None }
    }

    /// Whether it may be used for another command.
    pub(super) fn usable(&self) -> bool {
        self.idle
    }

    /// Whether a transaction is open.
    pub(super) fn in_transaction(&self) -> bool {
        self.status & IN_TRANSACTION != 0
    }

    /// Runs a statement; whatever rows it yields are ignored.
    pub(super) async fn batch(&mut self, sql: &str) -> Result<Done> {
        Ok(self.run(sql, 0).await?.done)
    }

    /// Runs a statement and collects its rows as text: those of its first result.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Answer> {
        self.run(sql, ROWS_MAX).await
    }

    /// Runs several statements, separated by semicolons. What they yield is ignored.
    pub(super) async fn script(&mut self, sql: &str) -> Result<()> {
        self.option(0).await?;
        let ran = self.run(sql, 0).await;
        if self.idle {
            self.option(1).await?;
        }
        ran.map(drop)
    }

    /// Switches several statements at once on (0) or off (1).
    async fn option(&mut self, value: u16) -> Result<()> {
        self.start(SET_OPTION, &value.to_le_bytes()).await?;
        let packet = self.wire.packet(PACKET_BYTES_MAX).await?;
        let body = self.wire.body(packet);
        match body.first() {
            Some(0xff) => Err(self.fail(packet)),
            Some(0x00 | 0xfe) => {
                self.idle = true;
                Ok(())
            }
            _ => Err(self.damaged("an answer of another command")),
        }
    }

    async fn run(&mut self, sql: &str, rows_max: usize) -> Result<Answer> {
        self.start(QUERY, sql.as_bytes()).await?;
        let mut answer = Answer::default();
        let mut first_result = true;
        loop {
            let packet = self.wire.packet(PACKET_BYTES_MAX).await?;
            match self.first(packet, &mut answer.done)? {
                First::Done => {}
                First::File => return Err(self.refuse_file()),
                First::Columns(count) => {
                    self.columns(count).await?;
                    let keep = first_result && rows_max > 0;
                    while let Some(packet) = self.row(PACKET_BYTES_MAX).await? {
                        if keep {
                            let row = text_row(self.wire.body(packet), count);
                            answer.rows.push(row.ok_or_else(|| errors::garbled(&self.wire.place, "a damaged row"))?);
                            if answer.rows.len() > rows_max {
                                return Err(self.damaged("more rows than were asked for"));
                            }
                        }
                    }
                    first_result = false;
                }
            }
            if self.status & MORE_RESULTS == 0 {
                self.idle = true;
                return Ok(answer);
            }
        }
    }

    /// The columns a statement would yield; none if it yields no rows. Nothing is run.
    pub(super) async fn describe(&mut self, sql: &str) -> Result<Vec<Described>> {
        self.start(PREPARE, sql.as_bytes()).await?;
        let packet = self.wire.packet(PACKET_BYTES_MAX).await?;
        let body = self.wire.body(packet);
        match body.first() {
            Some(0x00) => {}
            Some(0xff) => return Err(self.fail(packet)),
            Some(0xfb) => return Err(self.refuse_file()),
            _ => return Err(self.damaged("an answer that is none")),
        }
        let mut walk = Walk(&body[1..]);
        let parsed = (walk.take::<4>(), walk.short(), walk.short());
        let (Some(statement), Some(columns), Some(parameters)) = parsed else {
            return Err(self.damaged("a cut answer"));
        };
        if parameters > 0 {
            self.columns(u64::from(parameters)).await?;
        }
        let described = if columns > 0 { self.columns(u64::from(columns)).await? } else { Vec::new() };
        self.wire.command(CLOSE, &statement);
        self.wire.send().await?;
        self.idle = true;
        if parameters > 0 {
            let message = "The query has parameters (?), and a copy gives a query none.";
            let remedy = "Write the values into the query, or let an expression of the pipeline do so.";
            return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
        }
        Ok(described)
    }

    /// Starts a query whose rows the caller reads by [`Client::buffered_row`] and the wire.
    pub(super) async fn stream(&mut self, sql: &str) -> Result<Vec<Described>> {
        self.start(QUERY, sql.as_bytes()).await?;
        let packet = self.wire.packet(PACKET_BYTES_MAX).await?;
        let mut done = Done::default();
        match self.first(packet, &mut done)? {
            First::Columns(count) => self.columns(count).await,
            First::File => Err(self.refuse_file()),
            First::Done => {
                self.idle = self.status & MORE_RESULTS == 0;
                let message = "The query yields no rows by its nature.";
                Err(Fault::new("UserErrorSettings", message).into())
            }
        }
    }

    /// The next row if it is in the buffer already: `Err` is an error, `Ok(None)` more must be read first,
    /// `Ok(Some(None))` the end.
    #[inline]
    pub(super) fn buffered_row(&mut self, limit: usize) -> Result<Option<Option<Packet>>> {
        let Some(packet) = self.wire.buffered(limit)? else { return Ok(None) };
        match self.wire.body(packet) {
            [0xfe, rest @ ..] if rest.len() < 8 => {
                self.end_of_rows(packet);
                Ok(Some(None))
            }
            [0xff, ..] => Err(self.fail(packet)),
            _ => Ok(Some(Some(packet))),
        }
    }

    /// Starts a LOAD DATA LOCAL; the server must ask for the file. `false` where the server does not allow it.
    pub(super) async fn load(&mut self, sql: &str) -> Result<()> {
        self.start(QUERY, sql.as_bytes()).await?;
        let packet = self.wire.packet(PACKET_BYTES_MAX).await?;
        let mut done = Done::default();
        match self.first(packet, &mut done)? {
            First::File => Ok(()),
            _ => Err(self.damaged("a LOAD DATA that takes no data")),
        }
    }

    /// Sends a piece of the file. Not empty.
    pub(super) async fn load_data(&mut self, piece: &[u8]) -> Result<()> {
        for packet in piece.chunks(LOAD_BYTES) {
            self.wire.append(packet);
            if let Err(broken) = self.wire.send().await {
                // The server closes the connection on some errors; what it said before is worth more than "broken".
                return Err(self.last_words().await.unwrap_or(broken));
            }
        }
        Ok(())
    }

    /// Ends the file; gives back what the server did with it.
    pub(super) async fn load_finish(&mut self) -> Result<Done> {
        self.wire.append(&[]);
        self.wire.send().await?;
        let packet = self.wire.packet(PACKET_BYTES_MAX).await?;
        let mut done = Done::default();
        match self.first(packet, &mut done)? {
            First::Done if self.status & MORE_RESULTS == 0 => {
                self.idle = true;
                Ok(done)
            }
            _ => Err(self.damaged("rows where the end of a LOAD DATA was expected")),
        }
    }

    /// Sends a statement without waiting for anything: for whoever goes away.
    pub(super) fn fire(&mut self, sql: &str) {
        self.idle = false;
        self.wire.command(QUERY, sql.as_bytes());
        self.wire.send_now();
    }

    async fn last_words(&mut self) -> Option<Error> {
        let packet = self.wire.packet(PACKET_BYTES_MAX).await.ok()?;
        let body = self.wire.body(packet);
        (body.first() == Some(&0xff)).then(|| errors::error(&self.wire.place, &ServerError::parse(body)))
    }

    async fn start(&mut self, command: u8, body: &[u8]) -> Result<()> {
        if !self.idle {
            let message = format!("A connection to {} was used again in the middle of a command.", self.wire.place);
            return Err(Fault::new("NetworkErrorStoreUnreachable", message).into());
        }
        self.idle = false;
        self.wire.command(command, body);
        self.wire.send().await
    }

    /// The error in that packet. The session can be used again: an error ends a command.
    fn fail(&mut self, packet: Packet) -> Error {
        self.idle = true;
        let error = ServerError::parse(self.wire.body(packet));
        // The server is about to close the connection, or has no transaction left.
        if matches!(error.number, 1927 | 1053 | 1152 | 1153 | 4031) {
            self.idle = false;
        }
        if matches!(error.number, 1213 | 1614) {
            self.status &= !IN_TRANSACTION;
        }
        errors::error(&self.wire.place, self.refused.insert(error))
    }

    fn first(&mut self, packet: Packet, done: &mut Done) -> Result<First> {
        let body = self.wire.body(packet);
        match body.first() {
            Some(0x00) => {
                let mut walk = Walk(&body[1..]);
                let parsed = (walk.length(), walk.length(), walk.short(), walk.short());
                let (Some(affected), Some(_), Some(status), Some(warnings)) = parsed else {
                    return Err(self.damaged("a cut answer"));
                };
                done.affected += affected;
                done.warnings = done.warnings.saturating_add(warnings);
                self.status = status;
                Ok(First::Done)
            }
            Some(0xff) => Err(self.fail(packet)),
            Some(0xfb) => Ok(First::File),
            _ => match Walk(body).length() {
                Some(count @ 1..=COLUMNS_MAX) => Ok(First::Columns(count)),
                _ => Err(self.damaged("an answer that is none")),
            },
        }
    }

    /// Column definitions and the packet that ends them.
    async fn columns(&mut self, count: u64) -> Result<Vec<Described>> {
        let mut columns = Vec::new();
        for _ in 0..count {
            let packet = self.wire.packet(PACKET_BYTES_MAX).await?;
            if self.wire.body(packet).first() == Some(&0xff) {
                return Err(self.fail(packet));
            }
            let described = described(self.wire.body(packet));
            columns.push(described.ok_or_else(|| errors::garbled(&self.wire.place, "a damaged description"))?);
        }
        let packet = self.wire.packet(PACKET_BYTES_MAX).await?;
        match self.wire.body(packet) {
            [0xfe, rest @ ..] if rest.len() < 8 => Ok(columns),
            [0xff, ..] => Err(self.fail(packet)),
            _ => Err(self.damaged("descriptions without an end")),
        }
    }

    async fn row(&mut self, limit: usize) -> Result<Option<Packet>> {
        loop {
            match self.buffered_row(limit)? {
                Some(row) => return Ok(row),
                None => self.wire.fill(limit).await?,
            }
        }
    }

    fn end_of_rows(&mut self, packet: Packet) {
        let mut walk = Walk(self.wire.body(packet).get(1..).unwrap_or(&[]));
        walk.short();
        self.status = walk.short().unwrap_or(0);
        self.idle = self.status & MORE_RESULTS == 0;
    }

    /// A server that asks for a file nobody offered wants to steal one.
    #[cold]
    fn refuse_file(&mut self) -> Error {
        self.idle = false;
        let message = format!("{} asked for a local file that was not offered to it.", self.wire.place);
        let remedy = "Do not trust this server: it may be hostile. Nothing was sent to it.";
        Fault::new("StoreErrorAnswer", message).remedy(remedy).into()
    }

    #[cold]
    fn damaged(&mut self, what: &str) -> Error {
        self.idle = false;
        errors::garbled(&self.wire.place, what)
    }
}

/// A name as the server reads it back unchanged.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Names, comma-separated.
pub(super) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// A text as a literal; our sessions take the backslash as an escape.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\u{1a}' => out.push_str("\\Z"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

fn text_row(body: &[u8], columns: u64) -> Option<Row> {
    let mut walk = Walk(body);
    (0..columns)
        .map(|_| {
            if walk.0.first() == Some(&0xfb) {
                walk.byte();
                return Some(None);
            }
            Some(Some(String::from_utf8_lossy(walk.counted()?).into_owned()))
        })
        .collect()
}

fn described(body: &[u8]) -> Option<Described> {
    let mut walk = Walk(body);
    for _ in 0..4 {
        walk.counted()?; // catalog, schema, table and its own name
    }
    let name = walk.text()?;
    walk.counted()?; // the name it has in its table
    walk.length()?;
    let charset = walk.short()?;
    let length = u32::from_le_bytes(walk.take()?);
    let (code, flags, decimals) = (walk.byte()?, walk.short()?, walk.byte()?);
    Some(Described { name, charset, length, code, flags, decimals })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, mariadb, number) in [
            ("10.11.6-MariaDB-0+deb12u1", true, (10, 11, 6)),
            ("5.5.5-10.6.12-MariaDB-log", true, (10, 6, 12)),
            ("8.0.36", false, (8, 0, 36)),
            ("5.7.44-log", false, (5, 7, 44)),
        ] {
            let version = Version::parse(text);
            assert_eq!((version.mariadb, version.number), (mariadb, number), "{text}");
        }
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quoted("a`b"), "`a``b`");
        assert_eq!(literal("it's \\ \0"), "'it''s \\\\ \\0'");
    }
}
