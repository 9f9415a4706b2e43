//! Requests that their lane has not answered: lost, taken back, late or given up.

use std::time::Instant;

use super::{Dispatcher, Late, Lost};
use crate::backend::{LaneState, Recall, Ticket};
use crate::service::in_flight::{Pending, Place, Request};

impl Dispatcher {
    /// Takes account of a late request that its lane is done with.
    pub(super) fn on_late_done(&mut self, ticket: Ticket) {
        if let Some(Late { client, bytes, overruns_at, .. }) = self.late.remove(&ticket) {
            self.overruns.remove(&(overruns_at, ticket));
            self.clients.release(client, bytes);
        }
    }

    /// Takes account of a request that was lost on that lane, or that cannot be answered there.
    pub fn on_lost(&mut self, ticket: Ticket, lane: usize) -> Lost<'_> {
        let Some(pending) = self.in_flight.get_mut(ticket) else {
            self.on_late_done(ticket);
            return Lost::Late;
        };
        if pending.lost < self.retries {
            pending.lost += 1;
            pending.lost_on = Some(lane);
            self.wait_again(ticket);
            return Lost::Waiting;
        }
        self.end(ticket).map_or(Lost::Late, Lost::GivenUp)
    }

    /// Takes requests that a lane gave back, in the order in which they were sent. Those whose
    /// deadline has not passed are assigned once more, and that is no retry: no worker has started
    /// them.
    pub fn on_revoked(&mut self, tickets: Vec<Ticket>) {
        for ticket in tickets {
            if self.in_flight.get(ticket).is_some() {
                self.wait_again(ticket);
            } else {
                self.on_late_done(ticket);
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
        let first = self.overruns.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((_, ticket), lane) = first.remove_entry();
        Some((ticket, lane))
    }

    /// Ends a request without a reply; returns `None` if it had ended before.
    pub fn give_up(&mut self, ticket: Ticket, now: Instant) -> Option<&mut Pending> {
        let pending = self.in_flight.get(ticket)?;
        let Request { number, bytes, .. } = pending.request;
        let client = pending.client;
        let overruns_at = pending.sent_at + self.timeout;
        match pending.place {
            Place::Queue => self.queue.remove(client, ticket, now),
            Place::Waiting => self.waiting.retain(|waiting| *waiting != ticket),
            Place::Lane(lane) => {
                self.late.insert(ticket, Late { number, client, bytes, overruns_at });
                self.overruns.insert((overruns_at, ticket), lane);
                self.clients.on_ended(client, bytes, true);
                return self.in_flight.remove(ticket);
            }
        }
        self.end(ticket)
    }
}
