//! Writing MariaDB: every type there and back, shapes of commit, marks, fences and zombies. Judged by the `mariadb`
//! client. Needs a server (DMG_TEST_MARIADB).

use std::sync::Arc;

use dmg_ambient::Ambient;
use dmg_connector::{Column, MarkState, Result, Session, Sink, SinkRequest, Source, TableConnection};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{CommitShape, Epoch, Verdict, WriteMode};

use crate::mysql_support::MariaDb;
use crate::support::{code, content, copy, plan, request, stage, table, text};

impl MariaDb {
    /// A run of this test only: the locks that tell whose session is whose are those of the whole server.
    pub(crate) fn run_id(&self, number: u8) -> String {
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&(&self.database, number), &mut hasher);
        format!("{:016x}", std::hash::Hasher::finish(&hasher))
    }

    pub(crate) async fn open(&self, application: &str, more: &[(&str, &str)]) -> Result<Arc<dyn TableConnection>> {
        let mut settings = self.own_settings();
        for (name, value) in more {
            settings.insert((*name).to_owned(), (*value).into());
        }
        let store = dmg_tables::store("mysql").expect("is in the list");
        store.open(&settings, &self.own_secrets(), Session::new(Ambient::real(), application)).await
    }

    pub(crate) async fn source(&self, object: StoreObject, lanes: usize, rows: u64) -> Result<Box<dyn Source>> {
        self.open("dmg/test", &[]).await?.source(&object, lanes, rows).await
    }

    pub(crate) async fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        self.open(&request.attempt.session_name(), &[]).await?.sink(request).await
    }

    /// Whether two tables hold the same rows, each as often, octet by octet.
    pub(crate) fn same(&self, a: &str, b: &str, columns: &[&str]) {
        let list = |table: &str, column: &str| {
            let values = format!("COALESCE(HEX(CONCAT(`{column}`)), 'NULL')");
            self.run(&format!("SELECT {values} FROM `{table}` ORDER BY `{}`, 1", columns[0]))
        };
        for column in columns {
            let (a, b) = (list(a, column), list(b, column));
            assert!(!a.is_empty());
            assert_eq!(a, b, "column {column}");
        }
    }
}

/// Every type there is, with the values at their ends. The name is hex for floats: a single shows six digits else.
pub(crate) const WIDE: &str = r#"
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'; SET time_zone = '+00:00';
CREATE TABLE wide (
  id bigint PRIMARY KEY, i1 tinyint, u1 tinyint unsigned, flag tinyint(1), i2 smallint, u2 smallint unsigned,
  i3 mediumint, u3 mediumint unsigned, i4 int, u4 int unsigned, i8 bigint, u8 bigint unsigned, zf int(8) zerofill,
  f float, d double, n1 decimal(15,2), n2 decimal(38,10), n3 decimal(65,30), n4 decimal(10,0) unsigned zerofill,
  b1 bit(1), b8 bit(8), b64 bit(64), c char(10), v varchar(100), tt tinytext, t text, mt mediumtext, lt longtext,
  la varchar(40) character set latin1, cs varchar(40) collate utf8mb4_bin, ucs varchar(20) character set ucs2,
  bi binary(5), vb varbinary(300), tb tinyblob, bl blob, lb longblob,
  da date, dt datetime, dt3 datetime(3), dt6 datetime(6), ts timestamp NULL, ts6 timestamp(6) NULL, ti time, ti6 time(6), y year,
  e enum('small', 'wide', 'quote''d "x"', 'été'), s set('a', 'b', 'c d'), j json, uu uuid, i6 inet6, g geometry, p point
) CHARACTER SET utf8mb4;
INSERT INTO wide VALUES
 (1, -128, 0, 0, -32768, 0, -8388608, 0, -2147483648, 0, -9223372036854775808, 0, 0,
  -3.4028234e38, -1.7976931348623157e308, -9999999999999.99, -9999999999999999999999999999.9999999999,
  -99999999999999999999999999999999999.999999999999999999999999999999, 7, b'0', b'0', b'0', '', '', '', '', '', '',
  '', '', '', x'0000000000', '', '', '', '', '0000-01-01', '0001-01-01 00:00:00', '1000-01-01 00:00:00.001', '0000-01-01 00:00:00.000001',
  '1970-01-01 00:00:01', '1970-01-01 00:00:01.000001', '00:00:00', '00:00:00.000001', 1901, 'small', '', '{"a" :  1, "a": 2}',
  '123e4567-e89b-12d3-a456-426614174000', '::', ST_GeomFromText('GEOMETRYCOLLECTION EMPTY'), POINT(1, -2)),
 (2, 127, 255, 1, 32767, 65535, 8388607, 16777215, 2147483647, 4294967295, 9223372036854775807, 18446744073709551615, 99999999,
  1.17549435e-38, 2.2250738585072014e-308, 9999999999999.99, 0.0000000001, 0.000000000000000000000000000001, 9999999999,
  b'1', b'11111111', b'1111111111111111111111111111111111111111111111111111111111111111', 'char', 'line\nbreak\ttab\\back\r"quote" ,comma;|',
  '\\N', 'NULL', 'emoji 🎉 ', 'zero\0in', 'Größe', 'É', 'ひらがな', x'00ff5c0a09', x'00ff5c0a09e2820a', x'5c4e', x'0d0a', x'00',
  '9999-12-31', '9999-12-31 23:59:59', '9999-12-31 23:59:59.999', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07', '2038-01-19 03:14:07.999999',
  '23:59:59', '23:59:59.999999', 2155, 'été', 'a,c d', '[1,2.50,"\\u00e9"]', 'ffffffff-ffff-4fff-bfff-ffffffffffff', '::ffff:1.2.3.4',
  ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))', 4326), POINT(0.1, 1e300)),
 (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.10, 0.1, 0.1, 1, b'1', b'101', b'101', 'a  b', 'trailing  ', 'x', 'x', 'x', REPEAT('é', 70000),
  'x', 'x', 'x', 'abc', 'abc', 'abc', 'abc', REPEAT('\n', 70000), '2024-02-29', '2024-02-29 12:00:00', '2024-02-29 12:00:00.5', '2024-02-29 12:00:00.123456',
  '2024-02-29 12:00:00', '2024-02-29 12:00:00.5', '12:34:56', '24:00:00', 0, 'quote''d "x"', 'b', 'null', NULL, '2001:db8::1', NULL, NULL);
"#;

pub(crate) fn columns(world: &MariaDb, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{table}' \
         ORDER BY ORDINAL_POSITION"
    );
    world.run(&sql).lines().map(str::to_owned).collect()
}

async fn wide_there_and_back(world: &MariaDb, mode: WriteMode) {
    world.run("DROP TABLE IF EXISTS arrived; CREATE TABLE arrived LIKE wide");
    let source = world.source(table("wide"), 2, 100_000).await.expect("opens");
    let run = &world.run_id(u8::from(mode == WriteMode::Append));
    let mut sink = world.sink(request(run, 1, "arrived", mode)).await.expect("opens");
    let plans = plan(source.as_ref(), sink.as_mut()).await.expect("plans");
    for plan in &plans {
        let named = matches!(plan.sink.as_str(), "ts" | "ts6" | "da" | "uu");
        assert!(plan.verdict == Verdict::Exact || named, "column {} is {}", plan.sink, plan.verdict);
    }
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    let names = columns(world, "wide");
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| !matches!(*name, "f" | "d")).collect();
    world.same("wide", "arrived", &names);
    let floats = "SELECT COUNT(*) FROM wide w JOIN arrived a ON a.id = w.id AND a.f <=> w.f AND a.d <=> w.d";
    assert_eq!(world.run(floats), "4");
    assert_eq!(world.run("SELECT COUNT(*) FROM arrived"), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_goes_there_and_back() {
    let Some(world) = MariaDb::new("wide") else { return };
    world.run(WIDE);
    wide_there_and_back(&world, WriteMode::Append).await;
    wide_there_and_back(&world, WriteMode::Overwrite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_goes_into_a_table_that_is_created() {
    let Some(world) = MariaDb::new("native") else { return };
    world.run(WIDE);
    let source = world.source(table("wide"), 1, 100_000).await.expect("opens");
    let wanted = SinkRequest { create_table: true, ..request(&world.run_id(1), 1, "created", WriteMode::Overwrite) };
    let mut sink = world.sink(wanted).await.expect("opens");
    let kinds: Vec<Column> = source.columns().to_vec();
    let plans: Vec<_> = kinds.iter().map(|column| (column, sink.hold(column, None))).collect();
    assert!(plans.iter().all(|(column, held)| column.kind == held.kind || column.name == "i6"), "{plans:?}");
    // The address has no type of its own in the new table; the engine relabels it as text.
    let some = "SELECT id, i1, u1, flag, i2, u2, i3, u3, i4, u4, i8, u8, zf, f, d, n1, n2, n3, n4, b1, b8, b64, c, v, tt, t, \
         mt, lt, la, cs, ucs, bi, vb, tb, bl, lb, da, dt, dt3, dt6, ts, ts6, ti, ti6, y, e, s, j, uu, g, p FROM wide";
    let source = world.source(StoreObject::Query { text: some.to_owned() }, 1, 1000).await.expect("opens");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    let names = columns(&world, "created");
    // Bits are numbers there, and the order of digits in hex differs; fractions are filled up.
    let differs =
        ["f", "d", "b1", "b8", "b64", "la", "ucs", "dt", "dt3", "ts", "ts6", "ti", "ti6", "y", "uu", "zf", "n4"];
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| !differs.contains(name)).collect();
    world.same("wide", "created", &names);
    let same = "SELECT COUNT(*) FROM wide w JOIN created c ON w.id = c.id AND w.f <=> c.f AND w.d <=> c.d \
         AND w.b1 <=> c.b1 AND w.b8 + 0 <=> c.b8 AND w.b64 + 0 <=> c.b64 AND w.dt <=> c.dt AND w.dt3 <=> c.dt3 \
         AND HEX(CONVERT(w.la USING utf8mb4)) <=> HEX(c.la) AND w.y <=> c.y AND HEX(CONVERT(w.ucs USING utf8mb4)) <=> HEX(c.ucs) AND w.ti <=> c.ti AND w.ti6 <=> c.ti6 AND HEX(CAST(w.uu AS CHAR)) <=> HEX(c.uu) AND w.zf <=> c.zf AND w.n4 <=> c.n4";
    assert_eq!(world.run(same), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_picks_the_shape() {
    let Some(world) = MariaDb::new("shapes") else { return };
    world.run(
        "CREATE TABLE src (id bigint, v varchar(20)); INSERT INTO src SELECT seq, 'new' FROM seq_1_to_1000; \
         CREATE TABLE plain (id bigint PRIMARY KEY, v varchar(20) DEFAULT 'x', KEY v_key (v)) COMMENT = 'of ours'; \
         CREATE TABLE parent (id bigint PRIMARY KEY, v varchar(20)); \
         CREATE TABLE child (id bigint PRIMARY KEY, p bigint, FOREIGN KEY (p) REFERENCES parent (id)); \
         CREATE TABLE triggered (id bigint PRIMARY KEY, v varchar(20)); \
         CREATE TABLE log (id bigint); \
         CREATE TRIGGER added AFTER INSERT ON triggered FOR EACH ROW INSERT INTO log VALUES (NEW.id); \
         CREATE TABLE isam (id bigint, v varchar(20)) ENGINE = MyISAM; INSERT INTO isam VALUES (0, 'old'); \
         INSERT INTO plain VALUES (0, 'old'); INSERT INTO parent VALUES (5000, 'old'); INSERT INTO triggered VALUES (0, 'old')",
    );
    for (target, script, shape) in [
        ("plain", None, CommitShape::Swap),
        ("plain", Some("UPDATE plain SET v = 'seen'; DELETE FROM log"), CommitShape::Staged),
        ("parent", None, CommitShape::Staged),
        ("triggered", None, CommitShape::Staged),
        ("isam", None, CommitShape::Swap),
    ] {
        let run = Ambient::real().uuid();
        let mut wanted = request(&run, 1, target, WriteMode::Overwrite);
        wanted.pre_copy_script = script.map(str::to_owned);
        let source = world.source(table("src"), 1, 1000).await.expect("opens");
        let mut sink = world.sink(wanted.clone()).await.expect("opens");
        let plans = plan(source.as_ref(), sink.as_mut()).await.expect("plans");
        assert_eq!(sink.plan(&plans).await.expect("plans").shape, shape, "{target}");
        copy(source.as_ref(), sink.as_mut()).await.expect(target);
        assert_eq!(world.run(&format!("SELECT COUNT(*), MIN(id) FROM {target}")), "1000\t1", "{target}");
        wanted.attempt.epoch = Epoch(2);
        let later = world.sink(wanted).await.expect("opens");
        assert!(matches!(later.mark().await.expect("reads"), MarkState::Committed(_)), "{target}");
    }
    // Indexes, defaults and the words of people stay; the first run's mark was put away when the comment was taken.
    let structure = world.run("SHOW CREATE TABLE plain");
    assert!(structure.contains("PRIMARY KEY") && structure.contains("v_key") && structure.contains("DEFAULT 'x'"));
    assert!(structure.contains("COMMENT='of ours"), "{structure}");
    assert_eq!(world.run("SELECT COUNT(*) FROM log"), "1000", "the trigger saw each row");
    assert_eq!(world.run("SHOW TABLES LIKE '\\_dmg\\_%'"), "", "no staging left");
    let appended = world.sink(request(&world.run_id(1), 1, "isam", WriteMode::Append)).await;
    let mut sink = appended.expect("opens");
    let source = world.source(table("src"), 1, 1000).await.expect("opens");
    let refused = plan(source.as_ref(), sink.as_mut()).await;
    assert_eq!(code(refused), "UserErrorNotSupported", "an append into MyISAM");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_altered_since_the_plan_is_not_replaced() {
    let Some(world) = MariaDb::new("altered") else { return };
    world.run(
        "CREATE TABLE src (id bigint); INSERT INTO src VALUES (1), (2); CREATE TABLE log (id bigint); \
         CREATE TABLE dst (id bigint PRIMARY KEY AUTO_INCREMENT) COMMENT = 'of ours'; INSERT INTO dst VALUES (7)",
    );
    for (meanwhile, refused) in [
        ("INSERT INTO dst VALUES (100)", None),
        ("ALTER TABLE dst ADD COLUMN v varchar(20) DEFAULT 'x'", Some("was altered since the plan was made")),
        ("ALTER TABLE dst ADD KEY v_key (v)", Some("was altered")),
        ("CREATE TRIGGER added AFTER INSERT ON dst FOR EACH ROW INSERT INTO log VALUES (1)", Some("triggers")),
    ] {
        world.run("INSERT IGNORE INTO dst (id) VALUES (7)");
        let source = world.source(table("src"), 1, 1000).await.expect("opens");
        let run = Ambient::real().uuid();
        let mut sink = world.sink(request(&run, 1, "dst", WriteMode::Overwrite)).await.expect("opens");
        let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
        world.run(meanwhile);
        let done = sink.commit(&content(&sums)).await;
        match refused {
            None => drop(done.expect("commits")),
            Some(words) => {
                let said = text(done);
                assert!(said.contains("StoreErrorCommitRefused") && said.contains(words), "{said}");
                assert_eq!(world.run("SELECT COUNT(*) FROM dst WHERE id = 7"), "1", "{meanwhile}");
                sink.abort().await.expect("aborts");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_commits_is_refused_and_changes_nothing_of_the_copy() {
    let Some(world) = MariaDb::new("script") else { return };
    world.run("CREATE TABLE src (id bigint); INSERT INTO src VALUES (1), (2); CREATE TABLE dst (id bigint)");
    for (run, script) in [(1, "COMMIT; START TRANSACTION"), (2, "TRUNCATE TABLE dst"), (3, "COMMIT")] {
        let mut wanted = request(&world.run_id(run), 1, "dst", WriteMode::Append);
        wanted.pre_copy_script = Some(script.to_owned());
        let mut sink = world.sink(wanted.clone()).await.expect("opens");
        let source = world.source(table("src"), 1, 1000).await.expect("opens");
        let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
        let refused = sink.commit(&content(&sums)).await;
        assert_eq!(code(refused), "UserErrorSettings", "{script}");
        assert_eq!(sink.mark().await.expect("reads"), MarkState::None, "{script}");
        sink.abort().await.expect("aborts");
    }
    assert_eq!(world.run("SELECT COUNT(*) FROM dst"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_in_the_middle_of_its_load_is_ended_by_its_successor() {
    let Some(world) = MariaDb::new("zombie") else { return };
    world.run("CREATE TABLE src (id bigint, v varchar(20)); INSERT INTO src SELECT seq, 'new' FROM seq_1_to_1000; CREATE TABLE dst LIKE src");
    for mode in [WriteMode::Append, WriteMode::Overwrite] {
        let run = &world.run_id(u8::from(mode == WriteMode::Append));
        let source = world.source(table("src"), 1, 1000).await.expect("opens");
        let mut zombie = world.sink(request(run, 1, "dst", mode)).await.expect("opens");
        plan(source.as_ref(), zombie.as_mut()).await.expect("plans");
        zombie.begin().await.expect("begins");
        // Holds the staging table open, as a stopped process would.
        let part = zombie.part(0).await.expect("starts a load");
        let mut successor = world.sink(request(run, 2, "dst", mode)).await.expect("opens");
        let sums = stage(source_again(&world).await.as_ref(), successor.as_mut()).await.expect("stages");
        assert!(part.finish().await.is_err(), "the zombie's session is gone");
        let refused = zombie.commit(&content(&sums)).await;
        assert_ne!(code(refused), "no failure");
        successor.commit(&content(&sums)).await.expect("commits");
        assert_eq!(world.run("SELECT COUNT(*) FROM dst"), "1000");
        // Now the zombie finds what happened, and does it no second time.
        let found = zombie.commit(&content(&sums)).await.expect("finds the mark");
        assert_eq!(found.epoch, Epoch(2));
        assert_eq!(world.run("SELECT COUNT(*) FROM dst"), "1000");
        world.run("DELETE FROM dst");
    }
}

async fn source_again(world: &MariaDb) -> Box<dyn Source> {
    world.source(table("src"), 1, 1000).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_run_left_is_swept_and_a_living_one_is_left_alone() {
    let Some(world) = MariaDb::new("sweep") else { return };
    world.run(
        "CREATE TABLE src (id bigint); INSERT INTO src VALUES (1); CREATE TABLE dst (id bigint); CREATE TABLE other (id bigint); \
         CREATE TABLE _dmg_deadbeef0000_3 (id bigint); CREATE TABLE _dmg_deadbeef0000_3_old (id bigint); \
         CREATE TABLE _dmg_mine (id bigint)",
    );
    let mut living = world.sink(request(&world.run_id(2), 1, "other", WriteMode::Append)).await.expect("opens");
    let sums = stage(source_again(&world).await.as_ref(), living.as_mut()).await.expect("stages");
    let mut sink = world.sink(request(&world.run_id(1), 1, "dst", WriteMode::Append)).await.expect("opens");
    copy(source_again(&world).await.as_ref(), sink.as_mut()).await.expect("copies");
    assert_eq!(
        world.run("SHOW TABLES LIKE '\\_dmg\\_%'"),
        format!("_dmg_{0}_1\n_dmg_{0}_1_parts\n_dmg_mine", &world.run_id(2)[..12])
    );
    living.commit(&content(&sums)).await.expect("commits");
    assert_eq!(world.run("SELECT COUNT(*) FROM other"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_do_not_fit_stop_the_copy_before_the_commit() {
    let Some(world) = MariaDb::new("unfit") else { return };
    world.run(
        "SET sql_mode = ''; CREATE TABLE src (id bigint, v varchar(20), n int, w varchar(20)); \
         INSERT INTO src VALUES (1, 'fits', 1, 'a'), (2, 'too long', 1000, NULL), (3, 'é', 3, 'c')",
    );
    for (definition, query, expected) in [
        ("id bigint, v varchar(5)", "SELECT id, v FROM src", "UserErrorValue column \"v\""),
        ("id bigint, n tinyint", "SELECT id, n FROM src", "UserErrorValue column \"n\""),
        ("id bigint, w varchar(20) NOT NULL", "SELECT id, w FROM src", "UserErrorValue column \"w\""),
        ("id bigint, v varchar(20) character set ascii", "SELECT id, v FROM src", "UserErrorValue column \"v\""),
        ("id bigint, v enum('fits')", "SELECT id, v FROM src", "UserErrorValue column \"v\""),
        ("id bigint, v varchar(20), CHECK (id < 3)", "SELECT id, v FROM src", "UserErrorValue constraint"),
        ("n int, UNIQUE KEY only (n)", "SELECT 1 AS n FROM src", "UserErrorDuplicateKey key"),
    ] {
        world.run(&format!("DROP TABLE IF EXISTS dst; CREATE TABLE dst ({definition})"));
        for mode in [WriteMode::Append, WriteMode::Overwrite] {
            let run = dmg_ambient::Ambient::real().uuid();
            let source = world.source(StoreObject::Query { text: query.to_owned() }, 1, 10).await.expect("opens");
            let mut sink = world.sink(request(&run, 1, "dst", mode)).await.expect("opens");
            let staged = async {
                let plans = source.columns().iter().map(|column| dmg_protocol::ColumnPlan {
                    source: column.name.clone(),
                    sink: column.name.clone(),
                    kind: column.kind,
                    source_type: column.type_name.clone(),
                    sink_type: column.type_name.clone(),
                    key: false,
                    required: false,
                    verdict: Verdict::Checked,
                    reason: None,
                });
                sink.plan(&plans.collect::<Vec<_>>()).await?;
                sink.begin().await?;
                let mut writer = sink.part(0).await?;
                for batch in crate::support::read_all(source.as_ref(), crate::support::LIMITS).await? {
                    writer.write(batch).await?;
                }
                writer.finish().await?;
                sink.commit(&dmg_connector::MarkContent { rows: 3, digest: String::new() }).await
            };
            let said = text(staged.await);
            for word in expected.split(' ') {
                assert!(said.contains(word), "{definition}: {said}");
            }
            assert!(!said.contains("too long\"") && !said.contains("fits"), "no value is quoted: {said}");
            assert_eq!(world.run("SELECT COUNT(*) FROM dst"), "0", "{definition}");
            sink.abort().await.expect("aborts");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upsert_keeps_other_columns_and_lets_no_other_key_collide() {
    let Some(world) = MariaDb::new("upsert") else { return };
    world.run(
        "CREATE TABLE src (id bigint, email varchar(50)); INSERT INTO src VALUES (1, 'a@x'), (2, 'b@x'), (3, 'c@x'); \
         CREATE TABLE dst (id bigint PRIMARY KEY, email varchar(50), kept varchar(10) DEFAULT 'new', UNIQUE KEY mail (email)); \
         INSERT INTO dst VALUES (2, 'old@x', 'old'), (9, 'z@x', 'old')",
    );
    let mut sink = world.sink(request(&world.run_id(1), 1, "dst", WriteMode::Upsert)).await.expect("opens");
    let sums = stage(source_again(&world).await.as_ref(), sink.as_mut()).await.expect("stages");
    sink.commit(&content(&sums)).await.expect("commits");
    let now = world.run("SELECT id, email, kept FROM dst ORDER BY id");
    assert_eq!(now, "1\ta@x\tnew\n2\tb@x\told\n3\tc@x\tnew\n9\tz@x\told");
    world.run("UPDATE src SET email = 'z@x' WHERE id = 3");
    let mut sink = world.sink(request(&world.run_id(2), 1, "dst", WriteMode::Upsert)).await.expect("opens");
    let sums = stage(source_again(&world).await.as_ref(), sink.as_mut()).await.expect("stages");
    assert_eq!(code(sink.commit(&content(&sums)).await), "UserErrorDuplicateKey");
    sink.abort().await.expect("aborts");
    assert_eq!(world.run("SELECT id, email, kept FROM dst ORDER BY id"), now);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_where_the_author_says_so() {
    let Some(world) = MariaDb::new("added") else { return };
    world.run(
        "CREATE TABLE src (id bigint, more varchar(20)); INSERT INTO src VALUES (1, 'x'); \
         CREATE TABLE a (id bigint); INSERT INTO a VALUES (0); CREATE TABLE b (id bigint); INSERT INTO b VALUES (0)",
    );
    for (target, mode, rows) in [("a", WriteMode::Append, "0\tNULL\n1\tx"), ("b", WriteMode::Overwrite, "1\tx")] {
        let run = &world.run_id(u8::from(target == "a"));
        let wanted = SinkRequest { add_columns: true, ..request(run, 1, target, mode) };
        let mut sink = world.sink(wanted).await.expect("opens");
        let source = source_again(&world).await;
        let target_columns = sink.columns().await.expect("reads").expect("is there");
        let plans: Vec<_> = source
            .columns()
            .iter()
            .map(|column| {
                let held = sink.hold(column, target_columns.iter().find(|other| other.name == column.name));
                dmg_protocol::ColumnPlan {
                    source: column.name.clone(),
                    sink: column.name.clone(),
                    kind: held.kind,
                    source_type: column.type_name.clone(),
                    sink_type: held.type_name,
                    key: false,
                    required: false,
                    verdict: held.verdict,
                    reason: held.reason,
                }
            })
            .collect();
        sink.plan(&plans).await.expect("plans");
        sink.begin().await.expect("begins");
        let mut writer = sink.part(0).await.expect("starts");
        for batch in crate::support::read_all(source.as_ref(), crate::support::LIMITS).await.expect("reads") {
            writer.write(batch).await.expect("writes");
        }
        writer.finish().await.expect("ends");
        assert_eq!(world.run(&format!("SHOW COLUMNS FROM {target}")).lines().count(), 1, "nothing before the commit");
        sink.commit(&dmg_connector::MarkContent { rows: 1, digest: String::new() }).await.expect("commits");
        assert_eq!(world.run(&format!("SELECT id, more FROM {target} ORDER BY id")), rows);
    }
}
