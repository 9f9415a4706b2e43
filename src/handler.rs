//! What answers requests: frames in, frames or a fault out, nothing of ZeroMQ.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use log::{debug, log_enabled};

use crate::fault::{Code, Fault};
use crate::frame::{Excerpt, Frame};

mod program;
mod reverse;

pub use program::{Framing, Program};
pub(crate) use program::{Limits, kill_all};
pub use reverse::reverse;

use program::{Copies, Settings};

/// Answers requests, one at a time.
///
/// Each worker has a handler of its own ([`Backend::workers`](crate::Backend::workers)), so a
/// handler may keep state and needs no locks. Any `FnMut(Vec<Frame>) -> Result<Vec<Frame>, Fault> +
/// Send` is a handler.
///
/// ```
/// use repd::{Code, Fault, Frame, Handler};
///
/// /// Numbers the requests of its worker.
/// struct Counter {
///     worker: usize,
///     requests: u64,
/// }
///
/// impl Handler for Counter {
///     fn handle(&mut self, request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
///         if request.len() != 1 {
///             return Err(Fault::new(Code::BAD_REQUEST, "give one frame"));
///         }
///         self.requests += 1;
///         Ok(vec![Frame::from(format!("worker {}, request {}", self.worker, self.requests))])
///     }
/// }
///
/// let mut counter = Counter { worker: 1, requests: 0 };
/// assert_eq!(counter.handle(vec![Frame::from("x")]).unwrap(), ["worker 1, request 1"]);
/// ```
pub trait Handler: Send {
    /// Returns the reply to `request`. Both have at least one frame: a reply of none is a 500.
    ///
    /// # Errors
    /// A [`Fault`] is sent to the client as an error reply. With
    /// [`Config::retries`](crate::Config::retries), [`Code::LOST`] and [`Code::UNAVAILABLE`] have
    /// the request given to another worker instead, as this one has left it.
    ///
    /// # Panics
    /// A panic is a 500 for this client; the worker goes on with a new handler.
    fn handle(&mut self, request: Vec<Frame>) -> Result<Vec<Frame>, Fault>;
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

type Function = dyn Fn(usize) -> Box<dyn Handler> + Send + Sync;

/// Makes the handler of each worker, from the worker's number.
#[derive(Clone)]
pub(crate) enum NewHandler {
    Function(Arc<Function>),
    Program(Arc<Settings>),
}

impl NewHandler {
    /// Makes it of a function.
    pub fn of<F, H>(new_handler: F) -> NewHandler
    where
        F: Fn(usize) -> H + Send + Sync + 'static,
        H: Handler + 'static,
    {
        NewHandler::Function(Arc::new(move |worker| Box::new(new_handler(worker))))
    }

    fn make(&self, worker: usize) -> Running {
        match self {
            NewHandler::Function(new_handler) => Running::Function(new_handler(worker)),
            NewHandler::Program(settings) => {
                Running::Program(Box::new(Copies::new(worker, Arc::clone(settings))))
            }
        }
    }
}

impl fmt::Debug for NewHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NewHandler::Function(_) => f.write_str("a function"),
            NewHandler::Program(settings) => settings.fmt(f),
        }
    }
}

enum Running {
    Function(Box<dyn Handler>),
    Program(Box<Copies>),
}

/// The handler of one worker, which always gives a reply, whatever the handler does; and its
/// maintenance, which a program needs between requests.
pub(crate) struct WorkerHandler {
    worker: usize,
    new_handler: NewHandler,
    running: Running,
}

impl WorkerHandler {
    /// Makes the handler of the worker of that number.
    pub fn new(worker: usize, new_handler: NewHandler) -> WorkerHandler {
        let running = new_handler.make(worker);
        WorkerHandler { worker, new_handler, running }
    }

    /// Returns the reply to `request`, and true if the request was lost or cannot be answered here.
    pub fn answer(&mut self, request: Vec<Frame>) -> (Vec<Frame>, bool) {
        let worker = self.worker;
        if log_enabled!(log::Level::Debug) {
            debug!("worker {worker}: request {}", Excerpt(&request));
        }
        let handler: &mut dyn Handler = match &mut self.running {
            Running::Function(function) => &mut **function,
            Running::Program(copies) => &mut **copies,
        };
        // A handler that panicked is replaced, so nothing sees the state that it left.
        let reply = match catch_unwind(AssertUnwindSafe(|| handler.handle(request))) {
            Ok(Ok(reply)) if reply.is_empty() => {
                Err(Fault::new(Code::FAILED, "the handler gave a reply of no frames"))
            }
            Ok(reply) => reply,
            Err(_) => {
                self.running = self.new_handler.make(worker);
                Err(Fault::new(Code::FAILED, "the handler panicked"))
            }
        };
        let lost = [Code::LOST, Code::UNAVAILABLE];
        let is_lost = reply.as_ref().is_err_and(|fault| lost.contains(&fault.code()));
        let reply = reply.unwrap_or_else(|fault| fault.to_frames());
        if log_enabled!(log::Level::Debug) {
            debug!("worker {worker}: reply {}", Excerpt(&reply));
        }
        (reply, is_lost)
    }

    /// Returns true if it can take a request. While it cannot, [`WorkerHandler::maintain`] is to be
    /// called.
    pub fn is_ready(&self) -> bool {
        match &self.running {
            Running::Function(_) => true,
            Running::Program(copies) => copies.is_ready(),
        }
    }

    /// Does what it takes to be ready again; returns when to be called next, if it is not ready
    /// after that. Called before the first request, while it is not ready, and when one of
    /// [`WorkerHandler::watched`] is readable.
    pub fn maintain(&mut self) -> Option<Instant> {
        match &mut self.running {
            Running::Function(_) => None,
            Running::Program(copies) => copies.maintain(),
        }
    }

    /// Returns true if it may become unready between two requests.
    pub fn may_pause(&self) -> bool {
        matches!(self.running, Running::Program(_))
    }

    /// Returns what becomes readable when it needs maintenance though it is ready.
    pub fn watched(&self) -> Vec<BorrowedFd<'_>> {
        match &self.running {
            Running::Function(_) => Vec::new(),
            Running::Program(copies) => copies.watched(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_500_and_the_next_request_meets_a_fresh_handler() {
        let new_handler = |_| {
            let mut seen = 0;
            move |request: Vec<Frame>| {
                seen += 1;
                assert!(request[0] != "panic", "asked to");
                Ok(vec![Frame::from(format!("{seen}"))])
            }
        };
        let mut handler = WorkerHandler::new(1, NewHandler::of(new_handler));
        let mut ask = |text: &str| handler.answer(vec![Frame::from(text)]).0;
        assert_eq!(ask("a"), ["1"]);
        assert_eq!(ask("b"), ["2"]);
        assert_eq!(Fault::parse(&ask("panic")).map(|fault| fault.code()), Some(Code::FAILED));
        assert_eq!(ask("c"), ["1"]);
    }

    #[test]
    fn a_reply_of_no_frames_is_a_500() {
        let mut handler = WorkerHandler::new(1, NewHandler::of(|_| |_| Ok(vec![])));
        let (reply, _) = handler.answer(vec![Frame::from("x")]);
        assert_eq!(Fault::parse(&reply).map(|fault| fault.code()), Some(Code::FAILED));
    }
}
