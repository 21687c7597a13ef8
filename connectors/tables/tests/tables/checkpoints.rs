//! Checkpoints of sinks that keep them: a part is staged once, whatever became of the answer, and a later epoch takes
//! over what is staged so that the one before cannot reach it. Needs servers (DMG_TEST_POSTGRES, DMG_TEST_MARIADB).

use crate::mysql_support::MariaDb;
use crate::support::{LIMITS, World, code, content, digest, plan, request, staged, table};
use async_trait::async_trait;
use dmg_ambient::Ambient;
use dmg_connector::{Digester, PartWriter, Result, Resumption, Sink, SinkRequest, Source, Sums, published_seed};
use dmg_protocol::{Epoch, WriteMode};
use futures::StreamExt;

const PARTS: u32 = 4;
const ROWS: u64 = 60_000;
const KEY: &str = "read made";

/// A store with a table `src` to read and an empty `dst` to write, and somebody who looks at it.
#[async_trait]
trait Judged: Send + Sync {
    async fn source(&self) -> Box<dyn Source>;
    async fn sink(&self, request: SinkRequest) -> Box<dyn Sink>;
    async fn run(&self, sql: &str);
    async fn value(&self, sql: &str) -> String;
    /// Counts tables of ours.
    fn left(&self) -> &'static str;
}

#[async_trait]
impl Judged for World {
    async fn source(&self) -> Box<dyn Source> {
        World::source(self, table("src"), PARTS as usize, ROWS / u64::from(PARTS)).await.expect("opens")
    }

    async fn sink(&self, request: SinkRequest) -> Box<dyn Sink> {
        World::sink(self, request).await.expect("opens")
    }

    async fn run(&self, sql: &str) {
        World::run(self, sql).await;
    }

    async fn value(&self, sql: &str) -> String {
        World::value(self, sql).await
    }

    fn left(&self) -> &'static str {
        "SELECT count(*) FROM pg_class WHERE relname ~ '^_dmg_'"
    }
}

#[async_trait]
impl Judged for MariaDb {
    async fn source(&self) -> Box<dyn Source> {
        MariaDb::source(self, table("src"), PARTS as usize, ROWS / u64::from(PARTS)).await.expect("opens")
    }

    async fn sink(&self, request: SinkRequest) -> Box<dyn Sink> {
        MariaDb::sink(self, request).await.expect("opens")
    }

    async fn run(&self, sql: &str) {
        MariaDb::run(self, sql);
    }

    async fn value(&self, sql: &str) -> String {
        MariaDb::run(self, sql)
    }

    fn left(&self) -> &'static str {
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE '\\_dmg\\_%'"
    }
}

struct Copy {
    world: Box<dyn Judged>,
    run: String,
    source: Box<dyn Source>,
}

impl Copy {
    /// One per store that there is a server for.
    async fn all_stores(name: &str) -> Vec<Copy> {
        let mut worlds: Vec<Box<dyn Judged>> = Vec::new();
        if let Some(world) = World::new(name).await {
            let sql = "CREATE TABLE src AS SELECT i::bigint AS id, repeat(md5(i::text), 8) AS name \
                       FROM generate_series(1, 60000) i; ANALYZE src";
            world.run(sql).await;
            worlds.push(Box::new(world));
        }
        if let Some(world) = MariaDb::new(name) {
            let sql = "CREATE TABLE src (id bigint PRIMARY KEY, name text) \
                       SELECT seq AS id, REPEAT(MD5(seq), 8) AS name FROM seq_1_to_60000";
            let _ = world.run(sql);
            worlds.push(Box::new(world));
        }
        let mut copies = Vec::new();
        for world in worlds {
            world.run("CREATE TABLE dst (id bigint NOT NULL, name text)").await;
            let source = world.source().await;
            assert_eq!(source.parts().len(), PARTS as usize);
            copies.push(Copy { world, run: Ambient::real().uuid(), source });
        }
        copies
    }

    /// A sink of that epoch, planned.
    async fn sink(&self, epoch: u64, mode: WriteMode) -> Box<dyn Sink> {
        let mut sink = self.world.sink(request(&self.run, epoch, "dst", mode)).await;
        plan(self.source.as_ref(), sink.as_mut()).await.expect("plans");
        assert!(sink.checkpoints());
        sink
    }

    /// Writes the rows of a part, and says what they were; the writer is still to be ended.
    async fn rows(&self, sink: &dyn Sink, part: u32) -> Result<(Box<dyn PartWriter>, Sums)> {
        let mut writer = sink.part(part).await?;
        let mut digester = Digester::new(self.source.columns(), published_seed());
        let mut batches = self.source.read(&self.source.parts()[part as usize], LIMITS).await?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            digester.update(&batch)?;
            writer.write(batch).await?;
        }
        let sums = digester.finish();
        writer.note(&sums);
        Ok((writer, sums))
    }

    async fn part(&self, sink: &dyn Sink, part: u32) -> Result<Sums> {
        let (writer, sums) = self.rows(sink, part).await?;
        let report = writer.finish().await?;
        assert_eq!(report.rows, sums.rows);
        Ok(sums)
    }

    async fn all(&self) -> Sums {
        digest(self.source.as_ref(), self.source.columns()).await.expect("reads")
    }

    async fn staged(&self, sink: &dyn Sink) -> Sums {
        staged(sink, self.source.columns()).await.expect("reads")
    }

    /// Commits, and has every row once in the target and nothing else.
    async fn commits(&self, sink: &dyn Sink) {
        let all = self.all().await;
        assert_eq!(self.staged(sink).await, all);
        sink.commit(&content(&all)).await.expect("commits");
        assert_eq!(self.world.value("SELECT count(*) FROM dst").await, ROWS.to_string());
        assert_eq!(self.world.value("SELECT count(DISTINCT id) FROM dst").await, ROWS.to_string());
        assert_eq!(self.world.value(self.world.left()).await, "0");
    }
}

const MODES: [WriteMode; 2] = [WriteMode::Overwrite, WriteMode::Append];

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_staged_once() {
    for mode in MODES {
        for copy in Copy::all_stores("once").await {
            let sink = copy.sink(1, mode).await;
            let sink = sink.as_ref();
            assert_eq!(sink.resume(KEY).await.expect("begins"), Resumption::default());
            assert_eq!(sink.settle(0).await.expect("settles"), None);
            let first = copy.part(sink, 0).await.expect("staged");
            // Its answer was lost, the copy may think.
            let kept = sink.settle(0).await.expect("settles").expect("is staged");
            assert_eq!((kept.part, kept.report.rows, &kept.read), (0, first.rows, &first));
            assert_eq!(code(copy.part(sink, 0).await), "StoreErrorConflict", "staged a second time");
            assert_eq!(sink.settle(0).await.expect("settles"), Some(kept));
            // Broken off with all rows sent and not ended: nothing of it is there.
            let (broken, _) = copy.rows(sink, 1).await.expect("written");
            drop(broken);
            assert_eq!(sink.settle(1).await.expect("settles"), None);
            assert_eq!(copy.staged(sink).await, first);
            for part in 1..PARTS {
                copy.part(sink, part).await.expect("staged");
            }
            copy.commits(sink).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_epoch_staged_is_taken_out_of_its_reach() {
    for mode in MODES {
        for copy in Copy::all_stores("adopt").await {
            let zombie = copy.sink(1, mode).await;
            let zombie = zombie.as_ref();
            zombie.resume(KEY).await.expect("begins");
            let first = copy.part(zombie, 0).await.expect("staged");
            let (under_way, _) = copy.rows(zombie, 1).await.expect("written");
            let successor = copy.sink(3, mode).await;
            let successor = successor.as_ref();
            let found = successor.resume(KEY).await.expect("takes over");
            assert_eq!((found.from, found.other, found.kept.len()), (Some(Epoch(1)), None, 1));
            assert_eq!((found.kept[0].part, &found.kept[0].read), (0, &first));
            // The zombie wakes up in the middle of a part, and finds nothing to write to.
            assert_eq!(code(under_way.finish().await), "NetworkErrorStoreUnreachable");
            assert_eq!(code(zombie.settle(1).await), "SystemErrorLeaseLost");
            assert_eq!(code(copy.part(zombie, 1).await), "UserErrorTableMissing");
            assert_eq!(code(zombie.commit(&content(&first)).await), "SystemErrorLeaseLost");
            zombie.abort().await.expect("removes only what is its own");
            assert_eq!(copy.staged(successor).await, first);
            for part in 1..PARTS {
                copy.part(successor, part).await.expect("staged");
            }
            copy.commits(successor).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_work_is_thrown_away() {
    let nothing = Sums { columns: vec![0, 0], ..Sums::default() };
    for copy in Copy::all_stores("other_work").await {
        let short: String = copy.run.chars().filter(char::is_ascii_hexdigit).take(12).collect();
        for (number, key, change) in [
            (1, "else made", "SELECT 1".to_owned()),
            (3, KEY, "ALTER TABLE dst ADD more int".to_owned()),
            (5, KEY, format!("UPDATE _dmg_{short}_5_parts SET bytes = 1, part = part + 1, rows = 7")),
        ] {
            // A word that one of the servers keeps for itself.
            let change =
                if copy.world.left().contains("pg_class") { change } else { change.replace("rows =", "`rows` =") };
            let before = copy.sink(number, WriteMode::Overwrite).await;
            before.resume(KEY).await.expect("begins");
            copy.part(before.as_ref(), 0).await.expect("staged");
            copy.world.run(&change).await;
            let after = copy.sink(number + 1, WriteMode::Overwrite).await;
            let found = after.resume(key).await.expect("begins anew");
            assert_eq!(found, Resumption { other: Some(KEY.to_owned()), ..Resumption::default() }, "{change}");
            assert_eq!(copy.staged(after.as_ref()).await, nothing, "{change}");
            after.abort().await.expect("removes it");
            assert_eq!(copy.world.value(copy.world.left()).await, "0", "{change}");
        }
    }
}
