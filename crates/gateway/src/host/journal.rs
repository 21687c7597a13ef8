//! What the host must not forget when it is killed: which jobs it holds, and ends that the service has not heard of
//! yet. One file per job; after a restart each is reported before new work is taken.

use std::path::PathBuf;

use dmg_protocol::channel::{FinishRequest, JobGrant, Outcome};
use dmg_protocol::{Epoch, Fault, JobId};
use serde::{Deserialize, Serialize};

use super::folder::{NodeFolder, read_json, remove, write_json};

/// One job in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) version: u32,
    pub(crate) job_id: JobId,
    pub(crate) epoch: Epoch,
    /// RFC 3339 UTC.
    pub(crate) taken: String,
    /// How it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finish: Option<FinishRequest>,
}

impl Entry {
    /// What is to be reported for a job whose host died: its end, or that it is given back.
    pub(crate) fn report(self) -> FinishRequest {
        self.finish.unwrap_or_else(|| FinishRequest {
            job_id: self.job_id,
            epoch: self.epoch,
            outcome: Outcome::Released {
                fault: Fault::new("SystemErrorAborted", "The node's host ended while the job was running."),
            },
            progress: None,
        })
    }
}

/// The journal of a data folder.
#[derive(Debug, Clone)]
pub(crate) struct Journal(PathBuf);

impl Journal {
    pub(crate) fn new(folder: &NodeFolder) -> Self {
        Journal(folder.journal())
    }

    /// Notes a job before anything is done for it.
    pub(crate) fn begin(&self, grant: &JobGrant, taken: String) -> Result<(), Fault> {
        let (job_id, epoch) = (grant.job_id.clone(), grant.attempt.epoch);
        write_json(&self.path(&job_id, epoch), &Entry { version: 1, job_id, epoch, taken, finish: None })
    }

    /// Notes how a job ended before it is reported.
    pub(crate) fn end(&self, finish: &FinishRequest, taken: String) -> Result<(), Fault> {
        let (job_id, epoch) = (finish.job_id.clone(), finish.epoch);
        let entry = Entry { version: 1, job_id, epoch, taken, finish: Some(finish.clone()) };
        write_json(&self.path(&entry.job_id, epoch), &entry)
    }

    /// Forgets a job whose end was reported.
    pub(crate) fn forget(&self, job: &JobId, epoch: Epoch) -> Result<(), Fault> {
        remove(&self.path(job, epoch))
    }

    /// All entries. A file that is cut or foreign is passed over: its lease runs out by itself.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let Ok(files) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let mut entries: Vec<Entry> = files
            .filter_map(|file| {
                let path = file.ok()?.path();
                (path.extension()? == "json").then(|| read_json(&path).ok().flatten())?
            })
            .collect();
        entries.sort_by(|a, b| a.taken.cmp(&b.taken).then_with(|| a.job_id.cmp(&b.job_id)));
        entries
    }

    /// The epoch is part of the name: a job may come back under a new one before the old one is forgotten.
    fn path(&self, job: &JobId, epoch: Epoch) -> PathBuf {
        // Job ids come from the service; only harmless characters become part of a file name.
        let safe: String = job.as_str().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(100).collect();
        self.0.join(format!("{safe}.{epoch}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_is_given_back_and_what_ended_is_reported() {
        let data = tempfile::tempdir().unwrap();
        let folder = NodeFolder::create(data.path()).unwrap();
        let journal = Journal::new(&folder);
        let held = Entry { version: 1, job_id: JobId::new("a"), epoch: Epoch(3), taken: "1".into(), finish: None };
        write_json(&journal.path(&held.job_id, held.epoch), &held).unwrap();
        let finish =
            FinishRequest { job_id: JobId::new("b"), epoch: Epoch(4), outcome: Outcome::Cancelled, progress: None };
        journal.end(&finish, "2".into()).unwrap();
        std::fs::write(folder.journal().join("c.json"), b"{ cut").unwrap();

        let reports: Vec<FinishRequest> = journal.entries().into_iter().map(Entry::report).collect();
        assert_eq!(reports.len(), 2);
        assert!(matches!(&reports[0].outcome, Outcome::Released { fault } if fault.code == "SystemErrorAborted"));
        assert_eq!((reports[0].epoch, &reports[1]), (Epoch(3), &finish));

        journal.forget(&held.job_id, held.epoch).unwrap();
        journal.forget(&held.job_id, held.epoch).unwrap();
        assert_eq!(journal.entries().len(), 1);
        // An id is never a way out of the folder.
        assert!(journal.path(&JobId::new("../../etc/passwd"), Epoch(1)).starts_with(folder.journal()));
    }
}
