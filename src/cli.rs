//! The command line; the options of each command are in a room of its own.

use std::ffi::OsString;

use argh::FromArgs;

use crate::error::Error;

mod bench;
mod call;
mod parse;
mod serve;

pub use bench::{Bench, Size};
pub use call::Call;
pub use serve::{Answering, Serve};

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
        Ok(Repd { command: Some(Command::Serve(serve)), .. }) => {
            match serve.stray() {
                Some(stray) if !texts.contains(&"--") => {
                    return Err(Error::config(format!("unrecognized argument: {stray}"))
                        .remedy("if it is a program, put -- before it; see repd serve --help"));
                }
                None if texts.contains(&"--") => {
                    return Err(Error::config("there is no program behind --")
                        .remedy("give one: -- PROGRAM ARG..."));
                }
                _ => serve.check_options()?,
            }
            Ok(Request::Run(Command::Serve(serve)))
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
    use crate::config::{self, Config};
    use crate::endpoint::Endpoint;
    use crate::handler::Framing;

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
        let says = |command: &str, option: &str, default: String| {
            let Ok(Request::Print(help)) = parsed(&format!("{command} --help")) else {
                panic!("no help")
            };
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            let options = help.split(" Options: ").nth(1).unwrap();
            let described = options.split(&format!("{option} ")).nth(1).unwrap_or_default();
            let own = described.split(" --").next().unwrap_or_default();
            assert!(own.contains(&format!("(default {default})")), "{command} {option}: {own}");
        };
        for (option, default) in [
            ("--listen", Endpoint::any(config::PORT).to_string()),
            ("--workers", config::WORKERS.to_string()),
            ("--handler", "reverse".into()),
            ("--framing", format!("{:?}", Framing::default()).to_lowercase()),
            ("--max-outstanding", config::MAX_OUTSTANDING.to_string()),
            ("--retries", config::RETRIES.to_string()),
            ("--timeout", config::TIMEOUT.as_secs().to_string()),
            ("--drain", config::DRAIN.as_secs().to_string()),
            ("--max-message-size", format!("{}M", config::MAX_MESSAGE_SIZE >> 20)),
            ("--max-frames", config::MAX_FRAMES.to_string()),
            ("--io-threads", config::IO_THREADS.to_string()),
            ("--backlog", config::BACKLOG.to_string()),
            ("--heartbeat", config::HEARTBEAT.as_secs().to_string()),
            ("--log", "stderr".into()),
        ] {
            says("serve", option, default);
        }
        says("call", "--timeout", config::CALL_TIMEOUT.as_secs().to_string());
        for (option, default) in [
            ("--clients", config::BENCH_CLIENTS.to_string()),
            ("--duration", config::BENCH_DURATION.as_secs().to_string()),
            ("--size", config::BENCH_SIZE.to_string()),
            ("--warmup", config::BENCH_WARMUP.as_secs().to_string()),
            ("--timeout", config::CALL_TIMEOUT.as_secs().to_string()),
        ] {
            says("bench", option, default);
        }
    }

    #[test]
    fn what_check_prints_is_a_command_line_that_means_the_same() {
        let common = "serve --listen tcp://*:1 --listen ipc://x --timeout 0.25 --drain 0 \
                      --max-message-size 2k --max-frames 7 --io-threads 2 --backlog 9 --heartbeat 1.5 \
                      --log syslog --verbose";
        for own in [
            "--workers 3 --handler echo",
            "--workers 3 --retries 2 --framing packet --multipart -- cat -n --number",
            "--workers 3 --framing once -- cat",
            "--backend tcp://*:2 --backend ipc://y --max-outstanding 9",
            "--upstream tcp://a:2 --upstream tcp://b:2",
        ] {
            let first = serve(&format!("{common} {own}"));
            let again = serve(&format!("serve {}", first.describe()));
            assert_eq!(first.describe(), again.describe());
            let all = |serve: &Serve| format!("{:?} {:?}", serve.config(), serve.answering());
            assert_eq!(all(&first), all(&again));
            for word in own.split(' ') {
                assert!(first.describe().split_whitespace().any(|said| said == word), "{word}");
            }
        }
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
