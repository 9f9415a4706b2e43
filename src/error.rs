//! Errors that end a command: what failed, on what, why, and what to do.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use nix::errno::Errno;

/// A failure to start or to run a service.
///
/// `{}` shows what failed, and [`source`](StdError::source) is why. `{:#}` shows both on one line,
/// and what to do:
///
/// ```
/// use repd::{Config, Service};
///
/// let config = Config::default().listen(["tcp://no.such.invalid:5555".parse().unwrap()]);
/// let error = Service::start(&config).unwrap_err();
/// assert_eq!(error.to_string(), "cannot listen on tcp://no.such.invalid:5555");
/// assert!(format!("{error:#}").contains(":5555: no address, interface or host is called"));
/// assert_eq!(error.exit_code(), 2);
/// ```
#[derive(Debug)]
pub struct Error {
    exit_code: u8,
    what: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    remedy: Option<String>,
}

impl Error {
    /// Makes an error of bad usage or configuration: exit code 2.
    pub(crate) fn config(what: impl Into<String>) -> Error {
        Error { exit_code: 2, what: what.into(), cause: None, remedy: None }
    }

    /// Makes a failure while running: exit code 1.
    pub(crate) fn failed(what: impl Into<String>) -> Error {
        Error { exit_code: 1, ..Error::config(what) }
    }

    /// Makes the error of a client that got an error reply: exit code 3.
    pub(crate) fn fault(what: String) -> Error {
        Error { exit_code: 3, ..Error::config(what) }
    }

    /// Makes the error of a standard output that takes nothing: exit code 1.
    pub(crate) fn cannot_print(error: io::Error) -> Error {
        Error::failed("cannot print").with_cause(plain(error))
    }

    /// Makes an error of what the system refused: exit code 2 with a remedy if this process may
    /// have too few threads or open files, else 1.
    pub(crate) fn of_system(what: impl Into<String>, error: impl Into<io::Error>) -> Error {
        let error = error.into();
        let remedy = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMFILE) => "allow the process more open files (ulimit -n, LimitNOFILE=)",
            Some(Errno::EAGAIN) => "allow the process more threads (ulimit -u, TasksMax=)",
            _ => return Error::failed(what).with_cause(plain(error)),
        };
        Error::config(what).with_cause(plain(error)).with_remedy(remedy)
    }

    pub(crate) fn with_cause(self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error { cause: Some(cause.into()), ..self }
    }

    /// Makes it a failure while running: exit code 1.
    pub(crate) fn while_running(self) -> Error {
        Error { exit_code: 1, ..self }
    }

    pub(crate) fn with_remedy(self, remedy: impl Into<String>) -> Error {
        Error { remedy: Some(remedy.into()), ..self }
    }

    /// Sets what to do, unless that is set already.
    pub(crate) fn or_remedy(self, remedy: &str) -> Error {
        Error { remedy: self.remedy.or_else(|| Some(remedy.into())), ..self }
    }

    /// Returns the exit code for a process that this error ends: 1 for a failure while running, 2
    /// for bad usage or configuration.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

/// Returns the system's words without Rust's `(os error N)`.
pub(crate) fn plain(error: io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |raw| Errno::from_raw(raw).desc().into())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !f.alternate() {
            return Ok(());
        }
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        self.remedy.iter().try_for_each(|remedy| write!(f, "; {remedy}"))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
