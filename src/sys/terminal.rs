//! The size of a terminal.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use nix::libc::{TIOCGWINSZ, ioctl, winsize};

/// Returns the rows and columns of a terminal; `None` if it is none, or has not said.
pub(crate) fn size(terminal: impl AsFd) -> Option<(usize, usize)> {
    let mut size = winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open, and the call writes a winsize: ioctl_tty(2).
    let done = unsafe { ioctl(terminal.as_fd().as_raw_fd(), TIOCGWINSZ, &raw mut size) };
    let is_known = done == 0 && size.ws_row > 0 && size.ws_col > 0;
    is_known.then(|| (size.ws_row.into(), size.ws_col.into()))
}
