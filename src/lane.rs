//! A DEALER and the worker behind it: its outstanding requests, its credit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use zmq::PollItem;

use crate::claim::Claim;
use crate::credit::Credit;
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::{Sent, Socket};
use crate::ticket::Ticket;

/// How long a lane's foremost request may take before nothing more is sent behind it, and what is
/// behind it already is taken back. No shorter, since the poll counts in milliseconds.
const PATIENCE: Duration = Duration::from_millis(1);

pub(crate) struct Lane {
    socket: Socket,
    credit: Credit,
    claim: Claim,
    /// What the worker owes a reply to, in the order in which it was sent; none stands for a request
    /// that was taken back, whose empty reply is still to come.
    outstanding: VecDeque<Option<Ticket>>,
    /// How many requests were ever sent, modulo 2^32.
    sent: u32,
    /// Since when the foremost request has been the foremost.
    foremost_since: Instant,
}

/// What a worker sent back.
pub(crate) struct Reply {
    /// Whose reply it is; none if the request was taken back.
    pub ticket: Option<Ticket>,
    pub body: Vec<Frame>,
}

impl Lane {
    /// A lane over `socket`, whose worker shares `credit` and `claim`.
    pub fn new(socket: Socket, credit: Credit, claim: Claim) -> Lane {
        let outstanding = VecDeque::new();
        Lane { socket, credit, claim, outstanding, sent: 0, foremost_since: Instant::now() }
    }

    pub fn readable(&self) -> PollItem<'_> {
        self.socket.readable()
    }

    pub fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Whether a request may be sent now. Only one that is `copyable` may be sent to wait behind others,
    /// so that it can be taken back.
    pub fn takes(&self, copyable: bool, now: Instant) -> bool {
        let room_behind =
            || self.outstanding.len() < self.credit.get() && now < self.foremost_since + PATIENCE;
        self.is_idle() || (copyable && room_behind())
    }

    /// Sends the request down the lane.
    pub fn send(&mut self, ticket: Ticket, body: Vec<Frame>, now: Instant) -> Result<(), Error> {
        if self.is_idle() {
            self.foremost_since = now;
        }
        let head = [Frame::from(&ticket.to_bytes()[..]), Frame::default()];
        match self.socket.send_all(head.into_iter().chain(body))? {
            Sent::Done => {
                self.outstanding.push_back(Some(ticket));
                self.sent = self.sent.wrapping_add(1);
                Ok(())
            }
            // The pipe is deeper than any credit, and the worker is there while its thread is.
            Sent::Full | Sent::Gone => Err(Error::failed("a worker takes no requests")),
        }
    }

    /// The next reply, if one is there.
    pub fn receive(&mut self, now: Instant) -> Result<Option<Reply>, Error> {
        let Some(first) = self.socket.try_recv()? else { return Ok(None) };
        let ticket = Ticket::from_bytes(&first);
        let mut body = Vec::new();
        if first.more()
            && let Some(delimiter) = self.socket.try_recv()?
            && delimiter.more()
            && let Some(frame) = self.socket.try_recv()?
        {
            self.socket.recv_rest(frame, &mut body)?;
        }
        self.foremost_since = now;
        match self.outstanding.pop_front() {
            Some(None) => Ok(Some(Reply { ticket: None, body })),
            Some(expected) if expected == ticket => Ok(Some(Reply { ticket, body })),
            _ => Err(Error::failed("a worker's reply is out of turn")),
        }
    }

    /// Whether this request is the foremost.
    pub fn is_at(&self, ticket: Ticket) -> bool {
        self.outstanding.front() == Some(&Some(ticket))
    }

    /// Whether the worker is still at a request that nobody waits for any more.
    pub fn is_stuck(&self, is_live: impl Fn(Ticket) -> bool) -> bool {
        matches!(self.outstanding.front(), Some(&Some(foremost)) if !is_live(foremost))
    }

    /// When what waits behind the foremost request is to be taken back, if anything waits.
    pub fn patience_ends(&self) -> Option<Instant> {
        let waits = self.outstanding.iter().skip(1).any(Option::is_some);
        waits.then(|| self.foremost_since + PATIENCE)
    }

    /// Takes back what the worker has not begun, in the order in which it was sent.
    pub fn recall(&mut self, now: Instant) -> Vec<Ticket> {
        let front = self.sent.wrapping_sub(self.outstanding.len() as u32);
        let newest = self.claim.recall(front, self.sent);
        if newest == 0 {
            // The worker has not had its turn on a processor yet.
            self.foremost_since = now;
        }
        let kept = self.outstanding.len() - newest;
        self.outstanding.iter_mut().skip(kept).filter_map(Option::take).collect()
    }
}
