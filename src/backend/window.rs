//! What is outstanding on a worker's lane, and what of it may be sent or taken back. It holds no
//! socket.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::backend::claim::Claim;
use crate::backend::credit::Credit;
use crate::backend::ticket::Ticket;
use crate::backend::{Admission, Event, LaneState, Recall, Unavailable};

/// Time after which the foremost request of a lane counts as slow: nothing more is sent behind it,
/// and what is behind it may be taken back. No shorter, since a worker may wait that long for a
/// processor.
const RECALL_AFTER: Duration = Duration::from_millis(1);

/// The requests that were sent to one worker and not replied to, with the credit and the claim that
/// it shares.
#[derive(Debug)]
pub(crate) struct Window {
    credit: Credit,
    claim: Claim,
    outstanding: VecDeque<Outstanding>,
    /// Number of requests that were ever sent, modulo 2^32.
    sent: u32,
    /// When the foremost request became the foremost.
    foremost_since: Instant,
}

/// A request that was sent and not replied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outstanding {
    Live(Ticket),
    /// Its deadline has passed: its client has been told, and does not wait for the reply.
    Expired(Ticket),
    /// It was taken back. Its empty reply is still to come.
    Revoked,
}

impl Window {
    pub fn new(credit: Credit, claim: Claim, now: Instant) -> Window {
        Window { credit, claim, outstanding: VecDeque::new(), sent: 0, foremost_since: now }
    }

    /// Returns true if no reply is to come, not even the empty one of a revoked request.
    pub fn is_empty(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Returns true if what is sent next may be taken back, so that its body must be kept.
    pub fn may_recall_next(&self) -> bool {
        !self.is_empty() || self.credit.may_pause()
    }

    /// Returns how many requests the worker has to answer: all but the revoked ones.
    pub fn in_flight(&self) -> usize {
        self.outstanding.iter().filter(|it| **it != Outstanding::Revoked).count()
    }

    /// Returns true if the worker is at a request whose deadline has passed, and only the handler
    /// itself can end it. A program is ended at the deadline by its worker, so that one is never
    /// stuck.
    fn is_stuck(&self) -> bool {
        !self.credit.may_pause()
            && matches!(self.outstanding.front(), Some(Outstanding::Expired(_)))
    }

    fn recall_from(&self) -> Instant {
        self.foremost_since + RECALL_AFTER
    }

    /// Takes account of a request that was sent.
    pub fn on_sent(&mut self, ticket: Ticket, now: Instant) {
        if self.is_empty() {
            self.foremost_since = now;
        }
        self.outstanding.push_back(Outstanding::Live(ticket));
        self.sent = self.sent.wrapping_add(1);
    }

    /// Takes account of the next reply; returns what it is, or `None` if none was to come.
    pub fn on_reply(&mut self, now: Instant) -> Option<Event> {
        self.foremost_since = now;
        let number = self.front();
        Some(match self.outstanding.pop_front()? {
            Outstanding::Live(ticket) | Outstanding::Expired(ticket) => {
                if self.claim.take_lost(number) {
                    Event::Lost(ticket)
                } else {
                    Event::Reply(ticket)
                }
            }
            Outstanding::Revoked => Event::Ignored,
        })
    }

    /// Returns the number of the foremost outstanding request, as the worker counts them.
    fn front(&self) -> u32 {
        self.sent.wrapping_sub(self.outstanding.len() as u32)
    }

    /// Takes account of a request whose deadline has passed; returns true if the worker is stuck in
    /// it.
    pub fn on_deadline(&mut self, ticket: Ticket) -> bool {
        let live = Outstanding::Live(ticket);
        let Some(place) = self.outstanding.iter().position(|it| *it == live) else { return false };
        self.outstanding[place] = Outstanding::Expired(ticket);
        place == 0 && self.is_stuck()
    }

    /// Takes back what the worker has not started, in the order in which it was sent.
    pub fn recall(&mut self, now: Instant) -> Vec<Ticket> {
        let newest = self.claim.revoke(self.front(), self.sent, self.credit.get() == 0);
        if newest == 0 {
            // The worker's thread was not scheduled yet: the foremost request has not had its time.
            self.foremost_since = now;
        }
        let kept = self.outstanding.len() - newest;
        let revoke = |it: &mut Outstanding| match std::mem::replace(it, Outstanding::Revoked) {
            Outstanding::Live(ticket) => Some(ticket),
            Outstanding::Expired(_) | Outstanding::Revoked => None,
        };
        self.outstanding.iter_mut().skip(kept).filter_map(revoke).collect()
    }
}

impl LaneState for Window {
    fn admission(&self, now: Instant) -> Admission {
        if self.credit.is_down() {
            return Admission::Unavailable(Unavailable::Down);
        }
        if self.is_stuck() {
            return Admission::Unavailable(Unavailable::Stuck);
        }
        let ahead = self.outstanding.len();
        if ahead > 0 && now >= self.recall_from() {
            Admission::Full
        } else if ahead < self.credit.get() {
            Admission::Preferred
        } else if ahead < self.credit.overcommit() {
            Admission::Cost(ahead as f64)
        } else {
            Admission::Full
        }
    }

    fn recall_due(&self) -> Recall {
        let is_unrevoked = |it: &Outstanding| *it != Outstanding::Revoked;
        if self.credit.get() == 0 && self.outstanding.iter().any(is_unrevoked) {
            return Recall::Now;
        }
        if !self.outstanding.iter().skip(1).any(is_unrevoked) {
            return Recall::Never;
        }
        if self.is_stuck() { Recall::Now } else { Recall::From(self.recall_from()) }
    }
}
