//! Asks the loop of a service what it is doing, no more often than is worth it, and keeps what it has
//! told.

use std::time::{Duration, Instant, SystemTime};

use super::history::{History, STEP};
use super::probe::Probe;
use super::process::Process;
use super::report::{Facts, Report, State};
use super::snapshot::Snapshot;

/// Time for which what the loop has told is shown again: however many ask, it is asked no more often.
const FRESH: Duration = Duration::from_millis(100);

/// Time that the loop has to tell. It turns at least every few milliseconds when there is work.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The same where a handler is called in the loop, which is no fault: a health check must succeed
/// meanwhile, and Kubernetes gives it a second in all.
const MAX_WAIT_FOR_HANDLER: Duration = Duration::from_millis(250);

pub(super) struct Observer {
    probe: Probe,
    facts: Facts,
    history: History,
    latest: Option<Snapshot>,
    asked: Option<Instant>,
    /// Counts what the loop was asked.
    number: u64,
    state: State,
    since: SystemTime,
    sample_at: Instant,
}

impl Observer {
    pub fn new(probe: Probe, facts: Facts) -> Observer {
        Observer {
            probe,
            history: History::default(),
            latest: None,
            asked: None,
            number: 0,
            state: State::Serving,
            since: facts.started_at,
            sample_at: facts.started,
            facts,
        }
    }

    /// Returns when [`Observer::sample`] is to be called next.
    pub fn sample_at(&self) -> Instant {
        self.sample_at
    }

    /// Adds a step to the history, if the loop turns.
    pub fn sample(&mut self, now: Instant) {
        self.sample_at = (self.sample_at + STEP).max(now + STEP / 2);
        self.ask(now);
        if let (Some(snapshot), true) = (&self.latest, self.state.is_healthy()) {
            self.history.add(snapshot);
        }
    }

    /// Asks, unless what was told last is fresh. Returns a number that changes with what is told.
    pub fn update(&mut self, now: Instant) -> u64 {
        if self.asked.is_none_or(|asked| now >= asked + FRESH) {
            self.ask(now);
        }
        self.number
    }

    fn ask(&mut self, now: Instant) {
        let is_handled_there = self.facts.is_single_threaded;
        let wait = if is_handled_there { MAX_WAIT_FOR_HANDLER } else { MAX_WAIT };
        let told = self.probe.ask(wait);
        let is_answered = told.is_some();
        self.latest = told.or(self.latest.take());
        // Not before: waiting takes its time.
        self.asked = Some(if is_answered { now } else { Instant::now() });
        self.number += 1;
        let Some(snapshot) = &mut self.latest else { return };
        let state = State::of(snapshot, is_answered, &self.facts);
        if state == State::Handling {
            snapshot.set_handling();
        }
        if std::mem::replace(&mut self.state, state) != state {
            self.since = SystemTime::now();
        }
    }

    /// Returns how the service is doing; `None` if its loop has never told anything.
    pub fn state(&self) -> Option<State> {
        self.latest.as_ref().map(|_| self.state)
    }

    /// Returns all that is shown; `None` if the loop has never told anything.
    pub fn report(&self) -> Option<Report<'_>> {
        Some(Report {
            facts: &self.facts,
            state: self.state,
            since: self.since,
            snapshot: self.latest.as_ref()?,
            history: &self.history,
            process: Process::read(),
            now: Instant::now(),
            clock: SystemTime::now(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, TryRecvError, channel};
    use std::thread::{JoinHandle, spawn, yield_now};

    use super::*;
    use crate::status::probe::{Probed, probe};
    use crate::status::snapshot::tests::snapshot;

    fn facts(is_single_threaded: bool) -> Facts {
        Facts {
            started: Instant::now(),
            started_at: SystemTime::now(),
            endpoints: Vec::new(),
            access: None,
            programs: None,
            is_single_threaded,
            max_memory: 0,
            max_clients: 0,
        }
    }

    /// A loop that answers as often as it is asked, until it is dropped.
    fn answering(probed: Probed) -> (Sender<()>, JoinHandle<Probed>) {
        let (end, ends) = channel();
        let loop_ = spawn(move || {
            while ends.try_recv() != Err(TryRecvError::Disconnected) {
                if probed.is_asked() {
                    probed.answer(snapshot(Instant::now(), 7));
                }
                yield_now();
            }
            probed
        });
        (end, loop_)
    }

    #[test]
    fn a_loop_that_does_not_turn_is_no_health_unless_a_handler_is_called_in_it() {
        for (is_single_threaded, state) in [(false, State::Hanging), (true, State::Handling)] {
            let (probe, probed) = probe().unwrap();
            let mut observer = Observer::new(probe, facts(is_single_threaded));
            let start = Instant::now();
            observer.update(start);
            assert!(observer.report().is_none(), "it has never told anything");
            let (end, answering) = answering(probed);
            observer.sample(start);
            assert_eq!(observer.report().map(|report| report.state), Some(State::Serving));
            drop(end);
            let _probed = answering.join().unwrap();
            // Nobody answers any more.
            observer.sample(start);
            let report = observer.report().unwrap();
            assert_eq!((report.state, report.snapshot.stats.requests), (state, 7));
            assert_eq!(
                (report.state.is_healthy(), report.state.is_ready()),
                (is_single_threaded, is_single_threaded)
            );
        }
    }

    #[test]
    fn however_many_ask_the_loop_is_asked_once_in_a_while() {
        let (probe, probed) = probe().unwrap();
        let (_end, _answering) = answering(probed);
        let mut observer = Observer::new(probe, facts(false));
        let start = Instant::now();
        let asked: Vec<u64> =
            (0..4).map(|step| observer.update(start + step * FRESH / 2)).collect();
        assert_eq!(asked, [1, 1, 2, 2]);
    }
}
