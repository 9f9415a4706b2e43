//! The loop: frontend, lanes, tickets, deadlines. It never opens a body.

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use crate::backend::{Lane, Pool, Ticket};
use crate::config::Config;
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frame::FEW_FRAMES;
use crate::service::drain::Drain;
use crate::service::frontend::{Frontend, Received, Stopped};
use crate::service::in_flight::{Pending, Request, Tickets};
use crate::socket::{readable, wait};
use crate::sys::memory::Memory;

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
    retries: usize,
    drain: Drain,
    memory: Memory,
    /// That requests are refused was said, and not yet that they are answered again.
    refuses_all: bool,
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
            retries: config.retries,
            drain: Drain::new(config.drain),
            memory: Memory::new(Instant::now()),
            refuses_all: false,
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
    /// `pool` has the workers of this process, if it has some.
    pub fn run(mut self, stop: &impl AsFd, pool: Option<&Pool>) -> Result<Stopped, Error> {
        loop {
            let (stopping, lost) = self.wait(stop, pool)?;
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
            self.take_lost()?;
            self.expire()?;
            self.recall();
            self.dispatch()?;
            self.take_requests()?;
            self.frontend.retry(self.now)?;
            self.memory.look_after(self.now);
            // A worker past its deadline has time to end too, and who comes meanwhile is told.
            let idle = self.lanes.iter().all(Lane::owes_nothing);
            let answered = idle && self.tickets.is_empty() && self.frontend.outbox().is_empty();
            if self.drain.ends(self.now, answered) {
                return self.finish();
            }
        }
    }

    /// Waits for what can have something, and gives whether `stop` has, and whether a worker has ended.
    fn wait(&mut self, stop: &impl AsFd, pool: Option<&Pool>) -> Result<(bool, bool), Error> {
        let accepts = self.accepts();
        let works = (accepts && self.frontend.may_have_more())
            || self.lanes.iter().any(Lane::may_have_more);
        if works && self.now < self.look_at {
            self.now = Instant::now();
            return Ok((false, false));
        }
        let time = self.wait_for();
        let mut watched = Vec::with_capacity(self.lanes.len() + 4);
        if !self.drain.begun() {
            watched.push(readable(stop));
        }
        let of_pool = watched.len();
        watched
            .extend(pool.iter().flat_map(|pool| [readable(pool.ended()), readable(pool.news())]));
        if accepts {
            watched.push(self.frontend.readable());
        }
        self.lanes.iter().for_each(|lane| lane.watch(&mut watched));
        wait(&mut watched, time)?;
        let stopping = of_pool > 0 && watched[0].is_readable();
        let mut lost = false;
        if let Some(pool) = pool {
            lost = watched[of_pool].is_readable();
            if watched[of_pool + 1].is_readable() {
                // Which worker it is of is seen by its lane.
                let _ = pool.news().read(&mut [0; 64]);
            }
        }
        self.now = Instant::now();
        self.look_at = self.now + LOOK;
        Ok((stopping, lost))
    }

    /// How long nothing is to be done unless a message comes.
    fn wait_for(&self) -> Option<Duration> {
        let patience = self.lanes.iter().filter_map(Lane::patience_ends).min();
        // With no room elsewhere there is nowhere to go for what waits behind a slow request.
        let patience = patience.filter(|_| self.has_room());
        let change = self.lanes.iter().filter_map(|lane| lane.changes_at(self.now)).min();
        let retry = self.frontend.outbox().retry_at();
        let drain = self.drain.next(self.now);
        let memory = Some(self.memory.next());
        let times = [self.tickets.earliest(), patience, change, retry, drain, memory];
        let next = times.into_iter().flatten().min();
        next.map(|time| time.saturating_duration_since(self.now))
    }

    /// Whether a request is to be taken from the frontend: if it can go to a lane, or be refused.
    fn accepts(&self) -> bool {
        (self.waiting.is_empty() && self.has_room()) || self.refuses()
    }

    /// Whether some lane takes a request.
    fn has_room(&self) -> bool {
        self.lanes.iter().any(|lane| lane.takes_in_need(self.now).is_some())
    }

    /// Why nobody serves.
    fn no_one(&self) -> &'static str {
        if self.lanes.iter().all(Lane::is_remote) {
            "nobody is connected who could answer"
        } else if self.lanes.iter().all(|lane| lane.is_down(self.now)) {
            "there is no program to answer with"
        } else if self.lanes.iter().any(|lane| lane.is_down(self.now)) {
            "every worker is stuck in a request, or has no program to answer with"
        } else {
            "every worker is stuck in a request that has passed its deadline"
        }
    }

    /// Says in the log, once, why requests are refused, and gives what their clients are told.
    fn complain(&mut self) -> Fault {
        let why = self.no_one();
        if !std::mem::replace(&mut self.refuses_all, true) {
            warn!("{why}: requests are refused");
        }
        Fault::new(Code::Unavailable, why)
    }

    /// The lane for the next request, by its place among the recent ones: the most recently used one that
    /// takes it; if none does, the one that owes least of those that may be given more in need.
    fn choose(&self) -> Option<usize> {
        let takes = |&lane: &usize| self.lanes[lane].takes(self.now);
        let in_need = |(place, &lane): (usize, &usize)| {
            self.lanes[lane].takes_in_need(self.now).map(|cost| (cost, place))
        };
        let place = self.recent.iter().position(takes);
        place.or_else(|| {
            // Of equals the one that has had nothing for longest.
            let lanes = self.recent.iter().enumerate().rev().filter_map(in_need);
            lanes.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, place)| place)
        })
    }

    /// Whether requests are refused, since nobody will take them.
    fn refuses(&self) -> bool {
        self.drain.begun() || self.none_serves()
    }

    /// Whether every worker is stuck in a request that nobody waits for, or has nothing to answer with.
    fn none_serves(&self) -> bool {
        let is_stuck = |lane: &Lane| lane.is_stuck(|ticket| self.tickets.contains(ticket));
        self.lanes.iter().all(|lane| lane.is_down(self.now) || is_stuck(lane))
    }

    fn take_replies(&mut self) -> Result<(), Error> {
        let mut reply = Vec::new();
        for lane in 0..self.lanes.len() {
            for _ in 0..BURST {
                let Some(ticket) = self.lanes[lane].receive(&mut reply, self.now)? else { break };
                // Of nobody's another lane has the request, or it is no reply at all.
                let Some((ticket, is_lost)) = ticket else { continue };
                if is_lost && self.try_again(ticket) {
                    continue;
                }
                match self.tickets.remove(ticket) {
                    Some(Pending { request, deadline, .. }) => {
                        let envelope = &mut request.envelope;
                        self.frontend.reply(envelope, &mut reply, *deadline, self.now)?;
                        // Those of a client that is gone are left.
                        envelope.clear();
                        envelope.shrink_to(FEW_FRAMES);
                    }
                    None => {
                        // That a program has met the deadline too is no reply.
                        if Fault::code_of(&reply) != Some(Code::Timeout as u16) {
                            debug!("lane {}: reply dropped: it came after the deadline", lane + 1);
                            self.frontend.tally.late += 1;
                        }
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
                Received::Malformed => (),
                Received::TooLarge(fault) => {
                    let request = std::mem::take(&mut self.request);
                    self.refuse(request, &fault)?;
                }
                Received::Request => self.admit()?,
            }
            self.drain.heard(self.now);
        }
        Ok(())
    }

    /// Takes on the request that has come in, or refuses it.
    fn admit(&mut self) -> Result<(), Error> {
        let fault = if self.drain.begun() {
            Fault::stopping()
        } else if self.none_serves() {
            self.complain()
        } else {
            if std::mem::take(&mut self.refuses_all) {
                info!("requests are answered again");
            }
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
            if !self.tickets.contains(ticket) {
                // Its deadline has passed.
                self.waiting.pop_front();
                continue;
            }
            let Some(place) = self.choose() else { break };
            let Some(pending) = self.tickets.get_mut(ticket) else { break };
            self.recent[..=place].rotate_right(1);
            // The body of one that may be lost is needed again.
            let keep = pending.lost < self.retries;
            let body = &mut pending.request.body;
            if self.lanes[self.recent[0]].send(ticket, body, keep, self.now)? {
                self.waiting.pop_front();
            }
        }
        if !self.waiting.is_empty() && self.none_serves() {
            let (fault, lost) = (self.complain(), lost());
            for ticket in std::mem::take(&mut self.waiting) {
                let is_lost = self.tickets.get_mut(ticket).is_some_and(|pending| pending.lost > 0);
                self.give_up(ticket, if is_lost { &lost } else { &fault })?;
            }
        }
        Ok(())
    }

    /// Has others answer the requests that were lost with who was at them, or tells their clients.
    fn take_lost(&mut self) -> Result<(), Error> {
        for lane in 0..self.lanes.len() {
            for ticket in self.lanes[lane].take_lost(self.now)? {
                if !self.try_again(ticket) {
                    self.give_up(ticket, &lost())?;
                }
            }
        }
        Ok(())
    }

    /// Has a request that was lost wait for another worker, if it may be lost once more.
    fn try_again(&mut self, ticket: Ticket) -> bool {
        let Some(pending) = self.tickets.get_mut(ticket) else { return false };
        let again = pending.lost < self.retries;
        if again {
            pending.lost += 1;
            self.frontend.tally.retried += 1;
            self.waiting.push_back(ticket);
        }
        again
    }

    /// Takes back what waits behind a request that turned out to be slow, if there is room elsewhere;
    /// and what a worker will not begin, in any case.
    fn recall(&mut self) {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].is_closed() {
                self.waiting.extend(self.lanes[lane].recall(self.now));
            }
            let late = self.lanes[lane].patience_ends().is_some_and(|end| end <= self.now);
            if late && self.waiting.is_empty() && self.has_room() {
                self.waiting.extend(self.lanes[lane].recall(self.now));
            }
        }
    }

    /// Answers the requests whose deadline has passed, and takes back those that are not begun: nobody
    /// waits for them any more, or they have a chance elsewhere.
    fn expire(&mut self) -> Result<(), Error> {
        let overdue = self.tickets.overdue(self.now);
        for &ticket in &overdue {
            self.give_up(ticket, &Fault::timeout())?;
        }
        if overdue.is_empty() {
            return Ok(());
        }
        for (lane, number) in self.lanes.iter_mut().zip(1..) {
            for &ticket in &overdue {
                if lane.expire(ticket, self.now) {
                    warn!("worker {number}: its request has passed the deadline");
                }
            }
            if lane.is_stuck(|ticket| self.tickets.contains(ticket)) {
                self.waiting.extend(lane.recall(self.now));
            }
        }
        if self.none_serves() {
            self.complain();
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
        debug!("answered {fault}");
        let until = self.now + self.timeout;
        self.frontend.reply(&mut request.envelope, &mut fault.to_frames(), until, self.now)
    }

    /// Tells those who still wait that there will be no reply, and lets the replies leave.
    fn finish(mut self) -> Result<Stopped, Error> {
        for ticket in self.tickets.all() {
            self.frontend.tally.abandoned += 1;
            self.give_up(ticket, &Fault::stopping())?;
        }
        self.frontend.close(self.drain.linger(self.now))
    }
}

fn lost() -> Fault {
    Fault::new(Code::Lost, "what was to answer was lost before it replied")
}
