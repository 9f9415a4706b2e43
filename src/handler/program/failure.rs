//! Why a program has not replied: what its client is told, and what the log.

use std::io;

use super::framing::Broken;
use crate::fault::{Code, Fault};

/// Why there is no reply.
pub(super) enum Failure {
    /// It ended, or closed its standard output, perhaps with a reply begun.
    Lost(Option<Broken>),
    /// Likewise, before it had read anything of the request, which another copy may have.
    Untouched,
    Broken(Broken),
    /// Its time was up, perhaps with a reply begun.
    Late(Option<Broken>),
    /// The system would not let it be spoken to.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Failure {
        Failure::Broken(broken)
    }
}

impl Failure {
    /// Returns what the client is told. What the program wrote is for the log alone.
    pub fn fault(&self) -> Fault {
        let (code, why) = match self {
            Failure::Lost(_) => (Code::Lost, "it ended before it replied".into()),
            Failure::Untouched => (Code::Lost, "it ended".into()),
            Failure::Broken(Broken::TooLarge(why)) => (Code::Failed, why.clone()),
            Failure::Broken(Broken::Malformed(..)) => {
                (Code::Failed, "what it wrote is no reply".into())
            }
            Failure::Io(error) => (Code::Failed, error.to_string()),
            // As the proxy has it, which may come before.
            Failure::Late(_) => return Fault::timeout(),
        };
        Fault::new(code, format!("the program failed: {why}"))
    }

    /// Returns what the log is told.
    pub fn why(&self) -> String {
        let begun = |why: &str, begun: &Option<Broken>| match begun {
            Some(broken) => format!("{why}: {}", broken.why()),
            None => why.into(),
        };
        match self {
            Failure::Lost(broken) => begun("it ended before it replied", broken),
            Failure::Untouched => "it ended".into(),
            Failure::Broken(broken) => broken.why().into(),
            Failure::Late(broken) => begun("the deadline passed before it replied", broken),
            Failure::Io(error) => error.to_string(),
        }
    }

    /// Returns what it may be about, if that is to be guessed.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Failure::Broken(Broken::Malformed(_, hint))
            | Failure::Lost(Some(Broken::Malformed(_, hint)))
            | Failure::Late(Some(Broken::Malformed(_, hint))) => Some(hint),
            _ => None,
        }
    }
}
