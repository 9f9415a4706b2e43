//! Which lane a request goes to, and in which order.

use super::{DISCONNECTED, DOWN, Harness, lanes};
use crate::backend::Admission::{Cost, Doubtful, Full, Preferred, Standby};
use crate::frame::Frame;
use crate::service::handshake::Handshake;
use crate::service::request::{Place, Request};

#[test]
fn a_request_goes_to_the_most_recently_used_lane_with_credit() {
    let mut harness = Harness::new(3);
    let mut lane = |admissions| harness.lane(admissions);
    assert_eq!(lane([Full, Full, Preferred]), Some(2));
    assert_eq!(lane([Preferred, Preferred, Preferred]), Some(2));
    assert_eq!(lane([Preferred, Preferred, Full]), Some(0));
    assert_eq!(lane([Full, Preferred, Preferred]), Some(2));
    // Credit is better than any cost.
    assert_eq!(lane([Cost(0.0), Preferred, Cost(0.0)]), Some(1));
}

#[test]
fn without_credit_it_goes_where_it_costs_least_and_of_equals_to_the_least_recently_used() {
    let mut harness = Harness::new(3);
    let mut lane = |admissions| harness.lane(admissions);
    assert_eq!(lane([Cost(2.0), Cost(1.0), Cost(3.0)]), Some(1));
    assert_eq!(lane([Cost(1.0), Cost(1.0), Cost(1.0)]), Some(2));
    assert_eq!(lane([Cost(1.0), Cost(1.0), Cost(1.0)]), Some(0));
    assert_eq!(lane([Cost(1.0), Cost(1.0), Cost(1.0)]), Some(1));
    assert_eq!(lane([Full, Full, Cost(9.0)]), Some(2));
}

#[test]
fn a_lane_that_is_new_gets_requests_too() {
    let mut harness = Harness::new(1);
    harness.dispatcher.on_new_lane(0);
    harness.dispatcher.on_new_lane(1);
    assert_eq!(harness.lane([Full, Preferred]), Some(1));
}

#[test]
fn one_that_stands_by_takes_nothing_that_was_not_lost() {
    let mut harness = Harness::new(2);
    assert_eq!(harness.lane([Standby(1.0), Cost(9.0)]), Some(1));
    assert_eq!(harness.lane([Standby(1.0), Full]), None);
}

#[test]
fn one_that_may_never_answer_gets_what_nobody_else_takes_now_or_soon() {
    let mut harness = Harness::new(2);
    assert_eq!(harness.lane([Doubtful(1.0), Cost(9.0)]), Some(1));
    assert_eq!(harness.lane([Doubtful(1.0), Preferred]), Some(1));
    assert_eq!(harness.lane([Doubtful(1.0), DISCONNECTED]), Some(0));
    assert_eq!(harness.lane([Doubtful(2.0), Doubtful(1.0)]), Some(1));
    assert_eq!(harness.lane([Doubtful(1.0), Full]), None);
    // It is sent at once, and does not wait for something else to happen, unless it is to.
    for (other, place) in [(Full, Place::Queue), (DISCONNECTED, Place::Waiting)] {
        let mut harness = Harness::new(2);
        let envelope = vec![Frame::from("dealer"), Frame::default()];
        let mut request = Request { envelope, bytes: 100, ..Request::default() };
        let (lanes, handshake) =
            (lanes([Doubtful(1.0), other]), |_: &mut Frame| Handshake::default());
        let taken = harness.dispatcher.on_request(&mut request, handshake, &lanes, harness.now);
        assert_eq!(taken.ok(), Some(place));
    }
}

#[test]
fn what_no_lane_takes_waits_in_order_and_so_does_what_comes_then() {
    let mut harness = Harness::new(2);
    let (full, free) = (lanes([Full, DOWN]), lanes([Preferred, DOWN]));
    harness.ask(&full).unwrap();
    harness.ask(&full).unwrap();
    assert_eq!(harness.next(&full), None);
    harness.ask(&free).unwrap();
    assert_eq!(harness.assigned(&free, 9), [0, 1, 2]);
    assert_eq!(harness.next(&free), None);
}

#[test]
fn what_could_not_be_sent_is_the_next_to_be_sent() {
    let mut harness = Harness::new(1);
    let free = lanes([Preferred]);
    harness.ask(&free).unwrap();
    harness.ask(&free).unwrap();
    let next = harness.next(&free).unwrap();
    harness.dispatcher.on_unsent(next);
    assert_eq!(harness.assigned(&free, 9), [0, 1]);
}
