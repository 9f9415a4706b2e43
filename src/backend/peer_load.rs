//! How much an upstream or an external worker has to do, and how soon one more reply may be
//! expected.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::concurrency::{Concurrency, SLOW_AFTER};
use super::ticket::Ticket;
use super::{Activity, Admission, Unavailable};

/// Weight of the latest reply in the moving average.
const WEIGHT: f64 = 0.125;

/// Time after which what was measured of a peer counts for half: one that was slow is tried again.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// The requests that are outstanding with a peer, and its measured speed.
#[derive(Debug)]
pub(crate) struct Peer {
    concurrency: Concurrency,
    outstanding: HashMap<Ticket, Sent>,
    /// Number of these whose deadline has passed.
    late: usize,
    /// Number of these that nobody waits for: they are late, or another peer has replied.
    unawaited: usize,
    /// Number of requests that were ever sent.
    sent: u64,
    /// Moving average of the time from one reply to the next, in seconds, while it has something to
    /// do; 0 before the first reply.
    ewma: f64,
    measured: Instant,
    /// When it had nothing outstanding, or replied, last.
    foremost_since: Instant,
    /// When it has refused a request last.
    refused: Option<Instant>,
}

#[derive(Debug)]
struct Sent {
    /// How many requests were ever sent before.
    number: u64,
    at: Instant,
    /// Number of requests that were outstanding then, this one among them.
    outstanding: usize,
    /// Its deadline has passed.
    is_late: bool,
    is_awaited: bool,
}

impl Peer {
    /// Makes one with nothing outstanding, of which nothing is known.
    pub fn new(concurrency: Concurrency, now: Instant) -> Peer {
        Peer {
            concurrency,
            outstanding: HashMap::new(),
            late: 0,
            unawaited: 0,
            sent: 0,
            ewma: 0.0,
            measured: now,
            foremost_since: now,
            refused: None,
        }
    }

    /// Returns what it says to one more request.
    pub fn admission(&self, now: Instant) -> Admission {
        if self.concurrency.is_serial() {
            // In what it is at, or behind that.
            if self.late > 0 {
                return Admission::Unavailable(Unavailable::Stuck);
            }
            if self.in_flight() > 0 && now >= self.foremost_since + SLOW_AFTER {
                return Admission::Full;
            }
        }
        if self.in_flight() < self.concurrency.limit() {
            Admission::Cost(self.cost(now))
        } else if self.in_flight() > self.late {
            Admission::Full
        } else {
            Admission::Unavailable(Unavailable::Stuck)
        }
    }

    /// Returns true if it takes requests, if perhaps not at once: it is not stuck, and has refused none
    /// of late.
    pub fn is_willing(&self, now: Instant) -> bool {
        let refuses = self.refused.is_some_and(|at| now < at + HALF_LIFE);
        !refuses && !matches!(self.admission(now), Admission::Unavailable(_))
    }

    /// Returns what it is doing, and since when it is at it.
    pub fn activity(&self, now: Instant) -> (Activity, Option<Instant>) {
        let since = self.concurrency.is_serial().then_some(self.foremost_since);
        match self.admission(now) {
            Admission::Unavailable(_) => (Activity::Stuck, since),
            _ if self.in_flight() > self.late => (Activity::Busy, since),
            _ => (Activity::Idle, None),
        }
    }

    /// Returns when [`Peer::forget_late`] is to be called, so that the peer is tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.concurrency.retry_at()
    }

    /// Returns how many requests are outstanding: also those whose deadline has passed, until they
    /// are replied to.
    pub fn in_flight(&self) -> usize {
        self.outstanding.len()
    }

    /// Returns how many of them somebody still waits for.
    pub fn awaited(&self) -> usize {
        self.outstanding.len() - self.unawaited
    }

    /// Returns true if that request is outstanding here.
    #[cfg(test)]
    pub fn is_outstanding(&self, ticket: Ticket) -> bool {
        self.outstanding.contains_key(&ticket)
    }

    /// Returns the expected time to the reply of one more request, in seconds. Of several peers the
    /// one with the least should get it.
    pub fn cost(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.measured).as_secs_f64();
        let ewma = self.ewma * (-age / HALF_LIFE.as_secs_f64()).exp2();
        // Where nothing is known, the number of outstanding requests decides.
        ewma.max(1e-9) * (self.in_flight() + 1) as f64
    }

    /// Takes account of a request that was sent.
    pub fn on_sent(&mut self, ticket: Ticket, now: Instant) {
        let (number, outstanding) = (self.sent, self.in_flight() + 1);
        self.sent += 1;
        if outstanding == 1 {
            self.foremost_since = now;
        }
        self.outstanding.insert(
            ticket,
            Sent { number, at: now, outstanding, is_late: false, is_awaited: true },
        );
    }

    /// Takes account of a reply; returns false if that request is not outstanding here.
    pub fn on_reply(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some(sent) = self.outstanding.remove(&ticket) else { return false };
        let Sent { at, outstanding, is_late, is_awaited, .. } = sent;
        self.late -= usize::from(is_late);
        self.unawaited -= usize::from(!is_awaited);
        // Of replies that come together the first ones make room, so it may not be full now.
        let was_full = 2 * outstanding >= self.concurrency.limit();
        let outstanding = u32::try_from(outstanding).unwrap_or(u32::MAX);
        let spent = now.saturating_duration_since(at) / outstanding;
        let time = spent.as_secs_f64();
        self.ewma += if self.ewma == 0.0 { time } else { (time - self.ewma) * WEIGHT };
        self.concurrency.on_reply(now.saturating_duration_since(self.foremost_since), was_full);
        (self.measured, self.foremost_since) = (now, now);
        true
    }

    /// Takes account of a 503, which comes quickly: it makes a peer no quicker than one reply in
    /// [`HALF_LIFE`].
    pub fn on_refusal(&mut self, now: Instant) {
        self.ewma = self.ewma.max(HALF_LIFE.as_secs_f64());
        (self.measured, self.refused) = (now, Some(now));
    }

    /// Takes account of a request whose deadline has passed; returns false if it is not outstanding
    /// here.
    pub fn on_deadline(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some(sent) = self.outstanding.get_mut(&ticket) else { return false };
        sent.is_late = true;
        self.late += 1;
        self.unawaited += usize::from(std::mem::take(&mut sent.is_awaited));
        // It took at least that long.
        self.ewma = self.ewma.max(now.saturating_duration_since(sent.at).as_secs_f64());
        self.measured = now;
        self.concurrency.on_deadline(now);
        true
    }

    /// Takes account of a request that another peer has replied to.
    pub fn on_answered_elsewhere(&mut self, ticket: Ticket) {
        let Some(sent) = self.outstanding.get_mut(&ticket) else { return };
        self.unawaited += usize::from(std::mem::take(&mut sent.is_awaited));
    }

    /// Removes the requests whose deadline has passed, and returns them: it is not known any more
    /// whether they will be replied to.
    pub fn forget_late(&mut self) -> Vec<Ticket> {
        self.unawaited -= std::mem::take(&mut self.late);
        self.concurrency.on_retry();
        self.outstanding.extract_if(|_, sent| sent.is_late).map(|(ticket, _)| ticket).collect()
    }

    /// Removes the requests that are still outstanding, and returns them in the order in which they
    /// were sent.
    pub fn take_outstanding(&mut self) -> Vec<Ticket> {
        (self.late, self.unawaited) = (0, 0);
        let mut sent: Vec<_> = self.outstanding.drain().collect();
        sent.sort_unstable_by_key(|(_, sent)| sent.number);
        sent.into_iter().map(|(ticket, _)| ticket).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Harness {
        sent: u32,
        now: Instant,
    }

    impl Harness {
        fn new() -> Harness {
            Harness { sent: 0, now: Instant::now() }
        }

        fn send(&mut self, peer: &mut Peer) -> Ticket {
            let ticket = Ticket { slot: self.sent, generation: 0 };
            self.sent += 1;
            peer.on_sent(ticket, self.now);
            ticket
        }

        /// Sends requests one at a time, each of which takes that long.
        fn serve(&mut self, peer: &mut Peer, requests: usize, time: Duration) {
            for _ in 0..requests {
                let ticket = self.send(peer);
                self.now += time;
                assert!(peer.on_reply(ticket, self.now));
            }
        }
    }

    #[test]
    fn of_two_that_nothing_is_known_of_the_one_with_less_outstanding_is_cheaper() {
        let mut harness = Harness::new();
        let (mut one, other) = (
            Peer::new(Concurrency::Fixed(1000), harness.now),
            Peer::new(Concurrency::Fixed(1000), harness.now),
        );
        harness.send(&mut one);
        assert!(other.cost(harness.now) < one.cost(harness.now));
    }

    #[test]
    fn one_that_takes_ten_times_as_long_gets_a_tenth_and_a_new_one_is_tried_at_once() {
        let mut harness = Harness::new();
        let (mut quick, mut slow) = (
            Peer::new(Concurrency::Fixed(1000), harness.now),
            Peer::new(Concurrency::Fixed(1000), harness.now),
        );
        harness.serve(&mut slow, 20, 10 * MS);
        harness.serve(&mut quick, 20, MS);
        for _ in 0..8 {
            assert!(quick.cost(harness.now) < slow.cost(harness.now), "{}", quick.in_flight());
            harness.send(&mut quick);
        }
        for _ in 0..3 {
            harness.send(&mut quick);
        }
        assert!(slow.cost(harness.now) < quick.cost(harness.now));
        assert!(
            Peer::new(Concurrency::Fixed(1000), harness.now).cost(harness.now)
                < slow.cost(harness.now)
        );
    }

    #[test]
    fn replies_that_come_together_tell_how_quick_it_is_and_not_how_many_it_had() {
        let mut harness = Harness::new();
        let mut peer = Peer::new(Concurrency::Fixed(1000), harness.now);
        let tickets: Vec<_> = (0..50).map(|_| harness.send(&mut peer)).collect();
        for ticket in tickets {
            harness.now += MS;
            assert!(peer.on_reply(ticket, harness.now));
        }
        assert!((0.0009..0.0011).contains(&peer.cost(harness.now)), "{peer:?}");
    }

    #[test]
    fn one_that_does_not_reply_in_time_is_left_alone_and_tried_again_later() {
        let mut harness = Harness::new();
        let (mut good, mut bad) = (
            Peer::new(Concurrency::Fixed(1000), harness.now),
            Peer::new(Concurrency::Fixed(1000), harness.now),
        );
        harness.serve(&mut bad, 20, MS);
        let ticket = harness.send(&mut bad);
        harness.now += 1000 * MS;
        bad.on_deadline(ticket, harness.now);
        assert_eq!((bad.in_flight(), bad.awaited()), (1, 0));
        assert_eq!(bad.forget_late(), [ticket]);
        assert!(!bad.on_reply(ticket, harness.now) && bad.in_flight() == 0);
        harness.serve(&mut good, 20, MS);
        for _ in 0..100 {
            harness.send(&mut good);
        }
        assert!(good.cost(harness.now) < bad.cost(harness.now));
        harness.now += 20_000 * MS;
        harness.serve(&mut good, 1, MS);
        assert!(bad.cost(harness.now) < good.cost(harness.now));
    }

    #[test]
    fn one_that_is_full_of_late_requests_is_stuck_until_it_replies() {
        let mut harness = Harness::new();
        let mut peer = Peer::new(Concurrency::Fixed(2), harness.now);
        let tickets = [harness.send(&mut peer), harness.send(&mut peer)];
        peer.on_deadline(tickets[0], harness.now);
        assert_eq!(peer.admission(harness.now), Admission::Full);
        peer.on_deadline(tickets[1], harness.now);
        let stuck = Admission::Unavailable(Unavailable::Stuck);
        assert_eq!(peer.admission(harness.now), stuck);
        assert!(peer.on_reply(tickets[0], harness.now));
        assert!(matches!(peer.admission(harness.now), Admission::Cost(_)));
        assert_eq!((peer.in_flight(), peer.awaited()), (1, 0));
    }

    #[test]
    fn one_that_refuses_is_not_quick() {
        let mut harness = Harness::new();
        let (mut good, mut bad) = (
            Peer::new(Concurrency::Fixed(1000), harness.now),
            Peer::new(Concurrency::Fixed(1000), harness.now),
        );
        harness.serve(&mut good, 20, 10 * MS);
        for _ in 0..20 {
            harness.serve(&mut bad, 1, MS);
            bad.on_refusal(harness.now);
        }
        (0..50).for_each(|_| {
            harness.send(&mut good);
        });
        assert!(good.cost(harness.now) < bad.cost(harness.now));
    }

    #[test]
    fn one_that_is_stuck_or_has_just_refused_is_not_willing() {
        let mut harness = Harness::new();
        let mut peer = Peer::new(Concurrency::Fixed(1), harness.now);
        harness.serve(&mut peer, 1, MS);
        peer.on_refusal(harness.now);
        assert!(!peer.is_willing(harness.now) && peer.is_willing(harness.now + HALF_LIFE));
        harness.now += HALF_LIFE;
        let ticket = harness.send(&mut peer);
        // It is full, which is another thing.
        assert!(peer.is_willing(harness.now));
        peer.on_deadline(ticket, harness.now);
        assert!(!peer.is_willing(harness.now));
    }

    #[test]
    fn only_what_is_outstanding_is_taken_and_what_is_left_is_lost() {
        let mut harness = Harness::new();
        let (mut one, mut other) = (
            Peer::new(Concurrency::Fixed(1000), harness.now),
            Peer::new(Concurrency::Fixed(1000), harness.now),
        );
        let ticket = harness.send(&mut one);
        assert!(!other.on_reply(ticket, harness.now));
        assert_eq!(one.take_outstanding(), [ticket]);
    }
}
