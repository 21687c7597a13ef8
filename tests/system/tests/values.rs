//! Generated values of every type through every ordered pair of stores, judged by the stores' own public drivers in
//! `judge/values.py`. SQL Server is the TDS fixture, read by two unrelated clients. DMG_VALUES_ROWS makes it a campaign;
//! DMG_SEED draws other values.

use dmg_system_tests::program::{judge, path};
use dmg_system_tests::{need, skipped};
use dmg_tds_fixture::{Fixture, Options};

#[test]
fn every_value_arrives_equal_or_is_refused_by_the_plan() {
    if dmg_ambient::environment("DMG_TEST_POSTGRES").is_none() {
        skipped("values through PostgreSQL: DMG_TEST_POSTGRES names no server");
        return;
    }
    if dmg_ambient::environment("DMG_TEST_MARIADB").is_none() {
        skipped("values through MariaDB: DMG_TEST_MARIADB names no server");
    }
    let setting = |name: &str, default: &str| dmg_ambient::environment(name).unwrap_or_else(|| default.to_owned());
    let (rows, seed) = (setting("DMG_VALUES_ROWS", "1000"), setting("DMG_SEED", "1"));
    let program = path();
    let mut judge = need!(judge("judge/values.py", [program.as_os_str()]));
    judge.args(["--rows", &rows, "--seed", &seed]);
    let fixture = Fixture::start(Options::default()).expect("the TDS fixture starts");
    judge.env("DMG_VALUES_SQLSERVER", fixture.port.to_string());
    let output = judge.output().expect("the judge starts");
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fixture.panics(), 0, "mistakes of the fixture's own");
}
