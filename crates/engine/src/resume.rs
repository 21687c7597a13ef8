//! Whether an attempt may go on with what an earlier one staged: only over a source that another process reads alike,
//! into a sink that keeps checkpoints, and under the very same plan. In doubt it starts anew, and says why.

use dmg_connector::{Resumption, Sink, Source, fingerprint};
use dmg_protocol::job::CopyJob;
use dmg_protocol::{Plan, Resumed};

/// What ties checkpoints to the work they are of: two names, of what is read and of what is made of it. None where
/// another process could not go on.
pub(crate) fn key(job: &CopyJob, plan: &Plan, source: &dyn Source) -> Option<String> {
    let identity = source.identity().filter(|_| source.repeatable())?;
    let text = |value: serde_json::Result<String>| value.expect("documents of the protocol are JSON");
    // Another version may convert otherwise.
    let made = (env!("CARGO_PKG_VERSION"), job, &plan.parts, &plan.columns, plan.shape, plan.mode, &plan.target);
    Some(format!("{} {}", fingerprint(&identity), fingerprint(&text(serde_json::to_string(&made)))))
}

/// How an attempt begins, for its receipt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Beginning {
    pub(crate) resumed: Option<Resumed>,
    pub(crate) restarted: Option<String>,
}

impl Beginning {
    /// An attempt that goes on, or cannot.
    pub(crate) fn of(found: &Resumption, key: &str, earlier: bool) -> Self {
        if let Some(epoch) = found.from.filter(|_| !found.kept.is_empty()) {
            let rows = found.kept.iter().map(|kept| kept.report.rows).sum();
            let resumed = Resumed { epoch, parts: found.kept.len() as u32, rows };
            return Beginning { resumed: Some(resumed), restarted: None };
        }
        let read = |key: &str| key.split(' ').next().map(str::to_owned);
        let why = match &found.other {
            Some(other) if read(other) != read(key) => "the source changed since",
            Some(other) if other != key => "it had another plan",
            Some(_) => "the target changed since, or what was staged is damaged",
            None if earlier || found.from.is_some() => "no part of it was staged",
            None => return Beginning::default(),
        };
        Beginning { resumed: None, restarted: Some(words(why)) }
    }

    /// An attempt that does not ask what is there.
    pub(crate) fn anew(source: &dyn Source, sink: &dyn Sink, tolerant: bool, earlier: bool) -> Self {
        let why = match () {
            () if !earlier => return Beginning::default(),
            () if !source.repeatable() || source.identity().is_none() => {
                "the state of the source that it read ended with it"
            }
            () if !sink.checkpoints() => "this target keeps no checkpoints of parts",
            () if tolerant => "rows left out are not remembered from one attempt to the next",
            () => "nothing says what was staged",
        };
        Beginning { resumed: None, restarted: Some(words(why)) }
    }
}

fn words(why: &str) -> String {
    format!("An earlier attempt ended, and its staged rows were thrown away: {why}.")
}

#[cfg(test)]
mod tests {
    use dmg_connector::{Checkpoint, PartReport, Sums};
    use dmg_protocol::Epoch;

    use super::*;

    #[test]
    fn a_restart_says_why() {
        let check = |found: Resumption, earlier: bool, why: Option<&str>| {
            let beginning = Beginning::of(&found, "read made", earlier);
            assert_eq!(beginning.resumed, None);
            assert_eq!(beginning.restarted, why.map(words), "{found:?}");
        };
        let other = |key: &str| Resumption { other: Some(key.to_owned()), ..Resumption::default() };
        check(other("else made"), true, Some("the source changed since"));
        check(other("else else"), true, Some("the source changed since"));
        check(other("read else"), true, Some("it had another plan"));
        check(other("read made"), false, Some("the target changed since, or what was staged is damaged"));
        check(Resumption { from: Some(Epoch(1)), ..Resumption::default() }, false, Some("no part of it was staged"));
        check(Resumption::default(), true, Some("no part of it was staged"));
        check(Resumption::default(), false, None);
    }

    #[test]
    fn what_was_kept_is_counted() {
        let kept = |part, rows| Checkpoint {
            part,
            report: PartReport { rows, ..PartReport::default() },
            read: Sums { rows, ..Sums::default() },
        };
        let found = Resumption { from: Some(Epoch(4)), kept: vec![kept(2, 5), kept(0, 7)], other: None };
        let resumed = Resumed { epoch: Epoch(4), parts: 2, rows: 12 };
        assert_eq!(Beginning::of(&found, "x", true), Beginning { resumed: Some(resumed), restarted: None });
    }
}
