//! What is sent again: taken back from its lane, or lost there.

use super::super::Lost;
use super::{DOWN, Harness, MS, Says, lanes};
use crate::backend::Admission::{Cost, Doubtful, Full, Preferred, Standby};
use crate::backend::Recall;

#[test]
fn what_was_taken_back_goes_out_in_order_and_is_no_retry() {
    let mut harness = Harness::with_retries(1, 1);
    let free = lanes([Preferred]);
    let tickets = vec![harness.send(&free), harness.send(&free)];
    harness.ask(&free).unwrap();
    harness.dispatcher.on_revoked(tickets, 0);
    let next = harness.next(&free).unwrap();
    assert!(next.keep && next.lost_on.is_none(), "its only retry is still to come");
    harness.dispatcher.on_unsent(next);
    assert_eq!(harness.assigned(&free, 9), [2, 0, 1]);
}

#[test]
fn what_waits_behind_a_slow_request_is_taken_back_if_another_lane_has_capacity() {
    let mut harness = Harness::new(2);
    let at = harness.now + MS;
    let says = |other| [Says(Full, Recall::From(at)), Says(other, Recall::Never)];
    let should =
        |harness: &Harness, other, now| harness.dispatcher.should_recall(0, &says(other), now);
    assert!(!should(&harness, Preferred, harness.now) && should(&harness, Preferred, at));
    assert!(should(&harness, Cost(1.0), at));
    assert!(!should(&harness, Full, at) && !should(&harness, DOWN, at));
    let never = lanes([Full, Preferred]);
    assert!(!harness.dispatcher.should_recall(0, &never, at));
    // The loop is woken for it, but only if there is something to do then.
    let wakes = |other| harness.dispatcher.next_deadline(&says(other), harness.now);
    assert_eq!((wakes(Preferred), wakes(Full)), (Some(at), None));
    // While others wait, they go first.
    harness.ask(&says(Full)).unwrap();
    assert!(!should(&harness, Preferred, at));
}

#[test]
fn what_has_ended_while_it_waited_keeps_nothing_from_being_taken_back() {
    let mut harness = Harness::new(2);
    let at = harness.now + MS;
    let says = [Says(Full, Recall::From(at)), Says(Preferred, Recall::Never)];
    let revoked =
        [harness.send(&lanes([Preferred, Full])), harness.send(&lanes([Preferred, Full]))];
    harness.dispatcher.on_revoked(revoked.to_vec(), 0);
    assert!(!harness.dispatcher.should_recall(0, &says, at));
    harness.dispatcher.give_up(revoked[0], at);
    harness.dispatcher.on_gone(b"dealer", at);
    assert!(harness.dispatcher.should_recall(0, &says, at));
}

#[test]
fn what_will_not_be_started_is_taken_back_at_once_even_with_nowhere_to_go() {
    let mut harness = Harness::new(2);
    let says = [Says(Full, Recall::Now), Says(Full, Recall::Never)];
    harness.ask(&says).unwrap();
    assert!(harness.dispatcher.should_recall(0, &says, harness.now));
    assert!(!harness.dispatcher.should_recall(1, &says, harness.now));
}

#[test]
fn a_lost_request_is_tried_again_as_often_as_configured_and_kept_as_long_as_that_may_be() {
    let mut harness = Harness::with_retries(1, 2);
    let free = lanes([Preferred]);
    harness.ask(&free).unwrap();
    for (keep, lost_on) in [(true, None), (true, Some(0))] {
        let next = harness.next(&free).unwrap();
        assert_eq!((next.keep, next.lost_on), (keep, lost_on));
        assert!(matches!(harness.dispatcher.on_lost(next.ticket, next.lane), Lost::Waiting));
    }
    let last = harness.next(&free).unwrap();
    assert!(!last.keep && last.lost_on == Some(0));
    let Lost::GivenUp(pending) = harness.dispatcher.on_lost(last.ticket, 0) else { panic!() };
    assert_eq!(pending.request.envelope[1][0], 0);
    assert!(harness.dispatcher.in_flight().is_empty());
    assert_eq!(harness.next(&free), None);
}

#[test]
fn a_lost_request_goes_to_another_lane_if_one_takes_it() {
    let mut harness = Harness::with_retries(3, 9);
    harness.ask(&lanes([Full, Preferred, Full])).unwrap();
    let mut lane = |admissions| {
        let next = harness.next(&lanes(admissions)).unwrap();
        assert!(matches!(harness.dispatcher.on_lost(next.ticket, next.lane), Lost::Waiting));
        next.lane
    };
    assert_eq!(lane([Full, Preferred, Full]), 1);
    assert_eq!(lane([Cost(9.0), Preferred, Full]), 0);
    assert_eq!(lane([Cost(1.0), Full, Cost(9.0)]), 2);
    // One that stands by comes before the lane that lost it, and behind others.
    assert_eq!(lane([Standby(1.0), Full, Cost(9.0)]), 0);
    assert_eq!(lane([Cost(1.0), Standby(1.0), Cost(9.0)]), 2);
    assert_eq!(lane([Standby(2.0), Standby(1.0), Cost(1.0)]), 1);
    assert_eq!(lane([Full, Full, Preferred]), 2);
    assert_eq!(lane([Doubtful(1.0), Full, Preferred]), 2);
    // That it could not be sent does not change which lane had lost it.
    let next = harness.next(&lanes([Cost(1.0), Full, Full])).unwrap();
    harness.dispatcher.on_unsent(next);
    assert_eq!(harness.next(&lanes([Cost(9.0), Full, Preferred])).map(|next| next.lane), Some(0));
}

#[test]
fn a_request_is_answered_once_whatever_comes_after() {
    let mut harness = Harness::with_retries(1, 5);
    let free = lanes([Preferred]);
    let (replied, expired) = (harness.send(&free), harness.send(&free));
    assert!(harness.reply(replied, 0));
    assert!(!harness.reply(replied, 0));
    assert!(matches!(harness.dispatcher.on_lost(replied, 0), Lost::Late));
    assert!(harness.dispatcher.give_up(expired, harness.now).is_some());
    assert!(harness.dispatcher.give_up(expired, harness.now).is_none());
    assert!(!harness.reply(expired, 0));
    assert!(matches!(harness.dispatcher.on_lost(expired, 0), Lost::Late));
    assert_eq!(harness.next(&free), None);
}
