//! Rows like those of TPC-H's lineitem: the same sixteen columns and widths, values from a counter.

use std::sync::Arc;

use anyhow::Result;
use arrow_array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray};
use dmg_connector::{Column, data_type, schema};
use dmg_protocol::Kind;

/// Rows of the batch that is written over and over.
pub const BATCH_ROWS: usize = 4096;

const MONEY: Kind = Kind::Decimal { precision: 15, scale: 2 };
const INSTRUCTIONS: [&str; 4] = [
    "DELIVER IN PERSON        ",
    "COLLECT COD              ",
    "NONE                     ",
    "TAKE BACK RETURN         ",
];
const MODES: [&str; 4] = ["TRUCK     ", "MAIL      ", "REG AIR   ", "SHIP      "];
const WORDS: [&str; 8] = ["furiously", "even", "packages", "sleep", "carefully", "among", "the", "deposits"];

/// Names, kinds and types.
pub fn columns() -> Vec<Column> {
    let columns = [
        ("l_orderkey", Kind::Int64, "bigint"),
        ("l_partkey", Kind::Int64, "bigint"),
        ("l_suppkey", Kind::Int64, "bigint"),
        ("l_linenumber", Kind::Int32, "integer"),
        ("l_quantity", MONEY, "numeric(15,2)"),
        ("l_extendedprice", MONEY, "numeric(15,2)"),
        ("l_discount", MONEY, "numeric(15,2)"),
        ("l_tax", MONEY, "numeric(15,2)"),
        ("l_returnflag", Kind::Text, "char(1)"),
        ("l_linestatus", Kind::Text, "char(1)"),
        ("l_shipdate", Kind::Date, "date"),
        ("l_commitdate", Kind::Date, "date"),
        ("l_receiptdate", Kind::Date, "date"),
        ("l_shipinstruct", Kind::Text, "char(25)"),
        ("l_shipmode", Kind::Text, "char(10)"),
        ("l_comment", Kind::Text, "varchar(44)"),
    ];
    let column = |(name, kind, type_name): (&str, Kind, &str)| Column {
        name: name.to_owned(),
        kind,
        type_name: type_name.to_owned(),
        nullable: false,
        key: false,
    };
    columns.into_iter().map(column).collect()
}

/// One batch.
pub fn batch(rows: usize) -> Result<RecordBatch> {
    let numbers = 0..rows as i64;
    let big = |factor: i64, most: i64| -> ArrayRef {
        Arc::new(numbers.clone().map(|n| 1 + n * factor % most).collect::<Int64Array>())
    };
    let money = |factor: i64, most: i64| -> ArrayRef {
        let values = numbers.clone().map(|n| i128::from(1 + n * factor % most)).collect::<Decimal128Array>();
        Arc::new(values.with_data_type(data_type(MONEY)))
    };
    let date = |offset: i32| -> ArrayRef {
        Arc::new(Date32Array::from_iter_values(numbers.clone().map(|n| 8_036 + offset + (n * 7919 % 2_500) as i32)))
    };
    let text = |of: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new((0..rows).map(|n| Some(of(n))).collect::<StringArray>())
    };
    let comment = |n: usize| {
        let mut text = String::new();
        let mut at = n * 31;
        while text.len() < 10 + n * 17 % 34 {
            text.push_str(WORDS[at % WORDS.len()]);
            text.push(' ');
            at = at / 3 + 7;
        }
        text.truncate(10 + n * 17 % 34);
        // A char(n) gives its blanks back, a varchar keeps them: none at the end, so that all stores agree.
        text.trim_end().to_owned()
    };
    let arrays: Vec<ArrayRef> = vec![
        big(1, 6_000_000),
        big(15_519, 200_000),
        big(7_706, 10_000),
        Arc::new((0..rows as i32).map(|n| n % 7 + 1).collect::<Int32Array>()),
        money(1_700, 5_000),
        money(2_116_823, 10_494_950),
        money(3, 11),
        money(5, 9),
        text(&|n| ["N", "R", "A"][n % 3].to_owned()),
        text(&|n| ["O", "F"][n % 2].to_owned()),
        date(0),
        date(30),
        date(45),
        text(&|n| INSTRUCTIONS[n % 4].to_owned()),
        text(&|n| MODES[n / 4 % 4].to_owned()),
        text(&comment),
    ];
    Ok(RecordBatch::try_new(schema(&columns()), arrays)?)
}
