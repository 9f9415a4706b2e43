//! The single-threaded server: a ROUTER, and the handler called in its loop.
//!
//! It is no REP, as in the classic program: that drops a reply without a word when its client does
//! not take it yet, and handles what clients that have gone had asked for. All that has come is
//! queued, as in the proxy, unless the handler is so quick that nothing grows old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::info;

use super::broker::{Broker, Taken, thread_ended};
use super::frontend::{Frontend, Stopped};
use super::manager::Manager;
use super::wakers::{Wake, Wakers};
use crate::auth::Access;
use crate::backend::{Activity, Admission, LaneKind, LaneReport, LaneState, Recall, Unavailable};
use crate::config::Config;
use crate::error::Error;
use crate::handler::{NewHandler, WorkerHandler};
use crate::logging::Event;
use crate::socket::{PollSet, readable};

/// Time in which requests are answered before the loop looks at the stop and at all that has come.
const BURST: Duration = Duration::from_millis(10);

/// Time from which on a handler is so slow that all is read before its next request.
const SLOW: Duration = Duration::from_micros(50);

/// Maximum number of messages that are read before the next is answered.
const MAX_READ: usize = 1000;

pub(crate) struct SingleThreaded {
    broker: Broker,
    handler: WorkerHandler,
    /// More may have come than could be answered in the last turn.
    is_behind: bool,
}

/// The handler, as the dispatcher sees it.
struct Lane {
    is_ready: bool,
}

impl LaneState for Lane {
    fn admission(&self, _now: Instant) -> Admission {
        if self.is_ready { Admission::Preferred } else { Admission::Unavailable(Unavailable::Down) }
    }

    fn recall_due(&self) -> Recall {
        Recall::Never
    }
}

impl SingleThreaded {
    /// Makes the server.
    ///
    /// # Errors
    /// A handler that cannot be made.
    pub fn new(
        frontend: Frontend,
        access: Option<Arc<Access>>,
        new_handler: NewHandler,
        config: &Config,
    ) -> Result<SingleThreaded, Error> {
        let handler = WorkerHandler::new(0, new_handler, config.name_clients)?;
        Ok(SingleThreaded {
            broker: Broker::new(frontend, access, 1, config),
            handler,
            is_behind: false,
        })
    }

    /// Returns the endpoints as the system has them, with the ports that it chose.
    pub fn endpoints(&self) -> &[String] {
        self.broker.frontend.endpoints()
    }

    /// Has the service manager told of this service from now on.
    pub fn report_to(&mut self, manager: Manager) {
        let lanes = [self.lane()];
        self.broker.report_to(manager, &lanes);
    }

    /// Serves until it is to stop, and then until nothing more comes. Returns the handler too, whose
    /// end may take its time.
    ///
    /// # Errors
    /// A thread that has ended, or a socket that has failed.
    pub fn run(mut self, wakers: &Wakers<'_>) -> Result<(Stopped, WorkerHandler), Error> {
        loop {
            match self.wait(wakers)? {
                Some(Wake::ThreadEnded) => {
                    self.broker.finish()?;
                    return Err(thread_ended());
                }
                Some(Wake::Stop) => {
                    info!(event = Event::Stopping; "stopping");
                    self.broker.begin_drain()?;
                }
                Some(Wake::ListsChanged) => {
                    // So that each request that has come is answered.
                    self.read_all()?;
                    self.broker.on_lists_changed(&mut [])?;
                }
                Some(Wake::Probed) => {
                    self.broker.forget_gone()?;
                    self.tell(wakers)?;
                }
                Some(Wake::Hangup) => self.broker.on_hangup(),
                Some(Wake::Handler | Wake::Message | Wake::Io) | None => (),
            }
            if self.is_behind {
                self.read_all()?;
            }
            // However quick the handler is: libzmq keeps what it has to tell until then.
            self.broker.expire(&mut [])?;
            self.broker.forget_gone()?;
            self.is_behind = self.answer_some()?;
            self.broker.end_turn(&[self.lane()])?;
            let broker = &self.broker;
            let is_answered =
                broker.dispatcher.in_flight().is_empty() && broker.frontend.outbox().is_empty();
            if self.broker.is_drained(is_answered)? {
                return Ok((self.broker.finish()?, self.handler));
            }
        }
    }

    /// Reads all that has come, so that nothing grows old where nobody sees it.
    fn read_all(&mut self) -> Result<(), Error> {
        for _ in 0..MAX_READ {
            if self.take_request()? == Taken::Nothing {
                break;
            }
        }
        Ok(())
    }

    /// Answers requests for a while, those that wait before those that come; returns true if more
    /// may be left.
    fn answer_some(&mut self) -> Result<bool, Error> {
        let mut began = self.broker.now;
        let ends = began + BURST;
        while self.answer_next()? || self.answer_at_once()? {
            // The broker's time may be later: it is that of the reply, if that is measured.
            let before = std::mem::replace(&mut began, Instant::now());
            self.broker.now = began;
            self.broker.on_time(before);
            if began >= ends || began - before >= SLOW {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits for messages or a deadline; returns the most important of what has woken the loop.
    fn wait(&mut self, wakers: &Wakers<'_>) -> Result<Option<Wake>, Error> {
        let retry_at = if self.handler.is_ready() { None } else { self.handler.maintain() };
        let lanes = [self.lane()];
        let now = self.broker.now;
        let has_more = !self.broker.dispatcher.in_flight().is_empty() && lanes[0].is_ready;
        let next = retry_at.into_iter().chain(self.broker.next_deadline(&lanes)).min();
        let time = next.map(|next| next.saturating_duration_since(now));
        let watched = self.handler.watched();
        let mut poll = PollSet::with_capacity(8);
        poll.add(Wake::Message, [self.broker.frontend.readable()]);
        poll.add(Wake::Handler, watched.iter().map(readable));
        wakers.watch(&mut poll, !self.broker.drain.has_begun());
        poll.wait(if has_more { Some(Duration::ZERO) } else { time })?;
        let needs_maintenance = poll.is_readable(Wake::Handler);
        let woken = wakers.woken(&poll);
        drop(poll);
        drop(watched);
        if needs_maintenance {
            self.handler.maintain();
        }
        self.broker.now = Instant::now();
        Ok(woken)
    }

    /// Tells who has asked what the service is doing.
    fn tell(&self, wakers: &Wakers<'_>) -> Result<(), Error> {
        let Some(probe) = wakers.probe else { return Ok(()) };
        let lane = self.lane();
        let (replies, handled) = self.broker.handled(0);
        let report = LaneReport {
            kind: LaneKind::Worker(0),
            // It is asked between two requests.
            activity: if lane.is_ready { Activity::Idle } else { Activity::Down },
            since: None,
            in_flight: 0,
            replies,
            handled,
        };
        probe.answer(self.broker.snapshot(&[lane], vec![report])?);
        Ok(())
    }

    fn lane(&self) -> Lane {
        Lane { is_ready: self.handler.is_ready() }
    }

    /// Returns the same, if need be after the handler's maintenance.
    fn ready_lane(&mut self) -> Lane {
        if !self.handler.is_ready() {
            self.handler.maintain();
        }
        self.lane()
    }

    /// Takes the next message of a client into the queue, or refuses it.
    fn take_request(&mut self) -> Result<Taken, Error> {
        let lane = self.ready_lane();
        self.broker.take_request(&[lane])
    }

    /// Receives the next message of a client, and answers it at once; returns false if there is
    /// none.
    fn answer_at_once(&mut self) -> Result<bool, Error> {
        let lane = self.ready_lane();
        // Only the dispatcher tells when each request came.
        let is_deferred = self.handler.times_requests() || self.broker.is_selective();
        if is_deferred || !lane.is_ready || self.broker.drain.has_begun() {
            return Ok(self.broker.take_request(&[lane])? != Taken::Nothing);
        }
        let handler = &mut self.handler;
        self.broker.answer_at_once(|body| Ok(handler.answer(body)?.reply))
    }

    /// Answers the next request that waits; returns false if there is none.
    fn answer_next(&mut self) -> Result<bool, Error> {
        let lanes = [self.ready_lane()];
        let dispatcher = &mut self.broker.dispatcher;
        let Some(next) = dispatcher.next_assignment(&lanes, self.broker.now) else {
            self.broker.refuse_waiting(&lanes)?;
            return Ok(false);
        };
        let body = dispatcher.take_body(next.ticket);
        self.handler.set_arrived(next.onward.arrived);
        let mut reply = self.handler.answer(body)?.reply;
        if self.broker.is_measured() {
            self.broker.now = Instant::now();
        }
        self.broker.answer(next.ticket, next.lane, &mut reply)?;
        self.broker.recycle(reply);
        Ok(true)
    }
}
