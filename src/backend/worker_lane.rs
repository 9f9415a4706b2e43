//! A DEALER and the one worker of this process behind it: its outstanding requests, its credit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::backend::claim::Claim;
use crate::backend::credit::Credit;
use crate::backend::ticket::Ticket;
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::{Sent, Socket, Watched, share};

/// How long a lane's foremost request may take before nothing more is sent behind it, and what is
/// behind it already is taken back. No shorter, since a worker may wait that long for a processor.
const PATIENCE: Duration = Duration::from_millis(1);

pub(crate) struct WorkerLane {
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

impl WorkerLane {
    /// A lane over `socket`, whose worker shares `credit` and `claim`.
    pub fn new(socket: Socket, credit: Credit, claim: Claim) -> WorkerLane {
        let outstanding = VecDeque::new();
        WorkerLane { socket, credit, claim, outstanding, sent: 0, foremost_since: Instant::now() }
    }

    pub fn readable(&self) -> Watched<'_> {
        self.socket.readable()
    }

    /// Whether a reply is due that [`Lane::receive`] may give without another wait.
    pub fn may_have_more(&self) -> bool {
        !self.is_idle() && self.socket.may_have_more()
    }

    pub fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Whether nobody waits for what the worker owes.
    pub fn owes_nothing(&self) -> bool {
        self.outstanding.iter().all(Option::is_none)
    }

    /// Whether a request may be sent now.
    pub fn takes(&self, now: Instant) -> bool {
        self.has_room(self.credit.get(), now)
    }

    /// Whether a request may be sent now, if no lane takes one; and how many would be before it.
    pub fn takes_in_need(&self, now: Instant) -> Option<f64> {
        self.has_room(self.credit.in_need(), now).then_some(self.outstanding.len() as f64)
    }

    fn has_room(&self, credit: usize, now: Instant) -> bool {
        let waits = self.outstanding.len();
        waits < credit && (waits == 0 || now < self.foremost_since + PATIENCE)
    }

    /// Whether the worker takes no requests, and nobody should wait until it does.
    pub fn is_down(&self) -> bool {
        self.credit.is_down()
    }

    /// Sends the request down the lane. Its body is used up, unless it is to be kept, or waits behind
    /// another and may be taken back.
    ///
    /// No ticket goes with it: a lane to one worker is first in, first out.
    pub fn send(
        &mut self,
        ticket: Ticket,
        body: &mut [Frame],
        keep: bool,
        now: Instant,
    ) -> Result<(), Error> {
        let mut sent = self.socket.send(&mut Frame::default(), true)?;
        if sent == Sent::Done {
            if self.is_idle() {
                self.foremost_since = now;
            }
            sent = if self.is_idle() && !keep && !self.credit.may_rest() {
                self.socket.send_all(body)?
            } else {
                let mut body: Vec<Frame> = body.iter_mut().map(share).collect();
                self.socket.send_all(&mut body)?
            };
        }
        match sent {
            Sent::Done => {
                self.outstanding.push_back(Some(ticket));
                self.sent = self.sent.wrapping_add(1);
                Ok(())
            }
            // The pipe is deeper than any credit, and the worker is there while its thread is.
            Sent::Full | Sent::Gone => Err(Error::failed("a worker takes no requests")),
        }
    }

    /// The next reply, if one is there: whose it is, whether it says that what was to answer is lost, and
    /// into `body` what it is. It is nobody's if the request was taken back.
    pub fn receive(
        &mut self,
        body: &mut Vec<Frame>,
        now: Instant,
    ) -> Result<Option<Option<(Ticket, bool)>>, Error> {
        let mut delimiter = Frame::default();
        if self.is_idle() || !self.socket.try_recv(&mut delimiter)? {
            return Ok(None);
        }
        body.clear();
        if !self.socket.try_receive(body)? {
            return Err(Error::failed("a worker sent half a reply"));
        }
        self.foremost_since = now;
        let number = self.sent.wrapping_sub(self.outstanding.len() as u32);
        let ticket = self.outstanding.pop_front();
        let ticket = ticket.ok_or_else(|| Error::failed("a worker replied to nothing"))?;
        Ok(Some(ticket.map(|ticket| (ticket, self.claim.is_lost(number)))))
    }

    /// Whether this request is the foremost, and nothing but itself ends it.
    pub fn is_at(&self, ticket: Ticket) -> bool {
        !self.credit.may_rest() && self.outstanding.front() == Some(&Some(ticket))
    }

    /// Whether the worker is still at a request that nobody waits for any more. Never if that is a program's: the worker
    /// ends it, says so, and goes on.
    pub fn is_stuck(&self, is_live: impl Fn(Ticket) -> bool) -> bool {
        !self.credit.may_rest()
            && matches!(self.outstanding.front(), Some(&Some(foremost)) if !is_live(foremost))
    }

    /// When what waits behind the foremost request is to be taken back, if anything waits.
    pub fn patience_ends(&self) -> Option<Instant> {
        let waits = self.outstanding.iter().skip(1).any(Option::is_some);
        waits.then(|| self.foremost_since + PATIENCE)
    }

    /// Whether the worker takes no requests and has some that it will not begin.
    pub fn is_closed(&self) -> bool {
        self.credit.get() == 0 && !self.owes_nothing()
    }

    /// Takes back what the worker has not begun, in the order in which it was sent.
    pub fn recall(&mut self, now: Instant) -> Vec<Ticket> {
        let front = self.sent.wrapping_sub(self.outstanding.len() as u32);
        let newest = self.claim.recall(front, self.sent, self.credit.get() == 0);
        if newest == 0 {
            // The worker has not had its turn on a processor yet.
            self.foremost_since = now;
        }
        let kept = self.outstanding.len() - newest;
        self.outstanding.iter_mut().skip(kept).filter_map(Option::take).collect()
    }
}
