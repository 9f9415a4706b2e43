//! Waiting for sockets and descriptors.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use super::Socket;
use crate::error::Error;
use crate::sys::fd::poll;

/// A socket or descriptor for [`wait`] to watch.
pub(crate) struct Watched<'a> {
    fd: BorrowedFd<'a>,
    socket: Option<&'a Socket>,
    readable: bool,
}

impl<'a> Watched<'a> {
    pub(super) fn socket(socket: &'a Socket) -> Watched<'a> {
        Watched { fd: socket.as_fd(), socket: Some(socket), readable: false }
    }

    /// Returns true if [`wait`] found something to read, or the other end closed.
    pub fn is_readable(&self) -> bool {
        self.readable
    }
}

/// Returns a descriptor's entry for [`wait`].
pub(crate) fn readable(fd: &impl AsFd) -> Watched<'_> {
    Watched { fd: fd.as_fd(), socket: None, readable: false }
}

/// Waits until one of these has something to read, a signal comes, or the time-out has passed;
/// without a time-out, for ever. Does not wait if a socket among them may have something to receive
/// already.
///
/// Does not use zmq_poll(3), which makes two system calls for each socket.
pub(crate) fn wait(watched: &mut [Watched<'_>], timeout: Option<Duration>) -> Result<(), Error> {
    let may_have_more = watched.iter().any(|w| w.socket.is_some_and(Socket::may_have_more));
    let timeout = if may_have_more { Some(Duration::ZERO) } else { timeout };
    let mut fds: Vec<_> =
        watched.iter().map(|watched| PollFd::new(watched.fd, PollFlags::POLLIN)).collect();
    poll(&mut fds, timeout)
        .map_err(|error| Error::failed("cannot wait for messages").with_cause(error))?;
    let readable: Vec<bool> = fds.iter().map(|fd| fd.any() != Some(false)).collect();
    for (watched, readable) in watched.iter_mut().zip(readable) {
        watched.readable = readable;
        if let (Some(socket), true) = (watched.socket, readable) {
            socket.on_readable();
        }
    }
    Ok(())
}

/// Has each of these sockets be looked at, as if [`wait`] had found it readable.
pub(crate) fn look_at<'a>(watched: impl Iterator<Item = Watched<'a>>) {
    watched.filter_map(|watched| watched.socket).for_each(Socket::on_readable);
}

/// Sockets and descriptors to wait for, each under a key; several may have the same.
pub(crate) struct PollSet<'a, K> {
    keys: Vec<K>,
    items: Vec<Watched<'a>>,
}

impl<'a, K: Copy + PartialEq> PollSet<'a, K> {
    pub fn with_capacity(items: usize) -> PollSet<'a, K> {
        PollSet { keys: Vec::with_capacity(items), items: Vec::with_capacity(items) }
    }

    /// Adds these items under `key`.
    pub fn add(&mut self, key: K, items: impl IntoIterator<Item = Watched<'a>>) {
        self.items.extend(items);
        self.keys.resize(self.items.len(), key);
    }

    /// Waits as [`wait`] does.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        wait(&mut self.items, timeout)
    }

    /// Returns true if the last wait found an item of this key readable.
    pub fn is_readable(&self, key: K) -> bool {
        self.keys.iter().zip(&self.items).any(|(it, item)| *it == key && item.is_readable())
    }
}
