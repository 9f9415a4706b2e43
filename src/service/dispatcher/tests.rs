//! Each rule of the dispatcher by itself, over lanes that say what a test has them say.

use std::time::{Duration, Instant};

use super::{Assignment, Dispatcher, Lost, Reply, Rules};
use crate::backend::{Admission, LaneState, Recall, Ticket, Unavailable};
use crate::fault::Code;
use crate::frame::Frame;
use crate::service::account::ClientLimits;
use crate::service::handshake::Handshake;
use crate::service::request::Request;

mod again;
mod choice;
mod clients;
mod deadlines;
mod hedging;
mod refusals;
mod requests;

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
        let number = Frame::from(&[self.asked][..]);
        let (envelope, body) = (vec![Frame::from(client), number.clone()], vec![number]);
        let number = self.asked.into();
        self.asked = self.asked.wrapping_add(1);
        let mut request = Request { number, envelope, body, bytes: 100, ..Request::default() };
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
