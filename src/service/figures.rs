//! How long requests take, in all and on each lane.

use std::time::{Duration, Instant};

use super::in_flight::{Pending, Place};
use crate::status::Latencies;

/// What was measured.
pub(super) struct Figures {
    pub latencies: Latencies,
    /// By lane: the number of requests that it has replied to, and the time that these took together.
    pub lanes: Vec<(u64, Duration)>,
}

impl Figures {
    pub fn new(lanes: usize) -> Figures {
        Figures { latencies: Latencies::default(), lanes: vec![(0, Duration::ZERO); lanes] }
    }

    /// Takes account of a request that its lane has replied to.
    pub fn on_reply(&mut self, pending: &Pending, now: Instant) {
        self.latencies.record(pending.arrived, sent(pending), true, now);
        if let Place::Lane(lane) = pending.place {
            let (replies, time) = &mut self.lanes[lane];
            *replies += 1;
            *time += now.saturating_duration_since(pending.sent_at);
        }
    }

    /// Takes account of a request that is answered with an error of repd's own.
    pub fn on_given_up(&mut self, pending: &Pending, now: Instant) {
        self.latencies.record(pending.arrived, sent(pending), false, now);
    }

    /// Takes account of one that was answered as soon as it was read, by the only lane.
    pub fn on_answered_at_once(&mut self, arrived: Instant, now: Instant) {
        self.latencies.record(arrived, Some(arrived), true, now);
        let (replies, time) = &mut self.lanes[0];
        *replies += 1;
        *time += now.saturating_duration_since(arrived);
    }
}

/// Returns when a request was given to the lane that has it.
fn sent(pending: &Pending) -> Option<Instant> {
    matches!(pending.place, Place::Lane(_)).then_some(pending.sent_at)
}
