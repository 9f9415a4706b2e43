//! The single-threaded server: one REP socket, the handler called in its loop.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use log::info;

use crate::config::Config;
use crate::drain::Drain;
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frontend::Endpoints;
use crate::handler::{Answerer, Handler};
use crate::socket::{Context, Sent, Socket, readable, wait};
use crate::tally::Tally;

/// How many requests are answered before it is looked whether the service is to stop.
const BURST: usize = 256;

pub(crate) struct Single {
    socket: Socket,
    endpoints: Endpoints,
    max_frames: usize,
    drain: Drain,
    tally: Tally,
}

impl Single {
    /// Serves clients at every endpoint that `config` names.
    pub fn listen(context: &Context, config: &Config) -> Result<Single, Error> {
        let mut socket = context.single(config)?;
        Ok(Single {
            endpoints: Endpoints::open(&mut socket, config)?,
            socket,
            max_frames: config.max_frames,
            drain: Drain::new(config.drain),
            tally: Tally::default(),
        })
    }

    /// The endpoints as the system has them.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints.names
    }

    /// Serves until `stop` is readable and nothing more comes.
    pub fn run<F, H>(
        mut self,
        stop: &impl AsRawFd,
        answerer: &mut Answerer<F, H>,
    ) -> Result<(Tally, Duration), Error>
    where
        F: Fn(usize) -> H,
        H: Handler,
    {
        loop {
            let mut items = [self.socket.readable(), readable(stop)];
            let watched = if self.drain.begun() { 1 } else { 2 };
            let now = Instant::now();
            let time = self.drain.next(now).map(|next| next.saturating_duration_since(now));
            wait(&mut items[..watched], time)?;
            let stopping = !self.drain.begun() && !items[1].get_revents().is_empty();
            if stopping {
                info!("stopping");
                self.endpoints.close(&self.socket)?;
                self.drain.begin(Instant::now());
            }
            for _ in 0..BURST {
                if !self.answer_one(answerer)? {
                    break;
                }
                self.drain.heard(Instant::now());
            }
            let now = Instant::now();
            if self.drain.ends(now, true) {
                let linger = self.drain.linger(now);
                self.socket.linger(linger)?;
                return Ok((self.tally, linger));
            }
        }
    }

    /// Answers the next request; whether there was one.
    fn answer_one<F, H>(&mut self, answerer: &mut Answerer<F, H>) -> Result<bool, Error>
    where
        F: Fn(usize) -> H,
        H: Handler,
    {
        let Some(first) = self.socket.try_recv()? else { return Ok(false) };
        let mut request = Vec::new();
        self.socket.recv_rest(first, &mut request)?;
        self.tally.requests += 1;
        let refusal = if self.drain.begun() {
            Some(Fault::new(Code::Unavailable, "the service is stopping"))
        } else {
            (request.len() > self.max_frames)
                .then(|| Fault::new(Code::TooLarge, "the request has too many frames"))
        };
        let reply = match refusal {
            Some(fault) => {
                self.tally.refused += 1;
                fault.to_frames()
            }
            None => {
                self.tally.replies += 1;
                answerer.answer(request)
            }
        };
        if self.socket.send_all(reply)? != Sent::Done {
            self.tally.gone += 1;
        }
        Ok(true)
    }
}
