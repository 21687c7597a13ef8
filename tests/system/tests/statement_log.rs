//! A MariaDB server that logs statements rather than rows, as old replicas want it: it refuses to write at some levels of
//! isolation. Copies into it are the same, whatever is left out. Judged by the `mariadb` client.

use std::fmt::Write;

use dmg_system_tests::mariadb::Server;
use dmg_system_tests::{Answer, dmg, need};

#[test]
fn rows_are_left_out_where_statements_are_logged() {
    let (server, database) = need!(Server::start(&["log_bin=bin", "binlog_format=STATEMENT", "server_id=7"]));
    database.sql(
        "CREATE TABLE parent (id bigint PRIMARY KEY); INSERT INTO parent SELECT seq FROM seq_0_to_899; \
         CREATE TABLE target (id bigint PRIMARY KEY REFERENCES parent(id), name varchar(20)); \
         INSERT INTO target VALUES (5, 'there')",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let mut lines = "id,name\n".to_owned();
    for row in 0..1000 {
        writeln!(lines, "{},row {row}", row % 950).expect("written");
    }
    let source = folder.path().join("rows.csv");
    std::fs::write(&source, lines).expect("written");
    let copy = |mode: &str| {
        let from = format!("file:{}", source.display());
        let ends = ["copy", "--from", &from, "--to", &database.url(), "--table", "target", "--mode", mode];
        let more = ["--secret-file", &database.password_file, "--max-skipped", "200"];
        Answer::of(dmg(ends).args(more)).ok()
    };
    let _ = copy("append");
    // 50 have no parent, 50 come twice, one is there.
    assert_eq!(database.sql("SELECT COUNT(*), SUM(name = 'there') FROM target"), "900\t1\n");
    let _ = copy("overwrite");
    let rows = "SELECT COUNT(*), SUM(name = CONCAT('row ', id)) FROM target";
    assert_eq!(database.sql(rows), "900\t900\n");
    drop(database);
    drop(server);
}
