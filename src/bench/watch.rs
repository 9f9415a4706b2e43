//! Waiting for many sockets at once, without looking at each.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::error::Error;
use crate::socket::Socket;

/// Sockets that are waited for, each by its number.
pub(super) struct Watch {
    epoll: Epoll,
    events: [EpollEvent; 128],
}

impl Watch {
    pub fn new() -> Result<Watch, Error> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(cannot_watch)?;
        Ok(Watch { epoll, events: [EpollEvent::empty(); 128] })
    }

    pub fn add(&self, socket: &Socket, number: usize) -> Result<(), Error> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
        self.epoll.add(socket, event).map_err(cannot_watch)
    }

    pub fn remove(&self, socket: &Socket) -> Result<(), Error> {
        self.epoll.delete(socket).map_err(cannot_watch)
    }

    /// Waits for that long, in whole milliseconds, until a socket has something to read, and returns
    /// the numbers of some that have. Each is to be told so and read to its end.
    pub fn wait(&mut self, time: Duration) -> Result<impl Iterator<Item = usize>, Error> {
        let time = EpollTimeout::try_from(time).unwrap_or(EpollTimeout::MAX);
        let count = match self.epoll.wait(&mut self.events, time) {
            Err(Errno::EINTR) => 0,
            result => result.map_err(cannot_watch)?,
        };
        Ok(self.events[..count].iter().map(|event| event.data() as usize))
    }
}

/// Is readable while a socket has something to read.
impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

fn cannot_watch(error: Errno) -> Error {
    Error::of_system("cannot watch the clients", error)
}
