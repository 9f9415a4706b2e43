//! File descriptors: non-blocking mode, and a poll that a signal may end.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
#[cfg(feature = "cli")]
use nix::poll::PollFlags;
use nix::poll::{PollFd, ppoll};
use nix::sys::time::TimeSpec;

/// Makes calls on the descriptor fail with EAGAIN where they would wait.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Waits until there is something to read, a signal comes, or that time has passed.
#[cfg(feature = "cli")]
pub(crate) fn readable_within(fd: impl AsFd, time: Duration) -> io::Result<()> {
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], Some(time))
}

/// Waits until one of these is ready, a signal comes, or the time-out has passed; without a
/// time-out, for ever.
pub(crate) fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(|time| TimeSpec::from_duration(time.min(LONGEST)));
    match ppoll(fds, timeout, None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Most seconds that a `time_t` holds, where it has 32 bits: 68 years.
const LONGEST: Duration = Duration::from_secs(i32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_may_be_of_any_length() {
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        for time in [Duration::from_secs(1 << 31), Duration::from_secs(1 << 33), Duration::MAX] {
            let mut fds = [PollFd::new(reader.as_fd(), nix::poll::PollFlags::POLLIN)];
            poll(&mut fds, Some(time)).unwrap();
            assert_eq!(fds[0].any(), Some(true));
        }
    }
}
