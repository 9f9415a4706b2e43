//! Runs a load over several threads and adds up its outcome.

use std::collections::BTreeMap;
use std::io::{self, pipe};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};

use super::clients::Part;
use super::open_loop::Schedule;
use crate::auth::ClientKeys;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::{Context, readable, wait};

/// Interval at which the progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// The requests that a service is loaded with, and the clients that send them.
#[derive(Debug)]
pub struct Load {
    /// Endpoint of the service.
    pub endpoint: Endpoint,
    /// The keys of the clients, if the service wants keys.
    pub keys: Option<ClientKeys>,
    /// The clients.
    pub clients: Clients,
    /// Maximum number of threads over which REQ clients are spread, 1 or more. A DEALER has one.
    pub threads: usize,
    /// Bodies of the requests, each drawn at random by their weights. At least one.
    pub bodies: Vec<Body>,
    /// Time for which the service is loaded before anything counts.
    pub warmup: Duration,
    /// End of the load.
    pub end: End,
    /// Time after which a reply counts as missing.
    pub timeout: Duration,
}

/// The clients of a load.
#[derive(Debug, Clone, Copy)]
pub enum Clients {
    /// This number of REQ sockets, 1 or more, each with one request outstanding.
    Req(usize),
    /// One DEALER with this number of requests outstanding, 1 or more. Each has a number in its
    /// envelope, as with ZMQ_REQ_CORRELATE, since replies may come in any order.
    Pipeline(usize),
    /// This number of DEALER sockets, 1 or more, which send `rate` requests a second together,
    /// whether there are replies or not. What has no reply within the load's time-out is given up,
    /// and its envelope says so.
    OpenLoop {
        /// Number of sockets.
        clients: usize,
        /// Number of requests a second, 1 or more.
        rate: usize,
    },
}

impl Clients {
    /// Returns the number of sockets that the clients take.
    pub fn sockets(self) -> usize {
        match self {
            Clients::Req(clients) => clients,
            Clients::Pipeline(_) => 1,
            Clients::OpenLoop { clients, .. } => clients,
        }
    }
}

/// One kind of request.
#[derive(Debug)]
pub struct Body {
    /// The only frame of the request.
    pub bytes: Vec<u8>,
    /// Relative frequency: a body of weight 3 is drawn three times as often as one of weight 1. At
    /// least one body of a load has a weight over 0.
    pub weight: u64,
    /// The only frame of the reply, or `Option::None` if replies are not verified.
    pub expected: Option<Frame>,
}

/// The end of a load.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// Time from the end of the warm-up.
    After(Duration),
    /// Number of requests sent after the warm-up.
    Requests(u64),
}

/// The results of a load, without its warm-up unless said otherwise.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Time from the end of the warm-up until the last reply came, or was given up; of what is given up
    /// after a load of a certain time it is that.
    pub elapsed: Duration,
    /// Number of requests sent.
    pub sent: u64,
    /// Number of replies in time, including error replies and wrong ones.
    pub replies: u64,
    /// Number of requests without a reply in time.
    pub missing: u64,
    /// Number of requests of the warm-up without a reply in time.
    pub missing_before: u64,
    /// Number of replies that differ from what was expected.
    pub wrong: u64,
    /// Number of `REPD-ERROR` replies by their code.
    pub errors: BTreeMap<u16, u64>,
    /// Bytes of the bodies that were answered, and of the replies.
    pub bytes: (u64, u64),
    /// Latency in nanoseconds, one histogram for each body of the load, without error replies.
    pub latency: Vec<Histogram<u64>>,
    /// Processor time of this process, in seconds per second of the load, warm-up included.
    pub processors: f64,
}

impl Outcome {
    pub(super) fn new(bodies: usize) -> Outcome {
        Outcome { latency: (0..bodies).map(|_| histogram()).collect(), ..Outcome::default() }
    }

    /// Returns the rate in replies per second.
    pub fn rate(&self) -> f64 {
        self.per_second(self.replies)
    }

    /// Returns the rate of replies in time that are of use, in replies per second: neither errors nor
    /// wrong ones.
    pub fn goodput(&self) -> f64 {
        let errors: u64 = self.errors.values().sum();
        self.per_second(self.replies.saturating_sub(errors + self.wrong))
    }

    /// Returns the throughput in megabytes per second: of the bodies that were answered, and of
    /// replies.
    pub fn megabytes(&self) -> (f64, f64) {
        (self.per_second(self.bytes.0) / 1e6, self.per_second(self.bytes.1) / 1e6)
    }

    fn per_second(&self, count: u64) -> f64 {
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
            // Cannot fail: both have the same bounds.
            let _ = mine.add(others);
        }
    }
}

/// Returns an empty histogram for 100 ns up to a day, with three significant digits.
fn histogram() -> Histogram<u64> {
    let day = Duration::from_secs(24 * 60 * 60).as_nanos() as u64;
    Histogram::new_with_bounds(100, day, 3).expect("these bounds are within the crate's")
}

/// State that the threads of a load share.
#[derive(Default)]
pub(super) struct Shared {
    /// True once the load is to end early.
    pub stopping: AtomicBool,
    /// Number of replies so far, including those of the warm-up.
    pub replied: AtomicU64,
}

/// Loads the service until the end of `load`, or until `stop` is readable, then waits for the
/// replies that are outstanding. Calls `progress` a few times a second with the time since the
/// start and the present rate in replies per second.
///
/// # Errors
/// Returns an error if all weights are 0, if the endpoint cannot be resolved, or if a socket or a
/// thread cannot be made.
pub fn run(
    load: &Load,
    stop: &impl AsFd,
    progress: impl FnMut(Duration, f64),
) -> Result<Outcome, Error> {
    if load.bodies.iter().all(|body| body.weight == 0) {
        return Err(Error::config("cannot load a service with no body to be drawn"));
    }
    let sockets = load.clients.sockets();
    let threads = load.threads.clamp(1, sockets);
    let endpoint = &load.endpoint.reached()?;
    let context = Context::new(1)?;
    // For a moment, a socket that is given up exists beside its successor.
    context.allow_sockets(2 * sockets + threads)?;
    let began = Instant::now();
    let processor_time_before = processor_time();
    let shared = Shared::default();
    let (ended, running) = pipe().map_err(cannot_start)?;
    let mut outcome = thread::scope(|scope| {
        let start = |thread| {
            let share_of = |total| share(total, thread, threads);
            let part = Part {
                load,
                endpoint,
                context: &context,
                bodies: load.bodies.iter().map(|body| Frame::from(&body.bytes[..])).collect(),
                // Seeded, so that each run draws the same bodies.
                rng: fastrand::Rng::with_seed(thread as u64),
                start: began + load.warmup,
                remaining: match load.end {
                    End::After(_) => u64::MAX,
                    End::Requests(requests) => share_of(requests),
                },
                schedule: Schedule::of(&load.clients, thread, threads),
                shared: &shared,
                outcome: Outcome::new(load.bodies.len()),
                _running: running.try_clone()?,
            };
            let sockets = share_of(sockets as u64) as usize;
            thread::Builder::new().spawn_scoped(scope, move || part.run(sockets))
        };
        let parts = (0..threads).map(start).collect::<io::Result<Vec<_>>>().map_err(|error| {
            // Those that have begun end too.
            shared.stopping.store(true, Ordering::Relaxed);
            cannot_start(error)
        })?;
        drop(running);
        wait_for_parts(&ended, stop, &shared, began, progress)?;
        parts.into_iter().try_fold(Outcome::new(load.bodies.len()), |mut outcome, part| {
            outcome.add(part.join().unwrap_or_else(|_| Err(Error::failed("a client panicked")))?);
            Ok::<_, Error>(outcome)
        })
    })?;
    outcome.processors =
        (processor_time() - processor_time_before).as_secs_f64() / began.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Returns how much of `total` is for one thread: the first ones take the remainder.
fn share(total: u64, thread: usize, threads: usize) -> u64 {
    let (thread, threads) = (thread as u64, threads as u64);
    total / threads + u64::from(thread < total % threads)
}

/// Waits until `ended` is readable: every thread has closed its end of the pipe. Tells the threads
/// to stop once `stop` is readable.
fn wait_for_parts(
    ended: &impl AsFd,
    stop: &impl AsFd,
    shared: &Shared,
    began: Instant,
    mut progress: impl FnMut(Duration, f64),
) -> Result<(), Error> {
    let mut shown = (Instant::now(), 0);
    loop {
        let mut watched = [readable(ended), readable(stop)];
        let watch = if shared.stopping.load(Ordering::Relaxed) { 1 } else { 2 };
        wait(&mut watched[..watch], Some(PROGRESS_INTERVAL))?;
        if watched[1].is_readable() {
            shared.stopping.store(true, Ordering::Relaxed);
        }
        if watched[0].is_readable() {
            return Ok(());
        }
        let now = (Instant::now(), shared.replied.load(Ordering::Relaxed));
        let rate = (now.1 - shown.1) as f64 / (now.0 - shown.0).as_secs_f64();
        progress(now.0 - began, rate);
        shown = now;
    }
}

fn cannot_start(error: io::Error) -> Error {
    Error::of_system("cannot start the clients", error)
}

/// Returns the processor time that this process has used so far, or zero if it is not known.
fn processor_time() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_SELF).map(|usage| {
        let used = [usage.user_time(), usage.system_time()];
        used.iter()
            .map(|t| Duration::from_micros(t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64))
            .sum()
    });
    used.unwrap_or_default()
}
