//! What the copies of a program say on standard error: line by line into the log, whether anybody
//! reads that or not.

use std::io::{self, PipeReader, PipeWriter, Read, pipe};
use std::os::fd::AsFd;
use std::thread::{Builder, JoinHandle};

use log::info;
use nix::poll::{PollFd, PollFlags};

use crate::logging::PROGRAM;
use crate::sys::fd::{poll, unblock};
use crate::text::printable;

/// A longer line is cut, so that with what stands before it it fits into one line of the log.
const LONGEST_LINE: usize = 3900;

/// As much as a pipe holds: pipe(7).
const A_PIPE: usize = 64 << 10;

/// The thread that reads.
pub(super) struct Stderr {
    /// Open as long as there may be another copy.
    writer: Option<PipeWriter>,
    /// Closed to have the thread end although some program may have kept its end open.
    going_on: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Stderr {
    /// Starts a thread for the programs of that worker.
    pub fn start(worker: usize) -> io::Result<Stderr> {
        let (reader, writer) = pipe()?;
        let (ended, going_on) = pipe()?;
        unblock(&reader)?;
        let body =
            move || copy(reader, &ended, &mut Lines { worker, line: Vec::new(), cut: false });
        let thread = Builder::new().name(format!("stderr-{worker}")).spawn(body)?;
        Ok(Stderr { writer: Some(writer), going_on: Some(going_on), thread: Some(thread) })
    }

    /// What is to be a program's standard error.
    pub fn writer(&self) -> io::Result<PipeWriter> {
        self.writer.as_ref().map_or(Err(io::ErrorKind::BrokenPipe.into()), PipeWriter::try_clone)
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        self.writer = None;
        self.going_on = None;
        // It has nothing to say.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn copy(mut reader: PipeReader, ended: &PipeReader, lines: &mut Lines) {
    let mut buffer = [0; 16 << 10];
    // In the end what the pipe holds is read, and no more: a stray may go on for ever.
    let mut left = A_PIPE;
    loop {
        let watch = |pipe| PollFd::new(pipe, PollFlags::POLLIN);
        let mut fds = [watch(reader.as_fd()), watch(ended.as_fd())];
        if poll(&mut fds, None).is_err() {
            break;
        }
        let ends = fds[1].any() != Some(false);
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                lines.push(&buffer[..read]);
                if ends {
                    left = left.saturating_sub(read);
                }
            }
            Err(_) if ends => break,
            Err(_) => (),
        }
        if left == 0 {
            break;
        }
    }
    lines.flush();
}

struct Lines {
    worker: usize,
    line: Vec<u8>,
    /// The line is longer than what is kept of it.
    cut: bool,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = LONGEST_LINE - self.line.len();
            self.line.extend(&text[..text.len().min(room)]);
            self.cut |= text.len() > room;
            if ends {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            if self.cut {
                let whole = whole_characters(&self.line);
                self.line.truncate(whole);
                self.line.extend(b"...");
            }
            info!(target: PROGRAM, "worker {}'s program says: {}", self.worker, printable(&self.line));
        }
        self.line.clear();
        self.cut = false;
    }
}

/// How many bytes are left without a character that is cut at the end, if it is text.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
    bytes.len() - last
}
