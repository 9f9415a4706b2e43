//! What stands behind the proxy, and takes requests from it.

use std::time::Instant;

use crate::error::Error;
use crate::frame::Frame;
use crate::socket::Watched;

mod claim;
mod credit;
mod peer_load;
mod pool;
mod remote;
mod ticket;
mod worker;
mod worker_lane;

pub(crate) use pool::Pool;
pub(crate) use remote::Remote;
pub(crate) use ticket::Ticket;
pub(crate) use worker_lane::WorkerLane;

pub(crate) enum Lane {
    /// A worker of this process.
    Worker(WorkerLane),
    /// Workers that connect to this service, or a service that it connects to.
    Remote(Box<Remote>),
}

impl Lane {
    /// What is to be watched.
    pub fn watch<'a>(&'a self, watched: &mut Vec<Watched<'a>>) {
        match self {
            Lane::Worker(lane) if lane.is_idle() => (),
            Lane::Worker(lane) => watched.push(lane.readable()),
            Lane::Remote(lane) => watched.extend(lane.readable()),
        }
    }

    /// Whether [`Lane::receive`] may give something without another wait.
    pub fn may_have_more(&self) -> bool {
        match self {
            Lane::Worker(lane) => lane.may_have_more(),
            Lane::Remote(lane) => lane.may_have_more(),
        }
    }

    /// Whether somebody here is at a request.
    pub fn is_idle(&self) -> bool {
        match self {
            Lane::Worker(lane) => lane.is_idle(),
            Lane::Remote(lane) => lane.owes_nothing(),
        }
    }

    /// Whether nobody waits for what it owes.
    pub fn owes_nothing(&self) -> bool {
        match self {
            Lane::Worker(lane) => lane.owes_nothing(),
            Lane::Remote(lane) => lane.owes_nothing(),
        }
    }

    /// Whether a request may be sent now, to a lane that has had one just before rather than to another.
    pub fn takes(&self, now: Instant) -> bool {
        match self {
            Lane::Worker(lane) => lane.takes(now),
            // Who had one just before is no better than the others.
            Lane::Remote(_) => false,
        }
    }

    /// Whether a request may be sent now, and what that would cost: to be compared with other lanes, less
    /// is better.
    pub fn takes_in_need(&self, now: Instant) -> Option<f64> {
        match self {
            Lane::Worker(lane) => lane.takes_in_need(now),
            Lane::Remote(lane) => lane.cost(now),
        }
    }

    /// Whether it takes no requests, and nobody should wait until it does.
    pub fn is_down(&self, now: Instant) -> bool {
        match self {
            Lane::Worker(lane) => lane.is_down(),
            Lane::Remote(lane) => lane.down_at().is_some_and(|at| at <= now),
        }
    }

    /// When something may change about it by itself: [`Lane::is_down`], or what is lost.
    pub fn changes_at(&self, now: Instant) -> Option<Instant> {
        match self {
            Lane::Worker(_) => None,
            Lane::Remote(lane) => {
                let down_at = lane.down_at().filter(|at| *at > now);
                down_at.into_iter().chain(lane.look_at()).min()
            }
        }
    }

    /// Sends the request down the lane; whether it could be. Its body is used up, unless it is to be kept or
    /// may be taken back.
    pub fn send(
        &mut self,
        ticket: Ticket,
        body: &mut [Frame],
        keep: bool,
        now: Instant,
    ) -> Result<bool, Error> {
        match self {
            Lane::Worker(lane) => lane.send(ticket, body, keep, now).map(|()| true),
            Lane::Remote(lane) => lane.send(ticket, body, now),
        }
    }

    /// The next reply, if one is there: whose it is, whether it says that another one might do better, and
    /// into `body` what it is. What is nobody's may come too.
    pub fn receive(
        &mut self,
        body: &mut Vec<Frame>,
        now: Instant,
    ) -> Result<Option<Option<(Ticket, bool)>>, Error> {
        match self {
            Lane::Worker(lane) => lane.receive(body, now),
            Lane::Remote(lane) => lane.receive(body, now),
        }
    }

    /// The requests whose answer is lost, since who was at them is gone.
    pub fn take_lost(&mut self, now: Instant) -> Result<Vec<Ticket>, Error> {
        match self {
            Lane::Worker(_) => Ok(Vec::new()),
            Lane::Remote(lane) => lane.take_lost(now),
        }
    }

    /// Takes account of the deadline of a request, and gives whether a worker goes on with it.
    pub fn expire(&mut self, ticket: Ticket, now: Instant) -> bool {
        match self {
            Lane::Worker(lane) => lane.is_at(ticket),
            Lane::Remote(lane) => {
                lane.expire(ticket, now);
                false
            }
        }
    }

    /// Whether it leads out of this process.
    pub fn is_remote(&self) -> bool {
        matches!(self, Lane::Remote(_))
    }

    /// Whether its only worker is still at a request that nobody waits for any more.
    pub fn is_stuck(&self, is_live: impl Fn(Ticket) -> bool) -> bool {
        match self {
            Lane::Worker(lane) => lane.is_stuck(is_live),
            Lane::Remote(_) => false,
        }
    }

    /// When what waits behind the foremost request is to be taken back, if anything waits.
    pub fn patience_ends(&self) -> Option<Instant> {
        match self {
            Lane::Worker(lane) => lane.patience_ends(),
            Lane::Remote(_) => None,
        }
    }

    /// Whether it takes no requests and has some that it will not begin.
    pub fn is_closed(&self) -> bool {
        match self {
            Lane::Worker(lane) => lane.is_closed(),
            Lane::Remote(_) => false,
        }
    }

    /// Takes back what is not begun, in the order in which it was sent.
    pub fn recall(&mut self, now: Instant) -> Vec<Ticket> {
        match self {
            Lane::Worker(lane) => lane.recall(now),
            Lane::Remote(_) => Vec::new(),
        }
    }
}
