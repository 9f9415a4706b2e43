//! A request, and where it is: in the queue, about to be sent, or on a lane.

use std::time::{Duration, Instant};

use super::clients::ClientId;
use crate::backend::Onward;
use crate::frame::Frame;

/// A request.
#[derive(Default)]
pub(crate) struct Request {
    /// Its number, by which the log knows it.
    pub number: u64,
    /// The frames up to and including the empty delimiter, which lead the reply back over any
    /// number of hops.
    pub envelope: Vec<Frame>,
    /// The frames behind the delimiter.
    pub body: Vec<Frame>,
    /// What it takes in memory, in bytes.
    pub bytes: usize,
    /// Time for which its client waits for a reply, if it says so.
    pub patience: Option<Duration>,
    /// Number of services and proxies that it has come through.
    pub hops: usize,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the queue.
    Queue,
    /// On no lane, and before the queue: about to be sent, taken back, or lost and to be tried
    /// again.
    Waiting,
    /// On that lane.
    Lane(usize),
}

/// A request in flight.
pub(crate) struct Pending {
    pub request: Request,
    pub client: ClientId,
    /// When it came.
    pub arrived: Instant,
    /// When its client gets a 504.
    pub deadline: Instant,
    pub place: Place,
    /// When it was given to the lane that has it.
    pub sent_at: Instant,
    /// The other lane that has it, since it takes long there.
    pub hedge: Option<Attempt>,
    /// Number of times that it was given to a lane again: since it was lost, or took long.
    pub again: usize,
    /// The lane that lost it, until it is sent again.
    pub lost_on: Option<usize>,
}

/// A lane that was given a request, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub lane: usize,
    pub at: Instant,
}

impl Pending {
    /// Returns how long ago it was received, if a request has `timeout`.
    pub fn age(&self, timeout: Duration, now: Instant) -> Duration {
        let time = self.request.patience.unwrap_or(timeout).min(timeout);
        (now + time).saturating_duration_since(self.deadline)
    }

    /// Returns what its lane tells of it.
    pub fn onward(&self, now: Instant) -> Onward {
        let left = self.deadline.saturating_duration_since(now);
        let patience = self.request.patience.map(|_| left);
        Onward { arrived: self.arrived, patience, hops: self.request.hops }
    }

    /// Returns when it was given to that lane, which has it.
    pub fn sent_to(&self, lane: usize) -> Instant {
        self.hedge.filter(|hedge| hedge.lane == lane).map_or(self.sent_at, |hedge| hedge.at)
    }

    /// Returns the lanes that have it.
    pub fn lanes(&self) -> impl Iterator<Item = usize> + use<> {
        let first = match self.place {
            Place::Lane(lane) => Some(lane),
            Place::Queue | Place::Waiting => None,
        };
        first.into_iter().chain(self.hedge.map(|hedge| hedge.lane))
    }

    /// Returns the lane that has it besides that one.
    pub fn elsewhere(&self, lane: usize) -> Option<Attempt> {
        match (self.place, self.hedge?) {
            (Place::Lane(first), hedge) if hedge.lane == lane => {
                Some(Attempt { lane: first, at: self.sent_at })
            }
            (_, hedge) => Some(hedge),
        }
    }
}
