//! Each rule of the dispatcher by itself, over lanes that say what a test has them say.

use std::time::{Duration, Instant};

use super::{Assignment, Change, Dispatcher, Lost, Reply, Rules};
use crate::backend::{Admission, LaneState, Recall, Ticket, Unavailable};
use crate::fault::{Code, Fault};
use crate::frame::Frame;
use crate::service::account::ClientLimits;
use crate::service::clients::Handshake;
use crate::service::in_flight::Request;

mod deadlines;
mod hedging;

const MS: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(1);

use Admission::{Cost, Doubtful, Full, Preferred, Standby};

const DISCONNECTED: Admission = Admission::Unavailable(Unavailable::Disconnected);
const DOWN: Admission = Admission::Unavailable(Unavailable::Down);
const STUCK: Admission = Admission::Unavailable(Unavailable::Stuck);

/// A lane that says this.
#[derive(Clone, Copy)]
struct Says(Admission, Recall);

impl LaneState for Says {
    fn admission(&self, _now: Instant) -> Admission {
        self.0
    }

    fn recall_due(&self) -> Recall {
        self.1
    }
}

fn lanes<const N: usize>(admissions: [Admission; N]) -> [Says; N] {
    admissions.map(|admission| Says(admission, Recall::Never))
}

/// A dispatcher, the time, and requests that are named by their number.
struct Harness {
    dispatcher: Dispatcher,
    now: Instant,
    asked: u8,
}

impl Harness {
    fn new(lanes: usize) -> Harness {
        Harness::with_retries(lanes, 0)
    }

    fn with_retries(lanes: usize, retries: usize) -> Harness {
        Harness::with(lanes, retries, false)
    }

    fn with(lanes: usize, retries: usize, hedge: bool) -> Harness {
        let client_limits = ClientLimits { outstanding: 9, rate: None };
        let rules =
            Rules { timeout: TIMEOUT, retries, hedge, client_limits, tells_withdrawn: false };
        let now = Instant::now();
        Harness { dispatcher: Dispatcher::new(lanes, rules, now), now, asked: 0 }
    }

    /// Gives it the next request; returns the text of the refusal, if it is refused.
    fn ask(&mut self, lanes: &[Says]) -> Result<(), String> {
        self.ask_as("dealer", lanes)
    }

    /// Gives it the next request, of that client. It is a REQ if its name begins so.
    fn ask_as(&mut self, client: &str, lanes: &[Says]) -> Result<(), String> {
        let envelope = vec![Frame::from(client), Frame::from(&[self.asked][..])];
        self.asked = self.asked.wrapping_add(1);
        let mut request = Request { envelope, bytes: 100, ..Request::default() };
        let handshake = |name: &mut Frame| Handshake {
            is_req: name.starts_with(b"req"),
            patience: name.starts_with(b"hurried").then_some(50 * MS),
            ..Handshake::default()
        };
        let refused = self.dispatcher.on_request(&mut request, handshake, lanes, self.now);
        refused.map(drop).map_err(|fault| fault.to_string())
    }

    fn next(&mut self, lanes: &[Says]) -> Option<Assignment> {
        self.dispatcher.next_assignment(lanes, self.now)
    }

    /// Gives it the next request; returns the lane that it is assigned to.
    fn lane<const N: usize>(&mut self, admissions: [Admission; N]) -> Option<usize> {
        let lanes = lanes(admissions);
        self.ask(&lanes).unwrap();
        self.next(&lanes).map(|next| next.lane)
    }

    /// Has a request sent; returns its ticket.
    fn send(&mut self, lanes: &[Says]) -> Ticket {
        self.ask(lanes).unwrap();
        self.next(lanes).expect("no lane takes it").ticket
    }

    /// Has that lane reply; returns true if that is the first reply.
    fn reply(&mut self, ticket: Ticket, lane: usize) -> bool {
        matches!(self.dispatcher.on_reply(ticket, lane, self.now), Reply::First(_))
    }

    /// Returns the numbers of the requests that are assigned while `lanes` take them.
    fn assigned(&mut self, lanes: &[Says], most: usize) -> Vec<u8> {
        let mut numbers = Vec::new();
        while numbers.len() < most
            && let Some(next) = self.next(lanes)
        {
            let pending = self.dispatcher.in_flight().get(next.ticket).unwrap();
            numbers.push(pending.request.envelope[1][0]);
        }
        numbers
    }
}

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
    // It is sent at once, and does not wait for something else to happen.
    let _ = harness.next(&lanes([Preferred, DISCONNECTED]));
    let envelope = vec![Frame::from("dealer"), Frame::default()];
    let mut request = Request { envelope, bytes: 100, ..Request::default() };
    let alone = lanes([Doubtful(1.0), DISCONNECTED]);
    let now = harness.now;
    let place = harness.dispatcher.on_request(&mut request, |_| Handshake::default(), &alone, now);
    assert_eq!(place.ok(), Some(crate::service::in_flight::Place::Waiting));
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
fn a_client_has_a_limit_of_its_own() {
    let mut harness = Harness::new(1);
    let full = lanes([Full]);
    assert!((0..9).all(|_| harness.ask_as("greedy", &full).is_ok()));
    assert!(harness.ask_as("greedy", &full).unwrap_err().starts_with("429 "));
    assert_eq!(harness.ask_as("modest", &full), Ok(()));
    assert_eq!(harness.assigned(&lanes([Preferred]), 99).len(), 10);
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
