//! What stands behind the dispatcher in a simulation, and what it does: workers, with the real window, claim and
//! credit; and upstreams or external workers, with the real peer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::load::Effect;
use super::{Asked, Happening, MS, S, Simulation, US};
use crate::backend::simulated::{Availability, Claim, Concurrency, Credit, Meter, Peer, Window};
use crate::backend::{Admission, LaneEvent, LaneState, Recall, Ticket, Unavailable};

/// A lane and what is behind it.
pub(super) enum Lane {
    Worker(Worker),
    Upstream(Upstream),
}

pub(super) struct Worker {
    pub window: Window,
    pub claim: Claim,
    pub meter: Meter,
    /// The requests in its pipe.
    pub queue: VecDeque<usize>,
    /// The number of its next request, or of the one that it is at.
    pub number: u32,
    /// The request that it is at, and since when.
    pub at: Option<(usize, Instant)>,
    pub is_waking: bool,
    pub is_paused: bool,
    /// Replies that the proxy has not read.
    pub replies: usize,
}

pub(super) struct Upstream {
    /// Which kind of [`Concurrency`] it has.
    concurrency: u32,
    pub peer: Option<Peer>,
    pub connection: usize,
    pub alone_since: Instant,
    pub events: VecDeque<LaneEvent>,
}

impl Upstream {
    const MAX_OUTSTANDING: usize = 16;
    const CONNECT_GRACE: Duration = Duration::from_secs(1);

    pub fn new(concurrency: u32, now: Instant) -> Upstream {
        let events = VecDeque::new();
        Upstream { concurrency, peer: None, connection: 0, alone_since: now, events }
    }

    pub fn connect(&mut self, now: Instant) {
        let concurrency = match self.concurrency {
            0 => Concurrency::upstream(Upstream::MAX_OUTSTANDING),
            1 => Concurrency::serial(Upstream::MAX_OUTSTANDING),
            _ => Concurrency::parallel(Upstream::MAX_OUTSTANDING),
        };
        self.peer = Some(Peer::new(concurrency, now));
        self.connection += 1;
    }

    pub fn next_event(&mut self, now: Instant) -> Option<LaneEvent> {
        if let Some(peer) = &mut self.peer {
            self.events.extend(peer.take_forgotten(now).into_iter().map(LaneEvent::Lost));
        }
        self.events.pop_front()
    }

    /// Returns when its admission changes by itself.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let retry_at = self.peer.as_ref().and_then(Peer::retry_at);
        self.grace_ends(now).or(retry_at)
    }

    /// Returns when requests no longer wait for a connection; `None` while there is one, or if that
    /// time has passed.
    pub fn grace_ends(&self, now: Instant) -> Option<Instant> {
        let end = self.alone_since + Upstream::CONNECT_GRACE;
        (self.peer.is_none() && end > now).then_some(end)
    }
}

impl LaneState for Lane {
    fn admission(&self, now: Instant) -> Admission {
        match self {
            Lane::Worker(worker) => worker.window.admission(now),
            Lane::Upstream(Upstream { peer: Some(peer), .. }) => peer.admission(now),
            Lane::Upstream(it) if it.grace_ends(now).is_some() => Admission::Full,
            Lane::Upstream(_) => Admission::Unavailable(Unavailable::Disconnected),
        }
    }

    fn recall_due(&self) -> Recall {
        match self {
            Lane::Worker(worker) => worker.window.recall_due(),
            Lane::Upstream(_) => Recall::Never,
        }
    }
}

impl Worker {
    pub fn new(may_pause: bool, now: Instant) -> Worker {
        let (credit, claim) = (Credit::new(), Claim::default());
        let meter = Meter::new(credit.clone());
        if may_pause {
            meter.set_may_pause();
        }
        Worker {
            window: Window::new(credit, claim.clone(), now),
            claim,
            meter,
            queue: VecDeque::new(),
            number: 0,
            at: None,
            is_waking: false,
            is_paused: false,
            replies: 0,
        }
    }
}

impl Simulation {
    pub(super) fn worker(&mut self, lane: usize) -> &mut Worker {
        let Lane::Worker(worker) = &mut self.lanes[lane] else {
            panic!("lane {lane} is an upstream")
        };
        worker
    }

    pub(super) fn upstream(&mut self, lane: usize) -> &mut Upstream {
        let Lane::Upstream(upstream) = &mut self.lanes[lane] else {
            panic!("lane {lane} is a worker")
        };
        upstream
    }

    pub(super) fn send_upstream(&mut self, lane: usize, ticket: Ticket, number: usize) {
        let now = self.now;
        self.asked[number].handled += 1;
        let Asked { time, effect, .. } = self.asked[number];
        let upstream = self.upstream(lane);
        upstream.peer.as_mut().expect("nobody is connected").on_sent(ticket, now);
        let connection = upstream.connection;
        let ticket = (ticket.slot, ticket.generation);
        // Now and then it takes long on this lane alone, which is what hedges are for.
        let is_long = self.hedge && self.dice.u32(..50) == 0;
        let way = if is_long { 100 * MS } else { self.dice.u32(20..500) * US };
        match effect {
            Effect::Hangs => (),
            Effect::Kills => self.schedule(way, Happening::Disconnects { lane }),
            _ => self.schedule(way + time, Happening::Replies { lane, connection, ticket }),
        }
    }

    pub(super) fn connect_soon(&mut self, lane: usize) {
        let after = [MS, 50 * MS, 2 * S][self.dice.usize(..3)];
        self.schedule(after, Happening::Connects { lane });
    }

    pub(super) fn wake_soon(&mut self, lane: usize) {
        // Now and then a thread waits long for a processor.
        let most = if self.dice.u32(..50) == 0 { 3000 } else { 40 };
        let after = self.dice.u32(..most) * US;
        let worker = self.worker(lane);
        let is_free = worker.at.is_none() && !worker.is_paused && !worker.is_waking;
        if is_free && !worker.queue.is_empty() {
            worker.is_waking = true;
            self.schedule(after, Happening::Wakes { lane });
        }
    }

    pub(super) fn wake(&mut self, lane: usize) {
        let now = self.now;
        let worker = self.worker(lane);
        worker.is_waking = false;
        while worker.at.is_none() && !worker.is_paused {
            let Some(number) = worker.queue.pop_front() else { return };
            if worker.claim.try_start(worker.number) {
                worker.at = Some((number, now));
                let asked = &mut self.asked[number];
                asked.handled += 1;
                let time = if asked.effect == Effect::Hangs { 3 * S } else { asked.time };
                self.schedule(time, Happening::Finishes { lane });
                return;
            }
            worker.number = worker.number.wrapping_add(1);
            worker.replies += 1;
        }
    }

    pub(super) fn finish(&mut self, lane: usize) {
        let now = self.now;
        let (number, since) = self.worker(lane).at.take().expect("it finishes nothing");
        let effect = self.asked[number].effect;
        let pause = self.dice.u32(1..50) * MS;
        let worker = self.worker(lane);
        worker.meter.record(now - since);
        if effect == Effect::Kills {
            worker.claim.mark_lost(worker.number);
        }
        if matches!(effect, Effect::Kills | Effect::Pauses) {
            let is_long = pause > 40 * MS;
            let availability = if is_long { Availability::Down } else { Availability::Paused };
            worker.meter.set_availability(availability);
            worker.is_paused = true;
            self.schedule(pause, Happening::Recovers { lane });
        }
        let worker = self.worker(lane);
        worker.number = worker.number.wrapping_add(1);
        worker.replies += 1;
        self.wake(lane);
    }
}
