//! How each request is answered in the end: by a lane, or with an error.

use std::time::{Duration, Instant};

use super::Broker;
use crate::backend::{Lane, LaneState, Ticket};
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frame::{Frame, MAX_IDLE_CAPACITY};
use crate::service::dispatcher::{Lost, Reply};
use crate::service::frontend::Frontend;
use crate::service::request::{Pending, Request};
use crate::service::trace;

impl Broker {
    /// Tells the clients of requests whose deadline has passed, and the lanes that have these.
    pub fn expire(&mut self, lanes: &mut [Lane]) -> Result<(), Error> {
        while let Some(ticket) = self.dispatcher.overdue(self.now) {
            let pending = self.dispatcher.in_flight().get(ticket);
            for lane in pending.into_iter().flat_map(Pending::lanes) {
                // The single-threaded server has no lanes.
                lanes.get_mut(lane).into_iter().for_each(|lane| lane.on_unawaited(ticket));
            }
            self.give_up(ticket, &Fault::timeout())?;
        }
        Ok(())
    }

    /// Answers the requests that wait with an error, if no lane is available.
    pub fn refuse_waiting(&mut self, lanes: &[impl LaneState]) -> Result<(), Error> {
        for (ticket, fault) in self.dispatcher.refuse_waiting(lanes, self.now) {
            self.give_up(ticket, &fault)?;
        }
        Ok(())
    }

    /// Answers a request with an error.
    pub fn give_up(&mut self, ticket: Ticket, fault: &Fault) -> Result<(), Error> {
        let Some(pending) = self.dispatcher.give_up(ticket, self.now) else { return Ok(()) };
        if let Some(figures) = &mut self.figures {
            figures.on_given_up(pending, self.now);
        }
        let until = self.now + self.timeout;
        let reply = &mut fault.to_frames();
        deliver(&mut self.frontend, pending, reply, until, self.timeout, self.now)
    }

    /// Answers a request with the reply of that lane; returns why, if it is dropped instead.
    pub fn answer(
        &mut self,
        ticket: Ticket,
        lane: usize,
        reply: &mut [Frame],
    ) -> Result<Option<&'static str>, Error> {
        let stats = &mut self.frontend.stats;
        let pending = match self.dispatcher.on_reply(ticket, lane, self.now) {
            Reply::First(pending) => pending,
            Reply::Second => return Ok(Some("it came after that of another")),
            // A worker that ends its program at the deadline says so: that is no reply.
            Reply::Late if Fault::code_of(reply) == Some(Code::TIMEOUT) => return Ok(None),
            Reply::Late => {
                stats.late += 1;
                return Ok(Some("it came after the deadline"));
            }
        };
        stats.hedges_won += u64::from(pending.hedge.is_some_and(|hedge| hedge.lane == lane));
        if let Some(figures) = &mut self.figures {
            figures.on_reply(pending, lane, self.now);
        }
        let (until, client) = (pending.deadline, pending.client);
        deliver(&mut self.frontend, pending, reply, until, self.timeout, self.now)?;
        if self.drain.is_answering() {
            self.let_go(client)?;
        }
        self.bound_memory()?;
        Ok(None)
    }

    /// Answers a request that was lost with `reply`, unless it is tried again.
    pub fn lose(&mut self, ticket: Ticket, lane: usize, reply: &mut [Frame]) -> Result<(), Error> {
        let Lost::GivenUp(pending) = self.dispatcher.on_lost(ticket, lane) else { return Ok(()) };
        if let Some(figures) = &mut self.figures {
            figures.on_given_up(pending, self.now);
        }
        let until = self.now + self.timeout;
        deliver(&mut self.frontend, pending, reply, until, self.timeout, self.now)
    }
}

/// Sends the reply to a request, and leaves the request's buffers to the next. `timeout` is the time
/// that any request has.
fn deliver(
    frontend: &mut Frontend,
    pending: &mut Pending,
    reply: &mut [Frame],
    until: Instant,
    timeout: Duration,
    now: Instant,
) -> Result<(), Error> {
    if trace::is_on() {
        trace::answered(pending.request.number, reply, pending.age(timeout, Instant::now()));
    }
    let Request { number, envelope, .. } = &mut pending.request;
    let sent = frontend.reply(envelope, reply, until, now)?;
    trace::delivered(*number, sent);
    // If the client is gone, its frames are still there.
    envelope.clear();
    envelope.shrink_to(MAX_IDLE_CAPACITY);
    Ok(())
}
