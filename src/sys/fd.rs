//! File descriptors: calls that do not wait, and one that waits for several.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, ppoll};
use nix::sys::time::TimeSpec;

/// Has no call on the descriptor wait.
pub(crate) fn unblock(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Waits until one of these has what it is watched for, or a signal comes, or the time is up; for ever
/// without a time.
pub(crate) fn poll(fds: &mut [PollFd<'_>], time: Option<Duration>) -> io::Result<()> {
    match ppoll(fds, time.map(TimeSpec::from_duration), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
