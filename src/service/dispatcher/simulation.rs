//! The dispatcher over simulated lanes, in virtual time: whatever workers, upstreams and clients
//! do, each request gets one answer, and none waits while a worker is idle.
//!
//! Runs are drawn from a seed, which a failure prints. `REPD_SIMULATIONS=10000` sets their number;
//! `REPD_SIMULATION_SEED=...` repeats one of them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::env;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{Dispatcher, Lost};
use crate::backend::simulated::{Availability, Claim, Credit, Meter, Peer, Window};
use crate::backend::{Admission, LaneEvent, LaneState, Recall, Ticket, Unavailable};
use crate::fault::Code;
use crate::frame::Frame;
use crate::service::in_flight::Request;

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Time in which clients ask.
const ASKING: Duration = Duration::from_millis(300);
/// Maximum number of requests of a run.
const MAX_REQUESTS: usize = 2000;
const TIMEOUT: Duration = Duration::from_millis(500);
/// Time after which a request that waits behind a slow one must be taken back, beside an idle
/// worker: the recall time once, and once more for a worker whose thread was not scheduled.
const RECALL_TIME: Duration = Duration::from_micros(2100);

/// Maximum number of turns in a row that are due at once: more of them is a busy loop.
const MAX_IDLE_TURNS: u32 = 100;

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A client asks.
    Asks {
        client: usize,
    },
    /// A worker's thread runs, and takes its next request.
    Wakes {
        lane: usize,
    },
    /// A worker has done with its request.
    Finishes {
        lane: usize,
    },
    /// A worker takes requests again.
    Recovers {
        lane: usize,
    },
    /// An upstream replies, if its connection is still the same one.
    Replies {
        lane: usize,
        connection: usize,
        ticket: (u32, u32),
    },
    Disconnects {
        lane: usize,
    },
    Connects {
        lane: usize,
    },
    /// The dispatcher wanted to be asked.
    Turn,
}

/// What the requests of a run are like; shares are of a thousand.
#[derive(Clone, Copy, Debug)]
struct Load {
    quick: Duration,
    slow: Duration,
    slow_share: u32,
    hung_share: u32,
    deadly_share: u32,
    pause_share: u32,
    /// A client asks again after its answer; else at any time.
    is_closed_loop: bool,
    think_time: Duration,
}

/// What a request does to whatever handles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// It has no end within its deadline.
    Hangs,
    /// It ends the worker's program, or the upstream's connection.
    Kills,
    /// It is answered, and then the worker is not ready for a while.
    Pauses,
}

struct Asked {
    client: usize,
    time: Duration,
    effect: Effect,
    handled: usize,
    lost: usize,
    answers: Vec<Option<Code>>,
}

/// A lane and what is behind it.
enum Lane {
    Worker(Worker),
    Upstream(Upstream),
}

struct Worker {
    window: Window,
    claim: Claim,
    meter: Meter,
    /// The requests in its pipe.
    queue: VecDeque<usize>,
    /// The number of its next request, or of the one that it is at.
    number: u32,
    /// The request that it is at, and since when.
    at: Option<(usize, Instant)>,
    is_waking: bool,
    is_paused: bool,
    /// Replies that the proxy has not read.
    replies: usize,
}

struct Upstream {
    peer: Option<Peer>,
    connection: usize,
    alone_since: Instant,
    events: VecDeque<LaneEvent>,
}

impl Upstream {
    const MAX_OUTSTANDING: usize = 16;
    const CONNECT_GRACE: Duration = S;
}

impl LaneState for Lane {
    fn admission(&self, now: Instant) -> Admission {
        match self {
            Lane::Worker(worker) => worker.window.admission(now),
            Lane::Upstream(Upstream { peer: Some(peer), .. }) => {
                if peer.in_flight() < Upstream::MAX_OUTSTANDING {
                    Admission::Cost(peer.cost(now))
                } else {
                    Admission::Full
                }
            }
            Lane::Upstream(it) if now < it.alone_since + Upstream::CONNECT_GRACE => Admission::Full,
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

struct Simulation {
    dice: Rng,
    now: Instant,
    end: Instant,
    load: Load,
    retries: usize,
    happenings: BinaryHeap<Reverse<(Instant, usize, Happening)>>,
    happened: usize,
    /// Number of turns in a row after which the next was due at once.
    idle_turns: u32,
    dispatcher: Dispatcher,
    lanes: Vec<Lane>,
    /// Requests that the proxy has not read.
    frontend: VecDeque<usize>,
    asked: Vec<Asked>,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut dice = Rng::with_seed(seed);
        let now = Instant::now();
        let load = draw_load(&mut dice);
        let (count, retries, are_workers) = (dice.usize(1..=8), dice.usize(..3), dice.u32(..4) > 0);
        let lane = |_| {
            if are_workers {
                Lane::Worker(worker(load.deadly_share + load.pause_share > 0, now))
            } else {
                let events = VecDeque::new();
                Lane::Upstream(Upstream { peer: None, connection: 0, alone_since: now, events })
            }
        };
        let mut simulation = Simulation {
            now,
            end: now + ASKING,
            load,
            retries,
            happenings: BinaryHeap::new(),
            happened: 0,
            idle_turns: 0,
            dispatcher: Dispatcher::new(count, TIMEOUT, retries),
            lanes: (0..count).map(lane).collect(),
            frontend: VecDeque::new(),
            asked: Vec::new(),
            dice,
        };
        for lane in (0..count).filter(|_| !are_workers) {
            simulation.connect_soon(lane);
        }
        for client in 0..simulation.dice.usize(1..=12) {
            let soon = simulation.dice.u32(..1000) * US;
            simulation.schedule(soon, Happening::Asks { client });
        }
        simulation
    }

    fn schedule(&mut self, after: Duration, happening: Happening) {
        self.happened += 1;
        self.happenings.push(Reverse((self.now + after, self.happened, happening)));
    }

    /// Runs until nothing more happens; returns how many requests there were.
    fn run(mut self) -> usize {
        while let Some(Reverse((time, _, happening))) = self.happenings.pop() {
            self.now = self.now.max(time);
            self.happen(happening);
            self.turn();
            self.assert_fair();
            if self.happened.is_multiple_of(16) {
                self.assert_all_somewhere();
            }
            self.schedule_turn();
        }
        for (number, asked) in self.asked.iter().enumerate() {
            assert_eq!(asked.answers.len(), 1, "request {number} was answered {:?}", asked.answers);
            let most = 1 + asked.lost.min(self.retries);
            assert!(asked.handled <= most, "request {number} was handled {} times", asked.handled);
        }
        assert!(self.dispatcher.in_flight().is_empty(), "something is left in flight");
        self.asked.len()
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Asks { client } => self.ask(client),
            Happening::Wakes { lane } => self.wake(lane),
            Happening::Finishes { lane } => self.finish(lane),
            Happening::Recovers { lane } => {
                let worker = self.worker(lane);
                worker.is_paused = false;
                worker.meter.set_availability(Availability::Ready);
                self.wake_soon(lane);
            }
            Happening::Replies { lane, connection, ticket: (slot, generation) } => {
                let (now, ticket) = (self.now, Ticket { slot, generation });
                let upstream = self.upstream(lane);
                if let (true, Some(peer)) = (upstream.connection == connection, &mut upstream.peer)
                    && peer.on_reply(ticket, now)
                {
                    upstream.events.push_back(LaneEvent::Reply(ticket));
                }
            }
            Happening::Disconnects { lane } => {
                let now = self.now;
                let upstream = self.upstream(lane);
                let Some(peer) = upstream.peer.take() else { return };
                upstream.alone_since = now;
                upstream.events.extend(peer.into_outstanding().map(LaneEvent::Lost));
                self.connect_soon(lane);
            }
            Happening::Connects { lane } => {
                let now = self.now;
                let upstream = self.upstream(lane);
                upstream.peer = Some(Peer::new(now));
                upstream.connection += 1;
            }
            Happening::Turn => (),
        }
    }

    /// Has the loop turn by itself when the dispatcher or a lane wants it to.
    fn schedule_turn(&mut self) {
        let grace_ends = |lane: &Lane| match lane {
            Lane::Upstream(it) if it.peer.is_none() => {
                Some(it.alone_since + Upstream::CONNECT_GRACE).filter(|end| *end > self.now)
            }
            _ => None,
        };
        let lanes = self.lanes.iter().filter_map(grace_ends);
        let next = lanes.chain(self.dispatcher.next_deadline(&self.lanes, self.now)).min();
        let Some(next) = next.filter(|_| !self.is_over()) else { return };
        let is_scheduled = |Reverse((at, ..)): &Reverse<(Instant, usize, Happening)>| *at <= next;
        self.idle_turns = if next <= self.now { self.idle_turns + 1 } else { 0 };
        assert!(self.idle_turns < MAX_IDLE_TURNS, "the loop spins");
        if !self.happenings.peek().is_some_and(is_scheduled) {
            self.schedule(next.saturating_duration_since(self.now), Happening::Turn);
        }
    }

    /// Returns true if every request has had its answer, and no more will come.
    fn is_over(&self) -> bool {
        self.now >= self.end && self.asked.iter().all(|asked| !asked.answers.is_empty())
    }

    fn ask(&mut self, client: usize) {
        if self.now >= self.end || self.asked.len() >= MAX_REQUESTS {
            return;
        }
        let load = self.load;
        let is_slow = self.dice.u32(..1000) < load.slow_share;
        let mut left = self.dice.u32(..1000);
        let mut falls_into = |share: u32| {
            let falls = left < share;
            left = left.saturating_sub(share);
            falls
        };
        let effect = if falls_into(load.hung_share) {
            Effect::Hangs
        } else if falls_into(load.deadly_share) {
            Effect::Kills
        } else if falls_into(load.pause_share) {
            Effect::Pauses
        } else {
            Effect::Nothing
        };
        let time = if is_slow { load.slow } else { load.quick };
        self.frontend.push_back(self.asked.len());
        self.asked.push(Asked { client, time, effect, handled: 0, lost: 0, answers: Vec::new() });
        if !load.is_closed_loop {
            self.ask_later(client);
        }
    }

    fn ask_later(&mut self, client: usize) {
        let pause = self.load.think_time.mul_f64(2.0 * self.dice.f64());
        self.schedule(pause, Happening::Asks { client });
    }

    /// Answers with an error; with `None` that is a reply.
    fn answer(&mut self, number: usize, code: Option<Code>) {
        self.asked[number].answers.push(code);
        if self.load.is_closed_loop {
            self.ask_later(self.asked[number].client);
        }
    }

    /// Does what the proxy's loop does.
    fn turn(&mut self) {
        for lane in 0..self.lanes.len() {
            while let Some(event) = self.next_event(lane) {
                self.take(event);
            }
        }
        for ticket in self.dispatcher.overdue(self.now) {
            self.give_up(ticket, Code::TIMEOUT);
            for lane in &mut self.lanes {
                match lane {
                    Lane::Worker(worker) => _ = worker.window.on_deadline(ticket),
                    Lane::Upstream(Upstream { peer: Some(peer), .. }) => {
                        peer.on_deadline(ticket, self.now);
                    }
                    Lane::Upstream(_) => (),
                }
            }
        }
        for lane in 0..self.lanes.len() {
            if self.dispatcher.should_recall(lane, &self.lanes, self.now) {
                let now = self.now;
                let revoked = self.worker(lane).window.recall(now);
                self.dispatcher.on_revoked(revoked);
            }
        }
        self.dispatch();
        while self.dispatcher.accepts(&self.lanes, self.now) {
            let Some(number) = self.frontend.pop_front() else { break };
            let name = Frame::from(&number.to_be_bytes()[..]);
            let mut request = Request { envelope: vec![name], body: Vec::new() };
            match self.dispatcher.on_request(&mut request, &self.lanes, self.now) {
                Ok(()) => self.dispatch(),
                Err(fault) => self.answer(number, Some(fault.code())),
            }
        }
    }

    fn next_event(&mut self, lane: usize) -> Option<LaneEvent> {
        match &mut self.lanes[lane] {
            Lane::Worker(worker) => {
                worker.replies = worker.replies.checked_sub(1)?;
                Some(worker.window.on_reply(self.now).expect("a reply to nothing"))
            }
            Lane::Upstream(upstream) => upstream.events.pop_front(),
        }
    }

    fn take(&mut self, event: LaneEvent) {
        let answered = match event {
            LaneEvent::Ignored => None,
            LaneEvent::Reply(ticket) => {
                self.dispatcher.on_reply(ticket).map(|pending| (pending, None))
            }
            LaneEvent::Lost(ticket) => {
                if let Some(pending) = self.dispatcher.in_flight().get(ticket) {
                    self.asked[number_of(&pending.request)].lost += 1;
                }
                match self.dispatcher.on_lost(ticket) {
                    Lost::GivenUp(pending) => Some((pending, Some(Code::LOST))),
                    Lost::Waiting | Lost::Late => None,
                }
            }
        };
        if let Some((pending, code)) = answered {
            let number = number_of(&pending.request);
            self.answer(number, code);
        }
    }

    fn dispatch(&mut self) {
        while let Some(next) = self.dispatcher.next_assignment(&self.lanes, self.now) {
            let admission = self.lanes[next.lane].admission(self.now);
            let is_taken = matches!(admission, Admission::Preferred | Admission::Cost(_));
            assert!(is_taken, "sent to a lane that says {admission:?}");
            let pending = self.dispatcher.in_flight().get(next.ticket).expect("it has ended");
            let number = number_of(&pending.request);
            match &mut self.lanes[next.lane] {
                Lane::Worker(worker) => {
                    worker.window.on_sent(next.ticket, self.now);
                    worker.queue.push_back(number);
                    self.wake_soon(next.lane);
                }
                Lane::Upstream(_) => self.send_upstream(next.lane, next.ticket, number),
            }
        }
        for (ticket, fault) in self.dispatcher.refuse_waiting(&self.lanes, self.now) {
            self.give_up(ticket, fault.code());
        }
    }

    fn give_up(&mut self, ticket: Ticket, code: Code) {
        if let Some(pending) = self.dispatcher.give_up(ticket) {
            let number = number_of(&pending.request);
            self.answer(number, Some(code));
        }
    }

    fn worker(&mut self, lane: usize) -> &mut Worker {
        let Lane::Worker(worker) = &mut self.lanes[lane] else {
            panic!("lane {lane} is an upstream")
        };
        worker
    }

    fn upstream(&mut self, lane: usize) -> &mut Upstream {
        let Lane::Upstream(upstream) = &mut self.lanes[lane] else {
            panic!("lane {lane} is a worker")
        };
        upstream
    }

    fn send_upstream(&mut self, lane: usize, ticket: Ticket, number: usize) {
        let now = self.now;
        self.asked[number].handled += 1;
        let Asked { time, effect, .. } = self.asked[number];
        let upstream = self.upstream(lane);
        upstream.peer.as_mut().expect("nobody is connected").on_sent(ticket, now);
        let connection = upstream.connection;
        let ticket = (ticket.slot, ticket.generation);
        let way = self.dice.u32(20..500) * US;
        match effect {
            Effect::Hangs => (),
            Effect::Kills => self.schedule(way, Happening::Disconnects { lane }),
            _ => self.schedule(way + time, Happening::Replies { lane, connection, ticket }),
        }
    }

    fn connect_soon(&mut self, lane: usize) {
        let after = [MS, 50 * MS, 2 * S][self.dice.usize(..3)];
        self.schedule(after, Happening::Connects { lane });
    }

    fn wake_soon(&mut self, lane: usize) {
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

    fn wake(&mut self, lane: usize) {
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

    fn finish(&mut self, lane: usize) {
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

    /// Asserts that each request in flight waits, or is outstanding on a lane: that its answer is
    /// not left to its deadline.
    fn assert_all_somewhere(&self) {
        for ticket in self.dispatcher.in_flight().all() {
            let is_there = |lane: &Lane| match lane {
                Lane::Worker(worker) => worker.window.is_outstanding(ticket),
                Lane::Upstream(Upstream { peer, .. }) => {
                    peer.as_ref().is_some_and(|peer| peer.is_outstanding(ticket))
                }
            };
            let is_somewhere =
                self.dispatcher.waiting.contains(&ticket) || self.lanes.iter().any(is_there);
            assert!(is_somewhere, "a request in flight is nowhere");
        }
    }

    /// Asserts that nothing waits while a worker is idle or an upstream takes requests, or no
    /// longer than until it is taken back.
    fn assert_fair(&self) {
        let has_capacity = |lane: &Lane| {
            matches!(lane.admission(self.now), Admission::Preferred | Admission::Cost(_))
        };
        let is_waiting = !self.frontend.is_empty() || !self.dispatcher.waiting.is_empty();
        assert!(!is_waiting || !self.lanes.iter().any(has_capacity), "a request waits for nothing");
        let is_idle = |lane: &Lane| matches!(lane, Lane::Worker(it) if it.window.is_empty() && has_capacity(lane));
        if !self.lanes.iter().any(is_idle) {
            return;
        }
        for lane in &self.lanes {
            let Lane::Worker(worker) = lane else { continue };
            let Some((_, since)) = worker.at else { continue };
            let waits = worker.queue.iter().any(|number| self.asked[*number].answers.is_empty());
            let is_revoked = worker.window.in_flight() <= 1;
            assert!(
                self.now <= since + RECALL_TIME || !waits || is_revoked,
                "a request waits behind a slow one, and a worker is idle"
            );
        }
    }
}

fn draw_load(dice: &mut Rng) -> Load {
    let mut one_of = |shares: &[u32]| shares[dice.usize(..shares.len())];
    let shares = [
        one_of(&[0, 1, 10, 300]),
        one_of(&[0, 0, 0, 5, 50]),
        one_of(&[0, 0, 10, 200]),
        one_of(&[0, 0, 10, 200]),
    ];
    Load {
        quick: [US, 5 * US, 50 * US, 300 * US, MS, 5 * MS][dice.usize(..6)],
        slow: [2 * MS, 20 * MS, 700 * MS][dice.usize(..3)],
        slow_share: shares[0],
        hung_share: shares[1],
        deadly_share: shares[2],
        pause_share: shares[3],
        is_closed_loop: dice.bool(),
        think_time: [20 * US, MS, 10 * MS][dice.usize(..3)],
    }
}

fn worker(may_pause: bool, now: Instant) -> Worker {
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

fn number_of(request: &Request) -> usize {
    usize::from_be_bytes(request.envelope[0][..].try_into().unwrap())
}

#[test]
fn whatever_happens_each_request_gets_one_answer_and_none_waits_beside_an_idle_worker() {
    let variable = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = variable("REPD_SIMULATION_SEED") {
        Simulation::new(seed).run();
        return;
    }
    let runs = variable("REPD_SIMULATIONS").unwrap_or(1000);
    let first = fastrand::u64(..u64::MAX - runs);
    let mut requests = 0;
    for seed in first..first + runs {
        let run = catch_unwind(|| Simulation::new(seed).run());
        requests += run.unwrap_or_else(|_| panic!("repeat it with REPD_SIMULATION_SEED={seed}"));
    }
    println!("{runs} runs, {requests} requests");
}
