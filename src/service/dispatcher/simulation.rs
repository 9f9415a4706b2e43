//! The dispatcher over simulated lanes, in virtual time: whatever workers, upstreams and clients
//! do, each request gets one answer, and none waits while a worker is idle.
//!
//! Runs are drawn from a seed, which a failure prints. `REPD_SIMULATIONS=10000` sets their number;
//! `REPD_SIMULATION_SEED=...` repeats one of them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::env;
use std::mem::replace;
use std::num::NonZero;
use std::panic::catch_unwind;
use std::thread::{available_parallelism, scope};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{Dispatcher, Rules};
use crate::backend::simulated::Availability;
use crate::backend::{LaneEvent, Ticket};
use crate::fault::Code;
use crate::service::account::ClientLimits;
use crate::service::request::Request;

use lanes::{Lane, Upstream, Worker};
use load::{Effect, Load};

mod invariants;
mod lanes;
mod load;
mod turn;

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Time in which clients ask.
const ASKING: Duration = Duration::from_millis(300);
/// Maximum number of requests of a run.
const MAX_REQUESTS: usize = 2000;
const TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes that requests may take where memory is short.
const MAX_BYTES: usize = 3000;
/// Maximum number of turns in a row that are due at once: more of them is a busy loop.
const MAX_IDLE_TURNS: u32 = 100;

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A client asks.
    Asks {
        client: usize,
    },
    /// A client's connection ends, and another client takes its place.
    Leaves {
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

struct Asked {
    client: usize,
    /// Its client has gone or, being a REQ, has asked anew.
    is_given_up: bool,
    time: Duration,
    effect: Effect,
    handled: usize,
    lost: usize,
    /// Number of times that it was given to another lane too.
    hedged: usize,
    answers: Vec<Option<Code>>,
}

struct Simulation {
    dice: Rng,
    now: Instant,
    end: Instant,
    load: Load,
    retries: usize,
    hedge: bool,
    happenings: BinaryHeap<Reverse<(Instant, usize, Happening)>>,
    happened: usize,
    /// Number of turns in a row after which the next was due at once.
    idle_turns: u32,
    dispatcher: Dispatcher,
    lanes: Vec<Lane>,
    /// What the proxy has not read.
    frontend: VecDeque<Sent>,
    /// The clients' routing ids, each of which names one connection.
    names: Vec<String>,
    asked: Vec<Asked>,
    /// What each client has asked and not given up, by its number.
    asked_by: Vec<Vec<usize>>,
}

/// What the proxy hears of clients.
enum Sent {
    Request(usize),
    Gone(String),
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut dice = Rng::with_seed(seed);
        let now = Instant::now();
        let load = Load::draw(&mut dice);
        let (count, retries, are_workers) = (dice.usize(1..=8), dice.usize(..3), dice.u32(..4) > 0);
        let concurrency = dice.u32(..3);
        let hedge = !are_workers && retries > 0 && dice.u32(..4) > 0;
        let lane = |_| {
            if are_workers {
                Lane::Worker(Worker::new(load.deadly_share + load.pause_share > 0, now))
            } else {
                Lane::Upstream(Upstream::new(concurrency, now))
            }
        };
        let client_limits = ClientLimits {
            outstanding: [3, 1000][dice.usize(..2)],
            rate: [None, None, Some(100)][dice.usize(..3)],
        };
        let rules =
            Rules { timeout: TIMEOUT, retries, hedge, client_limits, tells_withdrawn: false };
        let mut simulation = Simulation {
            now,
            end: now + ASKING,
            load,
            retries,
            hedge,
            happenings: BinaryHeap::new(),
            happened: 0,
            idle_turns: 0,
            dispatcher: Dispatcher::new(count, rules, now),
            lanes: (0..count).map(lane).collect(),
            frontend: VecDeque::new(),
            names: Vec::new(),
            asked: Vec::new(),
            asked_by: Vec::new(),
            dice,
        };
        for lane in (0..count).filter(|_| !are_workers) {
            simulation.connect_soon(lane);
        }
        for client in 0..simulation.dice.usize(1..=12) {
            simulation.names.push(simulation.load.name(client, 0));
            simulation.asked_by.push(Vec::new());
            if simulation.load.are_leaving {
                simulation.leave_later(client);
            }
            let soon = simulation.dice.u32(..1000) * US;
            simulation.schedule(soon, Happening::Asks { client });
        }
        simulation
    }

    fn schedule(&mut self, after: Duration, happening: Happening) {
        self.happened += 1;
        self.happenings.push(Reverse((self.now + after, self.happened, happening)));
    }

    /// Runs until nothing more happens; returns how many requests there were, and hedges.
    fn run(mut self) -> (usize, usize) {
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
        self.assert_all_answered();
        (self.asked.len(), self.hedges())
    }

    fn hedges(&self) -> usize {
        self.asked.iter().map(|asked| asked.hedged).sum()
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Asks { client } => self.ask(client),
            Happening::Leaves { client } => self.leave(client),
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
                let Some(mut peer) = upstream.peer.take() else { return };
                upstream.alone_since = now;
                upstream.events.extend(peer.take_outstanding().into_iter().map(LaneEvent::Lost));
                self.connect_soon(lane);
            }
            Happening::Connects { lane } => {
                let now = self.now;
                let upstream = self.upstream(lane);
                upstream.connect(now);
            }
            Happening::Turn => (),
        }
    }

    /// Has the loop turn by itself when the dispatcher or a lane wants it to.
    fn schedule_turn(&mut self) {
        let next_deadline = |lane: &Lane| match lane {
            Lane::Upstream(upstream) => upstream.next_deadline(self.now),
            Lane::Worker(_) => None,
        };
        let lanes = self.lanes.iter().filter_map(next_deadline);
        let next = lanes.chain(self.dispatcher.next_deadline(&self.lanes, self.now)).min();
        let Some(next) = next.filter(|_| !self.is_over()) else { return };
        let is_scheduled = |Reverse((at, ..)): &Reverse<(Instant, usize, Happening)>| *at <= next;
        self.idle_turns = if next <= self.now { self.idle_turns + 1 } else { 0 };
        assert!(self.idle_turns < MAX_IDLE_TURNS, "the loop spins");
        if !self.happenings.peek().is_some_and(is_scheduled) {
            self.schedule(next.saturating_duration_since(self.now), Happening::Turn);
        }
    }

    /// Returns true if no request is left, and no more will come.
    fn is_over(&self) -> bool {
        self.now >= self.end && self.dispatcher.in_flight().is_empty()
    }

    fn ask(&mut self, client: usize) {
        if self.now >= self.end || self.asked.len() >= MAX_REQUESTS {
            return;
        }
        let load = self.load;
        let is_slow = self.dice.u32(..1000) < load.slow_share;
        let effect = load.draw_effect(&mut self.dice);
        let time = if is_slow { load.slow } else { load.quick };
        if load.are_req {
            self.give_up_all_of(client);
        }
        self.frontend.push_back(Sent::Request(self.asked.len()));
        self.asked_by[client].push(self.asked.len());
        self.asked.push(Asked {
            client,
            is_given_up: false,
            time,
            effect,
            handled: 0,
            lost: 0,
            hedged: 0,
            answers: Vec::new(),
        });
        if !load.is_closed_loop {
            self.ask_later(client);
        }
    }

    fn give_up_all_of(&mut self, client: usize) {
        for number in self.asked_by[client].drain(..) {
            self.asked[number].is_given_up = true;
        }
    }

    fn leave_later(&mut self, client: usize) {
        let after = self.dice.u32(1..200) * MS;
        self.schedule(after, Happening::Leaves { client });
    }

    fn leave(&mut self, client: usize) {
        if self.now >= self.end {
            return;
        }
        self.give_up_all_of(client);
        let name = self.load.name(client, self.happened);
        self.frontend.push_back(Sent::Gone(replace(&mut self.names[client], name)));
        if self.load.is_closed_loop {
            self.ask_later(client);
        }
        self.leave_later(client);
    }

    fn ask_later(&mut self, client: usize) {
        let pause = self.load.think_time.mul_f64(2.0 * self.dice.f64());
        self.schedule(pause, Happening::Asks { client });
    }

    /// Answers with an error; with `None` that is a reply.
    fn answer(&mut self, number: usize, code: Option<Code>) {
        self.asked[number].answers.push(code);
        // Who has left, and has come back, has asked by himself.
        if self.load.is_closed_loop && !self.asked[number].is_given_up {
            self.ask_later(self.asked[number].client);
        }
    }
}

fn number_of(request: &Request) -> usize {
    usize::from_be_bytes(request.envelope[1][..].try_into().unwrap())
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
    let run = |seed| {
        let run = catch_unwind(|| Simulation::new(seed).run());
        run.unwrap_or_else(|_| panic!("repeat it with REPD_SIMULATION_SEED={seed}"))
    };
    let sum = |(requests, hedges), (asked, hedged)| (requests + asked, hedges + hedged);
    let processors = available_parallelism().map_or(1, NonZero::get);
    let (requests, hedges) = scope(|threads| {
        let part = |number| {
            let seeds = (first..first + runs).skip(number).step_by(processors);
            threads.spawn(move || seeds.map(run).fold((0, 0), sum))
        };
        let parts: Vec<_> = (0..processors).map(part).collect();
        parts.into_iter().map(|part| part.join().unwrap()).fold((0, 0), sum)
    });
    println!("{runs} runs, {requests} requests, {hedges} hedges");
    assert!(runs < 1000 || hedges > 0, "nothing was hedged");
}
