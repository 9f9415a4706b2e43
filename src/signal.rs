//! Signals as a readable file descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

use crate::error::Error;

/// Becomes readable at the first SIGTERM or SIGINT. The second ends the process at once, with exit
/// code 128 and its number, from within the signal handler, whatever the process is doing.
pub(crate) struct Signals(UnixStream);

impl Signals {
    /// Catches the signals from here on.
    pub fn catch() -> Result<Signals, Error> {
        let cannot = |error| Error::failed("cannot catch signals").because(error);
        let (reader, writer) = UnixStream::pair().map_err(cannot)?;
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Actions run in the order in which they are registered. The pipe is first, so that a
            // signal that comes in between is not lost; the flag is looked at before it is set.
            pipe::register(signal, writer.try_clone().map_err(cannot)?).map_err(cannot)?;
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&seen))
                .map_err(cannot)?;
            flag::register(signal, Arc::clone(&seen)).map_err(cannot)?;
        }
        Ok(Signals(reader))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
