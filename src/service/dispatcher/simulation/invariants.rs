//! What must hold in a simulation.

use std::time::Duration;

use super::Simulation;
use super::lanes::{Lane, Upstream};
use crate::backend::{Admission, LaneState};

/// Time after which a request that waits behind a slow one must be taken back, beside an idle
/// worker: the recall time once, and once more for a worker whose thread was not scheduled.
const RECALL_TIME: Duration = Duration::from_micros(2100);

impl Simulation {
    /// Asserts, at the end, that each request had one answer, and was handled once and again for each
    /// loss at most.
    pub(super) fn assert_all_answered(&self) {
        for (number, asked) in self.asked.iter().enumerate() {
            assert_eq!(asked.answers.len(), 1, "request {number} was answered {:?}", asked.answers);
            let most = 1 + asked.lost.min(self.retries);
            assert!(asked.handled <= most, "request {number} was handled {} times", asked.handled);
        }
        assert!(self.dispatcher.in_flight().is_empty(), "something is left in flight");
    }

    /// Asserts that each request in flight waits, or is outstanding on a lane: that its answer is
    /// not left to its deadline.
    pub(super) fn assert_all_somewhere(&self) {
        for ticket in self.dispatcher.in_flight().all() {
            let is_there = |lane: &Lane| match lane {
                Lane::Worker(worker) => worker.window.is_outstanding(ticket),
                Lane::Upstream(Upstream { peer, .. }) => {
                    peer.as_ref().is_some_and(|peer| peer.is_outstanding(ticket))
                }
            };
            let is_somewhere =
                self.dispatcher.waiting.contains(&ticket) || self.lanes.iter().any(is_there);
            assert!(is_somewhere, "a request in flight is nowhere");
        }
    }

    /// Asserts that nothing waits while a worker is idle or an upstream takes requests, or no
    /// longer than until it is taken back.
    pub(super) fn assert_fair(&self) {
        let has_capacity = |lane: &Lane| {
            matches!(lane.admission(self.now), Admission::Preferred | Admission::Cost(_))
        };
        let is_waiting = !self.frontend.is_empty() || !self.dispatcher.waiting.is_empty();
        assert!(!is_waiting || !self.lanes.iter().any(has_capacity), "a request waits for nothing");
        let is_idle = |lane: &Lane| matches!(lane, Lane::Worker(it) if it.window.is_empty() && has_capacity(lane));
        if !self.lanes.iter().any(is_idle) {
            return;
        }
        for lane in &self.lanes {
            let Lane::Worker(worker) = lane else { continue };
            let Some((_, since)) = worker.at else { continue };
            let waits = worker.queue.iter().any(|number| self.asked[*number].answers.is_empty());
            let is_revoked = worker.window.in_flight() <= 1;
            assert!(
                self.now <= since + RECALL_TIME || !waits || is_revoked,
                "a request waits behind a slow one, and a worker is idle"
            );
        }
    }
}
