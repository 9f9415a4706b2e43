//! Waiting for sockets and descriptors.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use super::Socket;
use crate::error::Error;
use crate::sys::fd::poll;

/// What [`wait`] is to watch.
pub(crate) struct Watched<'a> {
    fd: BorrowedFd<'a>,
    socket: Option<&'a Socket>,
    readable: bool,
}

impl<'a> Watched<'a> {
    pub(super) fn socket(socket: &'a Socket) -> Watched<'a> {
        Watched { fd: socket.as_fd(), socket: Some(socket), readable: false }
    }

    /// Whether the descriptor had something to read, or its other end was closed.
    pub fn is_readable(&self) -> bool {
        self.readable
    }
}

/// Has [`wait`] watch a descriptor.
pub(crate) fn readable(fd: &impl AsFd) -> Watched<'_> {
    Watched { fd: fd.as_fd(), socket: None, readable: false }
}

/// Waits until one of these has something to read, or a signal comes, or the time is up; for ever
/// without a time. Not at all if a socket among them may have something already.
///
/// Not by zmq_poll(3), which asks every socket, twice, by a system call each.
pub(crate) fn wait(watched: &mut [Watched<'_>], time: Option<Duration>) -> Result<(), Error> {
    let at_once = watched.iter().any(|w| w.socket.is_some_and(Socket::may_have_more));
    let time = if at_once { Some(Duration::ZERO) } else { time };
    let mut fds: Vec<_> =
        watched.iter().map(|watched| PollFd::new(watched.fd, PollFlags::POLLIN)).collect();
    poll(&mut fds, time)
        .map_err(|error| Error::failed("cannot wait for messages").because(error))?;
    let readable: Vec<bool> = fds.iter().map(|fd| fd.any() != Some(false)).collect();
    for (watched, readable) in watched.iter_mut().zip(readable) {
        watched.readable = readable;
        if let (Some(socket), true) = (watched.socket, readable) {
            socket.look_again();
        }
    }
    Ok(())
}
