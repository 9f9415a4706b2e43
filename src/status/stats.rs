//! Counters of what a service has done.

use std::collections::BTreeMap;
use std::fmt;

use log::debug;

use crate::fault::{Code, Fault};
use crate::frame::Frame;

/// The counters. Each request is answered in the end, or nobody waits for its reply any more, so
/// that `requests` is `replies`, all `errors` and `withdrawn` together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Requests that were received.
    pub requests: u64,
    /// Replies that are not errors.
    pub replies: u64,
    /// Error replies by code, repd's own and those of handlers, workers and upstreams.
    pub errors: BTreeMap<Code, u64>,
    /// Requests that were dropped unhandled, because their client had gone, or had asked anew.
    pub withdrawn: u64,
    /// Of these, requests that were given up when the service had to end.
    pub abandoned: u64,
    /// Requests that were lost, and given to another lane.
    pub retried: u64,
    /// Requests that took long, and were given to another lane as well.
    pub hedged: u64,
    /// Of these, those that the other lane replied to first.
    pub hedges_won: u64,
    /// Requests that were taken back from a lane, and given to another.
    pub recalled: u64,
    /// Replies that came after the deadline.
    pub late: u64,
    /// Messages that were no requests.
    pub malformed: u64,
    /// Replies whose client was gone.
    pub gone: u64,
    /// Clients that were disconnected because a message was far too large.
    pub cut_off: u64,
    /// Replies that were dropped because their client did not read.
    pub unread: u64,
}

impl Stats {
    /// Counts the reply to a request.
    pub fn count_reply(&mut self, reply: &[Frame]) {
        match Fault::code_of(reply) {
            Some(code) => *self.errors.entry(code).or_default() += 1,
            None => self.replies += 1,
        }
    }

    pub fn count_malformed(&mut self) {
        debug!("message dropped: it has no empty delimiter frame, or nothing behind it");
        self.malformed += 1;
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "requests: {}, replies: {}", self.requests, self.replies)?;
        self.errors.iter().try_for_each(|(code, count)| write!(f, ", {code}: {count}"))?;
        self.rare().try_for_each(|(what, count)| write!(f, ", {what}: {count}"))
    }
}

impl Stats {
    /// Returns the counters of what is rare, but for those that are zero.
    pub fn rare(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let rare = [
            ("withdrawn", self.withdrawn),
            ("of these, abandoned", self.abandoned),
            ("retried", self.retried),
            ("hedged", self.hedged),
            ("of these, won", self.hedges_won),
            ("replies too late", self.late),
            ("replies not read", self.unread),
            ("clients gone", self.gone),
            ("clients cut off", self.cut_off),
            ("malformed messages", self.malformed),
        ];
        rare.into_iter().filter(|(_, count)| *count > 0)
    }
}
