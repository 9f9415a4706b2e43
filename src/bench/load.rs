//! What a service is loaded with, what came of it, and the run from the one to the other.

use std::collections::BTreeMap;
use std::io::pipe;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};

use super::clients::Part;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::{Context, readable, wait};

/// How often the progress is told.
const TICK: Duration = Duration::from_millis(250);

/// What a service is loaded with.
pub struct Load {
    /// The service.
    pub endpoint: Endpoint,
    /// Who asks.
    pub clients: Clients,
    /// Over how many threads REQ clients are spread, at most.
    pub threads: usize,
    /// What is asked: each request is one of these, drawn by their weights. At least one.
    pub bodies: Vec<Body>,
    /// How long the service is loaded before anything counts.
    pub warmup: Duration,
    /// When the load ends.
    pub end: End,
    /// How long a reply may take before it counts as missing.
    pub timeout: Duration,
}

/// The clients of a load.
#[derive(Clone, Copy)]
pub enum Clients {
    /// So many REQ sockets, each with one request outstanding.
    Req(usize),
    /// One DEALER with so many requests outstanding. Each carries its number in the envelope, as with
    /// ZMQ_REQ_CORRELATE, since replies may come in any order.
    Pipeline(usize),
}

impl Clients {
    /// How many sockets that takes.
    pub fn sockets(self) -> usize {
        match self {
            Clients::Req(clients) => clients,
            Clients::Pipeline(_) => 1,
        }
    }
}

/// One kind of request.
pub struct Body {
    /// What is sent: one frame.
    pub bytes: Vec<u8>,
    /// How many of these are drawn for each of another of weight 1. Not all may be 0.
    pub weight: u64,
    /// The only frame of the reply, if it is to be verified.
    pub expected: Option<Frame>,
}

/// When a load ends.
#[derive(Clone, Copy)]
pub enum End {
    /// After that time, from the end of the warm-up.
    After(Duration),
    /// After so many requests, from the end of the warm-up.
    Requests(u64),
}

/// What came of a load, without its warm-up.
#[derive(Default)]
pub struct Outcome {
    /// From the end of the warm-up to the last reply, or to when the last missing one was given up.
    pub elapsed: Duration,
    /// Requests sent.
    pub sent: u64,
    /// Replies that came in time, error replies and wrong ones among them.
    pub replies: u64,
    /// Requests that got no reply in time.
    pub missing: u64,
    /// Requests of the warm-up that got none.
    pub missing_before: u64,
    /// Replies other than what was expected.
    pub wrong: u64,
    /// How many `REPD-ERROR` replies came of each code.
    pub errors: BTreeMap<u16, u64>,
    /// Bytes of bodies sent, and of replies received.
    pub bytes: (u64, u64),
    /// How long the replies took, in nanoseconds, by the bodies of the load. Error replies are left
    /// out.
    pub latency: Vec<Histogram<u64>>,
    /// The processor time that this process used in one second of the load, warm-up included.
    pub processors: f64,
}

impl Outcome {
    pub(super) fn new(bodies: usize) -> Outcome {
        Outcome { latency: (0..bodies).map(|_| histogram()).collect(), ..Outcome::default() }
    }

    /// Requests answered in a second.
    pub fn rate(&self) -> f64 {
        self.a_second(self.replies)
    }

    /// Megabytes of bodies sent in a second, and of replies received.
    pub fn megabytes(&self) -> (f64, f64) {
        (self.a_second(self.bytes.0) / 1e6, self.a_second(self.bytes.1) / 1e6)
    }

    fn a_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn add(&mut self, other: Outcome) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.sent += other.sent;
        self.replies += other.replies;
        self.missing += other.missing;
        self.missing_before += other.missing_before;
        self.wrong += other.wrong;
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.bytes.0 += other.bytes.0;
        self.bytes.1 += other.bytes.1;
        for (mine, others) in self.latency.iter_mut().zip(other.latency) {
            // Both have the same bounds.
            let _ = mine.add(others);
        }
    }
}

/// From 100 ns up to a day, with three significant digits.
fn histogram() -> Histogram<u64> {
    let day = Duration::from_secs(24 * 60 * 60).as_nanos() as u64;
    Histogram::new_with_bounds(100, day, 3).expect("these bounds are within the crate's")
}

/// Loads the service until the load's end, or `stop` has something to read, and waits for the replies
/// that are due then. Calls `progress` now and then with the time since the start and the present
/// number of replies a second.
///
/// # Errors
/// A socket or thread that cannot be made, or an endpoint that cannot be resolved.
pub fn run(
    load: &Load,
    stop: &impl AsFd,
    mut progress: impl FnMut(Duration, f64),
) -> Result<Outcome, Error> {
    if load.bodies.iter().all(|body| body.weight == 0) {
        return Err(Error::config("cannot load a service with no body to be drawn"));
    }
    let sockets = load.clients.sockets();
    let threads = load.threads.clamp(1, sockets);
    let context = Context::new(1)?;
    // One that is given up is there for a moment beside the one that follows it.
    context.allow_sockets(2 * sockets + threads)?;
    let began = Instant::now();
    let (stopping, replied) = (AtomicBool::new(false), AtomicU64::new(0));
    let (ended, running) = pipe().map_err(cannot_start)?;
    let processor_time = processor_time();
    let mut outcome = Outcome::new(load.bodies.len());
    thread::scope(|scope| {
        let mut parts = Vec::new();
        for thread in 0..threads {
            // The first ones have what is left over.
            let (thread, threads) = (thread as u64, threads as u64);
            let share_of = |total: u64| total / threads + u64::from(thread < total % threads);
            let part = Part {
                load,
                context: &context,
                bodies: load.bodies.iter().map(|body| Frame::from(&body.bytes[..])).collect(),
                // The same ones are drawn in each run.
                dice: fastrand::Rng::with_seed(thread),
                start: began + load.warmup,
                left: match load.end {
                    End::After(_) => u64::MAX,
                    End::Requests(requests) => share_of(requests),
                },
                stopping: &stopping,
                replied: &replied,
                outcome: Outcome::new(load.bodies.len()),
                _running: running.try_clone().map_err(cannot_start)?,
            };
            let sockets = share_of(sockets as u64) as usize;
            let stopping = &stopping;
            let body = move || {
                let outcome = match load.clients {
                    Clients::Req(_) => part.ask_by_req(sockets),
                    Clients::Pipeline(outstanding) => part.ask_by_dealer(outstanding),
                };
                // One that has failed ends the load for all.
                outcome.inspect_err(|_| stopping.store(true, Ordering::Relaxed))
            };
            parts.push(thread::Builder::new().spawn_scoped(scope, body).map_err(cannot_start)?);
        }
        drop(running);
        let mut shown = (Instant::now(), 0);
        loop {
            let mut watched = [readable(&ended), readable(stop)];
            let watch = if stopping.load(Ordering::Relaxed) { 1 } else { 2 };
            wait(&mut watched[..watch], Some(TICK))?;
            if watched[1].is_readable() {
                stopping.store(true, Ordering::Relaxed);
            }
            if watched[0].is_readable() {
                break;
            }
            let now = (Instant::now(), replied.load(Ordering::Relaxed));
            let rate = (now.1 - shown.1) as f64 / (now.0 - shown.0).as_secs_f64();
            progress(now.0 - began, rate);
            shown = now;
        }
        for part in parts {
            outcome.add(part.join().unwrap_or_else(|_| Err(Error::failed("a client panicked")))?);
        }
        Ok(())
    })?;
    outcome.processors =
        (self::processor_time() - processor_time).as_secs_f64() / began.elapsed().as_secs_f64();
    Ok(outcome)
}

fn cannot_start(error: std::io::Error) -> Error {
    Error::of_system("cannot start the clients", error)
}

/// What this process has used so far.
fn processor_time() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_SELF).map(|usage| {
        let used = [usage.user_time(), usage.system_time()];
        used.iter()
            .map(|t| Duration::from_micros(t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64))
            .sum()
    });
    used.unwrap_or_default()
}
