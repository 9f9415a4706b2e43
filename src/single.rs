//! The single-threaded server: the ROUTER alone, the handler called in its loop.
//!
//! Not a REP, as in the classic program: a REP drops a reply without a word when its client's
//! connection has no room.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use log::{debug, info};

use crate::config::Config;
use crate::drain::Drain;
use crate::error::Error;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::frontend::{Frontend, Received, Request, Stopped};
use crate::socket::{readable, wait};
use crate::tally::Tally;

/// How long requests are answered before it is looked whether the service is to stop, and whether
/// clients take the replies that are kept for them.
const BURST: Duration = Duration::from_millis(10);

pub(crate) struct Single {
    frontend: Frontend,
    /// The request that is being answered, whose body becomes the reply.
    request: Request,
    answer: Box<dyn FnMut(Vec<Frame>) -> Vec<Frame>>,
    /// How long a reply is kept for a client that does not take it.
    timeout: Duration,
    drain: Drain,
    tally: Tally,
    now: Instant,
}

impl Single {
    pub fn new(
        frontend: Frontend,
        answer: impl FnMut(Vec<Frame>) -> Vec<Frame> + 'static,
        config: &Config,
    ) -> Single {
        Single {
            frontend,
            request: Request::default(),
            answer: Box::new(answer),
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

    /// Serves until `stop` is readable and nothing more comes.
    pub fn run(mut self, stop: &impl AsFd) -> Result<Stopped, Error> {
        loop {
            let next = self
                .frontend
                .outbox()
                .retry_at()
                .into_iter()
                .chain(self.drain.next(self.now))
                .min();
            let time = next.map(|next| next.saturating_duration_since(self.now));
            let mut items = [self.frontend.readable(), readable(stop)];
            let watched = if self.drain.begun() { 1 } else { 2 };
            wait(&mut items[..watched], time)?;
            let stopping = items[1].is_readable();
            self.now = Instant::now();
            if stopping {
                info!("stopping");
                self.frontend.begin_drain();
                self.drain.begin(self.now);
            }
            let burst_ends = self.now + BURST;
            while self.now < burst_ends && self.answer_one()? {}
            self.tally.gone += self.frontend.retry(self.now)?;
            if self.drain.ends(self.now, self.frontend.outbox().is_empty()) {
                return self.frontend.close(self.tally, self.drain.linger(self.now));
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
                self.tally.malformed();
                return Ok(true);
            }
            Received::TooManyFrames => self.refuse(&Fault::too_many_frames()),
            Received::Request if self.drain.begun() => self.refuse(&Fault::stopping()),
            Received::Request => {
                self.tally.replies += 1;
                let body = std::mem::take(&mut self.request.body);
                self.request.body = (self.answer)(body);
            }
        }
        self.now = Instant::now();
        self.tally.requests += 1;
        self.drain.heard(self.now);
        let until = self.now + self.timeout;
        let Request { envelope, body } = &mut self.request;
        if !self.frontend.reply(envelope, body, until, self.now)? {
            self.tally.client_gone();
        }
        Ok(true)
    }

    fn refuse(&mut self, fault: &Fault) {
        debug!("answered {fault}");
        self.tally.refused += 1;
        self.request.body = fault.to_frames();
    }
}
