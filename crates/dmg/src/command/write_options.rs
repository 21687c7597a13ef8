//! The options of `dmg copy` that say what happens in the target: mode, keys, slice, procedure, added columns, rows left
//! out, and how fast.

use std::path::PathBuf;

use clap::Args;
use dmg_protocol::job::{
    AddedColumn, AddedValue, ColumnMapping, CopyOptions, Drift, ProcedureParameter, Redirect, RedirectLayout, Slice,
    StoreObject, Tolerance, WriteProcedure,
};
use dmg_protocol::{Fault, WriteMode};
use sha2::{Digest, Sha256};

use crate::uri::{self, Parsed, Side};

/// What happens in the target.
#[derive(Debug, Args)]
#[command(next_help_heading = "Writing")]
pub(crate) struct WriteArguments {
    /// What happens to rows that are there: append to them, overwrite them all, upsert (replace by key, add the others),
    /// replace one slice, or hand all rows to a procedure; always in one step
    #[arg(long, value_parser = ["append", "overwrite", "upsert", "slice", "procedure"], default_value = "append")]
    mode: String,
    /// Column that identifies a row, for --mode upsert; repeat for more, leave out for the primary key
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    key: Vec<String>,
    /// Column of the target that tells slices apart, for --mode slice
    #[arg(long, value_name = "COLUMN")]
    slice_column: Option<String>,
    /// What identifies the slice, such as a day; hashed unless it is 64 hex digits
    #[arg(long, value_name = "TEXT")]
    slice: Option<String>,
    /// Procedure that takes the rows, for --mode procedure
    #[arg(long, value_name = "NAME")]
    procedure: Option<String>,
    /// Further parameter of the procedure, the same for all rows; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    procedure_parameter: Vec<String>,
    /// Table type of the procedure's table parameter (SQL Server)
    #[arg(long, value_name = "TYPE")]
    procedure_table_type: Option<String>,
    /// Add a column: NAME=run-id, NAME=file, NAME=row-number, NAME=column:OTHER or NAME=text:WORDS; repeat for more
    #[arg(long, value_name = "NAME=WHAT")]
    add_column: Vec<String>,
    /// What to do with columns that the target lacks: refuse the copy, or add them to the target
    #[arg(long, value_parser = ["refuse", "add"], default_value = "refuse")]
    drift: String,
    /// Leave out rows that do not fit, at most so many, or such a share of them: 100, 0.5%
    #[arg(long, value_name = "N|P%")]
    max_skipped: Option<String>,
    /// Folder that rows left out are written to: file:FOLDER or azblob://account/container/folder
    #[arg(long, value_name = "URI", requires = "max_skipped")]
    redirect: Option<String>,
    /// File that holds the key or SAS token for --redirect
    #[arg(long, value_name = "FILE", requires = "redirect")]
    pub(crate) redirect_secret_file: Option<PathBuf>,
    /// Most rows a second
    #[arg(long, value_name = "N")]
    rate_rows: Option<u64>,
    /// Most bytes a second, such as 500K, 20M or 1G
    #[arg(long, value_name = "BYTES")]
    rate_bytes: Option<String>,
    /// Longest wait for an answer of the source, such as the first rows of a query: 30s, 10m, 2h; 0 is no limit
    /// [default: 2h]
    #[arg(long, value_name = "TIME")]
    query_timeout: Option<String>,
    /// The same for the sink: the end of the commit [default: 2h]
    #[arg(long, value_name = "TIME")]
    commit_timeout: Option<String>,
    /// Longest silence of a store in the middle of rows [default: 10m]
    #[arg(long, value_name = "TIME")]
    stall_timeout: Option<String>,
}

fn refuse(message: impl Into<String>, remedy: &str) -> Fault {
    Fault::new("UserErrorSettings", message.into()).remedy(remedy)
}

impl WriteArguments {
    /// Puts everything into the options, and lines for added columns into a mapping that is not empty.
    pub(crate) fn apply(
        &self,
        options: &mut CopyOptions,
        mapping: &mut Vec<ColumnMapping>,
        redirect: Option<Parsed>,
    ) -> Result<(), Fault> {
        options.mode = match self.mode.as_str() {
            "overwrite" => WriteMode::Overwrite,
            "upsert" => WriteMode::Upsert,
            "slice" => WriteMode::Slice,
            "procedure" => WriteMode::Procedure,
            _ => WriteMode::Append,
        };
        self.belongs("key", !self.key.is_empty(), "upsert")?;
        self.belongs("slice-column", self.slice_column.is_some(), "slice")?;
        self.belongs("slice", self.slice.is_some(), "slice")?;
        self.belongs("procedure", self.procedure.is_some(), "procedure")?;
        self.belongs("procedure-parameter", !self.procedure_parameter.is_empty(), "procedure")?;
        self.belongs("procedure-table-type", self.procedure_table_type.is_some(), "procedure")?;
        options.keys.clone_from(&self.key);
        if options.mode == WriteMode::Slice {
            options.slice = Some(self.slice()?);
        }
        if options.mode == WriteMode::Procedure {
            options.procedure = Some(self.procedure()?);
        }
        for text in &self.add_column {
            let column = added(text)?;
            if !mapping.is_empty() && !mapping.iter().any(|line| line.source == column.name) {
                mapping.push(ColumnMapping::named(&column.name, &column.name));
            }
            options.added.push(column);
        }
        options.drift = if self.drift == "add" { Drift::Add } else { Drift::Refuse };
        options.tolerance = self.max_skipped.as_deref().map(tolerance).transpose()?;
        if let (Some(tolerance), Some(Parsed { store, object, .. })) = (&mut options.tolerance, redirect) {
            let StoreObject::Files { folder, .. } = object else {
                return Err(refuse("Rows left out are written to files, not to a table.", "Name a folder of files."));
            };
            tolerance.redirect = Some(Box::new(Redirect { store, folder, layout: RedirectLayout::Named }));
        }
        options.rows_per_second = self.rate_rows;
        options.bytes_per_second = self.rate_bytes.as_deref().map(bytes).transpose()?;
        let time = |option: &str, text: &Option<String>| text.as_deref().map(|text| time(option, text)).transpose();
        options.query_timeout_millis = time("query", &self.query_timeout)?;
        options.commit_timeout_millis = time("commit", &self.commit_timeout)?;
        options.stall_timeout_millis = time("stall", &self.stall_timeout)?;
        Ok(())
    }

    /// Where rows left out go.
    pub(crate) fn redirect(&self) -> Result<Option<Parsed>, Fault> {
        let Some(uri) = &self.redirect else { return Ok(None) };
        let folder = if uri.ends_with('/') { uri.clone() } else { format!("{uri}/") };
        uri::parse(&Side { uri: folder, format: Some("csv".to_owned()), ..Side::default() }).map(Some)
    }

    fn belongs(&self, option: &str, given: bool, mode: &str) -> Result<(), Fault> {
        if given && self.mode != mode {
            let message = format!("--{option} belongs to --mode {mode}, but the mode is {}.", self.mode);
            return Err(refuse(message, &format!("Add --mode {mode}, or leave --{option} out.")));
        }
        Ok(())
    }

    fn slice(&self) -> Result<Slice, Fault> {
        let (Some(column), Some(text)) = (&self.slice_column, &self.slice) else {
            let message = "--mode slice needs to know which column tells slices apart, and which slice is meant.";
            return Err(refuse(message, "Add --slice-column COLUMN and --slice TEXT."));
        };
        let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = if is_hash {
            text.to_lowercase()
        } else {
            Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        Ok(Slice { column: column.clone(), value })
    }

    fn procedure(&self) -> Result<WriteProcedure, Fault> {
        let name = self.procedure.clone().ok_or_else(|| {
            refuse("--mode procedure needs to know which procedure takes the rows.", "Add --procedure NAME.")
        })?;
        let parameter = |text: &String| {
            let (name, value) = text
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| refuse(format!("The parameter \"{text}\" has no value."), "Write it as NAME=VALUE."))?;
            let name = name.trim_start_matches('@').to_owned();
            Ok(ProcedureParameter { name, type_name: None, value: Some(value.to_owned()) })
        };
        Ok(WriteProcedure {
            name,
            table_type: self.procedure_table_type.clone(),
            table_parameter: None,
            parameters: self.procedure_parameter.iter().map(parameter).collect::<Result<_, Fault>>()?,
        })
    }
}

fn added(text: &str) -> Result<AddedColumn, Fault> {
    let unclear = || {
        let remedy = "Write NAME=run-id, NAME=file, NAME=row-number, NAME=column:OTHER or NAME=text:WORDS.";
        refuse(format!("The added column \"{text}\" is not understood."), remedy)
    };
    let (name, what) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(unclear)?;
    let value = match (what, what.split_once(':')) {
        ("run-id", _) => AddedValue::RunId,
        ("file", _) => AddedValue::SourceFile,
        ("row-number", _) => AddedValue::RowNumber,
        (_, Some(("column", column))) => AddedValue::Column { column: column.to_owned() },
        (_, Some(("text", words))) => AddedValue::Text { text: words.to_owned() },
        _ => return Err(unclear()),
    };
    Ok(AddedColumn { name: name.to_owned(), value })
}

fn tolerance(text: &str) -> Result<Tolerance, Fault> {
    let unclear =
        || refuse(format!("--max-skipped \"{text}\" is not understood."), "Write a number, or a share as 0.5%.");
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| unclear())?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(unclear());
        }
        return Ok(Tolerance { share_max: Some(percent / 100.0), ..Tolerance::default() });
    }
    let rows = text.trim().parse().map_err(|_| unclear())?;
    Ok(Tolerance { rows_max: Some(rows), ..Tolerance::default() })
}

fn bytes(text: &str) -> Result<u64, Fault> {
    let unclear = || refuse(format!("--rate-bytes \"{text}\" is not understood."), "Write it as 500K, 20M or 1G.");
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let number: u64 = digits.trim().parse().map_err(|_| unclear())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(unclear)
}

/// Milliseconds of `500ms`, `30s`, `10m`, `2h`, `0`.
pub(crate) fn time(option: &str, text: &str) -> Result<u64, Fault> {
    let unclear = || {
        let message = format!("--{option}-timeout \"{text}\" is not understood.");
        refuse(message, "Write it as 500ms, 30s, 10m or 2h; 0 is no limit.")
    };
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match &text[at..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if text == "0" => 1,
        _ => return Err(unclear()),
    };
    text[..at].parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(unclear)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        write: WriteArguments,
    }

    fn options(arguments: &[&str]) -> Result<CopyOptions, Fault> {
        let command = Command::try_parse_from(["x"].iter().chain(arguments)).expect("they parse");
        let mut options = CopyOptions::default();
        command.write.apply(&mut options, &mut Vec::new(), command.write.redirect()?)?;
        Ok(options)
    }

    #[test]
    fn what_is_said_is_in_the_options() {
        let upsert = options(&["--mode", "upsert", "--key", "a,b", "--key", "c"]).expect("good");
        assert_eq!((upsert.mode, upsert.keys.len()), (WriteMode::Upsert, 3));
        let slice = |text: &str| {
            let said = options(&["--mode", "slice", "--slice-column", "s", "--slice", text]).expect("good");
            said.slice.expect("a slice").value
        };
        assert_eq!(slice("2024-01-01").len(), 64);
        assert_eq!(slice(&slice("x")), slice("x"));
        let said = options(&[
            "--add-column",
            "r=run-id",
            "--add-column",
            "t=text:a=b:c",
            "--add-column",
            "c=column:x",
            "--drift",
            "add",
            "--max-skipped",
            "0.5%",
            "--redirect",
            "file:/tmp/bad",
            "--rate-rows",
            "10",
            "--rate-bytes",
            "2M",
        ])
        .expect("good");
        assert_eq!(said.added[1].value, AddedValue::Text { text: "a=b:c".to_owned() });
        assert_eq!((said.drift, said.rows_per_second, said.bytes_per_second), (Drift::Add, Some(10), Some(2 << 20)));
        let tolerance = said.tolerance.expect("rows may be left out");
        assert_eq!((tolerance.share_max, tolerance.rows_max), (Some(0.005), None));
        assert_eq!(tolerance.redirect.expect("a place").store.settings["root"], "/tmp/bad");
    }

    #[test]
    fn times_are_milliseconds() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("2h", 7_200_000), ("0", 0)] {
            let said = options(&["--stall-timeout", text, "--commit-timeout", text]).expect("good");
            assert_eq!((said.stall_timeout_millis, said.commit_timeout_millis), (Some(millis), Some(millis)), "{text}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (arguments, words) in [
            (&["--key", "a"][..], "--key belongs to --mode upsert"),
            (&["--mode", "slice"][..], "which column tells slices apart"),
            (&["--mode", "procedure"][..], "which procedure takes the rows"),
            (&["--add-column", "x"][..], "is not understood"),
            (&["--add-column", "x=when"][..], "is not understood"),
            (&["--max-skipped", "some"][..], "is not understood"),
            (&["--max-skipped", "101%"][..], "is not understood"),
            (&["--rate-bytes", "0"][..], "is not understood"),
            (&["--stall-timeout", "5"][..], "is not understood"),
            (&["--query-timeout", "1 h"][..], "is not understood"),
        ] {
            let fault = options(arguments).expect_err(words);
            assert!(fault.message.contains(words), "{fault}");
        }
    }
}
