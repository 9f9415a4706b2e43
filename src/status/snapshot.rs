//! What a service is doing, as its loop tells it when it is asked.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::histogram::Histogram;
use super::stats::Stats;
use crate::auth::parse_address;
use crate::backend::{Activity, LaneReport};

/// What a service is doing, all at one time.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub taken: Instant,
    pub readiness: Readiness,
    pub stats: Stats,
    pub latencies: Latencies,
    /// Requests that were taken and not answered, and how many of these no lane has yet.
    pub in_flight: usize,
    pub queued: usize,
    /// Bytes of requests and of replies that clients do not take yet, and of the latter alone.
    pub held_bytes: usize,
    pub unsent_bytes: usize,
    /// Number of connections that clients have, those that shake hands included.
    pub connections: usize,
    /// Number of connections that were refused, by why.
    pub refused: Vec<(&'static str, u64)>,
    pub lanes: Vec<LaneReport>,
    pub clients: Vec<Usage>,
}

impl Snapshot {
    /// Takes account of a handler that is called in the loop, and has a request since then.
    pub fn set_handling(&mut self) {
        self.in_flight = self.in_flight.max(1);
        for lane in &mut self.lanes {
            (lane.activity, lane.in_flight) = (Activity::Busy, 1);
            lane.since = lane.since.or(Some(self.taken));
        }
    }
}

/// Whether a service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Serving,
    /// No lane can answer, for this reason.
    Refusing(&'static str),
    /// It is about to end, and refuses what comes.
    Draining,
}

/// How long the requests took that were answered, but for those that were refused as they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    /// Until a lane got it.
    pub queue: Histogram,
    /// From then on until that lane's reply came.
    pub handle: Histogram,
    /// All of it.
    pub total: Histogram,
}

impl Latencies {
    /// Takes account of a request that its lane has replied to, after so many nanoseconds without one
    /// and then with it.
    pub fn on_reply(&mut self, queue: u64, handle: u64) {
        self.queue.record(queue);
        self.handle.record(handle);
        self.total.record(queue.saturating_add(handle));
    }

    /// Takes account of one that was answered otherwise. Without `queue` no lane had it.
    pub fn on_given_up(&mut self, queue: Option<u64>, total: u64) {
        queue.into_iter().for_each(|queue| self.queue.record(queue));
        self.total.record(total);
    }

    /// Returns what was measured since `earlier`, which are these as they were once.
    pub fn since(&self, earlier: &Latencies) -> Latencies {
        Latencies {
            queue: self.queue.since(&earlier.queue),
            handle: self.handle.since(&earlier.handle),
            total: self.total.since(&earlier.total),
        }
    }

    /// Returns each with its name.
    pub fn each(&self) -> [(&'static str, &Histogram); 3] {
        [("queue", &self.queue), ("handle", &self.handle), ("total", &self.total)]
    }
}

/// What a client has asked for, over all its connections.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub who: Who,
    /// Number of its connections that have asked for something.
    pub connections: usize,
    /// Its requests, and those of them that were refused since they were too many.
    pub requests: u64,
    pub refused: u64,
}

/// A client, as an operator knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// By its name in the list.
    Listed(Arc<str>),
    /// Without keys.
    Address(IpAddr),
    /// Over ipc, by its user's number.
    User(u32),
    /// All for whom there is no place of their own.
    #[default]
    Others,
}

impl Who {
    /// Returns who has that Peer-Address: an IP address, or over ipc what libzmq makes of it,
    /// `localhost:UID:GID:PID`.
    pub fn at(address: &str) -> Who {
        let user = address.strip_prefix("localhost:").and_then(|rest| rest.split(':').next());
        match (user.map(str::parse), parse_address(address)) {
            (Some(Ok(user)), _) => Who::User(user),
            (_, Some(address)) => Who::Address(address.to_canonical()),
            _ => Who::Others,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Listed(name) => f.write_str(name),
            Who::Address(address) => address.fmt(f),
            Who::User(user) => write!(f, "uid:{user}"),
            Who::Others => f.write_str("others"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a snapshot of a service that has had that many requests.
    pub fn snapshot(taken: Instant, requests: u64) -> Snapshot {
        Snapshot {
            taken,
            readiness: Readiness::Serving,
            stats: Stats { requests, replies: requests, ..Stats::default() },
            latencies: Latencies::default(),
            in_flight: 0,
            queued: 0,
            held_bytes: 0,
            unsent_bytes: 0,
            connections: 0,
            refused: Vec::new(),
            lanes: Vec::new(),
            clients: Vec::new(),
        }
    }

    #[test]
    fn a_client_is_known_by_its_address_or_its_user() {
        for (address, who) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("fe80::1%eth0", "fe80::1"),
            ("localhost:1000:100:4711", "uid:1000"),
            ("localhost:x", "others"),
            ("", "others"),
        ] {
            assert_eq!(Who::at(address).to_string(), who);
        }
    }
}
