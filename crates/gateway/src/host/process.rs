//! A worker process and its two pipes. The worker dies with its host, whatever the host dies of. Nothing here knows
//! what a job is about.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dmg_ambient::TaskGroup;
use dmg_protocol::Fault;
use dmg_protocol::worker::{FromWorker, LINE_BYTES_MAX, ToWorker};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// Messages of the worker that may wait for the host.
const INBOX: usize = 64;
/// How long the worker may take to read a message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Which program a worker is. The default is this very program.
#[derive(Debug, Clone)]
pub struct WorkerProgram {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl WorkerProgram {
    /// This program as `node worker`. On Linux it is named so that it is found even after an update replaced the file.
    pub fn this() -> Result<Self, Fault> {
        let path = if cfg!(target_os = "linux") {
            PathBuf::from("/proc/self/exe")
        } else {
            std::env::current_exe().map_err(|error| {
                Fault::new("SystemErrorState", format!("This program's own file cannot be found: {error}."))
            })?
        };
        Ok(WorkerProgram { path, arguments: vec!["node".into(), "worker".into()] })
    }
}

/// Starts workers from one thread that lives as long as its owner. The system ends a child with the *thread* that
/// started it, so a thread of a pool that may go away must not start any.
#[derive(Clone)]
pub(crate) struct Spawner(std::sync::mpsc::Sender<(Command, oneshot::Sender<std::io::Result<Child>>)>);

impl Spawner {
    pub(crate) fn start() -> Result<Self, Fault> {
        let (sender, requests) = std::sync::mpsc::channel::<(Command, oneshot::Sender<std::io::Result<Child>>)>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("worker-spawner".into())
            .spawn(move || {
                let _guard = runtime.enter();
                while let Ok((mut command, answer)) = requests.recv() {
                    // Whoever asked may be gone; then the child ends with the answer, as it is killed on drop.
                    let _ = answer.send(command.spawn());
                }
            })
            .map_err(|error| Fault::new("SystemErrorState", format!("A thread cannot be started: {error}.")))?;
        Ok(Spawner(sender))
    }

    /// Starts a worker.
    pub(crate) async fn spawn(&self, program: &WorkerProgram) -> Result<Worker, Fault> {
        let failed = |error: &dyn std::fmt::Display| {
            Fault::new("SystemErrorAborted", format!("The worker process cannot be started: {error}."))
        };
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        #[cfg(target_os = "linux")]
        {
            command.arg0("dmg");
            end_with_parent(&mut command);
        }
        let (answer, started) = oneshot::channel();
        self.0.send((command, answer)).map_err(|error| failed(&error))?;
        let mut child = started.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let input = child.stdin.take().expect("standard input is a pipe");
        let output = child.stdout.take().expect("standard output is a pipe");
        let (sender, messages) = mpsc::channel(INBOX);
        let mut reader = TaskGroup::new();
        reader.spawn(read_messages(output, sender));
        Ok(Worker { child, input: Some(input), messages, _reader: reader })
    }
}

/// A running worker. Dropping it kills the process.
pub(crate) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    messages: mpsc::Receiver<FromWorker>,
    _reader: TaskGroup,
}

impl Worker {
    /// The next message; none when the worker has closed its output.
    pub(crate) async fn next(&mut self) -> Option<FromWorker> {
        self.messages.recv().await
    }

    /// Says something. A worker that does not listen any more is noticed by its silence, not here.
    pub(crate) async fn say(&mut self, message: &ToWorker) {
        let Some(input) = &mut self.input else { return };
        let line = line(message);
        let written = tokio::time::timeout(WRITE_TIMEOUT, async {
            input.write_all(&line).await?;
            input.flush().await
        });
        if !matches!(written.await, Ok(Ok(()))) {
            self.input = None;
        }
    }

    /// Ends the process at once.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.start_kill();
    }

    /// How the process ended; it is killed if it takes too long.
    pub(crate) async fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.input = None;
        if let Ok(status) = tokio::time::timeout(patience, self.child.wait()).await {
            return status.ok();
        }
        self.kill();
        self.child.wait().await.ok()
    }
}

/// One message as a line. The buffer gets its whole length at once, so that growing leaves no copy of a secret behind.
fn line(message: &ToWorker) -> Zeroizing<Vec<u8>> {
    const PROOF: &str = "pipe messages have string keys and always serialise";
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, message).expect(PROOF);
    let mut line = Zeroizing::new(Vec::with_capacity(count.0 + 1));
    serde_json::to_writer(&mut *line, message).expect(PROOF);
    line.push(b'\n');
    line
}

async fn read_messages(output: ChildStdout, messages: mpsc::Sender<FromWorker>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut output).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) if line.last() != Some(&b'\n') => return,
            Ok(_) => {}
        }
        match serde_json::from_slice(&line) {
            Ok(message) => {
                if messages.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "worker said something that is not a message");
                return;
            }
        }
    }
}

/// Asks the system to kill the child when the thread that started it ends, and ends at once if that has happened.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "prctl and pre_exec have no safe form")]
fn end_with_parent(command: &mut Command) {
    let host = std::process::id();
    // SAFETY: between fork and exec only prctl, getppid and the raw error are used, which are safe there.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            if libc::getppid().cast_unsigned() != host {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Keeps other processes of the same user from reading this one's memory, where credentials are opened.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "prctl has no safe form")]
pub(crate) fn hide_memory() {
    // SAFETY: the call changes one flag of this process and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
    }
}

/// Keeps other processes of the same user from reading this one's memory; only Linux offers it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn hide_memory() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn shell(script: &str) -> WorkerProgram {
        WorkerProgram { path: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
    }

    #[tokio::test]
    async fn messages_go_both_ways_and_a_killed_worker_has_no_last_word() {
        let spawner = Spawner::start().unwrap();
        let script = r#"read line; echo '{"say":"probed","detail":"heard"}'; exec sleep 1000"#;
        let mut worker = spawner.spawn(&shell(script)).await.unwrap();
        worker.say(&ToWorker::Cancel).await;
        assert_eq!(worker.next().await, Some(FromWorker::Probed { detail: "heard".into() }));
        worker.kill();
        assert_eq!(worker.next().await, None);
        let ended = worker.ended(Duration::from_secs(5)).await.unwrap();
        assert_eq!(ended.to_string(), "signal: 9 (SIGKILL)");
    }

    #[tokio::test]
    async fn a_worker_that_talks_nonsense_is_not_believed() {
        let spawner = Spawner::start().unwrap();
        for script in ["echo hello", "printf '{\"say\":\"mayCommit\"}'", "head -c 100000 /dev/zero"] {
            let mut worker = spawner.spawn(&shell(script)).await.unwrap();
            assert_eq!(worker.next().await, None, "{script}");
        }
    }

    /// The host of this test is this test again, in a process of its own: it starts a worker, says its process id, and
    /// is killed the hard way.
    #[tokio::test]
    async fn a_worker_dies_with_its_host() {
        if dmg_ambient::environment("DMG_TEST_BE_HOST").is_some() {
            let spawner = Spawner::start().unwrap();
            let script = r#"echo '{"say":"probed","detail":"'$$'"}'; exec sleep 1000"#;
            let mut worker = spawner.spawn(&shell(script)).await.unwrap();
            let Some(FromWorker::Probed { detail }) = worker.next().await else { panic!("no word from the worker") };
            println!("\nworker {detail}");
            std::future::pending::<()>().await;
        }
        let mut host = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host::process::tests::a_worker_dies_with_its_host", "--nocapture"])
            .env("DMG_TEST_BE_HOST", "1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
        let worker = loop {
            let line = lines.next_line().await.unwrap().expect("the host says its worker's process id");
            if let Some(id) = line.strip_prefix("worker ") {
                break format!("/proc/{id}/cmdline");
            }
        };
        let runs = || std::fs::read(&worker).is_ok_and(|text| String::from_utf8_lossy(&text).contains("sleep"));
        assert!(tokio::fs::try_exists(&worker).await.unwrap(), "the worker never ran");
        host.start_kill().unwrap();
        host.wait().await.unwrap();
        let ambient = dmg_ambient::Ambient::real();
        let deadline = ambient.uptime() + Duration::from_secs(5);
        while runs() {
            assert!(ambient.uptime() < deadline, "the worker outlived its host");
            ambient.sleep(Duration::from_millis(10)).await;
        }
    }
}
