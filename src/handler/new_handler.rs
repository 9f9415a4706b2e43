//! What makes the handler of each worker.

use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Handler;
use super::program::{Copies, Counts, Settings};
use crate::error::Error;

type Cause = Box<dyn StdError + Send + Sync>;
type Function = dyn Fn(usize) -> Result<Box<dyn Handler>, Cause> + Send + Sync;

/// Makes the handler of each worker, from the worker's number.
#[derive(Clone)]
pub(crate) enum NewHandler {
    Function(Arc<Function>),
    Program(Arc<Settings>),
}

impl NewHandler {
    /// Makes it of a function.
    pub fn of<F, H, E>(new_handler: F) -> NewHandler
    where
        F: Fn(usize) -> Result<H, E> + Send + Sync + 'static,
        H: Handler + 'static,
        E: Into<Cause>,
    {
        NewHandler::Function(Arc::new(move |worker| match new_handler(worker) {
            Ok(handler) => Ok(Box::new(handler)),
            Err(error) => Err(error.into()),
        }))
    }

    /// Returns how often its program was started and has failed; `None` of a function.
    pub fn program_counts(&self) -> Option<Arc<Counts>> {
        match self {
            NewHandler::Function(_) => None,
            NewHandler::Program(settings) => Some(Arc::clone(&settings.counts)),
        }
    }

    /// Returns true if what it makes is to know when each request came
    /// ([`WorkerHandler::set_arrived`]).
    pub fn times_requests(&self) -> bool {
        matches!(self, NewHandler::Program(_))
    }

    /// Makes the handler of a worker.
    ///
    /// # Errors
    /// The function's own, or its panic.
    pub(super) fn make(&self, worker: usize) -> Result<Instance, Error> {
        let new_handler = match self {
            NewHandler::Function(new_handler) => new_handler,
            NewHandler::Program(settings) => {
                return Ok(Instance::Program(Box::new(Copies::new(worker, Arc::clone(settings)))));
            }
        };
        let cannot = || Error::config(format!("cannot make the handler of worker {worker}"));
        match catch_unwind(AssertUnwindSafe(|| new_handler(worker))) {
            Ok(Ok(handler)) => Ok(Instance::Function(handler)),
            Ok(Err(error)) => Err(cannot().with_cause(error)),
            Err(_) => Err(cannot().with_cause("it panicked")),
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

/// A handler that was made.
pub(super) enum Instance {
    Function(Box<dyn Handler>),
    Program(Box<Copies>),
}
