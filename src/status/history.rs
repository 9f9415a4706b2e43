//! What a service has done in the last quarter of an hour.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::snapshot::{Latencies, Snapshot, Who};

/// Time between two samples.
pub(super) const STEP: Duration = Duration::from_secs(5);

/// Number of steps that are kept.
pub(super) const STEPS: usize = 180;

/// Times over which rates are told.
pub(super) const WINDOWS: [(&str, Duration); 4] = [
    ("10s", Duration::from_secs(10)),
    ("1m", Duration::from_secs(60)),
    ("5m", Duration::from_secs(5 * 60)),
    ("15m", Duration::from_secs(15 * 60)),
];

/// Number of samples whose latencies are kept: those of one minute.
const LATENCIES: usize = 12;

/// The counters at one time.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    requests: u64,
    errors: u64,
}

/// What was done between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Step {
    /// Requests, and error replies, a second.
    pub requests: f64,
    pub errors: f64,
    /// How long requests took: half of them, and 99 of 100, no longer than that.
    pub median: Option<Duration>,
    pub p99: Option<Duration>,
}

/// The samples, the oldest first.
#[derive(Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    steps: VecDeque<Step>,
    latencies: VecDeque<Latencies>,
    /// When a sample was taken, and the requests of each client then: two of them, at least two steps
    /// apart.
    usages: VecDeque<(Instant, HashMap<Who, u64>)>,
}

impl History {
    /// Takes a sample.
    pub fn add(&mut self, snapshot: &Snapshot) {
        let sample = sample_of(snapshot);
        if let (Some(before), Some(latencies)) = (self.samples.back(), self.latencies.back()) {
            let total = snapshot.latencies.total.since(&latencies.total);
            self.steps.push_back(Step {
                requests: rate(before.requests, sample.requests, before.at, sample.at),
                errors: rate(before.errors, sample.errors, before.at, sample.at),
                median: total.quantile(0.5),
                p99: total.quantile(0.99),
            });
        }
        if self.usages.back().is_none_or(|(at, _)| snapshot.taken >= *at + 2 * STEP) {
            let usages = snapshot.clients.iter().map(|usage| (usage.who.clone(), usage.requests));
            self.usages.push_back((snapshot.taken, usages.collect()));
        }
        self.samples.push_back(sample);
        self.latencies.push_back(snapshot.latencies.clone());
        trim(&mut self.samples, STEPS + 1);
        trim(&mut self.steps, STEPS);
        trim(&mut self.latencies, LATENCIES);
        trim(&mut self.usages, 2);
    }

    /// Returns what was done in each step, the oldest first.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &Step> {
        self.steps.iter()
    }

    /// Returns requests a second over that time before `snapshot`, or as long as there are samples.
    pub fn rate(&self, time: Duration, snapshot: &Snapshot) -> f64 {
        let is_old = |sample: &&Sample| sample.at + time <= snapshot.taken;
        let sample = self.samples.iter().rev().find(is_old).or(self.samples.front());
        let now = sample_of(snapshot);
        sample.map_or(0.0, |sample| rate(sample.requests, now.requests, sample.at, now.at))
    }

    /// Returns how long the requests of the minute before `snapshot` took.
    pub fn latencies(&self, snapshot: &Snapshot) -> Latencies {
        let before = self.latencies.front();
        before.map_or_else(Latencies::default, |before| snapshot.latencies.since(before))
    }

    /// Returns the requests a second of a client that has made so many.
    pub fn rate_of(&self, who: &Who, requests: u64, snapshot: &Snapshot) -> f64 {
        let Some((at, usages)) = self.usages.front() else { return 0.0 };
        rate(usages.get(who).copied().unwrap_or(0), requests, *at, snapshot.taken)
    }
}

fn sample_of(snapshot: &Snapshot) -> Sample {
    let stats = &snapshot.stats;
    Sample { at: snapshot.taken, requests: stats.requests, errors: stats.errors.values().sum() }
}

fn rate(before: u64, now: u64, from: Instant, to: Instant) -> f64 {
    let seconds = to.saturating_duration_since(from).as_secs_f64();
    // A client that has made place for another, and come again, begins at zero.
    if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 }
}

fn trim<T>(all: &mut VecDeque<T>, most: usize) {
    while all.len() > most {
        all.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::snapshot;

    #[test]
    fn rates_are_those_of_the_time_asked_for() {
        let start = Instant::now();
        let mut history = History::default();
        // A hundred requests a second for a minute, and then none.
        let at = |step: u32| snapshot(start + step * STEP, 500 * u64::from(step.min(12)));
        (0..=24).for_each(|step| history.add(&at(step)));
        let now = at(24);
        let rates = WINDOWS.map(|(_, time)| history.rate(time, &now).round());
        assert_eq!(rates, [0.0, 0.0, 50.0, 50.0]);
        let steps: Vec<f64> = history.steps().map(|step| step.requests).collect();
        assert_eq!((steps.len(), steps[11], steps[12]), (24, 100.0, 0.0));
    }

    #[test]
    fn no_more_than_a_quarter_of_an_hour_is_kept() {
        let start = Instant::now();
        let mut history = History::default();
        (0..1000).for_each(|step| history.add(&snapshot(start + step * STEP, 0)));
        assert_eq!((history.steps().len(), history.samples.len()), (STEPS, STEPS + 1));
        assert_eq!((history.latencies.len(), history.usages.len()), (LATENCIES, 2));
    }
}
