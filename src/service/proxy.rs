//! The loop that carries messages between frontend and lanes, as the dispatcher says. It never
//! opens a body.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::broker::{Broker, Taken, thread_ended};
use super::dispatcher::Assignment;
use super::frontend::{Frontend, Stopped};
use super::manager::Manager;
use super::trace;
use super::wakers::{Wake, Wakers};
use crate::auth::Access;
use crate::backend::{LaneEvent, LaneReport, Lanes, Pool, Ticket};
use crate::config::Config;
use crate::error::Error;
use crate::frame::{Frame, MAX_IDLE_CAPACITY};
use crate::logging::Event;
use crate::socket::{OwnIo, PollSet, look_at, readable};

/// Maximum number of messages that are taken from one socket before the others have their turn.
const BURST: usize = 64;

/// Time that the loop may go on without polling, and so without noticing the stop, while there is
/// work.
const MAX_UNPOLLED: Duration = Duration::from_millis(1);

pub(crate) struct Proxy {
    broker: Broker,
    lanes: Lanes,
    /// A buffer for what a lane gives.
    reply: Vec<Frame>,
    /// `None` if libzmq has threads of its own for that.
    io: Option<OwnIo>,
    /// When to poll next though there is work.
    poll_at: Instant,
}

impl Proxy {
    pub fn new(
        frontend: Frontend,
        access: Option<Arc<Access>>,
        lanes: Lanes,
        io: Option<OwnIo>,
        config: &Config,
    ) -> Proxy {
        let broker = Broker::new(frontend, access, lanes.len(), config);
        Proxy { poll_at: broker.now, broker, lanes, reply: Vec::new(), io }
    }

    /// Returns the endpoints as the system has them.
    pub fn endpoints(&self) -> &[String] {
        self.broker.frontend.endpoints()
    }

    /// Has the service manager told of this service from now on.
    pub fn report_to(&mut self, manager: Manager) {
        self.broker.report_to(manager, &self.lanes);
    }

    /// Serves until it is to stop, and then until what is in flight has ended or the drain's time is
    /// up. `pool` is that of the workers of this process, if it has some.
    ///
    /// # Errors
    /// A thread that has ended, or a socket that has failed.
    pub fn run(mut self, wakers: &Wakers<'_>, pool: Option<&Pool>) -> Result<Stopped, Error> {
        loop {
            match self.wait(wakers, pool)? {
                Some(Wake::ThreadEnded) => {
                    self.broker.finish()?;
                    return Err(thread_ended());
                }
                Some(Wake::Stop) => self.begin_drain()?,
                Some(Wake::ListsChanged) => self.broker.on_lists_changed(&mut self.lanes)?,
                Some(Wake::Probed) => {
                    self.broker.forget_gone()?;
                    self.tell(wakers)?;
                }
                Some(Wake::Hangup) => self.broker.on_hangup(),
                Some(Wake::Handler | Wake::Message | Wake::Io) | None => (),
            }
            // Replies first: they free lanes. Then the deadlines and the clients that have gone, so
            // that nothing is sent that nobody waits for. What waits in the wrong place is taken
            // back before lanes are given more. Requests that wait already go before new ones. Kept
            // replies come last: what has been read meanwhile may have made capacity for them.
            self.take_events()?;
            self.expire()?;
            self.broker.forget_gone()?;
            self.recall();
            self.dispatch()?;
            self.take_requests()?;
            self.hedge()?;
            self.broker.end_turn(&self.lanes)?;
            self.turn_io(false)?;
            let is_answered = self.broker.drain.has_begun() && self.is_answered();
            if self.broker.is_drained(is_answered)? {
                return self.broker.finish();
            }
        }
    }

    /// Waits for messages or a deadline; returns the most important of what has woken the loop.
    fn wait(&mut self, wakers: &Wakers<'_>, pool: Option<&Pool>) -> Result<Option<Wake>, Error> {
        let has_more = self.broker.frontend.may_have_more() || self.lanes.may_have_more();
        if has_more && self.broker.now < self.poll_at {
            self.broker.now = Instant::now();
            self.turn_io(true)?;
            return Ok(None);
        }
        // What is left over is not always told by a poll item.
        let deadline = if has_more { Some(self.broker.now) } else { self.next_deadline() };
        let time = deadline.map(|time| time.saturating_duration_since(self.broker.now));
        let mut poll = PollSet::with_capacity(self.lanes.len() + 8);
        wakers.watch(&mut poll, !self.broker.drain.has_begun());
        if let Some(pool) = pool {
            poll.add(Wake::Handler, [readable(pool.changed())]);
        }
        poll.add(Wake::Message, [self.broker.frontend.readable()]);
        poll.add(Wake::Message, self.lanes.watched());
        poll.add(Wake::Io, self.io.as_ref().map(OwnIo::readable));
        poll.wait(time)?;
        if let (Some(pool), true) = (pool, poll.is_readable(Wake::Handler)) {
            let _ = pool.changed().read(&mut [0; 64]);
        }
        let woken = wakers.woken(&poll);
        let has_io = poll.is_readable(Wake::Io);
        drop(poll);
        self.broker.now = Instant::now();
        self.poll_at = self.broker.now + MAX_UNPOLLED;
        if has_io || self.io.as_ref().is_some_and(|io| io.is_due(self.broker.now)) {
            self.turn_io(true)?;
        }
        Ok(woken)
    }

    /// Returns when something is next to be done though no message comes.
    fn next_deadline(&self) -> Option<Instant> {
        let now = self.broker.now;
        let lanes = self.lanes.iter().filter_map(|lane| lane.next_deadline(now)).min();
        let io = self.io.as_ref().and_then(OwnIo::due);
        lanes.into_iter().chain(io).chain(self.broker.next_deadline(&self.lanes)).min()
    }

    /// Has libzmq do what the sockets want done, and with `look` read and write, if it has no thread
    /// for that.
    fn turn_io(&mut self, look: bool) -> Result<(), Error> {
        let Some(io) = &mut self.io else { return Ok(()) };
        if io.turn(look, self.broker.now)? {
            look_at(self.lanes.watched().chain([self.broker.frontend.readable()]));
        }
        Ok(())
    }

    fn begin_drain(&mut self) -> Result<(), Error> {
        let busy = self.lanes.iter().filter(|lane| lane.in_flight() > 0).count();
        let in_flight = self.broker.dispatcher.in_flight().len();
        info!(
            event = Event::Stopping;
            "stopping: requests in flight: {in_flight}, workers busy: {busy}"
        );
        self.broker.begin_drain()
    }

    /// Returns true if nothing is in flight or unsent. A worker that is past its deadline gets the
    /// drain's time to end too; who asks meanwhile is refused.
    fn is_answered(&self) -> bool {
        self.lanes.iter().all(|lane| lane.in_flight() == 0)
            && self.broker.dispatcher.in_flight().is_empty()
            && self.broker.frontend.outbox().is_empty()
    }

    fn take_events(&mut self) -> Result<(), Error> {
        for source in 0..self.lanes.sources() {
            for _ in 0..BURST {
                match self.lanes.next_event(source, &mut self.reply, self.broker.now)? {
                    Some((lane, LaneEvent::Reply(ticket))) => self.on_reply(ticket, lane)?,
                    Some((lane, LaneEvent::Lost(ticket))) => {
                        if trace::is_on() {
                            let number = self.broker.dispatcher.number_of(ticket, lane);
                            let name = self.lanes[lane].name(lane);
                            number.iter().for_each(|number| trace::lost(*number, &name));
                        }
                        self.broker.lose(ticket, lane, &mut self.reply)?;
                    }
                    Some((_, LaneEvent::Ignored)) => (),
                    None => break,
                }
            }
        }
        // Looking for messages is what tells of workers.
        for lane in self.lanes.take_changes(self.broker.now)? {
            self.broker.on_new_lane(lane);
        }
        // A late or an ignored reply is still there.
        self.reply.clear();
        self.reply.shrink_to(MAX_IDLE_CAPACITY);
        Ok(())
    }

    fn on_reply(&mut self, ticket: Ticket, lane: usize) -> Result<(), Error> {
        let dispatcher = &self.broker.dispatcher;
        if let Some(other) = dispatcher.lane_besides(ticket, lane) {
            self.lanes[other].on_unawaited(ticket);
        }
        let number = if trace::is_on() { dispatcher.number_of(ticket, lane) } else { None };
        let dropped = self.broker.answer(ticket, lane, &mut self.reply)?;
        if let (Some(number), Some(why)) = (number, dropped) {
            trace::dropped(number, &self.lanes[lane].name(lane), &self.reply, why);
        }
        Ok(())
    }

    fn take_requests(&mut self) -> Result<(), Error> {
        for _ in 0..BURST {
            match self.broker.take_request(&self.lanes)? {
                Taken::Nothing => break,
                Taken::Refused | Taken::Queued => (),
                Taken::Request => self.dispatch()?,
            }
        }
        Ok(())
    }

    /// Sends the requests that wait to the lanes that the dispatcher assigns, or refuses them if no
    /// lane is available.
    fn dispatch(&mut self) -> Result<(), Error> {
        let Broker { dispatcher, frontend, now, .. } = &mut self.broker;
        self.lanes.stand_by(*now);
        while let Some(next) = dispatcher.next_assignment(&self.lanes, *now) {
            let Assignment { ticket, lane, keep, onward, .. } = next;
            let body = dispatcher.body_mut(ticket);
            if self.lanes.send(lane, ticket, body, keep, onward, *now)? {
                frontend.stats.retried += u64::from(next.lost_on.is_some());
                if let (true, Some(number)) = (trace::is_on(), dispatcher.number_of(ticket, lane)) {
                    trace::sent(number, &self.lanes[lane].name(lane), next.lost_on.is_some());
                }
            } else {
                dispatcher.on_unsent(next);
            }
        }
        self.broker.refuse_waiting(&self.lanes)
    }

    /// Sends the requests that take long to another lane too, as the dispatcher says.
    fn hedge(&mut self) -> Result<(), Error> {
        let Broker { dispatcher, frontend, now, .. } = &mut self.broker;
        while let Some(hedge) = dispatcher.next_hedge(&self.lanes, *now) {
            let Assignment { ticket, lane, keep, onward, .. } = hedge;
            let body = dispatcher.body_mut(ticket);
            if self.lanes.send(lane, ticket, body, keep, onward, *now)? {
                frontend.stats.hedged += 1;
                if let (true, Some(number)) = (trace::is_on(), dispatcher.number_of(ticket, lane)) {
                    trace::hedged(number, &self.lanes[lane].name(lane));
                }
            } else {
                dispatcher.on_unsent_hedge(hedge);
            }
        }
        Ok(())
    }

    fn recall(&mut self) {
        let Broker { dispatcher, frontend, now, .. } = &mut self.broker;
        for lane in 0..self.lanes.len() {
            if dispatcher.should_recall(lane, &self.lanes, *now) {
                let revoked = self.lanes[lane].recall(*now);
                frontend.stats.recalled += revoked.len() as u64;
                if trace::is_on() {
                    let name = self.lanes[lane].name(lane);
                    let numbers = revoked.iter().filter_map(|it| dispatcher.number_of(*it, lane));
                    numbers.for_each(|number| trace::recalled(number, &name));
                }
                dispatcher.on_revoked(revoked, lane);
            }
        }
    }

    /// Tells who has asked what the service is doing.
    fn tell(&self, wakers: &Wakers<'_>) -> Result<(), Error> {
        let Some(probe) = wakers.probe else { return Ok(()) };
        let reports = self.lanes.iter().enumerate().filter_map(|(place, lane)| {
            let (activity, since) = lane.activity(self.broker.now);
            let (replies, handled) = self.broker.handled(place);
            let (kind, in_flight) = (lane.kind(place)?, lane.in_flight());
            Some(LaneReport { kind, activity, since, in_flight, replies, handled })
        });
        probe.answer(self.broker.snapshot(&self.lanes, reports.collect())?);
        Ok(())
    }

    /// Tells the clients of requests whose deadline has passed.
    fn expire(&mut self) -> Result<(), Error> {
        self.broker.expire(&mut self.lanes)?;
        let mut has_overrun = false;
        while let Some((ticket, lane)) = self.broker.dispatcher.next_overrun(self.broker.now) {
            has_overrun = true;
            if self.lanes[lane].on_deadline(ticket, self.broker.now) {
                let worker = lane + 1;
                warn!(worker = worker; "worker {worker}: its request has passed the deadline");
            }
        }
        if has_overrun {
            // The last lane may be stuck now, which the log should tell before the next request
            // comes.
            self.broker.dispatcher.on_lane_changed(&self.lanes, self.broker.now);
        }
        Ok(())
    }
}
