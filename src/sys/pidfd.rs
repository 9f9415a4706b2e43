//! Descriptors that become readable when a process ends.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::libc::{SYS_pidfd_open, syscall};
use nix::unistd::Pid;

/// Returns a descriptor that is readable once that process has ended (pidfd_open(2)).
pub(crate) fn open(process: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no conditions.
    let fd = unsafe { syscall(SYS_pidfd_open, process.as_raw(), 0) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
