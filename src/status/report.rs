//! All that is shown of a service: what its loop tells, what is made of that, and what is known
//! besides.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::history::History;
use super::process::Process;
use super::snapshot::{Readiness, Snapshot};
use crate::auth::Access;
use crate::handler::Counts;

/// What does not change while a service runs.
pub(crate) struct Facts {
    pub started: Instant,
    pub started_at: SystemTime,
    /// Where clients connect.
    pub endpoints: Vec<String>,
    pub access: Option<Arc<Access>>,
    /// Where programs answer.
    pub programs: Option<Arc<Counts>>,
    /// The handler is called in the loop, which may take its time.
    pub is_single_threaded: bool,
    pub max_memory: usize,
    /// Maximum number of connections of clients.
    pub max_clients: usize,
}

/// How a service is doing, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Serving,
    /// Requests are refused, for this reason.
    NotReady(&'static str),
    Draining,
    /// Its loop does not turn.
    Hanging,
    /// Its loop is in the handler.
    Handling,
}

impl State {
    /// Returns the state of a service; `is_answered` tells whether its loop has told of `snapshot`
    /// just now.
    pub fn of(snapshot: &Snapshot, is_answered: bool, facts: &Facts) -> State {
        match snapshot.readiness {
            _ if !is_answered && facts.is_single_threaded => State::Handling,
            _ if !is_answered => State::Hanging,
            Readiness::Serving => State::Serving,
            Readiness::Refusing(why) => State::NotReady(why),
            Readiness::Draining => State::Draining,
        }
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            State::Serving => "serving",
            State::NotReady(_) => "not ready",
            State::Draining => "draining",
            State::Hanging => "hanging",
            State::Handling => "handling",
        }
    }

    /// Returns what is to be known besides; nothing of a service that serves.
    pub fn reason(self) -> &'static str {
        match self {
            State::Serving => "",
            State::NotReady(why) => why,
            State::Draining => "the service is about to end, and refuses requests",
            State::Hanging => "the loop of the service does not turn",
            State::Handling => "the only thread is in the handler",
        }
    }

    /// Returns true if the service takes requests.
    pub fn is_ready(self) -> bool {
        matches!(self, State::Serving | State::Handling)
    }

    /// Returns true if the loop turns, or has a reason not to.
    pub fn is_healthy(self) -> bool {
        self != State::Hanging
    }
}

/// All that is shown.
pub(super) struct Report<'a> {
    pub facts: &'a Facts,
    pub state: State,
    /// When that was first seen.
    pub since: SystemTime,
    pub snapshot: &'a Snapshot,
    pub history: &'a History,
    pub process: Process,
    pub now: Instant,
    pub clock: SystemTime,
}

impl Report<'_> {
    /// Returns the time since `snapshot` was taken.
    pub fn age(&self) -> Duration {
        self.now.saturating_duration_since(self.snapshot.taken)
    }

    /// Returns how long the service has run.
    pub fn uptime(&self) -> Duration {
        self.now.saturating_duration_since(self.facts.started)
    }

    /// Returns the public key of the service, if it has one.
    pub fn public_key(&self) -> Option<String> {
        self.facts.access.as_ref().map(|access| access.keys.public.to_string())
    }

    /// Returns the process that answers for a worker, and how many were started; `None` where no
    /// program answers.
    pub fn program_of(&self, worker: usize) -> Option<(Option<u32>, u64)> {
        self.facts.programs.as_ref().map(|counts| counts.copy_of(worker))
    }
}
