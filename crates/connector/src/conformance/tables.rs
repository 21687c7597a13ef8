//! The suite of table stores: one snapshot for all parts, invisible staging, one commit per run, fences. It judges
//! by reading through the store again, so it finds what is inconsistent; values against a foreign judge are the
//! business of each store's own tests.

use std::sync::Arc;

use async_trait::async_trait;
use dmg_ambient::Ambient;
use dmg_protocol::catalog::Capability;
use dmg_protocol::job::{ProcedureCall, ProcedureParameter, Slice, StoreObject, WriteProcedure};
use dmg_protocol::{Attempt, ColumnPlan, Secrets, WriteMode};
use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use super::{Checked, Outcome, Report, attempt, refusal, run, same, want};
use crate::{
    BatchLimits, Committed, Digester, MarkContent, MarkState, Session, Sink, SinkRequest, Source, Sums,
    TableConnection, TableConnector, published_seed,
};

const LIMITS: BatchLimits = BatchLimits { rows: 1000, bytes: 4 << 20, value_bytes: 1 << 20 };
/// Enough rows of the world's width that a store which splits tables splits this one.
const MANY_ROWS: u64 = 60_000;
const SOME_ROWS: u64 = 2_500;
const OLD_ROWS: u64 = 7;
const FENCED: &[&str] = &["SystemErrorLeaseLost", "StoreErrorCommitRefused", "StoreErrorConflict"];

/// A store of one test's own.
#[async_trait]
pub trait TableWorld: Send + Sync {
    /// Settings that lead to it.
    fn settings(&self) -> Map<String, Value>;
    /// Secrets for it.
    fn secrets(&self) -> Secrets;
    /// Makes a table of that name with columns `id` (64-bit integer, 1 and on) and `name` (text of about 200
    /// characters), without the help of the store under test. Others can write to it while it is read.
    async fn make(&self, table: &str, rows: u64);
    /// Adds one row, as another program would.
    async fn add(&self, table: &str, id: u64);
    /// Names of everything in the store, staging included, sorted.
    async fn names(&self) -> Vec<String>;
    /// Makes an empty table like that of [`TableWorld::make`] whose primary key is `id`.
    async fn make_keyed(&self, table: &str) {
        unimplemented_world(table);
    }
    /// Makes an empty table like that of [`TableWorld::make`] with a further column `slice` that takes 32 bytes, or 64
    /// characters where the store has no bytes, and may be NULL.
    async fn make_sliced(&self, table: &str) {
        unimplemented_world(table);
    }
    /// Makes a procedure that puts the rows it gets into that table, as the store's sinks call one.
    async fn make_write_procedure(&self, table: &str) -> Option<WriteProcedure> {
        let _ = table;
        None
    }
    /// Makes a procedure with parameters `id` (64-bit integer) and `name` (text) that adds that row to the table; gives
    /// its name.
    async fn make_procedure(&self, table: &str) -> Option<String> {
        let _ = table;
        None
    }
}

fn unimplemented_world(table: &str) {
    panic!("this world cannot make {table}: its store claims more than its world offers");
}

/// Runs the suite.
pub async fn tables(store: &dyn TableConnector, world: &dyn TableWorld) -> Report {
    let suite = Suite { store, world };
    let suite = &suite;
    run(store.descriptor(), |capability, claimed| async move {
        match (capability, claimed) {
            (Capability::ReadTable, true) => suite.read_table().await,
            (Capability::ReadQuery, true) => suite.read_query().await,
            (Capability::ReadParts, true) => suite.read_parts().await,
            (Capability::WriteAppend, true) => suite.write(WriteMode::Append, 0x10).await,
            (Capability::WriteOverwrite, true) => suite.write(WriteMode::Overwrite, 0x20).await,
            (Capability::CreateTable, true) => suite.create_table().await,
            (Capability::ReadStaged, true) => suite.read_staged().await,
            (Capability::ReadBack, true) => suite.read_back().await,
            (Capability::Probe, true) => suite.probe().await,
            (Capability::WriteUpsert, true) => suite.upsert().await,
            (Capability::WriteSlice, true) => suite.slice().await,
            (Capability::WriteProcedure, true) => suite.write_procedure().await,
            (Capability::CallProcedure, true) => suite.call_procedure().await,
            (Capability::Browse, true) => suite.browse().await,
            (capability, _) => suite.unclaimed(capability).await,
        }
    })
    .await
}

struct Suite<'a> {
    store: &'a dyn TableConnector,
    world: &'a dyn TableWorld,
}

fn named(table: &str) -> StoreObject {
    StoreObject::Table { schema: None, table: table.to_owned() }
}

fn files() -> StoreObject {
    StoreObject::Files { folder: String::new(), file: Some("x".to_owned()), recursive: false }
}

fn request(attempt: Attempt, object: StoreObject, mode: WriteMode) -> SinkRequest {
    let budget_bytes = 16 << 20;
    SinkRequest { mode, lanes: 2, budget_bytes, ..SinkRequest::append(attempt, object) }
}

fn content(sums: &Sums) -> MarkContent {
    MarkContent { rows: sums.rows, digest: sums.row_hex() }
}

impl Suite<'_> {
    fn claims(&self, capability: Capability) -> bool {
        self.store.descriptor().capabilities.contains(&capability)
    }

    async fn open(&self, application: &str) -> crate::Result<Arc<dyn TableConnection>> {
        let settings = self.world.settings();
        self.store.validate(&settings)?;
        self.store.open(&settings, &self.world.secrets(), Session::new(Ambient::real(), application)).await
    }

    async fn source(&self, object: StoreObject) -> crate::Result<Box<dyn Source>> {
        self.open("dmg/conformance").await?.source(&object, 4, 5_000).await
    }

    async fn sink(&self, request: SinkRequest) -> crate::Result<Box<dyn Sink>> {
        self.open(&request.attempt.session_name()).await?.sink(request).await
    }

    /// Rows and digest of a table as a new reader sees it.
    async fn seen(&self, table: &str) -> Checked<Sums> {
        Ok(sums(self.source(named(table)).await?.as_ref()).await?)
    }

    async fn read_table(&self) -> Checked<Outcome> {
        let mut settings = self.world.settings();
        settings.insert("noSuchSetting".to_owned(), json!("x"));
        refusal(self.store.validate(&settings), &["UserErrorSettings"], "an unknown setting")?;
        self.world.make("read_table", SOME_ROWS).await;
        let source = self.source(named("read_table")).await?;
        let names: Vec<&str> = source.columns().iter().map(|column| column.name.as_str()).collect();
        same(&names, &vec!["id", "name"], "columns")?;
        self.world.add("read_table", SOME_ROWS + 1).await;
        let first = sums(source.as_ref()).await?;
        same(&first.rows, &SOME_ROWS, "rows of the state at open")?;
        same(&sums(source.as_ref()).await?, &first, "the same parts read again")?;
        source.finish().await?;
        same(&self.seen("read_table").await?.rows, &(SOME_ROWS + 1), "rows for a new reader")?;
        refusal(self.source(named("no_such_table")).await, &["UserErrorTableMissing"], "a missing table")?;
        Ok(Outcome::Tested("columns, one snapshot, read again, missing table, unknown setting"))
    }

    async fn read_query(&self) -> Checked<Outcome> {
        self.world.make("read_query", 20).await;
        let query = |text: &str| StoreObject::Query { text: text.to_owned() };
        let source = self.source(query("SELECT name, id FROM read_query WHERE id <= 12;")).await?;
        same(&sums(source.as_ref()).await?.rows, &12, "rows")?;
        let names: Vec<&str> = source.columns().iter().map(|column| column.name.as_str()).collect();
        same(&names, &vec!["name", "id"], "columns")?;
        for (text, codes) in [
            ("SELECT id FROM no_such_table", &["UserErrorTableMissing"][..]),
            ("SELECT no_such_column FROM read_query", &["UserErrorColumnMissing"]),
            // Where a statement may be the bare name of a procedure, it is a missing one.
            ("SELEC 1", &["UserErrorSettings", "UserErrorProcedureMissing"]),
        ] {
            refusal(self.source(query(text)).await, codes, text)?;
        }
        // Where the statement is only refused when it runs, that is early enough; it must change nothing.
        let deleting = match self.source(query("DELETE FROM read_query")).await {
            Ok(source) => sums(source.as_ref()).await.map(drop),
            Err(error) => Err(error),
        };
        refusal(deleting, &["UserErrorSettings", "UserErrorNotSupported"], "a statement that writes")?;
        same(&self.seen("read_query").await?.rows, &20, "rows after a refused statement")?;
        Ok(Outcome::Tested("rows, columns, missing table and column, broken and writing statements"))
    }

    async fn read_parts(&self) -> Checked<Outcome> {
        self.world.make("read_parts", MANY_ROWS).await;
        let source = self.source(named("read_parts")).await?;
        want(source.parts().len() > 1, "a large table is split")?;
        self.world.add("read_parts", MANY_ROWS + 1).await;
        let parts = source.parts().iter().map(|part| part_sums(source.as_ref(), part.index));
        let mut all = Sums::default();
        for part in futures::future::join_all(parts).await {
            all.merge(&part?);
        }
        same(&all.rows, &MANY_ROWS, "rows of all parts, of the state at open")?;
        if self.claims(Capability::ReadQuery) {
            let text = format!("SELECT id, name FROM read_parts WHERE id <= {MANY_ROWS}");
            let whole = self.source(StoreObject::Query { text }).await?;
            same(&all, &sums(whole.as_ref()).await?, "the parts together, against one pass")?;
        }
        Ok(Outcome::Tested("every row in one part, all parts at once on one snapshot"))
    }

    async fn probe(&self) -> Checked<Outcome> {
        let answer = self.open("dmg/probe").await?.probe().await?;
        want(!answer.trim().is_empty(), "a probe says what answered")?;
        Ok(Outcome::Tested("says what answered"))
    }

    /// Makes source and target and stages the one for the other.
    async fn staged(&self, run: u32, epoch: u64, mode: WriteMode) -> Checked<(Box<dyn Sink>, Sums, String)> {
        let (from, to) = (format!("from_{run:x}"), format!("to_{run:x}"));
        if epoch == 1 {
            self.world.make(&from, SOME_ROWS).await;
            self.world.make(&to, OLD_ROWS).await;
        }
        let source = self.source(named(&from)).await?;
        let mut sink = self.sink(request(attempt(run, epoch), named(&to), mode)).await?;
        let sums = stage(source.as_ref(), sink.as_mut()).await?;
        Ok((sink, sums, to))
    }

    async fn write(&self, mode: WriteMode, base: u32) -> Checked<Outcome> {
        let (sink, read, to) = self.staged(base, 1, mode).await?;
        same(&self.seen(&to).await?.rows, &OLD_ROWS, "rows that readers see before the commit")?;
        let committed = sink.commit(&content(&read)).await?;
        same(
            &(committed.rows, committed.digest.as_str()),
            &(read.rows, read.row_hex().as_str()),
            "what the mark tells",
        )?;
        let after = if mode == WriteMode::Append { OLD_ROWS + SOME_ROWS } else { SOME_ROWS };
        same(&self.seen(&to).await?.rows, &after, "rows after the commit")?;
        same(&sink.commit(&content(&read)).await?, &committed, "a second commit")?;
        let later = self.sink(request(attempt(base, 2), named(&to), mode)).await?;
        same(&later.mark().await?, &MarkState::Committed(committed), "the mark for a later epoch")?;
        same(&self.seen(&to).await?.rows, &after, "rows after the second commit")?;
        self.fence(mode, base + 1, after).await?;
        self.abort(mode, base + 2).await?;
        self.resume(mode, base + 4).await?;
        let missing = self.sink(request(attempt(base + 3, 1), named("no_such_table"), mode)).await;
        refusal(missing, &["UserErrorTableMissing"], "a missing target")?;
        Ok(Outcome::Tested(
            "invisible until the commit, commit twice, mark, higher epoch fences, abort, missing target",
        ))
    }

    async fn fence(&self, mode: WriteMode, run: u32, after: u64) -> Checked<()> {
        let (zombie, old, to) = self.staged(run, 1, mode).await?;
        let (successor, read, _) = self.staged(run, 2, mode).await?;
        refusal(zombie.commit(&content(&old)).await, FENCED, "the commit of a lower epoch")?;
        same(&self.seen(&to).await?.rows, &OLD_ROWS, "rows after the refused commit")?;
        let Committed { epoch, .. } = successor.commit(&content(&read)).await?;
        same(&epoch.0, &2, "the epoch that committed")?;
        same(&self.seen(&to).await?.rows, &after, "rows after the successor's commit")
    }

    async fn abort(&self, mode: WriteMode, run: u32) -> Checked<()> {
        self.world.make(&format!("from_{run:x}"), SOME_ROWS).await;
        self.world.make(&format!("to_{run:x}"), OLD_ROWS).await;
        let before = self.world.names().await;
        let (sink, _, to) = self.staged(run, 2, mode).await?;
        sink.abort().await?;
        same(&self.world.names().await, &before, "what is in the store after an abort")?;
        same(&self.seen(&to).await?.rows, &OLD_ROWS, "rows after an abort")
    }

    /// A sink that keeps checkpoints hands what one epoch staged to a later one, once and out of the first one's reach;
    /// any other begins anew.
    async fn resume(&self, mode: WriteMode, run: u32) -> Checked<()> {
        let (from, to) = (format!("from_{run:x}"), format!("to_{run:x}"));
        self.world.make(&from, SOME_ROWS).await;
        self.world.make(&to, OLD_ROWS).await;
        let source = self.source(named(&from)).await?;
        want(source.parts().len() == 1, "a small table is one part")?;
        let mut first = self.sink(request(attempt(run, 1), named(&to), mode)).await?;
        plan(source.as_ref(), first.as_mut()).await?;
        same(&first.resume("a b").await?.from, &None, "what the first attempt goes on with")?;
        let read = parts(source.as_ref(), first.as_ref()).await?;
        let mut next = self.sink(request(attempt(run, 2), named(&to), mode)).await?;
        plan(source.as_ref(), next.as_mut()).await?;
        let found = next.resume("a b").await?;
        if next.checkpoints() {
            same(&found.from.map(|epoch| epoch.0), &Some(1), "whose staging was kept")?;
            same(&found.kept.iter().map(|kept| (kept.part, &kept.read)).collect(), &vec![(0, &read)], "checkpoints")?;
            same(&next.settle(0).await?.map(|kept| kept.read), &Some(read.clone()), "a part that is staged")?;
            refusal(parts(source.as_ref(), next.as_ref()).await, &["StoreErrorConflict"], "a part staged twice")?;
            want(parts(source.as_ref(), first.as_ref()).await.is_err(), "a part of a lower epoch is refused")?;
            refusal(first.commit(&content(&read)).await, FENCED, "the commit of a lower epoch")?;
        } else {
            same(&found, &crate::Resumption::default(), "what a sink without checkpoints goes on with")?;
            parts(source.as_ref(), next.as_ref()).await?;
        }
        source.finish().await?;
        next.commit(&content(&read)).await?;
        let after = if mode == WriteMode::Append { OLD_ROWS + SOME_ROWS } else { SOME_ROWS };
        same(&self.seen(&to).await?.rows, &after, "rows after the commit")
    }

    async fn create_table(&self) -> Checked<Outcome> {
        self.world.make("create_from", SOME_ROWS).await;
        let before = self.world.names().await;
        let source = self.source(named("create_from")).await?;
        let mut wanted = request(attempt(0x30, 1), named("create_to"), WriteMode::Overwrite);
        refusal(self.sink(wanted.clone()).await, &["UserErrorTableMissing"], "a missing target")?;
        wanted.create_table = true;
        let mut sink = self.sink(wanted).await?;
        want(sink.columns().await?.is_none(), "a table that does not exist has no columns")?;
        let read = stage(source.as_ref(), sink.as_mut()).await?;
        want(!self.world.names().await.contains(&"create_to".to_owned()), "no table before the commit")?;
        sink.commit(&content(&read)).await?;
        same(&self.seen("create_to").await?, &read, "what is in the new table")?;
        let mut expected = before;
        expected.push("create_to".to_owned());
        expected.sort();
        same(&self.world.names().await, &expected, "what is in the store after the commit")?;
        Ok(Outcome::Tested("only when asked for, nothing before the commit, equal after it"))
    }

    async fn read_staged(&self) -> Checked<Outcome> {
        let (sink, read, to) = self.staged(0x40, 1, WriteMode::Append).await?;
        let staged = sink.staged(2).await?;
        let Some(staged) = staged else { return Err(super::Broken("the staging cannot be read".to_owned())) };
        same(&sums(staged.as_ref()).await?, &read, "what was staged")?;
        same(&self.seen(&to).await?.rows, &OLD_ROWS, "rows that readers see")?;
        drop(staged);
        sink.abort().await?;
        Ok(Outcome::Tested("what was staged is read back equal, while readers see the old content"))
    }

    async fn read_back(&self) -> Checked<Outcome> {
        let (sink, read, _) = self.staged(0x50, 1, WriteMode::Overwrite).await?;
        sink.commit(&content(&read)).await?;
        let Some(back) = sink.committed(2).await? else {
            return Err(super::Broken("the committed target cannot be read".to_owned()));
        };
        same(&sums(back.as_ref()).await?, &read, "what was committed")?;
        Ok(Outcome::Tested("what was committed is read back equal"))
    }

    async fn upsert(&self) -> Checked<Outcome> {
        self.world.make("upsert_from", SOME_ROWS).await;
        self.world.make_keyed("upsert_to").await;
        self.world.add("upsert_to", 3).await;
        self.world.add("upsert_to", SOME_ROWS + 5).await;
        let open = |run, epoch, keys: Vec<String>| {
            let request = request(attempt(run, epoch), named("upsert_to"), WriteMode::Upsert);
            self.sink(SinkRequest { keys, ..request })
        };
        let source = self.source(named("upsert_from")).await?;
        let mut sink = open(0x70, 1, vec!["id".to_owned()]).await?;
        let read = stage(source.as_ref(), sink.as_mut()).await?;
        same(&self.seen("upsert_to").await?.rows, &2, "rows that readers see before the commit")?;
        let committed = sink.commit(&content(&read)).await?;
        same(&sink.commit(&content(&read)).await?, &committed, "a second commit")?;
        same(&self.seen("upsert_to").await?.rows, &(SOME_ROWS + 1), "rows after the commit")?;
        // The row that was there before has the new content; the one beyond the source is untouched.
        let text = format!("SELECT id, name FROM upsert_to WHERE id <= {SOME_ROWS}");
        if self.claims(Capability::ReadQuery) {
            let replaced = self.source(StoreObject::Query { text }).await?;
            same(&sums(replaced.as_ref()).await?, &read, "replaced and added rows")?;
        }
        // Again, by the primary key of the target: nothing changes.
        let mut again = open(0x71, 1, Vec::new()).await?;
        let read_again = stage(self.source(named("upsert_from")).await?.as_ref(), again.as_mut()).await?;
        again.commit(&content(&read_again)).await?;
        same(&self.seen("upsert_to").await?.rows, &(SOME_ROWS + 1), "rows after the same again")?;
        // The same key twice in what is written is no upsert.
        self.world.make("upsert_double", 2).await;
        self.world.add("upsert_double", 1).await;
        let mut double = open(0x72, 1, vec!["id".to_owned()]).await?;
        let source = self.source(named("upsert_double")).await?;
        let refused = match stage(source.as_ref(), double.as_mut()).await {
            Ok(read) => double.commit(&content(&read)).await.map(drop),
            Err(error) => Err(error),
        };
        refusal(refused, &["UserErrorDuplicateKey"], "two rows of one key")?;
        double.abort().await?;
        same(&self.seen("upsert_to").await?.rows, &(SOME_ROWS + 1), "rows after the refusal")?;
        // A table without a primary key needs to be told.
        self.world.make("upsert_keyless", 1).await;
        let keyless = self.sink(request(attempt(0x73, 1), named("upsert_keyless"), WriteMode::Upsert)).await;
        let refused = match keyless {
            Ok(mut sink) => {
                let source = self.source(named("upsert_double")).await?;
                stage(source.as_ref(), sink.as_mut()).await.map(drop)
            }
            Err(error) => Err(error),
        };
        refusal(refused, &["UserErrorSettings"], "an upsert without a key")?;
        Ok(Outcome::Tested("replaces and adds, by named and by primary key; a doubled key and no key are refused"))
    }

    async fn slice(&self) -> Checked<Outcome> {
        self.world.make_sliced("sliced_to").await;
        for (run, slice, rows, expected) in
            [(0x80, "aa", 30, 30), (0x81, "bb", 20, 50), (0x82, "aa", 10, 30), (0x83, "aa", 0, 20)]
        {
            let from = format!("slice_from_{run:x}");
            self.world.make(&from, rows).await;
            let slice = Slice { column: "slice".to_owned(), value: slice.repeat(32) };
            let request = request(attempt(run, 1), named("sliced_to"), WriteMode::Slice);
            let mut sink = self.sink(SinkRequest { slice: Some(slice), ..request }).await?;
            let source = self.source(named(&from)).await?;
            let before = self.seen("sliced_to").await?.rows;
            let read = stage(source.as_ref(), sink.as_mut()).await?;
            same(&self.seen("sliced_to").await?.rows, &before, "rows that readers see before the commit")?;
            sink.commit(&content(&read)).await?;
            sink.commit(&content(&read)).await?;
            same(&self.seen("sliced_to").await?.rows, &expected, "rows after the commit")?;
        }
        self.world.make("slice_less", 1).await;
        let slice = Slice { column: "slice".to_owned(), value: "cc".repeat(32) };
        let request = request(attempt(0x84, 1), named("slice_less"), WriteMode::Slice);
        let refused = match self.sink(SinkRequest { slice: Some(slice), ..request }).await {
            Ok(mut sink) => stage(self.source(named("slice_less")).await?.as_ref(), sink.as_mut()).await.map(drop),
            Err(error) => Err(error),
        };
        refusal(refused, &["UserErrorColumnMissing"], "a target without the slice's column")?;
        Ok(Outcome::Tested("replaces its own rows only, also by none; a missing column is refused"))
    }

    async fn write_procedure(&self) -> Checked<Outcome> {
        self.world.make("procedure_from", SOME_ROWS).await;
        self.world.make("procedure_to", 0).await;
        let Some(procedure) = self.world.make_write_procedure("procedure_to").await else {
            return Err(super::Broken("the world makes no procedure".to_owned()));
        };
        let request = request(attempt(0x90, 1), named("procedure_to"), WriteMode::Procedure);
        let request = SinkRequest { procedure: Some(procedure), ..request };
        let mut sink = self.sink(request.clone()).await?;
        let source = self.source(named("procedure_from")).await?;
        let read = stage(source.as_ref(), sink.as_mut()).await?;
        same(&self.seen("procedure_to").await?.rows, &0, "rows that readers see before the commit")?;
        let committed = sink.commit(&content(&read)).await?;
        same(&self.seen("procedure_to").await?, &read, "rows after the commit")?;
        let later = self.sink(SinkRequest { attempt: attempt(0x90, 2), ..request }).await?;
        same(&later.mark().await?, &MarkState::Committed(committed), "the mark for a later epoch")?;
        Ok(Outcome::Tested("every row reaches the procedure, in one transaction with the mark"))
    }

    async fn call_procedure(&self) -> Checked<Outcome> {
        self.world.make("call_to", 0).await;
        let Some(name) = self.world.make_procedure("call_to").await else {
            return Err(super::Broken("the world makes no procedure".to_owned()));
        };
        let parameter = |name: &str, type_name: &str, value: Option<&str>| ProcedureParameter {
            name: name.to_owned(),
            type_name: Some(type_name.to_owned()),
            value: value.map(str::to_owned),
        };
        let call = ProcedureCall {
            name,
            parameters: vec![parameter("id", "Int64", Some("42")), parameter("name", "String", Some("it's; --"))],
            timeout_seconds: Some(30),
        };
        self.open("dmg/call").await?.call(&call).await?;
        same(&self.seen("call_to").await?.rows, &1, "rows the procedure added")?;
        let missing = ProcedureCall { name: "no_such_procedure".to_owned(), ..call.clone() };
        let refused = self.open("dmg/call").await?.call(&missing).await;
        refusal(refused, &["UserErrorProcedureMissing"], "a missing procedure")?;
        let wrong = ProcedureCall { parameters: vec![parameter("nope", "Int64", Some("1"))], ..call };
        let codes = &["UserErrorSettings", "UserErrorProcedureMissing"];
        refusal(self.open("dmg/call").await?.call(&wrong).await, codes, "a parameter that the procedure lacks")?;
        same(&self.seen("call_to").await?.rows, &1, "rows after the refusals")?;
        Ok(Outcome::Tested("parameters arrive, a missing procedure and a wrong parameter are refused"))
    }

    async fn browse(&self) -> Checked<Outcome> {
        self.world.make("browse_this", 5).await;
        let connection = self.open("dmg/browse").await?;
        want(!connection.schemas().await?.is_empty(), "there is a schema")?;
        let tables = connection.tables(None, 1000).await?;
        let found = tables.iter().find(|table| table.name == "browse_this");
        want(found.is_some_and(|table| table.kind == "table"), "the table is listed")?;
        want(
            tables.iter().all(|table| !table.name.starts_with("__dmg") && !table.name.starts_with("_dmg")),
            "ours are left out",
        )?;
        want(tables.is_sorted_by(|a, b| a.name <= b.name), "they are sorted")?;
        same(&connection.tables(None, 1).await?.len(), &1, "a listing with a limit")?;
        let columns = connection.describe(&named("browse_this")).await?;
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        same(&names, &vec!["id", "name"], "columns")?;
        refusal(connection.describe(&named("no_such_table")).await, &["UserErrorTableMissing"], "a missing table")?;
        Ok(Outcome::Tested("schemas, tables, columns, a limit, a missing table"))
    }

    /// What the descriptor does not claim must be refused by a fault, or visibly not be done.
    async fn unclaimed(&self, capability: Capability) -> Checked<Outcome> {
        let codes = &["UserErrorNotSupported", "UserErrorSettings"];
        self.world.make("unclaimed", OLD_ROWS).await;
        let table = named("unclaimed");
        let write =
            |object, mode, create_table| SinkRequest { create_table, ..request(attempt(0x60, 1), object, mode) };
        let code = match capability {
            Capability::ReadTable => refusal(self.source(table).await, codes, "a table")?,
            Capability::ReadQuery => {
                let query = StoreObject::Query { text: "SELECT id FROM unclaimed".to_owned() };
                refusal(self.source(query).await, codes, "a query")?
            }
            Capability::ReadFiles => refusal(self.source(files()).await, codes, "files as source")?,
            Capability::ReadParts => {
                self.world.make("unclaimed_parts", MANY_ROWS).await;
                same(&self.source(named("unclaimed_parts")).await?.parts().len(), &1, "parts of a large table")?;
                "one part only".to_owned()
            }
            Capability::WriteAppend => {
                refusal(self.sink(write(table, WriteMode::Append, false)).await, codes, "an append")?
            }
            Capability::WriteOverwrite => {
                refusal(self.sink(write(table, WriteMode::Overwrite, false)).await, codes, "an overwrite")?
            }
            Capability::WriteFiles => {
                refusal(self.sink(write(files(), WriteMode::Append, false)).await, codes, "files as sink")?
            }
            Capability::CreateTable => {
                let codes = &["UserErrorNotSupported", "UserErrorTableMissing"];
                refusal(self.sink(write(named("unclaimed_new"), WriteMode::Append, true)).await, codes, "a new table")?
            }
            Capability::ReadStaged | Capability::ReadBack => {
                match self.sink(write(table, WriteMode::Overwrite, false)).await {
                    Err(error) => format!("{}: there is no sink", refusal::<()>(Err(error), codes, "a sink")?),
                    Ok(mut sink) => {
                        let source = self.source(named("unclaimed")).await?;
                        stage(source.as_ref(), sink.as_mut()).await?;
                        let nothing = match capability {
                            Capability::ReadStaged => sink.staged(1).await?.is_none(),
                            _ => sink.committed(1).await?.is_none(),
                        };
                        sink.abort().await?;
                        want(nothing, "what is not claimed is not offered")?;
                        "not offered".to_owned()
                    }
                }
            }
            Capability::Probe => refusal(self.open("dmg/probe").await?.probe().await, codes, "a probe")?,
            Capability::WriteUpsert => {
                let keys = vec!["id".to_owned()];
                let request = SinkRequest { keys, ..write(table, WriteMode::Upsert, false) };
                refusal(self.sink(request).await, codes, "an upsert")?
            }
            Capability::WriteSlice => {
                let slice = Some(Slice { column: "slice".to_owned(), value: "00".repeat(32) });
                let request = SinkRequest { slice, ..write(table, WriteMode::Slice, false) };
                refusal(self.sink(request).await, codes, "the replacement of a slice")?
            }
            Capability::WriteProcedure => {
                let name = "conformance_write".to_owned();
                let procedure =
                    WriteProcedure { name, table_type: None, table_parameter: None, parameters: Vec::new() };
                let request = SinkRequest { procedure: Some(procedure), ..write(table, WriteMode::Procedure, false) };
                refusal(self.sink(request).await, codes, "rows for a procedure")?
            }
            Capability::CallProcedure => {
                let call = ProcedureCall { name: "x".to_owned(), parameters: Vec::new(), timeout_seconds: None };
                refusal(self.open("dmg/call").await?.call(&call).await, codes, "a call")?
            }
            Capability::Browse => refusal(self.open("dmg/browse").await?.schemas().await, codes, "a look")?,
        };
        want(!self.world.names().await.contains(&"unclaimed_new".to_owned()), "nothing was created")?;
        same(&self.seen("unclaimed").await?.rows, &OLD_ROWS, "rows after the refusal")?;
        Ok(Outcome::Refused(code))
    }
}

async fn part_sums(source: &dyn Source, index: u32) -> crate::Result<Sums> {
    let mut digester = Digester::new(source.columns(), published_seed());
    for part in source.parts().iter().filter(|part| part.index == index) {
        let mut stream = source.read(part, LIMITS).await?;
        while let Some(batch) = stream.next().await {
            digester.update(&batch?)?;
        }
    }
    Ok(digester.finish())
}

async fn sums(source: &dyn Source) -> crate::Result<Sums> {
    let mut all = Sums::default();
    for part in source.parts() {
        all.merge(&part_sums(source, part.index).await?);
    }
    Ok(all)
}

/// Plans by name.
async fn plan(source: &dyn Source, sink: &mut dyn Sink) -> crate::Result<()> {
    let target = sink.columns().await?;
    let plan = source.columns().iter().map(|column| {
        let target = target.iter().flatten().find(|target| target.name == column.name);
        let held = sink.hold(column, target);
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
    });
    let plan: Vec<ColumnPlan> = plan.collect();
    sink.plan(&plan).await?;
    sink.mark().await.map(drop)
}

/// Plans and stages every part. Gives rows and digest of what was read.
async fn stage(source: &dyn Source, sink: &mut dyn Sink) -> crate::Result<Sums> {
    plan(source, sink).await?;
    sink.begin().await?;
    let read = parts(source, sink).await?;
    source.finish().await?;
    Ok(read)
}

/// Stages every part.
async fn parts(source: &dyn Source, sink: &dyn Sink) -> crate::Result<Sums> {
    let mut digester = Digester::new(source.columns(), published_seed());
    for part in source.parts() {
        let mut writer = sink.part(part.index).await?;
        let mut stream = source.read(part, LIMITS).await?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            digester.update(&batch)?;
            writer.write(batch).await?;
        }
        writer.note(digester.sums());
        writer.finish().await?;
    }
    Ok(digester.finish())
}
