//! The options of `repd serve`.

use std::fmt::Write;
use std::time::Duration;

use argh::FromArgs;

use super::{Builtin, builtin, parse};
use crate::config::{self, Config};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::handler::{Framing, Program};
use crate::logging::Target;

/// Run the service.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "serve",
    help_triggers("-h", "--help"),
    note = "SIGTERM or SIGINT stops the service once all is answered; a second one ends it at once.",
    note = "Exit codes: 0 done; 1 failed while running; 2 bad usage or configuration.",
    example = "{command_name} --listen 'tcp://*:5555' --listen ipc:///run/repd.sock --handler echo",
    example = "{command_name} --framing lines -- ./count-words.sh"
)]
pub struct Serve {
    /// endpoint where clients connect, tcp://HOST:PORT or ipc://PATH; may be given several times
    /// (default tcp://*:5555)
    #[argh(option, arg_name = "endpoint")]
    listen: Vec<Endpoint>,

    /// REP workers, 0 to 500; 0 is the single-threaded server, without deadlines but for programs
    /// (default 5)
    #[argh(option, arg_name = "n", from_str_fn(parse::workers))]
    workers: Option<usize>,

    /// what answers: reverse or echo (default reverse)
    #[argh(option, arg_name = "name", from_str_fn(builtin))]
    handler: Option<Builtin>,

    /// how a PROGRAM is spoken to on its standard input and output: packet, lines or once (default
    /// packet)
    #[argh(option, arg_name = "name", from_str_fn(framing))]
    framing: Option<Framing>,

    /// let requests to a PROGRAM, and its replies, have several frames
    #[argh(switch)]
    multipart: bool,

    /// endpoint where REP workers of any language connect and answer, in place of workers of this
    /// process; may be given several times
    #[argh(option, arg_name = "endpoint")]
    backend: Vec<Endpoint>,

    /// endpoint of another repd that requests go on to, in place of workers of this process; may be
    /// given several times
    #[argh(option, arg_name = "endpoint")]
    upstream: Vec<Endpoint>,

    /// most requests that may be outstanding with all workers of the backend, or with each upstream, 1 to
    /// 100000 (default 1000)
    #[argh(option, arg_name = "n", from_str_fn(parse::max_outstanding))]
    max_outstanding: Option<usize>,

    /// seconds that a request may take once the proxy has taken it, 0.001 to 86400; then the client
    /// gets a 504 (default 30)
    #[argh(option, arg_name = "seconds", default = "config::TIMEOUT", from_str_fn(parse::timeout))]
    timeout: Duration,

    /// to how many others in turn a request is given when what was to answer it was lost, 0 to 100;
    /// 0 is: handled at most once (default 0)
    #[argh(option, arg_name = "n", default = "config::RETRIES", from_str_fn(parse::again))]
    retries: usize,

    /// seconds that a stop may take, 0 to 86400 (default 5)
    #[argh(option, arg_name = "seconds", default = "config::DRAIN", from_str_fn(parse::drain))]
    drain: Duration,

    /// largest request, 1 byte to 1024M, with k for KiB or M for MiB, all frames of its body together; a
    /// larger one gets a 413, and one larger than four times that and 64k ends its client's connection
    /// (default 1M)
    #[argh(
        option,
        arg_name = "bytes",
        default = "config::MAX_MESSAGE_SIZE",
        from_str_fn(parse::size)
    )]
    max_message_size: usize,

    /// most frames of a request, 1 to 65536; one with more gets a 413 (default 64)
    #[argh(option, arg_name = "n", default = "config::MAX_FRAMES", from_str_fn(parse::max_frames))]
    max_frames: usize,

    /// threads that move bytes between network and sockets, 1 to 64 (default 1)
    #[argh(option, arg_name = "n", default = "config::IO_THREADS", from_str_fn(parse::io_threads))]
    io_threads: usize,

    /// connections that may wait to be accepted, 1 to 4096 (default 1024)
    #[argh(option, arg_name = "n", default = "config::BACKLOG", from_str_fn(parse::backlog))]
    backlog: usize,

    /// seconds of silence after which a client's host is asked whether it is there; one that does not
    /// answer for as long again is disconnected; up to 3600, 0 for a minute without traffic (default
    /// 10)
    #[argh(
        option,
        arg_name = "seconds",
        default = "config::HEARTBEAT",
        from_str_fn(parse::heartbeat)
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

    /// a program that answers requests in place of a handler, and its arguments, behind --
    #[argh(positional, arg_name = "PROGRAM ARG")]
    program: Vec<String>,
}

/// What answers requests.
#[derive(Clone, Debug)]
pub enum Answering {
    /// A handler that comes with repd.
    Builtin(Builtin),
    /// A program.
    Program(Program),
}

impl Serve {
    /// What answers requests.
    pub fn answering(&self) -> Answering {
        if self.program.is_empty() {
            return Answering::Builtin(self.handler.unwrap_or_default());
        }
        Answering::Program(Program {
            command: self.program.clone(),
            framing: self.framing.unwrap_or_default(),
            multipart: self.multipart,
        })
    }

    /// The first word that is no option's: a program's, if it stands behind `--`.
    pub(super) fn stray(&self) -> Option<&str> {
        self.program.first().map(String::as_str)
    }

    /// What does not go together.
    pub(super) fn check_options(&self) -> Result<(), Error> {
        let given = |option: &str| match option {
            "--backend" => !self.backend.is_empty(),
            "--upstream" => !self.upstream.is_empty(),
            "--workers" => self.workers.is_some(),
            "--handler" => self.handler.is_some(),
            "--framing" => self.framing.is_some(),
            "--multipart" => self.multipart,
            _ => !self.program.is_empty(),
        };
        let beside = [
            ("--upstream", "--backend"),
            ("--handler", "a program"),
            ("--handler", "--backend"),
            ("--handler", "--upstream"),
            ("a program", "--backend"),
            ("a program", "--upstream"),
            ("--workers", "--backend"),
            ("--workers", "--upstream"),
            ("--framing", "--backend"),
            ("--framing", "--upstream"),
            ("--multipart", "--backend"),
            ("--multipart", "--upstream"),
        ];
        if let Some((one, other)) = beside.into_iter().find(|(a, b)| given(a) && given(b)) {
            return Err(Error::config(format!("cannot use {one} beside {other}"))
                .remedy("leave out one of them"));
        }
        let of_program = ["--framing", "--multipart"].into_iter().find(|option| given(option));
        if let (Some(option), true) = (of_program, self.program.is_empty()) {
            return Err(Error::config(format!("cannot use {option} without a program"))
                .remedy("give one at the end: -- PROGRAM ARG..."));
        }
        if self.max_outstanding.is_some() && !given("--backend") && !given("--upstream") {
            return Err(Error::config("cannot use --max-outstanding with workers of this process")
                .remedy("give it with --backend or --upstream"));
        }
        let cannot_retry = match self.config() {
            config if self.retries == 0 || config.is_remote() => None,
            _ if self.program.is_empty() => Some(("a handler of this process", "it is never lost")),
            _ if self.framing == Some(Framing::Once) => {
                Some(("--framing once", "a program that fails has had the request"))
            }
            config if config.workers == 0 => Some(("--workers 0", "there is no other to ask")),
            _ => None,
        };
        if let Some((what, why)) = cannot_retry {
            return Err(Error::config(format!("cannot use --retries with {what}"))
                .because(why)
                .remedy(
                    "leave it out, or give workers with a program each, --backend or --upstream",
                ));
        }
        Ok(())
    }

    /// The service that these options describe.
    pub fn config(&self) -> Config {
        let listen = self.listen.clone();
        Config {
            listen: if listen.is_empty() { Config::default().listen } else { listen },
            workers: self.workers.unwrap_or(config::WORKERS),
            backend: self.backend.clone(),
            upstream: self.upstream.clone(),
            max_outstanding: self.max_outstanding.unwrap_or(config::MAX_OUTSTANDING),
            timeout: self.timeout,
            retries: self.retries,
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
        config.backend.iter().for_each(|endpoint| line("backend", endpoint));
        config.upstream.iter().for_each(|endpoint| line("upstream", endpoint));
        match self.answering() {
            _ if config.is_remote() => line("max-outstanding", &config.max_outstanding),
            Answering::Builtin(handler) => {
                line("workers", &config.workers);
                line("handler", &format!("{handler:?}").to_lowercase());
            }
            Answering::Program(program) => {
                line("workers", &config.workers);
                line("framing", &format!("{:?}", program.framing).to_lowercase());
            }
        }
        line("timeout", &config.timeout.as_secs_f64());
        line("retries", &config.retries);
        line("drain", &config.drain.as_secs_f64());
        line("max-message-size", &config.max_message_size);
        line("max-frames", &config.max_frames);
        line("io-threads", &config.io_threads);
        line("backlog", &config.backlog);
        line("heartbeat", &config.heartbeat.as_secs_f64());
        line("log", &format!("{:?}", self.log).to_lowercase());
        for (switch, is_on) in [("multipart", self.multipart), ("verbose", self.verbose)] {
            if is_on {
                let _ = writeln!(text, "--{switch}");
            }
        }
        if !self.program.is_empty() {
            let words = self.program.iter().map(|word| quoted(word));
            let _ = writeln!(text, "-- {}", words.collect::<Vec<_>>().join(" "));
        }
        text
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn framing(name: &str) -> Result<Framing, String> {
    match name {
        "packet" => Ok(Framing::Packet),
        "lines" => Ok(Framing::Lines),
        "once" => Ok(Framing::Once),
        _ => Err("give packet, lines or once".into()),
    }
}

fn target(name: &str) -> Result<Target, String> {
    match name {
        "stderr" => Ok(Target::Stderr),
        "syslog" => Ok(Target::Syslog),
        _ => Err("give stderr or syslog".into()),
    }
}
