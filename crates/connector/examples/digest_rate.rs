//! Measures the digest: nanoseconds per value for the columns of TPC-H lineitem. `cargo run --release --example
//! digest_rate`. Prints; asserts nothing.

use std::sync::Arc;

use arrow_array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};
use dmg_ambient::Ambient;
use dmg_connector::{Column, Digester, published_seed, schema};
use dmg_protocol::Kind;

const ROWS: usize = 8192;
const BATCHES: usize = 120;

#[expect(clippy::print_stdout, reason = "the answer of the example")]
fn main() {
    let (ambient, chance) = (Ambient::real(), Ambient::test(1));
    let mut columns: Vec<(Column, ArrayRef)> = Vec::new();
    let mut add = |name: &str, kind: Kind, array: ArrayRef| {
        let column = Column { name: name.into(), kind, type_name: String::new(), nullable: true, key: false };
        columns.push((column, array));
    };
    let draws = |most: u64| (0..ROWS).map(|_| chance.draw() % most).collect::<Vec<_>>();
    add(
        "orderkey",
        Kind::Int64,
        Arc::new(Int64Array::from_iter_values(draws(6_000_000).into_iter().map(|n| n as i64))),
    );
    for name in ["partkey", "suppkey", "linenumber"] {
        add(name, Kind::Int32, Arc::new(Int32Array::from_iter_values(draws(200_000).into_iter().map(|n| n as i32))));
    }
    for name in ["quantity", "price", "discount", "tax"] {
        let array = Decimal128Array::from_iter_values(draws(10_000_000).into_iter().map(i128::from));
        let array = array.with_precision_and_scale(15, 2).expect("fits");
        add(name, Kind::Decimal { precision: 15, scale: 2 }, Arc::new(array));
    }
    for name in ["ship", "commit", "receipt"] {
        add(name, Kind::Date, Arc::new(Date32Array::from_iter_values(draws(9_000).into_iter().map(|n| n as i32))));
    }
    for (name, length) in [("flag", 1), ("status", 1), ("instruct", 25), ("mode", 10), ("comment", 27)] {
        let texts = draws(1 << 40).into_iter().map(|n| format!("{n:>length$}")[..length].to_owned());
        add(name, Kind::Text, Arc::new(StringArray::from_iter_values(texts)));
    }
    let (columns, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let time = |columns: &[Column], arrays: &[ArrayRef]| {
        let batch = RecordBatch::try_new(schema(columns), arrays.to_vec()).expect("fits");
        let mut digester = Digester::new(columns, published_seed());
        let start = ambient.uptime();
        for _ in 0..BATCHES {
            digester.update(&batch).expect("kinds match");
        }
        let nanos = (ambient.uptime() - start).as_nanos() as f64 / (ROWS * BATCHES) as f64;
        (nanos, digester.finish().row)
    };
    for (column, array) in columns.iter().zip(&arrays) {
        let (nanos, _) = time(std::slice::from_ref(column), std::slice::from_ref(array));
        println!("{:<12} {:<14} {nanos:6.1} ns/row", column.name, column.kind.to_string());
    }
    let (nanos, sum) = time(&columns, &arrays);
    println!("all 16       {:<14} {nanos:6.1} ns/row, {:.2} s for 6 million rows ({sum:032x})", "", nanos * 6e6 / 1e9);
}
