//! What must hold in a simulation.

use std::time::Duration;

use super::lanes::{Lane, Upstream};
use super::{Asked, Simulation};
use crate::backend::{Admission, LaneState, Ticket};
use crate::service::request::Place;

/// Time after which a request that waits behind a slow one must be taken back, beside an idle
/// worker: the recall time once, and once more for a worker whose thread was not scheduled.
const RECALL_TIME: Duration = Duration::from_micros(2100);

/// Returns the requests of clients in a table, by their tickets' slots.
fn by_slot<C: Copy>(requests: impl Iterator<Item = (C, Ticket)>) -> Vec<Option<(C, Ticket)>> {
    let mut table = Vec::new();
    for (client, ticket) in requests {
        let slot = ticket.slot as usize;
        table.resize(table.len().max(slot + 1), None);
        table[slot] = Some((client, ticket));
    }
    table
}

fn has<C: PartialEq>(table: &[Option<(C, Ticket)>], client: C, ticket: Ticket) -> bool {
    table.get(ticket.slot as usize) == Some(&Some((client, ticket)))
}

impl Simulation {
    /// Asserts, at the end, that each request had one answer, or nobody who waits for it any more,
    /// and was handled once and again for each loss at most; and that nothing is held.
    pub(super) fn assert_all_answered(&self) {
        let mut withdrawn = 0;
        for (number, asked) in self.asked.iter().enumerate() {
            if asked.answers.is_empty() && asked.is_given_up {
                withdrawn += 1;
                assert_eq!(asked.handled, asked.lost, "request {number} was handled for nobody");
                continue;
            }
            assert_eq!(asked.answers.len(), 1, "request {number} was answered {:?}", asked.answers);
            let most = 1 + (asked.lost + asked.hedged).min(self.retries);
            assert!(asked.handled <= most, "request {number} was handled {} times", asked.handled);
        }
        assert!(20 * self.hedges() <= self.asked.len(), "too much is hedged");
        assert!(self.dispatcher.in_flight().is_empty(), "something is left in flight");
        assert_eq!(self.dispatcher.withdrawn(), withdrawn);
        assert!(self.dispatcher.queue.is_empty(), "something is left in the queue");
        let is_held = |lane: &Lane| match lane {
            Lane::Worker(worker) => worker.window.in_flight() > 0,
            Lane::Upstream(upstream) => upstream.peer.as_ref().is_some_and(|it| it.in_flight() > 0),
        };
        if !self.lanes.iter().any(is_held) {
            assert_eq!(self.dispatcher.bytes(), 0, "something is held");
        }
    }

    /// Asserts that each request in flight waits, or is outstanding on a lane: that its answer is
    /// not left to its deadline.
    pub(super) fn assert_all_somewhere(&self) {
        let dispatcher = &self.dispatcher;
        let queued = by_slot(dispatcher.queue.all());
        let waiting = by_slot(dispatcher.waiting.iter().map(|ticket| ((), *ticket)));
        for ticket in dispatcher.in_flight().all() {
            let is_there = |lane: &Lane| match lane {
                Lane::Worker(worker) => worker.window.is_outstanding(ticket),
                Lane::Upstream(Upstream { peer, .. }) => {
                    peer.as_ref().is_some_and(|peer| peer.is_outstanding(ticket))
                }
            };
            let pending = dispatcher.in_flight().get(ticket).expect("it is in flight");
            let is_somewhere = match pending.place {
                Place::Queue => has(&queued, pending.client.index(), ticket),
                Place::Waiting => has(&waiting, (), ticket),
                Place::Lane(lane) => is_there(&self.lanes[lane]),
            };
            let is_somewhere =
                is_somewhere && pending.hedge.is_none_or(|it| is_there(&self.lanes[it.lane]));
            assert!(is_somewhere, "a request in flight is not where it should be");
        }
    }

    /// Asserts that nothing waits while a worker is idle or an upstream takes requests, or no
    /// longer than until it is taken back.
    pub(super) fn assert_fair(&self) {
        let has_capacity = |lane: &Lane| {
            matches!(lane.admission(self.now), Admission::Preferred | Admission::Cost(_))
        };
        let is_waiting = !self.dispatcher.queue.is_empty() || !self.dispatcher.waiting.is_empty();
        assert!(!is_waiting || !self.lanes.iter().any(has_capacity), "a request waits for nothing");
        let is_idle = |lane: &Lane| matches!(lane, Lane::Worker(it) if it.window.is_empty() && has_capacity(lane));
        if !self.lanes.iter().any(is_idle) {
            return;
        }
        for lane in &self.lanes {
            let Lane::Worker(worker) = lane else { continue };
            let Some((_, since)) = worker.at else { continue };
            let is_awaited = |asked: &Asked| asked.answers.is_empty() && !asked.is_given_up;
            let waits = worker.queue.iter().any(|number| is_awaited(&self.asked[*number]));
            let is_revoked = worker.window.in_flight() <= 1;
            assert!(
                self.now <= since + RECALL_TIME || !waits || is_revoked,
                "a request waits behind a slow one, and a worker is idle"
            );
        }
    }
}
