//! What a service has done, counted.

use std::collections::BTreeMap;
use std::fmt;

use log::debug;

use crate::fault::Fault;
use crate::frame::Frame;

/// Counts. All requests are answered in the end, so that these are the replies and the errors together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests taken.
    pub requests: u64,
    /// Replies that are no errors.
    replies: u64,
    /// Error replies, by their codes: repd's own, and those of what answers.
    errors: BTreeMap<u16, u64>,
    /// Of these, requests that were given up when the service had to end.
    pub abandoned: u64,
    /// Requests that were lost, and given to another.
    pub retried: u64,
    /// Replies that came after the deadline.
    pub late: u64,
    /// Messages that were no requests.
    malformed: u64,
    /// Replies whose client was gone.
    gone: u64,
    /// Clients whose message was far too large.
    pub cut_off: u64,
    /// Replies that were not sent, since their client did not read.
    pub unread: u64,
}

impl Tally {
    /// Counts what a request is answered with.
    pub fn answered(&mut self, reply: &[Frame]) {
        match Fault::code_of(reply) {
            Some(code) => *self.errors.entry(code).or_default() += 1,
            None => self.replies += 1,
        }
    }

    pub fn malformed(&mut self) {
        debug!("message dropped: it has no empty delimiter frame, or nothing behind it");
        self.malformed += 1;
    }

    pub fn client_gone(&mut self) {
        debug!("reply dropped: its client is gone");
        self.gone += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "requests: {}, replies: {}", self.requests, self.replies)?;
        self.errors.iter().try_for_each(|(code, count)| write!(f, ", {code}: {count}"))?;
        let rare = [
            ("of these, abandoned", self.abandoned),
            ("retried", self.retried),
            ("replies too late", self.late),
            ("replies not read", self.unread),
            ("clients gone", self.gone),
            ("clients cut off", self.cut_off),
            ("malformed messages", self.malformed),
        ];
        let mut seen = rare.into_iter().filter(|(_, count)| *count > 0);
        seen.try_for_each(|(what, count)| write!(f, ", {what}: {count}"))
    }
}
