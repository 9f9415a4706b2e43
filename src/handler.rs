//! What answers requests: frames in, frames or a fault out, nothing of ZeroMQ.

use crate::fault::Fault;
use crate::frame::Frame;

mod client;
mod new_handler;
mod program;
mod reverse;
mod worker_handler;

pub use client::Client;
pub(crate) use new_handler::NewHandler;
#[cfg(any(test, fuzzing))]
pub use program::program_reply;
pub(crate) use program::{Counts, Limits, kill_all};
pub use program::{Framing, Program};
pub use reverse::reverse;
pub(crate) use worker_handler::{Answer, WorkerHandler};

/// Answers requests, one at a time.
///
/// Each worker has a handler of its own ([`Backend::workers`](crate::Backend::workers)), which is
/// made and called in the worker's thread: it may keep state and needs no locks. What workers are
/// to share, an `Arc` can be cloned into each. Any `FnMut(Vec<Frame>) -> Result<Vec<Frame>, Fault>`
/// is a handler.
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
pub trait Handler {
    /// Returns the reply to `request`. Both have at least one frame: a reply of none is a 500.
    ///
    /// # Errors
    /// A [`Fault`] is sent to the client as an error reply. But with
    /// [`Config::retries`](crate::Config::retries), a request that ends with
    /// [`Code::LOST`](crate::Code::LOST) or [`Code::UNAVAILABLE`](crate::Code::UNAVAILABLE) is first
    /// given to other workers, as often as configured.
    ///
    /// # Panics
    /// A panic is a 500 for this client; the worker goes on with a new handler.
    fn handle(&mut self, request: Vec<Frame>) -> Result<Vec<Frame>, Fault>;

    /// Does the same for a handler that wants to know who asks. It is called in the place of
    /// [`Handler::handle`] with [`Config::name_clients`](crate::Config::name_clients); by default it
    /// calls that.
    ///
    /// ```
    /// use repd::{Client, Fault, Frame, Handler};
    ///
    /// struct Greeter;
    ///
    /// impl Handler for Greeter {
    ///     fn handle(&mut self, _request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
    ///         Ok(vec![Frame::from("hello")])
    ///     }
    ///
    ///     fn handle_from(&mut self, client: &Client, _: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
    ///         Ok(vec![Frame::from(format!("hello {}", client.name()))])
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As of [`Handler::handle`].
    fn handle_from(&mut self, client: &Client, request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
        let _ = client;
        self.handle(request)
    }
}

impl<F> Handler for F
where
    F: FnMut(Vec<Frame>) -> Result<Vec<Frame>, Fault>,
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
