//! Odd names, and what others do to source and target meanwhile: one clear fault each, and nothing lost. Needs a server
//! (DMG_TEST_POSTGRES).

use crate::support::{World, code, content, copy, read_all, request, stage, table, text};
use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::{Session, SinkRequest};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{Secret, Secrets, WriteMode};
use serde_json::json;

fn fresh(name: &str, mode: WriteMode) -> SinkRequest {
    request(&Ambient::real().uuid(), 1, name, mode)
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_every_kind() {
    let Some(world) = World::new("names").await else { return };
    let long = "ä".repeat(31) + "x";
    assert_eq!(long.len(), 63);
    for (schema, name) in [
        ("public", "select"),
        ("public", "a \"quoted\" name; DROP TABLE x"),
        ("Upper Case", "Mixed.Dotted"),
        ("public", long.as_str()),
        ("public", "tab\tand\nline"),
        ("public", "it's $1 \\ %s"),
    ] {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let (full, copied) =
            (format!("{}.{}", quoted(schema), quoted(name)), format!("_2{}", name.chars().skip(2).collect::<String>()));
        world
            .run(&format!(
                "CREATE SCHEMA IF NOT EXISTS {}; CREATE TABLE {full} ({} int PRIMARY KEY, \"user\" text, {} text); \
                 CREATE INDEX ON {full} (\"user\"); INSERT INTO {full} SELECT g, 'u' || g, NULL FROM generate_series(1, 50) g",
                quoted(schema),
                quoted(name),
                quoted("order\" by 1"),
            ))
            .await;
        let object = |name: &str| StoreObject::Table { schema: Some(schema.to_owned()), table: name.to_owned() };
        for (mode, to) in [
            (WriteMode::Append, &copied),
            (WriteMode::Append, &copied),
            (WriteMode::Overwrite, &copied),
            (WriteMode::Upsert, &name.to_owned()),
        ] {
            let source = world.source(object(name), 2, 1000).await.expect(name);
            let wanted = SinkRequest { object: object(to), create_table: true, ..fresh(to, mode) };
            let mut sink = world.sink(wanted).await.expect(name);
            copy(source.as_ref(), sink.as_mut()).await.expect(name);
        }
        let copied = format!("{}.{}", quoted(schema), quoted(&copied));
        assert_eq!(world.value(&format!("SELECT count(*) FROM (TABLE {full} EXCEPT ALL TABLE {copied}) x")).await, "0");
        assert_eq!(world.value(&format!("SELECT count(*) FROM {copied}")).await, "50");
        assert_eq!(world.value(&format!("SELECT count(*) FROM {full}")).await, "50");
    }
    // One byte more would be cut off in silence.
    world.run("CREATE TABLE plain AS SELECT 1 AS id").await;
    let source = world.source(table("plain"), 1, 1000).await.expect("opens");
    let wanted = SinkRequest { create_table: true, ..fresh(&(long + "y"), WriteMode::Append) };
    let mut sink = world.sink(wanted).await.expect("opens");
    assert_eq!(code(copy(source.as_ref(), sink.as_mut()).await), "UserErrorName");
    assert_eq!(
        code(world.source(crate::support::query("SELECT 1 AS a, 2 AS a"), 1, 1000).await),
        "UserErrorSchemaMismatch"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_change_meanwhile() {
    let Some(world) = World::new("altered").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT g AS id, 'x'::text AS name FROM generate_series(1, 1000) g; \
             CREATE TABLE dst (id int, name text)",
        )
        .await;
    // Who reads holds the table as it is.
    let source = world.source(table("src"), 1, 50_000).await.expect("opens");
    let change = "SET lock_timeout = '200ms'; ALTER TABLE src DROP COLUMN name";
    assert!(world.sql.batch_execute(change).await.is_err(), "the source is held");
    let batches = read_all(source.as_ref(), crate::support::LIMITS).await.expect("reads");
    assert_eq!(crate::support::rows(&batches), 1000);
    source.finish().await.expect("lets go");
    world.run("ALTER TABLE src ADD COLUMN late int; ALTER TABLE src DROP COLUMN late; SET lock_timeout = 0").await;

    for (change, expected, naming) in [
        ("ALTER TABLE dst DROP COLUMN name", "UserErrorColumnMissing", "\"name\""),
        ("ALTER TABLE dst ALTER name TYPE int USING NULL", "UserErrorSettings", "\"name\""),
        ("ALTER TABLE dst ADD CONSTRAINT small CHECK (id < 500)", "UserErrorValue", "\"small\""),
        ("ALTER TABLE dst ADD COLUMN must int NOT NULL", "UserErrorValue", "\"must\""),
        ("ALTER TABLE dst RENAME TO elsewhere", "StoreErrorCommitRefused", "public.dst"),
    ] {
        world.run("DROP TABLE IF EXISTS dst, elsewhere; CREATE TABLE dst (id int, name text)").await;
        let source = world.source(table("src"), 1, 50_000).await.expect("opens");
        let mut sink = world.sink(fresh("dst", WriteMode::Append)).await.expect("opens");
        let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
        world.run(change).await;
        let words = text(sink.commit(&content(&sums)).await);
        assert!(words.starts_with(expected) && words.contains(naming), "{change}: {words}");
        sink.abort().await.expect("cleans up");
        assert_eq!(world.value("SELECT count(*) FROM __dmg_commit").await, "0", "no mark");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_of_the_target() {
    let Some(world) = World::new("constraints").await else { return };
    world
        .run(
            "CREATE TABLE src AS SELECT g AS id, g % 10 AS parent FROM generate_series(1, 100) g; \
             CREATE TABLE parents (id int PRIMARY KEY); INSERT INTO parents SELECT generate_series(0, 8); \
             CREATE TABLE child (id int, parent int CONSTRAINT known REFERENCES parents); \
             CREATE TABLE checked (id int CONSTRAINT few CHECK (id < 50), parent int); \
             CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED, parent int); INSERT INTO late VALUES (7)",
        )
        .await;
    for (to, expected, naming) in [
        ("child", "UserErrorValue", "constraint \"known\", key (parent)=(9)"),
        ("checked", "UserErrorValue", "constraint \"few\""),
        ("late", "UserErrorDuplicateKey", "key (id)=(7)"),
    ] {
        let source = world.source(table("src"), 1, 50_000).await.expect("opens");
        let mut sink = world.sink(fresh(to, WriteMode::Append)).await.expect("opens");
        let words = text(copy(source.as_ref(), sink.as_mut()).await);
        assert!(words.starts_with(expected) && words.contains(naming), "{to}: {words}");
        sink.abort().await.expect("cleans up");
    }
    assert_eq!(world.value("SELECT count(*) FROM late").await, "1");

    // Deleting and writing anew would take the children along.
    world.run("CREATE TABLE kept (id int PRIMARY KEY, parent int); INSERT INTO kept VALUES (1)").await;
    for action in ["CASCADE", "SET NULL"] {
        let constraint = format!("id int CONSTRAINT \"to {action}\" REFERENCES kept ON DELETE {action}");
        world.run(&format!("CREATE TABLE pulled ({constraint}); INSERT INTO pulled VALUES (1)")).await;
        let source = world.source(table("src"), 1, 50_000).await.expect("opens");
        let mut sink = world.sink(fresh("kept", WriteMode::Overwrite)).await.expect("opens");
        let words = text(copy(source.as_ref(), sink.as_mut()).await);
        assert!(words.starts_with("UserErrorSettings") && words.contains(action), "{words}");
        assert_eq!(world.value("SELECT count(id) FROM pulled").await, "1");
        world.run("DROP TABLE pulled").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_said_to_be_one() {
    let Some(world) = World::new("deadlock").await else { return };
    world.run("CREATE TABLE src AS SELECT 1 AS id; CREATE TABLE dst (id int); CREATE TABLE other (id int)").await;
    let mut tasks = TaskGroup::new();
    let enemy = world.another(&mut tasks).await;
    enemy.batch_execute("SET deadlock_timeout = '60s'; BEGIN; LOCK TABLE other").await.expect("locks");
    let source = world.source(table("src"), 1, 1000).await.expect("opens");
    let mut wanted = fresh("dst", WriteMode::Append);
    wanted.pre_copy_script = Some("LOCK TABLE other".to_owned());
    let mut sink = world.sink(wanted).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    let content = content(&sums);
    let waiting = async {
        let locked = "SELECT count(*) FROM pg_locks WHERE relation = 'other'::regclass AND NOT granted";
        while world.value(locked).await == "0" {
            Ambient::real().sleep(std::time::Duration::from_millis(20)).await;
        }
        enemy.batch_execute("LOCK TABLE dst").await
    };
    let (committed, enemy_locked) = tokio::join!(sink.commit(&content), waiting);
    let words = text(committed);
    assert!(words.starts_with("StoreErrorConflict") && words.contains("waited for each other"), "{words}");
    enemy_locked.expect("the other one goes on");
    enemy.batch_execute("ROLLBACK").await.expect("ends");
    assert_eq!(sink.commit(&content).await.expect("the rows are still staged").rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_take_nothing() {
    let Some(world) = World::new("refusing").await else { return };
    world.run("CREATE TABLE src AS SELECT 1 AS id; CREATE TABLE dst (id int)").await;
    let source = world.source(table("src"), 1, 1000).await.expect("opens");
    world.run(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", world.database)).await;
    for little in [true, false] {
        let mut sink = world.sink(fresh("dst", WriteMode::Append)).await.expect("opens");
        if little {
            sink.expect(Some(1), 1);
        }
        let words = text(stage(source.as_ref(), sink.as_mut()).await);
        assert!(words.starts_with("UserErrorPermission") && words.contains("read-only"), "{words}");
    }
    world.run(&format!("ALTER DATABASE {} SET default_transaction_read_only = off", world.database)).await;

    let role = format!("l_{}", world.database);
    world.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw-1' CONNECTION LIMIT 1")).await;
    let mut settings = world.settings();
    settings.insert("user".to_owned(), json!(role));
    let secrets: Secrets = [("password".to_owned(), Secret::from("pw-1"))].into_iter().collect();
    let session = Session::new(Ambient::real(), "dmg/test");
    let store = dmg_tables::store("postgres").expect("listed");
    let connection = store.open(&settings, &secrets, session).await.expect("opens");
    let held = connection.source(&crate::support::query("SELECT 1 AS one"), 1, 1000).await.expect("the only session");
    let words = text(connection.probe().await);
    assert!(words.starts_with("StoreErrorConflict") && words.contains("too many connections"), "{words}");
    drop(held);
    world.run(&format!("DROP ROLE {role}")).await;
}
