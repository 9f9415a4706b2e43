//! Deadlines: when a client is told, and when the lane that has its request.

use super::*;

#[test]
fn what_is_late_is_held_until_its_lane_is_done_with_it() {
    for is_lost in [false, true] {
        let mut harness = Harness::new(1);
        let free = lanes([Preferred]);
        let [late, revoked] = [harness.send(&free), harness.send(&free)];
        let held = harness.dispatcher.bytes();
        assert!(held > 0);
        harness.now += TIMEOUT;
        while let Some(ticket) = harness.dispatcher.overdue(harness.now) {
            harness.dispatcher.give_up(ticket, harness.now);
        }
        assert_eq!(harness.dispatcher.bytes(), held);
        if is_lost {
            assert!(matches!(harness.dispatcher.on_lost(late, 0), Lost::Late));
        } else {
            assert!(!harness.reply(late, 0));
        }
        assert_eq!(harness.dispatcher.bytes(), held / 2);
        harness.dispatcher.on_revoked(vec![revoked], 0);
        assert_eq!((harness.dispatcher.bytes(), harness.next(&free)), (0, None));
    }
}

#[test]
fn who_gives_up_soon_says_nothing_about_the_lane_that_has_his_request() {
    let mut harness = Harness::new(1);
    let free = lanes([Preferred]);
    let [replied, kept] = ["hurried", "hurried"].map(|client| {
        harness.ask_as(client, &free).unwrap();
        harness.next(&free).unwrap().ticket
    });
    harness.now += 50 * MS;
    while let Some(ticket) = harness.dispatcher.overdue(harness.now) {
        harness.dispatcher.give_up(ticket, harness.now);
    }
    assert!(harness.dispatcher.in_flight().is_empty());
    assert_eq!(harness.dispatcher.next_overrun(harness.now), None);
    assert!(!harness.reply(replied, 0));
    harness.now += TIMEOUT - 50 * MS;
    assert_eq!(harness.dispatcher.next_deadline(&free, harness.now), Some(harness.now));
    assert_eq!(harness.dispatcher.next_overrun(harness.now), Some((kept, 0)));
    assert_eq!(harness.dispatcher.next_overrun(harness.now), None);
    assert_eq!(harness.dispatcher.next_deadline(&free, harness.now), None);
}

#[test]
fn what_nobody_waits_for_is_not_handled() {
    let mut harness = Harness::new(1);
    let mut request = Request { patience: Some(Duration::ZERO), ..Request::default() };
    request.envelope = vec![Frame::from("dealer"), Frame::from("x")];
    let handshake = |_: &mut Frame| Handshake::default();
    let free = lanes([Preferred]);
    let refused = harness.dispatcher.on_request(&mut request, handshake, &free, harness.now);
    assert_eq!(refused.unwrap_err().code(), Code::TIMEOUT);
    assert_eq!(harness.next(&free), None);
}

#[test]
fn what_is_left_of_a_clients_time_goes_with_its_request() {
    let mut harness = Harness::new(1);
    let free = lanes([Preferred]);
    for (patience, left) in [
        (None, None),
        (Some(100 * MS), Some(90 * MS)),
        (Some(2 * TIMEOUT), Some(TIMEOUT - 10 * MS)),
    ] {
        let envelope = vec![Frame::from("dealer"), Frame::from("x")];
        let mut request = Request { envelope, patience, ..Request::default() };
        harness
            .dispatcher
            .on_request(&mut request, |_| Handshake::default(), &lanes([Full]), harness.now)
            .unwrap();
        harness.now += 10 * MS;
        assert_eq!(harness.next(&free).unwrap().onward.patience, left);
    }
}

#[test]
fn a_deadline_counts_from_the_arrival_and_ends_those_that_wait_too() {
    let mut harness = Harness::new(1);
    let full = lanes([Full]);
    harness.ask(&full).unwrap();
    harness.now += 10 * MS;
    harness.ask(&full).unwrap();
    let first = harness.now - 10 * MS + TIMEOUT;
    assert_eq!(harness.dispatcher.next_deadline(&full, harness.now), Some(first));
    assert!(harness.dispatcher.overdue(first - MS).is_none());
    let overdue = harness.dispatcher.overdue(first).unwrap();
    assert!(harness.dispatcher.give_up(overdue, first).is_some());
    assert!(harness.dispatcher.overdue(first).is_none());
    assert_eq!(harness.dispatcher.next_deadline(&full, first), Some(first + 10 * MS));
    assert_eq!(harness.assigned(&lanes([Preferred]), 9), [1]);
}
