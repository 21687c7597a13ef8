//! The slice of `cargo xtask chaos` that runs with every test run: random kills, zombies, strangers, failpoints, failing
//! system calls, a bad network, killed servers, and two planted bugs in turn. Harness and judge are in `tests/chaos`.

use std::path::{Path, PathBuf};

use dmg_system_tests::program::{judge, path};
use dmg_system_tests::{Answer, need, skipped};

/// Runs a part of a campaign with servers of its own. A failure prints the command that repeats it.
fn campaign(sizes: &[&str]) {
    let python = need!(dmg_ambient::environment("DMG_TEST_PYTHON"));
    let mut command = need!(judge("chaos/chaos.py", sizes));
    // PLACE/venv/bin/python3
    let place =
        Path::new(&python).ancestors().nth(3).map(PathBuf::from).expect("an interpreter in a folder of its own");
    command.arg("--program").arg(path()).arg("--servers").arg(place);
    command.arg("--proxy").arg(path().with_file_name("dmg-faultproxy"));
    command.arg("--tds").arg(path().with_file_name("tds-fixture"));
    let answer = Answer::of(&mut command);
    dmg_system_tests::report(&answer.output);
    if answer.code == 3 {
        return skipped("the executable was built without dmg/failpoints");
    }
    assert_eq!(answer.code, 0, "{}", answer.errors);
}

#[test]
fn killed_workers_leave_old_or_new() {
    campaign(&["--kills", "40", "--cancels", "16", "--replaces", "6", "--resumes", "10"]);
}

#[test]
fn frozen_attempts_and_strangers_do_no_harm() {
    campaign(&["--zombies", "20", "--overtaken", "20", "--late", "10", "--foreign", "10", "--adopted", "8"]);
}

#[test]
fn what_moves_underway_is_seen_or_held() {
    campaign(&["--parts", "8", "--moving", "8", "--corrupt", "16", "--clocks", "3", "--durable", "2"]);
}

#[test]
fn every_failpoint_ends_well() {
    campaign(&["--failpoints", "200"]);
}

#[test]
fn the_nth_failure_is_a_clear_fault() {
    campaign(&["--nth", "6"]);
}

#[test]
fn a_bad_network_is_survived_or_named() {
    campaign(&["--network", "24"]);
}

#[test]
fn killed_servers_lose_nothing_that_was_said() {
    campaign(&["--server-kills", "6"]);
}

#[test]
fn hosts_and_services_may_die_at_their_failpoints() {
    campaign(&["--stack", "8", "--targets", "postgres-append,file-replace"]);
}

#[test]
fn planted_bugs_are_found() {
    campaign(&["--bugs", "rotate"]);
}
