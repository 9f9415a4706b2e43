//! The workers that connect to this service, each a lane of its own: REP sockets of any language and
//! version, or DEALER and ROUTER sockets, which answer many requests at once.
//!
//! A request goes to its worker as `[ticket][empty][body...]`; the reply comes back with the same in
//! front.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use log::{info, warn};

use super::concurrency::Concurrency;
use super::peer_load::Peer;
use super::reply;
use super::{Activity, Admission, LaneEvent, Ticket, Unavailable};
use crate::auth::{Access, Identity, WORKERS};
use crate::error::Error;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::socket::{Newcomer, Sent, Socket, share};

mod door;

pub(crate) use door::Door;

/// A worker that has connected.
pub(crate) struct External {
    /// That of all workers.
    socket: Rc<Socket>,
    newcomer: Newcomer,
    name: String,
    peer: Peer,
    reply_limits: reply::Limits,
    standing: Standing,
    lost: VecDeque<Ticket>,
}

/// Whether a worker gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Connected,
    /// It is no longer listed: its connection ends once it has answered.
    Dismissed,
    /// Its connection ends, which the door is about to tell.
    Ending,
    /// Its connection has ended.
    Gone,
}

impl External {
    fn new(
        socket: Rc<Socket>,
        newcomer: Newcomer,
        max_outstanding: usize,
        reply_limits: reply::Limits,
        now: Instant,
    ) -> External {
        let concurrency = match &*newcomer.kind {
            "DEALER" | "ROUTER" => Concurrency::parallel(max_outstanding),
            _ => Concurrency::serial(max_outstanding),
        };
        let name = match newcomer.user_id.parse::<Identity>() {
            Ok(Identity { name, .. }) => format!("worker {name} at {}", newcomer.address),
            Err(_) => format!("worker {}", newcomer.address),
        };
        External {
            socket,
            name,
            newcomer,
            peer: Peer::new(concurrency, now),
            reply_limits,
            standing: Standing::Connected,
            lost: VecDeque::new(),
        }
    }

    /// Returns what the log and the figures call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of its connection.
    pub fn routing_id(&self) -> &[u8] {
        &self.newcomer.routing_id
    }

    /// Returns true if it has gone, and nothing is left to tell of it.
    pub fn has_ended(&self) -> bool {
        self.standing == Standing::Gone && self.lost.is_empty()
    }

    /// Returns true if [`External::next_event`] gives something.
    pub fn may_have_more(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Returns how many requests are outstanding that somebody waits for.
    pub fn in_flight(&self) -> usize {
        self.peer.awaited()
    }

    pub fn activity(&self, now: Instant) -> (Activity, Option<Instant>) {
        self.peer.activity(now)
    }

    pub fn admission(&self, now: Instant) -> Admission {
        match self.standing {
            Standing::Connected => self.peer.admission(now),
            Standing::Dismissed => Admission::Unavailable(Unavailable::Disconnected),
            // Its place is vacant soon, and requests wait for another.
            Standing::Ending | Standing::Gone => Admission::Full,
        }
    }

    /// Returns when the admission may change though no poll item tells.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.peer.retry_at()
    }

    /// Sends the request; returns false if the worker has gone. Its body is kept.
    pub fn send(
        &mut self,
        ticket: Ticket,
        body: &mut [Frame],
        now: Instant,
    ) -> Result<bool, Error> {
        let head = [&self.newcomer.routing_id, &ticket.to_bytes()[..], &[]].map(Frame::from);
        let mut message: Vec<Frame> = head.into_iter().chain(body.iter_mut().map(share)).collect();
        if self.socket.send_message(&mut message)? == Sent::Done {
            self.peer.on_sent(ticket, now);
            return Ok(true);
        }
        // What it has is lost when the door tells that it has gone.
        self.standing = Standing::Ending;
        Ok(false)
    }

    /// Takes a message that has come from it, and leaves its body in `message`.
    pub fn on_message(&mut self, message: &mut Vec<Frame>, now: Instant) -> LaneEvent {
        reply::take(message, Some(&mut self.peer), &self.name, self.reply_limits, now)
    }

    /// Takes account of the end of its connection: what is outstanding is lost.
    pub fn on_gone(&mut self) {
        self.standing = Standing::Gone;
        match self.peer.awaited() {
            0 => info!("{} has gone", self.name),
            lost => warn!("{} has gone; requests lost: {lost}", self.name),
        }
        self.lost.extend(self.peer.take_outstanding());
    }

    /// Returns the next request that is lost, if there is one, and puts what its client is told into
    /// `body`.
    pub fn next_event(
        &mut self,
        body: &mut Vec<Frame>,
        now: Instant,
    ) -> Result<Option<LaneEvent>, Error> {
        if self.peer.retry_at().is_some_and(|at| at <= now) {
            self.lost.extend(self.peer.forget_late());
        }
        if self.standing == Standing::Dismissed && self.in_flight() == 0 {
            self.socket.end_peer(&self.newcomer.routing_id)?;
        }
        Ok(self.lost.pop_front().map(|ticket| {
            *body = Fault::lost().to_frames();
            LaneEvent::Lost(ticket)
        }))
    }

    /// Takes account of a request whose deadline has passed: nobody waits for its reply, but it
    /// counts as outstanding until that comes.
    pub fn on_deadline(&mut self, ticket: Ticket, now: Instant) {
        if self.peer.on_deadline(ticket, now) {
            warn!("{}: a request has passed its deadline", self.name);
        }
    }

    /// Takes account of lists that have changed: it gets nothing more if it is no longer listed.
    pub fn on_lists_changed(&mut self, access: &Access) {
        let user_id = &self.newcomer.user_id;
        let is_listed = access.still_lets_in(WORKERS, user_id, SystemTime::now());
        if self.standing == Standing::Connected && !is_listed {
            info!("{} is no longer listed; its connection ends", self.name);
            self.standing = Standing::Dismissed;
        }
    }
}
