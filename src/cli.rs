//! The command line.

use std::ffi::OsString;
use std::fmt::Write;
use std::time::Duration;

use argh::FromArgs;

use crate::config::{self, Config};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::log::Target;

/// What the command line asks for.
pub enum Request {
    /// Run a command.
    Run(Command),
    /// Print this, which was asked for, and exit with 0.
    Print(String),
}

/// A small ZeroMQ request-reply server: a ROUTER-DEALER proxy in front of a fixed pool of REP workers.
/// Without a command it runs `repd serve` with every default.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Repd {
    /// print the version
    #[argh(switch)]
    version: bool,

    #[argh(subcommand)]
    command: Option<Command>,
}

/// A command and its options.
#[derive(FromArgs)]
#[argh(subcommand)]
pub enum Command {
    /// Run the service.
    Serve(Serve),
    /// Send one request.
    Call(Call),
    /// Load a service, and report rate and latency.
    Bench(Bench),
}

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

/// Send one request, print the reply: each frame on a line, with what is not printable escaped.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "call",
    help_triggers("-h", "--help"),
    note = "Exit codes: 0 a reply; 1 no reply in time, or nobody there; 2 bad usage; 3 a REPD-ERROR reply.",
    example = "{command_name} tcp://localhost:5555 hello"
)]
pub struct Call {
    /// the service, tcp://HOST:PORT or ipc://PATH
    #[argh(positional, arg_name = "endpoint")]
    pub endpoint: Endpoint,

    /// frames of the request; standard input is the one frame if there is none
    #[argh(positional, arg_name = "frame")]
    pub frames: Vec<String>,

    /// seconds to wait for a reply, for each try (default 5)
    #[argh(
        option,
        arg_name = "seconds",
        default = "config::CALL_TIMEOUT",
        from_str_fn(config::timeout)
    )]
    pub timeout: Duration,

    /// tries after the first, each with a fresh socket (default 0)
    #[argh(option, arg_name = "n", default = "0", from_str_fn(config::retries))]
    pub retries: usize,

    /// print the reply's bytes as they are, and nothing else
    #[argh(switch)]
    pub raw: bool,
}

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
    #[argh(option, arg_name = "n", from_str_fn(config::clients))]
    pub clients: Option<usize>,

    /// instead of these, one DEALER with so many requests outstanding, 1 to 100000
    #[argh(option, arg_name = "n", from_str_fn(config::pipeline))]
    pub pipeline: Option<usize>,

    /// seconds that the load lasts, 0.001 to 86400 (default 10)
    #[argh(option, arg_name = "seconds", from_str_fn(config::timeout))]
    pub duration: Option<Duration>,

    /// instead of a duration, how many requests are sent
    #[argh(option, arg_name = "n", from_str_fn(config::requests))]
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
        from_str_fn(config::drain)
    )]
    pub warmup: Duration,

    /// seconds after which a reply counts as missing, 0.001 to 86400 (default 5)
    #[argh(
        option,
        arg_name = "seconds",
        default = "config::CALL_TIMEOUT",
        from_str_fn(config::timeout)
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
        true => config::size(text).map(Size::Bytes),
        false => Ok(Size::File(text.into())),
    }
}

/// A handler that comes with repd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Builtin {
    /// Each frame backwards.
    #[default]
    Reverse,
    /// The request as it is.
    Echo,
}

fn builtin(name: &str) -> Result<Builtin, String> {
    match name {
        "reverse" => Ok(Builtin::Reverse),
        "echo" => Ok(Builtin::Echo),
        _ => Err("give reverse or echo".into()),
    }
}

fn target(name: &str) -> Result<Target, String> {
    match name {
        "stderr" => Ok(Target::Stderr),
        "syslog" => Ok(Target::Syslog),
        _ => Err("give stderr or syslog".into()),
    }
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

/// Reads a command line, the program's name first.
///
/// # Errors
/// What is wrong with it and what to do, exit code 2.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, Error> {
    let texts: Result<Vec<String>, OsString> =
        arguments.into_iter().skip(1).map(OsString::into_string).collect();
    let texts = texts.map_err(|argument| {
        Error::config(format!("cannot use the argument {argument:?}"))
            .because("it is not UTF-8")
            .remedy("give text; call takes other bytes from standard input")
    })?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    match Repd::from_args(&["repd"], &texts) {
        Ok(Repd { version: true, .. }) => {
            Ok(Request::Print(format!("repd {}\n", env!("CARGO_PKG_VERSION"))))
        }
        Ok(Repd { command: Some(command), .. }) => Ok(Request::Run(command)),
        // Parsing no options at all does not fail: each has its default.
        Ok(Repd { command: None, .. }) => Serve::from_args(&["repd", "serve"], &[])
            .map(|serve| Request::Run(Command::Serve(serve)))
            .map_err(|exit| Error::config(exit.output)),
        Err(exit) if exit.status.is_ok() => Ok(Request::Print(exit.output)),
        Err(exit) => Err(mistake(&exit.output, &texts)),
    }
}

/// argh's complaint on one line, with what to do.
fn mistake(complaint: &str, texts: &[&str]) -> Error {
    let complaint: Vec<&str> = complaint.split_whitespace().collect();
    let mut complaint = complaint.join(" ").trim_end_matches('.').to_string();
    if let Some(first) = complaint.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let (command, known) = match texts.first() {
        Some(&command @ ("serve" | "call" | "bench")) => (format!("repd {command}"), true),
        _ => ("repd".into(), false),
    };
    let equals = texts.iter().find(|text| text.starts_with("--") && text.contains('='));
    let remedy = match equals {
        Some(text) => format!("write {} instead of {text}", text.replacen('=', " ", 1)),
        None if !known && texts.first().is_some_and(|text| text.starts_with("--")) => {
            "options follow a command: repd serve --help".into()
        }
        None if complaint.contains("; give ") || complaint.contains(": give ") => {
            return Error::config(complaint);
        }
        None => format!("see {command} --help"),
    };
    Error::config(complaint).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, Error> {
        parse(format!("repd {line}").split_whitespace().map(OsString::from))
    }

    fn serve(line: &str) -> Serve {
        match parsed(line) {
            Ok(Request::Run(Command::Serve(serve))) => serve,
            Ok(_) => panic!("{line:?} is not serve"),
            Err(error) => panic!("{line:?}: {error}"),
        }
    }

    #[test]
    fn without_options_all_is_as_the_library_has_it() {
        for line in ["", "serve"] {
            assert_eq!(format!("{:?}", serve(line).config()), format!("{:?}", Config::default()));
        }
    }

    #[test]
    fn the_help_names_every_default() {
        let Ok(Request::Print(help)) = parsed("serve --help") else { panic!("no help") };
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let options = help.split(" Options: ").nth(1).unwrap();
        for (option, default) in [
            ("--listen", Endpoint::any(config::PORT).to_string()),
            ("--workers", config::WORKERS.to_string()),
            ("--handler", "reverse".into()),
            ("--timeout", config::TIMEOUT.as_secs().to_string()),
            ("--drain", config::DRAIN.as_secs().to_string()),
            ("--max-message-size", format!("{}M", config::MAX_MESSAGE_SIZE >> 20)),
            ("--max-frames", config::MAX_FRAMES.to_string()),
            ("--io-threads", config::IO_THREADS.to_string()),
            ("--backlog", config::BACKLOG.to_string()),
            ("--heartbeat", config::HEARTBEAT.as_secs().to_string()),
            ("--log", "stderr".into()),
        ] {
            let described = options.split(&format!("{option} ")).nth(1).unwrap_or_default();
            let own = described.split(" --").next().unwrap_or_default();
            assert!(own.contains(&format!("(default {default})")), "{option}: {own}");
        }
        let Ok(Request::Print(help)) = parsed("call --help") else { panic!("no help") };
        assert!(help.contains(&format!("(default {})", config::CALL_TIMEOUT.as_secs())));
    }

    #[test]
    fn what_check_prints_is_a_command_line_that_means_the_same() {
        let line = "serve --listen tcp://*:1 --listen ipc://x --workers 3 --handler echo --timeout 0.25 \
                    --drain 0 --max-message-size 2k --max-frames 7 --io-threads 2 --backlog 9 \
                    --heartbeat 1.5 --log syslog";
        let first = serve(line);
        let again = serve(&format!("serve {}", first.describe()));
        assert_eq!(first.describe(), again.describe());
        assert_eq!(format!("{:?}", first.config()), format!("{:?}", again.config()));
    }

    #[test]
    fn a_mistake_is_one_line_that_says_what_to_do() {
        for (line, remedy) in [
            ("serve --workers=3", "write --workers 3 instead of --workers=3"),
            ("--workers 3", "options follow a command"),
            ("serve --nonsense", "see repd serve --help"),
            ("serve extra", "see repd serve --help"),
            ("serve --workers", "see repd serve --help"),
            ("serve --workers 1 --workers 2", "see repd serve --help"),
            ("nonsense", "see repd --help"),
            ("call", "see repd call --help"),
            ("serve --workers -1", "give a whole number from 0 to 500"),
            ("serve --timeout nan", "give seconds from 0.001 to 86400"),
            ("serve --timeout 0", "give seconds"),
            ("serve --handler what", "give reverse or echo"),
            ("serve --log what", "give stderr or syslog"),
            ("serve --listen udp://*:1", "give tcp://HOST:PORT or ipc://PATH"),
        ] {
            let Err(error) = parsed(line) else { panic!("{line:?} was taken") };
            let text = error.to_string();
            assert!(text.contains(remedy) && !text.contains('\n'), "{line:?}: {text}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
