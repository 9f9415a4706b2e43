//! What answers requests: frames in, frames or a fault out, nothing of ZeroMQ.

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use log::{debug, log_enabled};

use crate::fault::{Code, Fault};
use crate::frame::{Excerpt, Frame};

mod program;
mod reverse;

pub(crate) use program::kill_all;
pub use program::{Copies, Framing, Program};
pub use reverse::reverse;

/// Answers requests, one at a time. Each worker has an instance of its own, made by a factory, so a
/// handler may keep state and needs no locks.
///
/// Any `FnMut(Vec<Frame>) -> Result<Vec<Frame>, Fault>` is a handler.
pub trait Handler: Send {
    /// The reply to `request`, which has at least one frame, as the reply must have.
    ///
    /// # Errors
    /// A [`Fault`] is sent to the client as an error reply. A panic is a 500 for this client; the
    /// worker then goes on with a fresh instance. [`Code::Lost`] says that what was to answer is
    /// lost, and [`Code::Unavailable`] that this one cannot answer now: with
    /// [`Config::retries`](crate::Config::retries) the request is given to another worker, as this
    /// one has left it.
    fn handle(&mut self, request: Vec<Frame>) -> Result<Vec<Frame>, Fault>;

    /// Whether it can take a request. This, like the three that follow, must not panic: that ends
    /// the service. While it cannot, its worker gets none, and calls [`Handler::tend`].
    fn is_ready(&self) -> bool {
        true
    }

    /// Between requests, does what it takes to be ready again: before the first request, when
    /// [`Handler::is_ready`] says no, when one of [`Handler::watched`] is readable. If it is not
    /// ready after that, this gives when it is to be called again.
    fn tend(&mut self) -> Option<Instant> {
        None
    }

    /// Whether it gives up a request by itself when the deadline has passed.
    fn ends_at_deadline(&self) -> bool {
        false
    }

    /// What is readable when it is to be tended though it is ready.
    fn watched(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}

impl<F> Handler for F
where
    F: FnMut(Vec<Frame>) -> Result<Vec<Frame>, Fault> + Send,
{
    fn handle(&mut self, request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
        self(request)
    }
}

/// Answers with the request itself.
///
/// # Errors
/// None.
pub fn echo(request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
    Ok(request)
}

/// What a worker answers with: it always yields a reply, whatever its handler does.
pub(crate) trait Answer {
    /// The reply, and whether it says that what was to answer is lost.
    fn answer(&mut self, request: Vec<Frame>) -> (Vec<Frame>, bool);

    fn handler(&mut self) -> &mut dyn Handler;
}

/// A handler that is made by a factory, and again after a panic.
pub(crate) struct Answers<F, H> {
    worker: usize,
    new_handler: F,
    handler: H,
}

impl<F, H> Answers<F, H>
where
    F: Fn(usize) -> H,
    H: Handler,
{
    /// For the worker of that number.
    pub fn new(worker: usize, new_handler: F) -> Answers<F, H> {
        let handler = new_handler(worker);
        Answers { worker, new_handler, handler }
    }
}

impl<F, H> Answer for Answers<F, H>
where
    F: Fn(usize) -> H,
    H: Handler,
{
    fn answer(&mut self, request: Vec<Frame>) -> (Vec<Frame>, bool) {
        let worker = self.worker;
        if log_enabled!(log::Level::Debug) {
            debug!("worker {worker}: request {}", Excerpt(&request));
        }
        let handler = &mut self.handler;
        // A handler that panicked is thrown away, so nobody sees the state that it left.
        let reply = match catch_unwind(AssertUnwindSafe(|| handler.handle(request))) {
            Ok(Ok(reply)) if reply.is_empty() => {
                Err(Fault::new(Code::Failed, "the handler gave a reply of no frames"))
            }
            Ok(reply) => reply,
            Err(_) => {
                self.handler = (self.new_handler)(worker);
                Err(Fault::new(Code::Failed, "the handler panicked"))
            }
        };
        let lost = [Code::Lost, Code::Unavailable].map(|code| code as u16);
        let is_lost = reply.as_ref().is_err_and(|fault| lost.contains(&fault.code()));
        let reply = reply.unwrap_or_else(|fault| fault.to_frames());
        if log_enabled!(log::Level::Debug) {
            debug!("worker {worker}: reply {}", Excerpt(&reply));
        }
        (reply, is_lost)
    }

    fn handler(&mut self) -> &mut dyn Handler {
        &mut self.handler
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_500_and_the_next_request_meets_a_fresh_handler() {
        let mut answers = Answers::new(1, |_| {
            let mut seen = 0;
            move |request: Vec<Frame>| {
                seen += 1;
                assert!(*request[0] != *b"panic", "asked to");
                Ok(vec![Frame::from(format!("{seen}"))])
            }
        });
        let mut ask = |text: &str| answers.answer(vec![Frame::from(text)]).0;
        assert_eq!(ask("a"), [Frame::from("1")]);
        assert_eq!(ask("b"), [Frame::from("2")]);
        assert_eq!(Fault::parse(&ask("panic")).map(|fault| fault.code()), Some(500));
        assert_eq!(ask("c"), [Frame::from("1")]);
    }

    #[test]
    fn a_reply_of_no_frames_is_a_500() {
        let mut answers = Answers::new(1, |_| |_| Ok(vec![]));
        let (reply, _) = answers.answer(vec![Frame::from("x")]);
        assert_eq!(Fault::parse(&reply).map(|fault| fault.code()), Some(500));
    }
}
