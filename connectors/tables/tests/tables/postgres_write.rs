//! Writing PostgreSQL: all types there and back, append, overwrite, the mark, fences and zombies. Needs a server
//! (DMG_TEST_POSTGRES).

use crate::support::{World, code, content, copy, plan, request, stage, table, text};
use dmg_ambient::TaskGroup;
use dmg_connector::MarkState;
use dmg_protocol::{Epoch, Verdict, WriteMode};

const RUN: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const OTHER: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

const WIDE: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'ok', 'quote''d "x"');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN label AS varchar(10);
CREATE TABLE wide (
  id bigint PRIMARY KEY, b boolean, i2 smallint, i4 int, i8 bigint, o oid, f4 real, f8 double precision,
  n1 numeric(38,10), n2 numeric, n3 numeric(15,2), n4 numeric(50,20), t text, v varchar(40), c char(8), nm name,
  ch "char", by bytea, d date, tm time, tm3 time(3), tz timetz, ts timestamp, ts0 timestamp(0), tstz timestamptz, iv interval,
  u uuid, j json, jb jsonb, m money, x xml, inet inet, cidr cidr, mac macaddr, bit bit(5), vbit bit varying,
  pt point, poly polygon, tsv tsvector, tsq tsquery, r int4range, mr nummultirange, nr numrange, ia int[], ta text[], na numeric[], fa float8[],
  ma int[][], e mood, ea mood[], p pair, dp positive, dl label, lsn pg_lsn, jp jsonpath
);
INSERT INTO wide VALUES
 (1, true, -32768, -2147483648, -9223372036854775808, 0, 'NaN', 'NaN', '-9999999999999999999999999999.9999999999',
  'NaN', -0.01, '123456789012345678901234567890.12345678901234567890', '', '', '', '', 'a', '', '0001-01-01', '00:00:00', '01:02:03.004', '00:00:00+15:59',
  '0001-01-01', '9999-12-31 23:59:59', '0001-01-01 00:00:00+00', '-178000000 years', '00000000-0000-0000-0000-000000000000', '{"a" :  1, "a": 2}', '{"a": 1, "b": [null, "é"]}',
  '-92233720368547758.08', '<a>1</a>', '::1/128', '10.0.0.0/8', '08:00:2b:01:02:03', B'10101', B'1', '(1.5,-2)', '((0,0),(1,1),(1,0))', 'a fat cat', 'fat & cat',
  '[1,10)', '{[1,2),[3,4)}', '(,5]', '{1,NULL,3}', ARRAY['a,b', 'q"x', NULL, '', E'n\nl'], '{1.10,NaN}', '{0.1,Infinity}', '{{1,2},{3,4}}', 'sad', '{sad,ok}', '(1,"x y")', 1, 'label', '16/B374D848', '$.a[*]'),
 (2, false, 32767, 2147483647, 9223372036854775807, 4294967295, '-Infinity', '-Infinity', '0.0000000001', 'Infinity', 9999999999999.99, 0,
  E'line\nbreak\ttab\\back\r"quote" ,comma;|', E'emoji 🎉 \\N', 'ab   ', 'name', 'Z', '\x00ff5c0a09', '9999-12-31', '24:00:00', '24:00', '23:59:59.999999-15:59',
  '9999-12-31 23:59:59.999999', '2024-02-29 12:00:00', '294246-01-01 00:00:00+00', '1 year 2 mons -3 days 04:05:06.789', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '[1,2.50,"\u00e9"]', '[1.0, 1.00]',
  '12.34', 'text only', '192.168.0.1', '::/0', 'ff:ff:ff:ff:ff:ff', B'00000', B'', '(Infinity,NaN)', '((0,0))', '', '''a''', 'empty', '{}', 'empty', '{}', '{}', '{}', '{}', '{}', 'quote''d "x"', '{}', '(,)', 2147483647, '', '0/0', 'strict $'),
 (3, NULL, NULL, NULL, NULL, NULL, '-0', '-0', NULL, '-Infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'infinity', NULL, NULL, NULL, 'infinity', NULL, '-infinity',
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (4, true, 0, 0, 0, 1, 1.17549435e-38, 2.2250738585072014e-308, 1, 1.000000000000000000000000000000000000000000000000001, 0, 1e-20, '\N', 'NULL', 'pad     ', '\', '"', '\x', '4713-01-01 BC',
  '12:34:56.000001', '12:00', '12:00:00+00', '4713-01-01 00:00:00 BC', '0044-03-15 01:02:03 BC', '0044-03-15 01:02:03.5+00 BC', '0', '01234567-89ab-cdef-0123-456789abcdef', 'null', 'null',
  '0', '', '0.0.0.0/0', '1.2.3.0/24', '00:00:00:00:00:00', B'11111', B'0101010101', '(-0,0)', '((0,0),(0,0))', '''it''''s'':1A', '!x', '(,)', '{(,)}', '[0.5,0.5]', '[5:6]={7,8}', '{NULL,"NULL"}',
  '{1e100}', '{1e-300,-0}', '{{NULL}}', 'ok', '{"quote''d \"x\""}', '(,"")', 7, 'ten chars!', 'FFFFFFFF/FFFFFFFF', '$')
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_type_goes_there_and_back() {
    let Some(world) = World::new("wide").await else { return };
    world.run(WIDE).await;
    world.run("CREATE TABLE arrived (LIKE wide INCLUDING ALL)").await;
    let source = world.source(table("wide"), 2, 100_000).await.expect("opens");
    let mut sink = world.sink(request(RUN, 1, "arrived", WriteMode::Append)).await.expect("opens");
    let plans = plan(source.as_ref(), sink.as_mut()).await.expect("plans");
    for plan in &plans {
        let named = matches!(plan.sink.as_str(), "dp" | "dl");
        assert!(plan.verdict == Verdict::Exact || named, "column {} is {}", plan.sink, plan.verdict);
    }
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    for (a, b) in [("wide", "arrived"), ("arrived", "wide")] {
        let differing =
            format!("SELECT count(*) FROM (SELECT w::text FROM {a} w EXCEPT ALL SELECT w::text FROM {b} w) x");
        assert_eq!(world.value(&differing).await, "0", "{a} against {b}");
    }
    assert_eq!(world.value("SELECT count(*) FROM arrived").await, "4");
}

/// Those columns whose types have a binary form of ours: everything else makes the whole COPY text.
const PLAIN: &str = "id, b, i2, i4, i8, o, f4, f8, n1, n2, n3, n4, t, v, c, nm, by, d, tm, tm3, ts, ts0, tstz, u, j, jb, \
     dp, dl";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_with_a_binary_form_goes_there_and_back() {
    let Some(world) = World::new("plain").await else { return };
    world.run(WIDE).await;
    world.run(&format!("CREATE TABLE plain AS SELECT {PLAIN} FROM wide; CREATE TABLE arrived (LIKE plain)")).await;
    // A new table gets a wider type than oid.
    world.run("CREATE TABLE other AS SELECT * FROM plain; ALTER TABLE other DROP COLUMN o").await;
    for (plain, mode, to) in [
        ("plain", WriteMode::Append, "arrived"),
        ("plain", WriteMode::Overwrite, "arrived"),
        ("other", WriteMode::Append, "new"),
    ] {
        let source = world.source(table(plain), 2, 100_000).await.expect("opens");
        let mut wanted = request(&dmg_ambient::Ambient::real().uuid(), 1, to, mode);
        wanted.create_table = true;
        let mut sink = world.sink(wanted).await.expect("opens");
        copy(source.as_ref(), sink.as_mut()).await.expect("copies");
        for (a, b) in [(plain, to), (to, plain)] {
            let rows = |table: &str| format!("SELECT w::text FROM {table} w");
            let differing = format!("SELECT count(*) FROM ({} EXCEPT ALL {}) x", rows(a), rows(b));
            assert_eq!(world.value(&differing).await, "0", "{a} against {b}");
        }
        assert_eq!(world.value(&format!("SELECT count(*) FROM {to}")).await, "4");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_created_by_the_commit() {
    let Some(world) = World::new("created").await else { return };
    world
        .run(
            "CREATE TABLE t (id bigint, v varchar(7), c char(3), n numeric(12,3), d date, u uuid, j jsonb, f real); \
             INSERT INTO t SELECT g, 'v' || g, 'c', g / 7.0, '2024-01-01', gen_random_uuid(), '{}', g FROM generate_series(1, 5000) g",
        )
        .await;
    let source = world.source(table("t"), 1, 1000).await.expect("opens");
    assert_eq!(code(world.sink(request(RUN, 1, "new", WriteMode::Overwrite)).await), "UserErrorTableMissing");
    let mut wanted = request(RUN, 1, "new", WriteMode::Overwrite);
    wanted.create_table = true;
    let mut sink = world.sink(wanted).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    assert_eq!(world.value("SELECT to_regclass('new')").await, "NULL", "nothing before the commit");
    sink.commit(&content(&sums)).await.expect("commits");
    assert_eq!(world.value("SELECT count(*) FROM (TABLE t EXCEPT ALL TABLE new) x").await, "0");
    assert_eq!(world.value("SELECT count(*) FROM new").await, "5000");
}

async fn numbers(world: &World) {
    world
        .run(
            "CREATE TABLE src AS SELECT g::bigint AS id, 'new'::text AS origin FROM generate_series(1, 20000) g; \
             CREATE TABLE dst (id bigint, origin text, added timestamptz NOT NULL DEFAULT now(), \
             doubled bigint GENERATED ALWAYS AS (id * 2) STORED); INSERT INTO dst VALUES (0, 'old')",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_then_the_same_run_again() {
    let Some(world) = World::new("append").await else { return };
    numbers(&world).await;
    let source = world.source(table("src"), 2, 5000).await.expect("opens");
    let mut sink = world.sink(request(RUN, 1, "dst", WriteMode::Append)).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "1", "nothing before the commit");
    let committed = sink.commit(&content(&sums)).await.expect("commits");
    assert_eq!((committed.rows, committed.epoch), (20_000, Epoch(1)));
    assert_eq!(world.value("SELECT count(*) || '/' || sum(doubled) FROM dst").await, "20001/400020000");
    assert_eq!(sink.commit(&content(&sums)).await.expect("again"), committed);
    let successor = world.sink(request(RUN, 2, "dst", WriteMode::Append)).await.expect("opens");
    assert_eq!(successor.mark().await.expect("reads"), MarkState::Committed(committed));
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "20001");
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE '\\_dmg\\_%' AND relkind = 'r'";
    assert_eq!(world.value(left).await, "0", "no staging left");

    // Another run appends once more, and the first run still finds its own mark afterwards.
    let source = world.source(table("src"), 2, 5000).await.expect("opens");
    let mut second = world.sink(request(OTHER, 1, "dst", WriteMode::Append)).await.expect("opens");
    copy(source.as_ref(), second.as_mut()).await.expect("copies");
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "40001");
    assert!(matches!(successor.mark().await.expect("reads"), MarkState::Committed(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn overwrite_is_seen_whole_or_not_at_all() {
    let Some(world) = World::new("overwrite").await else { return };
    numbers(&world).await;
    let mut tasks = TaskGroup::new();
    let reader = world.another(&mut tasks).await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dst").await.expect("reads");
    let source = world.source(table("src"), 2, 5000).await.expect("opens");
    let mut wanted = request(RUN, 1, "dst", WriteMode::Overwrite);
    wanted.pre_copy_script = Some("CREATE TABLE noted AS SELECT count(*) AS n FROM dst; SELECT 1".to_owned());
    let mut sink = world.sink(wanted).await.expect("opens");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    let row = reader.query_one("SELECT count(*) FROM dst", &[]).await.expect("reads");
    assert_eq!(row.get::<_, i64>(0), 1, "the older snapshot still sees the old content");
    assert_eq!(world.value("SELECT count(*) || origin FROM dst GROUP BY origin").await, "20000new");
    assert_eq!(world.value("SELECT n FROM noted").await, "1", "the script ran before, in the same transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_refuses_changes_nothing() {
    let Some(world) = World::new("refused").await else { return };
    numbers(&world).await;
    world
        .run(
            "CREATE TABLE short (id bigint, origin varchar(2)); CREATE TABLE required (id bigint, origin text NOT NULL); \
             CREATE TABLE keyed (id bigint PRIMARY KEY, origin text); INSERT INTO keyed VALUES (5, 'old'); \
             CREATE TABLE dropping (id bigint, origin text); \
             CREATE FUNCTION drop_some() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN IF NEW.id % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END'; \
             CREATE TRIGGER t BEFORE INSERT ON dropping FOR EACH ROW EXECUTE FUNCTION drop_some(); \
             CREATE TABLE holes AS SELECT id, nullif(origin, 'new') AS origin FROM src",
        )
        .await;
    for (from, to, expected, naming) in [
        ("src", "short", "UserErrorValue", "\"origin\" (character varying(2))"),
        ("holes", "required", "UserErrorValue", "column \"origin\""),
        ("src", "keyed", "UserErrorDuplicateKey", "\"keyed_pkey\", key (id)=(5)"),
        ("src", "dropping", "SystemErrorVerification", "10000 rows where 20000"),
    ] {
        let source = world.source(table(from), 1, 5000).await.expect("opens");
        let mut sink = world.sink(request(RUN, 1, to, WriteMode::Append)).await.expect("opens");
        let before = world.value(&format!("SELECT count(*) FROM {to}")).await;
        let failure = copy(source.as_ref(), sink.as_mut()).await;
        let words = text(failure);
        assert!(words.starts_with(expected) && words.contains(naming), "{to}: {words}");
        assert!(!words.contains("new"), "{words}");
        sink.abort().await.expect("cleans up");
        assert_eq!(world.value(&format!("SELECT count(*) FROM {to}")).await, before);
    }
    let mut wanted = request(RUN, 1, "dst", WriteMode::Append);
    wanted.pre_copy_script = Some("COMMIT; BEGIN".to_owned());
    let source = world.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = world.sink(wanted).await.expect("opens");
    assert_eq!(code(copy(source.as_ref(), sink.as_mut()).await), "UserErrorSettings");
    sink.abort().await.expect("cleans up");
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "1");
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE '\\_dmg\\_%' AND relkind = 'r'";
    assert_eq!(world.value(left).await, "0", "no staging left");
    assert_eq!(world.value("SELECT count(*) FROM __dmg_commit").await, "0", "no mark");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_ends_its_predecessor() {
    let Some(world) = World::new("zombie").await else { return };
    numbers(&world).await;
    let source = world.source(table("src"), 2, 5000).await.expect("opens");
    let mut zombie = world.sink(request(RUN, 1, "dst", WriteMode::Append)).await.expect("opens");
    let sums = stage(source.as_ref(), zombie.as_mut()).await.expect("stages");
    // A session of the zombie that holds a lock on the target, as one stuck in its commit would.
    let mut tasks = TaskGroup::new();
    let stuck = world.another(&mut tasks).await;
    stuck
        .batch_execute(&format!("SET application_name = 'dmg/{RUN}/1'; BEGIN; LOCK TABLE dst IN ACCESS EXCLUSIVE MODE"))
        .await
        .expect("locks");

    let source = world.source(table("src"), 2, 5000).await.expect("opens");
    let mut successor = world.sink(request(RUN, 2, "dst", WriteMode::Append)).await.expect("opens");
    let read = stage(source.as_ref(), successor.as_mut()).await.expect("stages");
    assert!(stuck.batch_execute("SELECT 1").await.is_err(), "the stuck session was ended");
    assert_eq!(code(zombie.commit(&content(&sums)).await), "SystemErrorLeaseLost");
    assert_eq!(zombie.mark().await.expect("reads"), MarkState::Newer(Epoch(2)));
    successor.commit(&content(&read)).await.expect("commits");
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "20001");
    assert_eq!(code(zombie.commit(&content(&sums)).await), "no failure", "finds the mark and says the same");
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "20001");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_on_one_target_never_mix() {
    let Some(world) = World::new("two").await else { return };
    numbers(&world).await;
    let mut staged = Vec::new();
    for run in [RUN, OTHER] {
        let source = world.source(table("src"), 1, 5000).await.expect("opens");
        let mut sink = world.sink(request(run, 1, "dst", WriteMode::Overwrite)).await.expect("opens");
        let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
        staged.push((sink, content(&sums)));
    }
    let [(a, for_a), (b, for_b)] = staged.as_slice() else { panic!("two") };
    let (a, b) = tokio::join!(a.commit(for_a), b.commit(for_b));
    a.expect("commits");
    b.expect("commits");
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "20000", "one after the other, never both");
    assert_eq!(world.value("SELECT count(*) FROM __dmg_commit").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_other_writers() {
    let Some(world) = World::new("waits").await else { return };
    numbers(&world).await;
    let source = world.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = world.sink(request(RUN, 1, "dst", WriteMode::Overwrite)).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    let mut tasks = TaskGroup::new();
    let other = world.another(&mut tasks).await;
    other.batch_execute("BEGIN; LOCK TABLE dst IN EXCLUSIVE MODE").await.expect("locks");
    let ambient = dmg_ambient::Ambient::real();
    let content = content(&sums);
    let commit = sink.commit(&content);
    let release = async {
        ambient.sleep(std::time::Duration::from_millis(500)).await;
        other.batch_execute("ROLLBACK").await.expect("lets go");
    };
    let (committed, ()) = tokio::join!(commit, release);
    committed.expect("commits once the other lets go");
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "20000");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_left_is_cleared_away() {
    let Some(world) = World::new("orphan").await else { return };
    numbers(&world).await;
    let mut dead = Vec::new();
    for run in [OTHER, "00000000-0000-4000-8000-000000000001"] {
        let source = world.source(table("src"), 1, 5000).await.expect("opens");
        let mut sink = world.sink(request(run, 1, "dst", WriteMode::Append)).await.expect("opens");
        stage(source.as_ref(), sink.as_mut()).await.expect("stages");
        dead.push(sink);
    }
    let alive = dead.pop().expect("two");
    drop(dead);
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dmg/{OTHER}/1' AND datname = current_database()"
    );
    let ambient = dmg_ambient::Ambient::real();
    let deadline = ambient.uptime() + std::time::Duration::from_secs(20);
    while world.value(&sessions).await != "0" {
        assert!(ambient.uptime() < deadline, "the sessions do not end");
        ambient.sleep(std::time::Duration::from_millis(20)).await;
    }
    let source = world.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = world.sink(request(RUN, 1, "dst", WriteMode::Append)).await.expect("opens");
    stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    let left =
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relname ~ '^_dmg_' AND relkind = 'r'";
    let alone = "_dmg_000000000000_1 _dmg_000000000000_1_parts _dmg_0f8fad5bd9cb_1 _dmg_0f8fad5bd9cb_1_parts";
    assert_eq!(world.value(left).await, alone, "only those who still work");
    alive.abort().await.expect("cleans up");
}
