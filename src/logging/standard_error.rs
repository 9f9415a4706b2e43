//! Writes log lines to standard error, and never waits for its reader.

use std::env;
use std::fs::File;
use std::io::{IsTerminal, Write, stderr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use log::Level;
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::json;
use super::line::Line;
use super::logger::Sink;
use crate::text::utc;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

/// Returns the severity of syslog (RFC 5424, section 6.2.1) for `level`.
pub(super) fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
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
    format: Format,
    /// True if standard error leads to the journal.
    journal: bool,
    /// Standard error, opened anew, if it is a terminal.
    terminal: Option<File>,
    /// True if the last line was written only in part. Locked from the check for space to the
    /// write: of two threads that find space for one line, one would be blocked.
    partly_written: Mutex<bool>,
}

impl StandardError {
    pub fn new(format: Format) -> StandardError {
        StandardError {
            format,
            journal: is_journal(),
            terminal: open_terminal(),
            partly_written: Mutex::new(false),
        }
    }

    /// Returns a line as it is written.
    fn put(&self, line: &Line) -> String {
        let Line { level, text, .. } = line;
        let priority = if self.journal { format!("<{}>", severity(*level)) } else { String::new() };
        match self.format {
            Format::Json => format!("{priority}{}\n", json::object(line, &utc(SystemTime::now()))),
            Format::Text if self.journal => format!("{priority}{text}\n"),
            Format::Text => format!("{} {}: {text}\n", utc(SystemTime::now()), json::name(*level)),
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

impl Sink for StandardError {
    fn write(&self, line: &Line) -> bool {
        // The service never waits for the reader of its log. Waiting for this lock is short: its
        // holder does not wait for the reader either.
        let mut partly_written = self.partly_written.lock().unwrap_or_else(PoisonError::into_inner);
        if !StandardError::is_writable() {
            return false;
        }
        let before = if *partly_written { "\n" } else { "" };
        let line = before.to_string() + &self.put(line);
        let Some(mut terminal) = self.terminal.as_ref() else {
            // An error cannot be reported: standard error is where it would go.
            let _ = stderr().write_all(line.as_bytes());
            return true;
        };
        let written = terminal.write(line.as_bytes()).unwrap_or(0);
        if written == line.len() {
            *partly_written = false;
            return true;
        }
        *partly_written |= written > 0;
        false
    }
}
