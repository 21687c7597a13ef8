//! `dmg receipt`: shows and checks the proof a copy ends in. Also signs the receipts of `dmg copy`, with a key that
//! belongs to the user of this machine.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use dmg_protocol::{Fault, NodeRecord, Receipt, Signed, Skipped, Verdict, VerifyLevel};
use dmg_seal::{SigningKey, open_signed};

/// Kind of a signed receipt.
pub(crate) const RECEIPT_KIND: &str = "dmg-receipt/1";
const RECORD_KIND: &str = "dmg-node-record/1";

/// `dmg receipt …`
#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Show a receipt in words
    Show(ReceiptFile),
    /// Check signature and proof of a receipt
    Verify(ReceiptVerify),
}

/// A receipt file.
#[derive(Debug, Args)]
pub(crate) struct ReceiptFile {
    /// The receipt
    file: PathBuf,
}

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct ReceiptVerify {
    /// The receipt
    file: PathBuf,
    /// File with the public keys to trust, one a line: of the service, or of the user who ran dmg copy
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
}

/// Runs `dmg receipt`.
pub(crate) fn run(command: &ReceiptCommand, json: bool) -> Result<u8, Fault> {
    match command {
        ReceiptCommand::Show(arguments) => {
            let signed = read(&arguments.file)?;
            let receipt = open(&signed)?;
            if json {
                print_json(&receipt)
            } else {
                print_receipt(&receipt)
            }
            Ok(0)
        }
        ReceiptCommand::Verify(arguments) => {
            let signed = read(&arguments.file)?;
            let verdict = verify(&signed, arguments.trust.as_deref())?;
            print_verdict(&verdict, json);
            Ok(u8::from(!verdict.proven))
        }
    }
}

/// What a check of a receipt found.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VerdictOfReceipt {
    /// Signer's public key.
    signer: String,
    /// Who vouches for the signer: factory, gateway and node.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// Key of the service that vouches.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// Whether a key of the trust file stands at the root.
    trusted: bool,
    /// Whether rows and digests of both sides agree.
    proven: bool,
    /// What was compared.
    evidence: String,
    rows: u64,
}

fn refuse(message: impl Into<String>) -> Fault {
    Fault::new("UserErrorReceipt", message)
}

/// Checks signatures up to the root, then the proof inside.
pub(crate) fn verify(signed: &Signed, trust: Option<&Path>) -> Result<VerdictOfReceipt, Fault> {
    let receipt = open(signed)?;
    let signer = signed.signature.public_key.clone();
    let (mut root, mut node, mut service) = (signer.clone(), None, None);
    if let Some(vouched) = &signed.vouched {
        let key = vouched.signature.public_key.clone();
        let record: NodeRecord = open_signed(vouched, RECORD_KIND, &key)?;
        if record.public_key != signer {
            return Err(refuse("The receipt was signed by another key than the node's record names."));
        }
        node = Some(format!("{}/{}/{}", record.factory, record.gateway, record.node));
        service = Some(key.clone());
        root = key;
    }
    let trusted = match trust {
        None => false,
        Some(path) => {
            let keys = std::fs::read_to_string(path)
                .map_err(|error| refuse(format!("The trust file {} cannot be read: {error}.", path.display())))?;
            if !keys.lines().any(|line| line.split_whitespace().next() == Some(root.as_str())) {
                return Err(refuse(format!("The receipt's root key {root} is not in {}.", path.display())));
            }
            true
        }
    };
    let proven = match (&receipt.read.digest, &receipt.written.digest) {
        (Some(read), Some(written)) => {
            read.algorithm == written.algorithm
                && read.rows == written.rows
                && read.row_sum == written.row_sum
                && read.columns == written.columns
        }
        _ => {
            let skipped = receipt.skipped.as_ref().map_or(0, |skipped| skipped.rows);
            receipt.verify == VerifyLevel::Counts && receipt.read.rows == receipt.written.rows + skipped
        }
    };
    let evidence = receipt.evidence.clone();
    Ok(VerdictOfReceipt { signer, node, service, trusted, proven, evidence, rows: receipt.written.rows })
}

fn open(signed: &Signed) -> Result<Receipt, Fault> {
    open_signed(signed, RECEIPT_KIND, &signed.signature.public_key)
}

fn read(path: &Path) -> Result<Signed, Fault> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| refuse(format!("The receipt {} cannot be read: {error}.", path.display())))?;
    serde_json::from_str(&text).map_err(|error| refuse(format!("{} is not a receipt: {error}.", path.display())))
}

/// Signs a receipt with the user's own key.
pub(crate) fn sign(receipt: &Receipt) -> Result<Signed, Fault> {
    Ok(user_key()?.sign(RECEIPT_KIND, receipt))
}

fn user_key() -> Result<SigningKey, Fault> {
    let folder = dmg_ambient::environment("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| dmg_ambient::environment("HOME").map(|home| Path::new(&home).join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("/var/tmp"))
        .join("dmg");
    let path = folder.join("receipt-key");
    if let Ok(bytes) = std::fs::read(&path) {
        return SigningKey::from_pkcs8(&bytes);
    }
    let state = |error: std::io::Error| {
        Fault::new("SystemErrorState", format!("The receipt key {} cannot be made: {error}.", path.display()))
    };
    std::fs::create_dir_all(&folder).map_err(state)?;
    let key = SigningKey::generate();
    // Written beside and linked: two first copies at once agree on one key.
    let fresh = folder.join(format!("receipt-key.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(state)?;
    file.write_all(&key.to_pkcs8()).map_err(state)?;
    file.sync_all().map_err(state)?;
    let linked = std::fs::hard_link(&fresh, &path);
    std::fs::remove_file(&fresh).map_err(state)?;
    match linked {
        Ok(()) => Ok(key),
        Err(_) => SigningKey::from_pkcs8(&std::fs::read(&path).map_err(state)?),
    }
}

/// Writes a signed receipt, whole or not at all.
pub(crate) fn write(path: &Path, signed: &Signed) -> Result<(), Fault> {
    let text = serde_json::to_string_pretty(signed).unwrap_or_default();
    let beside = path.with_extension("part");
    std::fs::write(&beside, text + "\n").and_then(|()| std::fs::rename(&beside, path)).map_err(|error| {
        Fault::new("SystemErrorState", format!("The receipt cannot be written to {}: {error}.", path.display()))
    })
}

/// What `dmg copy` says at its end.
pub(crate) fn show_outcome(receipt: &Receipt, file: Option<&Path>, json: bool) -> Result<(), Fault> {
    if json {
        print_json(receipt);
        return Ok(());
    }
    print_receipt(receipt);
    if let Some(path) = file {
        print_line(&format!("receipt  {}", path.display()));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn print_line(line: &str) {
    println!("{line}");
}

fn print_json(receipt: &Receipt) {
    print_line(&serde_json::to_string_pretty(receipt).unwrap_or_default());
}

/// The receipt in words, a screen at most.
pub(crate) fn print_receipt(receipt: &Receipt) {
    for line in receipt_lines(receipt) {
        print_line(&line);
    }
}

/// How many rows were left out, why, and where they are.
fn skipped_words(skipped: &Skipped) -> String {
    let codes: Vec<_> = skipped.by_code.iter().map(|(code, rows)| format!("{} {code}", thousands(*rows))).collect();
    let codes = if codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) };
    let place = skipped.redirect.as_ref().map_or(String::new(), |place| format!(", in {place}"));
    format!("{} rows{codes}{place}", thousands(skipped.rows))
}

/// What became of earlier work, and what had to be done again.
fn attempt_lines(receipt: &Receipt) -> impl Iterator<Item = String> {
    let resumed = receipt.resumed.as_ref().map(|resumed| {
        let (parts, rows) = (thousands(resumed.parts.into()), thousands(resumed.rows));
        format!("resumed  {parts} parts with {rows} rows were staged by attempt {} and kept", resumed.epoch)
    });
    let repeated = receipt.repeated.as_ref().map(|repeated| {
        let codes: Vec<_> = repeated.by_code.iter().map(|(code, times)| format!("{times} {code}")).collect();
        let rows = thousands(repeated.rows);
        format!(
            "repeated {} parts broke off after {rows} rows and were read again ({})",
            repeated.parts,
            codes.join(", ")
        )
    });
    let restarted = receipt.restarted.as_ref().map(|why| format!("restart  {why}"));
    [resumed, repeated, restarted].into_iter().flatten()
}

/// The lines of [`print_receipt`].
pub(crate) fn receipt_lines(receipt: &Receipt) -> Vec<String> {
    let mut lines = Vec::new();
    if !receipt.source.is_empty() {
        lines.push(format!("from     {}", receipt.source));
    }
    lines.push(format!("to       {}", receipt.target));
    let seconds: f64 = receipt.stages.iter().map(|stage| stage.seconds).sum();
    let rate = if seconds > 0.0 { receipt.written.rows as f64 / seconds } else { 0.0 };
    lines.push(format!(
        "rows     {} read, {} written, {} in {seconds:.2} s ({} rows/s)",
        thousands(receipt.read.rows),
        thousands(receipt.written.rows),
        bytes(receipt.written.bytes),
        thousands(rate as u64)
    ));
    if let Some(skipped) = &receipt.skipped {
        lines.push(format!("skipped  {}", skipped_words(skipped)));
    }
    lines.extend(attempt_lines(receipt));
    let count = |verdict| receipt.columns.iter().filter(|column| column.verdict == verdict).count();
    let verdicts: Vec<_> = [Verdict::Exact, Verdict::Widened, Verdict::Checked, Verdict::Lossy]
        .into_iter()
        .map(|verdict| (verdict, count(verdict)))
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| format!("{count} {verdict}"))
        .collect();
    if !verdicts.is_empty() {
        lines.push(format!("columns  {}: {}", receipt.columns.len(), verdicts.join(", ")));
    }
    lines.push(format!("proof    {}", proof_words(receipt)));
    let stages: Vec<_> = receipt.stages.iter().map(|stage| format!("{} {:.2} s", stage.stage, stage.seconds)).collect();
    lines.push(format!("stages   {}", stages.join(", ")));
    let bottleneck = &receipt.bottleneck;
    if !bottleneck.verdict.is_empty() {
        lines.push(format!("limit    {} at the {} took the most time", bottleneck.verdict, bottleneck.side));
    }
    lines.extend(receipt.notices.iter().map(|notice| format!("note     {notice}")));
    lines
}

fn proof_words(receipt: &Receipt) -> String {
    let sum = receipt.written.digest.as_ref().map_or("", |digest| digest.row_sum.as_str());
    let short = &sum[..sum.len().min(16)];
    match receipt.evidence.as_str() {
        "stagedReadBack" => format!("what was staged was read back and equals what was read, digest {short}…"),
        "encodedDecode" => {
            format!("every block was decoded again before it went out and equals what was read, digest {short}…")
        }
        "mark" => format!("committed by an earlier attempt; its mark says digest {short}…"),
        "rowCount" => "row counts agree; contents were not compared".to_owned(),
        _ => "none was asked for".to_owned(),
    }
}

fn print_verdict(verdict: &VerdictOfReceipt, json: bool) {
    if json {
        print_line(&serde_json::to_string_pretty(verdict).unwrap_or_default());
        return;
    }
    print_line(&format!("signature  valid, by {}", verdict.signer));
    if let Some(node) = &verdict.node {
        print_line(&format!("node       {node}"));
    }
    if let Some(service) = &verdict.service {
        print_line(&format!("service    {service}"));
    }
    let trust = if verdict.trusted { "the root key is in the trust file" } else { "not checked; give --trust FILE" };
    print_line(&format!("trust      {trust}"));
    let proof =
        if verdict.proven { "both sides agree" } else { "NOT PROVEN: the two sides were not compared, or differ" };
    print_line(&format!("proof      {proof} ({} rows, {})", thousands(verdict.rows), verdict.evidence));
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < units.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(6_001_215), "6,001,215");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
    }
}
