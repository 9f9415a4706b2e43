//! The signals that stop a service, as a readable descriptor, and the one that has it read its lists
//! again.

use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{flag, low_level::pipe};

use crate::error::Error;

/// Has each SIGHUP write a byte to `writer` from now on, in place of ending the process.
pub(crate) fn send_hangups_to(writer: PipeWriter) -> io::Result<()> {
    pipe::register(SIGHUP, writer).map(drop)
}

/// Has SIGHUP do nothing from now on. A program that is started gets the default back.
pub(crate) fn ignore_hangups() -> io::Result<()> {
    flag::register(SIGHUP, Arc::default()).map(drop)
}

/// A descriptor that becomes readable at the first SIGTERM or SIGINT. The second signal ends the
/// process at once, within the signal handler, with exit code 128 plus its number.
pub(crate) struct Signals(UnixStream);

impl Signals {
    /// Catches the signals from now on.
    pub fn catch() -> Result<Signals, Error> {
        let cannot = |error| Error::of_system("cannot catch signals", error);
        let (reader, writer) = UnixStream::pair().map_err(cannot)?;
        let seen = Arc::new(AtomicBool::new(false));
        // Blocked meanwhile, so that none comes between the registrations and is lost.
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        let cannot_block = |error: nix::Error| cannot(error.into());
        signals.thread_block().map_err(cannot_block)?;
        for signal in [SIGTERM, SIGINT] {
            // Actions run in the order of their registration: the first signal must find the flag
            // unset.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&seen))
                .map_err(cannot)?;
            flag::register(signal, Arc::clone(&seen)).map_err(cannot)?;
            pipe::register(signal, writer.try_clone().map_err(cannot)?).map_err(cannot)?;
        }
        // A log file that may not grow (RLIMIT_FSIZE) is no reason to end.
        flag::register(SIGXFSZ, Arc::default()).map_err(cannot)?;
        signals.thread_unblock().map_err(cannot_block)?;
        Ok(Signals(reader))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
