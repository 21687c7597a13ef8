//! The suite of byte stores: sorted listings, stamps that betray a change, invisible staging, conditional commits,
//! fences. A byte store has no call for tables or queries; the suite says so instead of pretending to try.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dmg_ambient::Ambient;
use dmg_protocol::Secrets;
use dmg_protocol::catalog::Capability;
use serde_json::{Map, Value, json};

use super::{Broken, Checked, Outcome, Report, attempt, refusal, run, same, want};
use crate::{ByteStore, ByteStoreConnector, Condition, FileEntry, MarkContent, Session, StagedFile};

const BUDGET: usize = 4 << 20;

/// A store of one test's own, empty at first.
#[async_trait]
pub trait FileWorld: Send + Sync {
    /// Settings that lead to it.
    fn settings(&self) -> Map<String, Value>;
    /// Settings that lead to a root that does not exist.
    fn nowhere(&self) -> Map<String, Value>;
    /// Secrets for it.
    fn secrets(&self) -> Secrets;
    /// Puts a file there as another program would.
    async fn put(&self, path: &str, bytes: &[u8]);
    /// Paths of everything another program can see there, hidden files included, sorted.
    async fn names(&self) -> Vec<String>;
}

/// Runs the suite.
pub async fn files(store: &dyn ByteStoreConnector, world: &dyn FileWorld) -> Report {
    let suite = Suite { store, world };
    let suite = &suite;
    run(store.descriptor(), |capability, claimed| async move {
        match (capability, claimed) {
            (Capability::ReadFiles, true) => suite.read_files().await,
            (Capability::WriteFiles, true) => suite.write_files().await,
            (Capability::WriteOverwrite, true) => suite.overwrite().await,
            (Capability::ReadStaged, true) => suite.read_staged().await,
            (Capability::ReadBack, true) => suite.read_back().await,
            (Capability::Probe, true) => suite.probe().await,
            (capability, _) => suite.unclaimed(capability).await,
        }
    })
    .await
}

struct Suite<'a> {
    store: &'a dyn ByteStoreConnector,
    world: &'a dyn FileWorld,
}

fn content(rows: u64) -> MarkContent {
    MarkContent { rows, digest: format!("{rows:032x}") }
}

fn paths(entries: &[FileEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.path.as_str()).collect()
}

const CHANGED: &[&str] = &["UserErrorSourceChanged"];
const REFUSED: &[&str] = &["StoreErrorCommitRefused"];
const MISSING: &[&str] = &["UserErrorContainerMissing"];

impl Suite<'_> {
    async fn open_at(&self, settings: Map<String, Value>) -> crate::Result<Arc<dyn ByteStore>> {
        self.store.validate(&settings)?;
        let session = Session::new(Ambient::real(), "dmg/conformance");
        self.store.open(&settings, &self.world.secrets(), session).await
    }

    async fn open(&self) -> crate::Result<Arc<dyn ByteStore>> {
        self.open_at(self.world.settings()).await
    }

    async fn entry(&self, path: &str) -> Checked<FileEntry> {
        let found = self.open().await?.stat(path).await?;
        found.ok_or_else(|| Broken(format!("there is no file {path}")))
    }

    /// The file's content as a new reader sees it.
    async fn seen(&self, path: &str) -> Checked<Bytes> {
        let reader = self.open().await?.open(&self.entry(path).await?).await?;
        Ok(reader.read(0..reader.size()).await?)
    }

    async fn stage(
        &self,
        path: &str,
        (run, epoch): (u32, u64),
        condition: Condition,
        bytes: &'static [u8],
    ) -> Checked<Box<dyn StagedFile>> {
        let (store, me) = (self.open().await?, attempt(run, epoch));
        store.sweep(path, &me).await?;
        let mut staged = store.stage(path, &me, condition, BUDGET).await?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        for piece in [first, second] {
            staged.write(Bytes::from_static(piece)).await?;
        }
        staged.seal().await?;
        Ok(staged)
    }

    async fn probe(&self) -> Checked<Outcome> {
        let answer = self.open().await?.probe().await?;
        want(!answer.trim().is_empty(), "a probe says what answered")?;
        let missing = match self.open_at(self.world.nowhere()).await {
            Ok(store) => store.probe().await,
            Err(error) => Err(error),
        };
        refusal(missing, MISSING, "a root that does not exist")?;
        Ok(Outcome::Tested("says what answered, missing root"))
    }

    async fn read_files(&self) -> Checked<Outcome> {
        let mut settings = self.world.settings();
        settings.insert("noSuchSetting".to_owned(), json!("x"));
        refusal(self.store.validate(&settings), &["UserErrorSettings"], "an unknown setting")?;
        for path in ["read/b", "read/a b%.csv", "read/deep/c", "read/empty"] {
            self.world.put(path, if path == "read/empty" { b"" } else { b"0123456789" }).await;
        }
        let store = self.open().await?;
        let flat = store.list("read", false).await?;
        same(&paths(&flat), &vec!["read/a b%.csv", "read/b", "read/empty"], "a folder's files, sorted")?;
        let deep = store.list("read", true).await?;
        let all = vec!["read/a b%.csv", "read/b", "read/deep/c", "read/empty"];
        same(&paths(&deep), &all, "a folder's files with those of its folders, sorted")?;
        refusal(store.list("no/such/folder", true).await, MISSING, "a missing folder")?;
        same(&store.stat("read/b").await?.as_ref(), &Some(&flat[1]), "what stat says, against the list")?;
        same(&store.stat("read/none").await?, &None, "a missing file")?;
        let reader = store.open(&flat[1]).await?;
        same(&reader.size(), &10, "size")?;
        same(&reader.read(3..7).await?, &Bytes::from_static(b"3456"), "a range")?;
        want(reader.read(5..11).await.is_err(), "a range beyond the end is refused")?;
        let empty = store.open(&flat[2]).await?;
        same(&empty.read(0..0).await?, &Bytes::new(), "an empty file")?;
        self.world.put("read/b", b"changed it").await;
        refusal(reader.read(3..7).await, CHANGED, "a file that changed while it is read")?;
        let again = match store.open(&flat[1]).await {
            Ok(reader) => reader.read(3..7).await.map(drop),
            Err(error) => Err(error),
        };
        refusal(again, CHANGED, "a file that changed since it was listed")?;
        Ok(Outcome::Tested("sorted lists, stat, ranges, empty file, changed file, missing folder, unknown setting"))
    }

    async fn write_files(&self) -> Checked<Outcome> {
        let (path, me) = ("write/new.csv", attempt(1, 3));
        let mut staged = self.stage(path, (1, 3), Condition::Absent, b"new content").await?;
        let store = self.open().await?;
        same(&store.stat(path).await?, &None, "the target before the commit")?;
        let committed = staged.commit(&me, &content(4)).await?;
        same(&staged.commit(&me, &content(4)).await?, &committed, "a second commit")?;
        let mark = store.mark(path).await?.ok_or_else(|| Broken("there is no mark after the commit".to_owned()))?;
        let told = (mark.namespace.as_str(), mark.run.as_str(), mark.epoch, mark.rows, mark.digest, mark.stamp);
        let expected = ("conformance", me.run.as_str(), me.epoch, 4, content(4).digest, committed.mark.clone());
        same(&told, &expected, "what the mark tells")?;
        same(&self.entry(path).await?.stamp, &committed.mark, "the stamp, against the mark")?;
        let mut other = self.stage(path, (2, 1), Condition::Absent, b"other").await?;
        refusal(other.commit(&attempt(2, 1), &content(1)).await, REFUSED, "a commit where the target must not exist")?;
        other.abort().await?;
        self.world.put("write/foreign", b"foreign").await;
        same(&store.mark("write/foreign").await?, &None, "the mark of a file that is not ours")?;
        self.fence().await?;
        let before = self.world.names().await;
        let mut given_up = self.stage("write/given up", (4, 1), Condition::Absent, b"given up").await?;
        given_up.abort().await?;
        same(&self.world.names().await, &before, "what is in the store after an abort")?;
        Ok(Outcome::Tested("invisible until the commit, commit twice, mark, must not exist, lower epoch, abort"))
    }

    async fn fence(&self) -> Checked<()> {
        let path = "write/fenced";
        let mut zombie = self.stage(path, (3, 1), Condition::Absent, b"zombie").await?;
        let mut successor = self.stage(path, (3, 2), Condition::Absent, b"successor").await?;
        successor.commit(&attempt(3, 2), &content(2)).await?;
        refusal(zombie.commit(&attempt(3, 1), &content(1)).await, REFUSED, "the commit of a lower epoch")?;
        zombie.abort().await?;
        same(&self.seen(path).await?, &Bytes::from_static(b"successor"), "the content after the refused commit")
    }

    async fn overwrite(&self) -> Checked<Outcome> {
        let path = "over/x";
        self.world.put(path, b"old").await;
        let stamp = Condition::Stamp(self.entry(path).await?.stamp);
        let mut first = self.stage(path, (5, 1), stamp.clone(), b"first").await?;
        let mut second = self.stage(path, (6, 1), stamp.clone(), b"second").await?;
        same(&self.seen(path).await?, &Bytes::from_static(b"old"), "the content before the commit")?;
        second.commit(&attempt(6, 1), &content(2)).await?;
        refusal(first.commit(&attempt(5, 1), &content(1)).await, REFUSED, "a commit on a target that changed")?;
        first.abort().await?;
        same(&self.seen(path).await?, &Bytes::from_static(b"second"), "the content after both")?;
        same(&self.entry_names("over").await?, &vec![path.to_owned()], "what is in the folder")?;
        Ok(Outcome::Tested("old content until the commit, one of two wins, nothing left over"))
    }

    async fn entry_names(&self, folder: &str) -> Checked<Vec<String>> {
        let names = self.world.names().await;
        Ok(names.into_iter().filter(|name| name.starts_with(&format!("{folder}/"))).collect())
    }

    async fn read_staged(&self) -> Checked<Outcome> {
        let mut staged = self.stage("staged/x", (7, 1), Condition::Absent, b"staged content").await?;
        let reader = staged.reader().await?.ok_or_else(|| Broken("the staging cannot be read".to_owned()))?;
        same(&reader.read(0..reader.size()).await?, &Bytes::from_static(b"staged content"), "what was staged")?;
        staged.abort().await?;
        Ok(Outcome::Tested("what was staged is read back equal"))
    }

    async fn read_back(&self) -> Checked<Outcome> {
        let mut staged = self.stage("back/x", (8, 1), Condition::Absent, b"committed content").await?;
        staged.commit(&attempt(8, 1), &content(1)).await?;
        same(&self.seen("back/x").await?, &Bytes::from_static(b"committed content"), "what was committed")?;
        Ok(Outcome::Tested("what was committed is read back equal"))
    }

    /// What the descriptor does not claim must be refused by a fault, or not be there to be asked for.
    async fn unclaimed(&self, capability: Capability) -> Checked<Outcome> {
        let codes = &["UserErrorNotSupported", "UserErrorSettings"];
        let by = match capability {
            Capability::ReadTable
            | Capability::ReadQuery
            | Capability::ReadParts
            | Capability::CreateTable
            | Capability::WriteUpsert
            | Capability::WriteSlice
            | Capability::WriteProcedure
            | Capability::CallProcedure
            | Capability::Browse => "no call: a byte store has files only".to_owned(),
            Capability::WriteAppend => {
                self.world.put("unclaimed/append", b"old").await;
                let mut staged = self.stage("unclaimed/append", (9, 1), Condition::Absent, b"more").await?;
                let code = refusal(
                    staged.commit(&attempt(9, 1), &content(1)).await,
                    REFUSED,
                    "a commit to a file that exists",
                )?;
                staged.abort().await?;
                same(&self.seen("unclaimed/append").await?, &Bytes::from_static(b"old"), "the old content")?;
                code
            }
            Capability::ReadStaged => {
                let mut staged = self.stage("unclaimed/staged", (10, 1), Condition::Absent, b"staged").await?;
                let none = staged.reader().await?.is_none();
                staged.abort().await?;
                want(none, "what is not claimed is not offered")?;
                "not offered".to_owned()
            }
            Capability::WriteFiles | Capability::WriteOverwrite | Capability::ReadBack => {
                let refused =
                    self.open().await?.stage("unclaimed/write", &attempt(11, 1), Condition::Absent, BUDGET).await;
                refusal(refused, codes, "a write")?
            }
            Capability::ReadFiles => refusal(self.open().await?.list("", false).await, codes, "a list")?,
            Capability::Probe => refusal(self.open().await?.probe().await, codes, "a probe")?,
        };
        Ok(Outcome::Refused(by))
    }
}
