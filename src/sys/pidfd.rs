//! Descriptors that tell of the end of a process.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::libc::{SYS_pidfd_open, syscall};
use nix::unistd::Pid;

/// Returns a descriptor that is readable once that process has ended: pidfd_open(2).
pub(crate) fn open(process: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no conditions.
    let exit = unsafe { syscall(SYS_pidfd_open, process.as_raw(), 0) };
    if exit == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(exit as i32) })
}
