//! How long requests take, in all and on each lane.

use std::time::{Duration, Instant};

use super::request::{Pending, Place};
use crate::status::Latencies;

/// What was measured.
pub(super) struct Figures {
    pub latencies: Latencies,
    lanes: Vec<Lane>,
}

/// The requests that a lane has replied to, and the nanoseconds that these took together.
#[derive(Clone, Copy, Default)]
struct Lane {
    replies: u64,
    nanoseconds: u64,
}

impl Lane {
    fn on_reply(&mut self, nanoseconds: u64) {
        self.replies += 1;
        self.nanoseconds += nanoseconds;
    }
}

impl Figures {
    pub fn new(lanes: usize) -> Figures {
        Figures { latencies: Latencies::default(), lanes: vec![Lane::default(); lanes] }
    }

    /// Takes account of a lane that has replied to nothing yet.
    pub fn on_new_lane(&mut self, lane: usize) {
        self.lanes.resize(self.lanes.len().max(lane + 1), Lane::default());
        self.lanes[lane] = Lane::default();
    }

    /// Takes account of a request that this lane has replied to.
    pub fn on_reply(&mut self, pending: &Pending, lane: usize, now: Instant) {
        let queue = nanoseconds(pending.arrived, pending.sent_at);
        self.latencies.on_reply(queue, nanoseconds(pending.sent_at, now));
        self.lanes[lane].on_reply(nanoseconds(pending.sent_to(lane), now));
    }

    /// Takes account of one that was answered as soon as it was read, by the only lane.
    pub fn on_answered_at_once(&mut self, arrived: Instant, now: Instant) {
        let handle = nanoseconds(arrived, now);
        self.latencies.on_reply(0, handle);
        self.lanes[0].on_reply(handle);
    }

    /// Takes account of a request that is answered with an error of repd's own.
    pub fn on_given_up(&mut self, pending: &Pending, now: Instant) {
        let was_sent = matches!(pending.place, Place::Lane(_));
        let queue = was_sent.then(|| nanoseconds(pending.arrived, pending.sent_at));
        self.latencies.on_given_up(queue, nanoseconds(pending.arrived, now));
    }

    /// Returns how many requests a lane has replied to, and the time that these took together.
    pub fn handled(&self, lane: usize) -> (u64, Duration) {
        let Lane { replies, nanoseconds } = self.lanes[lane];
        (replies, Duration::from_nanos(nanoseconds))
    }
}

/// Returns the time from one to the other, or zero; of more than 584 years, that.
fn nanoseconds(from: Instant, to: Instant) -> u64 {
    let time = to.saturating_duration_since(from);
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}
