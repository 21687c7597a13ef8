//! Generated pages: one per fault code. The table in `dmg-protocol` is the source; the pages are checked in so that a
//! reader needs no build, and tidy fails when they are stale.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use dmg_protocol::{FAULTS, FaultInfo, Retry};

use crate::steps;

const FOLDER: &str = "docs/errors";

/// Every generated page by its path.
pub(crate) fn expected() -> BTreeMap<PathBuf, String> {
    let folder = steps::root().join(FOLDER);
    let mut pages: BTreeMap<PathBuf, String> =
        FAULTS.iter().map(|info| (folder.join(format!("{}.md", info.code)), page(info))).collect();
    pages.insert(folder.join("README.md"), index());
    pages
}

/// `cargo xtask docs`.
pub(crate) fn write() -> Result<()> {
    let pages = expected();
    fs::create_dir_all(steps::root().join(FOLDER))?;
    for path in strays(&pages)? {
        fs::remove_file(path)?;
    }
    for (path, text) in &pages {
        if fs::read_to_string(path).ok().as_ref() != Some(text) {
            fs::write(path, text)?;
        }
    }
    println!("{} pages in {FOLDER}", pages.len());
    Ok(())
}

/// What is wrong with the pages on disk.
pub(crate) fn stale() -> Result<Vec<String>> {
    let pages = expected();
    let mut findings: Vec<String> = pages
        .iter()
        .filter(|(path, text)| fs::read_to_string(path).ok().as_ref() != Some(*text))
        .map(|(path, _)| format!("{} is stale: run `cargo xtask docs`", path.display()))
        .collect();
    for path in strays(&pages)? {
        findings.push(format!("{} belongs to no fault code: run `cargo xtask docs`", path.display()));
    }
    Ok(findings)
}

fn strays(pages: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(steps::root().join(FOLDER)) else { return Ok(Vec::new()) };
    let mut strays = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if !pages.contains_key(&path) {
            strays.push(path);
        }
    }
    Ok(strays)
}

fn page(info: &FaultInfo) -> String {
    let again = match info.retry {
        Retry::Never => "Trying again as it is will fail again.",
        Retry::Now => "Trying again at once may succeed.",
        Retry::Later => "Trying again after a pause may succeed.",
        Retry::AfterFix => "Try again after the remedy.",
    };
    format!(
        "# {}\n\n## Symptom\n\n{}\n\n## Cause\n\n{}\n\n## Remedy\n\n{} {again}\n",
        info.code, info.symptom, info.cause, info.remedy
    )
}

fn index() -> String {
    let mut text =
        "# Fault codes\n\nCodes are stable and never reused. The first word says who must act: `UserError` the \
                    author, `StoreError` the keeper of the store, `NetworkError` whoever runs the network, \
                    `SystemError` this program or its machine.\n\n| code | symptom |\n| --- | --- |\n"
            .to_owned();
    for info in FAULTS {
        text.push_str(&format!("| [{0}]({0}.md) | {1} |\n", info.code, info.symptom));
    }
    text
}
