//! The options of `repd serve`.

use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::{Builtin, parse, parse_builtin};
use crate::auth::Network;
use crate::config::{self, Backend, Config};
use crate::endpoint::Endpoint;
use crate::handler::{Framing, Handler, Program, echo, reverse};
use crate::logging::LevelFilter;

mod check;
mod describe;
mod logging;

use logging::{Format, LogTarget};

/// Run the service.
#[derive(ArgsInfo, Debug, FromArgs)]
#[argh(
    subcommand,
    name = "serve",
    help_triggers("-h", "--help"),
    note = "A time is in seconds, or has a unit: 500ms, 5s, 2m, 1h.",
    note = "SIGTERM or SIGINT stops the service: what workers have is answered, what waits gets \
            a 503; a second one ends it at once.",
    note = "Exit codes: 0 stopped, all requests answered; 1 failed while running, or \
            requests were abandoned; 2 bad usage or configuration.",
    example = "{command_name} --listen 'tcp://*:5555' --listen ipc:///run/repd.sock --handler echo",
    example = "{command_name} --framing lines -- ./words.sh"
)]
pub struct Serve {
    /// endpoint where clients connect, tcp://HOST:PORT, ipc://PATH, or fd://NAME for a socket that
    /// systemd hands over; may be given several times (default tcp://*:5555)
    #[argh(option, arg_name = "endpoint")]
    listen: Vec<Endpoint>,

    /// number of REP workers, 0 to 500; 0 is the single-threaded server, which has deadlines only
    /// for programs and for what waits (default 5)
    #[argh(option, arg_name = "n", from_str_fn(parse::workers))]
    workers: Option<usize>,

    /// built-in handler: reverse or echo (default reverse)
    #[argh(option, arg_name = "name", from_str_fn(parse_builtin))]
    pub(super) handler: Option<Builtin>,

    /// framing of requests and replies on the standard input and output of a PROGRAM: packet, lines
    /// or once (default packet)
    #[argh(option, arg_name = "name")]
    framing: Option<Framing>,

    /// allow several frames in a request to a PROGRAM and in its reply
    #[argh(switch)]
    multipart: bool,

    /// endpoint where REP workers in any language connect, instead of workers in this process; may
    /// be given several times
    #[argh(option, arg_name = "endpoint")]
    backend: Vec<Endpoint>,

    /// endpoint of another repd to forward requests to, instead of workers in this process; may be
    /// given several times
    #[argh(option, arg_name = "endpoint")]
    upstream: Vec<Endpoint>,

    /// maximum number of outstanding requests for each external worker or upstream, 1 to 100000
    /// (default 1000)
    #[argh(option, arg_name = "n", from_str_fn(parse::max_outstanding))]
    max_outstanding: Option<usize>,

    /// seconds that a request may take, from when the proxy reads it, 0.001 to 86400; then the
    /// client gets a 504 (default 30)
    #[argh(option, arg_name = "seconds", default = "config::TIMEOUT", from_str_fn(parse::timeout))]
    timeout: Duration,

    /// number of times that a request is sent to another program, worker or upstream when the one
    /// that had it was lost, or could not answer, 0 to 100; with 0 it is handled at most once
    /// (default 0)
    #[argh(option, arg_name = "n", default = "config::RETRIES", from_str_fn(parse::retries))]
    retries: usize,

    /// give a request that takes longer than 95 of 100 to another worker or upstream too, and take
    /// the first reply; at most 5 of 100; needs --retries
    #[argh(switch)]
    hedge: bool,

    /// maximum number of seconds that a stop waits for what workers have, 0 to 86400 (default 5)
    #[argh(option, arg_name = "seconds", default = "config::DRAIN", from_str_fn(parse::drain))]
    drain: Duration,

    /// file with the service's secret key, NAME.key_secret: tcp endpoints of --listen then want keys
    /// and need --clients, and those of --backend --backend-clients
    #[argh(option, arg_name = "file")]
    key: Option<PathBuf>,

    /// list of the clients that may connect, a line NAME KEY for each; needs --key
    #[argh(option, arg_name = "file")]
    clients: Option<PathBuf>,

    /// list of the workers that may connect to tcp endpoints of --backend, likewise; needs --key
    #[argh(option, arg_name = "file")]
    backend_clients: Option<PathBuf>,

    /// list of the public keys of --upstream services, a line ENDPOINT KEY for each; needs --key, by
    /// which they know this service
    #[argh(option, arg_name = "file")]
    servers: Option<PathBuf>,

    /// network or address from which clients and workers may connect over TCP, such as 10.0.0.0/8;
    /// may be given several times (default any)
    #[argh(option, arg_name = "network")]
    allow: Vec<Network>,

    /// network or address from which they may not, though it is in one of --allow; may be given
    /// several times
    #[argh(option, arg_name = "network")]
    deny: Vec<Network>,

    /// tell what answers who asks, by its name in --clients: a PROGRAM by REPD_CLIENT and REPD_PEER
    /// with --framing once, otherwise by a field or frame in front of each request; --backend and
    /// --upstream by a frame
    #[argh(switch)]
    name_clients: bool,

    /// endpoint that shows how the service is doing, over HTTP: a page, JSON, metrics, health checks
    /// (default none)
    #[argh(option, arg_name = "endpoint")]
    status: Option<Endpoint>,

    /// maximum size of a request in bytes, all frames of its body together, 1 to 1024M, with k for
    /// KiB or M for MiB; a larger one gets a 413, and one of more than four times this size plus
    /// 64k ends the connection of its client (default 1M)
    #[argh(
        option,
        arg_name = "bytes",
        default = "config::MAX_MESSAGE_SIZE",
        from_str_fn(parse::size)
    )]
    max_message_size: usize,

    /// maximum number of frames in a request, 1 to 65536; one with more gets a 413 (default 64)
    #[argh(option, arg_name = "n", default = "config::MAX_FRAMES", from_str_fn(parse::max_frames))]
    max_frames: usize,

    /// maximum memory for requests and unsent replies together in bytes, 1M to 1024G, and at least
    /// twice --max-message-size; who holds most gets a 503 first (default 64M, or four times
    /// --max-message-size if that is more)
    #[argh(option, arg_name = "bytes", from_str_fn(parse::max_memory))]
    max_memory: Option<usize>,

    /// maximum number of connected clients, 1 to 1000000; one more is disconnected at once (default
    /// as many as there are open files for)
    #[argh(option, arg_name = "n", from_str_fn(parse::max_clients))]
    max_clients: Option<usize>,

    /// maximum number of outstanding requests of one client, 1 to 1000000; one more gets a 429
    /// (default 100000)
    #[argh(
        option,
        arg_name = "n",
        default = "config::CLIENT_OUTSTANDING",
        from_str_fn(parse::client_outstanding)
    )]
    client_outstanding: usize,

    /// maximum number of requests a second of one client, 1 to 1000000; it may send those of one
    /// second at once, and one more gets a 429 (default any number)
    #[argh(option, arg_name = "n", from_str_fn(parse::client_rate))]
    client_rate: Option<usize>,

    /// number of libzmq's I/O threads, 0 to 64; with 0 the proxy's thread does their work, unless
    /// there are keys or no workers (default 0)
    #[argh(option, arg_name = "n", default = "config::IO_THREADS", from_str_fn(parse::io_threads))]
    io_threads: usize,

    /// number of connections that may wait to be accepted at each endpoint, 1 to 4096 (default
    /// 1024)
    #[argh(option, arg_name = "n", default = "config::BACKLOG", from_str_fn(parse::backlog))]
    backlog: usize,

    /// seconds of silence after which the host of a client is probed, 0 to 3600; if it does not
    /// answer for as long again, the client is disconnected; 0 means 60 (default 10)
    #[argh(
        option,
        arg_name = "seconds",
        default = "config::HEARTBEAT",
        from_str_fn(parse::heartbeat)
    )]
    heartbeat: Duration,

    /// destination of log lines: stderr, journal or syslog (default stderr)
    #[argh(
        option,
        arg_name = "target",
        default = "LogTarget::default()",
        from_str_fn(logging::target)
    )]
    log: LogTarget,

    /// format of log lines on standard error: text, or json for an object a line (default text)
    #[argh(option, arg_name = "name", default = "Format::default()", from_str_fn(logging::format))]
    log_format: Format,

    /// least level of the lines that are logged: error, warning, info, or debug for each request
    /// (default info)
    #[argh(option, arg_name = "level", from_str_fn(logging::level))]
    log_level: Option<LevelFilter>,

    /// log each request: the same as --log-level debug
    #[argh(switch)]
    verbose: bool,

    /// check the options, the program and the endpoints, print the options that would be used, and
    /// exit
    #[argh(switch)]
    pub check: bool,

    /// program that answers requests instead of a built-in handler, and its arguments, after --
    #[argh(positional, arg_name = "PROGRAM ARG")]
    program: Vec<String>,
}

impl Serve {
    /// Returns the first positional argument: the program, if `--` is before it. `None` if there
    /// are none.
    pub(super) fn first_positional(&self) -> Option<&str> {
        self.program.first().map(String::as_str)
    }

    /// Returns the settings that these options describe.
    pub fn config(&self) -> Config {
        match self.handler.unwrap_or_default() {
            Builtin::Reverse => self.config_with(|_worker| reverse),
            Builtin::Echo => self.config_with(|_worker| echo),
        }
    }

    /// Returns the settings that these options describe, with this handler in place of a built-in
    /// one.
    pub fn config_with<F, H>(&self, new_handler: F) -> Config
    where
        F: Fn(usize) -> H + Send + Sync + 'static,
        H: Handler + 'static,
    {
        let workers = self.workers.unwrap_or(config::WORKERS);
        let backend = if !self.backend.is_empty() {
            Backend::External(self.backend.clone())
        } else if !self.upstream.is_empty() {
            Backend::Upstream(self.upstream.clone())
        } else if !self.program.is_empty() {
            let framing = self.framing.unwrap_or_default();
            let program = Program::new(&self.program).framing(framing).multipart(self.multipart);
            Backend::program(workers, program)
        } else {
            Backend::workers(workers, new_handler)
        };
        let config = Config::new(backend)
            .max_outstanding(self.max_outstanding.unwrap_or(config::MAX_OUTSTANDING))
            .timeout(self.timeout)
            .retries(self.retries)
            .hedge(self.hedge)
            .drain(self.drain)
            .max_message_size(self.max_message_size)
            .max_frames(self.max_frames)
            .io_threads(self.io_threads)
            .backlog(self.backlog)
            .heartbeat(self.heartbeat)
            .client_outstanding(self.client_outstanding)
            .allow(self.allow.iter().copied())
            .deny(self.deny.iter().copied())
            .name_clients(self.name_clients);
        let config = self.max_memory.into_iter().fold(config, Config::max_memory);
        let config = self.max_clients.into_iter().fold(config, Config::max_clients);
        let config = self.client_rate.into_iter().fold(config, Config::client_rate);
        let config = self.status.iter().cloned().fold(config, Config::status);
        let config = self.key.iter().fold(config, Config::key);
        let config = self.clients.iter().fold(config, Config::clients);
        let config = self.backend_clients.iter().fold(config, Config::backend_clients);
        let config = self.servers.iter().fold(config, Config::servers);
        if self.listen.is_empty() { config } else { config.listen(self.listen.clone()) }
    }
}

/// Returns the name of a choice as it is given.
fn lower(choice: impl std::fmt::Debug) -> String {
    format!("{choice:?}").to_lowercase()
}
