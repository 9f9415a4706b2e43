use super::*;

mod silent;

const MS: Duration = Duration::from_millis(1);

struct Harness {
    sent: u32,
    now: Instant,
}

impl Harness {
    fn new() -> Harness {
        Harness { sent: 0, now: Instant::now() }
    }

    /// Makes two upstreams of which nothing is known.
    fn two(&self) -> (Peer, Peer) {
        let peer = || Peer::new(Concurrency::upstream(1000), self.now);
        (peer(), peer())
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
    let (mut one, other) = harness.two();
    harness.send(&mut one);
    assert!(other.cost(harness.now) < one.cost(harness.now));
}

#[test]
fn one_that_takes_ten_times_as_long_gets_a_tenth_and_a_new_one_is_tried_at_once() {
    let mut harness = Harness::new();
    let (mut quick, mut slow) = harness.two();
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
        let is_due =
            |(due, peer, _): &mut (Instant, usize, Ticket)| *due <= now && frozen != Some(*peer);
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
    let (mut good, mut new) = harness.two();
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
fn one_that_refuses_is_not_quick() {
    let mut harness = Harness::new();
    let (mut good, mut bad) = harness.two();
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
fn one_that_refuses_gets_little_also_while_nothing_has_come_of_the_other() {
    let mut harness = Harness::new();
    let (mut other, mut bad) = harness.two();
    let mut refused = 0;
    for _ in 0..200 {
        if bad.cost(harness.now) < other.cost(harness.now) {
            harness.serve(&mut bad, 1, MS);
            bad.on_refusal(harness.now);
            refused += 1;
        } else {
            harness.send(&mut other);
        }
    }
    assert!((1..20).contains(&refused), "{refused}");
    // However often it has refused, it is tried again.
    for _ in 0..5000 {
        harness.serve(&mut bad, 1, MS);
        bad.on_refusal(harness.now);
    }
    harness.now += 4 * HALF_LIFE;
    assert!(bad.cost(harness.now) < 0.1);
}

#[test]
fn only_what_is_outstanding_is_taken_and_what_is_left_is_lost() {
    let mut harness = Harness::new();
    let (mut one, mut other) = harness.two();
    let ticket = harness.send(&mut one);
    assert!(!other.on_reply(ticket, harness.now));
    assert_eq!(one.take_outstanding(), [ticket]);
}

#[test]
fn what_nobody_waits_for_takes_its_place_until_it_is_replied_to() {
    for concurrency in [Concurrency::serial(1), Concurrency::upstream(1)] {
        let mut harness = Harness::new();
        let mut peer = Peer::new(concurrency, harness.now);
        let given_up = harness.send(&mut peer);
        peer.on_unawaited(given_up);
        assert_eq!((peer.awaited(), peer.in_flight()), (0, 1));
        assert_eq!(peer.admission(harness.now), Admission::Full);
        // Once more by its deadline.
        assert!(peer.on_deadline(given_up, harness.now));
        assert!(peer.on_reply(given_up, harness.now));
        assert_eq!((peer.awaited(), peer.in_flight()), (0, 0));
    }
}

#[test]
fn it_is_shown_what_one_is_doing_and_of_a_serial_one_since_when() {
    for concurrency in [Concurrency::serial(5), Concurrency::upstream(5)] {
        let mut harness = Harness::new();
        let is_serial = concurrency.is_serial();
        let mut peer = Peer::new(concurrency, harness.now);
        assert_eq!(peer.activity(harness.now), (Activity::Idle, None));
        let (begin, tickets) = (harness.now, [(); 2].map(|()| harness.send(&mut peer)));
        peer.on_unawaited(tickets[0]);
        assert_eq!((peer.awaited(), peer.in_flight()), (1, 2));
        harness.now += 80 * MS;
        assert_eq!(peer.activity(harness.now), (Activity::Busy, is_serial.then_some(begin)));
        assert!(peer.on_reply(tickets[0], harness.now));
        let replied = harness.now;
        assert_eq!(peer.activity(harness.now), (Activity::Busy, is_serial.then_some(replied)));
        // What replies to others in time does not hang; one that is serial is in what is late.
        harness.now += 20 * MS;
        assert!(peer.on_deadline(tickets[1], harness.now));
        let (activity, since) = peer.activity(harness.now);
        let expected = if is_serial { Activity::Stuck } else { Activity::Idle };
        assert_eq!((activity, since), (expected, is_serial.then_some(replied)));
    }
}

#[test]
fn what_is_lost_comes_in_the_order_in_which_it_was_sent() {
    let mut harness = Harness::new();
    let mut peer = Peer::new(Concurrency::upstream(1000), harness.now);
    let tickets: Vec<_> = (0..100).map(|_| harness.send(&mut peer)).collect();
    assert_eq!(peer.take_outstanding(), tickets);
}

#[test]
fn one_that_may_handle_many_gets_more_once_it_has_nearly_as_many_as_it_may() {
    for (requests, limit) in [(7, 16), (8, 17), (16, 22)] {
        let mut harness = Harness::new();
        let mut peer = Peer::new(Concurrency::parallel(1000), harness.now);
        // Each reply to one of many allows one more.
        while peer.concurrency.limit() < 16 {
            harness.serve(&mut peer, 1, MS);
            let full: Vec<_> =
                (0..peer.concurrency.limit()).map(|_| harness.send(&mut peer)).collect();
            assert!(peer.on_reply(full[full.len() - 1], harness.now));
            peer.take_outstanding();
        }
        assert_eq!(peer.concurrency.limit(), 16);
        let tickets: Vec<_> = (0..requests).map(|_| harness.send(&mut peer)).collect();
        tickets.iter().rev().for_each(|ticket| assert!(peer.on_reply(*ticket, harness.now)));
        assert_eq!(peer.concurrency.limit(), limit, "{requests}");
    }
}
