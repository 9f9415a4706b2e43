//! Writes log lines to standard error, with priorities if that leads to systemd's journal, to the
//! journal itself, or to syslog.

use std::io::{Write, stderr};
use std::panic;
use std::process::ExitCode;

use crate::error::Error;
use crate::text::{printable, shorten};
use journal::Journal;
use line::MAX_TEXT_BYTES;
use logger::Logger;
use standard_error::{Format, StandardError};

mod datagrams;
mod event;
mod journal;
mod json;
mod line;
mod logger;
mod recent;
mod repeats;
mod standard_error;
mod syslog;

pub use log::{Level, LevelFilter};

pub(crate) use event::Event;
pub(crate) use json::name as name_of;
pub use recent::{Counts, Warning, counts, last_warnings};

/// Target of the lines that a program writes. They are never left out: repd cannot judge their
/// worth.
pub(crate) const PROGRAM_TARGET: &str = "program";

/// The destination of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Standard error. Each line begins with its time and level, or with its priority as in
    /// sd-daemon(3) if standard error leads to the journal.
    #[default]
    Stderr,
    /// Standard error, each line a JSON object (RFC 8259).
    Json,
    /// systemd's journal, each line with fields of its own.
    Journal,
    /// The syslog daemon at /dev/log, with the facility daemon.
    Syslog,
}

/// Starts logging, panics included: from that level up.
///
/// # Errors
/// Returns an error if the journal or the syslog daemon cannot be reached, or if a log was started
/// before.
pub fn start(target: Target, level: LevelFilter) -> Result<(), Error> {
    let logger = match target {
        Target::Stderr => Logger::new(StandardError::new(Format::Text)),
        Target::Json => Logger::new(StandardError::new(Format::Json)),
        // What is there twice otherwise.
        Target::Journal if standard_error::is_journal() => Logger::new(Journal::connect()?),
        Target::Journal => Logger::new(Journal::connect()?).with_errors(),
        Target::Syslog => Logger::new(syslog::Syslog::connect()?).with_errors(),
    };
    log::set_max_level(level);
    log::set_boxed_logger(Box::new(logger))
        .map_err(|error| Error::failed("cannot start the log").with_cause(error))?;
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log::error!("{}: {panic}", thread.name().unwrap_or("a thread"));
    }));
    Ok(())
}

/// Logs why the process ends, or prints it if no log was started, and returns the exit code.
pub fn report(error: &Error) -> ExitCode {
    if log::max_level() == LevelFilter::Off {
        let level = if standard_error::is_journal() { "<3>" } else { "error: " };
        let mut text = printable(format!("{error:#}").as_bytes());
        shorten(&mut text, MAX_TEXT_BYTES);
        let _ = writeln!(stderr(), "{level}{text}");
    } else {
        log::error!("{error:#}");
    }
    ExitCode::from(error.exit_code())
}
