//! Signals as a readable file descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

use crate::error::Error;

/// Becomes readable at the first SIGTERM or SIGINT. The second ends the process at once, with exit
/// code 128 and its number, from within the signal handler, whatever the process is doing.
pub(crate) struct Signals(UnixStream);

impl Signals {
    /// Catches the signals from here on.
    pub fn catch() -> Result<Signals, Error> {
        let cannot = |error| Error::of_system("cannot catch signals", error);
        let (reader, writer) = UnixStream::pair().map_err(cannot)?;
        let seen = Arc::new(AtomicBool::new(false));
        // Held back meanwhile: one that came between the parts of this would be lost.
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        let cannot_hold = |error: nix::Error| cannot(error.into());
        signals.thread_block().map_err(cannot_hold)?;
        for signal in [SIGTERM, SIGINT] {
            // Actions run in the order in which they are registered: the flag is looked at first.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&seen))
                .map_err(cannot)?;
            flag::register(signal, Arc::clone(&seen)).map_err(cannot)?;
            pipe::register(signal, writer.try_clone().map_err(cannot)?).map_err(cannot)?;
        }
        signals.thread_unblock().map_err(cannot_hold)?;
        Ok(Signals(reader))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
