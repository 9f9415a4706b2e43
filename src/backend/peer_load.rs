//! One that answers requests elsewhere: what it owes, and how quick it is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::backend::ticket::Ticket;

/// How much one more reply counts against those before.
const WEIGHT: f64 = 0.125;

/// After how long what was seen of a peer counts for half: one that was slow is tried again.
const HALF_LIFE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Peer {
    owed: HashMap<Ticket, Sent>,
    /// The time from one reply to the next while it has something to do, in seconds; 0 as long as nothing
    /// is known.
    pace: f64,
    seen: Instant,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    /// How many it owed then, this one among them.
    owed: usize,
}

impl Peer {
    pub fn new(now: Instant) -> Peer {
        Peer { owed: HashMap::new(), pace: 0.0, seen: now }
    }

    /// How many replies it owes.
    pub fn owes(&self) -> usize {
        self.owed.len()
    }

    /// In how many seconds it may be expected to answer one more request: of several, the one where that
    /// is least gets it.
    pub fn cost(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.seen).as_secs_f64() / HALF_LIFE.as_secs_f64();
        // With nothing known, who owes least.
        (self.pace * (-age).exp2()).max(1e-9) * (self.owes() + 1) as f64
    }

    pub fn sent(&mut self, ticket: Ticket, now: Instant) {
        let owed = self.owes() + 1;
        self.owed.insert(ticket, Sent { at: now, owed });
    }

    /// Takes account of a reply; whether it was owed.
    pub fn replied(&mut self, ticket: Ticket, now: Instant) -> bool {
        let sent = self.owed.remove(&ticket);
        if let Some(Sent { at, owed }) = sent {
            let pace = now.saturating_duration_since(at).as_secs_f64() / owed as f64;
            self.pace += if self.pace == 0.0 { pace } else { (pace - self.pace) * WEIGHT };
            self.seen = now;
        }
        sent.is_some()
    }

    /// Takes account of one that said at once that it cannot answer: that is not quick.
    pub fn has_refused(&mut self, now: Instant) {
        self.pace = self.pace.max(HALF_LIFE.as_secs_f64());
        self.seen = now;
    }

    /// Takes account of a reply that did not come in time; returns false if this one does not owe it.
    pub fn is_late(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some(Sent { at, .. }) = self.owed.remove(&ticket) else { return false };
        // Whatever it could do, it does not do it.
        self.pace = self.pace.max(now.saturating_duration_since(at).as_secs_f64());
        self.seen = now;
        true
    }

    /// What it still owes.
    pub fn all(self) -> impl Iterator<Item = Ticket> {
        self.owed.into_keys()
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
            peer.sent(ticket, self.now);
            ticket
        }

        /// One at a time, each of which takes that long.
        fn serve(&mut self, peer: &mut Peer, requests: usize, time: Duration) {
            for _ in 0..requests {
                let ticket = self.send(peer);
                self.now += time;
                assert!(peer.replied(ticket, self.now));
            }
        }
    }

    #[test]
    fn of_two_that_nothing_is_known_of_the_one_that_owes_less_is_cheaper() {
        let mut harness = Harness::new();
        let (mut one, other) = (Peer::new(harness.now), Peer::new(harness.now));
        harness.send(&mut one);
        assert!(other.cost(harness.now) < one.cost(harness.now));
    }

    #[test]
    fn one_that_takes_ten_times_as_long_gets_a_tenth_and_a_new_one_is_tried_at_once() {
        let mut harness = Harness::new();
        let (mut quick, mut slow) = (Peer::new(harness.now), Peer::new(harness.now));
        harness.serve(&mut slow, 20, 10 * MS);
        harness.serve(&mut quick, 20, MS);
        for _ in 0..8 {
            assert!(quick.cost(harness.now) < slow.cost(harness.now), "{}", quick.owes());
            harness.send(&mut quick);
        }
        for _ in 0..3 {
            harness.send(&mut quick);
        }
        assert!(slow.cost(harness.now) < quick.cost(harness.now));
        assert!(Peer::new(harness.now).cost(harness.now) < slow.cost(harness.now));
    }

    #[test]
    fn replies_that_come_together_tell_how_quick_it_is_and_not_how_many_it_had() {
        let mut harness = Harness::new();
        let mut peer = Peer::new(harness.now);
        let tickets: Vec<_> = (0..50).map(|_| harness.send(&mut peer)).collect();
        for ticket in tickets {
            harness.now += MS;
            assert!(peer.replied(ticket, harness.now));
        }
        assert!((0.0009..0.0011).contains(&peer.cost(harness.now)), "{peer:?}");
    }

    #[test]
    fn one_that_does_not_reply_in_time_is_left_alone_and_tried_again_later() {
        let mut harness = Harness::new();
        let (mut good, mut bad) = (Peer::new(harness.now), Peer::new(harness.now));
        harness.serve(&mut bad, 20, MS);
        let ticket = harness.send(&mut bad);
        harness.now += 1000 * MS;
        bad.is_late(ticket, harness.now);
        assert!(!bad.replied(ticket, harness.now) && bad.owes() == 0);
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
    fn one_that_refuses_is_not_quick() {
        let mut harness = Harness::new();
        let (mut good, mut bad) = (Peer::new(harness.now), Peer::new(harness.now));
        harness.serve(&mut good, 20, 10 * MS);
        for _ in 0..20 {
            harness.serve(&mut bad, 1, MS);
            bad.has_refused(harness.now);
        }
        (0..50).for_each(|_| {
            harness.send(&mut good);
        });
        assert!(good.cost(harness.now) < bad.cost(harness.now));
    }

    #[test]
    fn only_what_is_owed_is_taken_and_what_is_left_is_lost() {
        let mut harness = Harness::new();
        let (mut one, mut other) = (Peer::new(harness.now), Peer::new(harness.now));
        let ticket = harness.send(&mut one);
        assert!(!other.replied(ticket, harness.now));
        assert_eq!(one.all().collect::<Vec<_>>(), [ticket]);
    }
}
