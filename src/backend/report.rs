//! What a lane is doing, for those who operate the service.

use std::time::{Duration, Instant};

/// What a lane is doing.
#[derive(Clone, Debug)]
pub(crate) struct LaneReport {
    pub kind: LaneKind,
    pub activity: Activity,
    /// When it began with the request that it is at, or lost its connection; `None` if it is idle.
    pub since: Option<Instant>,
    /// Number of requests that are outstanding.
    pub in_flight: usize,
    /// Number of requests that it has replied to, and the time that these took together.
    pub replies: u64,
    pub handled: Duration,
}

/// What is behind a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LaneKind {
    /// The worker of this process that has this number.
    Worker(usize),
    /// A worker that has connected, by its name and where it is.
    External(String),
    /// A service at this endpoint.
    Upstream(String),
}

/// Whether a lane can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    Idle,
    Busy,
    /// It is busy with requests whose deadline has passed.
    Stuck,
    /// Its worker has no program to answer with.
    Down,
    /// No worker or upstream is connected.
    Disconnected,
}

impl Activity {
    /// Those of workers of this process.
    pub const OF_WORKERS: [Activity; 4] =
        [Activity::Idle, Activity::Busy, Activity::Stuck, Activity::Down];

    /// Returns its name in figures and pages.
    pub const fn name(self) -> &'static str {
        match self {
            Activity::Idle => "idle",
            Activity::Busy => "busy",
            Activity::Stuck => "stuck",
            Activity::Down => "down",
            Activity::Disconnected => "disconnected",
        }
    }
}
