//! The end of a copy: the commit, asked for and never guessed.

use std::time::Duration;

use dmg_connector::{Committed, Error, MarkContent, MarkState, Result, Sums};
use dmg_protocol::{Fault, Receipt, Retry, VerifyLevel};

use super::{Observer, Ready, Run, left_behind, newer};
use crate::lanes::Moved;
use crate::redirect::Redirect;
use crate::{proof, screen, watched};

/// How often a doubtful commit is looked up before giving up.
const DOUBT_LOOKUPS_MAX: u32 = 8;

impl Run {
    pub(super) async fn commit(
        &mut self,
        ready: &Ready,
        moved: &Moved,
        arrived: Option<Sums>,
        observer: &dyn Observer,
    ) -> Result<Receipt> {
        self.begins("commit");
        observer.progress(self.progress("commit", ready));
        dmg_ambient::failpoint!("engine.commit.ask", dmg_connector::cut());
        if !observer.may_commit().await? {
            let message = "The lease on this job is over; another attempt may hold it.";
            return Err(Fault::new("SystemErrorLeaseLost", message).into());
        }
        dmg_ambient::failpoint!("engine.commit.granted", dmg_connector::cut());
        let redirected = match &ready.redirect {
            // What an attempt thought dead left out must not be replaced by what this one did, if its rows are there.
            Some(redirect) => match ready.sink.mark().await? {
                MarkState::Committed(committed) => {
                    left_behind(ready.sink.abort().await);
                    return self.found(ready.sink.as_ref(), committed, Some(redirect)).await;
                }
                MarkState::Newer(epoch) => return Err(newer(epoch).into()),
                MarkState::None => redirect.commit().await?,
            },
            None => None,
        };
        dmg_ambient::failpoint!("engine.redirected", dmg_connector::cut());
        let digest = arrived.as_ref().map_or(String::new(), Sums::row_hex);
        let content = MarkContent { rows: moved.read.rows, digest };
        let committed = self.commit_surely(ready, &content).await;
        if let (Err(error), Some(redirect)) = (&committed, &ready.redirect)
            && !error.outcome_unknown
        {
            take_back(redirect, observer).await;
        }
        let committed = match committed {
            Err(error) if screen::collided(ready.tolerate.is_some(), ready.sink.as_ref(), &error).await => {
                self.collided = true;
                return Err(error);
            }
            committed => committed?,
        };
        dmg_ambient::failpoint!("engine.commit.answered");
        if committed.epoch != ready.plan.attempt.epoch {
            // An earlier attempt, thought dead, committed after this one had looked for its mark: what it read is there,
            // and what this one read is not.
            left_behind(ready.sink.abort().await);
            return self.found(ready.sink.as_ref(), committed, ready.redirect.as_deref()).await;
        }
        self.begins("report");
        self.lap("commit");
        if ready.plan.verify == VerifyLevel::Full {
            self.confirm(ready, moved).await?;
            self.lap("confirm");
        }
        dmg_ambient::failpoint!("engine.report");
        let mut receipt = self.receipt(ready, moved, arrived, &committed);
        if let Some(tolerate) = &ready.tolerate {
            let skipped = tolerate.report(redirected.as_ref());
            receipt.read.rows += skipped.rows;
            receipt.skipped = Some(skipped);
        }
        if self.collisions > 0 {
            let times = if self.collisions == 1 { "once" } else { "twice" };
            receipt.notices.push(format!(
                "The copy was done again {times}: meanwhile another writer had added rows that its rows collide with."
            ));
        }
        Ok(receipt)
    }

    /// Commits, and on any doubt reads the mark before anything else. A try that fails for certain after one that may
    /// still go through leaves the doubt.
    async fn commit_surely(&self, ready: &Ready, content: &MarkContent) -> Result<Committed> {
        let mut lookups = 0;
        loop {
            let told = |error: Error| if lookups > 0 { error.with_unknown_outcome() } else { error };
            let error = match ready.sink.commit(content).await {
                Ok(committed) => return Ok(committed),
                Err(error) if error.fault.code == "StoreErrorCommitRefused" => {
                    // The target changed: perhaps by an earlier epoch of this very run, which is as good.
                    return match ready.sink.mark().await {
                        Ok(MarkState::Committed(committed)) if committed.digest == content.digest => Ok(committed),
                        _ => Err(told(error)),
                    };
                }
                Err(error) if error.outcome_unknown && lookups < DOUBT_LOOKUPS_MAX => error,
                Err(error) => return Err(told(error)),
            };
            tracing::info!(fault = %error.fault.code, "no answer to the commit; reading the mark");
            loop {
                lookups += 1;
                let pause = self.ambient.backoff(Duration::from_millis(500), lookups, Duration::from_secs(10));
                self.ambient.sleep(pause).await;
                dmg_ambient::failpoint!("engine.mark.read");
                match ready.sink.mark().await {
                    Ok(MarkState::Committed(committed)) => return Ok(committed),
                    Ok(MarkState::Newer(epoch)) => return Err(newer(epoch).into()),
                    // What took too long once would take too long again; nobody knows yet whether it goes on.
                    Ok(MarkState::None) if watched::late(&error) => return Err(error),
                    Ok(MarkState::None) => break,
                    Err(_) if lookups < DOUBT_LOOKUPS_MAX => {}
                    Err(_) => return Err(error),
                }
            }
        }
    }

    async fn confirm(&self, ready: &Ready, moved: &Moved) -> Result<()> {
        let lanes = ready.plan.lanes as usize;
        let Some(source) = ready.sink.committed(lanes).await? else { return Ok(()) };
        let found = proof::digest_all(source.into(), &ready.hashed, lanes, self.limits()).await?;
        proof::compare(&ready.hashed, &moved.read, &found).map_err(|error| {
            let message = format!("The commit happened, but the target now differs. {}", error.fault.message);
            let remedy = "Another writer may have changed the target after the commit; compare it and run again.";
            Fault::new("SystemErrorVerification", message).remedy(remedy).retry(Retry::AfterFix).into()
        })
    }
}

/// What was told of rows is true only together with the copy. Who has lost the lease leaves it to the successor, which
/// replaces the file and must find it as it was when it began.
async fn take_back(redirect: &Redirect, observer: &dyn Observer) {
    if !observer.may_commit().await.unwrap_or(false) {
        return;
    }
    if let Err(error) = redirect.withdraw().await {
        tracing::info!(fault = %error.fault.code, "the redirect file tells of a copy that did not happen");
    }
}
