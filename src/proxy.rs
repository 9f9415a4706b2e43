//! The loop: frontend, lanes, tickets, deadlines. It never opens a body.

use std::collections::VecDeque;
use std::io::PipeReader;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use crate::config::Config;
use crate::drain::Drain;
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frame::Frame;
use crate::frontend::{Frontend, Received, Request, Stopped};
use crate::lane::{self, Lane};
use crate::outbox;
use crate::socket::{readable, wait};
use crate::tally::Tally;
use crate::ticket::{Pending, Ticket, Tickets};

/// How many messages are taken from one socket before the others have their turn.
const BURST: usize = 256;

/// The largest body of which a copy is kept, so that the request may be sent to wait behind another.
/// A larger one waits for a lane of its own: waking a worker costs less than the copy.
const LARGEST_COPY: usize = 16 << 10;

pub(crate) struct Proxy {
    frontend: Frontend,
    lanes: Vec<Lane>,
    /// The lanes' indices, the most recently used first.
    recent: Vec<usize>,
    tickets: Tickets,
    /// Requests that are in no lane: taken back, or too large to wait in one.
    waiting: VecDeque<Ticket>,
    timeout: Duration,
    drain: Drain,
    tally: Tally,
    now: Instant,
}

impl Proxy {
    pub fn new(frontend: Frontend, lanes: Vec<Lane>, config: &Config) -> Proxy {
        Proxy {
            frontend,
            recent: (0..lanes.len()).collect(),
            lanes,
            tickets: Tickets::default(),
            waiting: VecDeque::new(),
            timeout: config.timeout,
            drain: Drain::new(config.drain),
            tally: Tally::default(),
            now: Instant::now(),
        }
    }

    /// The endpoints as the system has them.
    pub fn endpoints(&self) -> &[String] {
        self.frontend.endpoints()
    }

    /// Serves until `stop` is readable and what is in flight has ended, or the drain's time is up.
    ///
    /// `lost` becomes readable when a worker has ended, which none may.
    pub fn run(mut self, stop: &impl AsRawFd, lost: &PipeReader) -> Result<Stopped, Error> {
        loop {
            let (stopping, lost) = self.wait(stop, lost)?;
            if lost {
                self.finish()?;
                return Err(Error::failed("a worker has ended").remedy("start repd again"));
            }
            if stopping && !self.drain.begun() {
                let busy = self.lanes.iter().filter(|lane| !lane.is_idle()).count();
                info!("stopping: requests in flight: {}, workers busy: {busy}", self.tickets.len());
                self.frontend.begin_drain();
                self.drain.begin(self.now);
            }
            self.take_replies()?;
            self.expire()?;
            self.recall();
            self.dispatch()?;
            self.take_requests()?;
            self.tally.gone += self.frontend.retry(self.now)?;
            // A worker past its deadline has time to end too, and who comes meanwhile is told.
            let idle = self.lanes.iter().all(Lane::is_idle);
            let answered = idle && self.tickets.is_empty() && self.frontend.outbox().is_empty();
            if self.drain.ends(self.now, answered) {
                return self.finish();
            }
        }
    }

    /// Waits for what can have something, and gives whether `stop` and `lost` have.
    fn wait(&mut self, stop: &impl AsRawFd, lost: &PipeReader) -> Result<(bool, bool), Error> {
        let time = self.wait_for();
        let mut items = Vec::with_capacity(self.lanes.len() + 3);
        items.push(readable(lost));
        if !self.drain.begun() {
            items.push(readable(stop));
        }
        if self.accepts() {
            items.push(self.frontend.readable());
        }
        items.extend(self.lanes.iter().filter(|lane| !lane.is_idle()).map(Lane::readable));
        wait(&mut items, time)?;
        let lost = items[0].is_readable();
        let stopping = !self.drain.begun() && !items[1].get_revents().is_empty();
        self.now = Instant::now();
        Ok((stopping, lost))
    }

    /// How long nothing is to be done unless a message comes.
    fn wait_for(&self) -> Option<Duration> {
        let patience = self.lanes.iter().filter_map(Lane::patience_ends).min();
        // With no room elsewhere there is nowhere to go for what waits behind a slow request.
        let patience = patience.filter(|_| self.has_room());
        let deadline = self.tickets.earliest();
        let times =
            [deadline, patience, self.frontend.outbox().retry_at(), self.drain.next(self.now)];
        let next = times.into_iter().flatten().min();
        next.map(|time| time.saturating_duration_since(self.now))
    }

    /// Whether a request is to be taken from the frontend: if it can go to a lane, or be refused.
    fn accepts(&self) -> bool {
        (self.waiting.is_empty() && self.has_room()) || self.refuses()
    }

    /// Whether some lane takes a request that is not too large to wait in it.
    fn has_room(&self) -> bool {
        self.lanes.iter().any(|lane| lane.takes(true, self.now))
    }

    /// Whether requests are refused, since nobody will take them.
    fn refuses(&self) -> bool {
        self.drain.begun() || self.all_stuck()
    }

    fn all_stuck(&self) -> bool {
        self.lanes.iter().all(|lane| lane.is_stuck(|ticket| self.tickets.contains(ticket)))
    }

    fn take_replies(&mut self) -> Result<(), Error> {
        for lane in 0..self.lanes.len() {
            for _ in 0..BURST {
                if self.lanes[lane].is_idle() {
                    break;
                }
                let Some(lane::Reply { ticket, body }) = self.lanes[lane].receive(self.now)? else {
                    break;
                };
                // None was taken back: another lane has it.
                let Some(ticket) = ticket else { continue };
                match self.tickets.remove(ticket) {
                    Some(pending) => {
                        self.tally.replies += 1;
                        self.reply(pending.request.envelope, body, pending.deadline)?;
                    }
                    None => {
                        debug!("worker {}: reply dropped: it came after the deadline", lane + 1);
                        self.tally.late += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_requests(&mut self) -> Result<(), Error> {
        for _ in 0..BURST {
            if !self.accepts() {
                break;
            }
            match self.frontend.receive()? {
                Received::Nothing => return Ok(()),
                Received::Malformed => self.tally.malformed(),
                Received::TooManyFrames(envelope) => {
                    self.tally.requests += 1;
                    self.refuse(envelope, &Fault::too_many_frames())?;
                }
                Received::Request(request) => {
                    self.tally.requests += 1;
                    self.admit(request)?;
                }
            }
            self.drain.heard(self.now);
        }
        Ok(())
    }

    fn admit(&mut self, request: Request) -> Result<(), Error> {
        if self.drain.begun() {
            return self.refuse(request.envelope, &Fault::stopping());
        }
        if self.all_stuck() {
            let fault = Fault::new(Code::Unavailable, "every worker is stuck in a request");
            return self.refuse(request.envelope, &fault);
        }
        let deadline = self.now + self.timeout;
        let ticket = self.tickets.insert(Pending { request, deadline });
        self.waiting.push_back(ticket);
        self.dispatch()
    }

    /// Gives waiting requests to lanes: each to the most recently used one that may take it.
    fn dispatch(&mut self) -> Result<(), Error> {
        while let Some(&ticket) = self.waiting.front() {
            let Some(pending) = self.tickets.get_mut(ticket) else {
                // Its deadline has passed.
                self.waiting.pop_front();
                continue;
            };
            let body = &mut pending.request.body;
            let copyable = body.iter().map(|frame| frame.len()).sum::<usize>() <= LARGEST_COPY;
            let takes = |&lane: &usize| self.lanes[lane].takes(copyable, self.now);
            let Some(place) = self.recent.iter().position(takes) else { break };
            self.recent[..=place].rotate_right(1);
            let lane = &mut self.lanes[self.recent[0]];
            let body = if lane.is_idle() {
                std::mem::take(body)
            } else {
                body.iter().map(Frame::copy).collect()
            };
            lane.send(ticket, body, self.now)?;
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Takes back what waits behind a request that turned out to be slow, if there is room elsewhere.
    fn recall(&mut self) {
        for lane in 0..self.lanes.len() {
            let late = self.lanes[lane].patience_ends().is_some_and(|end| end <= self.now);
            if late && self.waiting.is_empty() && self.has_room() {
                self.waiting.extend(self.lanes[lane].recall(self.now));
            }
        }
    }

    /// Answers the requests whose deadline has passed, and takes back those that are not begun: nobody
    /// waits for them any more, or they have a chance elsewhere.
    fn expire(&mut self) -> Result<(), Error> {
        let fault = Fault::new(Code::Timeout, "the deadline passed before the handler replied");
        let overdue = self.tickets.overdue(self.now);
        for &ticket in &overdue {
            self.tally.timeouts += 1;
            self.give_up(ticket, &fault)?;
        }
        if overdue.is_empty() {
            return Ok(());
        }
        for (lane, number) in self.lanes.iter_mut().zip(1..) {
            if lane.is_stuck(|ticket| self.tickets.contains(ticket)) {
                if overdue.iter().any(|&ticket| lane.is_at(ticket)) {
                    warn!("worker {number}: its request has passed the deadline, and goes on");
                }
                self.waiting.extend(lane.recall(self.now));
            }
        }
        if self.all_stuck() {
            warn!("every worker is past a deadline: requests are refused until one returns");
        }
        Ok(())
    }

    fn give_up(&mut self, ticket: Ticket, fault: &Fault) -> Result<(), Error> {
        match self.tickets.remove(ticket) {
            Some(pending) => self.refuse(pending.request.envelope, fault),
            None => Ok(()),
        }
    }

    fn refuse(&mut self, envelope: Vec<Frame>, fault: &Fault) -> Result<(), Error> {
        self.tally.refused += 1;
        debug!("answered {fault}");
        self.reply(envelope, fault.to_frames(), self.now + self.timeout)
    }

    fn reply(
        &mut self,
        envelope: Vec<Frame>,
        body: Vec<Frame>,
        until: Instant,
    ) -> Result<(), Error> {
        if !self.frontend.reply(outbox::Reply { envelope, body, until }, self.now)? {
            self.tally.client_gone();
        }
        Ok(())
    }

    /// Tells those who still wait that there will be no reply, and lets the replies leave.
    fn finish(mut self) -> Result<Stopped, Error> {
        for ticket in self.tickets.all() {
            self.tally.abandoned += 1;
            self.give_up(ticket, &Fault::stopping())?;
        }
        self.frontend.close(self.tally, self.drain.linger(self.now))
    }
}
