//! A copy of the program for each request.

use std::time::Instant;

use log::warn;

use super::{Copies, describe};
use crate::fault::{Code, Fault};
use crate::frame::Frame;
use crate::handler::program::counts::Reason;
use crate::handler::program::framing::frame_lengths;

/// Maximum length of `REPD_FRAMES`: execve(2) takes 128 KiB, name included.
const MAX_VARIABLE_BYTES: usize = 100 << 10;

impl Copies {
    /// Starts the program for `request` alone, and returns its reply.
    pub(super) fn run_once(
        &mut self,
        request: &[Frame],
        deadline: Instant,
    ) -> Result<Vec<Frame>, Fault> {
        if frame_lengths(request).len() > MAX_VARIABLE_BYTES {
            return Err(Fault::new(Code::TOO_LARGE, "the request has too many frames"));
        }
        let mut process = self.start(Some(request)).map_err(|error| {
            self.warn_of_start(error, "");
            Fault::new(Code::FAILED, "the program cannot be started")
        })?;
        match self.exchange(&mut process, deadline) {
            Ok(reply) => {
                // The program has ended: this yields its exit status, and ends what it left
                // running.
                let status = process.terminate();
                self.settings.counts.on_ended(self.worker);
                if matches!(status, Ok(Some(status)) if status.success()) {
                    return Ok(reply);
                }
                self.settings.counts.on_failed(Reason::Status);
                let status = describe(&status);
                let (worker, name) = (self.worker, self.name());
                warn!(worker = worker; "worker {worker}: the program {name:?} failed{status}");
                Err(Fault::new(Code::FAILED, format!("the program failed{status}")))
            }
            Err(failure) => {
                let fault = failure.to_fault();
                self.failed = Some((process, failure));
                Err(fault)
            }
        }
    }
}
