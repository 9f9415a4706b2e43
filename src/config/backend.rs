//! What answers the requests of a service.

use std::convert::Infallible;
use std::error::Error as StdError;

use crate::endpoint::Endpoint;
use crate::handler::{Handler, NewHandler, Program};

/// What answers the requests of a service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Backend {
    /// Worker threads of this process. Make it with [`Backend::workers`], [`Backend::try_workers`]
    /// or [`Backend::program`].
    Workers(Workers),
    /// REP workers of any language. The service listens at these endpoints, and they connect; each
    /// request goes to the one that is expected to answer it soonest.
    External(Vec<Endpoint>),
    /// Other services that run this crate or `repd`. The service connects to these endpoints; each
    /// request goes to the one that is expected to answer it soonest.
    Upstream(Vec<Endpoint>),
}

/// Worker threads of this process, each with a handler of its own.
#[derive(Clone, Debug)]
pub struct Workers {
    pub(crate) count: usize,
    pub(crate) handler: WorkersHandler,
}

/// What the workers answer with.
#[derive(Clone, Debug)]
pub(crate) enum WorkersHandler {
    Function(NewHandler),
    Program(Program),
}

impl Backend {
    /// Makes a backend of `count` workers, 0 to 500. `new_handler` makes the handler of each
    /// worker, from its number: 1 and up. It is called in the worker's thread, at the start, and
    /// again each time that the handler has panicked.
    ///
    /// With 0 the service is single-threaded: the handler, of number 0, is called in the loop that
    /// serves clients, without deadlines, and a stop waits for it.
    pub fn workers<F, H>(count: usize, new_handler: F) -> Backend
    where
        F: Fn(usize) -> H + Send + Sync + 'static,
        H: Handler + 'static,
    {
        Backend::try_workers(count, move |worker| Ok::<_, Infallible>(new_handler(worker)))
    }

    /// Makes the same of a `new_handler` that may fail, such as one that opens a file. If it fails
    /// at the start, the service does not start; if it fails later, the service ends with that
    /// error.
    ///
    /// ```
    /// use repd::{Backend, Config, Frame, Service};
    ///
    /// let backend = Backend::try_workers(5, |_worker| {
    ///     let words = std::fs::read_to_string("/no/such/file")?;
    ///     Ok::<_, std::io::Error>(move |_: Vec<Frame>| Ok(vec![Frame::from(words.as_str())]))
    /// });
    /// let config = Config::new(backend).listen(["ipc://@words".parse().unwrap()]);
    /// let error = Service::start(&config).unwrap_err();
    /// assert!(format!("{error:#}").contains(": No such file or directory"));
    /// ```
    pub fn try_workers<F, H, E>(count: usize, new_handler: F) -> Backend
    where
        F: Fn(usize) -> Result<H, E> + Send + Sync + 'static,
        H: Handler + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let handler = WorkersHandler::Function(NewHandler::of(new_handler));
        Backend::Workers(Workers { count, handler })
    }

    /// Makes a backend of `count` workers, 0 to 500, each with a copy of a program that answers in
    /// the place of a handler. With 0 there is one copy, and the service is single-threaded.
    pub fn program(count: usize, program: Program) -> Backend {
        Backend::Workers(Workers { count, handler: WorkersHandler::Program(program) })
    }
}
