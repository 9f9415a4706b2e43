//! Decides which lane gets a request, and what is retried, recalled, given up or refused.
//!
//! It is told what happened and the time. It holds no socket and reads no clock, so that each rule
//! has a unit test, and all of them a simulation.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::in_flight::{InFlight, Pending, Request};
use crate::backend::{Admission, LaneState, Recall, Ticket, Unavailable};
use crate::fault::{Code, Fault};
use crate::frame::Frame;

#[cfg(all(test, not(loom)))]
mod simulation;
#[cfg(test)]
mod tests;

pub(crate) struct Dispatcher {
    in_flight: InFlight,
    /// Requests that are on no lane: not sent yet, taken back, or lost and to be tried again.
    waiting: VecDeque<Ticket>,
    /// The lanes' indices, the most recently used first.
    recent: Vec<usize>,
    timeout: Duration,
    retries: usize,
    is_draining: bool,
    /// Requests are refused, since no lane is available.
    is_refusing: bool,
    /// What the log is still to be told.
    changes: VecDeque<Change>,
}

/// A change that is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Requests are refused from now on, for this reason.
    Refusing(&'static str),
    /// Requests are answered again.
    Answering,
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
}

/// What happens to a request that was lost.
pub(crate) enum Lost<'a> {
    /// It waits to be assigned once more.
    Waiting,
    /// It has ended: its client is to be told.
    GivenUp(&'a mut Pending),
    /// It had ended before, by its deadline.
    Late,
}

impl Dispatcher {
    /// Makes a dispatcher over that many lanes, whose requests have `timeout` and are tried `1 +
    /// retries` times.
    pub fn new(lanes: usize, timeout: Duration, retries: usize) -> Dispatcher {
        Dispatcher {
            in_flight: InFlight::default(),
            waiting: VecDeque::new(),
            recent: (0..lanes).collect(),
            timeout,
            retries,
            is_draining: false,
            is_refusing: false,
            changes: VecDeque::new(),
        }
    }

    /// Returns the table of the requests that were taken and not answered.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Returns the body of a request, to be sent; an empty one if it has ended.
    pub fn body_mut(&mut self, ticket: Ticket) -> &mut [Frame] {
        self.in_flight.get_mut(ticket).map_or(&mut [], |pending| &mut pending.request.body)
    }

    /// Takes the next change that the log was not told yet.
    pub fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// Refuses the requests that come from now on.
    pub fn begin_drain(&mut self) {
        self.is_draining = true;
    }

    /// Returns true if a request should be read from the frontend: if it can go to a lane at once,
    /// or be refused. Otherwise it is better left unread, so that TCP slows its client down.
    pub fn accepts(&self, lanes: &[impl LaneState], now: Instant) -> bool {
        (self.waiting.is_empty() && self.has_capacity(lanes, now))
            || self.is_draining
            || all_unavailable(lanes, now).is_some()
    }

    /// Takes a request, by swapping buffers, so that nothing is allocated.
    ///
    /// # Errors
    /// The fault that its client is told, if the request is refused.
    pub fn on_request(
        &mut self,
        request: &mut Request,
        lanes: &[impl LaneState],
        now: Instant,
    ) -> Result<(), Fault> {
        if self.is_draining {
            return Err(Fault::stopping());
        }
        if let Some(fault) = self.refusal(lanes, now) {
            return Err(fault);
        }
        if std::mem::take(&mut self.is_refusing) {
            self.changes.push_back(Change::Answering);
        }
        let ticket = self.in_flight.insert(request, now + self.timeout);
        self.waiting.push_back(ticket);
        Ok(())
    }

    /// Assigns the foremost waiting request to the best lane; returns `None` if no request waits or
    /// no lane takes one.
    pub fn next_assignment(
        &mut self,
        lanes: &[impl LaneState],
        now: Instant,
    ) -> Option<Assignment> {
        while let Some(&ticket) = self.waiting.front() {
            let Some(pending) = self.in_flight.get(ticket) else {
                // Its deadline has passed.
                self.waiting.pop_front();
                continue;
            };
            let (keep, lost_on) = (pending.lost < self.retries, pending.lost_on);
            let place = self.choose(lanes, lost_on, now)?;
            self.waiting.pop_front();
            self.recent[..=place].rotate_right(1);
            self.set_lost_on(ticket, None);
            return Some(Assignment { ticket, lane: self.recent[0], keep, lost_on });
        }
        None
    }

    /// Puts a request that its lane could not take after all before all others that wait.
    pub fn on_unsent(&mut self, unsent: Assignment) {
        self.set_lost_on(unsent.ticket, unsent.lost_on);
        self.waiting.push_front(unsent.ticket);
    }

    fn set_lost_on(&mut self, ticket: Ticket, lane: Option<usize>) {
        if let Some(pending) = self.in_flight.get_mut(ticket) {
            pending.lost_on = lane;
        }
    }

    /// Takes all waiting requests, each with what its client is told, if no lane is available.
    pub fn refuse_waiting(
        &mut self,
        lanes: &[impl LaneState],
        now: Instant,
    ) -> Vec<(Ticket, Fault)> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let Some(unavailable) = self.refusal(lanes, now) else { return Vec::new() };
        let was_lost = |ticket| self.in_flight.get(ticket).is_some_and(|it| it.lost > 0);
        let refused = self.waiting.drain(..).map(|ticket| {
            (ticket, if was_lost(ticket) { Fault::lost() } else { unavailable.clone() })
        });
        refused.collect()
    }

    /// Ends the request whose reply has come; returns `None` if it had ended before, by its
    /// deadline.
    pub fn on_reply(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.in_flight.remove(ticket)
    }

    /// Takes account of a request that was lost on that lane, or that cannot be answered there.
    pub fn on_lost(&mut self, ticket: Ticket, lane: usize) -> Lost<'_> {
        let Some(pending) = self.in_flight.get_mut(ticket) else { return Lost::Late };
        if pending.lost < self.retries {
            pending.lost += 1;
            pending.lost_on = Some(lane);
            self.waiting.push_back(ticket);
            return Lost::Waiting;
        }
        self.in_flight.remove(ticket).map_or(Lost::Late, Lost::GivenUp)
    }

    /// Takes requests that a lane gave back, in the order in which they were sent. They are
    /// assigned once more, and that is no retry: no worker has started them.
    pub fn on_revoked(&mut self, tickets: Vec<Ticket>) {
        self.waiting.extend(tickets);
    }

    /// Returns true if the requests that wait on that lane should be taken back: if they will not
    /// be started there soon, or if the one before them is slow and another lane has capacity.
    pub fn should_recall(&self, lane: usize, lanes: &[impl LaneState], now: Instant) -> bool {
        match lanes[lane].recall_due() {
            Recall::Never => false,
            Recall::Now => true,
            Recall::From(time) => {
                time <= now && self.waiting.is_empty() && self.has_capacity(lanes, now)
            }
        }
    }

    /// Returns the requests whose deadline has passed, each of which is to be given up.
    pub fn overdue(&mut self, now: Instant) -> Vec<Ticket> {
        self.in_flight.overdue(now)
    }

    /// Ends a request without a reply; returns `None` if it had ended before.
    pub fn give_up(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.in_flight.remove(ticket)
    }

    /// Returns when something is next to be done though nothing happens: a deadline, or a recall.
    pub fn next_deadline(&self, lanes: &[impl LaneState], now: Instant) -> Option<Instant> {
        let recall = lanes.iter().filter_map(|lane| match lane.recall_due() {
            Recall::From(time) => Some(time),
            Recall::Never | Recall::Now => None,
        });
        // Without capacity elsewhere what waits behind a slow request stays there.
        let recall = recall.min().filter(|_| self.has_capacity(lanes, now));
        recall.into_iter().chain(self.in_flight.earliest()).min()
    }

    /// Returns the place in `recent` of the lane for the next request: the most recently used one
    /// that has credit, since waking a thread costs more than a tiny handler; if none has, the one
    /// of least cost, and of equals the least recently used. The lane that lost the request is the
    /// last choice.
    fn choose(
        &self,
        lanes: &[impl LaneState],
        lost_on: Option<usize>,
        now: Instant,
    ) -> Option<usize> {
        let (mut best, mut last) = (None::<(f64, usize)>, None);
        for (place, &lane) in self.recent.iter().enumerate() {
            match lanes[lane].admission(now) {
                Admission::Preferred | Admission::Cost(_) if lost_on == Some(lane) => {
                    last = Some(place);
                }
                Admission::Preferred => return Some(place),
                Admission::Cost(cost) if best.is_none_or(|(least, _)| cost <= least) => {
                    best = Some((cost, place));
                }
                Admission::Cost(_) | Admission::Full | Admission::Unavailable(_) => (),
            }
        }
        best.map(|(_, place)| place).or(last)
    }

    fn has_capacity(&self, lanes: &[impl LaneState], now: Instant) -> bool {
        let mut recent = self.recent.iter().map(|&lane| lanes[lane].admission(now));
        recent.any(|admission| matches!(admission, Admission::Preferred | Admission::Cost(_)))
    }

    /// Takes account of a change of lanes by itself, so that it is logged before the next request
    /// comes.
    pub fn on_lane_changed(&mut self, lanes: &[impl LaneState], now: Instant) {
        self.refusal(lanes, now);
    }

    /// Returns what clients are told if no lane is available, and logs that once.
    fn refusal(&mut self, lanes: &[impl LaneState], now: Instant) -> Option<Fault> {
        let why = all_unavailable(lanes, now)?;
        if !std::mem::replace(&mut self.is_refusing, true) {
            self.changes.push_back(Change::Refusing(why));
        }
        Some(Fault::new(Code::UNAVAILABLE, why))
    }
}

/// Returns the reason why no lane is available; `None` if one is, if only soon.
fn all_unavailable(lanes: &[impl LaneState], now: Instant) -> Option<&'static str> {
    let (mut down, mut disconnected) = (0, 0);
    for lane in lanes {
        match lane.admission(now) {
            Admission::Unavailable(Unavailable::Disconnected) => disconnected += 1,
            Admission::Unavailable(Unavailable::Down) => down += 1,
            Admission::Unavailable(Unavailable::Stuck) => (),
            Admission::Preferred | Admission::Cost(_) | Admission::Full => return None,
        }
    }
    Some(match (down, disconnected) {
        (_, 1..) => "no worker or upstream is connected",
        (0, 0) => "every worker is stuck in a request that has passed its deadline",
        (down, 0) if down == lanes.len() => "no worker has a running program",
        _ => "every worker is stuck in a request, or has no running program",
    })
}
