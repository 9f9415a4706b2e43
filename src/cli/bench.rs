//! The options of `repd bench`.

use std::time::Duration;

use argh::FromArgs;

use super::{Builtin, builtin, parse};
use crate::config;
use crate::endpoint::Endpoint;
use crate::error::Error;

/// Load a service with requests of one frame, and report rate and latency. Any service that answers
/// REQ clients will do.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "bench",
    help_triggers("-h", "--help"),
    note = "Latency is from before a request is sent to after its reply has come; error replies do not count there. SIGINT ends the load and reports what came so far.",
    note = "The clients' own cost was checked against a bare REP socket, on two processors: about 1.4 us of processor time for a pipelined request, 15 us for one of 50 REQ sockets, and at most an eighth of it in repd's own code, the rest in libzmq and the kernel. The report says what they used: near all processors, run them on another machine.",
    note = "Exit codes: 0 every request got its reply; 1 a reply was missing or not as expected, or nobody there; 2 bad usage.",
    example = "{command_name} tcp://localhost:5555 --clients 20 --duration 5"
)]
pub struct Bench {
    /// the service, tcp://HOST:PORT or ipc://PATH
    #[argh(positional, arg_name = "endpoint")]
    pub endpoint: Endpoint,

    /// REQ sockets, each with one request outstanding, 1 to 10000 (default 50)
    #[argh(option, arg_name = "n", from_str_fn(parse::clients))]
    pub clients: Option<usize>,

    /// instead of these, one DEALER with so many requests outstanding, 1 to 100000
    #[argh(option, arg_name = "n", from_str_fn(parse::pipeline))]
    pub pipeline: Option<usize>,

    /// seconds that the load lasts, 0.001 to 86400 (default 10)
    #[argh(option, arg_name = "seconds", from_str_fn(parse::timeout))]
    pub duration: Option<Duration>,

    /// instead of a duration, how many requests are sent
    #[argh(option, arg_name = "n", from_str_fn(parse::requests))]
    pub requests: Option<u64>,

    /// bytes of each request, with k for KiB or M for MiB, or a file that holds them (default 64)
    #[argh(
        option,
        arg_name = "bytes",
        default = "Size::Bytes(config::BENCH_SIZE)",
        from_str_fn(bench_size)
    )]
    pub size: Size,

    /// seconds of load before anything counts, 0 to 86400 (default 1)
    #[argh(
        option,
        arg_name = "seconds",
        default = "config::BENCH_WARMUP",
        from_str_fn(parse::drain)
    )]
    pub warmup: Duration,

    /// seconds after which a reply counts as missing, 0.001 to 86400 (default 5)
    #[argh(
        option,
        arg_name = "seconds",
        default = "config::CALL_TIMEOUT",
        from_str_fn(parse::timeout)
    )]
    pub timeout: Duration,

    /// verify each reply: reverse or echo
    #[argh(option, arg_name = "handler", from_str_fn(builtin))]
    pub expect: Option<Builtin>,

    /// print one JSON object
    #[argh(switch)]
    pub json: bool,
}

impl Bench {
    /// Refuses what excludes each other.
    ///
    /// # Errors
    /// What was given beside what, exit code 2.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let pairs = [
            (self.clients.is_some() && self.pipeline.is_some(), "--clients", "--pipeline"),
            (self.duration.is_some() && self.requests.is_some(), "--duration", "--requests"),
        ];
        let both = pairs.into_iter().find(|(both, ..)| *both);
        both.map_or(Ok(()), |(_, one, other)| {
            Err(Error::config(format!("cannot use {one} beside {other}"))
                .remedy("give one of them"))
        })
    }
}

/// What `bench` sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many bytes.
    Bytes(usize),
    /// What is in this file.
    File(String),
}

fn bench_size(text: &str) -> Result<Size, String> {
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => parse::size(text).map(Size::Bytes),
        false => Ok(Size::File(text.into())),
    }
}
