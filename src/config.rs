//! The settings of a service, with their defaults and ranges.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{Files, Network};
use crate::endpoint::Endpoint;
use crate::handler::reverse;

mod backend;
mod check;
mod derived;

pub(crate) use backend::WorkersHandler;
pub use backend::{Backend, Workers};

#[cfg(feature = "cli")]
pub(crate) use check::{number_hint, seconds_hint};

/// The default of `--listen` is this port of every IPv4 interface.
pub const PORT: u16 = 5555;
/// The default of `--workers`.
pub const WORKERS: usize = 5;
/// The default of `--timeout`.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// The default of `--retries`: a request is handled at most once.
pub const RETRIES: usize = 0;
/// The default of `--max-outstanding`.
pub const MAX_OUTSTANDING: usize = 1000;
/// The default of `--client-outstanding`.
pub const CLIENT_OUTSTANDING: usize = 100_000;
/// The default of `--max-memory`, in bytes, unless four times `--max-message-size` is more.
pub const MAX_MEMORY: usize = 64 << 20;
/// The default of `--drain`.
pub const DRAIN: Duration = Duration::from_secs(5);
/// The default of `--max-message-size`, in bytes.
pub const MAX_MESSAGE_SIZE: usize = 1 << 20;
/// The default of `--max-frames`.
pub const MAX_FRAMES: usize = 64;
/// The default of `--io-threads`.
pub const IO_THREADS: usize = 0;
/// The default of `--backlog`.
pub const BACKLOG: usize = 1024;
/// The default of `--heartbeat`.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// The default of `call --timeout`.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the default of `repd status`: where the packaged unit shows how it is doing.
#[cfg(feature = "cli")]
pub(crate) fn status_endpoint() -> Endpoint {
    Endpoint::ipc("/run/repd/status")
}

/// The default of `bench --clients`.
pub const BENCH_CLIENTS: usize = 50;
/// The default of `bench --duration`.
pub const BENCH_DURATION: Duration = Duration::from_secs(10);
/// The default of `bench --size`, in bytes.
pub const BENCH_SIZE: usize = 64;
/// The default of `bench --warmup`.
pub const BENCH_WARMUP: Duration = Duration::from_secs(1);

/// Maximum number of hops of a request before this service: the frames of its envelope.
pub const MAX_HOPS: usize = 64;
/// Maximum size of an envelope, in bytes: a routing id for each hop, of 255 at most (ZeroMQ RFC 37,
/// section 2.3).
pub const MAX_ENVELOPE: usize = MAX_HOPS * 255;

// libzmq allows 1,023 sockets a context by default, and a worker has two.
pub(crate) const WORKERS_RANGE: RangeInclusive<usize> = 0..=500;
pub(crate) const FRAMES_RANGE: RangeInclusive<usize> = 1..=65_536;
pub(crate) const SIZE_RANGE: RangeInclusive<usize> = 1..=1 << 30;
pub(crate) const IO_THREADS_RANGE: RangeInclusive<usize> = 0..=64;
// Linux cuts a longer one to net.core.somaxconn, which is 4,096.
pub(crate) const BACKLOG_RANGE: RangeInclusive<usize> = 1..=4096;
pub(crate) const OUTSTANDING_RANGE: RangeInclusive<usize> = 1..=100_000;
pub(crate) const CLIENT_OUTSTANDING_RANGE: RangeInclusive<usize> = 1..=1_000_000;
pub(crate) const CLIENT_RATE_RANGE: RangeInclusive<usize> = 1..=1_000_000;
pub(crate) const MAX_CLIENTS_RANGE: RangeInclusive<usize> = 1..=1_000_000;
// These two go beyond a usize of 32 bits.
pub(crate) const MEMORY_RANGE: RangeInclusive<u64> = 1 << 20..=1 << 40;
pub(crate) const REQUESTS_RANGE: RangeInclusive<u64> = 1..=1_000_000_000_000;
pub(crate) const RETRIES_RANGE: RangeInclusive<usize> = 0..=100;
pub(crate) const CALL_RETRIES_RANGE: RangeInclusive<usize> = 0..=1_000_000;
pub(crate) const CLIENTS_RANGE: RangeInclusive<usize> = 1..=10_000;
pub(crate) const PIPELINE_RANGE: RangeInclusive<usize> = 1..=100_000;
pub(crate) const MIN_TIME: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const TIMEOUT_RANGE: RangeInclusive<Duration> = MIN_TIME..=DAY;
pub(crate) const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=DAY;
// Linux keeps count of keepalive's seconds in 15 bits.
pub(crate) const HEARTBEAT_RANGE: RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_secs(3600);

/// The settings of a service. `Config::default()` is what plain `repd` runs: five workers that
/// [`reverse`], at `tcp://*:5555`.
///
/// ```
/// use repd::{Backend, Config, Framing, Program, check};
/// use std::time::Duration;
///
/// let program = Program::new(["wc", "-c"]).framing(Framing::Once);
/// let endpoints = ["tcp://127.0.0.1:*", "ipc://@wc"].map(|text| text.parse().unwrap());
/// let config = Config::new(Backend::program(2, program))
///     .listen(endpoints)
///     .timeout(Duration::from_secs(5));
/// assert!(check(&config).is_ok());
/// ```
///
/// A value that is out of its range is refused when the service starts.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) listen: Vec<Endpoint>,
    pub(crate) backend: Backend,
    pub(crate) max_outstanding: usize,
    pub(crate) timeout: Duration,
    pub(crate) retries: usize,
    pub(crate) hedge: bool,
    pub(crate) drain: Duration,
    pub(crate) max_message_size: usize,
    pub(crate) max_frames: usize,
    pub(crate) io_threads: usize,
    pub(crate) backlog: usize,
    pub(crate) heartbeat: Duration,
    pub(crate) max_memory: Option<usize>,
    pub(crate) max_clients: Option<usize>,
    pub(crate) client_outstanding: usize,
    pub(crate) client_rate: Option<usize>,
    pub(crate) keys: Files,
    pub(crate) allow: Vec<Network>,
    pub(crate) deny: Vec<Network>,
    pub(crate) name_clients: bool,
    pub(crate) status: Option<Endpoint>,
}

impl Default for Config {
    fn default() -> Config {
        Config::new(Backend::workers(WORKERS, |_worker| reverse))
    }
}

impl Config {
    /// Makes the settings of a service that answers with `backend`, at `tcp://*:5555`, with every
    /// other default.
    pub fn new(backend: Backend) -> Config {
        Config {
            listen: vec![Endpoint::any(PORT)],
            backend,
            max_outstanding: MAX_OUTSTANDING,
            timeout: TIMEOUT,
            retries: RETRIES,
            hedge: false,
            drain: DRAIN,
            max_message_size: MAX_MESSAGE_SIZE,
            max_frames: MAX_FRAMES,
            io_threads: IO_THREADS,
            backlog: BACKLOG,
            heartbeat: HEARTBEAT,
            max_memory: None,
            max_clients: None,
            client_outstanding: CLIENT_OUTSTANDING,
            client_rate: None,
            keys: Files::default(),
            allow: Vec::new(),
            deny: Vec::new(),
            name_clients: false,
            status: None,
        }
    }

    /// Sets where clients connect, in place of what was set before; at least one endpoint.
    pub fn listen(self, endpoints: impl IntoIterator<Item = Endpoint>) -> Config {
        Config { listen: endpoints.into_iter().collect(), ..self }
    }

    /// Sets how many requests may be outstanding with each external worker or upstream: 1 to
    /// 100,000, by default 1,000. It does not concern workers of this process.
    pub fn max_outstanding(self, requests: usize) -> Config {
        Config { max_outstanding: requests, ..self }
    }

    /// Sets the time that a request may take from when it was read: 1 ms to one day, by default 30
    /// s. Then the client gets a 504. A single-threaded service has no deadlines but those of
    /// programs and of what waits.
    pub fn timeout(self, timeout: Duration) -> Config {
        Config { timeout, ..self }
    }

    /// Sets to how many other workers or upstreams, one after the other, a request is given when
    /// what had it is lost before it replies, or answers with [`Code::LOST`](crate::Code::LOST) or
    /// [`Code::UNAVAILABLE`](crate::Code::UNAVAILABLE): 0 to 100, by default 0. The request may
    /// have been handled each time. A single-threaded service has no other worker.
    pub fn retries(self, retries: usize) -> Config {
        Config { retries, ..self }
    }

    /// Has a request that takes longer than 95 of 100 before it be given to another worker or upstream
    /// as well, if one has nothing better to do; the first reply counts. Each counts as one of
    /// [`Config::retries`], and there is at most one for each 20 requests. Not for workers of this
    /// process.
    pub fn hedge(self, is_on: bool) -> Config {
        Config { hedge: is_on, ..self }
    }

    /// Sets the time in which requests in flight are finished on a stop: up to one day, by default
    /// 5 s. What is still in a handler after that has about one second more before it is left
    /// behind.
    pub fn drain(self, limit: Duration) -> Config {
        Config { drain: limit, ..self }
    }

    /// Sets the largest request, in bytes, all frames of its body together: 1 to 1 GiB, by default
    /// 1 MiB. A larger one gets a 413; one that is larger than four times that and 64 KiB ends its
    /// client's connection. A program's reply may be as large.
    pub fn max_message_size(self, bytes: usize) -> Config {
        Config { max_message_size: bytes, ..self }
    }

    /// Sets the most frames that a request may have: 1 to 65,536, by default 64. A request with more
    /// is answered with 413. A program's reply may have as many.
    pub fn max_frames(self, frames: usize) -> Config {
        Config { max_frames: frames, ..self }
    }

    /// Sets how many threads move bytes between the network and the sockets: 0 to 64, by default 0.
    /// With 0 the proxy's own does, unless there are keys or no workers: then there is one.
    pub fn io_threads(self, threads: usize) -> Config {
        Config { io_threads: threads, ..self }
    }

    /// Sets how many connections may wait to be accepted, at each endpoint: 1 to 4,096, by default
    /// 1,024.
    pub fn backlog(self, connections: usize) -> Config {
        Config { backlog: connections, ..self }
    }

    /// Sets the silence after which a client's host is asked whether it is there: up to one hour in
    /// whole seconds (a fraction is rounded up), by default 10 s. A host that does not answer for
    /// as long again is disconnected. Zero stands for one minute.
    pub fn heartbeat(self, silence: Duration) -> Config {
        Config { heartbeat: silence, ..self }
    }

    /// Sets how many bytes requests and unsent replies may take together: 1 MiB to 1 TiB, and no
    /// less than twice the largest request; by default 64 MiB, or four times the largest request if
    /// that is more. If it is too much, the client for which most is held is refused first, with
    /// [`Code::UNAVAILABLE`](crate::Code::UNAVAILABLE).
    pub fn max_memory(self, bytes: usize) -> Config {
        Config { max_memory: Some(bytes), ..self }
    }

    /// Sets how many clients may be connected: 1 to 1,000,000, by default as many as there are open
    /// files for. One more is disconnected as soon as it has connected.
    pub fn max_clients(self, clients: usize) -> Config {
        Config { max_clients: Some(clients), ..self }
    }

    /// Sets how many requests of one client may be outstanding: 1 to 1,000,000, by default 100,000.
    /// One more is answered with [`Code::TOO_MANY`](crate::Code::TOO_MANY).
    pub fn client_outstanding(self, requests: usize) -> Config {
        Config { client_outstanding: requests, ..self }
    }

    /// Sets how many requests a second one client may send: 1 to 1,000,000, by default any number.
    /// It may send those of one second at once. One more is answered with
    /// [`Code::TOO_MANY`](crate::Code::TOO_MANY).
    pub fn client_rate(self, requests: usize) -> Config {
        Config { client_rate: Some(requests), ..self }
    }

    /// Sets the file of the service's secret key: then tcp endpoints of clients and of workers want
    /// keys (CURVE), and [`Config::clients`] says whose. The file is one that `repd keygen`, CZMQ or
    /// pyzmq has written, or has a secret key alone; nobody but its owner and group may read it.
    pub fn key(mut self, file: impl Into<PathBuf>) -> Config {
        self.keys.key = Some(file.into());
        self
    }

    /// Sets the list of clients that may connect to tcp endpoints; with [`Config::key`]. One line is
    /// one client's `NAME KEY`.
    pub fn clients(mut self, file: impl Into<PathBuf>) -> Config {
        self.keys.clients = Some(file.into());
        self
    }

    /// Sets the list of workers that may connect to tcp endpoints of the backend; with
    /// [`Config::key`].
    pub fn backend_clients(mut self, file: impl Into<PathBuf>) -> Config {
        self.keys.workers = Some(file.into());
        self
    }

    /// Sets from which networks clients and workers may connect over TCP; from any if there are none.
    pub fn allow(self, networks: impl IntoIterator<Item = Network>) -> Config {
        Config { allow: networks.into_iter().collect(), ..self }
    }

    /// Sets from which networks clients and workers may not connect over TCP, though they are in
    /// one that is allowed.
    pub fn deny(self, networks: impl IntoIterator<Item = Network>) -> Config {
        Config { deny: networks.into_iter().collect(), ..self }
    }

    /// Sets the list with the public key of each upstream that is reached over TCP; with
    /// [`Config::key`], which is this service's own there too. One line is `ENDPOINT KEY`.
    pub fn servers(mut self, file: impl Into<PathBuf>) -> Config {
        self.keys.servers = Some(file.into());
        self
    }

    /// Sets whether what answers hears who asks: a handler by
    /// [`Handler::handle_from`](crate::Handler::handle_from), a program by variables or in front of
    /// each request, workers and upstreams elsewhere by a frame in front of the body.
    pub fn name_clients(self, is_named: bool) -> Config {
        Config { name_clients: is_named, ..self }
    }

    /// Sets where the service shows how it is doing, over HTTP: a page at `/`, `/status.json`,
    /// `/metrics` for Prometheus, `/healthz` and `/readyz`; by default nowhere. Whoever reaches that
    /// endpoint may read it.
    pub fn status(self, endpoint: Endpoint) -> Config {
        Config { status: Some(endpoint), ..self }
    }
}
