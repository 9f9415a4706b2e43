//! Why a program did not reply, in words for its client and for the log.

use std::io;

use super::counts::Reason;
use super::reply::InvalidReply;
use crate::fault::{Code, Fault};

/// The reason why a request to a program has no reply.
pub(super) enum Failure {
    /// The program ended or closed its standard output, perhaps in the middle of a reply.
    Lost(Option<InvalidReply>),
    /// The program ended or closed its standard output before it had read any of the request, so
    /// another copy may have it.
    Unread,
    /// The program wrote something that is not a reply.
    Invalid(InvalidReply),
    /// The deadline passed, perhaps in the middle of a reply.
    Timeout(Option<InvalidReply>),
    /// The system refused to write to the program or to read from it.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl From<InvalidReply> for Failure {
    fn from(invalid: InvalidReply) -> Failure {
        Failure::Invalid(invalid)
    }
}

impl Failure {
    /// Returns the error reply for the client. It does not quote the program's output, which is for
    /// the log alone.
    pub fn to_fault(&self) -> Fault {
        let (code, reason) = match self {
            Failure::Lost(_) => (Code::LOST, "it ended before it replied".into()),
            Failure::Unread => (Code::LOST, "it ended".into()),
            Failure::Invalid(InvalidReply::TooLarge(reason)) => (Code::FAILED, reason.clone()),
            Failure::Invalid(InvalidReply::Malformed { .. }) => {
                (Code::FAILED, "its output is not a valid reply".into())
            }
            Failure::Io(error) => (Code::FAILED, error.to_string()),
            // The proxy may meet the deadline first: the client gets the same words.
            Failure::Timeout(_) => return Fault::timeout(),
        };
        Fault::new(code, format!("the program failed: {reason}"))
    }

    /// Returns what it counts as.
    pub fn counted_as(&self) -> Reason {
        match self {
            Failure::Lost(_) | Failure::Unread => Reason::Ended,
            Failure::Invalid(_) => Reason::Invalid,
            Failure::Timeout(_) => Reason::Timeout,
            Failure::Io(_) => Reason::System,
        }
    }

    /// Returns the reason for the log.
    pub fn reason(&self) -> String {
        let with_begun = |reason: &str, begun: &Option<InvalidReply>| match begun {
            Some(invalid) => format!("{reason}: {}", invalid.reason()),
            None => reason.into(),
        };
        match self {
            Failure::Lost(begun) => with_begun("it ended before it replied", begun),
            Failure::Unread => "it ended".into(),
            Failure::Invalid(invalid) => invalid.reason().into(),
            Failure::Timeout(begun) => with_begun("the deadline passed before it replied", begun),
            Failure::Io(error) => error.to_string(),
        }
    }

    /// Returns a hint at the likely mistake for the log, or `None` if there is no guess.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Failure::Invalid(invalid)
            | Failure::Lost(Some(invalid))
            | Failure::Timeout(Some(invalid)) => invalid.hint(),
            _ => None,
        }
    }
}
