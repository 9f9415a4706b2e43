//! The options of `repd serve`.

use std::fmt::Write;
use std::time::Duration;

use argh::FromArgs;

use super::{Builtin, builtin};
use crate::config::{self, Config};
use crate::endpoint::Endpoint;
use crate::log::Target;

/// Run the service.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "serve",
    help_triggers("-h", "--help"),
    note = "SIGTERM or SIGINT stops the service once all is answered; a second one ends it at once.",
    note = "Exit codes: 0 done; 1 failed while running; 2 bad usage or configuration.",
    example = "{command_name} --listen 'tcp://*:5555' --listen ipc:///run/repd.sock --handler echo"
)]
pub struct Serve {
    /// endpoint where clients connect, tcp://HOST:PORT or ipc://PATH; may be given several times
    /// (default tcp://*:5555)
    #[argh(option, arg_name = "endpoint")]
    listen: Vec<Endpoint>,

    /// REP workers, 0 to 500; 0 is the single-threaded server, which has no deadlines (default 5)
    #[argh(option, arg_name = "n", default = "config::WORKERS", from_str_fn(config::workers))]
    workers: usize,

    /// what answers: reverse or echo (default reverse)
    #[argh(option, arg_name = "name", default = "Builtin::default()", from_str_fn(builtin))]
    handler: Builtin,

    /// seconds that a request may take once the proxy has taken it, 0.001 to 86400; then the client
    /// gets a 504 (default 30)
    #[argh(
        option,
        arg_name = "seconds",
        default = "config::TIMEOUT",
        from_str_fn(config::timeout)
    )]
    timeout: Duration,

    /// seconds that a stop may take, 0 to 86400 (default 5)
    #[argh(option, arg_name = "seconds", default = "config::DRAIN", from_str_fn(config::drain))]
    drain: Duration,

    /// largest frame, 1 byte to 1024M, with k for KiB or M for MiB; a client that sends a larger one
    /// is disconnected (default 1M)
    #[argh(
        option,
        arg_name = "bytes",
        default = "config::MAX_MESSAGE_SIZE",
        from_str_fn(config::size)
    )]
    max_message_size: usize,

    /// most frames of a request, 1 to 65536; one with more gets a 413 (default 64)
    #[argh(
        option,
        arg_name = "n",
        default = "config::MAX_FRAMES",
        from_str_fn(config::max_frames)
    )]
    max_frames: usize,

    /// threads that move bytes between network and sockets, 1 to 64 (default 1)
    #[argh(
        option,
        arg_name = "n",
        default = "config::IO_THREADS",
        from_str_fn(config::io_threads)
    )]
    io_threads: usize,

    /// connections that may wait to be accepted, 1 to 4096 (default 1024)
    #[argh(option, arg_name = "n", default = "config::BACKLOG", from_str_fn(config::backlog))]
    backlog: usize,

    /// seconds of silence after which a client's host is asked whether it is there; one that does not
    /// answer for as long again is disconnected; up to 3600, 0 for never (default 10)
    #[argh(
        option,
        arg_name = "seconds",
        default = "config::HEARTBEAT",
        from_str_fn(config::heartbeat)
    )]
    heartbeat: Duration,

    /// where log lines go: stderr or syslog (default stderr)
    #[argh(option, arg_name = "target", default = "Target::default()", from_str_fn(target))]
    pub log: Target,

    /// log each request
    #[argh(switch)]
    pub verbose: bool,

    /// check everything, the endpoints too, print what would be run, and exit
    #[argh(switch)]
    pub check: bool,
}

impl Serve {
    /// What answers requests.
    pub fn handler(&self) -> Builtin {
        self.handler
    }

    /// The service that these options describe.
    pub fn config(&self) -> Config {
        let listen = self.listen.clone();
        Config {
            listen: if listen.is_empty() { Config::default().listen } else { listen },
            workers: self.workers,
            timeout: self.timeout,
            drain: self.drain,
            max_message_size: self.max_message_size,
            max_frames: self.max_frames,
            io_threads: self.io_threads,
            backlog: self.backlog,
            heartbeat: self.heartbeat,
        }
    }

    /// Each option and its value, a line each: what `--check` prints.
    pub fn describe(&self) -> String {
        let config = self.config();
        let mut text = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "--{name} {value}");
        };
        config.listen.iter().for_each(|endpoint| line("listen", endpoint));
        line("workers", &config.workers);
        line("handler", &format!("{:?}", self.handler).to_lowercase());
        line("timeout", &config.timeout.as_secs_f64());
        line("drain", &config.drain.as_secs_f64());
        line("max-message-size", &config.max_message_size);
        line("max-frames", &config.max_frames);
        line("io-threads", &config.io_threads);
        line("backlog", &config.backlog);
        line("heartbeat", &config.heartbeat.as_secs_f64());
        line("log", &format!("{:?}", self.log).to_lowercase());
        if self.verbose {
            text.push_str("--verbose\n");
        }
        text
    }
}

fn target(name: &str) -> Result<Target, String> {
    match name {
        "stderr" => Ok(Target::Stderr),
        "syslog" => Ok(Target::Syslog),
        _ => Err("give stderr or syslog".into()),
    }
}
