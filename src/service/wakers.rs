//! What wakes a server's loop besides time.

use std::io::{PipeReader, Read};
use std::os::fd::BorrowedFd;

use crate::socket::{PollSet, readable};
use crate::status::Probed;

/// What has woken the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// A thread that the service needs has ended.
    ThreadEnded,
    Stop,
    /// The lists are to be read again.
    Hangup,
    /// Who may connect has changed.
    ListsChanged,
    /// Somebody asks what the service is doing.
    Probed,
    /// A worker takes requests again, or none any more, or a handler wants its maintenance.
    Handler,
    Message,
    /// There is something to read or to write.
    Io,
}

impl Wake {
    /// The most important one first, and a hangup before what comes of it.
    const ORDER: [Wake; 8] = [
        Wake::ThreadEnded,
        Wake::Stop,
        Wake::Hangup,
        Wake::ListsChanged,
        Wake::Probed,
        Wake::Handler,
        Wake::Message,
        Wake::Io,
    ];
}

/// What wakes the loop besides messages and handlers.
pub(super) struct Wakers<'a> {
    /// Each has the service drain.
    pub stops: Vec<BorrowedFd<'a>>,
    /// Each tells that a thread of the service has ended.
    pub ends: Vec<BorrowedFd<'a>>,
    /// Tells that the lists are to be read again, of which the service manager is told.
    pub hangups: Option<&'a PipeReader>,
    /// Tells that who may connect has changed.
    pub lists: Option<&'a PipeReader>,
    /// Tells that somebody asks what the service is doing.
    pub probe: Option<&'a Probed>,
}

impl Wakers<'_> {
    /// Adds them to what is waited for, and with `is_serving` what stops the service.
    pub fn watch<'a>(&'a self, poll: &mut PollSet<'a, Wake>, is_serving: bool) {
        poll.add(Wake::ThreadEnded, self.ends.iter().map(readable));
        poll.add(Wake::Stop, self.stops.iter().filter(|_| is_serving).map(readable));
        poll.add(Wake::Hangup, self.hangups.map(readable));
        poll.add(Wake::ListsChanged, self.lists.map(readable));
        poll.add(Wake::Probed, self.probe.map(|probe| readable(&probe.asked)));
    }

    /// Returns the most important of what the last wait has found, and takes what has told of it; the
    /// others are found again.
    pub fn woken(&self, poll: &PollSet<'_, Wake>) -> Option<Wake> {
        let woken = Wake::ORDER.into_iter().find(|wake| poll.is_readable(*wake));
        let told = match woken {
            Some(Wake::Hangup) => self.hangups,
            Some(Wake::ListsChanged) => self.lists,
            _ => None,
        };
        if let Some(mut told) = told {
            let _ = told.read(&mut [0; 64]);
        }
        woken
    }
}
