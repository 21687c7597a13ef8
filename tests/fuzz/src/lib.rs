//! What reads bytes from outside, each as one function of a byte string that must end soon, by value or by fault, and
//! never by a panic. `tests/corpus.rs` runs the kept corpora and fresh mutations; `cargo xtask fuzz` runs campaigns.

pub mod corpus;
mod files;
pub mod mutate;
mod runtime;

// The command line's own parser of URIs, which is no library.
#[path = "../../../crates/dmg/src/uri.rs"]
#[expect(dead_code, reason = "the fuzzer uses one function of it")]
mod uri;

use std::panic::AssertUnwindSafe;

/// One parser.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name, and folder of its corpus.
    pub name: &'static str,
    /// Feeds it.
    pub run: fn(&[u8]),
    /// Starting points beside the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longest input worth trying.
    pub bytes_max: usize,
    /// Source files whose line coverage counts.
    pub sources: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "postgres_copy",
        run: dmg_tables::fuzz::postgres_copy,
        seeds: dmg_tables::fuzz::postgres_copy_seeds,
        bytes_max: 4096,
        sources: &[
            "connectors/tables/src/arrays.rs",
            "connectors/tables/src/batch.rs",
            "connectors/tables/src/postgres/decode.rs",
            "connectors/tables/src/postgres/numeric.rs",
        ],
    },
    Target {
        name: "mysql_rows",
        run: dmg_tables::fuzz::mysql_rows,
        seeds: dmg_tables::fuzz::mysql_rows_seeds,
        bytes_max: 4096,
        sources: &["connectors/tables/src/mysql/decode.rs", "connectors/tables/src/mysql/parse.rs"],
    },
    Target {
        name: "sql_server_answer",
        run: dmg_tables::fuzz::sql_server_answer,
        seeds: dmg_tables::fuzz::sql_server_answer_seeds,
        bytes_max: 4096,
        sources: &[
            "connectors/tables/src/sql_server/decode.rs",
            "connectors/tables/src/sql_server/moment.rs",
            "connectors/tables/src/sql_server/variant.rs",
        ],
    },
    Target {
        name: "tds_fixture",
        run: dmg_tds_fixture::fuzz::message,
        seeds: dmg_tds_fixture::fuzz::seeds,
        bytes_max: 4096,
        sources: &[
            "tests/tds/src/read.rs",
            "tests/tds/src/wire_value.rs",
            "tests/tds/src/sql/lex.rs",
            "tests/tds/src/sql/parse.rs",
            "tests/tds/src/sql/parse_ddl.rs",
            "tests/tds/src/sql/parse_expr.rs",
        ],
    },
    Target {
        name: "text",
        run: files::text,
        seeds: files::text_seeds,
        bytes_max: 4096,
        sources: &[
            "crates/formats/src/text/read.rs",
            "crates/formats/src/text/scan.rs",
            "crates/formats/src/text/source.rs",
        ],
    },
    Target {
        name: "parquet",
        run: files::parquet,
        seeds: files::parquet_seeds,
        bytes_max: 16 * 1024,
        sources: &["crates/formats/src/parquet/read.rs"],
    },
    Target { name: "uri", run: run_uri, seeds: uri_seeds, bytes_max: 512, sources: &["crates/dmg/src/uri.rs"] },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs one input; the text of the panic if there was one.
pub fn try_one(target: &Target, input: &[u8]) -> Result<(), String> {
    std::panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

fn run_uri(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n').map(str::to_owned);
    let uri = lines.next().unwrap_or_default();
    let mut option = || lines.next().filter(|line| !line.is_empty());
    let side = uri::Side {
        uri,
        table: option(),
        query: option(),
        format: option(),
        compression: option(),
        endpoint: option(),
        delimiter: option(),
    };
    if let Ok(parsed) = uri::parse(&side) {
        // A secret never gets through as a setting.
        let settings = serde_json::to_string(&parsed.store.settings).unwrap_or_default().to_lowercase();
        assert!(!settings.contains("\"password\""), "a password became a setting: {settings}");
    }
}

fn uri_seeds() -> Vec<Vec<u8>> {
    [
        "postgres://etl@db01:6432/sales?sslmode=require&connect_timeout=3\npublic.\"a.b\"",
        "postgresql://[::1]/d%20b\n\nSELECT 1",
        "mysql://u@h:3306/shop?sslMode=require\n`t`",
        "sqlserver://u@h/master?encrypt=true\ndbo.t",
        "sqlite:app.db\nusers",
        "file:/data/out/x.parquet\n\n\n\nzstd",
        "file:///data/x.tsv",
        "file:folder/\n\n\ncsv",
        "azblob://acme/raw/2026/x.csv\n\n\n\n\nhttp://127.0.0.1:10000/acme",
        "azblob://a/c/x?sig=1",
        "postgres://u:p@h/db\nt",
        "x.csv",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
