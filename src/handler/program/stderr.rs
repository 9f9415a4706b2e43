//! The standard error of a worker's programs, which goes to the log line by line. It is read even
//! if nobody reads the log, so that no program blocks.

use std::io::{self, PipeReader, PipeWriter, Read, pipe};
use std::os::fd::AsFd;
use std::thread::{Builder, JoinHandle};

use log::info;
use nix::poll::{PollFd, PollFlags};

use super::process::PIPE_CAPACITY;
use crate::logging::PROGRAM_TARGET;
use crate::sys::fd::{poll, set_nonblocking};
use crate::text::printable;

/// Maximum length of a line. A longer one is cut, so that it fits into one line of the log with
/// what is put in front of it.
const MAX_LINE_BYTES: usize = 3900;

/// The thread that reads the standard error of one worker's programs.
pub(super) struct Stderr {
    /// What each copy inherits. `None` once there will be no other copy.
    writer: Option<PipeWriter>,
    /// Closed to end the thread even if a stray process keeps standard error open.
    keep_alive: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Stderr {
    /// Starts the thread for the programs of `worker`.
    pub fn start(worker: usize) -> io::Result<Stderr> {
        let (reader, writer) = pipe()?;
        let (stop, keep_alive) = pipe()?;
        set_nonblocking(&reader)?;
        let lines = Lines { worker, line: Vec::new(), is_cut: false };
        let thread = Builder::new()
            .name(format!("stderr-{worker}"))
            .spawn(move || log_lines(reader, &stop, lines))?;
        Ok(Stderr { writer: Some(writer), keep_alive: Some(keep_alive), thread: Some(thread) })
    }

    /// Returns the standard error for a new copy.
    pub fn writer(&self) -> io::Result<PipeWriter> {
        self.writer.as_ref().map_or(Err(io::ErrorKind::BrokenPipe.into()), PipeWriter::try_clone)
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        self.writer = None;
        self.keep_alive = None;
        // The thread returns nothing.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Logs what comes from `reader` until its end, or until `stop` is closed.
fn log_lines(mut reader: PipeReader, stop: &PipeReader, mut lines: Lines) {
    let mut buffer = [0; 16 << 10];
    // After the stop what the pipe holds is read, and no more: a stray process may write for ever.
    let mut left = PIPE_CAPACITY;
    while left > 0 {
        let readable = |pipe| PollFd::new(pipe, PollFlags::POLLIN);
        let mut fds = [readable(reader.as_fd()), readable(stop.as_fd())];
        if poll(&mut fds, None).is_err() {
            break;
        }
        let is_stopping = fds[1].any() != Some(false);
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                lines.push(&buffer[..count]);
                if is_stopping {
                    left = left.saturating_sub(count);
                }
            }
            Err(_) if is_stopping => break,
            Err(_) => (),
        }
    }
    lines.flush();
}

/// The line that is being read.
struct Lines {
    worker: usize,
    line: Vec<u8>,
    /// True if the line is longer than `MAX_LINE_BYTES`.
    is_cut: bool,
}

impl Lines {
    /// Takes the next bytes and logs each line that they complete.
    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let left = MAX_LINE_BYTES - self.line.len();
            self.line.extend(&text[..text.len().min(left)]);
            self.is_cut |= text.len() > left;
            if ends {
                self.flush();
            }
        }
    }

    /// Logs the line, unless it is empty, and begins the next one.
    fn flush(&mut self) {
        if !self.line.is_empty() {
            if self.is_cut {
                self.line.truncate(whole_characters(&self.line));
                self.line.extend(b"...");
            }
            let (worker, line) = (self.worker, printable(&self.line));
            info!(target: PROGRAM_TARGET, worker = worker; "worker {worker}'s program says: {line}");
        }
        self.line.clear();
        self.is_cut = false;
    }
}

/// Returns the length of `bytes` in bytes without a character of UTF-8 that is cut at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
    bytes.len() - last
}
