//! What the log was told of late: how many lines of each level, and the last warnings and errors.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use log::Level;

use super::line::Line;
use crate::text::shorten;

/// Number of warnings and errors that are kept.
const KEPT: usize = 20;

/// Maximum length in bytes of the text of one that is kept.
const MAX_KEPT_BYTES: usize = 300;

/// Lines of each level since the log was started: all that the process wanted to log, whether they
/// were left out, lost or written. Those below the log's level do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Number of errors.
    pub errors: u64,
    /// Number of warnings.
    pub warnings: u64,
    /// Number of lines of level info, those of programs included.
    pub info: u64,
    /// Number of lines of level debug.
    pub debug: u64,
}

impl Counts {
    /// Returns each with the name of its level.
    pub(crate) fn each(self) -> [(&'static str, u64); 4] {
        let Counts { errors, warnings, info, debug } = self;
        [("error", errors), ("warning", warnings), ("info", info), ("debug", debug)]
    }
}

/// A warning or an error that was logged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Warning {
    /// When it was logged.
    pub time: SystemTime,
    /// Its level: warning or error.
    pub level: Level,
    /// Its text, at most 300 bytes, on one line.
    pub text: String,
}

static ERRORS: AtomicU64 = AtomicU64::new(0);
static WARNINGS: AtomicU64 = AtomicU64::new(0);
static INFO: AtomicU64 = AtomicU64::new(0);
static DEBUG: AtomicU64 = AtomicU64::new(0);

static LAST: Mutex<VecDeque<Warning>> = Mutex::new(VecDeque::new());

fn last() -> MutexGuard<'static, VecDeque<Warning>> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a line.
pub(super) fn count(level: Level) {
    let counter = match level {
        Level::Error => &ERRORS,
        Level::Warn => &WARNINGS,
        Level::Info => &INFO,
        Level::Debug | Level::Trace => &DEBUG,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Keeps a warning or an error, in the place of the oldest one.
pub(super) fn keep(line: &Line) {
    let mut text = line.text.clone();
    shorten(&mut text, MAX_KEPT_BYTES);
    let warning = Warning { time: SystemTime::now(), level: line.level, text };
    let mut last = last();
    if last.len() == KEPT {
        last.pop_front();
    }
    last.push_back(warning);
}

/// Returns how many lines of each level there were, of a log that [`start`](super::start) has
/// started.
pub fn counts() -> Counts {
    let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Counts {
        errors: value(&ERRORS),
        warnings: value(&WARNINGS),
        info: value(&INFO),
        debug: value(&DEBUG),
    }
}

/// Returns the last 20 warnings and errors of that log, the oldest first. What a program writes is
/// none of them, and what was left out since it repeats is in the text of another.
pub fn last_warnings() -> Vec<Warning> {
    last().iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_are_kept_each_cut_short() {
        for number in 0..25 {
            keep(&Line::new(Level::Warn, format!("{number} {}", "x".repeat(1000))));
        }
        let last = last_warnings();
        assert_eq!(last.len(), KEPT);
        assert!(last[0].text.starts_with("5 x") && last[19].text.starts_with("24 x"));
        assert!(last.iter().all(|it| it.text.len() == MAX_KEPT_BYTES && it.text.ends_with("...")));
    }
}
