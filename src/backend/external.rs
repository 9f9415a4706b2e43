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
use crate::frame::Frame;
use crate::socket::{Newcomer, Sent, Socket, share};

mod router;

pub(crate) use router::Router;

/// A worker that has connected.
pub(crate) struct External {
    /// That of all workers.
    socket: Rc<Socket>,
    newcomer: Newcomer,
    name: String,
    peer: Peer,
    reply_limits: reply::Limits,
    state: State,
    lost: VecDeque<Ticket>,
}

/// Whether a worker gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connected,
    /// It is no longer listed: its connection is ended once it has answered.
    Dismissed,
    /// That has been done.
    Closing,
    /// Its connection ends by itself, which the ROUTER is about to tell.
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
        is_taken: impl Fn(&str) -> bool,
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
        // Over ipc several of one process look alike.
        let others = (2_u32..).map(|number| format!("{name} ({number})"));
        let mut names = [name.clone()].into_iter().chain(others);
        let name = names.find(|name| !is_taken(name)).unwrap_or(name);
        External {
            socket,
            name,
            newcomer,
            peer: Peer::new(concurrency, now),
            reply_limits,
            state: State::Connected,
            lost: VecDeque::new(),
        }
    }

    /// Returns what the log and the figures call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns true if it has gone, and nothing is left to tell of it.
    pub fn has_ended(&self) -> bool {
        self.state == State::Gone && self.lost.is_empty()
    }

    /// Returns true if there is something to do for [`External::next_event`], or it has ended.
    pub fn may_have_more(&self) -> bool {
        !self.lost.is_empty() || self.peer.has_forgotten() || self.is_to_close() || self.has_ended()
    }

    /// Returns true if it is no longer listed, and nobody waits for a reply of it.
    fn is_to_close(&self) -> bool {
        self.state == State::Dismissed && self.in_flight() == 0
    }

    /// Returns how many requests are outstanding that somebody waits for.
    pub fn in_flight(&self) -> usize {
        self.peer.awaited()
    }

    pub fn activity(&self, now: Instant) -> (Activity, Option<Instant>) {
        self.peer.activity(now)
    }

    pub fn admission(&self, now: Instant) -> Admission {
        match self.state {
            State::Connected => self.peer.admission(now),
            State::Dismissed | State::Closing => Admission::Unavailable(Unavailable::Disconnected),
            // Its place is vacant soon, and requests wait for another.
            State::Ending | State::Gone => Admission::Full,
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
        // What it has is lost when the ROUTER tells that it has gone.
        self.state = State::Ending;
        Ok(false)
    }

    /// Takes a message that has come from it, and leaves its body in `message`.
    pub fn on_message(&mut self, message: &mut Vec<Frame>, now: Instant) -> LaneEvent {
        reply::take(message, Some(&mut self.peer), &self.name, self.reply_limits, now)
    }

    /// Takes account of the end of its connection: what is outstanding is lost.
    pub fn on_gone(&mut self) {
        self.state = State::Gone;
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
        self.lost.extend(self.peer.take_forgotten(now));
        if self.is_to_close() {
            self.socket.end_peer(&self.newcomer.routing_id)?;
            self.state = State::Closing;
        }
        Ok(reply::next_lost(&mut self.lost, body))
    }

    /// Takes account of a request whose deadline has passed: nobody waits for its reply, but it
    /// counts as outstanding until that comes.
    pub fn on_deadline(&mut self, ticket: Ticket, now: Instant) {
        if self.peer.on_deadline(ticket, now) {
            warn!("{}: a request has passed its deadline", self.name);
        }
    }

    /// Takes account of an outstanding request that nobody waits for any more: another lane has
    /// replied to it, or it was given up.
    pub fn on_unawaited(&mut self, ticket: Ticket) {
        self.peer.on_unawaited(ticket);
    }

    /// Takes account of lists that have changed: it gets nothing more if it is no longer listed.
    pub fn on_lists_changed(&mut self, access: &Access) {
        let user_id = &self.newcomer.user_id;
        let is_listed = access.still_lets_in(WORKERS, user_id, SystemTime::now());
        if self.state == State::Connected && !is_listed {
            info!("{} is no longer listed; its connection ends", self.name);
            self.state = State::Dismissed;
        }
    }
}
