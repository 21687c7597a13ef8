//! Upsert, slices, procedures that take rows, and columns that are added. Needs a server (DMG_TEST_POSTGRES).

use crate::support::{World, code, content, copy, plan, request, stage, table, text};
use dmg_ambient::Ambient;
use dmg_connector::{Result, Sink, SinkRequest, Source};
use dmg_protocol::job::{ProcedureParameter, Slice, WriteProcedure};
use dmg_protocol::{ColumnPlan, CommitShape, Epoch, WriteMode};

fn fresh(table: &str, mode: WriteMode) -> SinkRequest {
    request(&Ambient::real().uuid(), 1, table, mode)
}

fn upsert(table: &str, keys: &[&str]) -> SinkRequest {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    SinkRequest { keys, ..fresh(table, WriteMode::Upsert) }
}

async fn run(world: &World, from: &str, request: SinkRequest) -> Result<()> {
    let source = world.source(table(from), 1, 50_000).await?;
    let mut sink = world.sink(request).await?;
    let done = copy(source.as_ref(), sink.as_mut()).await.map(drop);
    if done.is_err() {
        sink.abort().await?;
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_replaced_by_key() {
    let Some(world) = World::new("upsert").await else { return };
    let old = "INSERT INTO {t} SELECT 'old', 'kept', g, 'k' || g FROM generate_series(1, 10) g";
    world
        .run(
            "CREATE TABLE src AS SELECT 'new'::text AS name, g AS a, 'k' || g AS b FROM generate_series(6, 15) g; \
             CREATE TABLE keyed (name text, other text, a int, b text, PRIMARY KEY (b, a)); \
             CREATE TABLE uniquely (name text, other text, a int, b text); CREATE UNIQUE INDEX ON uniquely (a); \
             CREATE TABLE keyless (name text, other text, a int, b text); \
             CREATE TABLE deferred (name text, other text, a int UNIQUE DEFERRABLE INITIALLY DEFERRED, b text)",
        )
        .await;
    for (to, keys) in [
        ("keyed", &[][..]),
        ("keyed", &["a", "b"]),
        ("uniquely", &["a"]),
        ("keyless", &["b", "a"]),
        ("deferred", &["a"]),
    ] {
        world.run(&format!("DELETE FROM {to}")).await;
        world.run(&old.replace("{t}", to)).await;
        for _ in 0..2 {
            run(&world, "src", upsert(to, keys)).await.expect(to);
            let found = world
                .value(&format!("SELECT string_agg(concat_ws(' ', a, name, other), ',' ORDER BY a) FROM {to}"))
                .await;
            assert_eq!(
                found,
                "1 old kept,2 old kept,3 old kept,4 old kept,5 old kept,6 new kept,7 new kept,8 new kept,9 new kept,\
                 10 new kept,11 new,12 new,13 new,14 new,15 new",
                "{to}"
            );
        }
    }
    // Rows that are nothing but a key.
    world
        .run(
            "CREATE TABLE ids AS SELECT a FROM src; CREATE TABLE lone (a int PRIMARY KEY); INSERT INTO lone VALUES (7)",
        )
        .await;
    run(&world, "ids", upsert("lone", &[])).await.expect("copies");
    assert_eq!(world.value("SELECT count(*) FROM lone").await, "10");
    // Into a table that is made, the key is its key.
    run(&world, "src", SinkRequest { create_table: true, ..upsert("made", &["a"]) }).await.expect("copies");
    run(&world, "src", upsert("made", &[])).await.expect("by the primary key it got");
    assert_eq!(world.value("SELECT count(*) FROM made").await, "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_do_not_identify_are_refused() {
    let Some(world) = World::new("unfit_keys").await else { return };
    world
        .run(
            "CREATE TABLE doubled (a int, b text, c text); INSERT INTO doubled VALUES (1, 'x', ''), (2, 'y', ''), (1, 'x', ''); \
             CREATE TABLE holes (a int, b text, c text); INSERT INTO holes VALUES (NULL, 'x', ''); \
             CREATE TABLE keyed (a int, b text, c text, UNIQUE (a, b)); CREATE TABLE keyless (a int, b text, c text); \
             INSERT INTO keyed VALUES (1, 'x', 'old'); INSERT INTO keyless VALUES (1, 'x', 'old')",
        )
        .await;
    for to in ["keyed", "keyless"] {
        let words = text(run(&world, "doubled", upsert(to, &["a", "b"])).await);
        assert!(words.starts_with("UserErrorDuplicateKey: 2 rows") && words.contains("a = 1, b = x"), "{words}");
        let words = text(run(&world, "holes", upsert(to, &["a", "b"])).await);
        assert!(words.starts_with("UserErrorValue") && words.contains("key column \"a\""), "{words}");
        assert_eq!(world.value(&format!("SELECT string_agg(c, ',') FROM {to}")).await, "old");
    }
    assert_eq!(code(run(&world, "doubled", upsert("keyless", &[])).await), "UserErrorSettings");
    assert_eq!(code(run(&world, "doubled", upsert("keyed", &["nope"])).await), "UserErrorColumnMissing");
    assert_eq!(world.value("SELECT count(*) FROM pg_class WHERE relname ~ '^_dmg_'").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_is_replaced_in_bytes_and_in_text() {
    let Some(world) = World::new("slices").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT g AS id FROM generate_series(1, 10) g; \
             CREATE TABLE bytes (id int, slice bytea); CREATE TABLE texts (id int, slice varchar(64)); \
             CREATE TABLE numbers (id int, slice int); CREATE TABLE less (id int); \
             INSERT INTO bytes VALUES (0, NULL), (1, '\\xbb'); INSERT INTO texts VALUES (0, NULL), (1, 'bb')",
        )
        .await;
    let slice = |to: &str, column: &str, value: &str| {
        let slice = Some(Slice { column: column.to_owned(), value: value.repeat(32) });
        SinkRequest { slice, ..fresh(to, WriteMode::Slice) }
    };
    for to in ["bytes", "texts"] {
        for value in ["aa", "cc", "aa"] {
            run(&world, "src", slice(to, "slice", value)).await.expect(to);
        }
        assert_eq!(world.value(&format!("SELECT count(*) FROM {to}")).await, "22", "{to}");
    }
    assert_eq!(world.value("SELECT count(*) FROM bytes WHERE slice = decode(repeat('aa', 32), 'hex')").await, "10");
    assert_eq!(world.value("SELECT count(*) FROM texts WHERE slice = repeat('cc', 32)").await, "10");
    assert_eq!(code(run(&world, "src", slice("numbers", "slice", "aa")).await), "UserErrorSchemaMismatch");
    assert_eq!(code(run(&world, "src", slice("less", "slice", "aa")).await), "UserErrorColumnMissing");
    assert_eq!(code(run(&world, "src", slice("bytes", "slice", "'; DROP TABLE bytes; --")).await), "UserErrorSettings");
    // A table that is made has the column, and its rows the value.
    run(&world, "src", SinkRequest { create_table: true, ..slice("made", "part", "dd") }).await.expect("copies");
    run(&world, "src", slice("made", "part", "ee")).await.expect("copies");
    run(&world, "src", slice("made", "part", "dd")).await.expect("copies");
    assert_eq!(world.value("SELECT count(*) || '/' || count(DISTINCT part) FROM made").await, "20/2");
}

#[tokio::test(flavor = "multi_thread")]
async fn routines_take_rows() {
    let Some(world) = World::new("takes").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT g::bigint AS id, 'it''s ' || g AS name FROM generate_series(1, 2000) g; \
             CREATE TABLE sink (id bigint, name text, batch text); CREATE SCHEMA etl; \
             CREATE PROCEDURE etl.\"Put It\"(name text, id bigint, batch text, INOUT done int DEFAULT 0) LANGUAGE plpgsql AS \
              'BEGIN INSERT INTO sink VALUES ($2, $1, $3); done := 1; END'; \
             CREATE FUNCTION put(id bigint, name text) RETURNS void LANGUAGE plpgsql AS \
              'BEGIN IF id = 1500 THEN RAISE ''no''; END IF; INSERT INTO sink VALUES ($1, $2); END'; \
             CREATE PROCEDURE ending(id bigint, name text) LANGUAGE plpgsql AS \
              'BEGIN INSERT INTO sink VALUES ($1, $2); COMMIT; END'",
        )
        .await;
    let procedure = |name: &str, fixed: &[(&str, &str)]| {
        let parameters = fixed.iter().map(|(name, value)| ProcedureParameter {
            name: (*name).to_owned(),
            type_name: None,
            value: Some((*value).to_owned()),
        });
        let parameters = parameters.collect();
        let procedure = WriteProcedure { name: name.to_owned(), table_type: None, table_parameter: None, parameters };
        SinkRequest { procedure: Some(procedure), ..fresh("sink", WriteMode::Procedure) }
    };
    let source = world.source(table("src"), 1, 50_000).await.expect("opens");
    let mut sink = world.sink(procedure("[etl].[Put It]", &[("batch", "b'1"), ("done", "7")])).await.expect("opens");
    let target = sink.columns().await.expect("reads").expect("parameters");
    let names: Vec<&str> = target.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["name", "id"], "the parameters that rows fill");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    assert_eq!(world.value("SELECT count(*) FROM sink").await, "0");
    sink.commit(&content(&sums)).await.expect("commits");
    assert_eq!(
        world.value("SELECT count(*) FROM (SELECT id, name, 'b''1' FROM src EXCEPT ALL TABLE sink) x").await,
        "0"
    );

    for (name, expected) in [("put", "UserErrorValue"), ("ending", ""), ("nope", "UserErrorProcedureMissing")] {
        let failure = code(run(&world, "src", procedure(name, &[])).await);
        assert!(failure != "no failure" && failure.contains(expected), "{name}: {failure}");
    }
    assert_eq!(code(run(&world, "src", procedure("put", &[("other", "1")])).await), "UserErrorSettings");
    assert_eq!(world.value("SELECT count(*) FROM sink").await, "2000", "all or nothing");
    assert_eq!(world.value("SELECT count(*) FROM pg_class WHERE relname ~ '^_dmg_'").await, "0");
}

/// Plans every column of the source, those the target lacks as new ones.
async fn with_new_columns(source: &dyn Source, sink: &mut dyn Sink) -> Result<dmg_connector::SinkPlan> {
    let target = sink.columns().await?.expect("a table");
    let plans: Vec<ColumnPlan> = source
        .columns()
        .iter()
        .map(|column| {
            let held = sink.hold(column, target.iter().find(|found| found.name == column.name));
            ColumnPlan {
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
    sink.plan(&plans).await
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_with_the_rows() {
    let Some(world) = World::new("drift").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT g AS id, 'x'::text AS \"new one\", g * 2.5::numeric(10,2) AS price \
              FROM generate_series(1, 100) g; ALTER TABLE src ALTER price TYPE numeric(10,2); \
             CREATE TABLE dst (id int PRIMARY KEY, old text); INSERT INTO dst VALUES (0, 'kept')",
        )
        .await;
    let columns = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ',' ORDER BY attnum) \
         FROM pg_attribute WHERE attrelid = 'dst'::regclass AND attnum > 0 AND NOT attisdropped";
    for (mode, shape, rows) in [
        (WriteMode::Append, CommitShape::Staged, "101"),
        (WriteMode::Overwrite, CommitShape::Swap, "100"),
        (WriteMode::Upsert, CommitShape::Staged, "101"),
    ] {
        world
            .run("DROP TABLE dst; CREATE TABLE dst (id int PRIMARY KEY, old text); INSERT INTO dst VALUES (0, 'kept')")
            .await;
        let source = world.source(table("src"), 1, 50_000).await.expect("opens");
        let mut sink = world.sink(SinkRequest { add_columns: true, ..fresh("dst", mode) }).await.expect("opens");
        let planned = with_new_columns(source.as_ref(), sink.as_mut()).await.expect("plans");
        assert_eq!(planned.shape, shape);
        assert!(planned.notices.iter().any(|notice| notice.contains("\"new one\"")), "{:?}", planned.notices);
        sink.begin().await.expect("begins");
        let mut writer = sink.part(0).await.expect("starts");
        let mut taken = 0;
        for batch in crate::support::read_all(source.as_ref(), crate::support::LIMITS).await.expect("reads") {
            taken += batch.num_rows() as u64;
            writer.write(batch).await.expect("writes");
        }
        writer.finish().await.expect("ends");
        assert_eq!(world.value(columns).await, "id integer,old text", "nothing before the commit");
        let content = dmg_connector::MarkContent { rows: taken, digest: String::new() };
        sink.commit(&content).await.expect("commits");
        assert_eq!(world.value(columns).await, "id integer,old text,new one text,price numeric(10,2)");
        assert_eq!(world.value("SELECT count(*) FROM dst").await, rows);
        assert_eq!(world.value("SELECT sum(price) FROM dst").await, "12625.00");
    }
    // Not asked for, it is refused before anything is made.
    let source = world.source(table("src"), 1, 50_000).await.expect("opens");
    world.run("ALTER TABLE dst DROP COLUMN price").await;
    let mut sink = world.sink(fresh("dst", WriteMode::Append)).await.expect("opens");
    assert_eq!(code(with_new_columns(source.as_ref(), sink.as_mut()).await), "UserErrorColumnMissing");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_staged_for_a_routine_are_taken_over() {
    let Some(world) = World::new("takes_over").await else { return };
    let function = "CREATE FUNCTION put(id bigint) RETURNS void LANGUAGE sql AS 'SELECT'";
    world.run(&format!("CREATE TABLE src AS SELECT 1::bigint AS id; {function}")).await;
    let source = world.source(table("src"), 1, 1000).await.expect("opens");
    let run = Ambient::real().uuid();
    for (epoch, from) in [(1, None), (2, Some(Epoch(1)))] {
        let procedure =
            WriteProcedure { name: "put".into(), table_type: None, table_parameter: None, parameters: Vec::new() };
        let wanted = request(&run, epoch, "sink", WriteMode::Procedure);
        let mut sink = world.sink(SinkRequest { procedure: Some(procedure), ..wanted }).await.expect("opens");
        plan(source.as_ref(), sink.as_mut()).await.expect("plans");
        assert_eq!(sink.resume("read made").await.expect("begins").from, from);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_lasts_also_where_others_need_not() {
    let Some(world) = World::new("lasting").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT 1::bigint AS id; CREATE TABLE dst (id bigint); CREATE TABLE seen (how text); \
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS \
              'BEGIN INSERT INTO seen VALUES (current_setting(''synchronous_commit'')); RETURN NEW; END'; \
             CREATE TRIGGER looks BEFORE INSERT ON dst FOR EACH ROW EXECUTE FUNCTION look()",
        )
        .await;
    for (of_the_database, expected) in [("off", "on"), ("local", "local")] {
        let alter = format!("ALTER DATABASE %I SET synchronous_commit = {of_the_database}");
        world
            .run(&format!("DO $$ BEGIN EXECUTE format('{alter}', current_database()); END $$; DELETE FROM seen"))
            .await;
        run(&world, "src", fresh("dst", WriteMode::Append)).await.expect("copies");
        assert_eq!(world.value("SELECT how FROM seen").await, expected);
    }
}
