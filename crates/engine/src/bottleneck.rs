//! What held a copy back, out of the times its lanes and its stores counted. Pure.

use dmg_protocol::Bottleneck;

/// Where the time went, in seconds summed over lanes; `commit` is wall time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Spent {
    /// In the source's stream: waiting and decoding.
    pub(crate) reading: f64,
    /// Of that, waiting for the source, as far as the source counts it.
    pub(crate) source_waited: f64,
    /// Digesting and converting.
    pub(crate) converting: f64,
    /// In the sink's writers: encoding, waiting for the sink, and for other lanes.
    pub(crate) writing: f64,
    /// Of that, waiting for the sink, as far as the sink counts it.
    pub(crate) sink_waited: f64,
    /// Of that, waiting for other lanes to come before.
    pub(crate) queued: f64,
    /// Kept waiting by the author's own limit; in none of the others.
    pub(crate) throttled: f64,
    /// From the end of the proof to the end of the commit.
    pub(crate) commit: f64,
    /// Lanes that ran.
    pub(crate) lanes: u32,
}

/// The report, with the verdict where one thing took the most time.
pub(crate) fn report(spent: &Spent, parallel_share: f64) -> Bottleneck {
    let lanes = f64::from(spent.lanes.max(1));
    // A store that does not count its waiting is held responsible for the whole stream.
    let split = |total: f64, waited: f64| {
        if waited > 0.0 { (waited.min(total), (total - waited).max(0.0)) } else { (total, 0.0) }
    };
    let (read, decode) = split(spent.reading, spent.source_waited);
    let (write, encode) = split((spent.writing - spent.queued).max(0.0), spent.sink_waited);
    let candidates = [
        ("read", "source", read / lanes),
        ("decode", "gateway", decode / lanes),
        ("convert", "gateway", spent.converting / lanes),
        ("encode", "gateway", encode / lanes),
        ("write", "sink", write / lanes),
        ("commit", "sink", spent.commit),
        // The author's own limit is no bottleneck of either side.
        ("", "", spent.throttled / lanes),
    ];
    let (verdict, side, most) = candidates.into_iter().max_by(|a, b| a.2.total_cmp(&b.2)).unwrap_or_default();
    let (verdict, side) = if most > 0.0 { (verdict, side) } else { ("", "") };
    Bottleneck {
        read_seconds: spent.reading,
        convert_seconds: spent.converting,
        write_seconds: spent.writing,
        parallel_share,
        verdict: verdict.to_owned(),
        side: side.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spent: Spent, verdict: &str, side: &str) {
        let report = report(&Spent { lanes: 2, ..spent }, 0.5);
        assert_eq!((report.verdict.as_str(), report.side.as_str()), (verdict, side), "{spent:?}");
    }

    #[test]
    fn the_longest_time_gives_the_verdict() {
        let even = Spent { reading: 2.0, converting: 1.0, writing: 2.0, commit: 0.1, ..Spent::default() };
        check(Spent::default(), "", "");
        check(Spent { reading: 9.0, ..even }, "read", "source");
        check(Spent { reading: 9.0, source_waited: 8.0, ..even }, "read", "source");
        check(Spent { reading: 9.0, source_waited: 1.0, ..even }, "decode", "gateway");
        check(Spent { converting: 9.0, ..even }, "convert", "gateway");
        check(Spent { writing: 9.0, ..even }, "write", "sink");
        check(Spent { writing: 9.0, sink_waited: 0.5, ..even }, "encode", "gateway");
        check(Spent { writing: 9.0, queued: 8.5, reading: 3.0, ..even }, "read", "source");
        check(Spent { commit: 9.0, ..even }, "commit", "sink");
        check(Spent { throttled: 90.0, ..even }, "", "");
    }
}
