//! What clients do to what they have asked for, and what each of them may have.

use super::super::{Dispatcher, Lost, Rules};
use super::{Harness, TIMEOUT, lanes};
use crate::auth::{Limits, Listed};
use crate::backend::Admission::{Full, Preferred};
use crate::frame::Frame;
use crate::service::account::ClientLimits;
use crate::service::handshake::Handshake;
use crate::service::request::Request;

#[test]
fn what_a_req_has_queued_is_dropped_when_it_asks_anew_and_what_a_dealer_has_is_not() {
    let mut harness = Harness::new(1);
    let full = lanes([Full]);
    for client in ["req", "dealer", "req", "dealer", "req again"] {
        harness.ask_as(client, &full).unwrap();
    }
    let mut assigned = harness.assigned(&lanes([Preferred]), 9);
    assigned.sort();
    assert_eq!((assigned, harness.dispatcher.withdrawn()), (vec![1, 2, 3, 4], 1));
}

#[test]
fn while_the_queue_stands_who_waits_is_answered_in_order_and_who_asks_for_too_much_the_newest_first()
 {
    let (full, free) = (lanes([Full]), lanes([Preferred]));
    let mut harness = Harness::new(1);
    (0..9).for_each(|_| harness.ask(&full).unwrap());
    harness.now += TIMEOUT / 4;
    let answer = |harness: &mut Harness| {
        let next = harness.next(&free).unwrap();
        let number =
            harness.dispatcher.in_flight().get(next.ticket).unwrap().request.envelope[1][0];
        assert!(harness.reply(next.ticket, 0));
        number
    };
    for number in 0..3 {
        assert_eq!(answer(&mut harness), number);
        harness.ask(&full).unwrap();
    }
    assert!(harness.ask(&full).unwrap_err().starts_with("429 "));
    assert_eq!(answer(&mut harness), 3);
    harness.ask(&full).unwrap();
    assert_eq!(answer(&mut harness), 13);
    // What is overdue says the same; the first one that comes after a round without is the last.
    harness.now += TIMEOUT;
    while let Some(ticket) = harness.dispatcher.overdue(harness.now) {
        harness.dispatcher.give_up(ticket, harness.now);
    }
    (0..3).for_each(|_| harness.ask(&full).unwrap());
    harness.now += TIMEOUT / 4;
    assert_eq!([answer(&mut harness), answer(&mut harness)], [16, 15]);
}

#[test]
fn what_a_req_has_given_up_does_not_count_against_it() {
    let mut harness = Harness::new(1);
    for _ in 0..8 {
        harness.ask_as("req", &lanes([Preferred])).unwrap();
        harness.next(&lanes([Preferred])).unwrap();
    }
    let full = lanes([Full]);
    (0..3).for_each(|_| harness.ask_as("req", &full).unwrap());
    assert_eq!((harness.dispatcher.queued(), harness.dispatcher.withdrawn()), (1, 2));
    assert_eq!(harness.assigned(&lanes([Preferred]), 9), [10]);
}

#[test]
fn a_req_that_asks_too_often_has_given_up_what_it_had_queued_all_the_same() {
    let mut harness = Harness::new(1);
    let client_limits = ClientLimits { outstanding: 9, rate: Some(1) };
    let (timeout, retries, hedge, tells_withdrawn) = (TIMEOUT, 0, false, false);
    let rules = Rules { timeout, retries, hedge, client_limits, tells_withdrawn };
    harness.dispatcher = Dispatcher::new(1, rules, harness.now);
    let full = lanes([Full]);
    harness.ask_as("req", &full).unwrap();
    assert!(harness.ask_as("req", &full).unwrap_err().starts_with("429 "));
    assert_eq!((harness.dispatcher.queued(), harness.dispatcher.withdrawn()), (0, 1));
}

#[test]
fn what_a_client_that_has_gone_had_asked_for_is_not_handled() {
    let mut harness = Harness::with_retries(1, 1);
    let (full, free) = (lanes([Full]), lanes([Preferred]));
    harness.ask_as("gone", &free).unwrap();
    let [started, lost] = [harness.next(&free).unwrap().ticket, harness.send(&free)];
    for client in ["gone", "here", "gone"] {
        harness.ask_as(client, &full).unwrap();
    }
    harness.dispatcher.on_gone(b"gone", harness.now);
    harness.dispatcher.on_gone(b"unknown", harness.now);
    assert_eq!(harness.dispatcher.withdrawn(), 2);
    // What a lane has already is finished there, unless it comes back.
    assert!(harness.reply(lost, 0));
    assert!(matches!(harness.dispatcher.on_lost(started, 0), Lost::Waiting));
    assert_eq!(harness.assigned(&free, 9), [3]);
    assert_eq!((harness.dispatcher.withdrawn(), harness.dispatcher.in_flight().len()), (3, 1));
}

#[test]
fn what_a_client_has_said_is_known_and_a_req_that_waits_for_nothing_may_go() {
    let mut harness = Harness::new(1);
    let free = lanes([Preferred]);
    for client in ["req", "dealer"] {
        harness.ask_as(client, &free).unwrap();
    }
    assert!(harness.dispatcher.handshake(b"req").is_some_and(|said| said.is_req));
    assert!(harness.dispatcher.handshake(b"dealer").is_some_and(|said| !said.is_req));
    assert!(harness.dispatcher.handshake(b"unknown").is_none());
    for (name, idle) in [("req", Some(&b"req"[..])), ("dealer", None)] {
        let ticket = harness.next(&free).unwrap().ticket;
        let client = harness.dispatcher.in_flight().get(ticket).unwrap().client;
        assert_eq!(harness.dispatcher.idle_req(client), None, "{name} waits");
        assert!(harness.reply(ticket, 0));
        assert_eq!(harness.dispatcher.idle_req(client), idle);
    }
}

#[test]
fn a_client_that_is_no_longer_listed_is_refused_and_keeps_what_a_lane_has() {
    let mut harness = Harness::new(1);
    let (full, free) = (lanes([Full]), lanes([Preferred]));
    harness.ask_as("off", &free).unwrap();
    let sent = harness.next(&free).unwrap().ticket;
    // One that is about to be sent, and two that are in the queue.
    harness.ask_as("off", &free).unwrap();
    for client in ["on", "off", "off"] {
        harness.ask_as(client, &full).unwrap();
    }
    assert_eq!(harness.dispatcher.dismiss(b"unknown", harness.now), []);
    let queued = harness.dispatcher.dismiss(b"off", harness.now);
    assert_eq!(queued.len(), 3);
    for ticket in queued {
        assert!(harness.dispatcher.give_up(ticket, harness.now).is_some());
    }
    assert!(harness.ask_as("off", &full).unwrap_err().starts_with("403 "));
    assert!(harness.dispatcher.awaits_reply(b"off") && harness.ask_as("on", &full).is_ok());
    assert!(harness.reply(sent, 0));
    assert!(!harness.dispatcher.awaits_reply(b"off"));
    assert_eq!(harness.assigned(&free, 9), [2, 6]);
}

#[test]
fn a_listed_client_has_the_limits_of_its_list_as_that_is_read_again() {
    let mut harness = Harness::new(1);
    let full = lanes([Full]);
    let listed = |outstanding| Listed {
        name: "pump".into(),
        limits: Limits { outstanding: Some(outstanding), ..Limits::default() },
    };
    let ask = |harness: &mut Harness| {
        let envelope = vec![Frame::from("1"), Frame::default()];
        let mut request = Request { envelope, ..Request::default() };
        let handshake =
            |_: &mut Frame| Handshake { listed: Some(listed(1)), ..Handshake::default() };
        harness.dispatcher.on_request(&mut request, handshake, &full, harness.now).is_ok()
    };
    assert!(ask(&mut harness) && !ask(&mut harness));
    harness.dispatcher.set_limits(|name| (name == "pump").then(|| listed(2)));
    assert!(ask(&mut harness) && !ask(&mut harness));
}

#[test]
fn a_request_that_no_lane_can_take_makes_place_if_too_much_is_held() {
    let mut harness = Harness::new(1);
    let (full, free) = (lanes([Full]), lanes([Preferred]));
    assert_eq!((harness.dispatcher.bytes(), harness.dispatcher.greediest()), (0, None));
    for client in ["modest", "greedy", "greedy"] {
        harness.ask_as(client, &full).unwrap();
    }
    let (bytes, ticket) = harness.dispatcher.greediest().unwrap();
    assert!(3 * bytes == 2 * harness.dispatcher.bytes());
    let given_up = harness.dispatcher.give_up(ticket, harness.now).unwrap();
    assert_eq!(given_up.request.envelope[1][0], 1, "the oldest of the greedy one");
    assert_eq!(harness.assigned(&free, 9), [0, 2]);
    // Those on a lane stay; what is about to be sent there need not be.
    assert_eq!(harness.dispatcher.greediest(), None);
    harness.ask_as("new", &free).unwrap();
    assert!(harness.dispatcher.greediest().is_some());
}

#[test]
fn what_lanes_have_counts_and_only_what_none_has_had_makes_place() {
    let mut harness = Harness::with_retries(1, 1);
    let free = lanes([Preferred]);
    let lost = harness.send(&free);
    assert!(matches!(harness.dispatcher.on_lost(lost, 0), Lost::Waiting));
    assert_eq!(harness.dispatcher.greediest(), None);
    harness.next(&free).unwrap();
    // One that is about to be sent, of a client of which a lane has one, and one in the queue.
    for client in ["dealer", "modest"] {
        harness.ask_as(client, &free).unwrap();
    }
    let (bytes, ticket) = harness.dispatcher.greediest().unwrap();
    assert_eq!(3 * bytes, 2 * harness.dispatcher.bytes());
    harness.dispatcher.give_up(ticket, harness.now);
    assert_eq!(harness.assigned(&free, 9), [2]);
}

#[test]
fn a_client_has_a_limit_of_its_own() {
    let mut harness = Harness::new(1);
    let full = lanes([Full]);
    assert!((0..9).all(|_| harness.ask_as("greedy", &full).is_ok()));
    assert!(harness.ask_as("greedy", &full).unwrap_err().starts_with("429 "));
    assert_eq!(harness.ask_as("modest", &full), Ok(()));
    assert_eq!(harness.assigned(&lanes([Preferred]), 99).len(), 10);
}
