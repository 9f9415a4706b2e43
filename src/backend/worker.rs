//! The loop of a REP worker: a request, the handler, its reply; and the handler's maintenance in
//! between.

use std::time::Instant;

use crate::backend::arrivals::Arrivals;
use crate::backend::claim::Claim;
use crate::backend::credit::{Availability, Meter};
use crate::error::Error;
use crate::frame::Frame;
use crate::handler::{Answer, WorkerHandler};
use crate::socket::{PollSet, Socket, readable};

/// A REP worker.
pub(crate) struct Worker<N> {
    /// A REP that is connected to its lane.
    socket: Socket,
    handler: WorkerHandler,
    claim: Claim,
    meter: Meter,
    /// Tells when each request came to the service, if the handler is to know it.
    arrivals: Option<Arrivals>,
    /// Called when it takes requests again, or none any more.
    on_change: N,
}

/// What wakes a worker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    Socket,
    Maintenance,
}

impl<N: Fn()> Worker<N> {
    /// Makes a worker, and gets its handler ready.
    pub fn new(
        socket: Socket,
        mut handler: WorkerHandler,
        claim: Claim,
        mut meter: Meter,
        arrivals: Option<Arrivals>,
        on_change: N,
    ) -> Worker<N> {
        handler.maintain();
        if handler.may_pause() {
            meter.set_may_pause();
        }
        meter.set_availability(if handler.is_ready() {
            Availability::Ready
        } else {
            Availability::Down
        });
        Worker { socket, handler, claim, meter, arrivals, on_change }
    }

    /// Answers requests until the context is shut down.
    pub fn run(mut self) -> Result<(), Error> {
        let mut number: u32 = 0;
        while let Some(request) = self.next()? {
            // Also of a request that it is to skip.
            if let Some(arrived) = self.arrivals.as_ref().and_then(Arrivals::pop) {
                self.handler.set_arrived(arrived);
            }
            if self.claim.try_start(number) {
                let started = Instant::now();
                let Answer { mut reply, is_lost } = self.handler.answer(request)?;
                self.meter.record(started.elapsed());
                // All of this before the reply is sent, so that it is known when the reply is read.
                if is_lost {
                    self.claim.mark_lost(number);
                }
                if !self.handler.is_ready() {
                    self.meter.set_availability(Availability::Paused);
                }
                self.socket.send_message(&mut reply)?;
            } else {
                // A REP must reply before it can receive again; the lane ignores this reply.
                self.socket.send_frame(&mut Frame::default(), false)?;
            }
            number = number.wrapping_add(1);
        }
        Ok(())
    }

    /// Waits for the next request, and keeps the handler maintained meanwhile; returns `None` once
    /// the context is shut down.
    fn next(&mut self) -> Result<Option<Vec<Frame>>, Error> {
        let mut request = Vec::new();
        loop {
            if !self.handler.is_ready() {
                self.socket.process_commands()?;
            }
            if self.socket.is_shut_down() {
                return Ok(None);
            }
            let retry_at = if self.handler.is_ready() { None } else { self.handler.maintain() };
            let is_ready = self.handler.is_ready();
            self.set_availability(if is_ready { Availability::Ready } else { Availability::Down });
            let watched = self.handler.watched();
            if is_ready && watched.is_empty() {
                return Ok(self.socket.recv_message(&mut request)?.then_some(request));
            }
            // While it takes no requests, the socket is watched only for the end.
            let socket = if is_ready { self.socket.readable() } else { readable(&self.socket) };
            let mut poll = PollSet::with_capacity(4);
            poll.add(Wake::Socket, [socket]);
            poll.add(Wake::Maintenance, watched.iter().map(readable));
            poll.wait(retry_at.map(|at| at.saturating_duration_since(Instant::now())))?;
            let needs_maintenance = poll.is_readable(Wake::Maintenance);
            drop(poll);
            drop(watched);
            if needs_maintenance {
                // To end a program may take its time.
                self.set_availability(Availability::Paused);
                self.handler.maintain();
            } else if is_ready && self.socket.try_recv_message(&mut request)? {
                return Ok(Some(request));
            }
        }
    }

    fn set_availability(&mut self, availability: Availability) {
        if self.meter.set_availability(availability) {
            (self.on_change)();
        }
    }
}
