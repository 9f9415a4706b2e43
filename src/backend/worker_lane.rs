//! A DEALER to the one worker of this process behind it.

use std::time::Instant;

use crate::backend::arrivals::Arrivals;
use crate::backend::claim::Claim;
use crate::backend::credit::Credit;
use crate::backend::ticket::Ticket;
use crate::backend::window::Window;
use crate::backend::{Activity, Admission, LaneEvent, LaneState, Recall};
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::{Sent, Socket, Watched};

pub(crate) struct WorkerLane {
    socket: Socket,
    window: Window,
    /// Takes when each request came, before that is sent, if the worker is to know it.
    arrivals: Option<Arrivals>,
}

impl WorkerLane {
    /// Makes a lane over `socket`, whose worker shares `credit` and `claim`, and hears of `arrivals`
    /// if it is to know when requests came.
    pub fn new(
        socket: Socket,
        credit: Credit,
        claim: Claim,
        arrivals: Option<Arrivals>,
    ) -> WorkerLane {
        WorkerLane { socket, window: Window::new(credit, claim, Instant::now()), arrivals }
    }

    pub fn readable(&self) -> Watched<'_> {
        self.socket.readable()
    }

    /// Returns true if [`WorkerLane::next_event`] may give something without another wait.
    pub fn may_have_more(&self) -> bool {
        !self.is_idle() && self.socket.may_have_more()
    }

    /// Returns true if nothing is outstanding on this lane, so that nothing will come over it.
    pub fn is_idle(&self) -> bool {
        self.window.is_empty()
    }

    pub fn in_flight(&self) -> usize {
        self.window.in_flight()
    }

    /// Returns what the worker is doing, and since when it is at its request.
    pub fn activity(&self) -> (Activity, Option<Instant>) {
        self.window.activity()
    }

    /// Sends the request. Its body is used up, unless `keep` is set or the request may be taken
    /// back.
    ///
    /// No ticket goes with it: a lane to one worker is first in, first out.
    pub fn send(
        &mut self,
        ticket: Ticket,
        body: &mut [Frame],
        keep: bool,
        arrived: Instant,
        now: Instant,
    ) -> Result<(), Error> {
        if let Some(arrivals) = &self.arrivals {
            arrivals.push(arrived);
        }
        let mut sent = self.socket.send_frame(&mut Frame::default(), true)?;
        if sent == Sent::Done {
            sent = if keep {
                // A handler may change its frames, and still have them when another gets the
                // request.
                self.socket.send_message(&mut body.to_vec())?
            } else if self.window.may_recall_next() {
                // What is taken back, no worker has started: only one of the two is ever used.
                self.socket.send_shares(body)?
            } else {
                self.socket.send_message(body)?
            };
        }
        match sent {
            Sent::Done => {
                self.window.on_sent(ticket, now);
                Ok(())
            }
            // The pipe is deeper than any credit, and the worker is connected as long as its thread
            // runs.
            Sent::Full | Sent::Gone => Err(Error::failed("a worker takes no requests")),
        }
    }

    /// Returns the next event, if a reply has come, and puts that into `body`.
    pub fn next_event(
        &mut self,
        body: &mut Vec<Frame>,
        now: Instant,
    ) -> Result<Option<LaneEvent>, Error> {
        let mut delimiter = Frame::default();
        if self.is_idle() || !self.socket.try_recv_frame(&mut delimiter)? {
            return Ok(None);
        }
        body.clear();
        if !self.socket.try_recv_message(body)? {
            return Err(Error::failed("a worker sent half a reply"));
        }
        Ok(self.window.on_reply(now))
    }

    pub fn on_deadline(&mut self, ticket: Ticket) -> bool {
        self.window.on_deadline(ticket)
    }

    pub fn recall(&mut self, now: Instant) -> Vec<Ticket> {
        self.window.recall(now)
    }
}

impl LaneState for WorkerLane {
    fn admission(&self, now: Instant) -> Admission {
        self.window.admission(now)
    }

    fn recall_due(&self) -> Recall {
        self.window.recall_due()
    }
}
