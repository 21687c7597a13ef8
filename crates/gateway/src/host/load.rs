//! How busy this machine is: memory, processor, network, as the monitoring page shows them. Numbers that the system
//! does not offer stay at nothing.

use std::fs::read_to_string;
use std::sync::{Mutex, PoisonError};

use dmg_ambient::Ambient;

/// Memory one job may take, by which the limit of jobs is set.
const JOB_MIB: u64 = 512;
const JOBS_MIN: u64 = 2;
const JOBS_MAX: u64 = 64;

/// One look at the machine.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Load {
    pub(crate) available_memory_mib: u64,
    pub(crate) cpu_percent: u32,
    pub(crate) sent_bytes: f64,
    pub(crate) received_bytes: f64,
}

/// Compares one look with the one before.
#[derive(Default)]
pub(crate) struct Meter(Mutex<Counters>);

#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    seconds: f64,
    busy: u64,
    all: u64,
    sent: u64,
    received: u64,
}

impl Meter {
    /// The load since the last look.
    pub(crate) fn read(&self, ambient: &Ambient) -> Load {
        let (busy, all) = read_to_string("/proc/stat").map_or((0, 0), |text| processor(&text));
        let (received, sent) = read_to_string("/proc/net/dev").map_or((0, 0), |text| network(&text));
        let now = Counters { seconds: ambient.uptime().as_secs_f64(), busy, all, sent, received };
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), now);
        let seconds = now.seconds - before.seconds;
        let rate = |now: u64, before: u64| {
            if before == 0 || seconds <= 0.0 { 0.0 } else { now.saturating_sub(before) as f64 / seconds }
        };
        let (busy, all) = (now.busy.saturating_sub(before.busy), now.all.saturating_sub(before.all));
        Load {
            available_memory_mib: read_to_string("/proc/meminfo").map_or(0, |text| mib(&text, "MemAvailable:")),
            cpu_percent: if before.all == 0 { 0 } else { (busy * 100).checked_div(all).unwrap_or(0) as u32 },
            sent_bytes: rate(now.sent, before.sent),
            received_bytes: rate(now.received, before.received),
        }
    }
}

/// How many jobs may run at once on this machine, unless an operator says otherwise.
pub(crate) fn jobs_limit() -> u32 {
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get() as u64);
    let memory = read_to_string("/proc/meminfo").map_or(4096, |text| mib(&text, "MemTotal:"));
    (cores * 2).min(memory / JOB_MIB).clamp(JOBS_MIN, JOBS_MAX) as u32
}

fn mib(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}

fn processor(stat: &str) -> (u64, u64) {
    let Some(line) = stat.lines().find(|line| line.starts_with("cpu ")) else { return (0, 0) };
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|tick| tick.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

fn network(dev: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for (name, rest) in dev.lines().filter_map(|line| line.split_once(':')) {
        let fields: Vec<u64> = rest.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        if name.trim() != "lo" && fields.len() >= 9 {
            sum = (sum.0 + fields[0], sum.1 + fields[8]);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_says() {
        assert_eq!(processor("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 1"), (20, 100));
        assert_eq!(mib("MemTotal: 1 kB\nMemAvailable:    2048 kB\n", "MemAvailable:"), 2);
        let dev = "Inter-|\n face |\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0: 5 0 0 0 0 0 0 0 7 0\n";
        assert_eq!(network(dev), (5, 7));
    }
}
