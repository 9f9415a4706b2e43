//! The command line. The options of each command are in a module of their own.

use std::ffi::OsString;
use std::io::{Write, stdout};
use std::path::Path;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};

use crate::auth::{ClientKeys, PublicKey};
use crate::error::Error;

mod bench;
mod call;
mod completions;
mod help;
mod keygen;
mod parse;
mod serve;
mod status;
mod usage;
mod words;

pub use bench::{Bench, Size};
pub use call::Call;
pub use completions::Completions;
pub use keygen::Keygen;
pub use serve::Serve;
pub use status::Status;

/// What the command line asks for.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum Action {
    /// Run a command.
    Run(Command),
    /// Print this text, the help or the version, and exit with code 0.
    Print(String),
}

/// A small ZeroMQ request-reply server: a ROUTER-DEALER proxy in front of a fixed pool of REP
/// workers. Without a command it runs `repd serve` with every default.
#[derive(ArgsInfo, Debug, FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Repd {
    /// print the version
    #[argh(switch)]
    version: bool,

    #[argh(subcommand)]
    command: Option<Command>,
}

/// A command and its options.
#[derive(ArgsInfo, Debug, FromArgs)]
#[argh(subcommand)]
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum Command {
    /// Run the service.
    Serve(Serve),
    /// Send one request.
    Call(Call),
    /// Load a service and report rate and latency.
    Bench(Bench),
    /// Show what a service is doing.
    Status(Status),
    /// Make a pair of keys.
    Keygen(Keygen),
    /// Print the completions of a shell.
    Completions(Completions),
}

/// Returns the keys of a client whose `--key` and `--server-key` these are.
fn client_keys(key: Option<&Path>, server: Option<PublicKey>) -> Result<Option<ClientKeys>, Error> {
    let (one, other) = match (key, server) {
        (None, None) => return Ok(None),
        (Some(key), Some(server)) => return ClientKeys::read(key, server).map(Some),
        (Some(_), None) => ("--key", "--server-key KEY, the public key of the service"),
        (None, Some(_)) => ("--server-key", "--key FILE, the secret key to be known by"),
    };
    Err(Error::config(format!("cannot use {one} alone")).with_remedy(format!("give {other}, too")))
}

/// A built-in handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Builtin {
    /// Replies with each frame reversed.
    #[default]
    Reverse,
    /// Replies with the request unchanged.
    Echo,
}

fn parse_builtin(name: &str) -> Result<Builtin, String> {
    match name {
        "reverse" => Ok(Builtin::Reverse),
        "echo" => Ok(Builtin::Echo),
        _ => Err("give reverse or echo".into()),
    }
}

/// Prints `text`.
///
/// # Errors
/// A standard output that takes nothing (exit code 1).
pub fn print(text: &str) -> Result<(), Error> {
    stdout().write_all(text.as_bytes()).map_err(Error::cannot_print)
}

/// Parses a command line whose first argument is the program's name.
///
/// # Errors
/// Returns an error with exit code 2 that says what is wrong and what to do, if an argument is not
/// UTF-8, is unknown, is out of range or does not go together with another one.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Action, Error> {
    let words: Result<Vec<String>, OsString> =
        arguments.into_iter().skip(1).map(OsString::into_string).collect();
    let words = words.map_err(|argument| {
        Error::config(format!("cannot use the argument {argument:?}"))
            .with_cause("it is not UTF-8")
            .with_remedy("use text; repd call reads other bytes from standard input")
    })?;
    let info = Repd::get_args_info();
    let words = words::normalize(words, &info);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match Repd::from_args(&["repd"], &words) {
        Ok(Repd { version: true, .. }) => {
            Ok(Action::Print(format!("repd {}\n", env!("CARGO_PKG_VERSION"))))
        }
        Ok(Repd { command: Some(Command::Serve(serve)), .. }) => {
            check_program(&serve, &words, &info)?;
            serve.check_options()?;
            Ok(Action::Run(Command::Serve(serve)))
        }
        Ok(Repd { command: Some(Command::Completions(completions)), .. }) => {
            Ok(Action::Print(completions.script(&info)))
        }
        Ok(Repd { command: Some(command), .. }) => Ok(Action::Run(command)),
        // No options cannot be wrong: each has its default.
        Ok(Repd { command: None, .. }) => Serve::from_args(&["repd", "serve"], &[])
            .map(|serve| Action::Run(Command::Serve(serve)))
            .map_err(|exit| Error::config(exit.output)),
        Err(exit) if exit.status.is_ok() => {
            let (name, info) = command_of(&words, &info);
            Ok(Action::Print(help::help(&name, info)))
        }
        Err(exit) => Err(usage::error(&exit.output, &words, &info)),
    }
}

/// Returns the name and the data of the command that is given, or of `repd` itself.
fn command_of<'a>(
    words: &[&str],
    info: &'a CommandInfoWithArgs,
) -> (String, &'a CommandInfoWithArgs) {
    let command = info.commands.iter().find(|command| words.first() == Some(&command.name));
    command.map_or(("repd".into(), info), |it| (format!("repd {}", it.name), &it.command))
}

/// Checks that a program, and only a program, is after `--`, and only options before.
fn check_program(serve: &Serve, words: &[&str], info: &CommandInfoWithArgs) -> Result<(), Error> {
    let unrecognized = |stray| Error::config(format!("unrecognized argument: {stray}"));
    match (serve.first_positional(), words.contains(&"--")) {
        (Some(stray), false) => Err(unrecognized(stray)
            .with_remedy("if it is a program, put -- before it; see repd serve --help")),
        (Some(_), true) => match words::positional(words, command_of(words, info).1) {
            Some(stray) => Err(unrecognized(stray).with_remedy(
                "before -- there are only options, such as --framing lines; see repd serve --help",
            )),
            None => Ok(()),
        },
        (None, true) => Err(Error::config("there is no program after --")
            .with_remedy("give one: -- PROGRAM ARG...")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config};
    use crate::endpoint::Endpoint;
    use crate::handler::Framing;

    fn parsed(line: &str) -> Result<Action, Error> {
        parse(format!("repd {line}").split_whitespace().map(OsString::from))
    }

    fn serve(line: &str) -> Serve {
        match parsed(line) {
            Ok(Action::Run(Command::Serve(serve))) => serve,
            Ok(_) => panic!("{line:?} is not serve"),
            Err(error) => panic!("{line:?}: {error:#}"),
        }
    }

    #[test]
    fn without_options_the_config_is_the_librarys_default() {
        for line in ["", "serve"] {
            assert_eq!(format!("{:?}", serve(line).config()), format!("{:?}", Config::default()));
        }
    }

    #[test]
    fn the_help_names_every_default() {
        let says = |command: &str, option: &str, default: String| {
            let Ok(Action::Print(help)) = parsed(&format!("{command} --help")) else {
                panic!("no help")
            };
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            let described = help.split(&format!("{option} ")).nth(1).unwrap_or_default();
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
            ("--client-outstanding", config::CLIENT_OUTSTANDING.to_string()),
            ("--io-threads", config::IO_THREADS.to_string()),
            ("--backlog", config::BACKLOG.to_string()),
            ("--heartbeat", config::HEARTBEAT.as_secs().to_string()),
            ("--log", "stderr".into()),
            ("--log-format", "text".into()),
            ("--log-level", "info".into()),
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
    fn check_prints_a_command_line_that_means_the_same() {
        let common = "serve --listen tcp://*:1 --listen ipc://x --timeout 0.25 --drain 0 \
                      --max-message-size 2k --max-frames 7 --io-threads 2 --backlog 9 \
                      --heartbeat 1.5 --max-memory 3M --max-clients 4 --client-outstanding 5 \
                      --client-rate 6 --log syslog --verbose";
        for own in [
            "--workers 3 --handler echo",
            "--workers 3 --retries 2 --framing packet --multipart -- cat -n --number",
            "--workers 3 --framing once --log-level debug -- cat",
            "--backend tcp://*:2 --backend ipc://y --max-outstanding 9",
            "--upstream tcp://a:2 --upstream tcp://b:2",
        ] {
            let first = serve(&format!("{common} {own}"));
            // As a shell reads it.
            let described = first.describe().replace('\'', "");
            let again = serve(&format!("serve {described}"));
            assert_eq!(first.describe(), again.describe());
            let settings = |serve: &Serve| format!("{:?} {:?}", serve.config(), serve.handler);
            assert_eq!(settings(&first), settings(&again));
            for word in own.split(' ') {
                assert!(described.split_whitespace().any(|said| said == word), "{word}");
            }
        }
    }

    #[test]
    fn a_mistake_is_one_line_that_says_what_to_do() {
        for (line, remedy) in [
            ("serve --worker 3", "did you mean --workers? see repd serve --help"),
            ("sevre", "did you mean serve? see repd --help"),
            ("call tcp://localhost:1 -3", "put -- before a frame that begins with -"),
            ("serve --verbose=yes", "--verbose takes no value"),
            ("serve --workers=501", "give a whole number from 0 to 500"),
            ("--workers 3", "options follow a command"),
            ("serve --nonsense", "see repd serve --help"),
            ("serve extra", "see repd serve --help"),
            ("serve --workers", "see repd serve --help"),
            ("serve --workers 1 --workers 2", "give it once"),
            ("serve --framing lines python3 -u x.py", "put -- before the program"),
            ("serve lines -- cat", "before -- there are only options, such as --framing lines"),
            ("serve --multipart x --workers 1 -- cat", "before -- there are only options"),
            ("SERVE", "did you mean serve?"),
            ("nonsense", "see repd --help"),
            ("call", "see repd call --help"),
            ("serve --workers -1", "give a whole number from 0 to 500"),
            ("serve --timeout nan", "give seconds from 0.001 to 86400"),
            ("serve --timeout 0", "give seconds"),
            ("serve --handler what", "give reverse or echo"),
            ("serve --log what", "give stderr, journal or syslog"),
            ("serve --log-format what", "give text or json"),
            ("serve --log-level trace", "give error, warning, info or debug"),
            ("serve --log journal --log-format json", "leave out one of them"),
            ("serve --log syslog --log-format json", "leave out one of them"),
            ("serve --verbose --log-level info", "leave out one of them"),
            ("serve --listen udp://*:1", "give tcp://HOST:PORT or ipc://PATH"),
        ] {
            let Err(error) = parsed(line) else { panic!("{line:?} was taken") };
            let text = format!("{error:#}");
            assert!(text.contains(remedy) && !text.contains('\n'), "{line:?}: {text}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
