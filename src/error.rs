//! What failed, on what, why, and what to do: one line for the user.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use nix::errno::Errno;

/// A failure that ends the command.
///
/// It prints as one line: `what failed on what: why; what to do`.
#[derive(Debug)]
pub struct Error {
    exit_code: u8,
    what: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    remedy: Option<String>,
}

impl Error {
    /// Bad usage or configuration: exit code 2.
    pub(crate) fn config(what: impl Into<String>) -> Error {
        Error { exit_code: 2, what: what.into(), cause: None, remedy: None }
    }

    /// A failure while running: exit code 1.
    pub(crate) fn failed(what: impl Into<String>) -> Error {
        Error { exit_code: 1, ..Error::config(what) }
    }

    /// An error reply: exit code 3.
    pub(crate) fn fault(what: String) -> Error {
        Error { exit_code: 3, ..Error::config(what) }
    }

    /// Standard output that takes nothing: exit code 1.
    pub fn unprinted(error: io::Error) -> Error {
        Error::failed("cannot print").because(plain(error))
    }

    /// What the system would not do. Exit code 2 and what helps, where it gives this process too
    /// little.
    pub(crate) fn of_system(what: impl Into<String>, error: impl Into<io::Error>) -> Error {
        let error = error.into();
        let remedy = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMFILE) => "allow the process more open files (ulimit -n, LimitNOFILE=)",
            Some(Errno::EAGAIN) => "allow the process more threads (ulimit -u, TasksMax=)",
            _ => return Error::failed(what).because(plain(error)),
        };
        Error::config(what).because(plain(error)).remedy(remedy)
    }

    pub(crate) fn because(self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Error { cause: Some(cause.into()), ..self }
    }

    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Error {
        Error { remedy: Some(remedy.into()), ..self }
    }

    /// What to do, if nothing better is known.
    pub(crate) fn otherwise(self, remedy: &str) -> Error {
        Error { remedy: self.remedy.or_else(|| Some(remedy.into())), ..self }
    }

    /// The exit code of the process that this error ends: 1 for a failure while running,
    /// 2 for bad usage or configuration, 3 for an error reply to `repd call`.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

/// The system's words without Rust's `(os error N)`.
pub(crate) fn plain(error: io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |raw| Errno::from_raw(raw).desc().into())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
