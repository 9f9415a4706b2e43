//! The single-threaded server: the ROUTER alone, the handler called in its loop.
//!
//! Not a REP, as in the classic program: a REP drops a reply without a word when its client's
//! connection has no room.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use log::{debug, info};

use crate::config::Config;
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::handler::Answer;
use crate::service::drain::Drain;
use crate::service::frontend::{Frontend, Received, Stopped};
use crate::service::in_flight::Request;
use crate::socket::{Watched, readable, wait};
use crate::sys::memory::Memory;

/// How long requests are answered before it is looked whether the service is to stop, and whether
/// clients take the replies that are kept for them.
const BURST: Duration = Duration::from_millis(10);

pub(crate) struct Single {
    frontend: Frontend,
    /// The request that is being answered, whose body becomes the reply.
    request: Request,
    answers: Box<dyn Answer>,
    /// How long a reply is kept for a client that does not take it.
    timeout: Duration,
    drain: Drain,
    memory: Memory,
    now: Instant,
}

impl Single {
    pub fn new(frontend: Frontend, answers: impl Answer + 'static, config: &Config) -> Single {
        Single {
            frontend,
            request: Request::default(),
            answers: Box::new(answers),
            timeout: config.timeout,
            drain: Drain::new(config.drain),
            memory: Memory::new(Instant::now()),
            now: Instant::now(),
        }
    }

    /// The endpoints as the system has them.
    pub fn endpoints(&self) -> &[String] {
        self.frontend.endpoints()
    }

    /// Serves until `stop` is readable and nothing more comes. Gives what it answered with too, whose end may
    /// take its time.
    pub fn run(mut self, stop: &impl AsFd) -> Result<(Stopped, Box<dyn Answer>), Error> {
        loop {
            let handler = self.answers.handler();
            let again = if handler.is_ready() { None } else { handler.tend() };
            let memory = Some(self.memory.next());
            let times =
                [again, self.frontend.outbox().retry_at(), self.drain.next(self.now), memory];
            let next = times.into_iter().flatten().min();
            let time = next.map(|next| next.saturating_duration_since(self.now));
            let watched = handler.watched();
            let mut items = vec![self.frontend.readable()];
            items.extend(watched.iter().map(readable));
            if !self.drain.begun() {
                items.push(readable(stop));
            }
            wait(&mut items, time)?;
            let (of_handler, of_stop) = items[1..].split_at(watched.len());
            let to_tend = of_handler.iter().any(Watched::is_readable);
            let stopping = of_stop.iter().any(Watched::is_readable);
            drop(items);
            drop(watched);
            if to_tend {
                self.answers.handler().tend();
            }
            self.now = Instant::now();
            if stopping {
                info!("stopping");
                self.frontend.begin_drain();
                self.drain.begin(self.now);
            }
            let burst_ends = self.now + BURST;
            while self.now < burst_ends && self.answer_one()? {}
            self.frontend.retry(self.now)?;
            self.memory.look_after(self.now);
            if self.drain.ends(self.now, self.frontend.outbox().is_empty()) {
                let stopped = self.frontend.close(self.drain.linger(self.now))?;
                return Ok((stopped, self.answers));
            }
        }
    }

    /// Answers the next request; whether there was one.
    fn answer_one(&mut self) -> Result<bool, Error> {
        match self.frontend.receive(&mut self.request)? {
            Received::Nothing => return Ok(false),
            Received::Malformed => {
                // A burst of nothing else must end too.
                self.now = Instant::now();
                return Ok(true);
            }
            Received::TooLarge(fault) => self.refuse(&fault),
            Received::Request if self.drain.begun() => self.refuse(&Fault::stopping()),
            Received::Request if !self.is_ready() => {
                self.refuse(&Fault::new(Code::Unavailable, "there is no program to answer with"));
            }
            Received::Request => {
                let body = std::mem::take(&mut self.request.body);
                self.request.body = self.answers.answer(body).0;
            }
        }
        self.now = Instant::now();
        self.drain.heard(self.now);
        let until = self.now + self.timeout;
        let Request { envelope, body } = &mut self.request;
        self.frontend.reply(envelope, body, until, self.now)?;
        Ok(true)
    }

    /// Whether there is something to answer with, by now.
    fn is_ready(&mut self) -> bool {
        let handler = self.answers.handler();
        handler.is_ready() || {
            handler.tend();
            handler.is_ready()
        }
    }

    fn refuse(&mut self, fault: &Fault) {
        debug!("answered {fault}");
        self.request.body = fault.to_frames();
    }
}
