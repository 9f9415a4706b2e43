//! How much an upstream or an external worker has to do, and how soon one more reply may be
//! expected.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::concurrency::{Concurrency, SLOW_AFTER};
use super::ticket::Ticket;
use super::{Activity, Admission, Unavailable};

/// Weight of the latest reply in the moving average.
const WEIGHT: f64 = 0.125;

/// Time after which what was measured of a peer that has nothing to do counts for half. After twice
/// that it is a sixteenth, and so on with the square: one that was slow is tried again within seconds,
/// however slow that was.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// Time to a reply that one counts for which has not answered yet, in seconds: others come first.
const UNKNOWN: f64 = 1.0;

/// Share of the time that a late request has had, for which nothing has come of a peer that hangs. What
/// came first may be the reply to one before.
const SILENCE: f64 = 0.75;

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
    /// Moving average of the time to a reply, in seconds, by what was outstanding: see
    /// [`Peer::on_reply`]; 0 before the first reply.
    ewma: f64,
    measured: Instant,
    /// When it had nothing outstanding, or replied, last.
    foremost_since: Instant,
    /// A request has passed its deadline, and nothing has come for most of that time.
    is_silent: bool,
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
            is_silent: false,
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
        } else if self.is_silent && self.in_flight() == 0 {
            // It is tried again, as soon as there is a request.
            return Admission::Cost(0.0);
        }
        let has_place = self.in_flight() < self.concurrency.limit();
        if has_place && !self.is_silent {
            Admission::Cost(self.cost(now))
        } else if has_place {
            Admission::Doubtful(self.cost(now))
        } else if self.in_flight() > self.late {
            Admission::Full
        } else {
            Admission::Unavailable(Unavailable::Stuck)
        }
    }

    /// Returns true if it takes requests, if perhaps not at once: it answers in time, and has refused
    /// none of late.
    pub fn is_willing(&self, now: Instant) -> bool {
        let refuses = self.refused.is_some_and(|at| now < at + HALF_LIFE);
        !refuses && !self.is_silent && !matches!(self.admission(now), Admission::Unavailable(_))
    }

    /// Returns what it is doing, and since when it is at it.
    pub fn activity(&self, now: Instant) -> (Activity, Option<Instant>) {
        let since = self.concurrency.is_serial().then_some(self.foremost_since);
        match self.admission(now) {
            _ if self.is_silent => (Activity::Stuck, since),
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
        let time = match self.in_flight() {
            0 => self.ewma * self.remembered(now),
            _ if self.ewma == 0.0 => UNKNOWN,
            _ => self.ewma,
        };
        // Where nothing is known, the number of outstanding requests decides.
        time.max(1e-9) * (self.in_flight() + 1) as f64
    }

    /// Returns how much of what was measured still counts.
    fn remembered(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.measured).as_secs_f64();
        (-(age / HALF_LIFE.as_secs_f64()).powi(2)).exp2()
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
    ///
    /// Of a peer that handles one request at a time a reply takes as many times as long as requests
    /// are outstanding; of one that handles them all at once no longer than of one. Which of these one
    /// that may handle many is more like is not known, so the root of their number is taken: of two
    /// that are alike the one that has less to do is cheaper in either case.
    pub fn on_reply(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some(sent) = self.outstanding.remove(&ticket) else { return false };
        let Sent { at, outstanding, is_late, is_awaited, .. } = sent;
        self.late -= usize::from(is_late);
        self.unawaited -= usize::from(!is_awaited);
        // Of replies that come together the first ones make room, so it may not be full now.
        let was_full = 2 * outstanding >= self.concurrency.limit();
        // How long it did nothing at all does not tell how quick it is.
        if !is_late {
            let spent = now.saturating_duration_since(at).as_secs_f64();
            let is_serial = self.concurrency.is_serial();
            let times = if is_serial { outstanding as f64 } else { (outstanding as f64).sqrt() };
            let time = spent / times;
            let weight =
                if self.ewma == 0.0 { 1.0 } else { 1.0 - (1.0 - WEIGHT) * self.remembered(at) };
            self.ewma += (time - self.ewma) * weight;
            self.measured = now;
        }
        self.concurrency.on_reply(now.saturating_duration_since(self.foremost_since), was_full);
        (self.foremost_since, self.is_silent) = (now, false);
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
        self.concurrency.on_deadline(sent.at, now);
        let age = now.saturating_duration_since(sent.at);
        if now.saturating_duration_since(self.foremost_since) >= age.mul_f64(SILENCE) {
            self.is_silent = true;
        } else {
            // It took at least that long.
            self.ewma = self.ewma.max(age.as_secs_f64());
            self.measured = now;
        }
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
        self.concurrency.on_retry(self.is_silent);
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
            Peer::new(Concurrency::upstream(1000), harness.now),
            Peer::new(Concurrency::upstream(1000), harness.now),
        );
        harness.send(&mut one);
        assert!(other.cost(harness.now) < one.cost(harness.now));
    }

    #[test]
    fn one_that_takes_ten_times_as_long_gets_a_tenth_and_a_new_one_is_tried_at_once() {
        let mut harness = Harness::new();
        let (mut quick, mut slow) = (
            Peer::new(Concurrency::upstream(1000), harness.now),
            Peer::new(Concurrency::upstream(1000), harness.now),
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
            Peer::new(Concurrency::upstream(1000), harness.now).cost(harness.now)
                < slow.cost(harness.now)
        );
    }

    #[test]
    fn replies_that_come_together_tell_how_quick_it_is_and_little_of_how_many_it_had() {
        let cost_after = |concurrency, together: usize| {
            let mut harness = Harness::new();
            let mut peer = Peer::new(concurrency, harness.now);
            let tickets: Vec<_> = (0..together).map(|_| harness.send(&mut peer)).collect();
            for ticket in tickets {
                harness.now += MS;
                assert!(peer.on_reply(ticket, harness.now));
            }
            peer.cost(harness.now)
        };
        assert!((0.0009..0.0011).contains(&cost_after(Concurrency::serial(50), 50)));
        let parallel = cost_after(Concurrency::upstream(50), 50);
        assert!((0.005..0.0071).contains(&parallel), "{parallel}");
    }

    /// Sends a request whenever fewer than `clients` are outstanding, to the cheapest of peers, each of
    /// which handles all that it has at once, in a millisecond. Returns how many requests each got
    /// while that goes on for `time`; one that is `frozen` answers none meanwhile.
    fn share(
        harness: &mut Harness,
        peers: &mut [Peer],
        at: &mut Vec<(Instant, usize, Ticket)>,
        (clients, time, frozen): (usize, Duration, Option<usize>),
    ) -> Vec<usize> {
        let (mut counts, end) = (vec![0; peers.len()], harness.now + time);
        while harness.now < end {
            let now = harness.now;
            let is_due = |(due, peer, _): &mut (Instant, usize, Ticket)| {
                *due <= now && frozen != Some(*peer)
            };
            at.extract_if(.., is_due).for_each(|(_, place, ticket)| {
                assert!(peers[place].on_reply(ticket, now));
            });
            while at.len() < clients {
                let cost = |place: &usize| match peers[*place].admission(now) {
                    Admission::Cost(cost) => Some((cost, *place)),
                    _ => None,
                };
                let costs = (0..peers.len()).filter_map(|place| cost(&place));
                let least = costs.min_by(|one, other| one.0.total_cmp(&other.0));
                let Some((_, place)) = least else { break };
                let ticket = harness.send(&mut peers[place]);
                at.push((now + MS, place, ticket));
                counts[place] += 1;
            }
            harness.now += MS / 10;
        }
        counts
    }

    #[test]
    fn those_that_are_alike_share_alike_also_once_one_has_been_frozen() {
        for (clients, many) in [(50, true), (50, false), (200, true)] {
            let mut harness = Harness::new();
            let new = || match many {
                true => Concurrency::upstream(1000),
                false => Concurrency::parallel(1000),
            };
            let mut peers = [(); 3].map(|()| Peer::new(new(), harness.now));
            let mut at = Vec::new();
            let mut share =
                |frozen| share(&mut harness, &mut peers, &mut at, (clients, 1000 * MS, frozen));
            share(None);
            let counts = share(None);
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(3 * least > 2 * most, "{counts:?}");
            // Besides what it has.
            let counts = share(Some(1));
            assert!(counts[1] <= clients / 3, "{counts:?}");
            (0..5).for_each(|_| drop(share(None)));
            let counts = share(None);
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(3 * least > 2 * most, "{counts:?}");
        }
    }

    #[test]
    fn one_that_nothing_is_known_of_gets_one_until_it_has_answered() {
        let mut harness = Harness::new();
        let (mut good, mut new) = (
            Peer::new(Concurrency::upstream(1000), harness.now),
            Peer::new(Concurrency::upstream(1000), harness.now),
        );
        harness.serve(&mut good, 20, MS);
        assert!(new.cost(harness.now) < good.cost(harness.now));
        let first = harness.send(&mut new);
        assert!(good.cost(harness.now) < new.cost(harness.now));
        harness.now += MS;
        assert!(new.on_reply(first, harness.now));
        harness.send(&mut good);
        assert!(new.cost(harness.now) < good.cost(harness.now));
    }

    #[test]
    fn one_that_answers_others_but_not_this_counts_as_slow() {
        let mut harness = Harness::new();
        let (mut good, mut bad) = (
            Peer::new(Concurrency::upstream(1000), harness.now),
            Peer::new(Concurrency::upstream(1000), harness.now),
        );
        harness.serve(&mut good, 20, MS);
        let late = harness.send(&mut bad);
        harness.now += 1000 * MS;
        harness.serve(&mut bad, 20, MS);
        bad.on_deadline(late, harness.now);
        assert!(matches!(bad.admission(harness.now), Admission::Cost(_)));
        (0..100).for_each(|_| {
            harness.send(&mut good);
        });
        assert!(good.cost(harness.now) < bad.cost(harness.now));
        // Until that was long ago.
        assert_eq!(bad.forget_late(), [late]);
        harness.now += 20_000 * MS;
        assert!(bad.cost(harness.now) < good.cost(harness.now));
    }

    #[test]
    fn one_that_does_not_answer_at_all_is_the_last_choice_and_then_none_and_tried_one_at_a_time() {
        let stuck = Admission::Unavailable(Unavailable::Stuck);
        let mut harness = Harness::new();
        let mut peer = Peer::new(Concurrency::upstream(16), harness.now);
        harness.serve(&mut peer, 20, MS);
        let mut tickets: Vec<_> = (0..6).map(|_| harness.send(&mut peer)).collect();
        for ticket in &tickets {
            peer.on_deadline(*ticket, harness.now);
            assert!(matches!(peer.admission(harness.now), Admission::Doubtful(_)));
            assert!(!peer.is_willing(harness.now));
        }
        harness.now += MS;
        tickets.extend([(); 2].map(|()| harness.send(&mut peer)));
        peer.on_deadline(tickets[6], harness.now);
        assert_eq!(peer.admission(harness.now), Admission::Full, "of one the outcome is open");
        peer.on_deadline(tickets[7], harness.now);
        assert_eq!(peer.admission(harness.now), stuck);
        assert_eq!((peer.in_flight(), peer.awaited()), (8, 0));
        // One is tried.
        let mut forgotten = peer.forget_late();
        forgotten.sort_unstable();
        assert_eq!(forgotten, tickets);
        assert_eq!(peer.admission(harness.now), Admission::Cost(0.0));
        assert!(!peer.is_willing(harness.now));
        let trial = harness.send(&mut peer);
        assert_eq!(peer.admission(harness.now), Admission::Full);
        assert!(!peer.on_reply(tickets[0], harness.now), "it was forgotten");
        peer.on_deadline(trial, harness.now);
        assert_eq!(peer.admission(harness.now), stuck);
        // It answers again.
        assert!(peer.on_reply(trial, harness.now) && peer.is_willing(harness.now));
        assert!(matches!(peer.admission(harness.now), Admission::Cost(cost) if cost > 0.0));
    }

    #[test]
    fn one_that_is_full_of_late_requests_is_stuck_until_it_replies() {
        let mut harness = Harness::new();
        let mut peer = Peer::new(Concurrency::upstream(2), harness.now);
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
            Peer::new(Concurrency::upstream(1000), harness.now),
            Peer::new(Concurrency::upstream(1000), harness.now),
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
        let mut peer = Peer::new(Concurrency::upstream(1), harness.now);
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
            Peer::new(Concurrency::upstream(1000), harness.now),
            Peer::new(Concurrency::upstream(1000), harness.now),
        );
        let ticket = harness.send(&mut one);
        assert!(!other.on_reply(ticket, harness.now));
        assert_eq!(one.take_outstanding(), [ticket]);
    }
}
