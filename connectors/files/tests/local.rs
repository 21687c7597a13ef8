//! Local files on a real disk, and on small file systems made for one test: staging, conditions, marks, leftovers,
//! links, and what goes wrong. Mounting needs root; without it those tests say that they were skipped.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says why it is skipped")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use dmg_ambient::Ambient;
use dmg_connector::{ByteStore, ByteStoreConnector as _, Condition, MarkContent, Session, StagedFile};
use dmg_files::local::LocalFiles;
use dmg_protocol::{Attempt, Epoch, RunId, Secret, Secrets};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

const BUDGET: usize = 1 << 20;

fn settings(root: &Path) -> Map<String, Value> {
    let Value::Object(settings) = json!({ "root": root.to_str().unwrap() }) else { unreachable!() };
    settings
}

async fn open(root: &Path) -> Arc<dyn ByteStore> {
    let session = Session::new(Ambient::test(1), "dmg/test");
    LocalFiles.open(&settings(root), &Secrets::none(), session).await.unwrap()
}

fn attempt(run: u32, epoch: u64) -> Attempt {
    let run = RunId::new(format!("{run:08x}-0000-4000-8000-000000000000"));
    Attempt { namespace: "dmg-copy".into(), run, epoch: Epoch(epoch) }
}

fn content(rows: u64) -> MarkContent {
    MarkContent { rows, digest: format!("{rows:032x}") }
}

async fn stage(
    store: &Arc<dyn ByteStore>,
    path: &str,
    attempt: &Attempt,
    condition: Condition,
    text: &str,
) -> Box<dyn StagedFile> {
    let mut staged = store.stage(path, attempt, condition, BUDGET).await.unwrap();
    staged.write(Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
    staged.seal().await.unwrap();
    staged
}

async fn text(store: &Arc<dyn ByteStore>, path: &str) -> String {
    let entry = store.stat(path).await.unwrap().unwrap();
    let reader = store.open(&entry).await.unwrap();
    String::from_utf8(reader.read(0..reader.size()).await.unwrap().to_vec()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_appears_at_the_commit_and_says_who_wrote_it() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let me = attempt(1, 3);
    let mut staged = stage(&store, "a/b/x.csv", &me, Condition::Absent, "hello").await;
    assert!(store.list("a", true).await.unwrap().is_empty(), "staged files are not listed");
    assert_eq!(store.stat("a/b/x.csv").await.unwrap(), None);
    let reader = staged.reader().await.unwrap().unwrap();
    assert_eq!(reader.read(1..4).await.unwrap(), "ell");

    let committed = staged.commit(&me, &content(7)).await.unwrap();
    assert_eq!((committed.rows, committed.epoch), (7, Epoch(3)));
    assert_eq!(staged.commit(&me, &content(7)).await.unwrap(), committed, "a repeat says the same");
    assert_eq!(text(&store, "a/b/x.csv").await, "hello");
    assert_eq!(names(&folder.path().join("a/b")), ["x.csv"]);

    let mark = store.mark("a/b/x.csv").await.unwrap().unwrap();
    assert_eq!((mark.namespace.as_str(), mark.run.as_str(), mark.epoch), ("dmg-copy", me.run.as_str(), Epoch(3)));
    assert_eq!((mark.rows, mark.digest, mark.stamp), (7, format!("{:032x}", 7), committed.mark));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(folder.path().join("a/b/x.csv")).unwrap().permissions().mode();
    assert_ne!(mode & 0o444, 0o400, "the mode follows the umask, not the staging");

    // A mark is not believed once somebody else changed the file.
    std::fs::write(folder.path().join("a/b/x.csv"), "other").unwrap();
    assert_eq!(store.mark("a/b/x.csv").await.unwrap(), None);
    assert_eq!(store.mark("a/missing").await.unwrap(), None);
    assert_eq!(store.mark("missing/missing").await.unwrap(), None);
}

#[tokio::test]
async fn a_large_file_arrives_whole() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let me = attempt(1, 1);
    let mut staged = store.stage("big", &me, Condition::Absent, 16 << 20).await.unwrap();
    let mut expected = Vec::new();
    for piece in 0..700_u32 {
        let bytes = vec![piece as u8; 100_000 + piece as usize];
        expected.extend_from_slice(&bytes);
        staged.write(Bytes::from(bytes)).await.unwrap();
    }
    staged.seal().await.unwrap();
    staged.commit(&me, &content(1)).await.unwrap();
    assert!(std::fs::read(folder.path().join("big")).unwrap() == expected);
    assert_eq!(store.traffic().bytes(), expected.len() as u64);
}

#[tokio::test]
async fn two_runs_on_one_target_cannot_both_win() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let (one, two) = (attempt(1, 1), attempt(2, 1));
    let mut first = stage(&store, "x", &one, Condition::Absent, "one").await;
    store.sweep("x", &two).await.unwrap();
    let mut second = stage(&store, "x", &two, Condition::Absent, "two").await;
    first.commit(&one, &content(1)).await.unwrap();
    let error = second.commit(&two, &content(2)).await.unwrap_err();
    assert_eq!(error.fault.code, "StoreErrorCommitRefused");
    assert_eq!(
        error.fault.message,
        format!(
            "The file \"x\" in folder {} was created or changed by somebody else since the copy began; it was left alone.",
            folder.path().display()
        )
    );
    second.abort().await.unwrap();

    // The same under the stamp both saw.
    let stamp = Condition::Stamp(store.stat("x").await.unwrap().unwrap().stamp);
    let mut first = stage(&store, "x", &one, stamp.clone(), "one again").await;
    let mut second = stage(&store, "x", &two, stamp, "two again").await;
    second.commit(&two, &content(2)).await.unwrap();
    let error = first.commit(&one, &content(1)).await.unwrap_err();
    assert_eq!(error.fault.code, "StoreErrorCommitRefused");
    first.abort().await.unwrap();
    assert_eq!(text(&store, "x").await, "two again");
    assert_eq!(names(folder.path()), ["x"]);
}

#[tokio::test]
async fn commits_race_and_one_wins() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    std::fs::write(folder.path().join("x"), "old").unwrap();
    let stamp = Condition::Stamp(store.stat("x").await.unwrap().unwrap().stamp);
    let mut group = dmg_ambient::TaskGroup::new();
    for run in 0..8 {
        let (store, stamp) = (store.clone(), stamp.clone());
        group.spawn(async move {
            let me = attempt(run, 1);
            let mut staged = stage(&store, "x", &me, stamp, &format!("run {run}")).await;
            let result = staged.commit(&me, &content(1)).await;
            staged.abort().await.unwrap();
            result.is_ok().then_some(run)
        });
    }
    let mut winners = Vec::new();
    while let Some(ended) = group.join_next().await {
        winners.extend(ended.unwrap());
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(text(&store, "x").await, format!("run {}", winners[0]));
}

#[tokio::test]
async fn a_zombie_of_a_lower_epoch_cannot_commit() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let (old, new) = (attempt(1, 1), attempt(1, 2));
    let mut zombie = stage(&store, "x", &old, Condition::Absent, "old").await;
    store.sweep("x", &new).await.unwrap();
    let error = zombie.commit(&old, &content(1)).await.unwrap_err();
    assert_eq!(error.fault.code, "StoreErrorCommitRefused");
    let mut fresh = stage(&store, "x", &new, Condition::Absent, "new").await;
    assert_eq!(zombie.commit(&old, &content(1)).await.unwrap_err().fault.code, "StoreErrorCommitRefused");
    store.sweep("x", &old).await.unwrap();
    zombie.abort().await.unwrap();
    fresh.commit(&new, &content(2)).await.unwrap();
    // Now the zombie finds that its run has won by a higher epoch: still not its own commit.
    assert_eq!(zombie.commit(&old, &content(1)).await.unwrap_err().fault.code, "StoreErrorCommitRefused");
    assert_eq!(text(&store, "x").await, "new");
}

#[tokio::test]
async fn leftovers_go_when_their_writer_is_gone() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let living = stage(&store, "x", &attempt(1, 1), Condition::Absent, "living").await;
    drop(stage(&store, "x", &attempt(2, 1), Condition::Absent, "dead").await);
    drop(stage(&store, "x.y", &attempt(3, 1), Condition::Absent, "of another target").await);
    let foreign = Attempt { namespace: "other".into(), ..attempt(4, 1) };
    drop(stage(&store, "x", &foreign, Condition::Absent, "of another factory").await);
    std::fs::write(folder.path().join(".x.user.part"), "a user's own").unwrap();
    store.sweep("x", &attempt(5, 1)).await.unwrap();
    assert_eq!(
        names(folder.path()),
        [".x.000000010000_1.part", ".x.000000040000_1.part", ".x.user.part", ".x.y.000000030000_1.part"]
    );
    drop(living);
    store.sweep("x", &attempt(5, 1)).await.unwrap();
    assert_eq!(names(folder.path()), [".x.000000040000_1.part", ".x.user.part", ".x.y.000000030000_1.part"]);
    store.sweep("no/such/folder", &attempt(5, 1)).await.unwrap();
}

#[tokio::test]
async fn paths_and_links_do_not_lead_out() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("inside")).unwrap();
    std::fs::write(folder.path().join("secret"), "outside").unwrap();
    std::fs::write(root.join("inside/file"), "inside").unwrap();
    std::os::unix::fs::symlink("../secret", root.join("link-out")).unwrap();
    std::os::unix::fs::symlink("..", root.join("folder-out")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), root.join("absolute-out")).unwrap();
    std::os::unix::fs::symlink("inside/file", root.join("link-in")).unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
    std::os::unix::fs::symlink("circle", root.join("circle")).unwrap();
    let store = open(&root).await;
    for path in ["link-out", "folder-out/secret", "absolute-out", "circle"] {
        assert_eq!(store.stat(path).await.unwrap_err().fault.code, "UserErrorPermission", "{path}");
    }
    assert_eq!(store.stat("../secret").await.unwrap_err().fault.code, "UserErrorSettings");
    assert_eq!(store.stat("dangling").await.unwrap(), None);
    assert_eq!(text(&store, "link-in").await, "inside");
    let listed = store.list("", true).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["inside/file", "link-in"]);
    let me = attempt(1, 1);
    for path in ["folder-out/new", "folder-out/a/new"] {
        let error = store.stage(path, &me, Condition::Absent, BUDGET).await.err().unwrap();
        assert_eq!(error.fault.code, "UserErrorPermission", "{path}");
    }
    let error = store.stage("link-in", &me, Condition::Absent, BUDGET).await.err().unwrap();
    assert_eq!(error.fault.code, "UserErrorNotSupported");
    assert_eq!(names(folder.path()), ["root", "secret"]);
}

#[tokio::test]
async fn listings_are_sorted_and_missing_things_say_so() {
    let folder = TempDir::new().unwrap();
    for path in ["b/2", "b/1", "b/c/3", "a"] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    let store = open(folder.path()).await;
    let listed = async |folder: &str, recursive| -> Vec<String> {
        store.list(folder, recursive).await.unwrap().into_iter().map(|entry| entry.path).collect()
    };
    assert_eq!(listed("", false).await, ["a"]);
    assert_eq!(listed("/b/", false).await, ["b/1", "b/2"]);
    assert_eq!(listed("b", true).await, ["b/1", "b/2", "b/c/3"]);
    assert_eq!(store.list("c", false).await.unwrap_err().fault.code, "UserErrorContainerMissing");
    assert_eq!(store.list("a", false).await.unwrap_err().fault.code, "UserErrorContainerMissing");
    assert_eq!(store.stat("b").await.unwrap_err().fault.code, "UserErrorContainerMissing");
    assert!(store.probe().await.unwrap().contains("MiB free"));

    let session = || Session::new(Ambient::test(1), "dmg/test");
    let missing = LocalFiles.open(&settings(&folder.path().join("nowhere")), &Secrets::none(), session()).await;
    assert_eq!(missing.err().unwrap().fault.code, "UserErrorContainerMissing");
    let secrets = [("password".to_owned(), Secret::from("hunter2"))].into_iter().collect();
    let refused = LocalFiles.open(&settings(folder.path()), &secrets, session()).await;
    assert_eq!(refused.err().unwrap().fault.code, "UserErrorNotSupported");
    // The whole machine, as `dmg copy` opens it.
    let machine = LocalFiles.open(&Map::new(), &Secrets::none(), session()).await.unwrap();
    let path = folder.path().join("a");
    assert_eq!(text(&machine, path.to_str().unwrap()).await, "x");
}

#[tokio::test]
async fn a_source_that_changes_stops_the_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, "0123456789").unwrap();
    let store = open(folder.path()).await;
    let entry = store.stat("x").await.unwrap().unwrap();
    let reader = store.open(&entry).await.unwrap();
    assert_eq!(reader.read(2..5).await.unwrap(), "234");
    std::fs::write(&path, "0123456789 and more").unwrap();
    assert_eq!(reader.read(2..5).await.unwrap_err().fault.code, "UserErrorSourceChanged");
    assert_eq!(store.open(&entry).await.err().unwrap().fault.code, "UserErrorSourceChanged");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(store.open(&entry).await.err().unwrap().fault.code, "UserErrorContainerMissing");
}

/// A file system of its own for one test.
struct Mount(PathBuf, #[expect(dead_code, reason = "it removes the folder when it goes")] TempDir);

impl Mount {
    fn new(kind: &str, options: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("mount");
        std::fs::create_dir(&path).unwrap();
        let done = Command::new("mount").args(["-t", kind, "-o", options, "none"]).arg(&path).output();
        if done.is_ok_and(|output| output.status.success()) {
            return Some(Mount(path, folder));
        }
        eprintln!("SKIPPED: a {kind} file system cannot be mounted here");
        None
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}"), "none"]).arg(&self.0).output();
        assert!(done.unwrap().status.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_content() {
    let Some(mount) = Mount::new("tmpfs", "size=1m") else { return };
    std::fs::write(mount.0.join("x"), "old").unwrap();
    let store = open(&mount.0).await;
    let me = attempt(1, 1);
    let stamp = store.stat("x").await.unwrap().unwrap().stamp;
    let mut staged = store.stage("x", &me, Condition::Stamp(stamp), BUDGET).await.unwrap();
    let mut result = Ok(());
    for _ in 0..64 {
        result = staged.write(Bytes::from(vec![7_u8; 100_000])).await;
        if result.is_err() {
            break;
        }
    }
    let error = result.unwrap_err();
    assert_eq!(error.fault.code, "StoreErrorNoSpace");
    assert_eq!(
        error.fault.message,
        format!("There is no space left for the file \"x\" in folder {}.", mount.0.display())
    );
    assert!(staged.seal().await.is_err(), "a broken file cannot be sealed");
    assert!(staged.commit(&me, &content(1)).await.is_err());
    staged.abort().await.unwrap();
    assert_eq!(names(&mount.0), ["x"]);
    assert_eq!(text(&store, "x").await, "old");

    // A file open for writing would keep the file system writable.
    drop(staged);
    mount.remount("ro");
    let error = store.stage("y", &me, Condition::Absent, BUDGET).await.err().unwrap();
    assert_eq!(error.fault.code, "UserErrorPermission");
}

#[tokio::test]
async fn without_attributes_the_mark_lies_beside_the_file() {
    let Some(mount) = Mount::new("ramfs", "mode=755") else { return };
    let store = open(&mount.0).await;
    let me = attempt(1, 1);
    let mut staged = stage(&store, "x", &me, Condition::Absent, "hello").await;
    let committed = staged.commit(&me, &content(5)).await.unwrap();
    assert_eq!(names(&mount.0), [".x.dmg-mark", "x"]);
    assert_eq!(store.list("", true).await.unwrap().len(), 1);
    let mark = store.mark("x").await.unwrap().unwrap();
    assert_eq!((mark.run.as_str(), mark.rows, &mark.stamp), (me.run.as_str(), 5, &committed.mark));
    assert_eq!(staged.commit(&me, &content(5)).await.unwrap(), committed);
    // The next run writes its mark before the rename; until then the old file has none, and never a wrong one.
    let next = attempt(2, 1);
    std::fs::write(mount.0.join(".x.~mark.000000090000_1.part"), "half a m").unwrap();
    store.sweep("x", &next).await.unwrap();
    assert_eq!(names(&mount.0), [".x.dmg-mark", "x"]);
    let mut staged = stage(&store, "x", &next, Condition::Stamp(committed.mark), "world").await;
    let committed = staged.commit(&next, &content(6)).await.unwrap();
    let mark = store.mark("x").await.unwrap().unwrap();
    assert_eq!((mark.run.as_str(), mark.rows, mark.stamp), (next.run.as_str(), 6, committed.mark));
    std::fs::write(mount.0.join("x"), "by hand").unwrap();
    assert_eq!(store.mark("x").await.unwrap(), None);
}
