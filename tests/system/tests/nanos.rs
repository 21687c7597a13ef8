//! SQL Server's moments of 100 ns and with an offset, into Parquet and back, judged by python-tds and pyarrow: equal, or
//! refused with the row and a remedy that works.

use std::path::PathBuf;

use dmg_system_tests::{Answer, dmg, judge, need};
use dmg_tds_fixture::{Fixture, Options};
use serde_json::{Value, json};

/// A server with a table of such moments, and a folder.
struct World {
    fixture: Fixture,
    folder: tempfile::TempDir,
}

impl World {
    fn new(more: &[&str]) -> Option<Self> {
        let fixture = Fixture::start(Options::default()).expect("the TDS fixture starts");
        let world = World { fixture, folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(world.secret(), "Fixture-Password-1").expect("written");
        world.judge("fill", &[&["moments"], more].concat()).map(|_| world)
    }

    fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    fn file(&self, name: &str) -> String {
        format!("file:{}", self.folder.path().join(name).display())
    }

    /// What the judge says of the server.
    fn judge(&self, action: &str, more: &[&str]) -> Option<String> {
        let port = self.fixture.port.to_string();
        let arguments: Vec<&str> = [action, port.as_str()].into_iter().chain(more.iter().copied()).collect();
        said(arguments)
    }

    /// `dmg copy` between the server's tables and files of the folder.
    fn copy(&self, from: &str, to: &str, more: &[&str]) -> Answer {
        let server = format!("sqlserver://sa@127.0.0.1:{}/fixture?trustServerCertificate=true", self.fixture.port);
        let secret = self.secret();
        let secret = secret.to_str().expect("a name");
        let side = |name: &str| {
            if name.contains('.') {
                return vec![self.file(name)];
            }
            vec![server.clone(), "--secret-file".into(), secret.into(), "--table".into(), name.into()]
        };
        let mut arguments: Vec<String> = vec!["copy".into(), "--from".into()];
        arguments.extend(side(from));
        arguments.push("--to".into());
        arguments.extend(side(to));
        arguments.extend(more.iter().map(|text| (*text).to_owned()));
        Answer::of(&mut dmg(arguments))
    }

    fn parquet(&self, name: &str) -> Value {
        let path = self.folder.path().join(name);
        let text = said(["parquet", path.to_str().expect("a name")]).expect("the judge was there before");
        serde_json::from_str(&text).expect("JSON")
    }

    fn rows(&self, table: &str) -> Value {
        serde_json::from_str(&self.judge("table", &[table]).expect("the judge was there before")).expect("JSON")
    }
}

fn said<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let output = judge("judge/nanos.py", arguments)?.output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn hundreds_of_nanoseconds_go_into_parquet_and_back() {
    let world = need!(World::new(&[]));
    let _ = world.copy("moments", "moments.parquet", &[]).ok();
    let found = world.parquet("moments.parquet");
    assert_eq!(found["types"], json!(["int32", "timestamp[ns]", "time64[ns]", "string"]));
    let expected = json!([
        [1, 1_709_210_096_123_456_700_i64, 86_399_999_999_900_i64, "2024-02-29 00:30:00.1234567+05:30"],
        [2, -100, 100, "1969-12-31 23:59:59.9999999-03:30"],
        [3, -9_223_372_036_854_775_800_i64, 43_200_000_000_000_i64, "0001-01-02 00:00:00.0000001+14:00"],
        [4, 9_223_372_036_854_775_800_i64, 123_456_000, "9999-12-30 23:59:59.9999999-14:00"],
        [5, null, null, null],
    ]);
    assert_eq!(found["rows"], expected);
    world.judge("fill", &["back", "empty"]).expect("the judge was there before");
    let _ = world.copy("moments.parquet", "back", &["--verify", "full"]).ok();
    assert_eq!(world.rows("back"), world.rows("moments"));
    // Into a table that is made: the same type again.
    let _ = world.copy("moments", "made", &["--create-table"]).ok();
    assert_eq!(world.rows("made"), world.rows("moments"));
}

#[test]
fn the_first_and_the_last_day_stop_a_copy_with_a_remedy_that_works() {
    let world = need!(World::new(&["sentinels"]));
    let answer = world.copy("moments", "moments.parquet", &[]).fault("UserErrorValue");
    let text = format!("{answer:?}");
    for word in ["fine", "row 6", "TIMESTAMP(NANOS,false)", "--as", "--allow-lossy"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(!world.folder.path().join("moments.parquet").exists());
    let _ = world.copy("moments", "text.parquet", &["--as", "fine=text"]).ok();
    let found = world.parquet("text.parquet");
    assert_eq!(found["types"][1], "string");
    assert_eq!(found["rows"][5][1], "9999-12-31 23:59:59.9999999");
    assert_eq!(found["rows"][6][1], "0001-01-01 00:00:00");
    let _ = world.copy("moments", "cut.parquet", &["--allow-lossy", "fine"]).ok();
    let found = world.parquet("cut.parquet");
    assert_eq!(found["types"][1], "timestamp[us]");
    assert_eq!(found["rows"][5][1], json!(253_402_300_799_999_999_i64));
    assert_eq!(found["rows"][1][1], -1);
    // As text it goes back as it came.
    world.judge("fill", &["back", "empty"]).expect("the judge was there before");
    let _ = world.copy("text.parquet", "back", &[]).ok();
    assert_eq!(world.rows("back"), world.rows("moments"));
}

#[test]
fn an_offset_is_lost_by_the_authors_word_only() {
    let world = need!(World::new(&[]));
    let refused = world.copy("moments", "instants.parquet", &["--as", "zoned=instant"]);
    let _ = refused.fault("UserErrorColumnLossy");
    // The years of the table are more than nanoseconds in a file can say.
    let fine = ["--as", "zoned=instant-nanos", "--allow-lossy", "zoned"];
    let _ = world.copy("moments", "instants.parquet", &fine).fault("UserErrorValue");
    let _ = world.copy("moments", "instants.parquet", &["--as", "zoned=instant", "--allow-lossy", "zoned"]).ok();
    let found = world.parquet("instants.parquet");
    assert_eq!(found["types"][3], "timestamp[us, tz=UTC]");
    assert_eq!(found["rows"][0][3], json!(1_709_146_800_123_456_i64));
}
