//! Requests that take long, and are given to another lane as well.

use super::*;

/// Time that a request takes of which enough is known.
const USUAL: Duration = Duration::from_millis(10);
/// Time after which a request is hedged: a quantile is at most an eighth too high.
const LONG: Duration = Duration::from_micros(11_250);

const FREE: Admission = Cost(1.0);
const BUSY: Admission = Cost(2.0);

/// Returns a dispatcher of two lanes that has seen many requests, which may be retried so often.
fn experienced(retries: usize) -> Harness {
    let mut harness = Harness::with(2, retries, true);
    harness.answer(1000);
    harness
}

impl Harness {
    /// Has that many requests sent and answered, one after the other.
    fn answer(&mut self, requests: usize) {
        for _ in 0..requests {
            let ticket = self.send(&lanes([FREE, BUSY]));
            self.now += USUAL;
            assert!(self.reply(ticket, 0));
        }
    }

    /// Returns the ticket and the lane of the next hedge.
    fn hedge(&mut self, admissions: [Admission; 2]) -> Option<(Ticket, usize)> {
        let hedge = self.dispatcher.next_hedge(&lanes(admissions), self.now);
        hedge.map(|hedge| (hedge.ticket, hedge.lane))
    }

    /// Returns the ticket of a request that lane 0 has for long, and that lane 1 has got too.
    fn hedged(&mut self) -> Ticket {
        let ticket = self.send(&lanes([FREE, BUSY]));
        self.now += LONG;
        assert_eq!(self.hedge([BUSY, FREE]), Some((ticket, 1)));
        ticket
    }
}

#[test]
fn what_takes_long_is_given_to_another_lane_once_and_the_first_reply_counts() {
    for first in [0, 1] {
        let mut harness = experienced(9);
        let ticket = harness.send(&lanes([FREE, BUSY]));
        harness.now += USUAL;
        assert_eq!(harness.hedge([FREE, FREE]), None, "it does not take long");
        let due = harness.dispatcher.next_deadline(&lanes([FREE, FREE]), harness.now);
        harness.now = due.unwrap();
        assert_eq!(harness.hedge([FREE, Full]), None, "its own lane");
        assert_eq!(harness.hedge([FREE, Doubtful(1.0)]), None, "one that may not answer");
        assert_eq!(harness.hedge([STUCK, Doubtful(1.0)]), None, "nor if there is no other");
        assert_eq!(harness.hedge([FREE, FREE]), Some((ticket, 1)));
        harness.now += LONG;
        assert_eq!(harness.hedge([FREE, FREE]), None, "two have it");
        let second = 1 - first;
        assert_eq!(harness.dispatcher.lane_besides(ticket, first), Some(second));
        assert!(harness.reply(ticket, first));
        assert!(harness.dispatcher.in_flight().is_empty() && harness.dispatcher.bytes() > 0);
        let now = harness.now;
        let reply = harness.dispatcher.on_reply(ticket, second, now);
        assert!(matches!(reply, Reply::Second));
        assert_eq!(harness.dispatcher.bytes(), 0);
        assert_eq!(harness.dispatcher.next_overrun(now + TIMEOUT), None);
    }
}

#[test]
fn one_that_stands_by_takes_what_takes_long_if_there_is_no_other() {
    let mut harness = experienced(1);
    let ticket = harness.send(&lanes([FREE, BUSY]));
    harness.now += LONG;
    assert_eq!(harness.hedge([FREE, Standby(1.0)]), Some((ticket, 1)));
}

#[test]
fn nothing_is_hedged_while_something_waits() {
    let mut harness = experienced(1);
    harness.send(&lanes([FREE, BUSY]));
    harness.now += LONG;
    harness.ask(&lanes([Full, Full])).unwrap();
    assert_eq!(harness.hedge([FREE, FREE]), None);
    assert!(harness.next(&lanes([FREE, FREE])).is_some());
    assert!(harness.hedge([FREE, FREE]).is_some());
}

#[test]
fn at_most_one_of_twenty_is_hedged() {
    let (mut harness, mut hedges) = (experienced(1), 0);
    for _ in 0..10_000 {
        let ticket = harness.send(&lanes([FREE, BUSY]));
        // What is measured changes all the time, so that all take too long.
        harness.now += 3 * USUAL;
        hedges += usize::from(harness.hedge([FREE, FREE]).is_some());
        harness.now -= 2 * USUAL;
        assert!(harness.reply(ticket, 0));
        harness.reply(ticket, 1);
    }
    assert!((500..=550).contains(&hedges), "{hedges}");
}

#[test]
fn at_most_64_are_hedged_at_a_time_however_many_there_were_before() {
    for (before, hedges) in [(0, 55), (1000, 64)] {
        let mut harness = experienced(1);
        harness.answer(before);
        for client in 0..100 {
            harness.ask_as(&format!("client {client}"), &lanes([FREE, BUSY])).unwrap();
            assert!(harness.next(&lanes([FREE, BUSY])).is_some());
        }
        harness.now += LONG;
        let taken = std::iter::from_fn(|| harness.hedge([BUSY, FREE])).count();
        assert_eq!(taken, hedges);
    }
}

#[test]
fn what_a_client_that_has_gone_had_asked_for_is_not_hedged() {
    let mut harness = experienced(1);
    harness.send(&lanes([FREE, BUSY]));
    harness.now += LONG;
    harness.dispatcher.on_gone(b"dealer", harness.now);
    assert_eq!(harness.hedge([BUSY, FREE]), None);
}

#[test]
fn what_one_of_two_lanes_loses_is_left_to_the_other() {
    for [first, second] in [[0, 1], [1, 0]] {
        let mut harness = experienced(1);
        let ticket = harness.hedged();
        assert!(matches!(harness.dispatcher.on_lost(ticket, first), Lost::Waiting));
        assert_eq!(harness.next(&lanes([FREE, FREE])), None);
        harness.now += LONG;
        assert_eq!(harness.hedge([FREE, FREE]), None, "that was the one retry");
        assert!(matches!(harness.dispatcher.on_lost(ticket, second), Lost::GivenUp(_)));
        assert_eq!(harness.dispatcher.bytes(), 0);
    }
    let mut harness = experienced(2);
    let ticket = harness.hedged();
    assert!(matches!(harness.dispatcher.on_lost(ticket, 0), Lost::Waiting));
    harness.now += LONG;
    assert_eq!(harness.hedge([FREE, FREE]), Some((ticket, 0)));
}

#[test]
fn at_the_deadline_both_lanes_are_late() {
    let mut harness = experienced(1);
    let sent_at = harness.now;
    let ticket = harness.hedged();
    harness.now = sent_at + TIMEOUT;
    assert_eq!(harness.dispatcher.overdue(harness.now), Some(ticket));
    assert!(harness.dispatcher.give_up(ticket, harness.now).is_some());
    assert_eq!(harness.dispatcher.next_overrun(harness.now), Some((ticket, 0)));
    assert_eq!(harness.dispatcher.next_overrun(harness.now), None);
    harness.now += LONG;
    assert_eq!(harness.dispatcher.next_overrun(harness.now), Some((ticket, 1)));
    assert!(harness.dispatcher.bytes() > 0);
    for lane in [0, 1] {
        assert!(!harness.reply(ticket, lane));
    }
    assert_eq!(harness.dispatcher.bytes(), 0);
}

#[test]
fn what_a_lane_does_not_take_may_be_hedged_again() {
    let mut harness = experienced(1);
    let ticket = harness.send(&lanes([FREE, BUSY]));
    harness.now += LONG;
    // As often as that happens, which takes nothing from what others may have.
    for _ in 0..100 {
        let hedge = harness.dispatcher.next_hedge(&lanes([FREE, FREE]), harness.now).unwrap();
        assert_eq!((hedge.ticket, hedge.lane), (ticket, 1));
        harness.dispatcher.on_unsent_hedge(hedge);
        assert_eq!(harness.dispatcher.lane_besides(ticket, 0), None);
    }
    assert!(matches!(harness.dispatcher.on_lost(ticket, 0), Lost::Waiting), "its one retry");
}
