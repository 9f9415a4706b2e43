//! Decides which lane gets a request, and what is retried, recalled, given up or refused.
//!
//! It is told what happened and the time. It holds no socket and reads no clock, so that each rule
//! has a unit test, and all of them a simulation.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::account::ClientLimits;
use super::clients::{ClientId, Clients};
use super::in_flight::InFlight;
use super::queue::Queue;
use super::request::{Pending, Place};
use crate::backend::{LaneState, Onward, Recall, Ticket};
use crate::frame::Frame;
use crate::status::Usage;
use hedging::Hedging;
use lanes::Recent;

mod arriving;
mod hedging;
mod lanes;
mod leaving;

pub(super) use lanes::all_unavailable;

#[cfg(all(test, not(feature = "loom")))]
mod simulation;
#[cfg(test)]
mod tests;
mod unanswered;

pub(crate) struct Dispatcher {
    in_flight: InFlight,
    clients: Clients,
    /// Requests that no lane could take when they came.
    queue: Queue,
    /// Requests that go before those: about to be sent, taken back, or lost and to be tried again.
    waiting: VecDeque<Ticket>,
    /// Requests that were answered, and that a lane still has: by their deadline, or by another lane.
    late: HashMap<(Ticket, usize), Late>,
    /// When lanes are to be told that they take too long, of late requests that they were not told
    /// of yet. A client that gives up sooner says nothing about the lane.
    overruns: BTreeSet<(Instant, Ticket, usize)>,
    /// Time that a request may take.
    timeout: Duration,
    recent: Recent,
    retries: usize,
    /// `None` if no request is given to two lanes.
    hedging: Option<Box<Hedging>>,
    /// Number of requests that were dropped unhandled, since nobody waits for a reply.
    withdrawn: u64,
    is_draining: bool,
    /// Requests are refused, since no lane is available.
    is_refusing: bool,
    /// What the log is still to be told.
    changes: VecDeque<Change>,
    tells_withdrawn: bool,
}

/// A request that a lane still has, though its client does not wait any more.
struct Late {
    /// Its number, by which the log knows it.
    number: u64,
    client: ClientId,
    /// What it takes in memory; `None` if that counts for another lane that has it.
    held: Option<usize>,
    /// When the lane has had it for as long as any request may take.
    overruns_at: Instant,
    /// Another lane has replied.
    is_second: bool,
}

/// Number of requests that there is place for though there are none.
const MAX_IDLE_REQUESTS: usize = 1024;

/// How requests are dispatched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Time that a request has, unless its client says less.
    pub timeout: Duration,
    /// Number of times that a request which was lost is tried again.
    pub retries: usize,
    /// A request that takes long is given to another lane as well.
    pub hedge: bool,
    pub client_limits: ClientLimits,
    /// Each request that is dropped unhandled is a [`Change`].
    pub tells_withdrawn: bool,
}

/// A change that is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Requests are refused from now on, for this reason.
    Refusing(&'static str),
    /// Requests are answered again.
    Answering,
    /// The request of that number was dropped, since nobody waits for its reply.
    Withdrawn(u64),
}

/// The next request to send, and the lane to send it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub ticket: Ticket,
    pub lane: usize,
    /// The body is needed again if the request is lost, so sending must not use it up.
    pub keep: bool,
    /// The lane that lost the request, if this is a retry.
    pub lost_on: Option<usize>,
    pub onward: Onward,
}

/// What a reply is.
pub(crate) enum Reply<'a> {
    /// It ends this request, whose client is to get it.
    First(&'a mut Pending),
    /// Another lane has replied before.
    Second,
    /// The request had ended by its deadline.
    Late,
}

/// What happens to a request that was lost.
pub(crate) enum Lost<'a> {
    /// It waits to be assigned once more, is dropped, since its client has gone, or another lane has
    /// it.
    Waiting,
    /// It has ended: its client is to be told.
    GivenUp(&'a mut Pending),
    /// It had ended before, by its deadline.
    Late,
}

impl Dispatcher {
    /// Makes a dispatcher over that many lanes.
    pub fn new(lanes: usize, rules: Rules, now: Instant) -> Dispatcher {
        Dispatcher {
            in_flight: InFlight::new(rules.timeout),
            clients: Clients::new(rules.client_limits),
            queue: Queue::new(now),
            waiting: VecDeque::new(),
            late: HashMap::new(),
            overruns: BTreeSet::new(),
            timeout: rules.timeout,
            recent: Recent::new(lanes),
            retries: rules.retries,
            hedging: rules.hedge.then(|| Hedging::new().into()),
            withdrawn: 0,
            is_draining: false,
            is_refusing: false,
            changes: VecDeque::new(),
            tells_withdrawn: rules.tells_withdrawn,
        }
    }

    /// Takes account of a new lane, or of one in the place of another that has ended.
    pub fn on_new_lane(&mut self, lane: usize) {
        self.recent.enter(lane);
    }

    /// Returns the table of the requests that were taken and not answered.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Returns how many of them no lane has yet.
    pub fn queued(&self) -> usize {
        self.queue.len() + self.waiting.len()
    }

    /// Returns what each client has asked for.
    pub fn usages(&self) -> Vec<Usage> {
        self.clients.usages()
    }

    /// Returns the number of a request that was taken, and that is not answered or that this lane
    /// still has; `None` if there is none.
    pub fn number_of(&self, ticket: Ticket, lane: usize) -> Option<u64> {
        let in_flight = self.in_flight.get(ticket).map(|pending| pending.request.number);
        in_flight.or_else(|| self.late.get(&(ticket, lane)).map(|late| late.number))
    }

    /// Returns the lane that has a request in flight besides that one, if there is one.
    pub fn lane_besides(&self, ticket: Ticket, lane: usize) -> Option<usize> {
        self.hedging.as_ref()?;
        Some(self.in_flight.get(ticket)?.elsewhere(lane)?.lane)
    }

    /// Returns the body of a request, to be sent; an empty one if it has ended.
    pub fn body_mut(&mut self, ticket: Ticket) -> &mut [Frame] {
        self.in_flight.get_mut(ticket).map_or(&mut [], |pending| &mut pending.request.body)
    }

    /// Takes the body of a request, to be handled; an empty one if it has ended.
    pub fn take_body(&mut self, ticket: Ticket) -> Vec<Frame> {
        let pending = self.in_flight.get_mut(ticket);
        pending.map_or_else(Vec::new, |pending| std::mem::take(&mut pending.request.body))
    }

    /// Takes the next change that the log was not told yet.
    pub fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// Has a request that a lane has given up wait for another, unless its client has gone.
    fn wait_again(&mut self, ticket: Ticket) {
        let Some(pending) = self.in_flight.get_mut(ticket) else { return };
        pending.place = Place::Waiting;
        if let Some(hedging) = &mut self.hedging {
            hedging.forget(ticket, pending.sent_at);
        }
        if self.clients.is_gone(pending.client) {
            self.withdraw(ticket);
        } else {
            self.waiting.push_back(ticket);
        }
    }

    /// Assigns the next request to the best lane; returns `None` if none waits or no lane takes
    /// one.
    pub fn next_assignment(
        &mut self,
        lanes: &[impl LaneState],
        now: Instant,
    ) -> Option<Assignment> {
        let queued = if self.waiting.is_empty() { self.queue.peek(now) } else { None };
        let ticket = self.waiting.front().copied().or(queued.map(|(_, ticket)| ticket))?;
        let pending = self.in_flight.get(ticket)?;
        let (keep, lost_on) = (pending.again < self.retries, pending.lost_on);
        let place = self.recent.choose(lanes, lost_on, now)?;
        match queued {
            Some((client, _)) => self.queue.pop(client, now),
            None => self.waiting.pop_front(),
        };
        let lane = self.recent.take(place);
        let pending = self.in_flight.get_mut(ticket)?;
        (pending.place, pending.lost_on, pending.sent_at) = (Place::Lane(lane), None, now);
        if let (Some(hedging), true) = (&mut self.hedging, keep) {
            hedging.on_sent(ticket, now, pending.again == 0);
        }
        let onward = pending.onward(now);
        Some(Assignment { ticket, lane, keep, lost_on, onward })
    }

    /// Puts a request that its lane could not take after all before all others that wait.
    pub fn on_unsent(&mut self, unsent: Assignment) {
        if let Some(pending) = self.in_flight.get_mut(unsent.ticket) {
            (pending.place, pending.lost_on) = (Place::Waiting, unsent.lost_on);
            if let Some(hedging) = &mut self.hedging {
                hedging.forget(unsent.ticket, pending.sent_at);
            }
            self.waiting.push_front(unsent.ticket);
        }
    }

    /// Ends a request that is on no lane and not in the queue any more.
    fn end(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        let pending = self.in_flight.remove(ticket)?;
        self.clients.on_ended(pending.client, pending.request.bytes, false);
        Some(pending)
    }

    /// Ends the request to which that lane has replied, unless it had ended before.
    pub fn on_reply(&mut self, ticket: Ticket, lane: usize, now: Instant) -> Reply<'_> {
        let Some(pending) = self.in_flight.get(ticket) else {
            return self.on_late_done(ticket, lane);
        };
        let Some(hedging) = &mut self.hedging else {
            return self.end(ticket).map_or(Reply::Late, Reply::First);
        };
        hedging.record(now.saturating_duration_since(pending.sent_at));
        hedging.forget(ticket, pending.sent_at);
        let ended = match pending.elsewhere(lane) {
            Some(other) => self.end_held(ticket, [other], true),
            None => self.end(ticket),
        };
        ended.map_or(Reply::Late, Reply::First)
    }

    /// Returns the bytes that requests take in memory: all that wait or that a lane has.
    pub fn bytes(&self) -> usize {
        self.clients.bytes()
    }

    /// Returns the request to refuse first if too much is held, with the bytes that are held for its
    /// client: of those that no lane has had, one of the client for which most is held; if it can be,
    /// its oldest one in the queue.
    pub fn greediest(&self) -> Option<(usize, Ticket)> {
        let waiting = self.waiting.iter().filter_map(|ticket| {
            let pending = self.in_flight.get(*ticket)?;
            (pending.again == 0).then_some((pending.client, *ticket))
        });
        let oldest = |client| Some((client, self.queue.oldest(client)?));
        let all = waiting.chain(self.queue.clients().filter_map(oldest));
        // Of equals this is the last: one in the queue.
        all.map(|(client, ticket)| (self.clients.bytes_of(client), ticket))
            .max_by_key(|(bytes, _)| *bytes)
    }

    /// Returns when something is next to be done though nothing happens: a deadline, or a recall.
    pub fn next_deadline(&self, lanes: &[impl LaneState], now: Instant) -> Option<Instant> {
        let recall = lanes.iter().filter_map(|lane| match lane.recall_due() {
            Recall::From(time) => Some(time),
            Recall::Never | Recall::Now => None,
        });
        // Without capacity elsewhere what waits behind a slow request stays there.
        let recall = recall.min().filter(|_| self.recent.has_capacity(lanes, now));
        let overrun = self.overruns.first().map(|(at, ..)| *at);
        let hedge = self.hedging.as_ref().and_then(|hedging| hedging.next_due(now));
        [recall, self.in_flight.earliest(), overrun, hedge].into_iter().flatten().min()
    }

    /// Gives back what a burst of requests has taken, once none is left.
    pub fn shrink(&mut self) {
        self.in_flight.shrink();
        self.late.shrink_to(MAX_IDLE_REQUESTS);
    }
}
