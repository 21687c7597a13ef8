//! How fast rows like TPC-H lineitem are encoded as Parquet and decoded again, one thread, in memory. Run it with
//! `cargo run --release -p dmg-formats --example parquet_rate -- [ROWS] [snappy|zstd|none]`.

#![expect(clippy::print_stdout, reason = "a measuring program prints")]

use std::sync::Arc;
use std::time::Duration;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch};
use dmg_connector::Column;
use dmg_protocol::Kind;
use dmg_protocol::job::{FormatSpec, ParquetCompression, ParquetFormat};

const BATCH_ROWS: usize = 16 * 1024;

fn columns() -> Vec<Column> {
    let money = Kind::Decimal { precision: 15, scale: 2 };
    let of =
        |name: &str, kind| Column { name: name.into(), kind, type_name: String::new(), nullable: false, key: false };
    vec![
        of("l_orderkey", Kind::Int64),
        of("l_partkey", Kind::Int64),
        of("l_suppkey", Kind::Int64),
        of("l_linenumber", Kind::Int32),
        of("l_quantity", money),
        of("l_extendedprice", money),
        of("l_discount", money),
        of("l_tax", money),
        of("l_returnflag", Kind::Text),
        of("l_linestatus", Kind::Text),
        of("l_shipdate", Kind::Date),
        of("l_commitdate", Kind::Date),
        of("l_receiptdate", Kind::Date),
        of("l_shipinstruct", Kind::Text),
        of("l_shipmode", Kind::Text),
        of("l_comment", Kind::Text),
    ]
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

fn batch(first: usize, rows: usize, chance: &mut Chance, columns: &[Column]) -> RecordBatch {
    const WORDS: [&str; 24] = [
        "furiously",
        "quickly",
        "carefully",
        "blithely",
        "slyly",
        "regular",
        "final",
        "ironic",
        "even",
        "bold",
        "express",
        "special",
        "pending",
        "deposits",
        "requests",
        "accounts",
        "packages",
        "instructions",
        "foxes",
        "theodolites",
        "pinto beans",
        "sleep",
        "haggle",
        "nag",
    ];
    let mut draw = |bound: u64| chance.below(bound);
    let mut longs =
        |bound: u64| -> ArrayRef { Arc::new((0..rows).map(|_| draw(bound) as i64 + 1).collect::<Int64Array>()) };
    let (parts, suppliers) = (longs(200_000), longs(10_000));
    let orders: ArrayRef = Arc::new((0..rows).map(|row| ((first + row) / 4) as i64).collect::<Int64Array>());
    let lines: ArrayRef = Arc::new((0..rows).map(|row| ((first + row) % 4 + 1) as i32).collect::<Int32Array>());
    let mut money = |bound: u64, step: i128| -> ArrayRef {
        let values = (0..rows).map(|_| i128::from(chance.below(bound)) * step).collect::<Decimal128Array>();
        Arc::new(values.with_precision_and_scale(15, 2).expect("15 digits suffice"))
    };
    let prices = [money(50, 100), money(10_000_000, 1), money(11, 1), money(9, 1)];
    let mut days = || -> ArrayRef {
        Arc::new((0..rows).map(|_| 8000 + chance.below(2526) as i32).map(Some).collect::<Date32Array>())
    };
    let dates = [days(), days(), days()];
    let mut words = |choice: &[&str]| -> ArrayRef {
        let mut builder = StringBuilder::new();
        (0..rows).for_each(|_| builder.append_value(chance.pick(choice)));
        Arc::new(builder.finish())
    };
    let flags = [words(&["A", "N", "R"]), words(&["O", "F"])];
    let instructions = words(&["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"]);
    let modes = words(&["REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB"]);
    let mut comments = StringBuilder::new();
    for _ in 0..rows {
        let mut text = String::new();
        let length = 10 + chance.below(34) as usize;
        while text.len() < length {
            text.push_str(chance.pick(&WORDS));
            text.push(' ');
        }
        text.truncate(length);
        comments.append_value(text);
    }
    let mut arrays = vec![orders, parts, suppliers, lines];
    arrays.extend(prices);
    arrays.extend(flags);
    arrays.extend(dates);
    arrays.extend([instructions, modes, Arc::new(comments.finish())]);
    RecordBatch::try_new(dmg_connector::schema(columns), arrays).expect("the columns fit")
}

/// CPU time of this thread, so that other work on the machine does not count.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number of nanoseconds");
    Duration::from_nanos(nanos)
}

fn main() {
    let rows: usize = std::env::args().nth(1).map_or(6_000_000, |text| text.parse().expect("a number of rows"));
    let compression = match std::env::args().nth(2).as_deref() {
        Some("zstd") => ParquetCompression::Zstd,
        Some("none") => ParquetCompression::None,
        _ => ParquetCompression::Snappy,
    };
    let format = dmg_formats::open(&FormatSpec::Parquet(ParquetFormat { compression })).expect("the format opens");
    let columns = columns();
    let mut file = format.encoder(&columns).expect("the columns fit");
    let mut bytes = file.start().expect("a file starts").len();
    let (mut encode, mut append, mut decode) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (limit_rows, limit_bytes) = format.fragment_limits();
    let mut chance = Chance(42);
    let (mut written, mut read, mut fragments) = (0, 0, 0);
    while written < rows {
        let mut fragment = file.fragment().expect("a fragment starts");
        while written < rows && fragment.rows() < limit_rows && fragment.size() < limit_bytes {
            let batch = batch(written, BATCH_ROWS.min(rows - written), &mut chance, &columns);
            written += batch.num_rows();
            let start = cpu();
            fragment.write(&batch).expect("the rows fit");
            encode += cpu() - start;
        }
        let start = cpu();
        let fragment = fragment.finish().expect("a fragment ends");
        encode += cpu() - start;
        let start = cpu();
        read +=
            format.decode(&columns, &fragment).expect("it reads back").iter().map(RecordBatch::num_rows).sum::<usize>();
        decode += cpu() - start;
        let start = cpu();
        bytes += file.append(fragment).expect("it is appended").len();
        append += cpu() - start;
        fragments += 1;
    }
    bytes += file.finish().expect("the file ends").len();
    assert_eq!((written, read), (rows, rows));
    let seconds = |time: Duration| time.as_secs_f64();
    println!(
        "{rows} rows, {fragments} row groups, {:.0} MB, CPU: encode {:.2} s, append {:.2} s, decode {:.2} s",
        bytes as f64 / 1e6,
        seconds(encode),
        seconds(append),
        seconds(decode)
    );
}
