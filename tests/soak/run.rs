//! The course of the soak: how long it goes on, what has happened, and what was wrong.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread::Scope;
use std::time::{Duration, Instant};

/// What all threads of the soak share.
pub struct Run {
    start: Instant,
    time: Duration,
    /// How often each disturbance has happened.
    events: Mutex<BTreeMap<&'static str, u64>>,
    wrong: Mutex<Vec<String>>,
}

impl Run {
    pub fn new(time: Duration) -> Run {
        let (events, wrong) = Default::default();
        Run { start: Instant::now(), time, events, wrong }
    }

    /// Returns the time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns true if the time is up, or something was wrong.
    pub fn is_over(&self) -> bool {
        self.elapsed() >= self.time || !self.wrong.lock().unwrap().is_empty()
    }

    /// Has `round` happen again and again until the soak is over, once in any case.
    pub fn repeat(&self, mut round: impl FnMut()) {
        round();
        while !self.is_over() {
            round();
        }
    }

    /// Runs a part of the soak in a thread of its own. What fails there ends the soak.
    pub fn spawn<'scope>(
        &'scope self,
        threads: &'scope Scope<'scope, '_>,
        name: impl Into<String>,
        part: impl FnOnce() + Send + 'scope,
    ) {
        let name = name.into();
        threads.spawn(move || self.guard(&name, part));
    }

    /// Runs a part of the soak, and notes why if it fails. Returns `None` then.
    pub fn guard<T>(&self, name: &str, part: impl FnOnce() -> T) -> Option<T> {
        let run = catch_unwind(AssertUnwindSafe(part));
        run.map_err(|panic| self.fail(format!("{name}: {}", message(&*panic)))).ok()
    }

    /// Notes what was wrong, in one line, and ends the soak.
    pub fn fail(&self, what: String) {
        let line = what.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        self.wrong.lock().unwrap().push(line);
    }

    /// Counts an event.
    pub fn happened(&self, what: &'static str) {
        *self.events.lock().unwrap().entry(what).or_default() += 1;
    }

    pub fn events(&self) -> BTreeMap<&'static str, u64> {
        self.events.lock().unwrap().clone()
    }

    /// Takes what was wrong, a line each.
    pub fn wrong(&self) -> Vec<String> {
        std::mem::take(&mut self.wrong.lock().unwrap())
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}
