//! The loop that carries messages between frontend and lanes, as the dispatcher says. It never
//! opens a body.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use super::dispatcher::{Change, Dispatcher, Lost};
use super::drain::Drain;
use super::frontend::{Frontend, Received, Stopped};
use super::in_flight::{Pending, Request};
use crate::backend::{Lane, LaneEvent, Pool, Ticket};
use crate::config::Config;
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frame::{Frame, MAX_IDLE_CAPACITY};
use crate::socket::{PollSet, readable};
use crate::sys::memory::Memory;

/// Maximum number of messages that are taken from one socket before the others have their turn.
const BURST: usize = 32;

/// Time that the loop may go on without polling, and so without noticing the stop, while there is
/// work.
const MAX_UNPOLLED: Duration = Duration::from_millis(1);

pub(crate) struct Proxy {
    frontend: Frontend,
    lanes: Vec<Lane>,
    dispatcher: Dispatcher,
    /// A buffer for what comes in.
    request: Request,
    /// A buffer for what a lane gives.
    reply: Vec<Frame>,
    /// Time that a client has to take its error reply.
    timeout: Duration,
    drain: Drain,
    memory: Memory,
    now: Instant,
    /// When to poll next though there is work.
    poll_at: Instant,
}

/// What wakes the loop, other than time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    Stop,
    /// A worker's thread has ended.
    WorkerEnded,
    /// A worker takes requests again, or none any more: its lane's admission tells.
    WorkerChanged,
    Message,
}

impl Proxy {
    pub fn new(frontend: Frontend, lanes: Vec<Lane>, config: &Config) -> Proxy {
        let now = Instant::now();
        Proxy {
            frontend,
            dispatcher: Dispatcher::new(lanes.len(), config.timeout, config.retries),
            lanes,
            request: Request::default(),
            reply: Vec::new(),
            timeout: config.timeout,
            drain: Drain::new(config.drain),
            memory: Memory::new(now),
            now,
            poll_at: now,
        }
    }

    /// Returns the endpoints as the system has them.
    pub fn endpoints(&self) -> &[String] {
        self.frontend.endpoints()
    }

    /// Serves until one of `stops` is readable, and then until what is in flight has ended or the
    /// drain's time is up. `pool` is that of the workers of this process, if it has some.
    ///
    /// # Errors
    /// A worker that has ended, or a socket that has failed.
    pub fn run(mut self, stops: &[BorrowedFd<'_>], pool: Option<&Pool>) -> Result<Stopped, Error> {
        loop {
            match self.wait(stops, pool)? {
                Some(Wake::WorkerEnded) => {
                    self.finish()?;
                    return Err(Error::failed("a worker has ended").with_remedy("start repd again"));
                }
                Some(Wake::Stop) => self.begin_drain(),
                Some(Wake::WorkerChanged | Wake::Message) | None => (),
            }
            // Replies first: they free lanes. Then the deadlines, so that nothing is sent that has
            // passed its own. What waits in the wrong place is taken back before lanes are given
            // more. Requests that wait already go before new ones. Kept replies come last: what has
            // been read meanwhile may have made capacity for them.
            self.take_events()?;
            self.expire()?;
            self.recall();
            self.dispatch()?;
            self.take_requests()?;
            self.log_changes();
            self.frontend.retry(self.now)?;
            self.memory.trim_if_due(self.now);
            if self.drain.has_begun() && self.drain.is_over(self.now, self.is_answered()) {
                return self.finish();
            }
        }
    }

    /// Waits for messages or a deadline; returns the most important of what has woken the loop.
    fn wait(
        &mut self,
        stops: &[BorrowedFd<'_>],
        pool: Option<&Pool>,
    ) -> Result<Option<Wake>, Error> {
        let accepts = self.dispatcher.accepts(&self.lanes, self.now);
        let has_more = (accepts && self.frontend.may_have_more())
            || self.lanes.iter().any(Lane::may_have_more);
        if has_more && self.now < self.poll_at {
            self.now = Instant::now();
            return Ok(None);
        }
        // What is left over is not always told by a poll item.
        let deadline = if has_more { Some(self.now) } else { self.next_deadline() };
        let time = deadline.map(|time| time.saturating_duration_since(self.now));
        let mut poll = PollSet::with_capacity(self.lanes.len() + 8);
        if !self.drain.has_begun() {
            poll.add(Wake::Stop, stops.iter().map(readable));
        }
        if let Some(pool) = pool {
            poll.add(Wake::WorkerEnded, [readable(pool.ended())]);
            poll.add(Wake::WorkerChanged, [readable(pool.changed())]);
        }
        if accepts {
            poll.add(Wake::Message, [self.frontend.readable()]);
        }
        for lane in &self.lanes {
            poll.add(Wake::Message, lane.watched());
        }
        poll.wait(time)?;
        if let (Some(pool), true) = (pool, poll.is_readable(Wake::WorkerChanged)) {
            let _ = pool.changed().read(&mut [0; 64]);
        }
        let order = [Wake::WorkerEnded, Wake::Stop, Wake::WorkerChanged, Wake::Message];
        let woken = order.into_iter().find(|wake| poll.is_readable(*wake));
        drop(poll);
        self.now = Instant::now();
        self.poll_at = self.now + MAX_UNPOLLED;
        Ok(woken)
    }

    /// Returns when something is next to be done though no message comes.
    fn next_deadline(&self) -> Option<Instant> {
        let lanes = self.lanes.iter().filter_map(|lane| lane.next_deadline(self.now)).min();
        let times = [
            self.dispatcher.next_deadline(&self.lanes, self.now),
            lanes,
            self.frontend.outbox().retry_at(),
            self.drain.next_deadline(self.now),
            Some(self.memory.trim_at()),
        ];
        times.into_iter().flatten().min()
    }

    fn begin_drain(&mut self) {
        let busy = self.lanes.iter().filter(|lane| lane.in_flight() > 0).count();
        let in_flight = self.dispatcher.in_flight().len();
        info!("stopping: requests in flight: {in_flight}, workers busy: {busy}");
        self.frontend.begin_drain();
        self.dispatcher.begin_drain();
        self.drain.begin(self.now);
    }

    /// Returns true if nothing is in flight or unsent. A worker that is past its deadline gets the
    /// drain's time to end too; who asks meanwhile is refused.
    fn is_answered(&self) -> bool {
        self.lanes.iter().all(|lane| lane.in_flight() == 0)
            && self.dispatcher.in_flight().is_empty()
            && self.frontend.outbox().is_empty()
    }

    fn take_events(&mut self) -> Result<(), Error> {
        for lane in 0..self.lanes.len() {
            for _ in 0..BURST {
                match self.lanes[lane].next_event(&mut self.reply, self.now)? {
                    Some(LaneEvent::Reply(ticket)) => self.on_reply(ticket, lane)?,
                    Some(LaneEvent::Lost(ticket)) => self.on_lost(ticket, lane)?,
                    Some(LaneEvent::Ignored) => (),
                    None => break,
                }
            }
        }
        // A late or an ignored reply is still there.
        self.reply.clear();
        self.reply.shrink_to(MAX_IDLE_CAPACITY);
        Ok(())
    }

    fn on_reply(&mut self, ticket: Ticket, lane: usize) -> Result<(), Error> {
        let Some(pending) = self.dispatcher.on_reply(ticket) else {
            // A worker that ends its program at the deadline says the same: that is no reply.
            if Fault::code_of(&self.reply) != Some(Code::TIMEOUT) {
                debug!("lane {}: reply dropped: it came after the deadline", lane + 1);
                self.frontend.stats.late += 1;
            }
            return Ok(());
        };
        let until = pending.deadline;
        deliver(&mut self.frontend, pending, &mut self.reply, until, self.now)
    }

    fn on_lost(&mut self, ticket: Ticket, lane: usize) -> Result<(), Error> {
        let Lost::GivenUp(pending) = self.dispatcher.on_lost(ticket, lane) else { return Ok(()) };
        let until = self.now + self.timeout;
        deliver(&mut self.frontend, pending, &mut self.reply, until, self.now)
    }

    fn take_requests(&mut self) -> Result<(), Error> {
        for _ in 0..BURST {
            if !self.dispatcher.accepts(&self.lanes, self.now) {
                break;
            }
            match self.frontend.receive(&mut self.request)? {
                Received::Nothing => return Ok(()),
                Received::Malformed => (),
                Received::TooLarge(fault) => self.refuse(&fault)?,
                Received::Request => {
                    match self.dispatcher.on_request(&mut self.request, &self.lanes, self.now) {
                        Ok(()) => self.dispatch()?,
                        Err(fault) => self.refuse(&fault)?,
                    }
                }
            }
            self.drain.on_request(self.now);
        }
        Ok(())
    }

    /// Answers the request that was just read with an error.
    fn refuse(&mut self, fault: &Fault) -> Result<(), Error> {
        debug!("answered {fault}");
        self.request.body.clear();
        let envelope = &mut self.request.envelope;
        self.frontend.reply(envelope, &mut fault.to_frames(), self.now + self.timeout, self.now)
    }

    /// Sends the waiting requests to the lanes that the dispatcher assigns, or refuses them if no
    /// lane is available.
    fn dispatch(&mut self) -> Result<(), Error> {
        while let Some(next) = self.dispatcher.next_assignment(&self.lanes, self.now) {
            let body = self.dispatcher.body_mut(next.ticket);
            if self.lanes[next.lane].send(next.ticket, body, next.keep, self.now)? {
                self.frontend.stats.retried += u64::from(next.lost_on.is_some());
            } else {
                self.dispatcher.on_unsent(next);
            }
        }
        for (ticket, fault) in self.dispatcher.refuse_waiting(&self.lanes, self.now) {
            self.give_up(ticket, &fault)?;
        }
        Ok(())
    }

    fn recall(&mut self) {
        for lane in 0..self.lanes.len() {
            if self.dispatcher.should_recall(lane, &self.lanes, self.now) {
                let revoked = self.lanes[lane].recall(self.now);
                self.dispatcher.on_revoked(revoked);
            }
        }
    }

    /// Tells the clients of requests whose deadline has passed.
    fn expire(&mut self) -> Result<(), Error> {
        let overdue = self.dispatcher.overdue(self.now);
        for &ticket in &overdue {
            self.give_up(ticket, &Fault::timeout())?;
            for (lane, number) in self.lanes.iter_mut().zip(1..) {
                if lane.on_deadline(ticket, self.now) {
                    warn!("worker {number}: its request has passed the deadline");
                }
            }
        }
        if !overdue.is_empty() {
            // The last lane may be stuck now, which the log should tell before the next request
            // comes.
            self.dispatcher.on_lane_changed(&self.lanes, self.now);
        }
        Ok(())
    }

    fn give_up(&mut self, ticket: Ticket, fault: &Fault) -> Result<(), Error> {
        let Some(pending) = self.dispatcher.give_up(ticket) else { return Ok(()) };
        debug!("answered {fault}");
        let until = self.now + self.timeout;
        deliver(&mut self.frontend, pending, &mut fault.to_frames(), until, self.now)
    }

    fn log_changes(&mut self) {
        while let Some(change) = self.dispatcher.next_change() {
            match change {
                Change::Refusing(why) => warn!("{why}: requests are refused"),
                Change::Answering => info!("requests are answered again"),
            }
        }
    }

    /// Answers the requests that are left with a 503, and closes the frontend.
    fn finish(mut self) -> Result<Stopped, Error> {
        for ticket in self.dispatcher.in_flight().all() {
            self.frontend.stats.abandoned += 1;
            self.give_up(ticket, &Fault::stopping())?;
        }
        self.frontend.close(self.drain.linger(self.now))
    }
}

/// Sends the reply to a request, and leaves the request's buffers to the next.
fn deliver(
    frontend: &mut Frontend,
    pending: &mut Pending,
    reply: &mut [Frame],
    until: Instant,
    now: Instant,
) -> Result<(), Error> {
    let envelope = &mut pending.request.envelope;
    frontend.reply(envelope, reply, until, now)?;
    // If the client is gone, its frames are still there.
    envelope.clear();
    envelope.shrink_to(MAX_IDLE_CAPACITY);
    Ok(())
}
