//! What a service has done, counted.

use std::fmt;

use log::debug;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests taken.
    pub requests: u64,
    /// Replies of the handler's, passed on.
    pub replies: u64,
    /// Requests answered with an error reply of repd's own.
    pub refused: u64,
    /// Of these, those that passed their deadline.
    pub timeouts: u64,
    /// Replies of the handler's that came after the deadline.
    pub late: u64,
    /// Messages that were no requests.
    pub malformed: u64,
    /// Replies whose client was gone.
    pub gone: u64,
    /// Clients whose message was far too large.
    pub cut_off: u64,
    /// Replies that were not sent, since their client did not read.
    pub unread: usize,
    /// Requests that were given up when the service had to end.
    pub abandoned: usize,
}

impl Tally {
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
        let rare = [
            ("refused", self.refused),
            ("of these, timed out", self.timeouts),
            ("of these, abandoned", self.abandoned as u64),
            ("replies too late", self.late),
            ("replies not read", self.unread as u64),
            ("clients gone", self.gone),
            ("clients cut off", self.cut_off),
            ("malformed messages", self.malformed),
        ];
        let mut seen = rare.into_iter().filter(|(_, count)| *count > 0);
        seen.try_for_each(|(what, count)| write!(f, ", {what}: {count}"))
    }
}
