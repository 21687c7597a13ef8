//! Rules about files: module comments, names, fault codes, exposed secrets, paths of machines.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dmg_protocol::fault_info;

use crate::steps;

/// Names that say nothing about what is inside.
const BANNED_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];

/// Beginnings of paths that exist on one machine only. Spelled in pieces, so that this file does not find itself.
const MACHINE_PATHS: &[&str] = &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];

/// How often each package takes a plaintext out of custody.
const COUNTS: &str = "xtask/exposed-secrets.toml";

pub(super) fn findings(bless: bool) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut exposed: BTreeMap<String, u64> = BTreeMap::new();
    for path in tracked()? {
        let Ok(text) = fs::read_to_string(steps::root().join(&path)) else { continue };
        let shown = path.display();
        for start in MACHINE_PATHS.iter().filter(|start| text.contains(**start)) {
            findings.push(format!("{shown} holds a path of one machine, {start}"));
        }
        if path.extension().is_some_and(|extension| extension == "md") {
            findings.extend(dead_links(&path, &text));
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        if !text.starts_with("//!") {
            findings.push(format!("{shown} does not begin with a //! comment that says why it exists"));
        }
        let names = path.iter().filter_map(|part| part.to_str()).map(|part| part.trim_end_matches(".rs"));
        for name in names.filter(|name| BANNED_NAMES.contains(name)) {
            findings.push(format!("{shown}: `{name}` says nothing about what is inside"));
        }
        for code in codes(&text) {
            if fault_info(code).is_none() {
                findings.push(format!("{shown} names {code}, which is not in fault_table.rs"));
            }
        }
        let count = product_lines(&text).filter(|line| line.contains(".expose()")).count() as u64;
        let tests = path.iter().any(|part| part == "tests" || part == "examples");
        if count > 0 && !tests && !path.starts_with("xtask") {
            *exposed.entry(package(&path)).or_default() += count;
        }
    }
    findings.extend(compare_counts(&exposed, bless)?);
    Ok(findings)
}

/// Links of a page to files that are not there.
fn dead_links(path: &Path, text: &str) -> Vec<String> {
    let folder = steps::root().join(path).parent().map(Path::to_path_buf).unwrap_or_default();
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link.split('#').next().unwrap_or_default())
        .filter(|link| !link.is_empty() && !link.contains("://") && !folder.join(link).exists())
        .map(|link| format!("{} links to {link}, which is not there", path.display()))
        .collect()
}

/// Files under version control; what is not added yet is nobody's business.
fn tracked() -> Result<Vec<PathBuf>> {
    let list = steps::read(&mut steps::command("git", &["ls-files"]))?;
    let generated = ["Cargo.lock", "tests/golden/", "docs/evidence/"];
    let wanted = list.lines().filter(|path| !generated.iter().any(|start| path.starts_with(start)));
    Ok(wanted.map(PathBuf::from).collect())
}

/// Fault codes written as string literals.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').filter(|piece| {
        ["UserError", "StoreError", "NetworkError", "SystemError"].iter().any(|prefix| {
            piece.strip_prefix(prefix).is_some_and(|rest| {
                rest.starts_with(char::is_uppercase) && rest.chars().all(|letter| letter.is_ascii_alphanumeric())
            })
        })
    })
}

/// Lines before the tests of a file, without comments.
fn product_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn package(path: &Path) -> String {
    path.iter().take(2).filter_map(|part| part.to_str()).collect::<Vec<_>>().join("/")
}

fn compare_counts(exposed: &BTreeMap<String, u64>, bless: bool) -> Result<Vec<String>> {
    let path = steps::root().join(COUNTS);
    let mut text = "# How often each package takes a plaintext out of custody by `expose()`. A higher number wants a \
                    reason in review;\n# `cargo xtask tidy --bless` writes this file.\n"
        .to_owned();
    text.push_str(&exposed.iter().map(|(name, count)| format!("\"{name}\" = {count}\n")).collect::<String>());
    if bless {
        fs::write(&path, text)?;
        return Ok(Vec::new());
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let known: toml::Table = toml::from_str(&written).context(COUNTS)?;
    let mut findings = Vec::new();
    for (name, count) in exposed {
        let noted = known.get(name).and_then(toml::Value::as_integer).unwrap_or(0);
        if noted != *count as i64 {
            findings.push(format!("{name} exposes secrets {count} times, {COUNTS} says {noted}"));
        }
    }
    Ok(findings)
}
