//! Writes log lines to standard error, and never waits for its reader.

use std::env;
use std::fs::File;
use std::io::{IsTerminal, Write, stderr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use log::{Level, Log, Metadata, Record};
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use time::UtcDateTime;

use super::line;

/// Returns the severity of syslog (RFC 5424, section 6.2.1) for `level`.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Returns the time in UTC, to the millisecond (RFC 3339).
fn now() -> String {
    let now = UtcDateTime::now();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        now.millisecond()
    )
}

/// Returns true if standard error leads to the journal: it is the file that `JOURNAL_STREAM` names
/// by device and inode (systemd.exec(5)). The variable alone is not enough, since a process
/// inherits it even if its standard error leads elsewhere.
pub(super) fn is_journal() -> bool {
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

pub(super) struct StandardError {
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

impl StandardError {
    pub fn new() -> StandardError {
        StandardError {
            journal: is_journal(),
            terminal: open_terminal(),
            partly_written: Mutex::new(false),
            lost: AtomicUsize::new(0),
        }
    }

    fn write(&self, partly_written: &mut bool, level: Level, line: &str) {
        let before = if *partly_written { "\n" } else { "" };
        let line = match (self.journal, level) {
            (true, level) => format!("{before}<{}>{line}\n", severity(level)),
            (false, Level::Warn) => format!("{before}{} warning: {line}\n", now()),
            (false, level) => {
                format!("{before}{} {}: {line}\n", now(), level.as_str().to_lowercase())
            }
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

impl Log for StandardError {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The service never waits for the reader of its log. Waiting for this lock is short: its
        // holder does not wait for the reader either.
        let mut partly_written = self.partly_written.lock().unwrap_or_else(PoisonError::into_inner);
        if !StandardError::is_writable() {
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
