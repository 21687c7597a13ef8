//! A door for the fuzzer: bytes as what a server answers to a query, through the driver into columns of every form, and
//! texts as what variants and moments are kept in. Nothing is sent anywhere.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use dmg_connector::{BatchLimits, Column};
use dmg_protocol::Kind;
use futures::io::{AsyncRead, AsyncWrite};
use futures::{FutureExt, TryStreamExt};
use tiberius::{AuthMethod, Client, Config, EncryptionLevel, QueryItem};

use super::cell::Value;
use super::decode::Decoder;
use super::types::Form;
use super::{moment, tds, variant};

const LIMITS: BatchLimits = BatchLimits { rows: 5, bytes: 1 << 12, value_bytes: 256 };
/// The largest packet a server announced with 4096 bytes may send.
const PACKET_BYTES: usize = 4088;

const DECIMAL: Form = Form::Decimal { precision: 19, scale: 4 };
/// Kind, form, type as a server describes it, and a value of it.
const COLUMNS: &[(Kind, Form, &[u8], &[u8])] = &[
    (Kind::Boolean, Form::Boolean, &[0x68, 1], &[1, 1]),
    (Kind::UInt8, Form::UInt8, &[0x26, 1], &[1, 255]),
    (Kind::Int16, Form::Int16, &[0x26, 2], &[2, 0, 128]),
    (Kind::Int32, Form::Int32, &[0x38], &[7, 0, 0, 0]),
    (Kind::Int64, Form::Int64, &[0x26, 8], &[8, 1, 2, 3, 4, 5, 6, 7, 8]),
    (Kind::Float32, Form::Float32, &[0x6D, 4], &[4, 0, 0, 192, 63]),
    (Kind::Float64, Form::Float64, &[0x6D, 8], &[8, 0, 0, 0, 0, 0, 0, 248, 63]),
    (Kind::Decimal { precision: 19, scale: 4 }, DECIMAL, &[0x6C, 9, 19, 4], &[9, 1, 57, 48, 0, 0, 0, 0, 0, 0]),
    (Kind::Decimal { precision: 19, scale: 4 }, DECIMAL, &[0x6C, 5, 9, 2], &[5, 0, 1, 0, 0, 0]),
    (Kind::Decimal { precision: 19, scale: 4 }, DECIMAL, &[0x6E, 8], &[8, 0, 0, 0, 0, 16, 39, 0, 0]),
    (Kind::Date, Form::Date, &[0x28], &[3, 0, 0, 10]),
    (Kind::Timestamp, Form::Timestamp, &[0x2A, 3], &[7, 1, 2, 3, 4, 0, 0, 10]),
    (Kind::Timestamp, Form::Timestamp, &[0x6F, 8], &[8, 1, 0, 0, 0, 44, 1, 0, 0]),
    (Kind::Timestamp, Form::Timestamp, &[0x6F, 4], &[4, 1, 0, 59, 0]),
    (Kind::Instant, Form::Instant, &[0x2B, 0], &[8, 1, 2, 0, 0, 0, 10, 60, 0]),
    (Kind::Time, Form::Time, &[0x29, 6], &[5, 1, 2, 3, 4, 0]),
    (Kind::Uuid, Form::Uuid, &[0x24, 16], &[16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    (Kind::Text, Form::Text, &[0xE7, 40, 0, 9, 4, 208, 0, 52], &[4, 0, 97, 0, 228, 0]),
    (Kind::Text, Form::Text, &[0xA7, 40, 0, 9, 4, 208, 0, 52], &[2, 0, 97, 228]),
    (
        Kind::Text,
        Form::Text,
        &[0xE7, 255, 255, 9, 4, 208, 0, 52],
        &[4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 97, 0, 98, 0, 0, 0, 0, 0],
    ),
    (Kind::Text, Form::Text, &[0xF1, 0], &[254, 255, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 60, 0, 0, 0, 0, 0]),
    (Kind::Bytes, Form::Bytes, &[0xA5, 10, 0], &[3, 0, 0, 1, 255]),
    (Kind::InstantWithOffset, Form::WithOffset, &[0x2B, 7], &[10, 1, 2, 3, 4, 5, 0, 0, 10, 60, 0]),
    (Kind::TimestampNanos, Form::TimestampNanos, &[0x2A, 7], &[8, 1, 2, 3, 4, 5, 0, 0, 10]),
    (Kind::TimeNanos, Form::TimeNanos, &[0x29, 7], &[5, 1, 2, 3, 4, 5]),
    (Kind::EngineText, Form::Variant, &[0x62, 73, 31, 0, 0], &[6, 0, 0, 0, 0x38, 0, 7, 0, 0, 0]),
    (Kind::EngineText, Form::Variant, &[0x62, 73, 31, 0, 0], &[6, 0, 0, 0, 0xA5, 2, 8, 0, 1, 2]),
];

/// What a server said that is not there: its bytes one after the other, and nobody who listens.
struct Said(Vec<u8>, usize);

impl AsyncRead for Said {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let at = self.1;
        let rest = self.0.get(at..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.1 += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Said {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn packets(content: &[u8], out: &mut Vec<u8>) {
    let mut chunks = content.chunks(PACKET_BYTES).peekable();
    while let Some(chunk) = chunks.next() {
        out.extend([4, u8::from(chunks.peek().is_none())]);
        out.extend((chunk.len() as u16 + 8).to_be_bytes());
        out.extend([0, 0, 1, 0]);
        out.extend(chunk);
    }
}

/// What a server says until a client is logged in: no TLS, version 7.4.
fn log_in() -> Vec<u8> {
    let mut out = Vec::new();
    packets(&[0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF, 16, 0, 3, 232, 0, 0, 2], &mut out);
    let mut content = vec![0xAD, 12, 0, 1, 0x74, 0, 0, 4, 1, b'f', 0, 16, 0, 3, 232];
    content.extend(DONE);
    packets(&content, &mut out);
    out
}

const DONE: [u8; 13] = [0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The first byte chooses the form that columns are read in, or texts; the rest is the server's answer.
pub(crate) fn answer(data: &[u8]) {
    let Some((choice, content)) = data.split_first() else { return };
    let Some((kind, form, ..)) = COLUMNS.get(usize::from(*choice) % (COLUMNS.len() + 1)) else {
        return texts(&String::from_utf8_lossy(content));
    };
    let column = Column { name: "c".into(), kind: *kind, type_name: String::new(), nullable: true, key: false };
    let mut said = log_in();
    packets(content, &mut said);
    let read = async {
        let mut config = Config::new();
        config.encryption(EncryptionLevel::NotSupported);
        config.authentication(AuthMethod::sql_server("u", "p"));
        config.handshake_timeout(None);
        config.command_timeout(None);
        let mut client = Client::connect(config, Said(said, 0)).await.expect("what is said logs a client in");
        let mut decoder = Decoder::new(&[column], &[*form], LIMITS, "fuzz");
        let Ok(mut stream) = client.simple_query("SELECT 1").await else { return };
        while let Ok(Some(item)) = stream.try_next().await {
            let QueryItem::Row(row) = item else { continue };
            if decoder.row(row.cells().map(|(_, data)| tds::cell(data))).is_err() {
                return;
            }
            if decoder.full() && decoder.take().is_err() {
                return;
            }
        }
        if !decoder.is_empty() {
            let _ = decoder.take();
        }
    };
    // Nobody is waited for: what is not there yet never comes.
    let _ = read.now_or_never();
}

/// What was read may be written again, and reads as it was.
fn texts(text: &str) {
    if let Some(Value::Cell(cell)) = variant::parse(text) {
        let mut out = Vec::new();
        if variant::write(cell, &mut out).is_some() {
            let again = String::from_utf8(out).expect("a variant's text is text");
            assert_eq!(variant::parse(&again), Some(Value::Cell(cell)), "{text} became {again}");
        }
    }
    for (name, scale) in [("time", 3), ("datetime2", 7), ("datetimeoffset", 0), ("date", 0)] {
        if let Some(cell) = moment::parse(text, name, scale) {
            let mut out = Vec::new();
            moment::write(cell, &mut out).expect("what was read as a moment is one");
        }
    }
}

/// One column of two rows with a NULL between where the type has one, and texts.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "int:-7",
        "bit:1",
        "tinyint:255",
        "smallint:-1",
        "bigint:9",
        "real:1.5e-40",
        "float:0.1",
        "nvarchar:a:b",
        "varbinary:0x00ff",
        "uniqueidentifier:11111111-1111-1111-1111-111111111111",
        "decimal(2):-1250",
        "datetime:-1.3",
        "smalldatetime:1.3",
        "date:2024-02-29",
        "time(3):23:59:59.999",
        "datetime2(7):0001-01-01 00:00:00.0000001",
        "datetimeoffset(2):1969-12-31 23:59:59.99+05:30",
        "23:59:59.999",
        "2024-02-29 12:34:56.7890000",
        "2024-02-29 23:30:00-14:00",
    ];
    let choice = COLUMNS.len() as u8;
    let mut seeds: Vec<Vec<u8>> = texts.iter().map(|text| [&[choice][..], text.as_bytes()].concat()).collect();
    for (index, (.., described, value)) in COLUMNS.iter().enumerate() {
        let mut input = vec![index as u8, 0x81, 1, 0, 0, 0, 0, 0, 9, 0];
        input.extend(*described);
        input.extend([1, b'c', 0]);
        for _ in 0..2 {
            input.push(0xD1);
            input.extend(*value);
        }
        input.extend([0xD2, 1]);
        input.extend([0xAA, 16, 0, 1, 0, 0, 0, 0, 16, 2, 0, b'n', 0, b'o', 0, 0, 0, 1, 0]);
        input.extend(DONE);
        seeds.push(input.clone());
        // Only the rows, to their end.
        input.truncate(input.len() - DONE.len() - 21);
        input.extend(DONE);
        seeds.push(input);
    }
    seeds
}
