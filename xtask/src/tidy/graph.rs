//! Who may know whom: the layer rule and the banned crates, over what cargo says is built.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::steps;

/// The table of ARCHITECTURE.md. Packages not listed (the executable, the tests, this one) may use everything.
const MAY_USE: &[(&str, &[&str])] = &[
    ("dmg-protocol", &[]),
    ("dmg-ambient", &[]),
    ("dmg-seal", &["dmg-protocol"]),
    ("dmg-connector", &["dmg-protocol", "dmg-ambient"]),
    ("dmg-formats", &["dmg-connector", "dmg-protocol"]),
    ("dmg-files", &["dmg-connector", "dmg-protocol", "dmg-ambient"]),
    ("dmg-tables", &["dmg-connector", "dmg-protocol", "dmg-ambient"]),
    ("dmg-engine", &["dmg-connector", "dmg-protocol", "dmg-ambient"]),
    ("dmg-authoring", &["dmg-protocol"]),
    ("dmg-tds-fixture", &[]),
    ("dmg-state", &["dmg-protocol", "dmg-ambient"]),
    ("dmg-control", &["dmg-authoring", "dmg-state", "dmg-seal", "dmg-protocol", "dmg-ambient"]),
    (
        "dmg-gateway",
        &[
            "dmg-connector",
            "dmg-engine",
            "dmg-files",
            "dmg-formats",
            "dmg-tables",
            "dmg-seal",
            "dmg-protocol",
            "dmg-ambient",
        ],
    ),
];

const FREE: &[&str] = &["dmg", "dmg-faultproxy", "dmg-fuzz", "dmg-system-tests", "xtask"];

/// Crates that must not be in the built tree, and why.
const BANNED: &[(&str, &str)] = &[
    ("ring", "one provider of ciphers, aws-lc-rs, is enough to watch"),
    ("rsa", "it has an open timing weakness"),
    ("openssl", "Rust and a C compiler must suffice to build"),
    ("openssl-sys", "Rust and a C compiler must suffice to build"),
    ("native-tls", "Rust and a C compiler must suffice to build"),
    ("sqlx", "it cannot be linked together with rusqlite"),
];

/// What the service must not even reach over others: it knows stores only from the catalog.
const NOT_IN_SERVICE: &[&str] =
    &["dmg-connector", "dmg-engine", "dmg-files", "dmg-formats", "dmg-tables", "azure_storage_blob", "parquet"];

pub(super) fn findings() -> Result<Vec<String>> {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform"];
    let text = steps::read(steps::command(env!("CARGO"), &arguments).arg("x86_64-unknown-linux-gnu"))?;
    let graph = Graph::read(&serde_json::from_str(&text)?)?;
    let mut findings = Vec::new();
    for package in &graph.members {
        let used: Vec<&str> = graph.uses(package).filter(|name| graph.members.contains(*name)).collect();
        match MAY_USE.iter().find(|(name, _)| name == package) {
            Some((_, allowed)) => findings.extend(
                used.iter()
                    .filter(|name| !allowed.contains(name))
                    .map(|name| format!("{package} must not use {name}: see the table in ARCHITECTURE.md")),
            ),
            None if FREE.contains(&package.as_str()) => {}
            None => findings.push(format!("{package} is not in the layer table of xtask/src/tidy/graph.rs")),
        }
    }
    let built = built()?;
    for (name, reason) in BANNED {
        if built.contains(*name) {
            findings.push(format!("{name} is in the built tree, but {reason}"));
        }
    }
    let service = graph.reach("dmg-control");
    for name in NOT_IN_SERVICE {
        if service.contains(*name) {
            findings.push(format!("the service reaches {name}, but it must know stores from the catalog only"));
        }
    }
    Ok(findings)
}

/// Crates the executable is built from. `cargo metadata` also lists optional ones that a feature only mentions, so the
/// tree decides here.
fn built() -> Result<BTreeSet<String>> {
    let arguments = ["tree", "--locked", "--package", "dmg", "--edges", "normal,build", "--prefix", "none"];
    let tree = steps::read(steps::command(env!("CARGO"), &arguments).args(["--format", "{p}"]))?;
    Ok(tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// Packages by name; edges of development are left out.
struct Graph {
    members: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read(metadata: &Value) -> Result<Self> {
        let mut names = BTreeMap::new();
        for package in metadata["packages"].as_array().context("no packages")? {
            let id = package["id"].as_str().context("a package without id")?;
            names.insert(id, package["name"].as_str().context("a package without name")?);
        }
        let name_of = |id: &Value| id.as_str().and_then(|id| names.get(id)).map(|name| (*name).to_owned());
        let members = metadata["workspace_members"].as_array().context("no members")?;
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array().context("no graph")? {
            let name = name_of(&node["id"]).context("a node without package")?;
            let edges = edges.entry(name).or_default();
            for dependency in node["deps"].as_array().into_iter().flatten() {
                let kinds = dependency["dep_kinds"].as_array();
                if kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"] != "dev")) {
                    edges.extend(name_of(&dependency["pkg"]));
                }
            }
        }
        Ok(Graph { members: members.iter().filter_map(name_of).collect(), edges })
    }

    fn uses(&self, package: &str) -> impl Iterator<Item = &str> {
        self.edges.get(package).into_iter().flatten().map(String::as_str)
    }

    fn reach(&self, package: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![package.to_owned()];
        while let Some(name) = open.pop() {
            if seen.insert(name.clone()) {
                open.extend(self.uses(&name).map(str::to_owned));
            }
        }
        seen
    }
}
