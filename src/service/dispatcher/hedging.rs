//! Requests that take long, and are given to another lane as well: when, and how often.
//!
//! As "The Tail at Scale" has it (Dean and Barroso, 2013): a second request is sent once the first has
//! been outstanding for longer than the 95th percentile, which bounds the additional load.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Assignment, Dispatcher};
use crate::backend::{LaneState, Ticket};
use crate::service::request::{Attempt, Place};
use crate::status::Histogram;

/// Share of requests that are given to one lane alone.
const QUANTILE: f64 = 0.95;

/// Number of requests for each that may be given to another lane as well: 5 %.
const REQUESTS_PER_HEDGE: u32 = 20;

/// Maximum number of requests that may be given to another lane at a time, if there were none
/// before.
const MAX_HEDGES: u32 = 64;

/// Least time after which that is done: what is shorter may be a thread that was not scheduled.
const MIN_DELAY: Duration = Duration::from_millis(1);

/// Number of replies after which the time is known. A service that is seldom asked is hedged soon, too.
const FIRST_REPLIES: u32 = 32;

/// Number of replies after which the time is determined anew. Those before count for half then.
const REPLIES: u32 = 256;

/// Maximum number of requests that are looked at in one turn.
const MAX_CANDIDATES: usize = 32;

/// What is known of how long requests take, and of those that one lane alone has.
pub(super) struct Hedging {
    /// Requests that may be given to another lane too, by when they were sent.
    sent: BTreeSet<(Instant, Ticket)>,
    /// Times from when a request was sent until its reply came, the latest ones counting most.
    times: Histogram,
    /// Number of replies since the delay was determined.
    replies: u32,
    /// Time after which a request is given to another lane; `None` while nothing is known.
    delay: Option<Duration>,
    /// Requests that were sent, up to those of [`MAX_HEDGES`], less those that each hedge takes.
    budget: u32,
}

impl Hedging {
    pub fn new() -> Hedging {
        Hedging {
            sent: BTreeSet::new(),
            times: Histogram::default(),
            replies: 0,
            delay: None,
            budget: 0,
        }
    }

    /// Takes account of a request that a lane has got. With `is_first` it had not been sent before.
    pub fn on_sent(&mut self, ticket: Ticket, at: Instant, is_first: bool) {
        self.sent.insert((at, ticket));
        let most = MAX_HEDGES * REQUESTS_PER_HEDGE;
        self.budget = (self.budget + u32::from(is_first)).min(most);
    }

    /// Takes account of a request that its lane does not have any more, or that has ended.
    pub fn forget(&mut self, ticket: Ticket, sent_at: Instant) {
        self.sent.remove(&(sent_at, ticket));
    }

    /// Takes account of how long a request took, or has taken without a reply.
    pub fn record(&mut self, time: Duration) {
        self.times.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.replies += 1;
        let due = if self.delay.is_none() { FIRST_REPLIES } else { REPLIES };
        if self.replies == due {
            self.replies = 0;
            self.delay = self.times.quantile(QUANTILE).map(|time| time.max(MIN_DELAY));
            self.times.halve();
        }
    }

    /// Returns when the next request is due that is not yet.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let delay = self.delay?;
        let is_not_due = |(sent_at, _): &&(Instant, Ticket)| *sent_at + delay > now;
        // Those that are due wait for a lane, or for more requests.
        let from = now.checked_sub(delay)?;
        let next = self.sent.range((from, Ticket::default())..).find(is_not_due)?;
        Some(next.0 + delay)
    }
}

impl Dispatcher {
    /// Gives a request that takes long to another lane as well, if nothing else waits for one;
    /// returns `None` if there is none.
    pub fn next_hedge(&mut self, lanes: &[impl LaneState], now: Instant) -> Option<Assignment> {
        let hedging = self.hedging.as_deref()?;
        let until = now.checked_sub(hedging.delay?)?;
        let is_next = self.waiting.is_empty() && self.queue.is_empty();
        let has_budget = hedging.budget >= REQUESTS_PER_HEDGE;
        if !has_budget || !is_next || !self.recent.has_spare(lanes, now) {
            return None;
        }
        let due = hedging.sent.iter().take_while(|(sent_at, _)| *sent_at <= until);
        let candidates = due.take(MAX_CANDIDATES).filter_map(|(_, ticket)| {
            let pending = self.in_flight.get(*ticket)?;
            let Place::Lane(own) = pending.place else { return None };
            let place = self.recent.choose(lanes, Some(own), now)?;
            let lane = self.recent.lane(place);
            let is_in_vain = lane == own || self.clients.is_gone(pending.client);
            (!is_in_vain).then_some((*ticket, place))
        });
        let (ticket, place) = { candidates }.next()?;
        let lane = self.recent.take(place);
        let pending = self.in_flight.get_mut(ticket)?;
        pending.again += 1;
        pending.hedge = Some(Attempt { lane, at: now });
        let onward = pending.onward(now);
        let hedging = self.hedging.as_deref_mut()?;
        hedging.budget -= REQUESTS_PER_HEDGE;
        hedging.forget(ticket, pending.sent_at);
        Some(Assignment { ticket, lane, keep: true, lost_on: None, onward })
    }

    /// Takes account of a hedge that its lane could not take after all.
    pub fn on_unsent_hedge(&mut self, unsent: Assignment) {
        let Some(pending) = self.in_flight.get_mut(unsent.ticket) else { return };
        (pending.again, pending.hedge) = (pending.again - 1, None);
        if let Some(hedging) = &mut self.hedging {
            hedging.budget += REQUESTS_PER_HEDGE;
            hedging.on_sent(unsent.ticket, pending.sent_at, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ticket(slot: u32) -> Ticket {
        Ticket { slot, generation: 0 }
    }

    #[test]
    fn a_request_is_due_when_it_has_taken_longer_than_95_of_100() {
        let (mut hedging, now) = (Hedging::new(), Instant::now());
        hedging.on_sent(ticket(0), now, true);
        (1..FIRST_REPLIES).for_each(|_| hedging.record(MS / 10));
        assert_eq!(hedging.next_due(now), None, "too little is known");
        hedging.record(MS / 10);
        assert_eq!(hedging.next_due(now), Some(now + MIN_DELAY));
        (0..20 * REPLIES).for_each(|n| hedging.record(MS * (n % REPLIES * 100 / REPLIES + 1)));
        let due = hedging.next_due(now).unwrap() - now;
        assert!(due >= 95 * MS && due <= 95 * MS + 95 * MS / 8, "{due:?}");
        assert_eq!(hedging.next_due(now + due), None, "it is due");
        hedging.on_sent(ticket(1), now + MS, true);
        assert_eq!(hedging.next_due(now + due), Some(now + due + MS));
        hedging.forget(ticket(1), now + MS);
        assert_eq!(hedging.next_due(now + due), None);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let (mut hedging, now) = (Hedging::new(), Instant::now());
        (0..10 * REPLIES).for_each(|_| hedging.record(1000 * MS));
        (0..10 * REPLIES).for_each(|_| hedging.record(MS / 10));
        hedging.on_sent(ticket(0), now, true);
        assert_eq!(hedging.next_due(now), Some(now + MIN_DELAY));
    }
}
