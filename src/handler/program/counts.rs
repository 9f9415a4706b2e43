//! How often copies of a program were started and have failed, over all workers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Why a copy has failed, or could not be started.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reason {
    /// It ended, or closed its standard output.
    Ended,
    /// It wrote something that is no reply.
    Invalid,
    /// It did not reply before the deadline.
    Timeout,
    /// With `--framing once`: it replied, and ended with an error.
    Status,
    /// The system refused to start it, to write to it or to read from it.
    System,
}

impl Reason {
    const ALL: [(Reason, &'static str); 5] = [
        (Reason::Ended, "ended"),
        (Reason::Invalid, "invalid"),
        (Reason::Timeout, "timeout"),
        (Reason::Status, "status"),
        (Reason::System, "system"),
    ];
}

/// The counts of a service. The workers' threads write, and whoever shows them reads.
#[derive(Debug)]
pub(crate) struct Counts {
    failures: [AtomicU64; Reason::ALL.len()],
    workers: Vec<Copies>,
}

/// The copies of one worker.
#[derive(Debug, Default)]
struct Copies {
    /// The process that runs; 0 if none does.
    process: AtomicU32,
    starts: AtomicU64,
}

impl Counts {
    /// Makes the counts of that many workers.
    pub fn new(workers: usize) -> Counts {
        let workers = (0..workers.max(1)).map(|_| Copies::default()).collect();
        Counts { failures: Default::default(), workers }
    }

    /// Returns the counts of a worker, by its number: from 1 up, or 0 if it is the only one.
    fn of(&self, worker: usize) -> Option<&Copies> {
        self.workers.get(worker.saturating_sub(1))
    }

    /// Takes account of a copy that was started.
    pub(super) fn on_started(&self, worker: usize, process: u32) {
        if let Some(copies) = self.of(worker) {
            copies.starts.fetch_add(1, Ordering::Relaxed);
            copies.process.store(process, Ordering::Relaxed);
        }
    }

    /// Takes account of a copy that has ended.
    pub(super) fn on_ended(&self, worker: usize) {
        if let Some(copies) = self.of(worker) {
            copies.process.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn on_failed(&self, reason: Reason) {
        self.failures[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of starts, and of failures by why.
    pub fn all(&self) -> (u64, Vec<(&'static str, u64)>) {
        let starts = self.workers.iter().map(|copies| copies.starts.load(Ordering::Relaxed)).sum();
        let failures = Reason::ALL
            .into_iter()
            .map(|(reason, name)| (name, self.failures[reason as usize].load(Ordering::Relaxed)));
        (starts, failures.collect())
    }

    /// Returns the process that answers for that worker, if one runs, and how many were started.
    pub fn copy_of(&self, worker: usize) -> (Option<u32>, u64) {
        let Some(copies) = self.of(worker) else { return (None, 0) };
        let process = copies.process.load(Ordering::Relaxed);
        ((process != 0).then_some(process), copies.starts.load(Ordering::Relaxed))
    }
}
