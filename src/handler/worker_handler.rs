//! The handler of one worker: an answer to each request, whatever a handler does.

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use log::{debug, log_enabled};

use super::new_handler::{Instance, NewHandler};
use super::{Client, Handler};
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frame::{Excerpt, Frame};

/// What a handler has made of a request.
pub(crate) struct Answer {
    pub reply: Vec<Frame>,
    /// The request was lost, or cannot be answered here: the reply is its client's only if no other
    /// worker is to try.
    pub is_lost: bool,
}

/// The handler of one worker, which always gives a reply, whatever the handler does; and its
/// maintenance, which a program needs between requests.
pub(crate) struct WorkerHandler {
    worker: usize,
    new_handler: NewHandler,
    /// Each request has its client in front.
    names_clients: bool,
    running: Instance,
}

impl WorkerHandler {
    /// Makes the handler of the worker of that number. With `names_clients` its requests have their
    /// clients in front ([`Client::to_frames`]).
    ///
    /// # Errors
    /// A handler that cannot be made.
    pub fn new(
        worker: usize,
        new_handler: NewHandler,
        names_clients: bool,
    ) -> Result<WorkerHandler, Error> {
        let running = new_handler.make(worker)?;
        Ok(WorkerHandler { worker, new_handler, names_clients, running })
    }

    /// Returns true if it is to know when each request came.
    pub fn times_requests(&self) -> bool {
        self.new_handler.times_requests()
    }

    /// Sets when the next request came: from then on a program has its time. A function is not
    /// ended.
    pub fn set_arrived(&mut self, arrived: Instant) {
        if let Instance::Program(copies) = &mut self.running {
            copies.set_arrived(arrived);
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// A new handler that cannot be made after a panic.
    pub fn answer(&mut self, mut request: Vec<Frame>) -> Result<Answer, Error> {
        let client = self.names_clients.then(|| Client::take_from(&mut request));
        let worker = self.worker;
        if log_enabled!(log::Level::Debug) {
            debug!(worker = worker; "worker {worker}: request {}", Excerpt(&request));
        }
        let handler: &mut dyn Handler = match &mut self.running {
            Instance::Function(function) => &mut **function,
            Instance::Program(copies) => &mut **copies,
        };
        // A handler that panicked is replaced, so nothing sees the state that it left.
        let handle = || match &client {
            Some(client) => handler.handle_from(client, request),
            None => handler.handle(request),
        };
        let reply = match catch_unwind(AssertUnwindSafe(handle)) {
            Ok(Ok(reply)) if reply.is_empty() => {
                Err(Fault::new(Code::FAILED, "the handler gave a reply of no frames"))
            }
            Ok(reply) => reply,
            Err(_) => {
                self.running = self.new_handler.make(worker).map_err(Error::while_running)?;
                Err(Fault::new(Code::FAILED, "the handler panicked"))
            }
        };
        let lost = [Code::LOST, Code::UNAVAILABLE];
        let is_lost = reply.as_ref().is_err_and(|fault| lost.contains(&fault.code()));
        let reply = reply.unwrap_or_else(|fault| fault.to_frames());
        if log_enabled!(log::Level::Debug) {
            debug!(worker = worker; "worker {worker}: reply {}", Excerpt(&reply));
        }
        Ok(Answer { reply, is_lost })
    }

    /// Returns true if it can take a request. While it cannot, [`WorkerHandler::maintain`] is to be
    /// called.
    pub fn is_ready(&self) -> bool {
        match &self.running {
            Instance::Function(_) => true,
            Instance::Program(copies) => copies.is_ready(),
        }
    }

    /// Does what it takes to be ready again; returns when to be called next, if it is not ready
    /// after that. Called before the first request, while it is not ready, and when one of
    /// [`WorkerHandler::watched`] is readable.
    pub fn maintain(&mut self) -> Option<Instant> {
        match &mut self.running {
            Instance::Function(_) => None,
            Instance::Program(copies) => copies.maintain(),
        }
    }

    /// Returns true if it may become unready between two requests.
    pub fn may_pause(&self) -> bool {
        matches!(self.running, Instance::Program(_))
    }

    /// Returns what becomes readable when it needs maintenance though it is ready.
    pub fn watched(&self) -> Vec<BorrowedFd<'_>> {
        match &self.running {
            Instance::Function(_) => Vec::new(),
            Instance::Program(copies) => copies.watched(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::handler::{Framing, Limits, Program};

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
        let new_handler = NewHandler::of(move |worker| Ok::<_, Error>(new_handler(worker)));
        let mut handler = WorkerHandler::new(1, new_handler, false).unwrap();
        let mut ask = |text: &str| handler.answer(vec![Frame::from(text)]).unwrap().reply;
        assert_eq!(ask("a"), ["1"]);
        assert_eq!(ask("b"), ["2"]);
        assert_eq!(Fault::parse(&ask("panic")).map(|fault| fault.code()), Some(Code::FAILED));
        assert_eq!(ask("c"), ["1"]);
    }

    #[test]
    fn a_program_is_not_ended_for_a_request_whose_deadline_has_passed_before() {
        let program = Program::new(["cat"]).framing(Framing::Lines);
        let time = Duration::from_secs(60);
        let settings = program.settings(Limits { bytes: 99, frames: 1, time }, 1).unwrap();
        let counts = Arc::clone(&settings.counts);
        let mut handler = WorkerHandler::new(0, NewHandler::Program(settings), false).unwrap();
        handler.maintain();
        let mut ask = |arrived| {
            handler.set_arrived(arrived);
            handler.answer(vec![Frame::from("x")]).unwrap().reply
        };
        let now = Instant::now();
        let late = ask(now.checked_sub(time).unwrap());
        assert_eq!(Fault::parse(&late).map(|fault| fault.code()), Some(Code::TIMEOUT));
        assert_eq!(ask(now), ["x"]);
        assert_eq!(counts.all().0, 1);
    }

    #[test]
    fn a_reply_of_no_frames_is_a_500() {
        let new_handler = NewHandler::of(|_| Ok::<_, Error>(|_| Ok(vec![])));
        let mut handler = WorkerHandler::new(1, new_handler, false).unwrap();
        let Answer { reply, .. } = handler.answer(vec![Frame::from("x")]).unwrap();
        assert_eq!(Fault::parse(&reply).map(|fault| fault.code()), Some(Code::FAILED));
    }

    #[test]
    fn a_handler_that_cannot_be_made_says_why() {
        let made = |new_handler| {
            let made = WorkerHandler::new(3, new_handler, false);
            made.err().map(|error| (format!("{error:#}"), error.exit_code()))
        };
        let failing = NewHandler::of(|_| Err::<fn(_) -> _, _>("no database"));
        let text = "cannot make the handler of worker 3: no database";
        assert_eq!(made(failing), Some((text.into(), 2)));
        let panicking = NewHandler::of(|_| -> Result<fn(_) -> _, Error> { panic!("asked to") });
        let text = "cannot make the handler of worker 3: it panicked";
        assert_eq!(made(panicking), Some((text.into(), 2)));
    }
}
