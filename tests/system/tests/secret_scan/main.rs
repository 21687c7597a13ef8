//! No secret is found anywhere after a run with failures in it: not in state, journal, logs at trace level, answers,
//! arguments, environments, temporary files or staging, in any usual encoding. One planted hit per place and encoding
//! proves that the scanner would see it.

mod canary;
mod planted;
mod scenario;

use std::sync::Arc;

use dmg_system_tests::scan::{Hit, Seen, Watch};
use dmg_system_tests::{Database, Installation, azurite, judge, need, report};

use canary::Canaries;
use scenario::World;

/// Kinds of processes that must have been looked at.
const ROLES: &[&str] = &[
    "dmg service run",
    "dmg node run",
    "dmg node worker",
    "dmg node register",
    "dmg node certificate",
    "dmg gateway create",
    "dmg linked-service put",
    "dmg linked-service test",
    "dmg credential encrypt",
    "dmg apply",
    "dmg pipeline run",
    "dmg run show",
    "dmg run cancel",
    "dmg copy",
];

#[test]
fn no_secret_is_left_anywhere() {
    let database = need!(Database::create());
    let azurite = need!(azurite());
    let container = database.name.replace('_', "-");
    let mut make = need!(judge("judge/container.py", [&azurite.endpoint, &azurite.key_file, &container]));
    let _ = dmg_system_tests::Answer::of(&mut make).ok();
    let key = std::fs::read_to_string(&azurite.key_file).expect("the key").trim().to_owned();

    let mut canaries = Canaries::new(&key);
    let watch = Watch::start(Arc::new(canaries.scanner()), Vec::new());
    let site = Installation::start_recorded("trace");
    let mut seen = vec![watch.stop()];
    canaries.learn_from(&site);
    let scanner = Arc::new(canaries.scanner());
    let folders = ["node", "tmp", "out", "answers"].map(|name| site.path(name)).to_vec();
    let watch = Watch::start(Arc::clone(&scanner), folders);

    let mut world = World { site, database, azurite, container, canaries, scanner, hits: Vec::new() };
    world.play();
    seen.push(watch.stop());
    world.look();
    let World { site, mut hits, canaries, .. } = world;
    hits.extend(seen.iter().flat_map(|seen| seen.hits.clone()));
    hits.retain(|hit| !canaries.belongs(hit));
    hits.sort();
    hits.dedup();
    for Hit { place, secret, form } in &hits {
        report(&format!("LEAK: {secret} as {form} in {place}"));
    }
    assert!(hits.is_empty(), "{} secrets were found", hits.len());
    no_signature_is_logged(&site);
    looked_everywhere(&site, &seen);
    planted::are_found(&site);
}

/// Signatures that the node mints from an account key are no secret of ours to look for by value, but by their name.
fn no_signature_is_logged(site: &Installation) {
    for name in ["service", "node"] {
        let text = site.log_text(name);
        let mut after = text.split("sig=").skip(1);
        assert_eq!(after.find(|rest| rest.starts_with(|letter: char| letter.is_ascii_alphanumeric())), None, "{name}");
    }
}

/// A clean result is worth what was looked at.
fn looked_everywhere(site: &Installation, seen: &[Seen]) {
    for role in ROLES {
        let all = seen.iter().flat_map(|seen| &seen.processes);
        let count: usize = all.filter(|(seen, _)| seen.starts_with(role)).map(|(_, count)| count).sum();
        assert!(count > 0, "no {role} was seen");
        report(&format!("looked at {count} x {role}"));
    }
    for name in ["service", "node"] {
        let trace = site.log_text(name).lines().filter(|line| line.contains("TRACE")).count();
        report(&format!("{name}.log: {} bytes, {trace} lines at trace level", site.log_length(name)));
        assert!(trace > 100, "the log of the {name} is not at trace level");
    }
    let files: usize = seen.iter().map(|seen| seen.files).sum();
    report(&format!("looked at {files} versions of files while it ran"));
}
