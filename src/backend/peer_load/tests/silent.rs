//! Peers that do not answer, or not in time.

use super::*;

#[test]
fn one_that_answers_others_but_not_this_counts_as_slow() {
    let mut harness = Harness::new();
    let (mut good, mut bad) = harness.two();
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
    assert_eq!(bad.take_outstanding(), [late]);
    harness.now += 20_000 * MS;
    assert!(bad.cost(harness.now) < good.cost(harness.now));
}

#[test]
fn a_worker_that_does_not_answer_at_all_is_the_last_choice_and_then_none_and_tried_one_at_a_time() {
    let stuck = Admission::Unavailable(Unavailable::Stuck);
    let mut harness = Harness::new();
    let mut peer = Peer::new(Concurrency::parallel(16), harness.now);
    let mut at_once = |peer: &mut Peer, requests| {
        let tickets: Vec<_> = (0..requests).map(|_| harness.send(peer)).collect();
        harness.now += MS;
        tickets.into_iter().for_each(|ticket| assert!(peer.on_reply(ticket, harness.now)));
    };
    [1, 2, 4, 8, 16].into_iter().for_each(|requests| at_once(&mut peer, requests));
    let mut tickets: Vec<_> = (0..6).map(|_| harness.send(&mut peer)).collect();
    harness.now += MS;
    for ticket in &tickets {
        peer.on_deadline(*ticket, harness.now);
        assert!(matches!(peer.admission(harness.now), Admission::Doubtful(_)));
        assert!(!peer.is_willing(harness.now));
    }
    harness.now += MS;
    tickets.extend([(); 2].map(|()| harness.send(&mut peer)));
    peer.on_deadline(tickets[6], harness.now);
    assert_eq!(peer.admission(harness.now), stuck);
    peer.on_deadline(tickets[7], harness.now);
    assert_eq!(peer.admission(harness.now), stuck);
    assert_eq!((peer.in_flight(), peer.awaited()), (8, 0));
    // One is tried.
    harness.now += 1000 * MS;
    let mut forgotten = peer.take_forgotten(harness.now);
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
fn an_upstream_that_does_not_answer_at_all_is_the_last_choice_and_tried_now_and_then() {
    let mut harness = Harness::new();
    let mut peer = Peer::new(Concurrency::upstream(1000), harness.now);
    let late: Vec<_> = (0..20).map(|_| harness.send(&mut peer)).collect();
    harness.now += 1000 * MS;
    late.iter().for_each(|ticket| assert!(peer.on_deadline(*ticket, harness.now)));
    let is_doubtful = |peer: &Peer, now| {
        matches!(peer.admission(now), Admission::Doubtful(_)) && !peer.is_willing(now)
    };
    assert!(is_doubtful(&peer, harness.now));
    assert_eq!(peer.activity(harness.now), (Activity::Stuck, Some(harness.now - 1000 * MS)));
    harness.now += 8000 * MS;
    assert_eq!(peer.admission(harness.now), Admission::Cost(0.0));
    harness.send(&mut peer);
    assert!(is_doubtful(&peer, harness.now));
    // Nothing waits for a trial where all are late.
    let mut full = Peer::new(Concurrency::upstream(2), harness.now);
    for ticket in [(); 2].map(|()| harness.send(&mut full)) {
        full.on_deadline(ticket, harness.now);
    }
    harness.now += 8000 * MS;
    assert_eq!(full.admission(harness.now), Admission::Cost(0.0));
    harness.send(&mut full);
    assert_eq!(full.admission(harness.now), Admission::Unavailable(Unavailable::Stuck));
    // What it answers late tells that it is back.
    assert!(peer.on_reply(late[0], harness.now) && peer.is_willing(harness.now));
}

#[test]
fn what_it_has_passed_over_keeps_nothing_out() {
    let mut harness = Harness::new();
    let mut peer = Peer::new(Concurrency::upstream(2), harness.now);
    let mut dropped = [(); 2].map(|()| harness.send(&mut peer)).to_vec();
    harness.now += 1000 * MS;
    dropped.iter().for_each(|ticket| assert!(peer.on_deadline(*ticket, harness.now)));
    harness.now += 8000 * MS;
    harness.serve(&mut peer, 1, MS);
    assert!(peer.has_forgotten() && peer.is_willing(harness.now));
    assert_eq!((peer.in_flight(), peer.awaited()), (0, 0));
    let mut forgotten = peer.take_forgotten(harness.now);
    forgotten.sort_unstable();
    assert_eq!(forgotten, dropped);
    assert!(!peer.has_forgotten() && !peer.on_reply(dropped[0], harness.now));
    let next = harness.send(&mut peer);
    assert_eq!((peer.activity(harness.now).0, peer.awaited()), (Activity::Busy, 1));
    assert!(peer.on_reply(next, harness.now));
    // Of one that was sent before the deadline the reply does not tell that.
    dropped = [(); 2].map(|()| harness.send(&mut peer)).to_vec();
    harness.now += 1000 * MS;
    peer.on_deadline(dropped[0], harness.now);
    harness.now += MS;
    assert!(peer.on_reply(dropped[1], harness.now));
    assert!(!peer.has_forgotten());
    assert_eq!((peer.in_flight(), peer.awaited()), (1, 0));
    // Those of a connection that has ended are not forgotten twice, nor not at all.
    harness.serve(&mut peer, 1, MS);
    assert_eq!(peer.take_outstanding(), [dropped[0]]);
    assert_eq!(peer.take_outstanding(), []);
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
fn nothing_is_sent_behind_what_a_serial_worker_is_slow_or_late_in() {
    let mut harness = Harness::new();
    let mut peer = Peer::new(Concurrency::serial(50), harness.now);
    harness.serve(&mut peer, 100, MS / 100);
    // However long it has had nothing to do.
    harness.now += 1000 * MS;
    assert!(matches!(peer.admission(harness.now), Admission::Cost(_)));
    let (begin, first) = (harness.now, harness.send(&mut peer));
    harness.now += SLOW_AFTER / 2;
    let second = harness.send(&mut peer);
    let is_taken = |now| matches!(peer.admission(now), Admission::Cost(_));
    assert!(is_taken(begin) && is_taken(begin + SLOW_AFTER - MS / 1000));
    assert_eq!(peer.admission(begin + SLOW_AFTER), Admission::Full);
    harness.now += SLOW_AFTER;
    peer.on_reply(first, harness.now);
    assert!(matches!(peer.admission(harness.now), Admission::Cost(_)), "it is at the next one");
    harness.now += 1000 * MS;
    assert!(peer.on_deadline(second, harness.now));
    assert_eq!(peer.admission(harness.now), Admission::Unavailable(Unavailable::Stuck));
    assert!(peer.on_reply(second, harness.now));
    assert!(matches!(peer.admission(harness.now), Admission::Cost(_)));
}
