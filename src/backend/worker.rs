//! The loop of a REP worker: a request, the handler, its reply; and the handler's maintenance in
//! between.

use std::time::Instant;

use crate::backend::claim::Claim;
use crate::backend::credit::{Availability, Meter};
use crate::error::Error;
use crate::frame::Frame;
use crate::handler::{Answer, Handler};
use crate::socket::{Socket, Watched, readable, wait};

/// A REP worker.
pub(crate) struct Worker<A, N> {
    /// A REP that is connected to its lane.
    socket: Socket,
    answers: A,
    claim: Claim,
    meter: Meter,
    /// Called when it takes requests again, or none any more.
    on_change: N,
}

impl<A: Answer, N: Fn()> Worker<A, N> {
    /// Makes a worker, and gets its handler ready.
    pub fn new(
        socket: Socket,
        mut answers: A,
        claim: Claim,
        mut meter: Meter,
        on_change: N,
    ) -> Worker<A, N> {
        let handler = answers.handler();
        handler.tend();
        if may_pause(handler) {
            meter.set_may_pause();
        }
        meter.set_availability(if handler.is_ready() {
            Availability::Ready
        } else {
            Availability::Down
        });
        Worker { socket, answers, claim, meter, on_change }
    }

    /// Answers requests until the context is shut down.
    pub fn run(mut self) -> Result<(), Error> {
        let mut number: u32 = 0;
        while let Some(request) = self.next()? {
            if self.claim.try_start(number) {
                let started = Instant::now();
                let (mut reply, is_lost) = self.answers.answer(request);
                self.meter.record(started.elapsed());
                // All of this before the reply is sent, so that it is known when the reply is read.
                if is_lost {
                    self.claim.mark_lost(number);
                }
                let handler = self.answers.handler();
                if !handler.is_ready() {
                    self.meter.set_availability(Availability::Paused);
                }
                if may_pause(handler) {
                    self.meter.set_may_pause();
                }
                self.socket.send_all(&mut reply)?;
            } else {
                // A REP must reply before it can receive again; the lane ignores this reply.
                self.socket.send(&mut Frame::default(), false)?;
            }
            number = number.wrapping_add(1);
        }
        Ok(())
    }

    /// Waits for the next request; none comes once the context is shut down. Meanwhile the handler
    /// is tended.
    fn next(&mut self) -> Result<Option<Vec<Frame>>, Error> {
        let mut request = Vec::new();
        loop {
            if !self.answers.handler().is_ready() {
                self.socket.catch_up()?;
            }
            if self.socket.has_ended() {
                return Ok(None);
            }
            let handler = self.answers.handler();
            let again = if handler.is_ready() { None } else { handler.tend() };
            let ready = handler.is_ready();
            if self.meter.set_availability(if ready {
                Availability::Ready
            } else {
                Availability::Down
            }) {
                (self.on_change)();
            }
            let watched = handler.watched();
            if ready && watched.is_empty() {
                return Ok(self.socket.receive(&mut request)?.then_some(request));
            }
            // While it takes no requests, the socket is watched only for the end.
            let mut items =
                vec![if ready { self.socket.readable() } else { readable(&self.socket) }];
            items.extend(watched.iter().map(readable));
            let time = again.map(|again| again.saturating_duration_since(Instant::now()));
            wait(&mut items, time)?;
            let to_tend = items[1..].iter().any(Watched::is_readable);
            drop(items);
            drop(watched);
            if to_tend {
                // To end a program may take its time.
                if self.meter.set_availability(Availability::Paused) {
                    (self.on_change)();
                }
                self.answers.handler().tend();
            } else if ready && self.socket.try_receive(&mut request)? {
                return Ok(Some(request));
            }
        }
    }
}

/// Whether the worker may come to have requests that it will not begin.
fn may_pause(handler: &dyn Handler) -> bool {
    handler.ends_at_deadline() || !handler.is_ready() || !handler.watched().is_empty()
}
