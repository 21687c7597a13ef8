//! The worker process: one job, then it ends. It gets the job and two opened secrets over its standard input,
//! answers over its standard output, and has no identity at the service. When its host is gone, it stops.

mod keyed;
mod registry;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::Session;
use dmg_engine::{CopyRequest, Observer};
use dmg_protocol::job::Job;
use dmg_protocol::worker::{FromWorker, LINE_BYTES_MAX, Progress, Start, ToWorker};
use dmg_protocol::{Fault, Plan};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use registry::{Registry, catalog};

/// Messages that may wait for the host; progress beyond that is dropped.
const OUTBOX: usize = 64;

/// Runs the one job that arrives on standard input. Returns the process's exit code.
pub async fn main(ambient: Ambient) -> u8 {
    match serve(ambient).await {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "worker cannot talk to its host");
            1
        }
    }
}

async fn serve(ambient: Ambient) -> std::io::Result<()> {
    let input = pipe::Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let output = pipe::Sender::from_owned_fd(std::io::stdout().as_fd().try_clone_to_owned()?)?;
    let mut input = BufReader::new(input);
    let Some(ToWorker::Start(start)) = next_message(&mut input).await? else {
        return Err(std::io::Error::other("the first message is not a job"));
    };
    let (outbox, messages) = mpsc::channel(OUTBOX);
    let (answer, answers) = watch::channel(None);
    let cancel = CancellationToken::new();
    let mut tasks: TaskGroup<std::io::Result<()>> = TaskGroup::new();
    let writer = tasks.spawn(write_messages(output, messages));
    let (listen, gone) = (cancel.clone(), Arc::new(AtomicBool::new(false)));
    let noticed = gone.clone();
    tasks.spawn(async move {
        while let Ok(Some(message)) = next_message(&mut input).await {
            match message {
                ToWorker::CommitAnswer { granted } => {
                    answer.send_replace(Some(granted));
                }
                ToWorker::Cancel => listen.cancel(),
                ToWorker::Start(_) => {}
            }
        }
        // The host is gone: nobody can say whether the lease is held, so nothing may be committed.
        noticed.store(true, Ordering::SeqCst);
        listen.cancel();
        Ok(())
    });
    let host = Host { outbox: outbox.clone(), answers, cancel: cancel.clone(), gone };
    let last = work(ambient, *start, host, &cancel).await;
    // A closed pipe means that nobody listens any more; there is nobody left to tell.
    let _ = outbox.send(last).await;
    drop(outbox);
    while !writer.is_finished() {
        if tasks.join_next().await.is_none() {
            break;
        }
    }
    tasks.shutdown().await;
    Ok(())
}

async fn work(ambient: Ambient, start: Start, host: Host, cancel: &CancellationToken) -> FromWorker {
    let key = start.digest_key.map(dmg_protocol::worker::PipeSecret::into_secret);
    let result = match start.job {
        Job::Copy(job) => {
            let request = CopyRequest {
                job: *job,
                attempt: start.attempt,
                source_secrets: start.source_secrets.into_secrets(),
                sink_secrets: start.sink_secrets.into_secrets(),
                redirect_secrets: start.redirect_secrets.into_secrets(),
                extra_ca: Vec::new(),
                earlier: start.plan.is_some(),
            };
            dmg_engine::copy(&ambient, &Registry, request, &host, cancel).await.map(|mut receipt| {
                if let Some(key) = &key {
                    keyed::hide_sums(&mut receipt, key);
                }
                FromWorker::Finished { receipt: Box::new(receipt) }
            })
        }
        Job::Probe(job) => {
            let session = Session::new(ambient, "dmg/probe");
            let secrets = start.source_secrets.into_secrets();
            tokio::select! {
                result = dmg_engine::probe(&Registry, &job.store, &secrets, session) => {
                    result.map(|detail| FromWorker::Probed { detail }).map_err(|error| *error.fault)
                }
                () = cancel.cancelled() => Err(Fault::new("UserErrorCancelled", "The connection test was cancelled.")),
            }
        }
        Job::Procedure(job) => {
            let session = Session::new(ambient, start.attempt.session_name());
            let secrets = start.source_secrets.into_secrets();
            dmg_engine::call(&Registry, &job.store, &secrets, session, &job.call, cancel)
                .await
                .map(|outcome| FromWorker::Called { outcome })
        }
        Job::Browse(job) => {
            let session = Session::new(ambient, "dmg/browse");
            let secrets = start.source_secrets.into_secrets();
            tokio::select! {
                result = dmg_engine::browse(&Registry, &job, &secrets, session) => {
                    let listing = result.map_err(|error| *error.fault);
                    listing.map(|listing| FromWorker::Browsed { listing: Box::new(listing) })
                }
                () = cancel.cancelled() => Err(Fault::new("UserErrorCancelled", "The look was cancelled.")),
            }
        }
    };
    result.unwrap_or_else(|fault| FromWorker::Failed { fault })
}

async fn next_message(input: &mut BufReader<pipe::Receiver>) -> std::io::Result<Option<ToWorker>> {
    let mut line = zeroize_on_drop();
    let read = input.take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(|_| std::io::Error::other("a message is not as agreed"))
}

/// The line that carries secrets is wiped when it is dropped.
fn zeroize_on_drop() -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new(Vec::with_capacity(64 * 1024))
}

async fn write_messages(mut output: pipe::Sender, mut messages: mpsc::Receiver<FromWorker>) -> std::io::Result<()> {
    while let Some(message) = messages.recv().await {
        let mut line = serde_json::to_vec(&message).map_err(std::io::Error::other)?;
        line.push(b'\n');
        output.write_all(&line).await?;
    }
    output.flush().await
}

/// The engine's view of the host.
struct Host {
    outbox: mpsc::Sender<FromWorker>,
    answers: watch::Receiver<Option<bool>>,
    cancel: CancellationToken,
    /// Set when the host is not there any more.
    gone: Arc<AtomicBool>,
}

fn host_gone() -> Fault {
    Fault::new("SystemErrorLeaseLost", "The gateway's host process is gone; without it no commit is allowed.")
}

#[async_trait]
impl Observer for Host {
    async fn planned(&self, plan: &Plan) -> Result<(), Fault> {
        let message = FromWorker::Planned { plan: Box::new(plan.clone()) };
        self.outbox.send(message).await.map_err(|_| host_gone())
    }

    fn progress(&self, progress: Progress) {
        // Progress is only news: when the host is slow, the next report tells more.
        let _ = self.outbox.try_send(FromWorker::Progress { progress });
    }

    fn abandoned(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    async fn may_commit(&self) -> Result<bool, Fault> {
        let mut answers = self.answers.clone();
        // A copy that is done again asks again: what is there already answers its earlier question.
        answers.mark_unchanged();
        self.outbox.send(FromWorker::MayCommit).await.map_err(|_| host_gone())?;
        tokio::select! {
            answer = answers.changed() => {
                answer.map(|()| *answers.borrow() == Some(true)).map_err(|_| host_gone())
            }
            () = self.cancel.cancelled() => {
                Err(Fault::new("UserErrorCancelled", "The run was cancelled before its commit; the target is as it was."))
            }
        }
    }
}

/// The engine with nobody watching from another process: for `dmg copy`.
pub fn stores() -> Arc<dyn dmg_engine::Stores> {
    Arc::new(Registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_commit_has_its_own_answer() {
        let (outbox, mut messages) = mpsc::channel(OUTBOX);
        let (answer, answers) = watch::channel(None);
        let host = Host { outbox, answers, cancel: CancellationToken::new(), gone: Arc::default() };
        for granted in [true, false, true, true] {
            let host_answers = async {
                let question = messages.recv().await;
                answer.send_replace(Some(granted));
                question
            };
            let (answered, question) = tokio::join!(host.may_commit(), host_answers);
            assert!(matches!(question, Some(FromWorker::MayCommit)));
            assert_eq!(answered.expect("the host answers"), granted);
        }
    }
}
