//! Writes log lines to standard error, with priorities if that leads to systemd's journal, or to
//! syslog.

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
use crate::logging::repeats::RateLimited;
use crate::text::{printable, shorten};

mod repeats;

pub(crate) use repeats::PROGRAM_TARGET;

/// The destination of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Standard error. Each line begins with its level, or with its priority as in sd-daemon(3) if
    /// standard error leads to the journal.
    #[default]
    Stderr,
    /// The syslog daemon at /dev/log, with the facility daemon.
    Syslog,
}

/// Starts logging, panics included: from level info up, or from debug up if `verbose`.
///
/// # Errors
/// Returns an error if the syslog daemon cannot be reached, or if a log was started before.
pub fn start(target: Target, verbose: bool) -> Result<(), Error> {
    let logger: Box<dyn Log> = match target {
        Target::Stderr => Box::new(RateLimited::new(Stderr {
            journal: is_journal(),
            terminal: open_terminal(),
            partly_written: Mutex::new(false),
            lost: AtomicUsize::new(0),
        })),
        Target::Syslog => {
            Box::new(RateLimited::new(Syslog(Mutex::new(Some(connect().map_err(|_| {
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

/// Logs why the process ends, or prints it if no log was started, and returns the exit code.
pub fn report(error: &Error) -> ExitCode {
    if log::max_level() == LevelFilter::Off {
        let _ = writeln!(stderr(), "error: {}", printable(error.to_string().as_bytes()));
    } else {
        log::error!("{error}");
    }
    ExitCode::from(error.exit_code())
}

/// Returns the severity of syslog (RFC 5424, section 6.2.1) for `level`.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
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

/// Returns true if standard error leads to the journal: it is the file that `JOURNAL_STREAM` names
/// by device and inode (systemd.exec(5)). The variable alone is not enough, since a process
/// inherits it even if its standard error leads elsewhere.
fn is_journal() -> bool {
    let file = stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    let file = file.map(|file| format!("{}:{}", file.dev(), file.ino()));
    file.is_ok_and(|file| env::var("JOURNAL_STREAM").is_ok_and(|journal| journal == file))
}

/// Opens the terminal that standard error is, for writes that do not block, or returns
/// `Option::None` if it is no terminal. A terminal whose output is held takes a part of a line,
/// then blocks the writer. O_NONBLOCK is not set on standard error itself, which other processes
/// share.
fn open_terminal() -> Option<File> {
    let path = format!("/proc/self/fd/{}", stderr().as_raw_fd());
    let open = || File::options().write(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path).ok();
    stderr().is_terminal().then(open)?
}

struct Stderr {
    /// True if standard error leads to the journal.
    journal: bool,
    /// Standard error, opened anew, if it is a terminal.
    terminal: Option<File>,
    /// True if the last line was written only in part. Locked from the check for space to the
    /// write: of two threads that find space for one line, one would be blocked.
    partly_written: Mutex<bool>,
    /// Number of lines lost for want of space and not yet told of.
    lost: AtomicUsize,
}

impl Stderr {
    fn write(&self, partly_written: &mut bool, level: Level, line: &str) {
        let before = if *partly_written { "\n" } else { "" };
        let line = match (self.journal, level) {
            (true, level) => format!("{before}<{}>{line}\n", severity(level)),
            (false, Level::Warn) => format!("{before}warning: {line}\n"),
            (false, level) => format!("{before}{}: {line}\n", level.as_str().to_lowercase()),
        };
        let Some(mut terminal) = self.terminal.as_ref() else {
            // An error cannot be reported: standard error is where it would go.
            let _ = stderr().write_all(line.as_bytes());
            return;
        };
        let written = terminal.write(line.as_bytes()).unwrap_or(0);
        if written < line.len() {
            *partly_written |= written > 0;
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            *partly_written = false;
        }
    }

    /// Returns true if a line can be written without waiting for the reader: a pipe that poll(2)
    /// calls writable has space for PIPE_BUF bytes (pipe(7)).
    fn is_writable() -> bool {
        let stderr = stderr();
        let mut items = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        !matches!(poll(&mut items, PollTimeout::ZERO), Ok(0))
    }
}

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The service never waits for the reader of its log. Waiting for this lock is short: its
        // holder does not wait for the reader either.
        let mut partly_written = self.partly_written.lock().unwrap_or_else(PoisonError::into_inner);
        if !Stderr::is_writable() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let warning = format!("log lines lost, since nobody read them: {lost}");
            self.write(&mut partly_written, Level::Warn, &warning);
        }
        self.write(&mut partly_written, record.level(), &line(record));
    }

    fn flush(&self) {}
}

type Connection = Logger<LoggerBackend, Formatter3164>;

/// The connection to the syslog daemon, or `Option::None` while it cannot be reached.
struct Syslog(Mutex<Option<Connection>>);

/// Connects to the syslog daemon of this machine.
fn connect() -> Result<Connection, syslog::Error> {
    let connection = syslog::unix(Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: env!("CARGO_PKG_NAME").into(),
        pid: std::process::id(),
    })?;
    // Lines are lost if the daemon does not read them: it must not block the service.
    match &connection.backend {
        LoggerBackend::Unix(socket) => socket.set_nonblocking(true)?,
        LoggerBackend::UnixStream(socket) => socket.get_ref().set_nonblocking(true)?,
        LoggerBackend::Udp(..) | LoggerBackend::Tcp(..) => (),
    }
    Ok(connection)
}

/// Sends `line` with the severity of `level`.
fn send(connection: &mut Connection, level: Level, line: &str) -> Result<(), syslog::Error> {
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
            // Someone who starts the service by hand looks at standard error.
            let _ = writeln!(stderr(), "error: {line}");
        }
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = connection.as_mut().map(|c| send(c, record.level(), &line));
        if !matches!(written, Some(Ok(()))) {
            // A daemon that was restarted has a new socket.
            *connection = connect().ok();
            let _ = connection.as_mut().map(|c| send(c, record.level(), &line));
        }
    }

    fn flush(&self) {}
}
