//! The REP loop: a request, the handler, its reply; and between requests what the handler needs.

use std::time::Instant;

use crate::backend::claim::Claim;
use crate::backend::credit::{Meter, Standing};
use crate::error::Error;
use crate::frame::Frame;
use crate::handler::{Answer, Handler};
use crate::socket::{Socket, Watched, readable, wait};

/// A worker of a lane.
pub(crate) struct Worker<A, N> {
    /// A REP that is connected to the lane.
    socket: Socket,
    answers: A,
    /// What it shares with the lane.
    claim: Claim,
    meter: Meter,
    /// Tells that it takes requests now, or does not any more.
    tell: N,
}

impl<A: Answer, N: Fn()> Worker<A, N> {
    /// Gets its handler ready.
    pub fn new(
        socket: Socket,
        mut answers: A,
        claim: Claim,
        mut meter: Meter,
        tell: N,
    ) -> Worker<A, N> {
        let handler = answers.handler();
        handler.tend();
        if may_rest(handler) {
            meter.will_rest();
        }
        meter.stand(if handler.is_ready() { Standing::Ready } else { Standing::Down });
        Worker { socket, answers, claim, meter, tell }
    }

    /// Answers requests until the context is shut down.
    pub fn run(mut self) -> Result<(), Error> {
        let mut number: u32 = 0;
        while let Some(request) = self.next()? {
            if self.claim.begin(number) {
                let begun = Instant::now();
                let (mut reply, is_lost) = self.answers.answer(request);
                self.meter.record(begun.elapsed());
                // All this before the reply, so that who reads it knows.
                if is_lost {
                    self.claim.lose(number);
                }
                let handler = self.answers.handler();
                if !handler.is_ready() {
                    self.meter.stand(Standing::Resting);
                }
                if may_rest(handler) {
                    self.meter.will_rest();
                }
                self.socket.send_all(&mut reply)?;
            } else {
                // A REP must reply before it may receive again; the proxy drops this.
                self.socket.send(&mut Frame::default(), false)?;
            }
            number = number.wrapping_add(1);
        }
        Ok(())
    }

    /// Waits for the next request; none comes once the context is shut down. Meanwhile the handler is
    /// tended.
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
            if self.meter.stand(if ready { Standing::Ready } else { Standing::Down }) {
                (self.tell)();
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
                if self.meter.stand(Standing::Resting) {
                    (self.tell)();
                }
                self.answers.handler().tend();
            } else if ready && self.socket.try_receive(&mut request)? {
                return Ok(Some(request));
            }
        }
    }
}

/// Whether the worker may come to have requests that it will not begin.
fn may_rest(handler: &dyn Handler) -> bool {
    handler.ends_at_deadline() || !handler.is_ready() || !handler.watched().is_empty()
}
