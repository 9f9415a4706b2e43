//! The single-threaded server: a ROUTER, and the handler called in its loop.
//!
//! It is no REP, as in the classic program: that drops a reply without a word when its client does
//! not take it yet.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use log::{debug, info};

use crate::config::Config;
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::handler::{NewHandler, WorkerHandler};
use crate::service::drain::Drain;
use crate::service::frontend::{Frontend, Received, Stopped};
use crate::service::in_flight::Request;
use crate::socket::{PollSet, readable};
use crate::sys::memory::Memory;

/// Time in which requests are answered before the loop looks at the stop and at the kept replies.
const BURST: Duration = Duration::from_millis(10);

pub(crate) struct SingleThreaded {
    frontend: Frontend,
    /// A buffer for the request, whose body becomes the reply.
    request: Request,
    handler: WorkerHandler,
    /// Time for which a reply is kept that its client does not take.
    timeout: Duration,
    drain: Drain,
    memory: Memory,
    now: Instant,
}

/// What wakes the loop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    Message,
    Maintenance,
    Stop,
}

impl SingleThreaded {
    /// Makes the server.
    ///
    /// # Errors
    /// A handler that cannot be made.
    pub fn new(
        frontend: Frontend,
        new_handler: NewHandler,
        config: &Config,
    ) -> Result<SingleThreaded, Error> {
        Ok(SingleThreaded {
            frontend,
            request: Request::default(),
            handler: WorkerHandler::new(0, new_handler)?,
            timeout: config.timeout,
            drain: Drain::new(config.drain),
            memory: Memory::new(Instant::now()),
            now: Instant::now(),
        })
    }

    /// Returns the endpoints as the system has them, with the ports that it chose.
    pub fn endpoints(&self) -> &[String] {
        self.frontend.endpoints()
    }

    /// Serves until one of `stops` is readable, and then until nothing more comes. Returns the
    /// handler too, whose end may take its time.
    pub fn run(mut self, stops: &[BorrowedFd<'_>]) -> Result<(Stopped, WorkerHandler), Error> {
        loop {
            let retry_at = if self.handler.is_ready() { None } else { self.handler.maintain() };
            let memory = Some(self.memory.trim_at());
            let times = [
                retry_at,
                self.frontend.outbox().retry_at(),
                self.drain.next_deadline(self.now),
                memory,
            ];
            let next = times.into_iter().flatten().min();
            let time = next.map(|next| next.saturating_duration_since(self.now));
            let watched = self.handler.watched();
            let mut poll = PollSet::with_capacity(8);
            poll.add(Wake::Message, [self.frontend.readable()]);
            poll.add(Wake::Maintenance, watched.iter().map(readable));
            if !self.drain.has_begun() {
                poll.add(Wake::Stop, stops.iter().map(readable));
            }
            poll.wait(time)?;
            let needs_maintenance = poll.is_readable(Wake::Maintenance);
            let is_stopping = poll.is_readable(Wake::Stop);
            drop(poll);
            drop(watched);
            if needs_maintenance {
                self.handler.maintain();
            }
            self.now = Instant::now();
            if is_stopping {
                info!("stopping");
                self.frontend.begin_drain();
                self.drain.begin(self.now);
            }
            let burst_ends = self.now + BURST;
            while self.now < burst_ends && self.answer_one()? {}
            self.frontend.retry(self.now)?;
            self.memory.trim_if_due(self.now);
            if self.drain.is_over(self.now, self.frontend.outbox().is_empty()) {
                let stopped = self.frontend.close(self.drain.linger(self.now))?;
                return Ok((stopped, self.handler));
            }
        }
    }

    /// Answers the next request; returns false if there is none.
    fn answer_one(&mut self) -> Result<bool, Error> {
        match self.frontend.receive(&mut self.request)? {
            Received::Nothing => return Ok(false),
            Received::Malformed => {
                // A burst of such messages must end too.
                self.now = Instant::now();
                return Ok(true);
            }
            Received::TooLarge(fault) => self.refuse(&fault),
            Received::Request if self.drain.has_begun() => self.refuse(&Fault::stopping()),
            Received::Request if !self.get_ready() => {
                self.refuse(&Fault::new(Code::UNAVAILABLE, "the program is not running"));
            }
            Received::Request => {
                let body = std::mem::take(&mut self.request.body);
                self.request.body = self.handler.answer(body)?.reply;
            }
        }
        self.now = Instant::now();
        self.drain.on_request(self.now);
        let until = self.now + self.timeout;
        let Request { envelope, body } = &mut self.request;
        self.frontend.reply(envelope, body, until, self.now)?;
        Ok(true)
    }

    /// Returns true if the handler can take a request, if need be after its maintenance.
    fn get_ready(&mut self) -> bool {
        if !self.handler.is_ready() {
            self.handler.maintain();
        }
        self.handler.is_ready()
    }

    fn refuse(&mut self, fault: &Fault) {
        debug!("answered {fault}");
        self.request.body = fault.to_frames();
    }
}
