//! Who is refused since no lane can take a request, or since the service stops.

use super::super::{Change, Lost};
use super::{DISCONNECTED, DOWN, Harness, STUCK, lanes};
use crate::backend::Admission::{Cost, Full, Preferred};
use crate::fault::{Code, Fault};

#[test]
fn with_no_lane_available_requests_are_refused_with_the_reason() {
    for (admissions, why) in [
        (
            [STUCK, STUCK],
            "every worker or upstream is stuck in requests that have passed their deadline",
        ),
        ([DOWN, DOWN], "no worker has a running program"),
        ([DOWN, STUCK], "every worker is stuck in a request, or has no running program"),
        ([DISCONNECTED, DISCONNECTED], "no worker or upstream is connected"),
        (
            [DISCONNECTED, STUCK],
            "every worker or upstream is stuck in requests that have passed their deadline",
        ),
        ([DISCONNECTED, DOWN], "no worker has a running program"),
    ] {
        let mut harness = Harness::new(2);
        let unavailable = lanes(admissions);
        assert_eq!(harness.ask(&unavailable), Err(format!("503 {why}")));
        assert_eq!(harness.dispatcher.next_change(), Some(Change::Refusing(why)));
    }
    for admission in [Full, Preferred, Cost(1.0)] {
        assert_eq!(Harness::new(2).ask(&lanes([DOWN, admission])), Ok(()), "{admission:?}");
    }
}

#[test]
fn that_no_lane_is_left_or_one_is_back_is_told_before_anybody_asks() {
    let mut harness = Harness::new(1);
    harness.dispatcher.on_lane_changed(&lanes([DOWN]), harness.now);
    harness.dispatcher.on_lane_changed(&lanes([DOWN]), harness.now);
    harness.dispatcher.on_turn(&lanes([DOWN]), harness.now);
    harness.dispatcher.on_turn(&lanes([Preferred]), harness.now);
    harness.dispatcher.on_turn(&lanes([Preferred]), harness.now);
    let changes = std::iter::from_fn(|| harness.dispatcher.next_change());
    let expected = [Change::Refusing("no worker has a running program"), Change::Answering];
    assert_eq!(changes.collect::<Vec<_>>(), expected);
}

#[test]
fn who_waits_already_is_refused_too_when_the_last_lane_is_gone() {
    let mut harness = Harness::new(1);
    harness.ask(&lanes([Full])).unwrap();
    assert!(harness.dispatcher.refuse_waiting(&lanes([Full]), harness.now).is_empty());
    let refused = harness.dispatcher.refuse_waiting(&lanes([DOWN]), harness.now);
    let [(ticket, fault)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!(fault.code(), Code::UNAVAILABLE);
    assert!(harness.dispatcher.give_up(*ticket, harness.now).is_some());
    assert!(harness.dispatcher.refuse_waiting(&lanes([DOWN]), harness.now).is_empty());
}

#[test]
fn who_waits_since_it_was_lost_is_told_that() {
    let mut harness = Harness::with_retries(1, 1);
    let ticket = harness.send(&lanes([Preferred]));
    assert!(matches!(harness.dispatcher.on_lost(ticket, 0), Lost::Waiting));
    let refused = harness.dispatcher.refuse_waiting(&lanes([DISCONNECTED]), harness.now);
    assert_eq!(refused, [(ticket, Fault::lost())]);
}

#[test]
fn that_requests_are_refused_is_logged_once_and_that_they_are_answered_again() {
    let mut harness = Harness::new(1);
    let (down, free) = (lanes([DOWN]), lanes([Preferred]));
    let _ = (harness.ask(&down), harness.ask(&down));
    assert!(matches!(harness.dispatcher.next_change(), Some(Change::Refusing(_))));
    let _ = harness.ask(&down);
    assert_eq!(harness.dispatcher.next_change(), None);
    harness.send(&free);
    assert_eq!(harness.dispatcher.next_change(), Some(Change::Answering));
    harness.send(&free);
    assert_eq!(harness.dispatcher.next_change(), None);
    // Nobody has to ask for that.
    let _ = harness.ask(&down);
    harness.dispatcher.next_change();
    harness.dispatcher.on_turn(&lanes([Full]), harness.now);
    assert_eq!(harness.dispatcher.next_change(), None, "a place for a worker is no worker");
    harness.dispatcher.on_turn(&free, harness.now);
    assert_eq!(harness.dispatcher.next_change(), Some(Change::Answering));
}

#[test]
fn a_service_that_drains_refuses_what_is_queued_and_what_comes_and_finishes_the_rest() {
    let mut harness = Harness::new(1);
    let (full, free) = (lanes([Full]), lanes([Preferred]));
    let revoked = harness.send(&free);
    harness.dispatcher.on_revoked(vec![revoked], 0);
    harness.ask(&full).unwrap();
    let queued = harness.dispatcher.begin_drain(harness.now);
    assert_eq!(queued.len(), 1);
    assert!(harness.dispatcher.give_up(queued[0], harness.now).is_some());
    assert_eq!(harness.ask(&free), Err("503 the service is stopping".into()));
    assert_eq!(harness.dispatcher.next_change(), None);
    assert_eq!(harness.assigned(&free, 9), [0]);
}
