//! The loop: frontend, lanes, tickets, deadlines. It never opens a body.

use std::collections::VecDeque;
use std::io::PipeReader;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use crate::config::Config;
use crate::drain::Drain;
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frame::FEW_FRAMES;
use crate::frontend::{Frontend, Received, Request, Stopped};
use crate::lane::Lane;
use crate::socket::{readable, wait};
use crate::tally::Tally;
use crate::ticket::{Pending, Ticket, Tickets};

/// How many messages are taken from one socket before the others have their turn.
const BURST: usize = 32;

/// How long the loop goes on without a wait, and so without a look at the stop, while there is work.
const LOOK: Duration = Duration::from_millis(1);

pub(crate) struct Proxy {
    frontend: Frontend,
    /// What comes in, before it has a ticket.
    request: Request,
    lanes: Vec<Lane>,
    /// The lanes' indices, the most recently used first.
    recent: Vec<usize>,
    tickets: Tickets,
    /// Requests that are in no lane: taken back, or not yet sent.
    waiting: VecDeque<Ticket>,
    timeout: Duration,
    drain: Drain,
    tally: Tally,
    now: Instant,
    /// When the next look is due though there is work.
    look_at: Instant,
}

impl Proxy {
    pub fn new(frontend: Frontend, lanes: Vec<Lane>, config: &Config) -> Proxy {
        Proxy {
            frontend,
            request: Request::default(),
            recent: (0..lanes.len()).collect(),
            lanes,
            tickets: Tickets::default(),
            waiting: VecDeque::new(),
            timeout: config.timeout,
            drain: Drain::new(config.drain),
            tally: Tally::default(),
            now: Instant::now(),
            look_at: Instant::now(),
        }
    }

    /// The endpoints as the system has them.
    pub fn endpoints(&self) -> &[String] {
        self.frontend.endpoints()
    }

    /// Serves until `stop` is readable and what is in flight has ended, or the drain's time is up.
    ///
    /// `lost` becomes readable when a worker has ended, which none may.
    pub fn run(mut self, stop: &impl AsFd, lost: &PipeReader) -> Result<Stopped, Error> {
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
    fn wait(&mut self, stop: &impl AsFd, lost: &PipeReader) -> Result<(bool, bool), Error> {
        let accepts = self.accepts();
        let works = (accepts && self.frontend.may_have_more())
            || self.lanes.iter().any(Lane::may_have_more);
        if works && self.now < self.look_at {
            self.now = Instant::now();
            return Ok((false, false));
        }
        let time = self.wait_for();
        let mut watched = Vec::with_capacity(self.lanes.len() + 3);
        watched.push(readable(lost));
        if !self.drain.begun() {
            watched.push(readable(stop));
        }
        if accepts {
            watched.push(self.frontend.readable());
        }
        watched.extend(self.lanes.iter().filter(|lane| !lane.is_idle()).map(Lane::readable));
        wait(&mut watched, time)?;
        let lost = watched[0].is_readable();
        let stopping = !self.drain.begun() && watched[1].is_readable();
        self.now = Instant::now();
        self.look_at = self.now + LOOK;
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

    /// Whether some lane takes a request.
    fn has_room(&self) -> bool {
        self.lanes.iter().any(|lane| lane.takes(self.now))
    }

    /// Whether requests are refused, since nobody will take them.
    fn refuses(&self) -> bool {
        self.drain.begun() || self.all_stuck()
    }

    fn all_stuck(&self) -> bool {
        self.lanes.iter().all(|lane| lane.is_stuck(|ticket| self.tickets.contains(ticket)))
    }

    fn take_replies(&mut self) -> Result<(), Error> {
        let mut reply = Vec::new();
        for lane in 0..self.lanes.len() {
            for _ in 0..BURST {
                if self.lanes[lane].is_idle() {
                    break;
                }
                let Some(ticket) = self.lanes[lane].receive(&mut reply, self.now)? else { break };
                // Nobody's was taken back: another lane has it.
                let Some(ticket) = ticket else { continue };
                match self.tickets.remove(ticket) {
                    Some(Pending { request, deadline }) => {
                        self.tally.replies += 1;
                        let envelope = &mut request.envelope;
                        if !self.frontend.reply(envelope, &mut reply, *deadline, self.now)? {
                            self.tally.client_gone();
                        }
                        // Those of a client that is gone are left.
                        envelope.clear();
                        envelope.shrink_to(FEW_FRAMES);
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
            match self.frontend.receive(&mut self.request)? {
                Received::Nothing => return Ok(()),
                Received::Malformed => self.tally.malformed(),
                Received::TooManyFrames => {
                    self.tally.requests += 1;
                    let request = std::mem::take(&mut self.request);
                    self.refuse(request, &Fault::too_many_frames())?;
                }
                Received::Request => {
                    self.tally.requests += 1;
                    self.admit()?;
                }
            }
            self.drain.heard(self.now);
        }
        Ok(())
    }

    /// Takes on the request that has come in, or refuses it.
    fn admit(&mut self) -> Result<(), Error> {
        let fault = if self.drain.begun() {
            Fault::stopping()
        } else if self.all_stuck() {
            Fault::new(Code::Unavailable, "every worker is stuck in a request")
        } else {
            let ticket = self.tickets.insert(&mut self.request, self.now + self.timeout);
            self.waiting.push_back(ticket);
            return self.dispatch();
        };
        let request = std::mem::take(&mut self.request);
        self.refuse(request, &fault)
    }

    /// Gives waiting requests to lanes: each to the most recently used one that may take it.
    fn dispatch(&mut self) -> Result<(), Error> {
        while let Some(&ticket) = self.waiting.front() {
            let Some(pending) = self.tickets.get_mut(ticket) else {
                // Its deadline has passed.
                self.waiting.pop_front();
                continue;
            };
            let takes = |&lane: &usize| self.lanes[lane].takes(self.now);
            let Some(place) = self.recent.iter().position(takes) else { break };
            self.recent[..=place].rotate_right(1);
            self.lanes[self.recent[0]].send(ticket, &mut pending.request.body, self.now)?;
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
        match self.tickets.remove(ticket).map(|pending| std::mem::take(&mut pending.request)) {
            Some(request) => self.refuse(request, fault),
            None => Ok(()),
        }
    }

    fn refuse(&mut self, mut request: Request, fault: &Fault) -> Result<(), Error> {
        self.tally.refused += 1;
        debug!("answered {fault}");
        let until = self.now + self.timeout;
        let envelope = &mut request.envelope;
        if !self.frontend.reply(envelope, &mut fault.to_frames(), until, self.now)? {
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
