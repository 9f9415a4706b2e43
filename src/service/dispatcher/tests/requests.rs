//! What is known of a request while it is in flight.

use super::super::MAX_IDLE_REQUESTS;
use super::*;

#[test]
fn a_request_is_known_by_its_number_until_its_lane_is_done_with_it() {
    let mut harness = Harness::new(2);
    let free = lanes([Preferred, Full]);
    let [.., ticket] = [(); 3].map(|()| harness.send(&free));
    let number = |harness: &Harness, lane| harness.dispatcher.number_of(ticket, lane);
    assert_eq!(number(&harness, 0), Some(2));
    harness.dispatcher.give_up(ticket, harness.now + TIMEOUT);
    assert_eq!((number(&harness, 0), number(&harness, 1)), (Some(2), None));
    assert!(!harness.reply(ticket, 0));
    assert_eq!(number(&harness, 0), None);
}

#[test]
fn its_body_is_there_until_it_is_taken_or_the_request_has_ended() {
    let mut harness = Harness::new(1);
    let free = lanes([Preferred]);
    let [taken, ended] = [harness.send(&free), harness.send(&free)];
    let frame = Frame::from(&[0][..]);
    assert_eq!(harness.dispatcher.body_mut(taken), std::slice::from_mut(&mut frame.clone()));
    assert_eq!(harness.dispatcher.take_body(taken), [frame]);
    assert!(harness.dispatcher.body_mut(taken).is_empty());
    assert!(harness.reply(ended, 0));
    assert!(harness.dispatcher.body_mut(ended).is_empty());
    assert!(harness.dispatcher.take_body(ended).is_empty());
}

#[test]
fn what_is_about_to_be_sent_counts_with_what_is_in_the_queue() {
    let mut harness = Harness::new(1);
    harness.ask(&lanes([Preferred])).unwrap();
    (0..2).for_each(|_| harness.ask(&lanes([Full])).unwrap());
    assert_eq!(harness.dispatcher.queued(), 3);
}

#[test]
fn each_request_counts_for_its_client_also_one_that_is_answered_at_once() {
    let mut harness = Harness::new(1);
    (0..2).for_each(|_| harness.ask(&lanes([Full])).unwrap());
    let mut others = Frame::from("other");
    harness.dispatcher.count_at_once(&mut others, |_| Handshake::default());
    let usages = harness.dispatcher.usages();
    assert_eq!(usages.iter().map(|usage| usage.requests).sum::<u64>(), 3);
}

#[test]
fn after_a_burst_of_late_requests_their_place_is_given_back() {
    let mut harness = Harness::new(1);
    let free = lanes([Preferred]);
    let late = [(); 4 * MAX_IDLE_REQUESTS].map(|()| {
        let ticket = harness.send(&free);
        harness.dispatcher.give_up(ticket, harness.now + TIMEOUT);
        ticket
    });
    assert!(late.iter().all(|ticket| !harness.reply(*ticket, 0)));
    assert!(harness.dispatcher.late.capacity() >= 4 * MAX_IDLE_REQUESTS);
    harness.dispatcher.shrink();
    assert!(harness.dispatcher.late.capacity() < 2 * MAX_IDLE_REQUESTS);
}
