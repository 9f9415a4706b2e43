//! Requests that their lane has not answered: lost, taken back, late or given up.

use std::time::Instant;

use super::{Dispatcher, Late, Lost, Reply};
use crate::backend::{LaneState, Recall, Ticket};
use crate::service::request::{Attempt, Pending, Place};

impl Dispatcher {
    /// Takes account of a request that had ended, and that this lane is done with; returns what its
    /// reply is.
    pub(super) fn on_late_done(&mut self, ticket: Ticket, lane: usize) -> Reply<'static> {
        let Some(late) = self.late.remove(&(ticket, lane)) else { return Reply::Late };
        self.overruns.remove(&(late.overruns_at, ticket, lane));
        if let Some(bytes) = late.held {
            self.clients.release(late.client, bytes);
        }
        if late.is_second { Reply::Second } else { Reply::Late }
    }

    /// Ends a request that these lanes still have. With `is_second` another has replied.
    pub(super) fn end_held(
        &mut self,
        ticket: Ticket,
        lanes: impl IntoIterator<Item = Attempt>,
        is_second: bool,
    ) -> Option<&mut Pending> {
        let pending = self.in_flight.remove(ticket)?;
        let (number, client, bytes) =
            (pending.request.number, pending.client, pending.request.bytes);
        // It takes memory once, which counts as long as the first of them has it.
        let mut held = Some(bytes);
        for Attempt { lane, at } in lanes {
            let overruns_at = at + self.timeout;
            let late = Late { number, client, held: held.take(), overruns_at, is_second };
            self.late.insert((ticket, lane), late);
            self.overruns.insert((overruns_at, ticket, lane));
        }
        self.clients.on_ended(client, bytes, held.is_none());
        Some(pending)
    }

    /// Takes account of a request that was lost on that lane, or that cannot be answered there.
    pub fn on_lost(&mut self, ticket: Ticket, lane: usize) -> Lost<'_> {
        let Some(pending) = self.in_flight.get_mut(ticket) else {
            self.on_late_done(ticket, lane);
            return Lost::Late;
        };
        if let Some(other) = pending.elsewhere(lane) {
            (pending.place, pending.sent_at) = (Place::Lane(other.lane), other.at);
            pending.hedge = None;
            if let (Some(hedging), true) = (&mut self.hedging, pending.again < self.retries) {
                hedging.on_sent(ticket, other.at, false);
            }
            return Lost::Waiting;
        }
        if pending.again < self.retries {
            pending.again += 1;
            pending.lost_on = Some(lane);
            self.wait_again(ticket);
            return Lost::Waiting;
        }
        self.end(ticket).map_or(Lost::Late, Lost::GivenUp)
    }

    /// Takes requests that this lane gave back, in the order in which they were sent. Those whose
    /// deadline has not passed are assigned once more, and that is no retry: no worker has started
    /// them.
    pub fn on_revoked(&mut self, tickets: Vec<Ticket>, lane: usize) {
        for ticket in tickets {
            if self.in_flight.get(ticket).is_some() {
                self.wait_again(ticket);
            } else {
                self.on_late_done(ticket, lane);
            }
        }
    }

    /// Returns true if the requests that wait on that lane should be taken back: if they will not
    /// be started there soon, or if the one before them is slow and another lane has capacity.
    pub fn should_recall(&self, lane: usize, lanes: &[impl LaneState], now: Instant) -> bool {
        match lanes[lane].recall_due() {
            Recall::Never => false,
            Recall::Now => true,
            Recall::From(time) => {
                let is_next = self.waiting.is_empty() && self.queue.is_empty();
                time <= now && is_next && self.recent.has_capacity(lanes, now)
            }
        }
    }

    /// Returns a request whose deadline has passed, if there is one: it is to be given up.
    pub fn overdue(&self, now: Instant) -> Option<Ticket> {
        self.in_flight.overdue(now)
    }

    /// Returns a late request that its lane has had for as long as any may take, and the lane, which
    /// is to be told.
    pub fn next_overrun(&mut self, now: Instant) -> Option<(Ticket, usize)> {
        self.overruns.first().filter(|(at, ..)| *at <= now)?;
        let (_, ticket, lane) = self.overruns.pop_first()?;
        Some((ticket, lane))
    }

    /// Ends a request without a reply; returns `None` if it had ended before.
    pub fn give_up(&mut self, ticket: Ticket, now: Instant) -> Option<&mut Pending> {
        let pending = self.in_flight.get(ticket)?;
        match pending.place {
            Place::Queue => {
                if pending.deadline <= now {
                    self.clients.on_overdue(pending.client);
                }
                self.queue.remove(pending.client, ticket, now);
            }
            Place::Waiting => self.waiting.retain(|waiting| *waiting != ticket),
            Place::Lane(lane) => {
                let (at, hedge) = (pending.sent_at, pending.hedge);
                if let Some(hedging) = &mut self.hedging {
                    hedging.record(now.saturating_duration_since(at));
                    hedging.forget(ticket, at);
                }
                let attempts = [Attempt { lane, at }].into_iter().chain(hedge);
                return self.end_held(ticket, attempts, false);
            }
        }
        self.end(ticket)
    }
}
