//! `dmg copy`: one copy without a service, with the same engine, proof and receipt.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use clap::{ArgMatches, Args};
use dmg_ambient::Ambient;
use dmg_engine::{CopyRequest, Observer};
use dmg_protocol::job::{ColumnMapping, CopyJob, CopyOptions, Endpoint};
use dmg_protocol::worker::Progress;
use dmg_protocol::{Attempt, Epoch, Fault, Kind, Plan, ReceiptParties, RunId, Secret, Secrets, Verdict, VerifyLevel};
use tokio_util::sync::CancellationToken;

use crate::command::receipt;
use crate::command::text_options::TextArguments;
use crate::command::write_options::WriteArguments;
use crate::display::progress::Bar;
use crate::uri::{self, Parsed, SecretName, Side};

/// Arguments. What belongs to one end stands behind its URI: `--from URI --table T --to URI --table T`.
#[derive(Debug, Args)]
#[command(after_help = "Options for one end stand behind its URI. Examples:\n  \
    dmg copy --from postgres://etl@db01/sales --table public.orders --to file:orders.parquet\n  \
    dmg copy --from file:orders.csv --to postgres://etl@db02/dwh --secret-file pw --table orders --mode overwrite\n  \
    dmg copy --from sqlite:app.db --query \"SELECT id, name FROM users\" --to azblob://acme/raw/users.parquet --secret-file key")]
pub(crate) struct CopyArguments {
    /// Where rows come from: postgres://, mysql:// or sqlserver://user@host:port/db, sqlite:FILE, file:PATH,
    /// azblob://account/container/path
    #[arg(long, value_name = "URI", required = true)]
    from: String,
    /// Where rows go
    #[arg(long, value_name = "URI", required = true)]
    to: String,
    /// Table, as NAME or SCHEMA.NAME
    #[arg(long, value_name = "T")]
    table: Vec<String>,
    /// Query instead of a table
    #[arg(long, value_name = "SQL", conflicts_with = "from_query")]
    query: Vec<String>,
    #[arg(long, hide = true)]
    from_query: Option<String>,
    /// File that holds the password, account key or SAS token of that end; asked for on a terminal otherwise
    #[arg(long, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
    /// The same for the sink, wherever it stands
    #[arg(long, value_name = "FILE")]
    sink_secret_file: Option<PathBuf>,
    /// File format where the name does not tell: parquet, csv, tsv
    #[arg(long, value_name = "FORMAT")]
    format: Vec<String>,
    /// Compression of Parquet: snappy, zstd, none
    #[arg(long, value_name = "CODEC")]
    compression: Vec<String>,
    /// What stands between the values of a text file: ; or tab, | and other single characters
    #[arg(long, value_name = "C")]
    delimiter: Vec<String>,
    /// Blob endpoint other than the cloud's own, for emulators
    #[arg(long, value_name = "URL")]
    endpoint: Vec<String>,
    /// How far to prove: none, counts, transferred, full
    #[arg(long, value_parser = ["none", "counts", "transferred", "full"], default_value = "transferred")]
    verify: String,
    /// Copy this column only, to that name; repeat for more
    #[arg(long, value_name = "SOURCE[=TARGET]")]
    column: Vec<String>,
    /// Let this column lose what the target's type cannot hold; repeat for more
    #[arg(long, value_name = "COLUMN")]
    allow_lossy: Vec<String>,
    /// Hand this column over as another kind, such as text, timestamp or decimal(10,2); repeat for more
    #[arg(long = "as", value_name = "COLUMN=KIND")]
    kinds: Vec<String>,
    /// Create a missing target table
    #[arg(long)]
    create_table: bool,
    /// Parts read at once
    #[arg(long, value_name = "N")]
    parallel: Option<u32>,
    /// Memory budget in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    memory: u32,
    /// PEM file of a certificate authority to trust besides the system's
    #[arg(long, value_name = "FILE")]
    store_ca: Vec<PathBuf>,
    /// Write the signed receipt to this file
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Plan only: show columns, verdicts and parts, move nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    write: WriteArguments,
    #[command(flatten)]
    texts: TextArguments,
}

/// Runs the copy. Returns the exit code.
pub(crate) async fn run(
    ambient: &Ambient,
    arguments: CopyArguments,
    matches: &ArgMatches,
    json: bool,
    cancel: &CancellationToken,
) -> Result<u8, Fault> {
    let (from, to) = sides(&arguments, matches)?;
    let (source, sink) = (uri::parse(&from.side)?, uri::parse(&to.side)?);
    let redirect = arguments.write.redirect()?;
    let redirect_secrets = match &redirect {
        Some(parsed) => secrets(parsed, arguments.write.redirect_secret_file.as_ref(), "--redirect")?,
        None => Secrets::none(),
    };
    let request = CopyRequest {
        attempt: Attempt { namespace: "dmg-copy".into(), run: RunId::new(ambient.uuid()), epoch: Epoch(1) },
        source_secrets: secrets(&source, from.secret_file.as_ref(), &from.side.uri)?,
        redirect_secrets,
        sink_secrets: secrets(&sink, to.secret_file.as_ref().or(arguments.sink_secret_file.as_ref()), &to.side.uri)?,
        extra_ca: read_all(&arguments.store_ca)?,
        earlier: false,
        job: job(&arguments, source, sink, redirect)?,
    };
    let watcher = Watcher {
        bar: (!json && !arguments.dry_run).then(Bar::new),
        dry_run: arguments.dry_run,
        plan: Mutex::default(),
    };
    let stores = dmg_gateway::worker::stores();
    let result = dmg_engine::copy(ambient, stores.as_ref(), request, &watcher, cancel).await;
    if let Some(bar) = &watcher.bar {
        bar.clear();
    }
    let plan = watcher.plan.into_inner().ok().flatten();
    match (result, arguments.dry_run, plan) {
        (Err(_), true, Some(plan)) => show_plan(&plan, json),
        (Err(fault), _, _) => Err(fault),
        (Ok(receipt), _, _) => {
            let signed = receipt::sign(&receipt)?;
            if let Some(path) = &arguments.receipt {
                receipt::write(path, &signed)?;
            }
            receipt::show_outcome(&receipt, arguments.receipt.as_deref(), json)?;
            Ok(0)
        }
    }
}

struct End {
    side: Side,
    secret_file: Option<PathBuf>,
}

/// Gives each repeated option to the end whose URI stands before it.
fn sides(arguments: &CopyArguments, matches: &ArgMatches) -> Result<(End, End), Fault> {
    let at = |name: &str| matches.indices_of(name).and_then(|mut indices| indices.next()).unwrap_or(0);
    let (from_at, to_at) = (at("from"), at("to"));
    // Whoever stands later owns what follows it; what stands before both belongs to the source.
    let is_sink = |index: usize| {
        if from_at < to_at { index > to_at } else { index > to_at && index < from_at }
    };
    let (from_table, to_table) = deal(matches, "table", &arguments.table, &is_sink)?;
    let (from_query, to_query) = deal(matches, "query", &arguments.query, &is_sink)?;
    let (from_format, to_format) = deal(matches, "format", &arguments.format, &is_sink)?;
    let (from_codec, to_codec) = deal(matches, "compression", &arguments.compression, &is_sink)?;
    let (from_delimiter, to_delimiter) = deal(matches, "delimiter", &arguments.delimiter, &is_sink)?;
    let (from_endpoint, to_endpoint) = deal(matches, "endpoint", &arguments.endpoint, &is_sink)?;
    let (from_secret, to_secret) = deal(matches, "secret_file", &arguments.secret_file, &is_sink)?;
    if to_query.is_some() {
        let message = "A query can only be read from, not written to.";
        return Err(Fault::new("UserErrorSettings", message).remedy("Put --query behind --from."));
    }
    let from = Side {
        uri: arguments.from.clone(),
        table: from_table,
        query: from_query,
        format: from_format,
        delimiter: from_delimiter,
        compression: from_codec,
        endpoint: from_endpoint,
    };
    let to = Side {
        uri: arguments.to.clone(),
        table: to_table,
        query: None,
        format: to_format,
        delimiter: to_delimiter,
        compression: to_codec,
        endpoint: to_endpoint,
    };
    Ok((End { side: from, secret_file: from_secret }, End { side: to, secret_file: to_secret }))
}

/// Gives the values of an option to the two ends they stand behind; one for each at most.
pub(crate) fn deal<T: Clone>(
    matches: &ArgMatches,
    name: &str,
    values: &[T],
    is_sink: &impl Fn(usize) -> bool,
) -> Result<(Option<T>, Option<T>), Fault> {
    let (mut source, mut sink) = (None, None);
    for (index, value) in matches.indices_of(name).into_iter().flatten().zip(values) {
        let slot = if is_sink(index) { &mut sink } else { &mut source };
        if slot.replace(value.clone()).is_some() {
            let message = format!("--{} is given twice for one end.", name.replace('_', "-"));
            return Err(Fault::new("UserErrorSettings", message)
                .remedy("Put each option behind the URI it belongs to: --from URI … --to URI …"));
        }
    }
    Ok((source, sink))
}

fn job(arguments: &CopyArguments, source: Parsed, sink: Parsed, redirect: Option<Parsed>) -> Result<CopyJob, Fault> {
    let endpoint = |parsed: Parsed| Endpoint {
        store: parsed.store,
        object: parsed.object,
        format: parsed.format,
        declared: Vec::new(),
    };
    let mut mapping = arguments
        .column
        .iter()
        .map(|text| {
            let (source, sink) = text.split_once('=').unwrap_or((text, text));
            ColumnMapping::named(source, sink)
        })
        .collect::<Vec<_>>();
    let mut options = CopyOptions {
        verify: match arguments.verify.as_str() {
            "none" => VerifyLevel::None,
            "counts" => VerifyLevel::Counts,
            "full" => VerifyLevel::Full,
            _ => VerifyLevel::Transferred,
        },
        parallel: arguments.parallel,
        memory_mib: arguments.memory,
        allow_lossy: arguments.allow_lossy.clone(),
        create_table: arguments.create_table,
        conversion: arguments.texts.conversion(),
        ..CopyOptions::default()
    };
    options.conversion.kinds = kinds(&arguments.kinds)?;
    arguments.write.apply(&mut options, &mut mapping, redirect)?;
    Ok(CopyJob {
        parties: ReceiptParties { node: machine(), ..ReceiptParties::default() },
        source: endpoint(source),
        sink: endpoint(sink),
        mapping,
        options,
    })
}

/// Columns and the kinds the author wants for them.
pub(crate) fn kinds(given: &[String]) -> Result<BTreeMap<String, Kind>, Fault> {
    let one = |text: &String| {
        let (column, kind) = text.rsplit_once('=')?;
        Some((column.to_owned(), kind.parse::<Kind>().ok()?)).filter(|_| !column.is_empty())
    };
    let refuse = |text: &String| {
        Fault::new("UserErrorSettings", format!("--as takes COLUMN=KIND, not \"{text}\".")).remedy(
            "Use a kind that `dmg copy --dry-run` shows, such as text, int64, timestamp, instant or decimal(10,2).",
        )
    };
    given.iter().map(|text| one(text).ok_or_else(|| refuse(text))).collect()
}

fn machine() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".into(), |name| name.trim().to_owned())
}

pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, Fault> {
    paths
        .iter()
        .map(|path| {
            std::fs::read(path).map_err(|error| {
                let message = format!("The file {} cannot be read: {error}.", path.display());
                Fault::new("UserErrorSettings", message)
            })
        })
        .collect()
}

/// The secret of one end: from its file, or asked for on a terminal.
pub(crate) fn secrets(parsed: &Parsed, file: Option<&PathBuf>, uri: &str) -> Result<Secrets, Fault> {
    if parsed.secret == SecretName::None {
        return Ok(Secrets::none());
    }
    let text = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let message = format!("The secret file {} cannot be read: {error}.", path.display());
                Fault::new("UserErrorSettings", message).remedy("Check the path, and that you may read the file.")
            })?;
            Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        None if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => {
            let typed = rpassword::prompt_password(format!("Password or key for {uri}: ")).map_err(|error| {
                Fault::new("UserErrorSettings", format!("The password cannot be asked for: {error}."))
            })?;
            Secret::new(typed)
        }
        None => return Ok(Secrets::none()),
    };
    if text.expose().is_empty() {
        return Ok(Secrets::none());
    }
    let name = match parsed.secret {
        SecretName::KeyOrSas if text.expose().contains("sig=") => "sasToken",
        SecretName::KeyOrSas => "accountKey",
        SecretName::Token => "accessToken",
        _ => "password",
    };
    Ok([(name.to_owned(), text)].into_iter().collect())
}

struct Watcher {
    bar: Option<Bar>,
    dry_run: bool,
    plan: Mutex<Option<Plan>>,
}

#[async_trait]
impl Observer for Watcher {
    async fn planned(&self, plan: &Plan) -> Result<(), Fault> {
        if let Some(bar) = &self.bar {
            bar.planned(plan);
        }
        if let Ok(mut slot) = self.plan.lock() {
            *slot = Some(plan.clone());
        }
        if self.dry_run {
            return Err(Fault::new("UserErrorCancelled", "Only the plan was asked for."));
        }
        Ok(())
    }

    fn progress(&self, progress: Progress) {
        if let Some(bar) = &self.bar {
            bar.update(&progress);
        }
    }

    async fn may_commit(&self) -> Result<bool, Fault> {
        Ok(true)
    }
}

#[expect(clippy::print_stdout, reason = "the plan is the command's answer")]
fn show_plan(plan: &Plan, json: bool) -> Result<u8, Fault> {
    if json {
        println!("{}", serde_json::to_string_pretty(plan).unwrap_or_default());
        return Ok(0);
    }
    println!("from    {}\nto      {}", plan.source, plan.target);
    println!("parts   {} in {} lanes, {:?}, commit by {:?}", plan.parts.len(), plan.lanes, plan.mode, plan.shape);
    let width = |pick: fn(&dmg_protocol::ColumnPlan) -> usize| plan.columns.iter().map(pick).max().unwrap_or(0);
    let (a, b, c) = (width(|c| c.source.len()), width(|c| c.source_type.len()), width(|c| c.sink_type.len()));
    println!();
    for column in &plan.columns {
        let renamed = if column.sink == column.source { String::new() } else { format!(" as {}", column.sink) };
        let reason = column.reason.as_deref().map_or(String::new(), |reason| format!("  {reason}"));
        println!(
            "  {:a$}  {:b$} -> {:c$}  {}{renamed}{reason}",
            column.source, column.source_type, column.sink_type, column.verdict
        );
    }
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    for column in &plan.columns {
        *counts.entry(column.verdict).or_default() += 1;
    }
    let summary: Vec<_> = counts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    println!("\n{} columns: {}. Nothing was moved.", plan.columns.len(), summary.join(", "));
    for notice in &plan.notices {
        println!("note: {notice}");
    }
    Ok(0)
}
