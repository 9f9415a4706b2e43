//! Where log lines go: standard error, with systemd's priorities if that is where it leads, or syslog.

use std::env;
use std::fs::File;
use std::io::{IsTerminal, Write, stderr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use crate::error::Error;
use crate::logging::repeats::Summed;
use crate::text::{printable, shorten};

mod repeats;

pub(crate) use repeats::PROGRAM;

/// Where log lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Standard error; each line begins with its level, or, where that is the journal's, with its priority as
    /// sd-daemon(3) has it.
    #[default]
    Stderr,
    /// The local syslog, facility daemon.
    Syslog,
}

/// Starts logging, from debug up if `verbose`, else from info up.
///
/// # Errors
/// A syslog that is not there, or a log that was started already.
pub fn start(target: Target, verbose: bool) -> Result<(), Error> {
    let logger: Box<dyn Log> = match target {
        Target::Stderr => Box::new(Summed::new(Stderr {
            journal: is_of_journal(),
            terminal: terminal(),
            writing: Mutex::new(false),
            lost: AtomicUsize::new(0),
        })),
        Target::Syslog => {
            Box::new(Summed::new(Syslog(Mutex::new(Some(connect().map_err(|_| {
                Error::config("cannot reach a syslog daemon at /dev/log")
                    .remedy("start one, or use --log stderr")
            })?)))))
        }
    };
    log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Info });
    log::set_boxed_logger(logger)
        .map_err(|error| Error::failed("cannot start the log").because(error))?;
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log::error!("{}: {panic}", thread.name().unwrap_or("a thread"));
    }));
    Ok(())
}

/// Says why the process ends, in the log if it was started, and gives its exit code.
pub fn report(error: &Error) -> ExitCode {
    if log::max_level() == LevelFilter::Off {
        let _ = writeln!(stderr(), "error: {}", printable(error.to_string().as_bytes()));
    } else {
        log::error!("{error}");
    }
    ExitCode::from(error.exit_code())
}

/// Syslog's severity (RFC 5424, section 6.2.1).
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// The message on one line.
fn line(record: &Record<'_>) -> String {
    let mut line = printable(record.args().to_string().replace('\n', " ").as_bytes());
    shorten(&mut line, LONGEST_LINE);
    line
}

/// Whether standard error leads to the journal: systemd.exec(5), `JOURNAL_STREAM`. Who starts a service from one that
/// does may have it write elsewhere.
fn is_of_journal() -> bool {
    let is = stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    let is = is.map(|is| format!("{}:{}", is.dev(), is.ino()));
    is.is_ok_and(|is| env::var("JOURNAL_STREAM").is_ok_and(|journal| journal == is))
}

/// The terminal that standard error is, opened anew, so that nobody else's writes are changed: one whose output is held
/// takes a part of a line, and then keeps who writes waiting.
fn terminal() -> Option<File> {
    let itself = format!("/proc/self/fd/{}", stderr().as_raw_fd());
    let open = || File::options().write(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(itself).ok();
    stderr().is_terminal().then(open)?
}

struct Stderr {
    journal: bool,
    terminal: Option<File>,
    /// Held by who writes: of two that find room for a line, one would have to wait. Whether the last line is only
    /// half written.
    writing: Mutex<bool>,
    /// Lines that there was no room for.
    lost: AtomicUsize,
}

impl Stderr {
    fn write(&self, is_half: &mut bool, level: Level, line: &str) {
        let before = if *is_half { "\n" } else { "" };
        let line = match (self.journal, level) {
            (true, level) => format!("{before}<{}>{line}\n", severity(level)),
            (false, Level::Warn) => format!("{before}warning: {line}\n"),
            (false, level) => format!("{before}{}: {line}\n", level.as_str().to_lowercase()),
        };
        let Some(mut terminal) = self.terminal.as_ref() else {
            // There is nowhere to say that standard error is closed.
            let _ = stderr().write_all(line.as_bytes());
            return;
        };
        let written = terminal.write(line.as_bytes()).unwrap_or(0);
        if written < line.len() {
            *is_half |= written > 0;
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            *is_half = false;
        }
    }

    /// Whether a line can be written without waiting for whoever reads standard error: a pipe that is
    /// said to be writable has room for PIPE_BUF bytes, pipe(7).
    fn has_room() -> bool {
        let stderr = stderr();
        let mut items = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        !matches!(poll(&mut items, PollTimeout::ZERO), Ok(0))
    }
}

/// In bytes: a pipe takes PIPE_BUF at once, with the level in front.
const LONGEST_LINE: usize = 4000;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The service does not wait for the reader of its log; for another of its threads it does, since
        // that one does not wait either.
        let mut is_half = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !Stderr::has_room() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.write(
                &mut is_half,
                Level::Warn,
                &format!("log lines lost, since nobody read them: {lost}"),
            );
        }
        self.write(&mut is_half, record.level(), &line(record));
    }

    fn flush(&self) {}
}

type Connection = Logger<LoggerBackend, Formatter3164>;

struct Syslog(Mutex<Option<Connection>>);

fn connect() -> Result<Connection, syslog::Error> {
    let connection = syslog::unix(Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: env!("CARGO_PKG_NAME").into(),
        pid: std::process::id(),
    })?;
    // A daemon that does not read loses lines; it does not stop the service.
    match &connection.backend {
        LoggerBackend::Unix(socket) => socket.set_nonblocking(true)?,
        LoggerBackend::UnixStream(socket) => socket.get_ref().set_nonblocking(true)?,
        LoggerBackend::Udp(..) | LoggerBackend::Tcp(..) => (),
    }
    Ok(connection)
}

fn write(connection: &mut Connection, level: Level, line: &str) -> Result<(), syslog::Error> {
    match level {
        Level::Error => connection.err(line),
        Level::Warn => connection.warning(line),
        Level::Info => connection.info(line),
        Level::Debug | Level::Trace => connection.debug(line),
    }
}

impl Log for Syslog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = line(record);
        if record.level() == Level::Error {
            // Who starts a service by hand looks here.
            let _ = writeln!(stderr(), "error: {line}");
        }
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = connection.as_mut().map(|c| write(c, record.level(), &line));
        if !matches!(written, Some(Ok(()))) {
            // The daemon was restarted: its socket is another one now.
            *connection = connect().ok();
            let _ = connection.as_mut().map(|c| write(c, record.level(), &line));
        }
    }

    fn flush(&self) {}
}
