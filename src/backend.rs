//! Lanes, each one way to an answer, and what stands behind them.

use std::time::{Duration, Instant};

use crate::auth::Access;
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::Watched;

mod arrivals;
mod claim;
mod concurrency;
mod credit;
mod external;
mod lanes;
mod names;
mod peer_load;
mod pool;
mod reply;
mod report;
mod ticket;
mod upstream;
mod window;
mod worker;
mod worker_lane;

pub(crate) use external::{External, Router};
pub(crate) use lanes::Lanes;
pub(crate) use names::Names;
pub(crate) use pool::Pool;
pub(crate) use report::{Activity, LaneKind, LaneReport};
pub(crate) use ticket::Ticket;
pub(crate) use upstream::Upstream;
pub(crate) use worker_lane::WorkerLane;

/// The parts of lanes and workers that have no sockets and threads, for the simulation.
#[cfg(all(test, not(feature = "loom")))]
pub(crate) mod simulated {
    pub(crate) use super::claim::Claim;
    pub(crate) use super::concurrency::Concurrency;
    pub(crate) use super::credit::{Availability, Credit, Meter};
    pub(crate) use super::peer_load::Peer;
    pub(crate) use super::window::Window;
}

/// Time for which requests wait for a worker or an upstream to connect, before they are refused.
const CONNECT_GRACE: Duration = Duration::from_secs(1);

/// One way to an answer.
pub(crate) enum Lane {
    /// A worker of this process.
    Worker(WorkerLane),
    /// A worker that has connected.
    External(Box<External>),
    /// Another repd.
    Upstream(Box<Upstream>),
    /// A place for a worker that connects; one has gone, or the service has started, at that time.
    Vacant(Instant),
}

/// What a lane says to one more request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Admission {
    /// It has credit: the more recently used one of such lanes should get it.
    Preferred,
    /// It takes the request at that cost, to be compared with other lanes of the same kind; lower
    /// is better.
    Cost(f64),
    /// It takes the request at that cost if another lane has lost it, and otherwise none: others come
    /// before it.
    Standby(f64),
    /// It takes the request at that cost, but may never answer: it comes behind all that take
    /// one, if only soon.
    Doubtful(f64),
    /// It takes none now, but soon.
    Full,
    /// It takes none, and requests should not wait for it.
    Unavailable(Unavailable),
}

/// The reason why a lane takes no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// No worker or upstream is connected.
    Disconnected,
    /// Its worker has no program to answer with.
    Down,
    /// It is busy with nothing but requests whose deadline has passed.
    Stuck,
}

/// When the requests of a lane that wait behind another may be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recall {
    /// Nothing waits there.
    Never,
    /// From that time on, if another lane has capacity.
    From(Instant),
    /// In any case: they will not be started there soon.
    Now,
}

/// What a lane tells of a request: the worker of a program when it came, and an upstream the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Onward {
    /// When it came.
    pub arrived: Instant,
    /// For how long its client still waits, if that has said so.
    pub patience: Option<Duration>,
    /// Number of services and proxies that it has come through.
    pub hops: usize,
}

/// What has happened on a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneEvent {
    /// The reply to that request.
    Reply(Ticket),
    /// That request was lost, or what had it cannot answer. The message is what its client is told,
    /// unless it is tried again.
    Lost(Ticket),
    /// A message that is no reply to an outstanding request.
    Ignored,
}

/// What the dispatcher must know of a lane. It may change at any time by itself.
pub(crate) trait LaneState {
    /// Returns what the lane says to one more request.
    fn admission(&self, now: Instant) -> Admission;

    /// Returns when the requests that wait on it may be taken back.
    fn recall_due(&self) -> Recall;
}

impl LaneState for Lane {
    fn admission(&self, now: Instant) -> Admission {
        match self {
            Lane::Worker(lane) => lane.admission(now),
            Lane::External(lane) => lane.admission(now),
            Lane::Upstream(lane) => lane.admission(now),
            Lane::Vacant(since) if now < *since + CONNECT_GRACE => Admission::Full,
            Lane::Vacant(_) => Admission::Unavailable(Unavailable::Disconnected),
        }
    }

    fn recall_due(&self) -> Recall {
        match self {
            Lane::Worker(lane) => lane.recall_due(),
            Lane::External(_) | Lane::Upstream(_) | Lane::Vacant(_) => Recall::Never,
        }
    }
}

impl Lane {
    /// Returns what the log calls the lane at that place.
    pub fn name(&self, place: usize) -> String {
        match self {
            Lane::Worker(_) => format!("worker {}", place + 1),
            Lane::External(lane) => lane.name().into(),
            Lane::Upstream(lane) => lane.name().into(),
            Lane::Vacant(_) => "backend".into(),
        }
    }

    /// Returns true if it is the external worker of that name.
    fn is_of(&self, name: &str) -> bool {
        matches!(self, Lane::External(lane) if lane.name() == name)
    }

    /// Returns true if it takes nothing more, has nothing outstanding, and has no more events.
    fn has_ended(&self) -> bool {
        match self {
            Lane::Worker(_) | Lane::Vacant(_) => false,
            Lane::External(lane) => lane.has_ended(),
            Lane::Upstream(lane) => lane.has_ended(),
        }
    }

    /// Returns the poll items that tell of its events.
    pub fn watched(&self) -> impl Iterator<Item = Watched<'_>> {
        let items = match self {
            Lane::Worker(lane) if lane.is_idle() => [None, None],
            Lane::Worker(lane) => [Some(lane.readable()), None],
            Lane::External(_) | Lane::Vacant(_) => [None, None],
            Lane::Upstream(lane) => lane.readable().map(Some),
        };
        items.into_iter().flatten()
    }

    /// Returns true if [`Lane::next_event`] may give something without another wait.
    pub fn may_have_more(&self) -> bool {
        match self {
            Lane::Worker(lane) => lane.may_have_more(),
            Lane::External(lane) => lane.may_have_more(),
            Lane::Upstream(lane) => lane.may_have_more(),
            Lane::Vacant(_) => false,
        }
    }

    /// Returns the next event, if there is one, and puts the message that comes with it into
    /// `body`.
    pub fn next_event(
        &mut self,
        body: &mut Vec<Frame>,
        now: Instant,
    ) -> Result<Option<LaneEvent>, Error> {
        match self {
            Lane::Worker(lane) => lane.next_event(body, now),
            Lane::External(lane) => lane.next_event(body, now),
            Lane::Upstream(lane) => lane.next_event(body, now),
            Lane::Vacant(_) => Ok(None),
        }
    }

    /// Returns when it may have an event, or another admission, without a poll item telling so.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        match self {
            Lane::Worker(_) => None,
            Lane::External(lane) => lane.next_deadline(),
            Lane::Upstream(lane) => lane.next_deadline(now),
            Lane::Vacant(since) => Some(*since + CONNECT_GRACE).filter(|at| *at > now),
        }
    }

    /// Sends the request; returns false if the lane cannot take it after all. Its body is used up,
    /// unless `keep` is set or the request may be taken back.
    pub fn send(
        &mut self,
        ticket: Ticket,
        body: &mut [Frame],
        keep: bool,
        onward: Onward,
        now: Instant,
    ) -> Result<bool, Error> {
        match self {
            Lane::Worker(lane) => lane.send(ticket, body, keep, onward.arrived, now).map(|()| true),
            Lane::External(lane) => lane.send(ticket, body, now),
            Lane::Upstream(lane) => lane.send(ticket, body, onward, now),
            Lane::Vacant(_) => Ok(false),
        }
    }

    /// Takes account of a request whose deadline has passed; returns true if a worker is stuck in
    /// it.
    pub fn on_deadline(&mut self, ticket: Ticket, now: Instant) -> bool {
        match self {
            Lane::Worker(lane) => return lane.on_deadline(ticket),
            Lane::External(lane) => lane.on_deadline(ticket, now),
            Lane::Upstream(lane) => lane.on_deadline(ticket, now),
            Lane::Vacant(_) => (),
        }
        false
    }

    /// Takes account of an outstanding request that nobody waits for any more: another lane has
    /// replied to it, or it was given up.
    pub fn on_unawaited(&mut self, ticket: Ticket) {
        match self {
            Lane::External(lane) => lane.on_unawaited(ticket),
            Lane::Upstream(lane) => lane.on_unawaited(ticket),
            Lane::Worker(_) | Lane::Vacant(_) => (),
        }
    }

    /// Takes account of lists that have changed.
    pub fn on_lists_changed(&mut self, access: &Access) {
        match self {
            Lane::External(lane) => lane.on_lists_changed(access),
            Lane::Upstream(lane) => lane.on_lists_changed(access),
            Lane::Worker(_) | Lane::Vacant(_) => (),
        }
    }

    /// Takes back the requests that are not started, in the order in which they were sent.
    pub fn recall(&mut self, now: Instant) -> Vec<Ticket> {
        match self {
            Lane::Worker(lane) => lane.recall(now),
            Lane::External(_) | Lane::Upstream(_) | Lane::Vacant(_) => Vec::new(),
        }
    }

    /// Returns what it is doing, and since when it is at its request or without a connection.
    pub fn activity(&self, now: Instant) -> (Activity, Option<Instant>) {
        match self {
            Lane::Worker(lane) => lane.activity(),
            Lane::External(lane) => lane.activity(now),
            Lane::Upstream(lane) => lane.activity(now),
            Lane::Vacant(since) => (Activity::Disconnected, Some(*since)),
        }
    }

    /// Returns what is behind the lane at that place; `None` if nothing is.
    pub fn kind(&self, place: usize) -> Option<LaneKind> {
        match self {
            Lane::Worker(_) => Some(LaneKind::Worker(place + 1)),
            Lane::External(lane) => Some(LaneKind::External(lane.name().into())),
            Lane::Upstream(lane) => Some(LaneKind::Upstream(lane.place())),
            Lane::Vacant(_) => None,
        }
    }

    /// Returns how many requests are outstanding: sent, and not answered, lost or taken back. Of
    /// those elsewhere whose deadline has passed nobody waits for the end.
    pub fn in_flight(&self) -> usize {
        match self {
            Lane::Worker(lane) => lane.in_flight(),
            Lane::External(lane) => lane.in_flight(),
            Lane::Upstream(lane) => lane.in_flight(),
            Lane::Vacant(_) => 0,
        }
    }
}
