//! What was asked of one service, and what became of each request.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use super::common::{code, until};

/// What a request wants of a handler that knows it: the first byte of its body. Others echo it.
pub const ECHO: u8 = b'e';
pub const SLOW: u8 = b's';
pub const DIE: u8 = b'd';
pub const HANG: u8 = b'h';
pub const BREAK: u8 = b'b';

/// Number of faults that are told in words.
const TOLD: usize = 5;

/// What may become of a request.
#[derive(Clone, Copy)]
pub struct Allowed {
    reply: bool,
    codes: &'static [u16],
}

impl Allowed {
    pub const REPLY: Allowed = Allowed::reply_or(&[]);

    pub const fn reply_or(codes: &'static [u16]) -> Allowed {
        Allowed { reply: true, codes }
    }

    pub const fn only(codes: &'static [u16]) -> Allowed {
        Allowed { reply: false, codes }
    }
}

/// The account of one service. Each request has a number, and is outstanding until it is answered or
/// its client has left.
#[derive(Default)]
pub struct Account {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    totals: Totals,
    outstanding: BTreeMap<u64, (u8, Allowed)>,
}

/// What has become of all requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub asked: u64,
    pub replies: u64,
    /// Error replies that were allowed, by code.
    pub errors: BTreeMap<u16, u64>,
    /// Requests whose client has left, or has given up.
    pub left: u64,
    pub unanswered: u64,
    /// Replies that are not those of their requests.
    pub swapped: u64,
    /// Replies to no request that is outstanding.
    pub repeated: u64,
    /// Replies, and error replies, that were not allowed.
    pub refused: u64,
    /// The first faults, in words.
    pub faults: Vec<String>,
}

impl Account {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds a request. Returns its number and its body.
    pub fn ask(&self, verb: u8, allowed: Allowed) -> (u64, Vec<u8>) {
        let mut state = self.state();
        let number = state.totals.asked;
        state.totals.asked += 1;
        state.outstanding.insert(number, (verb, allowed));
        (number, body(verb, number))
    }

    /// Notes what came as the reply to the request of that number.
    pub fn note(&self, number: u64, reply: &[Vec<u8>]) {
        self.state().note(number, reply);
    }

    /// Notes that the client of that request will not hear of it.
    pub fn leave(&self, number: u64) {
        let mut state = self.state();
        state.outstanding.remove(&number);
        state.totals.left += 1;
    }

    /// Waits until nothing is outstanding that has been asked so far.
    pub fn settle(&self) {
        let next = self.state().totals.asked;
        until("all that was asked is answered", || {
            self.state().outstanding.first_key_value().is_none_or(|(first, _)| *first >= next)
        });
    }

    /// Returns the number of replies so far.
    pub fn replies(&self) -> u64 {
        self.state().totals.replies
    }

    /// Returns what has become of all requests. Those that are outstanding are unanswered.
    pub fn totals(&self) -> Totals {
        let state = self.state();
        let unanswered = state.outstanding.len() as u64;
        Totals { unanswered, ..state.totals.clone() }
    }
}

impl State {
    fn note(&mut self, number: u64, reply: &[Vec<u8>]) {
        let totals = &mut self.totals;
        let Some((verb, allowed)) = self.outstanding.remove(&number) else {
            totals.repeated += 1;
            return totals.fault(format!("a reply to request {number}, which is not outstanding"));
        };
        match code(reply) {
            Some(code) if allowed.codes.contains(&code) => {
                *totals.errors.entry(code).or_default() += 1;
            }
            None if *reply == [body(verb, number)] && allowed.reply => totals.replies += 1,
            None if !allowed.reply || is_of(number, reply) => {
                totals.refused += 1;
                totals.fault(format!("request {number} has a wrong reply: {}", brief(reply)));
            }
            None => {
                totals.swapped += 1;
                totals.fault(format!("request {number} has another's reply: {}", brief(reply)));
            }
            Some(_) => {
                totals.refused += 1;
                totals.fault(format!("request {number} has the error reply {}", brief(reply)));
            }
        }
    }
}

impl Totals {
    fn fault(&mut self, what: String) {
        if self.faults.len() < TOLD {
            self.faults.push(what);
        }
    }

    /// Returns true if the outcomes are as many as the requests.
    pub fn is_complete(&self) -> bool {
        let outcomes = self.replies + self.errors.values().sum::<u64>() + self.left;
        self.asked == outcomes + self.unanswered + self.swapped + self.refused
    }

    /// Returns what was wrong, a line each.
    pub fn wrong(&self) -> Vec<String> {
        let counts = [
            (self.unanswered, "unanswered requests"),
            (self.swapped, "swapped replies"),
            (self.repeated, "replies that came twice"),
            (self.refused, "wrong replies"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let mut wrong: Vec<_> = counts.map(|(count, what)| format!("{what}: {count}")).collect();
        if !self.is_complete() {
            wrong.push(format!("the outcomes are not as many as the requests: {self:?}"));
        }
        wrong.extend(self.faults.iter().cloned());
        wrong
    }
}

/// Returns the body of a request: the verb, its number, and bytes that follow from the number, as
/// does their length: some 100, or 20,000 of one in a thousand.
fn body(verb: u8, number: u64) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(number);
    let filler = if dice.u32(..1000) == 0 { 20_000 } else { dice.usize(..200) };
    let mut body = [&[verb][..], &number.to_be_bytes()].concat();
    body.resize(body.len() + filler, 0);
    dice.fill(&mut body[9..]);
    body
}

/// Returns the number in the body of a request.
pub fn number_of(body: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(body.get(1..9)?.try_into().ok()?))
}

fn is_of(number: u64, reply: &[Vec<u8>]) -> bool {
    reply.first().and_then(|body| number_of(body)) == Some(number)
}

fn brief(reply: &[Vec<u8>]) -> String {
    let frame = |frame: &Vec<u8>| {
        let text = frame[..frame.len().min(60)].escape_ascii();
        format!("\"{text}\" ({} bytes)", frame.len())
    };
    reply.iter().take(3).map(frame).collect::<Vec<_>>().join(", ")
}

/// Which requests a worker has handled, by their numbers.
#[derive(Default)]
pub struct Handled {
    marks: Mutex<Marks>,
}

#[derive(Default)]
struct Marks {
    bits: Vec<u64>,
    handled: u64,
    twice: u64,
}

impl Handled {
    /// Notes that a worker has that request.
    pub fn mark(&self, number: u64) {
        let mut marks = self.marks.lock().unwrap();
        let (place, bit) = (number as usize / 64, 1 << (number % 64));
        if place >= marks.bits.len() {
            marks.bits.resize(place + 1, 0);
        }
        let is_new = marks.bits[place] & bit == 0;
        marks.bits[place] |= bit;
        marks.handled += u64::from(is_new);
        marks.twice += u64::from(!is_new);
    }

    /// Returns how many requests were handled, and how often one was that had been before.
    pub fn count(&self) -> (u64, u64) {
        let marks = self.marks.lock().unwrap();
        (marks.handled, marks.twice)
    }
}
