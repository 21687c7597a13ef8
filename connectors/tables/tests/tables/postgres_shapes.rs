//! How rows get into the target: swapped, staged or direct, and what a swapped table keeps. Needs a server
//! (DMG_TEST_POSTGRES); psql's own catalog functions judge.

use crate::support::{LIMITS, World, code, content, copy, digest, request, stage, table, text};
use arrow_array::RecordBatch;
use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::{Digester, MarkState, Result, Sink, SinkPlan, SinkRequest, Source, Sums, published_seed};
use dmg_protocol::{ColumnPlan, CommitShape, Epoch, WriteMode};
use futures::StreamExt;

const RUN: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn fresh() -> String {
    Ambient::real().uuid()
}

/// The planned columns, with what the source knows of keys.
fn planned(source: &dyn Source, sink: &dyn Sink, target: Option<&[dmg_connector::Column]>) -> Vec<ColumnPlan> {
    let column = |column: &dmg_connector::Column| {
        let found = target.map(|columns| columns.iter().find(|found| found.name == column.name).expect("a column"));
        let held = sink.hold(column, found);
        ColumnPlan {
            source: column.name.clone(),
            sink: column.name.clone(),
            kind: held.kind,
            source_type: column.type_name.clone(),
            sink_type: held.type_name,
            key: column.key,
            required: !column.nullable,
            verdict: held.verdict,
            reason: held.reason,
        }
    };
    source.columns().iter().map(column).collect()
}

async fn plan(source: &dyn Source, sink: &mut dyn Sink) -> Result<SinkPlan> {
    let target = sink.columns().await?;
    let columns = planned(source, sink, target.as_deref());
    sink.plan(&columns).await
}

async fn write(source: &dyn Source, sink: &mut dyn Sink) -> Result<(Sums, Option<Sums>)> {
    sink.begin().await?;
    let mut digester = Digester::new(source.columns(), published_seed());
    let mut decoded: Option<Sums> = None;
    for part in source.parts() {
        let mut writer = sink.part(part.index).await?;
        let mut stream = source.read(part, LIMITS).await?;
        while let Some(batch) = stream.next().await {
            let batch: RecordBatch = batch?;
            digester.update(&batch)?;
            writer.write(batch).await?;
        }
        if let Some(part) = writer.finish().await?.decoded {
            decoded.get_or_insert_with(Sums::default).merge(&part);
        }
    }
    source.finish().await?;
    Ok((digester.finish(), decoded))
}

/// Everything `psql \d+` would show of a table, and what is in it.
async fn described(world: &World, table: &str) -> String {
    world
        .value(&format!(
            "SELECT string_agg(line, E'\\n' ORDER BY line) FROM ( \
             SELECT concat_ws(' ', 'column', attnum, attname, format_type(atttypid, atttypmod), attnotnull, attgenerated, \
              pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)) AS line FROM pg_attribute \
              LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum \
              WHERE attrelid = '{table}'::regclass AND attnum > 0 \
             UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
              WHERE conrelid = '{table}'::regclass \
             UNION ALL SELECT concat_ws(' ', pg_get_indexdef(indexrelid), obj_description(indexrelid, 'pg_class')) \
              FROM pg_index WHERE indrelid = '{table}'::regclass \
             UNION ALL SELECT 'comment ' || obj_description('{table}'::regclass, 'pg_class') \
             UNION ALL SELECT 'sequence ' || pg_get_serial_sequence('{table}', 'id')) lines"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_table_keeps_all_it_had() {
    let Some(world) = World::new("swap").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT g::bigint AS id, 'Name ' || g AS name, g % 7 AS kind FROM generate_series(1, 30000) g; \
             CREATE TABLE dst (id bigserial PRIMARY KEY, name text NOT NULL DEFAULT 'x' CHECK (name <> ''), kind int, \
              twice bigint GENERATED ALWAYS AS (id * 2) STORED, at timestamptz DEFAULT now(), \
              CONSTRAINT \"odd \"\" name\" UNIQUE (name) INCLUDE (kind)); \
             CREATE INDEX \"My Index\" ON dst USING btree (kind DESC, lower(name)) WHERE kind > 2; \
             CREATE UNIQUE INDEX plain_unique ON dst (id, kind); \
             COMMENT ON TABLE dst IS 'it''s mine'; COMMENT ON COLUMN dst.kind IS 'a kind'; \
             COMMENT ON INDEX \"My Index\" IS 'an index'; \
             INSERT INTO dst (id, name, kind) VALUES (1, 'old', 0)",
        )
        .await;
    let before = described(&world, "dst").await;
    assert!(before.contains("My Index") && before.contains("an index") && before.contains("dst_id_seq"), "{before}");
    let oid = world.value("SELECT 'dst'::regclass::oid").await;
    for _ in 0..2 {
        let source = world.source(table("src"), 2, 5000).await.expect("opens");
        let mut sink = world.sink(request(&fresh(), 1, "dst", WriteMode::Overwrite)).await.expect("opens");
        let planned = plan(source.as_ref(), sink.as_mut()).await.expect("plans");
        assert_eq!((planned.shape, planned.notices), (CommitShape::Swap, Vec::new()));
        copy(source.as_ref(), sink.as_mut()).await.expect("copies");
        assert_eq!(described(&world, "dst").await, before);
        assert_eq!(world.value("SELECT count(*) || '/' || sum(twice) FROM dst").await, "30000/900030000");
    }
    assert_ne!(world.value("SELECT 'dst'::regclass::oid").await, oid, "another table");
    let left = "SELECT count(*) FROM pg_class WHERE relname ~ '^_dmg_'";
    assert_eq!(world.value(left).await, "0", "nothing of the staging is left");
    assert_eq!(world.value("SELECT nextval('dst_id_seq') > 0").await, "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_others_depend_on_stays_the_same_table() {
    let Some(world) = World::new("obstacles").await else { return };
    world.run("CREATE TABLE src AS SELECT g::bigint AS id FROM generate_series(1, 100) g").await;
    world.run(&format!("CREATE ROLE {0}_r; CREATE TABLE other (id bigint PRIMARY KEY)", world.database)).await;
    let grant = format!("GRANT SELECT ON dst TO {}_r", world.database);
    for (make, obstacle) in [
        ("CREATE VIEW v AS SELECT id FROM dst", "used by other objects"),
        ("CREATE FUNCTION f(dst) RETURNS int LANGUAGE sql AS 'SELECT 1'", "used by other objects"),
        ("CREATE TABLE refers (id bigint REFERENCES dst)", "foreign keys"),
        ("ALTER TABLE dst ADD FOREIGN KEY (id) REFERENCES other NOT VALID", "foreign keys"),
        ("CREATE RULE r AS ON DELETE TO dst DO ALSO NOTHING", "rules"),
        ("ALTER TABLE dst ENABLE ROW LEVEL SECURITY", "row security"),
        ("CREATE PUBLICATION p FOR TABLE dst", "published"),
        (grant.as_str(), "rights"),
        ("ALTER TABLE dst ADD COLUMN n int GENERATED BY DEFAULT AS IDENTITY", "identity"),
        ("ALTER TABLE dst SET (fillfactor = 50)", "storage settings"),
        ("CLUSTER dst USING dst_pkey", "storage settings"),
        ("CREATE TABLE child () INHERITS (dst)", "table of its own"),
        (
            "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
             CREATE TRIGGER t BEFORE INSERT ON dst FOR EACH ROW EXECUTE FUNCTION t()",
            "triggers",
        ),
    ] {
        world.run("DROP TABLE IF EXISTS dst CASCADE; DROP TABLE IF EXISTS refers; DROP PUBLICATION IF EXISTS p").await;
        world.run("CREATE TABLE dst (id bigint PRIMARY KEY); INSERT INTO dst VALUES (0)").await;
        world.run(make).await;
        let oid = world.value("SELECT 'dst'::regclass::oid").await;
        let source = world.source(table("src"), 1, 5000).await.expect("opens");
        let mut sink = world.sink(request(&fresh(), 1, "dst", WriteMode::Overwrite)).await.expect("opens");
        let planned = plan(source.as_ref(), sink.as_mut()).await.expect("plans");
        assert_eq!(planned.shape, CommitShape::Staged, "{make}");
        assert!(planned.notices[0].contains(obstacle), "{make}: {:?}", planned.notices);
        if obstacle == "foreign keys" && make.starts_with("ALTER") {
            world.run("INSERT INTO other SELECT id FROM src").await;
        }
        copy(source.as_ref(), sink.as_mut()).await.expect(make);
        assert_eq!(world.value("SELECT count(*) FROM dst").await, "100", "{make}");
        assert_eq!(world.value("SELECT 'dst'::regclass::oid").await, oid, "{make}");
    }
    world.run(&format!("DROP TABLE dst CASCADE; DROP ROLE {}_r", world.database)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_target_takes_rows_too() {
    let Some(world) = World::new("partitioned").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT g::bigint AS id FROM generate_series(1, 100) g; \
             CREATE TABLE dst (id bigint) PARTITION BY RANGE (id); \
             CREATE TABLE low PARTITION OF dst FOR VALUES FROM (0) TO (50); CREATE TABLE high PARTITION OF dst DEFAULT",
        )
        .await;
    for mode in [WriteMode::Append, WriteMode::Overwrite] {
        let source = world.source(table("src"), 1, 5000).await.expect("opens");
        let mut sink = world.sink(request(&fresh(), 1, "dst", mode)).await.expect("opens");
        copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    }
    assert_eq!(world.value("SELECT count(*) || '/' || (SELECT count(*) FROM low) FROM dst").await, "100/49");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_the_plan_is_not_swapped_away() {
    let Some(world) = World::new("changed").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT g::bigint AS id FROM generate_series(1, 1000) g; \
             CREATE TABLE dst (id bigint, more text); INSERT INTO dst VALUES (0)",
        )
        .await;
    for change in
        ["CREATE INDEX late ON dst (id)", "CREATE VIEW v AS SELECT id FROM dst", "GRANT SELECT ON dst TO PUBLIC"]
    {
        let source = world.source(table("src"), 1, 5000).await.expect("opens");
        let mut sink = world.sink(request(&fresh(), 1, "dst", WriteMode::Overwrite)).await.expect("opens");
        let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
        let oid = world.value("SELECT 'dst'::regclass::oid").await;
        world.run(change).await;
        sink.commit(&content(&sums)).await.expect(change);
        assert_eq!(world.value("SELECT 'dst'::regclass::oid").await, oid, "{change}");
        assert_eq!(world.value("SELECT count(*) FROM dst").await, "1000");
    }
    // Readers that hold the table are not kept waiting for long, and keep what they saw.
    world.run("DROP VIEW v; REVOKE ALL ON dst FROM PUBLIC; DROP TABLE dst; CREATE TABLE dst (id bigint)").await;
    let source = world.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = world.sink(request(&fresh(), 1, "dst", WriteMode::Overwrite)).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    let mut tasks = TaskGroup::new();
    let reader = world.another(&mut tasks).await;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dst").await.expect("reads");
    sink.commit(&content(&sums)).await.expect("commits beside a reader");
    let row = reader.query_one("SELECT count(*) FROM dst", &[]).await.expect("reads");
    assert_eq!(row.get::<_, i64>(0), 0, "the old content, in the old snapshot");
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_has_the_source_s_keys() {
    let Some(world) = World::new("keys").await else { return };
    world
        .run(
            "CREATE TABLE src (a int NOT NULL, b text, c text NOT NULL, d text, PRIMARY KEY (b, a)); \
             INSERT INTO src SELECT g, 'b' || g, 'c', NULL FROM generate_series(1, 1000) g; \
             CREATE TABLE doubled AS SELECT * FROM src; INSERT INTO doubled SELECT * FROM src WHERE a = 77",
        )
        .await;
    let new = |name: &str| SinkRequest { create_table: true, ..request(&fresh(), 1, name, WriteMode::Append) };
    let source = world.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = world.sink(new("dst")).await.expect("opens");
    assert_eq!(plan(source.as_ref(), sink.as_mut()).await.expect("plans").shape, CommitShape::Swap);
    let (sums, _) = write(source.as_ref(), sink.as_mut()).await.expect("stages");
    let staged = sink.staged(2).await.expect("opens").expect("can be read");
    assert_eq!(digest(staged.as_ref(), source.columns()).await.expect("reads"), sums);
    drop(staged);
    sink.commit(&content(&sums)).await.expect("commits");
    let nullable = "SELECT string_agg(attname || attnotnull, ' ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = 'dst'::regclass AND attnum > 0";
    assert_eq!(world.value(nullable).await, "atrue btrue ctrue dfalse");
    let key = "SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'dst'::regclass";
    assert_eq!(world.value(key).await, "dst_pkey PRIMARY KEY (a, b)");

    // The claim of a key that does not hold is found before anything is there.
    let source = world.source(table("doubled"), 1, 5000).await.expect("opens");
    let mut sink = world.sink(new("dst2")).await.expect("opens");
    let mut columns = planned(source.as_ref(), sink.as_ref(), None);
    columns[0].key = true;
    sink.plan(&columns).await.expect("plans");
    let (sums, _) = write(source.as_ref(), sink.as_mut()).await.expect("stages");
    let words = text(sink.commit(&content(&sums)).await);
    assert!(words.starts_with("UserErrorDuplicateKey") && words.contains("(a)=(77)"), "{words}");
    sink.abort().await.expect("cleans up");
    assert_eq!(world.value("SELECT to_regclass('dst2')").await, "NULL");
}

#[tokio::test(flavor = "multi_thread")]
async fn little_goes_directly() {
    let Some(world) = World::new("direct").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT g::bigint AS id, 'n' || g AS name, g * 1.25::numeric(12,2) AS price \
              FROM generate_series(1, 5000) g; ALTER TABLE src ALTER price TYPE numeric(12,2); \
             CREATE TABLE dst (id bigint, name text, price numeric(12,2)); INSERT INTO dst VALUES (0)",
        )
        .await;
    let source = world.source(table("src"), 1, 50_000).await.expect("opens");
    let mut sink = world.sink(request(RUN, 1, "dst", WriteMode::Append)).await.expect("opens");
    sink.expect(source.rows_estimate(), source.parts().len());
    assert_eq!(plan(source.as_ref(), sink.as_mut()).await.expect("plans").shape, CommitShape::Direct);
    let (sums, decoded) = write(source.as_ref(), sink.as_mut()).await.expect("sends");
    assert_eq!(decoded.as_ref(), Some(&sums), "what was encoded, decoded again");
    assert!(sink.staged(2).await.expect("answers").is_none());
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "1", "nothing before the commit");
    assert_eq!(world.value("SELECT count(*) FROM pg_class WHERE relname ~ '^_dmg_'").await, "0", "no staging");
    let committed = sink.commit(&content(&sums)).await.expect("commits");
    assert_eq!(sink.commit(&content(&sums)).await.expect("again"), committed);
    assert_eq!(world.value("SELECT count(*) FROM (TABLE src EXCEPT ALL TABLE dst) x").await, "0");
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "5001");
    let later = world.sink(request(RUN, 2, "dst", WriteMode::Append)).await.expect("opens");
    assert_eq!(later.mark().await.expect("reads"), MarkState::Committed(committed));

    // A successor ends the transaction of its predecessor; what goes wrong leaves nothing.
    let run = fresh();
    let mut attempts = Vec::new();
    for epoch in [1, 2] {
        let source = world.source(table("src"), 1, 50_000).await.expect("opens");
        let mut sink = world.sink(request(&run, epoch, "dst", WriteMode::Append)).await.expect("opens");
        sink.expect(Some(5000), 1);
        plan(source.as_ref(), sink.as_mut()).await.expect("plans");
        let (sums, _) = write(source.as_ref(), sink.as_mut()).await.expect("sends");
        attempts.push((sink, content(&sums)));
    }
    let [(zombie, old), (successor, new)] = attempts.as_slice() else { panic!("two") };
    assert_eq!(code(zombie.commit(old).await), "SystemErrorLeaseLost");
    assert_eq!(successor.commit(new).await.expect("commits").epoch, Epoch(2));
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "10001");
    assert_eq!(zombie.commit(old).await.expect("finds the mark").epoch, Epoch(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_directly_and_fails_leaves_nothing() {
    let Some(world) = World::new("direct_fails").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT g::bigint AS id FROM generate_series(1, 5000) g; \
             CREATE TABLE keyed (id bigint PRIMARY KEY); INSERT INTO keyed VALUES (4000); \
             CREATE TABLE dst (id bigint); CREATE TABLE dropping (id bigint); \
             CREATE FUNCTION drop_some() RETURNS trigger LANGUAGE plpgsql AS \
              'BEGIN IF NEW.id = 3 THEN RETURN NULL; END IF; RETURN NEW; END'; \
             CREATE TRIGGER t BEFORE INSERT ON dropping FOR EACH ROW EXECUTE FUNCTION drop_some()",
        )
        .await;
    for (to, expected) in [("keyed", "UserErrorDuplicateKey"), ("dropping", "SystemErrorVerification")] {
        let source = world.source(table("src"), 1, 50_000).await.expect("opens");
        let mut sink = world.sink(request(&fresh(), 1, to, WriteMode::Append)).await.expect("opens");
        sink.expect(Some(5000), 1);
        assert_eq!(plan(source.as_ref(), sink.as_mut()).await.expect("plans").shape, CommitShape::Direct);
        let before = world.value(&format!("SELECT count(*) FROM {to}")).await;
        assert_eq!(code(write(source.as_ref(), sink.as_mut()).await), expected, "{to}");
        sink.abort().await.expect("cleans up");
        assert_eq!(world.value(&format!("SELECT count(*) FROM {to}")).await, before);
    }
    // A writer dropped in the middle takes its transaction with it.
    let source = world.source(table("src"), 1, 50_000).await.expect("opens");
    let mut sink = world.sink(request(&fresh(), 1, "dst", WriteMode::Append)).await.expect("opens");
    sink.expect(Some(5000), 1);
    plan(source.as_ref(), sink.as_mut()).await.expect("plans");
    sink.begin().await.expect("begins");
    let mut writer = sink.part(0).await.expect("starts");
    let mut stream = source.read(&source.parts()[0], LIMITS).await.expect("reads");
    writer.write(stream.next().await.expect("a batch").expect("reads")).await.expect("writes");
    drop((writer, stream));
    let lost = sink.commit(&dmg_connector::MarkContent { rows: 1000, digest: String::new() }).await;
    assert_eq!(code(lost), "SystemErrorLeaseLost");
    sink.abort().await.expect("cleans up");
    assert_eq!(world.value("SELECT count(*) FROM dst").await, "0");
    assert_eq!(world.value("SELECT count(*) FROM __dmg_commit").await, "0", "no mark");
}
