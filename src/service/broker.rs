//! What the proxy and the single-threaded server have in common: requests come in from the
//! frontend, are queued and bounded, and replies go out. It never opens a body.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::account::{ClientLimits, holds_too_much};
use super::dispatcher::{Change, Dispatcher, Rules, all_unavailable};
use super::drain::Drain;
use super::figures::Figures;
use super::frontend::{Frontend, Received, Stopped};
use super::handshake::Handshake;
use super::manager::Manager;
use super::naming::Naming;
use super::request::{Place, Request};
use super::trace;
use crate::auth::Access;
use crate::backend::LaneState;
use crate::config::Config;
use crate::error::Error;
use crate::fault::Fault;
use crate::frame::{Frame, MAX_IDLE_CAPACITY};
use crate::logging::Event;
use crate::sys::memory::Memory;

mod ending;
mod lists;
mod replies;
mod telling;

pub(crate) struct Broker {
    pub frontend: Frontend,
    pub dispatcher: Dispatcher,
    pub drain: Drain,
    pub manager: Manager,
    /// A buffer for what comes in.
    request: Request,
    /// Clients may ask only so often, by the service's own limit.
    has_rate: bool,
    /// A listed client may.
    has_listed_rate: bool,
    /// Who the clients are, if they have keys.
    access: Option<Arc<Access>>,
    /// A SIGHUP has lists read again.
    has_lists: bool,
    naming: Naming,
    /// The routing ids of the clients that are no longer listed, and whose last replies have not
    /// left yet.
    dismissed: Vec<Vec<u8>>,
    /// Time that a client has to take its error reply.
    timeout: Duration,
    /// Maximum number of bytes that requests and unsent replies may take.
    max_memory: usize,
    memory: Memory,
    /// Measured only where somebody may ask for it.
    figures: Option<Box<Figures>>,
    /// A request was answered at once, and how long that took is not known yet.
    is_untimed: bool,
    pub now: Instant,
}

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Nothing,
    /// A message that is answered already, or that was no request.
    Refused,
    /// A request that no lane can take now.
    Queued,
    /// A request, for the dispatcher to assign.
    Request,
}

/// Returns the error of a service that has lost a thread it needs.
pub(crate) fn thread_ended() -> Error {
    Error::failed("a thread of the service has ended").with_remedy("start repd again")
}

impl Broker {
    /// Makes a broker over that many lanes.
    pub fn new(
        frontend: Frontend,
        access: Option<Arc<Access>>,
        lanes: usize,
        config: &Config,
    ) -> Broker {
        let now = Instant::now();
        let client_limits = ClientLimits {
            outstanding: config.client_outstanding,
            rate: config.client_rate.and_then(|rate| u32::try_from(rate).ok()),
        };
        let rules = Rules {
            timeout: config.timeout,
            retries: config.retries,
            hedge: config.hedge,
            client_limits,
            tells_withdrawn: trace::is_on(),
        };
        Broker {
            frontend,
            dispatcher: Dispatcher::new(lanes, rules, now),
            drain: Drain::new(config.drain),
            manager: Manager::none(),
            request: Request::default(),
            has_rate: client_limits.rate.is_some(),
            has_listed_rate: access.as_ref().is_some_and(|access| access.has_rates()),
            has_lists: config.keys.has_lists(),
            access,
            naming: Naming::of(config),
            dismissed: Vec::new(),
            timeout: config.timeout,
            max_memory: config.max_memory_bytes(),
            memory: Memory::new(now),
            figures: config.status.as_ref().map(|_| Box::new(Figures::new(lanes))),
            is_untimed: false,
            now,
        }
    }

    /// Has the service manager told of this service from now on, which is ready.
    pub fn report_to(&mut self, manager: Manager, lanes: &[impl LaneState]) {
        self.manager = manager;
        let now = Instant::now();
        self.manager.on_ready(all_unavailable(lanes, now), now);
    }

    /// Takes account of a lane of which nothing is known: a new one, or in the place of one that has
    /// ended.
    pub fn on_new_lane(&mut self, lane: usize) {
        self.dispatcher.on_new_lane(lane);
        if let Some(figures) = &mut self.figures {
            figures.on_new_lane(lane);
        }
    }

    /// Returns when something is next to be done though no message comes.
    pub fn next_deadline(&self, lanes: &[impl LaneState]) -> Option<Instant> {
        let times = [
            self.dispatcher.next_deadline(lanes, self.now),
            self.frontend.outbox().retry_at(),
            self.drain.next_deadline(self.now),
            self.manager.next_deadline(),
            Some(self.memory.trim_at()),
        ];
        times.into_iter().flatten().min()
    }

    /// Takes the next message of a client.
    pub fn take_request(&mut self, lanes: &[impl LaneState]) -> Result<Taken, Error> {
        let taken = match self.frontend.receive(&mut self.request)? {
            Received::Nothing => return Ok(Taken::Nothing),
            Received::Malformed => Taken::Refused,
            Received::TooLarge(fault) => self.refuse(&fault)?,
            Received::Request => {
                let (request, now) = (&mut self.request, self.now);
                let access = self.access.as_deref();
                trace::received(request, access);
                if let [first, ..] = &mut request.envelope[..] {
                    request.bytes += self.naming.put(first, &mut request.body, access);
                }
                let greet = |frame: &mut Frame| greet(frame, access);
                match self.dispatcher.on_request(request, greet, lanes, now) {
                    Ok(Place::Queue) => Taken::Queued,
                    Ok(_) => Taken::Request,
                    Err(fault) => self.refuse(&fault)?,
                }
            }
        };
        self.drain.on_request(self.now);
        self.bound_memory()?;
        Ok(taken)
    }

    /// Receives the next message of a client, and answers it at once with what `handle` makes of its
    /// body; returns false if there is none. It does not count in the limits of its client.
    pub fn answer_at_once(
        &mut self,
        handle: impl FnOnce(Vec<Frame>) -> Result<Vec<Frame>, Error>,
    ) -> Result<bool, Error> {
        match self.frontend.receive(&mut self.request)? {
            Received::Nothing => return Ok(false),
            Received::Malformed => (),
            Received::TooLarge(fault) => _ = self.refuse(&fault)?,
            Received::Request => {
                let received_at = trace::is_on().then(Instant::now);
                trace::received(&mut self.request, self.access.as_deref());
                if let [first, ..] = &mut self.request.envelope[..] {
                    let access = self.access.as_deref();
                    self.naming.put(first, &mut self.request.body, access);
                    if self.figures.is_some() || trace::is_on() {
                        self.dispatcher.count_at_once(first, |frame| greet(frame, access));
                    }
                }
                let body = std::mem::take(&mut self.request.body);
                self.request.body = handle(body)?;
                self.is_untimed = self.figures.is_some();
                let Request { number, envelope, body, .. } = &mut self.request;
                if let Some(received_at) = received_at {
                    trace::answered(*number, body, received_at.elapsed());
                }
                let until = self.now + self.timeout;
                let sent = self.frontend.reply(envelope, body, until, self.now)?;
                trace::delivered(*number, sent);
                self.bound_memory()?;
            }
        }
        Ok(true)
    }

    /// Takes account of the time since `before`, in which a request may have been answered at once.
    pub fn on_time(&mut self, before: Instant) {
        if let (Some(figures), true) = (&mut self.figures, std::mem::take(&mut self.is_untimed)) {
            figures.on_answered_at_once(before, self.now);
        }
    }

    /// Returns true if each request must be looked at before it is answered: clients may ask only so
    /// often, or not any more.
    pub fn is_selective(&self) -> bool {
        self.has_rate || self.has_listed_rate || !self.dismissed.is_empty()
    }

    /// Answers the request that was just read with an error.
    fn refuse(&mut self, fault: &Fault) -> Result<Taken, Error> {
        let Request { number, envelope, body, .. } = &mut self.request;
        body.clear();
        let mut reply = fault.to_frames();
        if trace::is_on() {
            trace::answered(*number, &reply, self.now.elapsed());
        }
        let until = self.now + self.timeout;
        let sent = self.frontend.reply(envelope, &mut reply, until, self.now)?;
        trace::delivered(*number, sent);
        Ok(Taken::Refused)
    }

    /// Makes room if requests and unsent replies take too much: who holds most loses something
    /// first.
    fn bound_memory(&mut self) -> Result<(), Error> {
        loop {
            let held = self.dispatcher.bytes() + self.frontend.outbox().bytes();
            let is_too_much = |bytes| holds_too_much(bytes, held, self.max_memory);
            if !is_too_much(held) {
                return Ok(());
            }
            let unsent = self.frontend.outbox().most_bytes();
            match self.dispatcher.greediest() {
                Some((bytes, ticket)) if bytes >= unsent && is_too_much(bytes) => {
                    self.give_up(ticket, &Fault::overloaded())?;
                }
                _ if unsent > 0 && is_too_much(unsent) => self.frontend.drop_unsent(),
                _ => return Ok(()),
            }
        }
    }

    /// Takes account of the clients that have gone.
    pub fn forget_gone(&mut self) -> Result<(), Error> {
        while let Some(routing_id) = self.frontend.next_gone()? {
            if trace::is_on() {
                let handshake = self.dispatcher.handshake(&routing_id);
                handshake.and_then(|it| it.sender.as_ref()).into_iter().for_each(trace::gone);
            }
            self.dispatcher.on_gone(&routing_id, self.now);
        }
        Ok(())
    }

    /// Takes a buffer that is not needed any more, in the place of one that was taken.
    pub fn recycle(&mut self, mut body: Vec<Frame>) {
        body.clear();
        body.shrink_to(MAX_IDLE_CAPACITY);
        if self.request.body.capacity() == 0 {
            self.request.body = body;
        }
    }

    /// Does what is due at the end of a turn: the log, the service manager, kept replies, memory.
    pub fn end_turn(&mut self, lanes: &[impl LaneState]) -> Result<(), Error> {
        self.dispatcher.on_turn(lanes, self.now);
        while let Some(change) = self.dispatcher.next_change() {
            match change {
                Change::Refusing(why) => {
                    warn!(event = Event::NotReady; "{why}: requests are refused");
                }
                Change::Answering => info!(event = Event::Ready; "requests are answered again"),
                Change::Withdrawn(number) => trace::withdrawn(number),
            }
        }
        if self.manager.is_look_due(self.now) {
            self.manager.on_look(all_unavailable(lanes, self.now), self.now);
        }
        self.manager.on_turn(self.now);
        self.frontend.retry(self.now)?;
        if !self.dismissed.is_empty() {
            self.end_dismissed()?;
        }
        if self.now >= self.memory.trim_at() {
            self.dispatcher.shrink();
            // It tells what it has left out, and nothing has followed.
            log::logger().flush();
        }
        self.memory.trim_if_due(self.now);
        Ok(())
    }
}

/// Reads what a client that is new has said of itself, and tells that it has come.
fn greet(first: &mut Frame, access: Option<&Access>) -> Handshake {
    let handshake = Handshake::of(first, access);
    handshake.sender.iter().for_each(trace::came);
    handshake
}
