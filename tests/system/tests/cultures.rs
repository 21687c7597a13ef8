//! Texts as people write them: German and French files into PostgreSQL and back, by the options of `dmg copy`. Judged by
//! psql and by the words in the files.

use std::path::Path;

use dmg_system_tests::{Answer, Database, dmg, need};

const COLUMNS: &str = "id int, name text, amount numeric(14,2), rate float8, born date, seen timestamp";

const GERMAN: &str = "id;name;amount;rate;born;seen\n\
    1;Größe;1.234,56;-0,5;31.12.1999;31.12.1999 23:59:58\n\
    2;\"a;b\";-12.345.678,90;1.000,25;01.02.2024;01.02.2024 00:00:00\n\
    3;;;;;\n";
const FRENCH: &str = "id;name;amount;rate;born;seen\n\
    1;Größe;1\u{202f}234,56;-0,5;31/12/1999;31/12/1999 23:59:58\n\
    2;\"a;b\";-12 345\u{a0}678,90;1 000,25;01/02/2024;01/02/2024 00:00:00\n\
    3;;;;;\n";

fn copy(database: &Database, arguments: &[&str]) -> Answer {
    let secrets = ["--secret-file", &database.password_file, "--sink-secret-file", &database.password_file];
    Answer::of(dmg(["copy"]).args(secrets).args(arguments))
}

fn uri(path: &Path) -> String {
    format!("file:{}", path.display())
}

#[test]
fn german_and_french_files_there_and_back() {
    let database = need!(Database::create());
    let folder = tempfile::tempdir().expect("a folder");
    database.sql(&format!(
        "CREATE TABLE expected ({COLUMNS}); INSERT INTO expected VALUES \
         (1, 'Größe', 1234.56, -0.5, '1999-12-31', '1999-12-31 23:59:58'), \
         (2, 'a;b', -12345678.90, 1000.25, '2024-02-01', '2024-02-01 00:00:00'), (3, NULL, NULL, NULL, NULL, NULL)"
    ));
    let url = database.url();
    for (culture, text, written) in [
        ("de-DE", GERMAN, "\"-12345678,90\";\"1000,25\";\"01.02.2024\";\"01.02.2024 00:00:00\""),
        ("fr-FR", FRENCH, "\"-12345678,90\";\"1000,25\";\"01/02/2024\";\"01/02/2024 00:00:00\""),
    ] {
        let (given, back) =
            (folder.path().join(format!("{culture}.csv")), folder.path().join(format!("{culture}-2.csv")));
        std::fs::write(&given, text).expect("written");
        database.sql(&format!(
            "DROP TABLE IF EXISTS arrived, again; CREATE TABLE arrived ({COLUMNS}); CREATE TABLE again ({COLUMNS})"
        ));
        let said = ["--culture", culture];
        let from = |path: &Path, table: &str| {
            let ends = ["--from", &uri(path), "--delimiter", ";", "--to", &url, "--table", table];
            copy(&database, &[&ends[..], &said].concat())
        };
        let _ = from(&given, "arrived").ok();
        assert_eq!(database.differences("expected", "arrived"), 0, "{culture}");

        let ends = ["--from", &url, "--table", "arrived", "--to", &uri(&back), "--delimiter", ";"];
        let _ = copy(&database, &[&ends[..], &said].concat()).ok();
        let text = std::fs::read_to_string(&back).expect("written");
        assert!(text.contains(written), "{culture}: {text}");
        let _ = from(&back, "again").ok();
        assert_eq!(database.differences("expected", "again"), 0, "{culture}");
    }
    // Without the culture the same words are no numbers, and no date is guessed.
    database.sql("TRUNCATE arrived");
    let given = uri(&folder.path().join("de-DE.csv"));
    let ends = ["--from", &given, "--delimiter", ";", "--to", &url, "--table", "arrived"];
    let _ = copy(&database, &ends).fault("UserErrorValue");
    let unknown = copy(&database, &[&ends[..], &["--culture", "tlh-QO"]].concat());
    assert!(unknown.errors.contains("The culture \"tlh-qo\" is not known"), "{}", unknown.errors);
    assert_eq!(database.number("SELECT count(*) FROM arrived"), 0);
}

#[test]
fn formats_of_ones_own() {
    let database = need!(Database::create());
    let folder = tempfile::tempdir().expect("a folder");
    let (given, back) = (folder.path().join("in.csv"), folder.path().join("out.csv"));
    std::fs::write(&given, "d,t,i,o\n\"Dec 31, 1999\",19991231T2359,1999-12-31 23:59 +01:00,23h59\n").expect("written");
    database.sql("CREATE TABLE target (d date, t timestamp, i timestamptz, o time)");
    let formats = [
        ["--date-format", "MMM dd, yyyy"],
        ["--timestamp-format", "yyyyMMdd'T'HHmm"],
        ["--instant-format", "yyyy-MM-dd HH:mm zzz"],
        ["--time-format", "HH'h'mm"],
    ]
    .concat();
    let url = database.url();
    let ends = ["--from", &uri(&given), "--to", &url, "--table", "target"];
    let _ = copy(&database, &[&ends[..], &formats].concat()).ok();
    let row = database.sql("SET TimeZone = 'UTC'; SELECT * FROM target");
    assert_eq!(row.trim(), "1999-12-31|1999-12-31 23:59:00|1999-12-31 22:59:00+00|23:59:00");
    let ends = ["--from", &url, "--table", "target", "--to", &uri(&back)];
    let _ = copy(&database, &[&ends[..], &formats].concat()).ok();
    let text = std::fs::read_to_string(&back).expect("written");
    assert!(text.contains("\"Dec 31, 1999\",\"19991231T2359\",\"1999-12-31 22:59 +00:00\",\"23h59\""), "{text}");
}
