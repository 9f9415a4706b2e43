//! What the log was told of who was refused, so that it is told once a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::key::PublicKey;

/// Time for which a key that is refused again from the same address is not told of again.
const QUIET: Duration = Duration::from_secs(60);

/// Maximum number of refusals that are remembered for that.
const MAX_REMEMBERED: usize = 1000;

/// A key, and where it came from.
type Who = (PublicKey, Option<IpAddr>);

/// When who was refused was last told of.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<Who, SystemTime>>);

impl Told {
    /// Forgets all of them.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns true if the log was told of them within [`QUIET`], and remembers them if not.
    pub fn is_recent(&self, who: Who, now: SystemTime) -> bool {
        let is_recent = |time: &SystemTime| {
            // A clock that was set back is no reason to be silent for long.
            now.duration_since(*time).is_ok_and(|passed| passed < QUIET)
        };
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&who).is_some_and(is_recent) {
            return true;
        }
        if told.len() >= MAX_REMEMBERED {
            told.retain(|_, time| is_recent(time));
        }
        // Of more than that nothing is remembered: the log leaves lines out that repeat.
        if told.len() < MAX_REMEMBERED {
            told.insert(who, now);
        }
        false
    }
}
