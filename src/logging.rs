//! Writes log lines to standard error, with priorities if that leads to systemd's journal, or to
//! syslog.

use std::io::{Write, stderr};
use std::panic;
use std::process::ExitCode;

use log::{LevelFilter, Log, Record};

use crate::error::Error;
use crate::text::{printable, shorten};
use repeats::RateLimited;
use standard_error::StandardError;

mod repeats;
mod standard_error;
#[cfg(feature = "syslog")]
mod syslog;

pub(crate) use repeats::PROGRAM_TARGET;

/// The destination of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Standard error. Each line begins with its level, or with its priority as in sd-daemon(3) if
    /// standard error leads to the journal.
    #[default]
    Stderr,
    /// The syslog daemon at /dev/log, with the facility daemon.
    #[cfg(feature = "syslog")]
    Syslog,
}

/// Starts logging, panics included: from level info up, or from debug up if `verbose`.
///
/// # Errors
/// Returns an error if the syslog daemon cannot be reached, or if a log was started before.
pub fn start(target: Target, verbose: bool) -> Result<(), Error> {
    let logger: Box<dyn Log> = match target {
        Target::Stderr => Box::new(RateLimited::new(StandardError::new())),
        #[cfg(feature = "syslog")]
        Target::Syslog => Box::new(RateLimited::new(syslog::Syslog::connect()?)),
    };
    log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Info });
    log::set_boxed_logger(logger)
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
        shorten(&mut text, MAX_LINE_BYTES);
        let _ = writeln!(stderr(), "{level}{text}");
    } else {
        log::error!("{error:#}");
    }
    ExitCode::from(error.exit_code())
}

/// Maximum length of a message in bytes. With the level in front it is below PIPE_BUF, 4,096 bytes,
/// which a pipe takes at once.
const MAX_LINE_BYTES: usize = 4000;

/// Returns the message of `record` on one line, shortened to [`MAX_LINE_BYTES`].
fn line(record: &Record<'_>) -> String {
    let mut line = printable(record.args().to_string().replace('\n', " ").as_bytes());
    shorten(&mut line, MAX_LINE_BYTES);
    line
}
