//! The options of `repd bench`.

use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::{Builtin, client_keys, parse, parse_builtin};
use crate::auth::{ClientKeys, PublicKey};
use crate::config;
use crate::endpoint::Endpoint;
use crate::error::Error;

/// Load a service with requests of one frame, and report rate and latency. Works with any service
/// that answers REQ clients.
#[derive(ArgsInfo, Debug, FromArgs)]
#[argh(
    subcommand,
    name = "bench",
    help_triggers("-h", "--help"),
    note = "A time is in seconds, or has a unit: 500ms, 5s, 2m, 1h.",
    note = "Latency is measured from before a request is sent until its reply has \
            arrived, without error replies. SIGINT or SIGTERM ends the load early and reports \
            what came so far.",
    note = "The clients themselves cost about 1.4 us of processor time for a pipelined \
            request and 15 us for a request of one of 50 REQ sockets (measured against a bare \
            REP socket, on two processors). At most an eighth of that is in repd's own code, the \
            rest in libzmq and the kernel. The report says how many processors they used: if \
            that is nearly all of them, run the clients on another machine.",
    note = "Exit codes: 0 every request got its reply; 1 a reply was missing or not as \
            expected, or nothing listens there; 2 bad usage or configuration.",
    example = "{command_name} tcp://localhost:5555 --clients 20 --duration 5"
)]
pub struct Bench {
    /// the service, tcp://HOST:PORT or ipc://PATH
    #[argh(positional, arg_name = "endpoint")]
    pub endpoint: Endpoint,

    /// number of clients, 1 to 10000 (default 50), each a REQ socket with one request outstanding, or
    /// a DEALER with --open-loop
    #[argh(option, arg_name = "n", from_str_fn(parse::clients))]
    pub clients: Option<usize>,

    /// use one DEALER socket instead, with this many requests outstanding, 1 to 100000
    #[argh(option, arg_name = "n", from_str_fn(parse::pipeline))]
    pub pipeline: Option<usize>,

    /// send this many requests a second, 1 to 1000000, over that many --clients, whether there are
    /// replies or not; latency is measured from when a request was due
    #[argh(option, arg_name = "rate", from_str_fn(parse::open_loop))]
    pub open_loop: Option<usize>,

    /// duration of the load in seconds, 0.001 to 86400 (default 10)
    #[argh(option, arg_name = "seconds", from_str_fn(parse::timeout))]
    pub duration: Option<Duration>,

    /// number of requests to send, instead of a duration, 1 to 1000000000000
    #[argh(option, arg_name = "n", from_str_fn(parse::requests))]
    pub requests: Option<u64>,

    /// size of each request in bytes, 1 to 1024M, with k for KiB or M for MiB, or a file that holds
    /// the request (default 64)
    #[argh(
        option,
        arg_name = "bytes",
        default = "Size::Bytes(config::BENCH_SIZE)",
        from_str_fn(bench_size)
    )]
    pub size: Size,

    /// seconds of load before the measurement starts, 0 to 86400 (default 1)
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

    /// public key of a service that wants keys, or the file NAME.key with it; needs --key
    #[argh(option, arg_name = "key", from_str_fn(parse::server_key))]
    server_key: Option<PublicKey>,

    /// file with the secret key to be known by, NAME.key_secret; needs --server-key
    #[argh(option, arg_name = "file")]
    key: Option<PathBuf>,

    /// verify that each reply is that of this handler: reverse or echo
    #[argh(option, arg_name = "handler", from_str_fn(parse_builtin))]
    pub expect: Option<Builtin>,

    /// print one JSON object
    #[argh(switch)]
    pub json: bool,
}

impl Bench {
    /// Returns the keys to connect with, if they are given.
    ///
    /// # Errors
    /// One without the other, or a file that holds no key (exit code 2).
    pub(crate) fn keys(&self) -> Result<Option<ClientKeys>, Error> {
        client_keys(self.key.as_deref(), self.server_key)
    }

    /// Checks that no two options exclude each other.
    ///
    /// # Errors
    /// Returns an error with exit code 2 that names the two options.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let pairs = [
            (self.clients.is_some() && self.pipeline.is_some(), "--clients", "--pipeline"),
            (self.open_loop.is_some() && self.pipeline.is_some(), "--open-loop", "--pipeline"),
            (self.duration.is_some() && self.requests.is_some(), "--duration", "--requests"),
        ];
        let both = pairs.into_iter().find(|(both, ..)| *both);
        both.map_or(Ok(()), |(_, one, other)| {
            Err(Error::config(format!("cannot use {one} with {other}"))
                .with_remedy("give one of them"))
        })
    }
}

/// The body of each request that `bench` sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    /// This many bytes.
    Bytes(usize),
    /// The content of this file.
    File(String),
}

fn bench_size(text: &str) -> Result<Size, String> {
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => parse::size(text).map(Size::Bytes),
        false => Ok(Size::File(text.into())),
    }
}
