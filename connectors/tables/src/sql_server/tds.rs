//! The built-in driver, `tiberius`: log-in, batches, rows and bulk load over any stream, with TLS by rustls. Everything
//! that knows its types is here. It is told to wait as long as we do: its own time limits are off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_ambient::Ambient;
use dmg_connector::{BatchStream, Error, Result};
use dmg_protocol::job::ProcedureOutcome;
use dmg_protocol::{Fault, Kind};
use futures::TryStreamExt;
use tiberius::{
    AuthMethod, Client, ColumnData, Command, CommandItem, Config, EncryptionLevel, QueryItem, QueryStream, Row,
    SqlBulkCopyOption, SqlBulkCopyOptions, TokenRow, numeric::Numeric, time, xml::XmlData,
};
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

use super::cell::{Cell, Value};
use super::decode::Decoder;
use super::driver::{Argument, Driver, Load, Reading, Row as TextRow, Typed};
use super::encode::{Encoder, Fit, Taker};
use super::errors::{self, ServerError};
use super::route;
use super::settings::{Encrypt, Login, Server};
use super::variant;
use super::windows::{self, Line};

/// A server may send us on to another address this often.
const REDIRECTS_MAX: u32 = 2;
/// The largest value of a `(max)` column the driver loads in bulk; larger ones go by an INSERT of their own.
const BULK_VALUE_BYTES_MAX: usize = 65_535;
/// How long the server may take to confirm that it stopped.
const CANCEL_SECONDS: u64 = 5;

/// A session.
pub(super) struct Tds {
    client: Client<Compat<Line>>,
    place: String,
    ambient: Ambient,
    /// False while an answer is under way: who leaves then leaves a session nobody may use.
    settled: bool,
}

impl Tds {
    /// Connects and logs in, following where the server sends us.
    pub(super) async fn connect(server: &Server) -> Result<Self> {
        let place = server.place();
        let (mut host, mut port) = (server.host.clone(), server.port);
        for _ in 0..=REDIRECTS_MAX {
            let stream = server.session.connect(&host, port).await.map_err(|error| {
                let message = format!("{place} cannot be reached: {error}.");
                Error::caused(Fault::new("NetworkErrorStoreUnreachable", message), error)
            })?;
            let line = match &server.login {
                Login::Windows { account, password } => {
                    windows::log_in(server, &host, port, stream, account, password.as_ref()).await?
                }
                Login::Sql { .. } | Login::Token(_) => Line::plain(stream),
            };
            match Client::connect(config(server, &host, port), line.compat_write()).await {
                Ok(client) => {
                    let ambient = server.session.ambient.clone();
                    return Ok(Tds { client, place, ambient, settled: true });
                }
                Err(tiberius::error::Error::Routing { host: to, port: at }) => {
                    let checked = !server.trust_certificate && server.encrypt != Encrypt::Optional;
                    if !route::may_follow(&server.host, &to, &server.redirect_hosts, checked) {
                        return Err(errors::sent_on(&place, &to, at).into());
                    }
                    (host, port) = (to, at);
                }
                Err(error) => return Err(refused(server, error)),
            }
        }
        let message = format!("{place} sends its clients on from one address to the next.");
        Err(Fault::new("StoreErrorAnswer", message).into())
    }

    fn fail(&mut self, error: tiberius::error::Error) -> Error {
        // After an error of the server its answer was read to the end; after any other nothing is known.
        self.settled = matches!(error, tiberius::error::Error::Server(_));
        failed(&self.place, error)
    }
}

fn config(server: &Server, host: &str, port: u16) -> Config {
    let mut config = Config::new();
    config.host(host);
    config.port(port);
    config.database(&server.database);
    config.application_name(&server.session.application);
    config.readonly(server.read_only);
    config.handshake_timeout(None);
    config.command_timeout(None);
    if let Some(bytes) = server.packet_bytes {
        config.packet_size(bytes);
    }
    config.encryption(match (&server.login, server.encrypt) {
        // It begins on a line that is encrypted already and on which the account has proved itself.
        (Login::Windows { .. }, _) => EncryptionLevel::NotSupported,
        (_, Encrypt::Optional) => EncryptionLevel::Off,
        (_, Encrypt::Mandatory) => EncryptionLevel::Required,
        (_, Encrypt::Strict) => EncryptionLevel::Strict,
    });
    if server.trust_certificate || server.encrypt == Encrypt::Optional {
        config.trust_cert();
    } else {
        for pem in server.session.extra_ca.iter() {
            config.trust_cert_ca_bundle(pem.clone());
        }
        if let Some(name) = &server.certificate_name {
            config.hostname_in_certificate(name);
        }
    }
    config.authentication(match &server.login {
        Login::Sql { user, password } => AuthMethod::sql_server(user, password.expose()),
        Login::Windows { .. } => AuthMethod::None,
        Login::Token(token) => AuthMethod::aad_token(token.expose()),
    });
    config
}

fn refused(server: &Server, error: tiberius::error::Error) -> Error {
    let place = &server.place();
    match error {
        tiberius::error::Error::Server(token) if matches!(server.login, Login::Windows { .. }) => {
            let mut error = errors::error(place, &server_error(&token));
            error.fault = Box::new(of_windows(*error.fault, token.code()));
            error
        }
        tiberius::error::Error::Tls(what) => {
            let message = format!("{place} has no TLS certificate that this gateway trusts.");
            Error::caused(Fault::new("NetworkErrorTls", message), what)
        }
        other => failed(place, other),
    }
}

/// What to do about an account of Windows that was refused.
fn of_windows(fault: Fault, number: u32) -> Fault {
    match number {
        18_452 => fault.remedy(
            "Check domain, user (as DOMAIN\\user or user@domain.example) and password: a server says the same of a wrong \
             password, of a domain it does not trust, and where it takes Kerberos only or asks for extended protection.",
        ),
        18_456 => fault.remedy(
            "Check the user (as DOMAIN\\user or user@domain.example), and have the server make a log-in for that account \
             of Windows: CREATE LOGIN [DOMAIN\\user] FROM WINDOWS.",
        ),
        _ => fault,
    }
}

fn failed(place: &str, error: tiberius::error::Error) -> Error {
    use tiberius::error::Error as Driver;
    match error {
        Driver::Server(token) => errors::error(place, &server_error(&token)),
        Driver::Io { kind, message } => errors::broken(place, format!("{kind}: {message}")),
        other => errors::garbled(place, other),
    }
}

fn server_error(token: &tiberius::error::TokenError) -> ServerError {
    ServerError {
        number: token.code(),
        state: token.state(),
        class: token.class(),
        message: token.message().to_owned(),
        procedure: token.procedure().to_owned(),
        line: token.line(),
    }
}

/// The rows of the last result, as text.
async fn last_rows(mut stream: QueryStream<'_>) -> tiberius::Result<Vec<TextRow>> {
    let mut rows = Vec::new();
    while let Some(item) = stream.try_next().await? {
        match item {
            QueryItem::Metadata(_) => rows.clear(),
            QueryItem::Row(row) => rows.push(row.cells().map(|(_, data)| text(data)).collect()),
        }
    }
    Ok(rows)
}

/// A value as text; numbers and truths as the server's own conversion would write them.
fn text(data: &ColumnData<'_>) -> Option<String> {
    Some(match cell(data) {
        Cell::Null => return None,
        Cell::Bool(value) => u8::from(value).to_string(),
        Cell::U8(value) => value.to_string(),
        Cell::I16(value) => value.to_string(),
        Cell::I32(value) => value.to_string(),
        Cell::I64(value) => value.to_string(),
        Cell::Text(text) | Cell::Xml(text) => text.to_owned(),
        Cell::F32(value) => value.to_string(),
        Cell::F64(value) => value.to_string(),
        Cell::Decimal { value, scale } => decimal_text(value, scale),
        other => {
            let mut out = Vec::new();
            variant::write(other, &mut out)?;
            let text = String::from_utf8(out).ok()?;
            text.split_once(':').map_or(text.clone(), |(_, value)| value.to_owned())
        }
    })
}

fn decimal_text(value: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    let point = if scale == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// The driver's value as ours.
#[inline]
pub(super) fn cell<'a>(data: &'a ColumnData<'_>) -> Cell<'a> {
    let found = match data {
        ColumnData::U8(value) => value.map(Cell::U8),
        ColumnData::I16(value) => value.map(Cell::I16),
        ColumnData::I32(value) => value.map(Cell::I32),
        ColumnData::I64(value) => value.map(Cell::I64),
        ColumnData::F32(value) => value.map(Cell::F32),
        ColumnData::F64(value) => value.map(Cell::F64),
        ColumnData::Bit(value) => value.map(Cell::Bool),
        ColumnData::String(value) => value.as_deref().map(Cell::Text),
        ColumnData::Guid(value) => value.map(|value| Cell::Uuid(value.into_bytes())),
        ColumnData::Binary(value) => value.as_deref().map(Cell::Bytes),
        ColumnData::Numeric(value) => value.map(|value| Cell::Decimal { value: value.value(), scale: value.scale() }),
        ColumnData::Xml(value) => value.as_deref().map(|xml| Cell::Xml(xml.as_ref())),
        ColumnData::DateTime(value) => {
            value.map(|value| Cell::DateTime { days: value.days(), ticks: value.seconds_fragments() })
        }
        ColumnData::SmallDateTime(value) => {
            value.map(|value| Cell::SmallDateTime { days: value.days(), minutes: value.seconds_fragments() })
        }
        ColumnData::Time(value) => value.map(|value| Cell::Time { ticks: value.increments(), scale: value.scale() }),
        ColumnData::Date(value) => value.map(|value| Cell::Date(value.days())),
        ColumnData::DateTime2(value) => value.map(|value| Cell::DateTime2 {
            days: value.date().days(),
            ticks: value.time().increments(),
            scale: value.time().scale(),
        }),
        ColumnData::DateTimeOffset(value) => value.map(|value| Cell::Offset {
            days: value.datetime2().date().days(),
            ticks: value.datetime2().time().increments(),
            scale: value.datetime2().time().scale(),
            minutes: value.offset(),
        }),
    };
    found.unwrap_or(Cell::Null)
}

/// Our value as the driver's.
#[inline]
fn data(value: Value<'_>) -> ColumnData<'_> {
    let cell = match value {
        Value::Cell(cell) => cell,
        Value::Text(text) => return ColumnData::String(Some(text.into())),
        Value::Bytes(octets) => return ColumnData::Binary(Some(octets.into())),
    };
    let datetime2 = |days, ticks, scale| time::DateTime2::new(time::Date::new(days), time::Time::new(ticks, scale));
    match cell {
        Cell::Null => ColumnData::String(None),
        Cell::Bool(value) => ColumnData::Bit(Some(value)),
        Cell::U8(value) => ColumnData::U8(Some(value)),
        Cell::I16(value) => ColumnData::I16(Some(value)),
        Cell::I32(value) => ColumnData::I32(Some(value)),
        Cell::I64(value) => ColumnData::I64(Some(value)),
        Cell::F32(value) => ColumnData::F32(Some(value)),
        Cell::F64(value) => ColumnData::F64(Some(value)),
        Cell::Text(text) => ColumnData::String(Some(text.into())),
        Cell::Xml(text) => ColumnData::Xml(Some(std::borrow::Cow::Owned(XmlData::new(text)))),
        Cell::Bytes(octets) => ColumnData::Binary(Some(octets.into())),
        Cell::Uuid(octets) => ColumnData::Guid(Some(tiberius::Uuid::from_bytes(octets))),
        Cell::Decimal { value, scale } => ColumnData::Numeric(Some(Numeric::new_with_scale(value, scale))),
        Cell::Date(days) => ColumnData::Date(Some(time::Date::new(days))),
        Cell::Time { ticks, scale } => ColumnData::Time(Some(time::Time::new(ticks, scale))),
        Cell::DateTime2 { days, ticks, scale } => ColumnData::DateTime2(Some(datetime2(days, ticks, scale))),
        Cell::Offset { days, ticks, scale, minutes } => {
            ColumnData::DateTimeOffset(Some(time::DateTimeOffset::new(datetime2(days, ticks, scale), minutes)))
        }
        Cell::DateTime { days, ticks } => ColumnData::DateTime(Some(time::DateTime::new(days, ticks))),
        Cell::SmallDateTime { days, minutes } => {
            ColumnData::SmallDateTime(Some(time::SmallDateTime::new(days, minutes)))
        }
    }
}

fn argument(value: &Typed) -> ColumnData<'_> {
    match value {
        Typed::Text(text) => ColumnData::String(text.as_deref().map(Into::into)),
        Typed::Whole(number) => ColumnData::I64(*number),
        Typed::Decimal(number) => {
            ColumnData::Numeric(number.map(|(value, scale)| Numeric::new_with_scale(value, scale)))
        }
        Typed::Truth(truth) => ColumnData::Bit(*truth),
        Typed::Uuid(octets) => ColumnData::Guid(octets.map(tiberius::Uuid::from_bytes)),
        Typed::Moment(moment) => ColumnData::DateTime2(
            moment.map(|(days, ticks)| time::DateTime2::new(time::Date::new(days), time::Time::new(ticks, 7))),
        ),
    }
}

/// Gives way once, so that what was put aside can be handed on.
async fn give_way() {
    let mut gave = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut gave, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

type Aside = Arc<Mutex<Option<RecordBatch>>>;

async fn hand_on(aside: &Aside, decoder: &mut Decoder) -> Result<()> {
    let batch = decoder.take()?;
    *aside.lock().expect("no one panics while holding it") = Some(batch);
    give_way().await;
    Ok(())
}

async fn read(
    mut session: Box<Tds>,
    sql: String,
    mut decoder: Decoder,
    mut reading: Box<dyn Reading>,
    aside: Aside,
) -> Result<()> {
    let place = session.place.clone();
    session.settled = false;
    {
        let mut stream = session.client.simple_query(sql).await.map_err(|error| failed(&place, error))?;
        let mut bytes = 0;
        while let Some(item) = stream.try_next().await.map_err(|error| failed(&place, error))? {
            let QueryItem::Row(row) = item else { continue };
            only_result(&row)?;
            bytes += decoder.row(row.cells().map(|(_, data)| cell(data)))? as u64;
            if decoder.full() {
                reading.bytes(std::mem::take(&mut bytes));
                hand_on(&aside, &mut decoder).await?;
            }
        }
        reading.bytes(bytes);
    }
    session.settled = true;
    reading.done(session);
    if !decoder.is_empty() {
        hand_on(&aside, &mut decoder).await?;
    }
    Ok(())
}

fn only_result(row: &Row) -> Result<()> {
    if row.result_index() == 0 {
        return Ok(());
    }
    let message = "The query yields more than one result with rows.";
    let remedy = "Leave one SELECT in the query or procedure, or SET NOCOUNT ON and select into variables before it.";
    Err(Fault::new("UserErrorSettings", message).remedy(remedy).into())
}

#[async_trait]
impl Driver for Tds {
    fn place(&self) -> &str {
        &self.place
    }

    fn usable(&self) -> bool {
        self.settled
    }

    async fn batch(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        self.settled = false;
        let answer = match self.client.simple_query(sql).await {
            Ok(stream) => last_rows(stream).await,
            Err(error) => Err(error),
        };
        let rows = answer.map_err(|error| self.fail(error))?;
        self.settled = true;
        Ok(rows)
    }

    async fn query(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Vec<TextRow>> {
        self.settled = false;
        let values: Vec<&dyn tiberius::ToSql> =
            parameters.iter().map(|parameter| parameter as &dyn tiberius::ToSql).collect();
        let answer = match self.client.query(sql, &values).await {
            Ok(stream) => last_rows(stream).await,
            Err(error) => Err(error),
        };
        let rows = answer.map_err(|error| self.fail(error))?;
        self.settled = true;
        Ok(rows)
    }

    fn read(self: Box<Self>, sql: String, decoder: Decoder, reading: Box<dyn Reading>) -> BatchStream {
        // The answer borrows the session it comes over. One future owns both and puts each batch aside for us.
        let aside = Aside::default();
        let mut work = Some(Box::pin(read(self, sql, decoder, reading, aside.clone())));
        Box::pin(futures::stream::poll_fn(move |context| {
            let Some(running) = work.as_mut() else { return Poll::Ready(None) };
            let progress = running.as_mut().poll(context);
            if let Some(batch) = aside.lock().expect("no one panics while holding it").take() {
                return Poll::Ready(Some(Ok(batch)));
            }
            match progress {
                Poll::Pending => Poll::Pending,
                Poll::Ready(end) => {
                    work = None;
                    Poll::Ready(end.err().map(Err))
                }
            }
        }))
    }

    async fn load(&mut self, load: &Load, batch: &RecordBatch, from: usize, to: usize, before: u64) -> Result<u64> {
        let encoder = Encoder::new(&load.takers, batch)?;
        let number = |row: usize| before + row as u64 + 1;
        let columns: Vec<&str> = load.columns.iter().map(String::as_str).collect();
        let options = if load.lock {
            SqlBulkCopyOptions::from(SqlBulkCopyOption::TableLock) | SqlBulkCopyOption::KeepNulls
        } else {
            SqlBulkCopyOption::KeepNulls.into()
        };
        let mut large = Vec::new();
        self.settled = false;
        let place = self.place.clone();
        let sent = (to - from) as u64;
        let counts = {
            let request = self.client.bulk_insert_with_options(&load.table, &columns, options, &[]).await;
            let mut request = match request {
                Ok(request) => request,
                Err(error) => return Err(self.fail(error)),
            };
            for row in from..to {
                let mut cells = TokenRow::with_capacity(encoder.columns());
                let mut is_large = false;
                for column in 0..encoder.columns() {
                    let value =
                        encoder.value(column, row).map_err(|misfit| encoder.refuse(column, number(row), misfit))?;
                    is_large |= wide(&value);
                    cells.push(null_as(data(value), &load.takers[column]));
                }
                if is_large {
                    large.push(row);
                    continue;
                }
                request.send(cells).await.map_err(|error| unsendable(&place, number(row), error))?;
            }
            request.finalize().await
        };
        let counts = counts.map_err(|error| self.fail(error))?;
        self.settled = true;
        let loaded = sent - large.len() as u64;
        if counts.rows_affected().last().copied().unwrap_or_default() != loaded {
            let message = format!("{place} loaded another number of rows than the {loaded} that were sent.");
            return Err(Fault::new("SystemErrorVerification", message).into());
        }
        for row in large {
            self.insert(load, &encoder, row, number(row)).await?;
        }
        Ok(sent)
    }

    async fn call(
        &mut self,
        name: &str,
        arguments: &[Argument],
        timeout: Option<Duration>,
    ) -> Result<ProcedureOutcome> {
        self.settled = false;
        let ambient = self.ambient.clone();
        let limit = async {
            match timeout {
                Some(timeout) => ambient.sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            biased;
            ended = called(&mut self.client, &self.place, name, arguments) => Some(ended),
            () = limit => None,
        };
        match ended {
            Some(outcome) => {
                self.settled = outcome.is_ok();
                outcome
            }
            None => {
                // The server confirms the cancel, or the connection goes: either way the call does not go on.
                tokio::select! {
                    _ = self.client.cancel_query() => {}
                    () = ambient.sleep(Duration::from_secs(CANCEL_SECONDS)) => {}
                }
                let message = "The procedure did not end in time and was cancelled.";
                Err(Fault::new("StoreErrorTimeout", message).into())
            }
        }
    }
}

impl Tds {
    /// One row with a value that the driver cannot load in bulk.
    async fn insert(&mut self, load: &Load, encoder: &Encoder<'_>, row: usize, number: u64) -> Result<()> {
        let mut values = Vec::with_capacity(encoder.columns());
        for column in 0..encoder.columns() {
            let value = encoder.value(column, row).map_err(|misfit| encoder.refuse(column, number, misfit))?;
            // The server makes XML of text by itself.
            values.push(match value {
                Value::Cell(Cell::Xml(text)) => ColumnData::String(Some(text.into())),
                value => null_as(data(value), &load.takers[column]),
            });
        }
        let parameters: Vec<String> = (1..=values.len()).map(|index| format!("@P{index}")).collect();
        let sql =
            format!("INSERT INTO {} ({}) VALUES ({})", load.table, load.columns.join(", "), parameters.join(", "));
        let values: Vec<&dyn tiberius::ToSql> = values.iter().map(|value| value as &dyn tiberius::ToSql).collect();
        self.settled = false;
        let answer = self.client.execute(sql, &values).await.map_err(|error| self.fail(error))?;
        self.settled = true;
        if answer.rows_affected().last() != Some(&1) {
            let message = format!("{} did not take row {number}.", self.place);
            return Err(Fault::new("SystemErrorVerification", message).into());
        }
        Ok(())
    }
}

async fn called(
    client: &mut Client<Compat<Line>>,
    place: &str,
    name: &str,
    arguments: &[Argument],
) -> Result<ProcedureOutcome> {
    let explained = |error: tiberius::error::Error| match error {
        tiberius::error::Error::Server(token) => errors::raised(place, &server_error(&token)).into(),
        other => failed(place, other),
    };
    let mut command = Command::new(name.to_owned());
    for given in arguments {
        if given.output {
            command.bind_out_param(given.name.clone(), argument(&given.value));
        } else {
            command.bind_param(given.name.clone(), argument(&given.value));
        }
    }
    let mut stream = command.exec(client).await.map_err(explained)?;
    let mut outcome = ProcedureOutcome::default();
    let mut outputs = BTreeMap::new();
    while let Some(item) = stream.try_next().await.map_err(explained)? {
        match item {
            CommandItem::ReturnStatus(status) => outcome.return_status = Some(i64::from(status as i32)),
            CommandItem::ReturnValue(value) => {
                outputs.insert(value.name().trim_start_matches('@').to_owned(), text(value.data()));
            }
            CommandItem::RowsAffected(rows) => {
                outcome.rows_affected = Some(outcome.rows_affected.unwrap_or(0) + rows);
            }
            CommandItem::Row(_) | CommandItem::Metadata(_) => {}
        }
    }
    outcome.outputs = outputs;
    Ok(outcome)
}

fn unsendable(place: &str, row: u64, error: tiberius::error::Error) -> Error {
    use tiberius::error::Error as Driver;
    let what = match &error {
        Driver::Encoding(_) => "holds a character that the code page of its column does not have",
        Driver::BulkInput(what) if what.contains("limit") => "holds a value longer than its column",
        Driver::BulkInput(_) => "holds a value its column does not take",
        _ => return failed(place, error),
    };
    // The driver's own words quote the value.
    let message = format!("Row {row} of its part {what}.");
    let remedy = "Give the column a Unicode type (nvarchar) of sufficient length, or correct the value.";
    Fault::new("UserErrorValue", message).remedy(remedy).with("row", row).into()
}

/// NULL of the type its column has; other values as they are.
fn null_as<'a>(data: ColumnData<'a>, taker: &Taker) -> ColumnData<'a> {
    if data != ColumnData::String(None) {
        return data;
    }
    match (taker.kind, &taker.fit) {
        (Kind::Boolean, _) => ColumnData::Bit(None),
        (Kind::UInt8, _) => ColumnData::U8(None),
        (Kind::Int16, _) => ColumnData::I16(None),
        (Kind::Int32, _) => ColumnData::I32(None),
        (Kind::Int64, _) => ColumnData::I64(None),
        (Kind::Float32, _) => ColumnData::F32(None),
        (Kind::Float64, _) => ColumnData::F64(None),
        (Kind::Decimal { .. }, _) => ColumnData::Numeric(None),
        (Kind::Date, _) => ColumnData::Date(None),
        (Kind::Uuid, _) => ColumnData::Guid(None),
        (Kind::Bytes, _) => ColumnData::Binary(None),
        (_, Fit::DateTime) => ColumnData::DateTime(None),
        (_, Fit::DateTime2 { .. } | Fit::SmallDateTime) => ColumnData::DateTime2(None),
        (_, Fit::Time { .. }) => ColumnData::Time(None),
        (_, Fit::Offset { .. }) => ColumnData::DateTimeOffset(None),
        (_, Fit::Xml) => ColumnData::Xml(None),
        _ => data,
    }
}

/// Whether the driver cannot load the value in bulk: it takes no large one, and garbles an empty XML.
fn wide(value: &Value<'_>) -> bool {
    match value {
        Value::Cell(Cell::Xml(text)) => text.is_empty(),
        // Every character is at most two bytes a byte of UTF-8 in UTF-16.
        Value::Cell(Cell::Text(text)) => text.len() * 2 > BULK_VALUE_BYTES_MAX,
        Value::Cell(Cell::Bytes(octets)) => octets.len() > BULK_VALUE_BYTES_MAX,
        _ => false,
    }
}
