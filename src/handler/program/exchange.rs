//! One request to a program, and its reply.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};

use super::failure::Failure;
use super::framing::{Format, Framing};
use super::process::Process;
use super::reply::{InvalidReply, REPLIES_ONLY, Reader, quoted};
use crate::frame::Frame;
use crate::sys::fd::poll;

/// Writes `request`, which is encoded, to the program and returns its reply. `buffer` is what each
/// read fills.
///
/// # Errors
/// Returns a [`Failure`] if the program ends without a reply, what it writes is not a reply, the
/// deadline passes, or the system refuses to write or read.
pub(super) fn exchange(
    process: &mut Process,
    format: Format,
    request: &[u8],
    buffer: &mut [u8],
    deadline: Instant,
) -> Result<Vec<Frame>, Failure> {
    let is_once = format.framing == Framing::Once;
    let reader = Reader::new(format);
    let mut exchange = Exchange { process, unwritten: request, written: 0, reader, is_open: true };
    loop {
        exchange.write()?;
        if is_once && exchange.unwritten.is_empty() {
            exchange.process.stdin = None;
        }
        let has_exited = match exchange.wait(deadline)? {
            Event::Exited => true,
            Event::Ready => false,
            Event::Timeout => return Err(Failure::Timeout(exchange.reader.unfinished())),
        };
        if let Some(reply) = exchange.read(buffer)? {
            return Ok(reply);
        }
        if is_once && has_exited {
            return Ok(exchange.reader.finish());
        }
        if !is_once && (has_exited || !exchange.is_open) {
            return Err(exchange.take_back());
        }
    }
}

/// Returns true if the call failed only for now: it was interrupted, or would have to wait.
pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The state of a request between its first byte and its reply.
struct Exchange<'a> {
    process: &'a mut Process,
    /// The rest of the request; empty too once the program has closed its standard input.
    unwritten: &'a [u8],
    /// Bytes of the request that are written.
    written: usize,
    reader: Reader,
    /// True until the program closes its standard output.
    is_open: bool,
}

/// What ended a wait for the program.
enum Event {
    /// The program has ended.
    Exited,
    /// The program may have output, or read its input.
    Ready,
    /// The deadline passed before that.
    Timeout,
}

impl Exchange<'_> {
    /// Writes as much of the request as the pipe takes.
    fn write(&mut self) -> io::Result<()> {
        let stdin = self.process.stdin.as_mut().filter(|_| !self.unwritten.is_empty());
        let Some(stdin) = stdin else { return Ok(()) };
        match stdin.write(self.unwritten) {
            Ok(count) => {
                self.unwritten = &self.unwritten[count..];
                self.written += count;
            }
            Err(error) if is_transient(&error) => (),
            // The program reads no more. Its reply or its end decides what the client gets.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.unwritten = &[],
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Waits until the program ends, has output or can take more of the request.
    fn wait(&self, deadline: Instant) -> io::Result<Event> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![readable(self.process.exit_fd())];
        fds.extend(self.is_open.then(|| readable(self.process.stdout.as_fd())));
        let stdin = self.process.stdin.as_ref().filter(|_| !self.unwritten.is_empty());
        fds.extend(stdin.map(|stdin| PollFd::new(stdin.as_fd(), PollFlags::POLLOUT)));
        let left = deadline.saturating_duration_since(Instant::now());
        poll(&mut fds, Some(left))?;
        if left.is_zero() && fds.iter().all(|fd| fd.any() == Some(false)) {
            return Ok(Event::Timeout);
        }
        Ok(if fds[0].any() == Some(false) { Event::Ready } else { Event::Exited })
    }

    /// Reads what the program has written. Returns its reply, or `None` if that is not complete.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Vec<Frame>>, Failure> {
        while self.is_open {
            match self.process.stdout.read(buffer) {
                Ok(0) => self.is_open = false,
                Ok(count) => {
                    let Some(reply) = self.reader.push(&buffer[..count])? else { continue };
                    if self.unwritten.is_empty() {
                        return Ok(Some(reply));
                    }
                    let wrote = quoted(&buffer[..count]);
                    let reason = format!("it wrote {wrote} before it had read the request");
                    return Err(InvalidReply::Malformed { reason, hint: REPLIES_ONLY }.into());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Takes back what the program, which can no longer reply, has not read. Returns why there is
    /// no reply: a request that is wholly unread may go to another copy.
    fn take_back(&mut self) -> Failure {
        let is_unread = self.process.take_back().is_ok_and(|unread| unread >= self.written);
        if is_unread { Failure::Unread } else { Failure::Lost(self.reader.unfinished()) }
    }
}
