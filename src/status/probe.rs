//! How a service's loop is asked what it is doing, and tells: no lock, and no work unless somebody
//! asks.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::snapshot::Snapshot;
use crate::error::Error;
use crate::sys::fd::set_nonblocking;

/// Asks.
pub(crate) struct Probe {
    ask: PipeWriter,
    answers: Receiver<Snapshot>,
}

/// The loop's end.
pub(crate) struct Probed {
    /// Becomes readable when somebody asks.
    pub asked: PipeReader,
    answer: Sender<Snapshot>,
}

/// Makes both ends.
///
/// # Errors
/// Too few open files.
pub(crate) fn probe() -> Result<(Probe, Probed), Error> {
    let cannot = |error| Error::of_system("cannot make a pipe", error);
    let (asked, ask) = pipe().map_err(cannot)?;
    set_nonblocking(&ask).map_err(cannot)?;
    set_nonblocking(&asked).map_err(cannot)?;
    let (answer, answers) = channel();
    Ok((Probe { ask, answers }, Probed { asked, answer }))
}

impl Probe {
    /// Returns what the service is doing now; `None` if its loop does not tell within `patience`,
    /// since it hangs or has ended.
    pub fn ask(&self, patience: Duration) -> Option<Snapshot> {
        // What came too late for who asked before.
        while self.answers.try_recv().is_ok() {}
        // A full pipe says as much.
        let _ = (&self.ask).write(&[0]);
        self.answers.recv_timeout(patience).ok()
    }
}

impl Probed {
    /// Returns true if somebody has asked.
    #[cfg(test)]
    pub fn is_asked(&self) -> bool {
        (&self.asked).read(&mut [0; 1]).is_ok_and(|count| count > 0)
    }

    /// Answers all who have asked.
    pub fn answer(&self, snapshot: Snapshot) {
        let _ = (&self.asked).read(&mut [0; 64]);
        let _ = self.answer.send(snapshot);
    }
}
