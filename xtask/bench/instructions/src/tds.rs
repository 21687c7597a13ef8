//! The other driver for SQL Server, `mssql-tds`, used as it is fastest: rows straight into Arrow builders by its
//! `RowWriter`, and a bulk load without a row in between. And statements for the fixture, by `tiberius`.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::builder::{Date32Builder, Decimal128Builder, Int32Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Int32Type, Int64Type};
use arrow_array::{ArrayRef, RecordBatch};
use async_trait::async_trait;
use mssql_tds::connection::bulk_copy::{BulkCopy, BulkLoadRow};
use mssql_tds::connection::client_context::ClientContext;
use mssql_tds::connection::tds_client::TdsClient;
use mssql_tds::connection_provider::tds_connection_provider::TdsConnectionProvider;
use mssql_tds::core::{EncryptionSetting, TdsResult};
use mssql_tds::datatypes::column_values::{
    ColumnValues, SqlDate, SqlDateTime, SqlDateTime2, SqlDateTimeOffset, SqlMoney, SqlSmallDateTime, SqlSmallMoney,
    SqlTime, SqlXml,
};
use mssql_tds::datatypes::decoder::DecimalParts;
use mssql_tds::datatypes::row_writer::RowWriter;
use mssql_tds::datatypes::sql_json::SqlJson;
use mssql_tds::datatypes::sql_string::{EncodingType, SqlString};
use mssql_tds::datatypes::sql_vector::SqlVector;
use mssql_tds::message::bulk_load::StreamingBulkLoadWriter;
use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncWriteCompatExt;
use uuid::Uuid;

use crate::rows::{self, BATCH_ROWS};

/// Rows a batch is full with.
const FULL: usize = 8192;
/// Days from 0001-01-01 to 1970-01-01.
const DAYS_TO_1970: i32 = 719_162;

struct Given {
    port: u16,
    user: String,
    password: String,
    database: String,
}

fn given() -> Result<Given> {
    let read = |name: &str| dmg_ambient::environment(name).with_context(|| format!("{name} is not set"));
    let settings: serde_json::Value = serde_json::from_str(&read("DMG_COUNT_SETTINGS")?)?;
    let text = |name: &str| settings[name].as_str().unwrap_or_default().to_owned();
    let port = u16::try_from(settings["port"].as_u64().context("no port")?)?;
    Ok(Given { port, user: text("user"), password: read("DMG_COUNT_PASSWORD")?, database: text("database") })
}

/// Runs a script in the fixture.
pub async fn script(sql: &str) -> Result<usize> {
    let given = given()?;
    let mut config = Config::new();
    config.host("127.0.0.1");
    config.port(given.port);
    config.database(&given.database);
    config.encryption(EncryptionLevel::Off);
    config.trust_cert();
    config.authentication(AuthMethod::sql_server(&given.user, &given.password));
    let tcp = TcpStream::connect(("127.0.0.1", given.port)).await?;
    let mut client = Client::connect(config, tcp.compat_write()).await?;
    client.simple_query(sql).await?.into_results().await?;
    Ok(0)
}

async fn open() -> Result<TdsClient> {
    let given = given()?;
    let mut context = ClientContext::default();
    context.user_name = given.user;
    context.password = given.password;
    context.database = given.database;
    // The log-in alone is encrypted, as with `encrypt=optional` of ours: what is counted is the driver, not TLS.
    context.encryption_options.mode = EncryptionSetting::PreferOff;
    context.encryption_options.trust_server_certificate = true;
    let address = format!("tcp:127.0.0.1,{}", given.port);
    Ok(TdsConnectionProvider {}.create_client(context, &address, None).await?)
}

/// Reads the rows of a statement into batches.
pub async fn read(sql: &str) -> Result<usize> {
    let mut client = open().await?;
    client.execute(sql.to_owned(), ()).await?;
    let mut sink = Builders::new();
    let mut rows = 0;
    while client.next_row_into(&mut sink).await? {
        if sink.rows == FULL {
            rows += sink.take()?.num_rows();
        }
    }
    rows += sink.take()?.num_rows();
    client.close_query().await?;
    Ok(rows)
}

enum Builder {
    Big(Int64Builder),
    Int(Int32Builder),
    Money(Decimal128Builder),
    Date(Date32Builder),
    Text(StringBuilder),
}

/// Arrow builders for the sixteen columns; a value of another type is a mistake of this programme.
struct Builders {
    columns: Vec<Builder>,
    rows: usize,
    unexpected: Option<usize>,
}

impl Builders {
    fn new() -> Self {
        use dmg_protocol::Kind;
        let columns = rows::columns().into_iter().map(|column| match column.kind {
            Kind::Int64 => Builder::Big(Int64Builder::with_capacity(FULL)),
            Kind::Int32 => Builder::Int(Int32Builder::with_capacity(FULL)),
            Kind::Date => Builder::Date(Date32Builder::with_capacity(FULL)),
            kind @ Kind::Decimal { .. } => {
                Builder::Money(Decimal128Builder::with_capacity(FULL).with_data_type(dmg_connector::data_type(kind)))
            }
            _ => Builder::Text(StringBuilder::with_capacity(FULL, FULL * 16)),
        });
        Builders { columns: columns.collect(), rows: 0, unexpected: None }
    }

    fn take(&mut self) -> Result<RecordBatch> {
        if let Some(column) = self.unexpected {
            bail!("column {column} came as another type");
        }
        self.rows = 0;
        let arrays = self.columns.iter_mut().map(|column| -> ArrayRef {
            match column {
                Builder::Big(builder) => Arc::new(builder.finish()),
                Builder::Int(builder) => Arc::new(builder.finish()),
                Builder::Money(builder) => Arc::new(builder.finish()),
                Builder::Date(builder) => Arc::new(builder.finish()),
                Builder::Text(builder) => Arc::new(builder.finish()),
            }
        });
        Ok(RecordBatch::try_new(dmg_connector::schema(&rows::columns()), arrays.collect())?)
    }

    fn other(&mut self, column: usize) {
        self.unexpected = Some(column);
    }
}

impl RowWriter for Builders {
    fn write_i32(&mut self, column: usize, value: i32) {
        match &mut self.columns[column] {
            Builder::Int(builder) => builder.append_value(value),
            _ => self.other(column),
        }
    }

    fn write_i64(&mut self, column: usize, value: i64) {
        match &mut self.columns[column] {
            Builder::Big(builder) => builder.append_value(value),
            _ => self.other(column),
        }
    }

    fn write_string(&mut self, column: usize, bytes: Cow<'_, [u8]>, encoding: EncodingType) {
        match &mut self.columns[column] {
            Builder::Text(builder) => builder.append_value(SqlString::decode(&bytes, encoding)),
            _ => self.other(column),
        }
    }

    fn write_decimal(&mut self, column: usize, value: DecimalParts) {
        match &mut self.columns[column] {
            Builder::Money(builder) => {
                let magnitude = value.magnitude() as i128;
                builder.append_value(if value.is_positive { magnitude } else { -magnitude });
            }
            _ => self.other(column),
        }
    }

    fn write_numeric(&mut self, column: usize, value: DecimalParts) {
        self.write_decimal(column, value);
    }

    fn write_date(&mut self, column: usize, value: SqlDate) {
        match &mut self.columns[column] {
            Builder::Date(builder) => builder.append_value(value.get_days() as i32 - DAYS_TO_1970),
            _ => self.other(column),
        }
    }

    fn end_row(&mut self) {
        self.rows += 1;
    }

    fn write_null(&mut self, column: usize) {
        self.other(column);
    }
    fn write_bool(&mut self, column: usize, _: bool) {
        self.other(column);
    }
    fn write_u8(&mut self, column: usize, _: u8) {
        self.other(column);
    }
    fn write_i16(&mut self, column: usize, _: i16) {
        self.other(column);
    }
    fn write_f32(&mut self, column: usize, _: f32) {
        self.other(column);
    }
    fn write_f64(&mut self, column: usize, _: f64) {
        self.other(column);
    }
    fn write_bytes(&mut self, column: usize, _: Cow<'_, [u8]>) {
        self.other(column);
    }
    fn write_time(&mut self, column: usize, _: SqlTime) {
        self.other(column);
    }
    fn write_datetime(&mut self, column: usize, _: SqlDateTime) {
        self.other(column);
    }
    fn write_smalldatetime(&mut self, column: usize, _: SqlSmallDateTime) {
        self.other(column);
    }
    fn write_datetime2(&mut self, column: usize, _: SqlDateTime2) {
        self.other(column);
    }
    fn write_datetimeoffset(&mut self, column: usize, _: SqlDateTimeOffset) {
        self.other(column);
    }
    fn write_money(&mut self, column: usize, _: SqlMoney) {
        self.other(column);
    }
    fn write_smallmoney(&mut self, column: usize, _: SqlSmallMoney) {
        self.other(column);
    }
    fn write_uuid(&mut self, column: usize, _: Uuid) {
        self.other(column);
    }
    fn write_xml(&mut self, column: usize, _: SqlXml) {
        self.other(column);
    }
    fn write_json(&mut self, column: usize, _: SqlJson) {
        self.other(column);
    }
    fn write_vector(&mut self, column: usize, _: SqlVector) {
        self.other(column);
    }
}

/// A row of a batch, read where it is.
struct Row<'a> {
    columns: &'a [Column<'a>],
    row: usize,
}

enum Column<'a> {
    Big(&'a [i64]),
    Int(&'a [i32]),
    Money(&'a [i128]),
    Date(&'a [i32]),
    Text(&'a arrow_array::StringArray),
}

impl Column<'_> {
    fn value(&self, row: usize) -> TdsResult<ColumnValues> {
        Ok(match self {
            Column::Big(values) => ColumnValues::BigInt(values[row]),
            Column::Int(values) => ColumnValues::Int(values[row]),
            Column::Money(values) => {
                let value = values[row];
                ColumnValues::Decimal(DecimalParts::new(value >= 0, 15, 2, value.unsigned_abs()))
            }
            Column::Date(values) => ColumnValues::Date(SqlDate::create((values[row] + DAYS_TO_1970) as u32)?),
            Column::Text(values) => ColumnValues::String(SqlString::from_utf8_string(values.value(row).to_owned())),
        })
    }
}

#[async_trait]
impl BulkLoadRow for Row<'_> {
    async fn write_to_packet(&self, writer: &mut StreamingBulkLoadWriter<'_>, index: &mut usize) -> TdsResult<()> {
        for column in self.columns {
            let value = column.value(self.row)?;
            writer.write_column_value(*index, &value).await?;
            *index += 1;
        }
        Ok(())
    }
}

/// Loads rows in bulk into a table.
pub async fn write(table: &str, rows: usize) -> Result<usize> {
    let mut client = open().await?;
    let batch = rows::batch(BATCH_ROWS)?;
    let columns: Vec<Column<'_>> = batch
        .columns()
        .iter()
        .zip(rows::columns())
        .map(|(array, column)| match column.kind {
            dmg_protocol::Kind::Int64 => Column::Big(array.as_primitive::<Int64Type>().values()),
            dmg_protocol::Kind::Int32 => Column::Int(array.as_primitive::<Int32Type>().values()),
            dmg_protocol::Kind::Date => Column::Date(array.as_primitive::<Date32Type>().values()),
            dmg_protocol::Kind::Decimal { .. } => Column::Money(array.as_primitive::<Decimal128Type>().values()),
            _ => Column::Text(array.as_string::<i32>()),
        })
        .collect();
    let rows = (0..rows).map(|number| Row { columns: &columns, row: number % BATCH_ROWS });
    let mut load = BulkCopy::new(&mut client, table).timeout(std::time::Duration::ZERO).table_lock(true);
    Ok(usize::try_from(load.write_to_server_zerocopy(rows).await?.rows_affected)?)
}
