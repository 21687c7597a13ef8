//! The line from one job to the service: keeps the lease, stores the plan, and asks whether the worker may commit.
//! While the service is away it asks again and again; a commit waits for a fresh yes.

use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_protocol::channel::{LeaseAnswer, PLAN, PlanRequest, RENEW, RenewRequest};
use dmg_protocol::worker::Progress;
use dmg_protocol::{Epoch, Fault, JobId, Plan, Retry};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

use super::channel::Channel;

const RENEW_EVERY: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_BASE: Duration = Duration::from_millis(500);
const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// In the first minutes of an outage the pauses stay short: a service that only restarts must find us before the lease
/// is given to somebody else.
const BACKOFF_FIRST: Duration = Duration::from_secs(4);
const FIRST_ATTEMPTS: u32 = 40;

/// The pause before the next attempt.
pub(crate) fn pause(ambient: &Ambient, attempt: u32) -> Duration {
    let most = if attempt < FIRST_ATTEMPTS { BACKOFF_FIRST } else { BACKOFF_MOST };
    ambient.backoff(BACKOFF_BASE, attempt, most).max(Duration::from_millis(50))
}

/// What a job asks of its lease.
pub(crate) enum Ask {
    /// Store the plan.
    Plan(Box<Plan>),
    /// May the worker commit now? Answered once the service has said so; dropped when the lease is gone.
    MayCommit(oneshot::Sender<bool>),
}

/// What is known of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LeaseView {
    /// The service said that this epoch does not hold it any more.
    pub(crate) lost: bool,
    /// The run was cancelled.
    pub(crate) cancel: bool,
}

/// What one answer of the service means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Held {
        cancel: bool,
    },
    Lost,
    /// Nothing is known: ask again.
    Nothing,
}

fn told(answer: &Result<LeaseAnswer, Fault>) -> Told {
    match answer {
        Ok(answer) if answer.held => Told::Held { cancel: answer.cancel },
        Ok(_) => Told::Lost,
        // The node itself is refused, or the service does not know the job: whatever it is, the lease is not ours.
        Err(fault)
            if matches!(fault.code.as_str(), "UserErrorGatewayKey" | "UserErrorNotFound" | "SystemErrorLeaseLost") =>
        {
            Told::Lost
        }
        Err(_) => Told::Nothing,
    }
}

/// One job's lease.
pub(crate) struct Lease {
    pub(crate) ambient: Ambient,
    pub(crate) channel: Arc<Channel>,
    pub(crate) job_id: JobId,
    pub(crate) epoch: Epoch,
    pub(crate) progress: watch::Receiver<Option<Progress>>,
    pub(crate) view: watch::Sender<LeaseView>,
}

impl Lease {
    /// Keeps the lease until nobody asks any more, or it is lost.
    pub(crate) async fn keep(self, mut asks: mpsc::Receiver<Ask>) {
        let (mut wait, mut attempt) = (RENEW_EVERY, 0);
        loop {
            let ask = tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => Some(ask),
                    None => return,
                },
                () = self.ambient.sleep(wait) => None,
            };
            match ask {
                None => match self.renew().await {
                    Told::Held { .. } => (wait, attempt) = (RENEW_EVERY, 0),
                    Told::Lost => return,
                    Told::Nothing => {
                        attempt += 1;
                        wait = pause(&self.ambient, attempt).min(RENEW_EVERY.max(BACKOFF_MOST));
                    }
                },
                Some(Ask::Plan(plan)) => {
                    if self.until_told(|| self.store(&plan)).await == Told::Lost {
                        return;
                    }
                }
                Some(Ask::MayCommit(answer)) => {
                    let told = self.until_told(|| self.renew()).await;
                    // The job may have ended meanwhile; then nobody wants the answer.
                    let _ = answer.send(told == Told::Held { cancel: false });
                    if told == Told::Lost {
                        return;
                    }
                }
            }
        }
    }

    async fn until_told<F: Future<Output = Told>>(&self, mut ask: impl FnMut() -> F) -> Told {
        let mut attempt = 0;
        loop {
            match ask().await {
                Told::Nothing => self.ambient.sleep(pause(&self.ambient, attempt)).await,
                told => return told,
            }
            attempt += 1;
        }
    }

    async fn renew(&self) -> Told {
        dmg_ambient::failpoint!("host.renew");
        let progress = self.progress.borrow().clone();
        let request = RenewRequest { job_id: self.job_id.clone(), epoch: self.epoch, progress };
        let answer = self.channel.call::<LeaseAnswer>(RENEW, &request, TIMEOUT).await.map(|(answer, _)| answer);
        self.note(&answer, "renewing the lease")
    }

    async fn store(&self, plan: &Plan) -> Told {
        dmg_ambient::failpoint!("host.plan");
        let request = PlanRequest { job_id: self.job_id.clone(), epoch: self.epoch, plan: plan.clone() };
        let answer = self.channel.call::<LeaseAnswer>(PLAN, &request, TIMEOUT).await.map(|(answer, _)| answer);
        self.note(&answer, "storing the plan")
    }

    fn note(&self, answer: &Result<LeaseAnswer, Fault>, what: &str) -> Told {
        let told = told(answer);
        if let Err(fault) = answer {
            let again = told == Told::Nothing && fault.retry != Retry::Never;
            tracing::info!(job = %self.job_id, code = %fault.code, again, "{what} did not work: {}", fault.message);
        }
        self.view.send_if_modified(|view| {
            let now = match told {
                Told::Held { cancel } => LeaseView { lost: false, cancel: view.cancel || cancel },
                Told::Lost => LeaseView { lost: true, ..*view },
                Told::Nothing => *view,
            };
            std::mem::replace(view, now) != now
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_mean() {
        let answer = |held, cancel| Ok(LeaseAnswer { held, lease_seconds: 15, cancel });
        for (answer, expect) in [
            (answer(true, false), Told::Held { cancel: false }),
            (answer(true, true), Told::Held { cancel: true }),
            (answer(false, false), Told::Lost),
            (answer(false, true), Told::Lost),
            (Err(Fault::new("UserErrorGatewayKey", "x")), Told::Lost),
            (Err(Fault::new("NetworkErrorServiceUnreachable", "x")), Told::Nothing),
            (Err(Fault::new("SystemErrorInternal", "x")), Told::Nothing),
        ] {
            assert_eq!(told(&answer), expect, "{answer:?}");
        }
    }

    #[test]
    fn pauses_are_short_first_and_bounded_always() {
        let ambient = Ambient::test(3);
        for attempt in 0..200 {
            let most = if attempt < FIRST_ATTEMPTS { BACKOFF_FIRST } else { BACKOFF_MOST };
            assert!(pause(&ambient, attempt) <= most);
        }
    }
}
