//! `dmg verify`: compares two stores without changing either, and names the rows that differ.

use std::path::PathBuf;

use clap::{ArgMatches, Args};
use dmg_ambient::Ambient;
use dmg_engine::{
    Change, ColumnChoice, DIFFERENCES_MAX, Difference, KeyChoice, VerifiedColumn, VerifyReport, VerifyRequest,
};
use dmg_protocol::job::{ColumnMapping, Endpoint};
use dmg_protocol::{Fault, Kind};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::copy::{deal, kinds, read_all, secrets};
use super::receipt::thousands;
use super::write_options::time;
use crate::display::Output;
use crate::display::progress::Bar;
use crate::uri::{self, Parsed, Side};

/// Characters of a value that are shown to people.
const SHOWN_CHARS: usize = 60;
/// Characters before the first difference of two long values that are shown to people.
const BEFORE_CHARS: usize = 20;
/// Values of a row that are shown to people.
const SHOWN_VALUES: usize = 8;

/// Arguments. What belongs to one end stands behind its URI.
#[derive(Debug, Args)]
#[command(
    after_help = "Options for one end stand behind its URI. Exit code: 0 where nothing differs, 1 otherwise. Examples:\n  \
    dmg verify postgres://etl@db01/sales --table orders postgres://etl@db02/dwh --table orders --key id\n  \
    dmg verify sqlite:app.db --table users file:users.csv --except password\n\
    Lines begin with - (only in FROM), + (only in TO) or * (in both, with other values)."
)]
pub(crate) struct VerifyArguments {
    /// One store: a URI as dmg copy takes it
    #[arg(value_name = "FROM", required = true)]
    from: String,
    /// The other store
    #[arg(value_name = "TO", required = true)]
    to: String,
    /// Table, as NAME or SCHEMA.NAME
    #[arg(long, value_name = "T")]
    table: Vec<String>,
    /// Query instead of a table
    #[arg(long, value_name = "SQL")]
    query: Vec<String>,
    /// File that holds the password, account key or SAS token of that end; asked for on a terminal otherwise
    #[arg(long, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
    /// File format where the name does not tell: parquet, csv, tsv
    #[arg(long, value_name = "FORMAT")]
    format: Vec<String>,
    /// Blob endpoint other than the cloud's own, for emulators
    #[arg(long, value_name = "URL")]
    endpoint: Vec<String>,
    /// Columns that identify a row, by their names in FROM; left out: the primary key of either side, else whole rows
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    key: Vec<String>,
    /// Compare whole rows, whatever keys the tables have
    #[arg(long, conflicts_with = "key")]
    no_key: bool,
    /// Compare these columns only, by their names in FROM
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// Compare all columns but these
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    except: Vec<String>,
    /// A column that is called otherwise in TO; repeat for more
    #[arg(long, value_name = "FROM=TO")]
    mapping: Vec<String>,
    /// Compare this column as another kind, such as float64, date, instant or decimal(10,2); repeat for more
    #[arg(long = "as", value_name = "COLUMN=KIND")]
    kinds: Vec<String>,
    /// Differences to show; all are counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// The answer as JSON, the same as --output json
    #[arg(long)]
    json: bool,
    /// Parts of a side read at once
    #[arg(long, value_name = "N")]
    parallel: Option<u32>,
    /// Memory budget in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    memory: u32,
    /// Longest wait for an answer of a store, such as the first rows of a query: 30s, 10m, 2h; 0 is no limit
    /// [default: 2h]
    #[arg(long, value_name = "TIME")]
    query_timeout: Option<String>,
    /// Longest silence of a store in the middle of rows [default: 10m]
    #[arg(long, value_name = "TIME")]
    stall_timeout: Option<String>,
    /// PEM file of a certificate authority to trust besides the system's
    #[arg(long, value_name = "FILE")]
    store_ca: Vec<PathBuf>,
}

/// Compares. Returns the exit code.
pub(crate) async fn run(
    ambient: &Ambient,
    arguments: VerifyArguments,
    matches: &ArgMatches,
    output: Output,
    cancel: &CancellationToken,
) -> Result<u8, Fault> {
    let output = if arguments.json { Output::new(crate::display::Format::Json) } else { output };
    let request = request(&arguments, matches)?;
    let bar = (!output.json()).then(Bar::new);
    let watch = |progress| {
        if let Some(bar) = &bar {
            bar.counted(&progress);
        }
    };
    let stores = dmg_gateway::worker::stores();
    let result = dmg_engine::verify(ambient, stores.as_ref(), request, &watch, cancel).await;
    if let Some(bar) = &bar {
        bar.clear();
    }
    let report = result?;
    output.answer(&value(&report), || text(&report, output));
    Ok(if report.is_equal() { 0 } else { crate::failure::EXIT_FAULT })
}

fn request(arguments: &VerifyArguments, matches: &ArgMatches) -> Result<VerifyRequest, Fault> {
    let to_at = matches.indices_of("to").and_then(|mut at| at.next()).unwrap_or(0);
    let is_to = |index: usize| index > to_at;
    let (from_table, to_table) = deal(matches, "table", &arguments.table, &is_to)?;
    let (from_query, to_query) = deal(matches, "query", &arguments.query, &is_to)?;
    let (from_format, to_format) = deal(matches, "format", &arguments.format, &is_to)?;
    let (from_endpoint, to_endpoint) = deal(matches, "endpoint", &arguments.endpoint, &is_to)?;
    let (from_secret, to_secret) = deal(matches, "secret_file", &arguments.secret_file, &is_to)?;
    let end = |uri: &str, table, query, format, endpoint| {
        uri::parse(&Side { uri: uri.to_owned(), table, query, format, endpoint, ..Side::default() })
    };
    let from = end(&arguments.from, from_table, from_query, from_format, from_endpoint)?;
    let to = end(&arguments.to, to_table, to_query, to_format, to_endpoint)?;
    let endpoint = |parsed: Parsed| Endpoint {
        store: parsed.store,
        object: parsed.object,
        format: parsed.format,
        declared: Vec::new(),
    };
    if arguments.limit > DIFFERENCES_MAX {
        let message = format!("--limit may be at most {DIFFERENCES_MAX}.");
        return Err(Fault::new("UserErrorSettings", message));
    }
    let limit = |option: &str, text: &Option<String>| text.as_deref().map(|text| time(option, text)).transpose();
    Ok(VerifyRequest {
        from_secrets: secrets(&from, from_secret.as_ref(), &arguments.from)?,
        to_secrets: secrets(&to, to_secret.as_ref(), &arguments.to)?,
        from: endpoint(from),
        to: endpoint(to),
        extra_ca: read_all(&arguments.store_ca)?,
        key: match (arguments.no_key, arguments.key.is_empty()) {
            (true, _) => KeyChoice::None,
            (false, true) => KeyChoice::Known,
            (false, false) => KeyChoice::Columns(arguments.key.clone()),
        },
        columns: ColumnChoice {
            columns: arguments.columns.clone(),
            except: arguments.except.clone(),
            mapping: arguments.mapping.iter().map(|text| mapping(text)).collect::<Result<_, _>>()?,
            kinds: kinds(&arguments.kinds)?,
        },
        query_timeout_millis: limit("query", &arguments.query_timeout)?,
        stall_timeout_millis: limit("stall", &arguments.stall_timeout)?,
        limit: arguments.limit,
        parallel: arguments.parallel,
        memory_mib: arguments.memory,
    })
}

fn mapping(text: &str) -> Result<ColumnMapping, Fault> {
    let (from, to) = text.split_once('=').ok_or_else(|| {
        Fault::new("UserErrorSettings", format!("\"{text}\" maps no column.")).remedy("Write --mapping FROM=TO.")
    })?;
    Ok(ColumnMapping::named(from, to))
}

/// The report for programs. NULL is null, all else is text.
fn value(report: &VerifyReport) -> Value {
    let row = |values: &[Option<String>]| -> Value {
        let named = report.columns.iter().zip(values).map(|(column, text)| (column.from.clone(), json!(text)));
        Value::Object(named.collect::<Map<_, _>>())
    };
    let difference = |difference: &Difference| {
        let mut value = json!({ "change": sign(difference.change), "times": difference.times });
        if !difference.from.is_empty() {
            value["from"] = row(&difference.from);
        }
        if !difference.to.is_empty() {
            value["to"] = row(&difference.to);
        }
        if difference.change == Change::Changed {
            let names = difference.columns.iter().map(|at| json!(report.columns[*at].from));
            value["columns"] = names.collect();
        }
        value
    };
    let side =
        |side: &dmg_engine::VerifiedSide| json!({ "store": side.label, "rows": side.rows, "rowSum": side.digest });
    json!({
        "equal": report.is_equal(),
        "from": side(&report.from),
        "to": side(&report.to),
        "key": report.columns.iter().filter(|column| column.key).map(|column| &column.from).collect::<Vec<_>>(),
        "columns": report.columns.iter().map(|column| json!({
            "from": column.from, "to": column.to, "kind": column.kind, "differs": column.differs,
        })).collect::<Vec<_>>(),
        "rows": { "=": report.equal, "-": report.only_from, "+": report.only_to, "*": report.changed },
        "differences": report.differences.iter().map(difference).collect::<Vec<_>>(),
        "notices": report.notices,
    })
}

fn sign(change: Change) -> &'static str {
    match change {
        Change::OnlyFrom => "-",
        Change::OnlyTo => "+",
        Change::Changed => "*",
    }
}

/// The report for people.
fn text(report: &VerifyReport, output: Output) -> String {
    let mut lines = vec![
        format!("from  {}  {} rows", report.from.label, thousands(report.from.rows)),
        format!("to    {}  {} rows", report.to.label, thousands(report.to.rows)),
    ];
    let names = |is: fn(&VerifiedColumn) -> bool| -> Vec<String> {
        report.columns.iter().filter(|column| is(column)).map(|column| name(&column.from)).collect()
    };
    let key = names(|column| column.key);
    lines.push(format!("key   {}", if key.is_empty() { "none, whole rows".to_owned() } else { key.join(", ") }));
    if !report.differences.is_empty() {
        lines.push(String::new());
        lines.extend(report.differences.iter().map(|difference| line(report, difference)));
        let times = |difference: &Difference| difference.times;
        let shown: u64 = report.differences.iter().map(times).sum();
        let all = report.only_from + report.only_to + report.changed;
        if shown < all {
            lines.push(format!("… and {} more; --limit shows more of them", thousands(all - shown)));
        }
    }
    lines.push(String::new());
    let counts = [("=", report.equal), ("-", report.only_from), ("+", report.only_to), ("*", report.changed)];
    lines.push(counts.map(|(sign, count)| format!("{sign} {}", thousands(count))).join("   "));
    let differing = names(|column| column.differs);
    if !differing.is_empty() {
        lines.push(format!("columns whose digests differ: {}", differing.join(", ")));
    }
    let verdict = if report.is_equal() { "equal" } else { "different" };
    lines.push(output.strong(verdict));
    lines.extend(report.notices.iter().map(|notice| format!("note: {notice}")));
    lines.join("\n")
}

fn line(report: &VerifyReport, difference: &Difference) -> String {
    let row = if difference.change == Change::OnlyTo { &difference.to } else { &difference.from };
    let cells = |key: bool| {
        let cells = report.columns.iter().zip(row).filter(move |(column, _)| column.key == key);
        cells.map(|(column, value)| format!("{}={}", name(&column.from), shown(value, column.kind)))
    };
    let mut pieces: Vec<String> = cells(true).collect();
    if difference.change == Change::Changed {
        pieces.extend(difference.columns.iter().map(|at| {
            let column = &report.columns[*at];
            let (from, to) = (&difference.from[*at], &difference.to[*at]);
            format!("{}: {}", name(&column.from), both_shown(from, to, column.kind))
        }));
    } else {
        pieces.extend(cells(false).take(SHOWN_VALUES));
        let more = cells(false).count().saturating_sub(SHOWN_VALUES);
        if more > 0 {
            pieces.push(format!("… {more} columns more"));
        }
    }
    if difference.times > 1 {
        pieces.push(format!("({} times)", thousands(difference.times)));
    }
    format!("{} {}", sign(difference.change), pieces.join("  "))
}

/// A name for people: quoted where it could be taken for something else.
fn name(column: &str) -> String {
    let plain = column.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '$'));
    if plain && !column.is_empty() { column.to_owned() } else { quoted(column) }
}

fn quoted(text: &str) -> String {
    format!("{text:?}").replace("\\'", "'")
}

/// A value for people: texts quoted, on one line, NULL apart from the word.
fn shown(value: &Option<String>, kind: Kind) -> String {
    let Some(text) = value else { return "NULL".to_owned() };
    excerpt(text, 0, kind)
}

/// So many characters of a value from that one on.
fn excerpt(text: &str, start: usize, kind: Kind) -> String {
    let mut rest = text.chars().skip(start);
    let mut cut: String = if start > 0 { "…".to_owned() } else { String::new() };
    cut.extend(rest.by_ref().take(SHOWN_CHARS));
    if rest.next().is_some() {
        cut.push('…');
    }
    match kind {
        Kind::Text | Kind::Json | Kind::EngineText => quoted(&cut),
        // Text that is no number stands among numbers as it is.
        Kind::DecimalText if !cut.chars().all(|c| c.is_ascii_alphanumeric() || "+-.…".contains(c)) => quoted(&cut),
        _ => cut,
    }
}

/// Two values that differ: of long ones the place where they do.
fn both_shown(from: &Option<String>, to: &Option<String>, kind: Kind) -> String {
    let (Some(a), Some(b)) = (from, to) else { return format!("{} -> {}", shown(from, kind), shown(to, kind)) };
    if a == b {
        // Only their beginnings are at hand, and a sign that there is more.
        let shown = a.trim_end_matches('…').chars().count() as u64;
        return format!("{} differ behind their first {} characters", excerpt(a, 0, kind), thousands(shown));
    }
    let same = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let start = if same < SHOWN_CHARS { 0 } else { same - BEFORE_CHARS };
    format!("{} -> {}", excerpt(a, start, kind), excerpt(b, start, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shown_where_they_differ() {
        let both = |a: &str, b: &str| both_shown(&Some(a.into()), &Some(b.into()), Kind::Text);
        assert_eq!(both("one", "two"), "\"one\" -> \"two\"");
        let long = "0123456789".repeat(9);
        let (a, b) = (format!("{long}a"), format!("{long}b and more"));
        assert_eq!(both(&a, &b), "\"…01234567890123456789a\" -> \"…01234567890123456789b and more\"");
        assert_eq!(both(&a, "0"), format!("\"{}…\" -> \"0\"", &long[..60]));
        let bytes = both_shown(&Some("\\x00".into()), &None, Kind::Bytes);
        assert_eq!(bytes, "\\x00 -> NULL");
        assert!(both(&long, &long).ends_with("differ behind their first 90 characters"));
    }

    #[test]
    fn names_that_need_it_are_quoted() {
        assert_eq!(["id", "größe", "a b", "a=b", ""].map(name), ["id", "größe", "\"a b\"", "\"a=b\"", "\"\""]);
    }
}
