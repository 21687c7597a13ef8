//! Rows that the target's own constraints refuse are left out: the first of several with one key stays, the others are in
//! the redirect file, in the words of the source, and read = written + left out. The judges are the stores' own clients.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_system_tests::wait::until;
use dmg_system_tests::worker::{Ended, attempt};
use dmg_system_tests::{Database, mariadb, need, sql_server};
use serde_json::{Value, json};

/// A store with a database of this test's own.
enum Store {
    Postgres(Database),
    MariaDb(mariadb::Database),
    Sqlite(PathBuf),
    SqlServer(sql_server::Server),
}

struct World {
    folder: tempfile::TempDir,
    store: Store,
}

/// What a line of the redirect file says: row, column, code.
type Line<'a> = (&'a str, &'a str, &'a str);
const DOUBLE: &str = "UserErrorDuplicateKey";
const VALUE: &str = "UserErrorValue";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

impl World {
    fn postgres() -> Option<World> {
        Some(World { folder: folder(), store: Store::Postgres(Database::create()?) })
    }

    fn mariadb() -> Option<World> {
        Some(World { folder: folder(), store: Store::MariaDb(mariadb::Database::create()?) })
    }

    fn sqlite() -> World {
        let folder = folder();
        let store = Store::Sqlite(folder.path().join("target.db"));
        World { folder, store }
    }

    fn sql_server() -> Option<World> {
        Some(World { folder: folder(), store: Store::SqlServer(sql_server::Server::start()?) })
    }

    /// All stores that are there.
    fn each() -> Vec<World> {
        let servers =
            [("PostgreSQL", World::postgres()), ("MariaDB", World::mariadb()), ("python-tds", World::sql_server())];
        let mut worlds = vec![World::sqlite()];
        for (name, world) in servers {
            match world {
                Some(world) => worlds.push(world),
                None => dmg_system_tests::skipped(&format!("screen: {name} is not there")),
            }
        }
        worlds
    }

    /// Runs SQL; the lines of what it answers, values separated by bars.
    fn sql(&self, text: &str) -> String {
        match &self.store {
            Store::Postgres(database) => database.sql(text).trim().to_owned(),
            Store::MariaDb(database) => database.sql(text).trim().replace('\t', "|"),
            Store::SqlServer(server) => server.sql(text).trim().to_owned(),
            Store::Sqlite(path) => {
                let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1],isolation_level=None)\n\
                     for s in sys.argv[2].split(';'):\n for r in c.execute(s): \
                     print('|'.join('NULL' if v is None else str(v) for v in r))";
                let python = dmg_ambient::environment("DMG_TEST_PYTHON").unwrap_or_else(|| "python3".to_owned());
                let path = path.to_str().expect("a plain path");
                let output = Command::new(python).args(["-c", script, path, text]).output().expect("python runs");
                assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8(output.stdout).expect("text").trim().to_owned()
            }
        }
    }

    fn sink(&self) -> Value {
        let table = json!({ "kind": "table", "schema": null, "table": "target" });
        let store = match &self.store {
            Store::Postgres(database) => {
                let (host, port) = database.host_and_port();
                json!({ "store": "postgres", "settings": { "host": host, "port": port, "database": database.name,
                    "user": database.user(), "sslMode": "disable" } })
            }
            Store::MariaDb(database) => {
                let (host, port) = database.host_and_port();
                json!({ "store": "mysql", "settings": { "host": host, "port": port, "database": database.name,
                    "user": database.user(), "sslMode": "disabled" } })
            }
            Store::Sqlite(path) => json!({ "store": "sqlite", "settings": { "path": path } }),
            Store::SqlServer(server) => server.store(),
        };
        json!({ "store": store, "object": table })
    }

    fn secrets(&self) -> [Value; 2] {
        let file = match &self.store {
            Store::Postgres(database) => &database.password_file,
            Store::MariaDb(database) => &database.password_file,
            Store::Sqlite(_) => return [json!({}), json!({})],
            Store::SqlServer(_) => return [json!({}), json!({ "password": sql_server::PASSWORD })],
        };
        let password = std::fs::read_to_string(file).expect("the password");
        [json!({}), json!({ "password": password.trim() })]
    }

    /// A job that copies these lines of text into the table.
    fn job(&self, lines: &str, options: Value) -> Value {
        std::fs::write(self.folder.path().join("source.csv"), lines).expect("a source");
        let root = json!({ "store": "file", "settings": { "root": self.folder.path() } });
        let format = json!({ "format": "text", "rowDelimiter": "\n", "quoteChar": "\"", "escapeChar": "\"",
            "nullValues": [""], "firstRowAsHeader": true, "emptyAsNull": false, "quoteAll": true });
        let source = json!({ "store": root, "format": format,
            "object": { "kind": "files", "folder": "", "file": "source.csv" } });
        let mut options = options;
        options["tolerance"]["redirect"] = json!({ "store": root, "folder": "left-out" });
        json!({ "parties": { "node": "test" }, "source": source, "sink": self.sink(), "options": options })
    }

    fn attempt(&self, job: &Value, run: &str) -> Ended {
        attempt(job, run, 1, self.secrets(), None)
    }

    /// Copies, and wants these rows to be left out and those to be there.
    fn check(&self, lines: &str, options: Value, left_out: &[Line<'_>], query: &str, expect: &[&str]) -> Value {
        let (run, job) = (Ambient::real().uuid(), self.job(lines, options));
        let receipt = self.attempt(&job, &run).receipt();
        let read = lines.lines().count() - 1;
        assert_eq!(self.told(&run), self.lines(left_out), "{receipt:#}");
        assert_eq!(self.sql(query).lines().collect::<Vec<_>>(), expect);
        assert_eq!(receipt["read"]["rows"], read);
        assert_eq!(receipt["skipped"]["rows"].as_u64().unwrap_or(0), left_out.len() as u64, "{receipt:#}");
        assert_eq!(receipt["written"]["rows"], read - left_out.len());
        assert_eq!(receipt["read"]["digest"]["rowSum"], receipt["written"]["digest"]["rowSum"]);
        receipt
    }

    fn lines(&self, lines: &[Line<'_>]) -> Vec<Vec<String>> {
        lines.iter().map(|(row, column, code)| [row, column, code].map(|text| (*text).to_owned()).to_vec()).collect()
    }

    fn redirect(&self, run: &str) -> PathBuf {
        self.folder.path().join(format!("left-out/{run}.csv"))
    }

    /// What the redirect file says; its values must be those of the source's row of that number.
    fn told(&self, run: &str) -> Vec<Vec<String>> {
        if !self.redirect(run).exists() {
            return Vec::new();
        }
        let text = std::fs::read_to_string(self.redirect(run)).expect("text");
        let source = std::fs::read_to_string(self.folder.path().join("source.csv")).expect("text");
        let rows: Vec<Vec<String>> = text.lines().skip(1).map(fields).collect();
        for row in &rows {
            let number: usize = row[0].parse().expect("a number");
            let own = fields(source.lines().nth(number).expect("that row"));
            assert_eq!(&row[5..5 + own.len()], own, "row {number}");
            assert!(row[4].ends_with('.'), "{}", row[4]);
        }
        rows.into_iter().map(|row| [&row[0], &row[2], &row[3]].map(Clone::clone).to_vec()).collect()
    }
}

/// Values of a line in which no value has a comma, a quote or a break.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().expect("there is one").push(other),
        }
    }
    fields
}

const TABLE: &str = "CREATE TABLE target (id int NOT NULL PRIMARY KEY, name varchar(20) UNIQUE, amount int, \
                     note varchar(20), CHECK (amount < 100))";
const ROWS: &str = "id,name,amount,note\n1,x,5,a\n2,two,5,b\n3,two,6,c\n4,four,100,d\n2,five,7,e\n5,one,7,f\n6,,7,g\n\
                    7,,8,h\n4,nine,9,i\n";

#[test]
fn keys_and_checks_refuse_rows_of_an_append() {
    for world in World::each() {
        world.sql(&format!("{TABLE}; INSERT INTO target VALUES (1, 'one', 1, NULL)"));
        let left_out = [
            ("1", "id", DOUBLE),
            ("3", "name", DOUBLE),
            ("4", "amount", VALUE),
            ("5", "id", DOUBLE),
            ("6", "name", DOUBLE),
        ];
        let sqlite = matches!(world.store, Store::Sqlite(_));
        // SQLite does not say which column a check speaks of.
        let left_out = left_out.map(|(row, column, code)| (row, if sqlite && row == "4" { "" } else { column }, code));
        let mut expect = vec!["1|1", "2|5", "4|9", "6|7", "7|8"];
        let mut left_out = left_out.to_vec();
        if matches!(world.store, Store::SqlServer(_)) {
            // There a NULL in a key is equal to another one.
            left_out.push(("8", "name", DOUBLE));
            expect.pop();
        }
        let query = "SELECT id, amount FROM target ORDER BY id";
        world.check(ROWS, json!({ "mode": "append" }), &left_out, query, &expect);
    }
}

#[test]
fn the_key_alone_refuses_rows_of_an_overwrite() {
    for world in World::each() {
        world.sql(
            "CREATE TABLE target (id int NOT NULL PRIMARY KEY, name varchar(20)); INSERT INTO target VALUES (1, 'old')",
        );
        let rows = "id,name\n1,a\n2,b\n1,c\n3,d\n3,e\n";
        let left_out = [("3", "id", DOUBLE), ("5", "id", DOUBLE)];
        let query = "SELECT * FROM target ORDER BY id";
        for verify in ["full", "transferred", "none"] {
            let options = json!({ "mode": "overwrite", "verify": verify });
            let receipt = world.check(rows, options, &left_out, query, &["1|a", "2|b", "3|d"]);
            assert_eq!(receipt["skipped"]["byCode"], json!({ DOUBLE: 2 }));
        }
        if let Store::Postgres(database) = &world.store {
            assert_eq!(database.number("SELECT count(*) FROM pg_index WHERE indrelid = 'target'::regclass"), 1);
        }
    }
}

#[test]
fn a_row_that_points_nowhere_is_left_out_and_so_are_those_that_point_to_it() {
    for world in World::each() {
        world.sql(
            "CREATE TABLE other (id int NOT NULL PRIMARY KEY); INSERT INTO other VALUES (1), (2); \
             CREATE TABLE target (id int NOT NULL PRIMARY KEY, ref int, parent int, \
             FOREIGN KEY (ref) REFERENCES other (id), FOREIGN KEY (parent) REFERENCES target (id)); \
             INSERT INTO target VALUES (100, NULL, NULL)",
        );
        let rows = "id,ref,parent\n1,1,\n2,,1\n3,9,\n4,,3\n5,2,4\n6,,100\n7,2,6\n";
        let sqlite = matches!(world.store, Store::Sqlite(_));
        let column = |name| if sqlite { "" } else { name };
        let left_out = [("3", column("ref"), VALUE), ("4", column("parent"), VALUE), ("5", column("parent"), VALUE)];
        let query = "SELECT id FROM target ORDER BY id";
        world.check(rows, json!({ "mode": "append" }), &left_out, query, &["1", "2", "6", "7", "100"]);
    }
}

#[test]
fn an_upsert_takes_the_first_row_of_a_key() {
    for world in World::each() {
        world.sql(
            "CREATE TABLE target (id int NOT NULL PRIMARY KEY, name varchar(20) UNIQUE); \
             INSERT INTO target VALUES (1, 'a'), (2, 'b')",
        );
        let rows = "id,name\n1,x\n1,y\n3,b\n4,z\n";
        let left_out = [("2", "id", DOUBLE), ("3", "name", DOUBLE)];
        let query = "SELECT * FROM target ORDER BY id";
        world.check(rows, json!({ "mode": "upsert" }), &left_out, query, &["1|x", "2|b", "4|z"]);
    }
}

#[test]
fn a_row_that_is_replaced_keeps_what_is_not_copied() {
    for world in World::each() {
        world.sql(
            "CREATE TABLE target (id int NOT NULL PRIMARY KEY, name varchar(20), mail varchar(20) NULL UNIQUE, \
             CHECK (mail IS NOT NULL OR name = 'none')); \
             INSERT INTO target (id, name, mail) VALUES (1, 'a', 'a@'), (2, 'b', 'b@'), (3, 'none', NULL)",
        );
        let query = "SELECT id, name, COALESCE(mail, '-') FROM target ORDER BY id";
        let expect = ["1|x|a@", "2|y|b@", "3|none|-"];
        // PostgreSQL itself looks at the row as it would be inserted, before it sees that there is one.
        if let Store::Postgres(_) = world.store {
            world.sql("ALTER TABLE target DROP CONSTRAINT target_check");
        }
        world.check("id,name\n1,x\n2,y\n", json!({ "mode": "upsert", "keys": ["id"] }), &[], query, &expect);
    }
}

#[test]
fn a_slice_collides_with_other_slices_only() {
    for world in World::each() {
        let (own, other) = ("ab".repeat(32), "cd".repeat(32));
        let bytes = match world.store {
            Store::Postgres(_) => "bytea",
            Store::MariaDb(_) => "binary(32)",
            Store::Sqlite(_) => "blob",
            Store::SqlServer(_) => "binary(32)",
        };
        let literal = |value: &str| match bytes {
            "bytea" => format!("'\\x{value}'"),
            _ if matches!(world.store, Store::SqlServer(_)) => format!("0x{value}"),
            _ => format!("x'{value}'"),
        };
        world.sql(&format!(
            "CREATE TABLE target (id int NOT NULL PRIMARY KEY, slice {bytes}); \
             INSERT INTO target VALUES (1, {}), (2, {})",
            literal(&other),
            literal(&own)
        ));
        let options = json!({ "mode": "slice", "slice": { "column": "slice", "value": own } });
        let query = "SELECT id FROM target ORDER BY id";
        world.check("id\n1\n2\n3\n", options, &[("1", "id", DOUBLE)], query, &["1", "2", "3"]);
    }
}

#[test]
fn too_many_refused_rows_stop_the_copy() {
    for world in World::each() {
        world.sql("CREATE TABLE target (id int NOT NULL PRIMARY KEY); INSERT INTO target VALUES (1), (2)");
        for (limit, fails) in
            [(json!({ "rowsMax": 1 }), true), (json!({ "shareMax": 0.5 }), true), (json!({ "rowsMax": 2 }), false)]
        {
            let (run, options) = (Ambient::real().uuid(), json!({ "mode": "append", "tolerance": limit }));
            let ended = world.attempt(&world.job("id\n1\n2\n3\n", options), &run);
            if fails {
                let message = ended.fault("UserErrorTooManySkipped");
                assert!(message.contains("The first: row 1 of "), "{message}");
                assert_eq!(world.sql("SELECT count(*) FROM target"), "2");
                assert!(!world.redirect(&run).exists());
            } else {
                assert_eq!(ended.receipt()["skipped"]["rows"], 2);
                assert_eq!(world.sql("SELECT count(*) FROM target"), "3");
            }
        }
    }
}

#[test]
fn added_columns_number_rows_as_the_source_does() {
    for world in World::each() {
        world.sql("CREATE TABLE target (id int NOT NULL PRIMARY KEY, x varchar(9), line int, run varchar(40), file varchar(40))");
        let options = json!({ "mode": "append", "added": [
            { "name": "line", "value": { "is": "rowNumber" } }, { "name": "run", "value": { "is": "runId" } },
            { "name": "file", "value": { "is": "sourceFile" } } ] });
        // Rows that cannot be read, that cannot be converted and that are refused, before, between and behind the others.
        let rows = "id,x\n1,a,more\n1,b\nno number,c\n2,d\n1,e\n3,f,more\n4,g\n4,h\n5,i,more\n";
        let left_out = [
            ("1", "", "UserErrorFileFormat"),
            ("3", "id", VALUE),
            ("6", "", "UserErrorFileFormat"),
            ("9", "", "UserErrorFileFormat"),
            ("5", "id", DOUBLE),
            ("8", "id", DOUBLE),
        ];
        let query = "SELECT id, line, file FROM target ORDER BY id";
        let expect = ["1|2|source.csv", "2|4|source.csv", "4|7|source.csv"];
        world.check(rows, options, &left_out, query, &expect);
    }
}

#[test]
fn a_row_that_another_writer_adds_meanwhile_is_left_out_as_well() {
    let world = need!(World::postgres());
    let Store::Postgres(database) = &world.store else { return };
    database.sql("CREATE TABLE target (id int NOT NULL PRIMARY KEY)");
    let password = std::fs::read_to_string(&database.password_file).expect("the password");
    let mut other = Command::new("psql")
        .args(["-qAtX", &database.url()])
        .env("PGPASSWORD", password.trim())
        .stdin(Stdio::piped())
        .spawn()
        .expect("psql is installed");
    let mut input = other.stdin.take().expect("piped");
    writeln!(input, "BEGIN; INSERT INTO target VALUES (2);").expect("psql reads");
    let count = |sql: &str| database.number(sql) > 0;
    let deadline = Duration::from_secs(60);
    until("the other writer", deadline, || {
        count("SELECT count(*) FROM pg_locks WHERE relation = 'target'::regclass AND mode = 'RowExclusiveLock'")
            .then_some(())
    });
    let (run, job) = (Ambient::real().uuid(), world.job("id\n1\n2\n3\n", json!({ "mode": "append" })));
    let receipt = std::thread::scope(|scope| {
        let copy = scope.spawn(|| world.attempt(&job, &run).receipt());
        // The commit waits for what the other one decides.
        until("the commit to wait", deadline, || {
            count("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'INSERT INTO'")
                .then_some(())
        });
        writeln!(input, "COMMIT;").expect("psql reads");
        drop(input);
        copy.join().expect("the copy ends")
    });
    assert!(other.wait().expect("psql ends").success());
    assert_eq!(world.told(&run), world.lines(&[("2", "id", DOUBLE)]));
    assert_eq!((&receipt["read"]["rows"], &receipt["written"]["rows"]), (&json!(3), &json!(2)), "{receipt:#}");
    assert!(receipt["notices"].to_string().contains("done again once"), "{receipt:#}");
    assert_eq!(database.sql("SELECT id FROM target ORDER BY id"), "1\n2\n3\n");
}

#[test]
fn indexes_over_some_rows_and_over_expressions_are_followed() {
    let world = need!(World::postgres());
    world.sql(
        "CREATE TABLE target (id serial PRIMARY KEY, name text, live boolean, code int, extra int DEFAULT 7, \
         CHECK (extra < 10), CHECK (code <> 13)); \
         CREATE UNIQUE INDEX ON target (lower(name)); CREATE UNIQUE INDEX ON target (code) WHERE live; \
         INSERT INTO target (name, live, code) VALUES ('Old', true, 1)",
    );
    let rows = "name,live,code\nOLD,false,2\nnew,true,1\nNEW,false,1\nx,true,3\ny,true,3\nz,false,3\nw,false,13\n";
    // Row 2 goes for its code before anybody asks for its name, so row 3 may have it.
    let left_out = [("1", "name", DOUBLE), ("2", "code", DOUBLE), ("5", "code", DOUBLE), ("7", "code", VALUE)];
    let query = "SELECT name, code, extra FROM target ORDER BY code, name";
    let expect = ["NEW|1|7", "Old|1|7", "x|3|7", "z|3|7"];
    let told = world.check(rows, json!({ "mode": "append" }), &left_out, query, &expect);
    assert_eq!(told["shape"], "staged");
}

#[test]
fn sql_server_follows_indexes_over_some_rows_collations_and_checks_that_are_in_force() {
    let world = need!(World::sql_server());
    world.sql(
        "CREATE TABLE target (id int IDENTITY PRIMARY KEY, name nvarchar(20) COLLATE Latin1_General_100_CI_AS, \
         live bit, code int, extra int DEFAULT 7, twice AS (code * 2), \
         CONSTRAINT few CHECK (extra < 10), CONSTRAINT lucky CHECK (code <> 13), CONSTRAINT late CHECK (code < 2)); \
         ALTER TABLE target NOCHECK CONSTRAINT late; \
         CREATE UNIQUE INDEX names ON target (name); CREATE UNIQUE INDEX codes ON target (code) WHERE live = 1; \
         INSERT INTO target (name, live, code) VALUES (N'Old', 1, 1)",
    );
    let rows = "name,live,code\nOLD,false,2\nnew,true,1\nNEW,false,1\nx,true,3\ny,true,3\nz,false,3\nw,false,13\n\
                v,true,\nu,true,\n";
    // Indexes by name: rows 2 and 5 go for their code, so row 3 may have the name of row 2. To a check that comes to
    // nothing a row with NULL is as good as any; to a unique index NULL is a value like others.
    let left_out = [
        ("1", "name", DOUBLE),
        ("2", "code", DOUBLE),
        ("5", "code", DOUBLE),
        ("7", "code", VALUE),
        ("9", "code", DOUBLE),
    ];
    let query = "SELECT name, code, extra, twice FROM target ORDER BY code, name";
    let expect = ["v|NULL|7|NULL", "NEW|1|7|2", "Old|1|7|2", "x|3|7|6", "z|3|7|6"];
    world.check(rows, json!({ "mode": "append" }), &left_out, query, &expect);
}

#[test]
fn rows_of_sql_server_that_are_overwritten_may_point_to_each_other() {
    let world = need!(World::sql_server());
    world.sql(
        "CREATE TABLE target (id int NOT NULL PRIMARY KEY, parent int NULL REFERENCES target (id)); \
         INSERT INTO target VALUES (1, NULL), (2, 1)",
    );
    // Row 3 points to an old row, which does not stay; row 4 to row 3.
    let left_out = [("3", "parent", VALUE), ("4", "parent", VALUE)];
    let query = "SELECT id, parent FROM target ORDER BY id";
    let rows = "id,parent\n10,11\n11,10\n12,1\n13,12\n14,14\n";
    world.check(rows, json!({ "mode": "overwrite" }), &left_out, query, &["10|11", "11|10", "14|14"]);
}

#[test]
fn a_row_that_another_writer_adds_to_sql_server_meanwhile_is_left_out_as_well() {
    let world = need!(World::sql_server());
    let Store::SqlServer(server) = &world.store else { return };
    world.sql("CREATE TABLE target (id int NOT NULL PRIMARY KEY)");
    // All is looked at when the commit begins.
    let begins = server.hold_back("BEGIN TRANSACTION", 5_000);
    let (run, job) = (Ambient::real().uuid(), world.job("id\n1\n2\n3\n", json!({ "mode": "append" })));
    let receipt = std::thread::scope(|scope| {
        let copy = scope.spawn(|| world.attempt(&job, &run).receipt());
        until("the commit", Duration::from_secs(60), || begins().then_some(()));
        world.sql("INSERT INTO target VALUES (2)");
        copy.join().expect("the copy ends")
    });
    assert_eq!(world.told(&run), world.lines(&[("2", "id", DOUBLE)]));
    assert_eq!((&receipt["read"]["rows"], &receipt["written"]["rows"]), (&json!(3), &json!(2)), "{receipt:#}");
    assert!(receipt["notices"].to_string().contains("done again once"), "{receipt:#}");
    assert_eq!(world.sql("SELECT id FROM target ORDER BY id"), "1\n2\n3");
}

#[test]
fn what_sql_server_fills_or_a_script_leaves_stops_the_copy() {
    let world = need!(World::sql_server());
    world.sql("CREATE TABLE target (id int NOT NULL, code AS (id % 2) PERSISTED, UNIQUE (code))");
    let run = Ambient::real().uuid();
    let message =
        world.attempt(&world.job("id\n1\n2\n3\n", json!({ "mode": "append" })), &run).fault("UserErrorDuplicateKey");
    assert!(message.contains("a row whose key is there already"), "{message}");
    assert_eq!(world.sql("SELECT count(*) FROM target"), "0");
    world.sql("DROP TABLE target; CREATE TABLE target (id int NOT NULL PRIMARY KEY); INSERT INTO target VALUES (1)");
    let options = json!({ "mode": "append", "preCopyScript": "DELETE FROM target" });
    let message = world.attempt(&world.job("id\n1\n1\n", options), &run).fault("UserErrorDuplicateKey");
    assert!(message.contains("a row whose key is there already"), "{message}");
    assert_eq!(world.sql("SELECT id FROM target"), "1");
}

#[test]
fn what_queries_cannot_find_stops_the_copy_as_before() {
    let world = need!(World::postgres());
    world.sql(
        "CREATE TABLE target (id int PRIMARY KEY); \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.id = 3 THEN RAISE EXCEPTION 'not three'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER t BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    let run = Ambient::real().uuid();
    let message = world.attempt(&world.job("id\n1\n3\n1\n", json!({ "mode": "append" })), &run).fault("UserErrorValue");
    assert!(message.contains("trigger"), "{message}");
    assert_eq!(world.sql("SELECT count(*) FROM target"), "0");
    // With a script before the copy nobody knows what will be there.
    let options = json!({ "mode": "append", "preCopyScript": "DELETE FROM target" });
    let message = world.attempt(&world.job("id\n1\n1\n", options), &run).fault("UserErrorDuplicateKey");
    assert!(message.contains("key (id)=(1)"), "{message}");
}

#[test]
fn sqlite_also_tells_of_triggers_and_of_what_a_script_leaves() {
    let world = World::sqlite();
    world.sql("CREATE TABLE target (id int PRIMARY KEY); INSERT INTO target VALUES (1), (2)");
    let path = world.folder.path().join("target.db");
    let trigger =
        "CREATE TRIGGER t BEFORE INSERT ON target WHEN NEW.id = 3 BEGIN SELECT RAISE(ABORT, 'not three'); END";
    rusqlite::Connection::open(&path).and_then(|connection| connection.execute_batch(trigger)).expect("a trigger");
    let options = json!({ "mode": "append", "preCopyScript": "DELETE FROM target WHERE id = 1" });
    let left_out = [("2", "id", DOUBLE), ("3", "", VALUE), ("5", "id", DOUBLE)];
    let query = "SELECT id FROM target ORDER BY id";
    world.check("id\n1\n2\n3\n4\n4\n", options, &left_out, query, &["1", "2", "4"]);
}
