//! libzmq's input and output, done by the thread that uses the sockets.

use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use super::{Context, Watched, last_error, readable, socket_error};
use crate::error::Error;

/// What libzmq's I/O thread would do, of a context that has none.
pub(crate) struct OwnIo {
    context: Context,
    /// Is readable when there is something to do.
    fd: RawFd,
    /// When there is something to do whatever `fd` says.
    due: Option<Instant>,
}

impl OwnIo {
    /// Takes over the context's input and output; it has had a socket, and no I/O thread.
    pub(super) fn new(context: Context, fd: RawFd) -> OwnIo {
        OwnIo { context, fd, due: None }
    }

    pub fn readable(&self) -> Watched<'_> {
        readable(self)
    }

    /// Returns true if a look is due though it is not [`readable`](OwnIo::readable).
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Returns when a look is due though it is not [`readable`](OwnIo::readable).
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Does what the sockets want done, and with `look` reads and writes what can be read and written
    /// without waiting. Returns true if the sockets have heard something of that: they are to be
    /// looked at before anything is waited for.
    pub fn turn(&mut self, look: bool, now: Instant) -> Result<bool, Error> {
        let mut timeout = -1;
        // SAFETY: the pointer is a live context's. Nobody else has its I/O: there is one `OwnIo` of a
        // context, which is terminated after that has gone.
        let sockets =
            unsafe { zmq_sys::zmq_ctx_io_turn(self.context.raw(), look.into(), &raw mut timeout) };
        if sockets == -1 {
            return Err(socket_error("cannot read and write", last_error()));
        }
        self.due = u64::try_from(timeout).ok().map(|time| now + Duration::from_millis(time));
        Ok(sockets > 0)
    }
}

impl AsFd for OwnIo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it is open as long as the context is, of which this is a clone.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}
