//! What is outstanding on a worker's lane, and what of it may be sent or taken back. It holds no
//! socket.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::backend::claim::Claim;
use crate::backend::credit::Credit;
use crate::backend::ticket::Ticket;
use crate::backend::{Activity, Admission, LaneEvent, LaneState, Recall, Unavailable};

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

    /// Returns what the worker is doing, and since when it is at its request.
    pub fn activity(&self) -> (Activity, Option<Instant>) {
        if self.credit.is_down() {
            (Activity::Down, None)
        } else if self.is_stuck() {
            (Activity::Stuck, Some(self.foremost_since))
        } else if self.in_flight() > 0 {
            (Activity::Busy, Some(self.foremost_since))
        } else {
            (Activity::Idle, None)
        }
    }

    /// Returns true if the worker has that request to answer.
    #[cfg(test)]
    pub fn is_outstanding(&self, ticket: Ticket) -> bool {
        self.outstanding.contains(&Outstanding::Live(ticket))
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
    pub fn on_reply(&mut self, now: Instant) -> Option<LaneEvent> {
        self.foremost_since = now;
        let number = self.front();
        Some(match self.outstanding.pop_front()? {
            Outstanding::Live(ticket) | Outstanding::Expired(ticket) => {
                if self.claim.take_lost(number) {
                    LaneEvent::Lost(ticket)
                } else {
                    LaneEvent::Reply(ticket)
                }
            }
            Outstanding::Revoked => LaneEvent::Ignored,
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

    /// Takes back what the worker has not started, in the order in which it was sent: also that
    /// whose deadline has passed.
    pub fn recall(&mut self, now: Instant) -> Vec<Ticket> {
        let newest = self.claim.revoke(self.front(), self.sent, self.credit.get() == 0);
        if newest == 0 {
            // The worker's thread was not scheduled yet: the foremost request has not had its time.
            self.foremost_since = now;
        }
        let kept = self.outstanding.len() - newest;
        let revoke = |it: &mut Outstanding| match std::mem::replace(it, Outstanding::Revoked) {
            Outstanding::Live(ticket) | Outstanding::Expired(ticket) => Some(ticket),
            Outstanding::Revoked => None,
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

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::backend::credit::{Availability, Meter};

    const MS: Duration = Duration::from_millis(1);

    /// A window, the worker's side of it, and the time.
    struct Harness {
        window: Window,
        claim: Claim,
        meter: Meter,
        now: Instant,
        sent: u32,
    }

    impl Harness {
        fn new() -> Harness {
            let (credit, claim, now) = (Credit::new(), Claim::default(), Instant::now());
            let meter = Meter::new(credit.clone());
            Harness { window: Window::new(credit, claim.clone(), now), claim, meter, now, sent: 0 }
        }

        fn send(&mut self) -> Ticket {
            let ticket = Ticket { slot: self.sent, generation: 0 };
            self.sent += 1;
            self.window.on_sent(ticket, self.now);
            ticket
        }

        fn admission(&self) -> Admission {
            self.window.admission(self.now)
        }
    }

    #[test]
    fn it_takes_what_it_has_credit_for_then_what_it_may_be_overcommitted_with_and_then_no_more() {
        let mut harness = Harness::new();
        (0..1000).for_each(|_| harness.meter.record(Duration::from_micros(50)));
        assert_eq!(harness.admission(), Admission::Preferred);
        for ahead in 1..5 {
            harness.send();
            assert_eq!(harness.admission(), Admission::Cost(f64::from(ahead)));
        }
        harness.send();
        assert_eq!((harness.admission(), harness.window.in_flight()), (Admission::Full, 5));
    }

    #[test]
    fn nothing_is_sent_behind_a_slow_request_and_what_is_there_may_be_taken_back() {
        let mut harness = Harness::new();
        (0..1000).for_each(|_| harness.meter.record(Duration::ZERO));
        let start = harness.now;
        let tickets = [harness.send(), harness.send(), harness.send()];
        assert!(harness.claim.try_start(0));
        assert_eq!(harness.window.recall_due(), Recall::From(start + MS));
        harness.now += MS;
        assert_eq!(harness.admission(), Admission::Full);
        assert_eq!(harness.window.recall(harness.now), tickets[1..]);
        assert_eq!(harness.window.recall_due(), Recall::Never);
        assert_eq!(harness.window.in_flight(), 1);
        let mut events = (0..3).map(|_| harness.window.on_reply(harness.now));
        assert_eq!(events.next().unwrap(), Some(LaneEvent::Reply(tickets[0])));
        assert!(events.all(|event| event == Some(LaneEvent::Ignored)));
        assert_eq!(harness.window.on_reply(harness.now), None);
        assert!(harness.window.is_empty());
    }

    #[test]
    fn a_worker_that_has_not_started_is_not_slow() {
        let mut harness = Harness::new();
        harness.send();
        harness.send();
        harness.now += MS;
        assert!(harness.window.recall(harness.now).is_empty());
        assert_eq!(harness.window.recall_due(), Recall::From(harness.now + MS));
    }

    #[test]
    fn a_worker_that_takes_nothing_gives_all_back() {
        for (availability, admission) in [
            (Availability::Paused, Admission::Full),
            (Availability::Down, Admission::Unavailable(Unavailable::Down)),
        ] {
            let mut harness = Harness::new();
            let tickets = [harness.send(), harness.send()];
            harness.meter.set_availability(availability);
            assert_eq!(
                (harness.admission(), harness.window.recall_due()),
                (admission, Recall::Now)
            );
            assert_eq!(harness.window.recall(harness.now), tickets);
            assert!(!harness.claim.try_start(0) && !harness.claim.try_start(1));
            assert_eq!(harness.window.recall_due(), Recall::Never);
        }
    }

    #[test]
    fn a_lost_request_is_told_from_a_reply_by_the_worker_alone() {
        let mut harness = Harness::new();
        let [lost, replied] = [harness.send(), harness.send()];
        harness.claim.mark_lost(0);
        assert_eq!(harness.window.on_reply(harness.now), Some(LaneEvent::Lost(lost)));
        assert_eq!(harness.window.on_reply(harness.now), Some(LaneEvent::Reply(replied)));
    }

    #[test]
    fn what_has_passed_its_deadline_is_taken_back_too() {
        let mut harness = Harness::new();
        let [_, expired, live] = [harness.send(), harness.send(), harness.send()];
        assert!(harness.claim.try_start(0));
        assert!(!harness.window.on_deadline(expired));
        assert_eq!(harness.window.recall(harness.now), [expired, live]);
    }

    #[test]
    fn a_worker_is_stuck_in_a_request_past_its_deadline_until_it_replies() {
        let mut harness = Harness::new();
        let [stuck, _] = [harness.send(), harness.send()];
        assert!(harness.claim.try_start(0) && harness.window.on_deadline(stuck));
        assert_eq!(harness.admission(), Admission::Unavailable(Unavailable::Stuck));
        assert_eq!(harness.window.recall_due(), Recall::Now);
        assert_eq!(harness.window.on_reply(harness.now), Some(LaneEvent::Reply(stuck)));
        assert_eq!(harness.admission(), Admission::Full);
        assert_eq!(harness.window.recall_due(), Recall::Never);
    }

    #[test]
    fn a_worker_that_ends_its_program_at_the_deadline_is_not_stuck() {
        let mut harness = Harness::new();
        harness.meter.set_may_pause();
        let expired = harness.send();
        assert!(harness.claim.try_start(0) && !harness.window.on_deadline(expired));
        assert_eq!(harness.admission(), Admission::Full);
    }

    #[test]
    fn a_body_is_kept_if_the_request_may_be_taken_back() {
        let mut harness = Harness::new();
        assert!(!harness.window.may_recall_next());
        harness.send();
        assert!(harness.window.may_recall_next());
        let harness = Harness::new();
        harness.meter.set_may_pause();
        assert!(harness.window.may_recall_next());
    }
}
