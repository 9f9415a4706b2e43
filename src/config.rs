//! What a service can be told: every setting, its default, its range.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::socket::PeerLimits;

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
/// The default of `--drain`.
pub const DRAIN: Duration = Duration::from_secs(5);
/// The default of `--max-message-size`, in bytes.
pub const MAX_MESSAGE_SIZE: usize = 1 << 20;
/// The default of `--max-frames`.
pub const MAX_FRAMES: usize = 64;
/// The default of `--io-threads`.
pub const IO_THREADS: usize = 1;
/// The default of `--backlog`.
pub const BACKLOG: usize = 1024;
/// The default of `--heartbeat`.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// The default of `call --timeout`.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The default of `bench --clients`.
pub const BENCH_CLIENTS: usize = 50;
/// The default of `bench --duration`.
pub const BENCH_DURATION: Duration = Duration::from_secs(10);
/// The default of `bench --size`, in bytes.
pub const BENCH_SIZE: usize = 64;
/// The default of `bench --warmup`.
pub const BENCH_WARMUP: Duration = Duration::from_secs(1);

/// The most hops that a request may have come over before this service: the frames of its envelope.
pub const MAX_HOPS: usize = 64;
/// The longest envelope, in bytes: a routing id for each hop, of 255 at most (ZeroMQ RFC 37,
/// section 2.3).
pub const MAX_ENVELOPE: usize = MAX_HOPS * 255;

// libzmq allows 1,023 sockets a context by default, and a worker has two.
pub(crate) const WORKERS_RANGE: RangeInclusive<usize> = 0..=500;
pub(crate) const FRAMES_RANGE: RangeInclusive<usize> = 1..=65_536;
pub(crate) const SIZE_RANGE: RangeInclusive<usize> = 1..=1 << 30;
pub(crate) const IO_THREADS_RANGE: RangeInclusive<usize> = 1..=64;
// Linux cuts a longer one to net.core.somaxconn, which is 4,096.
pub(crate) const BACKLOG_RANGE: RangeInclusive<usize> = 1..=4096;
pub(crate) const OUTSTANDING_RANGE: RangeInclusive<usize> = 1..=100_000;
pub(crate) const AGAIN_RANGE: RangeInclusive<usize> = 0..=100;
pub(crate) const RETRIES_RANGE: RangeInclusive<usize> = 0..=1_000_000;
pub(crate) const CLIENTS_RANGE: RangeInclusive<usize> = 1..=10_000;
pub(crate) const PIPELINE_RANGE: RangeInclusive<usize> = 1..=100_000;
pub(crate) const REQUESTS_RANGE: RangeInclusive<usize> = 1..=1_000_000_000_000;
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const TIMEOUT_RANGE: RangeInclusive<Duration> = SHORTEST..=A_DAY;
pub(crate) const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=A_DAY;
// Linux keeps count of keepalive's seconds in 15 bits.
pub(crate) const HEARTBEAT_RANGE: RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_secs(3600);

/// How a service is set up. `Config::default()` is what plain `repd` runs.
///
/// The command line keeps each value within its range; a program that fills this in by itself is
/// held to the same ones when the service starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect. At least one.
    pub listen: Vec<Endpoint>,
    /// How many REP workers answer at a time, 0 to 500. 0 is the single-threaded server: the
    /// handler called in the loop that serves clients, no deadlines.
    pub workers: usize,
    /// Where REP workers of any language connect, in place of workers of this process.
    pub backend: Vec<Endpoint>,
    /// Other services of this kind that the requests go on to, in place of workers of this process.
    pub upstream: Vec<Endpoint>,
    /// How many requests may be outstanding with all that connect to the backend, or with each
    /// upstream, 1 to 100,000.
    pub max_outstanding: usize,
    /// How long a request may take once the proxy has taken it, 1 ms to one day. Then the client
    /// gets a 504.
    pub timeout: Duration,
    /// To how many others a request is given in turn, 0 to 100, when what was to answer it was lost
    /// before it replied ([`Code::Lost`](crate::Code::Lost)). It may have been handled each time.
    pub retries: usize,
    /// How long a stop may take, up to one day.
    pub drain: Duration,
    /// The largest request that is taken, in bytes, 1 to 1 GiB: all frames of its body together. A
    /// larger one gets a 413; one larger than four times that and 64 KiB ends its client's
    /// connection.
    pub max_message_size: usize,
    /// How many frames a request may have, 1 to 65,536. One with more gets a 413.
    pub max_frames: usize,
    /// How many threads move bytes between the network and the sockets, 1 to 64.
    pub io_threads: usize,
    /// How many connections may wait to be accepted, at each endpoint, 1 to 4,096.
    pub backlog: usize,
    /// After how much silence a client's host is asked whether it is there, in whole seconds,
    /// rounded up, to one hour; zero is a minute, and nothing but a connection without traffic is
    /// looked after. One that does not answer for as long again is disconnected.
    pub heartbeat: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec![Endpoint::any(PORT)],
            workers: WORKERS,
            backend: Vec::new(),
            upstream: Vec::new(),
            max_outstanding: MAX_OUTSTANDING,
            timeout: TIMEOUT,
            retries: RETRIES,
            drain: DRAIN,
            max_message_size: MAX_MESSAGE_SIZE,
            max_frames: MAX_FRAMES,
            io_threads: IO_THREADS,
            backlog: BACKLOG,
            heartbeat: HEARTBEAT,
        }
    }
}

impl Config {
    /// Whether requests are answered elsewhere.
    pub(crate) fn is_remote(&self) -> bool {
        !self.backend.is_empty() || !self.upstream.is_empty()
    }

    /// What is held of a client, a worker that connects, or an upstream.
    pub(crate) fn peer_limits(&self) -> PeerLimits {
        // An envelope over its bound is answered too, if it is not much longer.
        let frames = self.max_frames + 2 * MAX_HOPS + 1;
        PeerLimits {
            heartbeat: self.heartbeat,
            message_bytes: (self.max_message_size + MAX_ENVELOPE) as i64,
            message_frames: frames as i32,
        }
    }

    /// What is out of its range, if anything is, as `setting: what to give`.
    pub(crate) fn mistake(&self) -> Option<String> {
        let numbers = [
            ("workers", self.workers, WORKERS_RANGE),
            ("max_outstanding", self.max_outstanding, OUTSTANDING_RANGE),
            ("retries", self.retries, AGAIN_RANGE),
            ("max_message_size", self.max_message_size, SIZE_RANGE),
            ("max_frames", self.max_frames, FRAMES_RANGE),
            ("io_threads", self.io_threads, IO_THREADS_RANGE),
            ("backlog", self.backlog, BACKLOG_RANGE),
        ];
        let times = [
            ("timeout", self.timeout, TIMEOUT_RANGE),
            ("drain", self.drain, DRAIN_RANGE),
            ("heartbeat", self.heartbeat, HEARTBEAT_RANGE),
        ];
        let twice = |(place, endpoint)| self.upstream[..place].contains(endpoint);
        if let Some((_, upstream)) = self.upstream.iter().enumerate().find(|u| twice(*u)) {
            return Some(format!("upstream: {upstream} is given twice; give it once"));
        }
        if !self.backend.is_empty() && !self.upstream.is_empty() {
            return Some("backend and upstream together; give one of them".into());
        }
        if self.listen.is_empty() {
            return Some("listen: give at least one endpoint".into());
        }
        let number = numbers.into_iter().find(|(_, number, range)| !range.contains(number));
        let time = times.into_iter().find(|(_, time, range)| !range.contains(time));
        number
            .map(|(name, _, range)| format!("{name}: {}", asked(&range)))
            .or(time.map(|(name, _, range)| format!("{name}: {}", asked_seconds(&range))))
    }
}

/// What to give for a number within `range`.
pub(crate) fn asked(range: &RangeInclusive<usize>) -> String {
    format!("give a whole number from {} to {}", range.start(), range.end())
}

/// What to give for a time within `range`.
pub(crate) fn asked_seconds(range: &RangeInclusive<Duration>) -> String {
    let (least, most) = (range.start().as_secs_f64(), range.end().as_secs());
    format!("give seconds from {least} to {most}, fractions allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_their_ranges() {
        assert_eq!(Config::default().mistake(), None);
    }

    #[test]
    fn a_config_out_of_range_names_the_setting() {
        let config = Config { io_threads: 0, ..Config::default() };
        assert_eq!(config.mistake().unwrap(), "io_threads: give a whole number from 1 to 64");
        let config = Config { timeout: Duration::ZERO, ..Config::default() };
        assert!(config.mistake().unwrap().starts_with("timeout: give seconds from 0.001 to 86400"));
    }
}
