//! A lane's credit: how many requests may be outstanding on it, from how its handler has done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The most requests that may be outstanding on one lane.
const MOST: f64 = 256.0;

/// How much work may wait on one lane. Waking a sleeping thread costs some tens of microseconds;
/// what is done sooner than that is better left to the worker that is awake.
const WORK_AHEAD: Duration = Duration::from_micros(50);

/// A request that takes longer is a slow one, which nothing should wait behind.
const SLOW: Duration = Duration::from_micros(500);

/// The share of requests that may find themselves sent behind a slow one.
const BEHIND_SLOW: f64 = 0.001;

/// Over how many requests the mean time, and the share of slow requests, are averaged.
const MEAN_OVER: f64 = 64.0;
const SHARE_OVER: f64 = 4096.0;

/// The figure that the worker keeps and the proxy reads.
#[derive(Clone, Debug)]
pub(crate) struct Credit(Arc<AtomicU32>);

impl Credit {
    /// Credit for one request at a time, until it is known what requests cost.
    pub fn new() -> Credit {
        Credit(Arc::new(AtomicU32::new(1)))
    }

    pub fn get(&self) -> usize {
        // Nothing else is published by it.
        self.0.load(Ordering::Relaxed) as usize
    }
}

/// The worker's side: watches what requests cost, and sets the credit.
#[derive(Debug)]
pub(crate) struct Meter {
    credit: Credit,
    mean: f64,
    slow_share: f64,
}

impl Meter {
    pub fn new(credit: Credit) -> Meter {
        Meter { credit, mean: WORK_AHEAD.as_secs_f64(), slow_share: 0.0 }
    }

    /// Takes account of a request on which the handler spent that long.
    ///
    /// The mean alone would forget a slow request within a hundred quick ones, and the next slow one
    /// would hold up what was sent behind it; hence the share of slow ones, with a longer memory.
    pub fn record(&mut self, spent: Duration) {
        self.mean += (spent.as_secs_f64() - self.mean) / MEAN_OVER;
        let slow = f64::from(u8::from(spent > SLOW));
        self.slow_share += (slow - self.slow_share) / SHARE_OVER;
        let by_work = WORK_AHEAD.as_secs_f64() / self.mean;
        let by_risk = 1.0 + BEHIND_SLOW / self.slow_share;
        self.credit.0.store(by_work.min(by_risk).clamp(1.0, MOST) as u32, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(requests: impl IntoIterator<Item = Duration>) -> usize {
        let credit = Credit::new();
        let mut meter = Meter::new(credit.clone());
        requests.into_iter().for_each(|spent| meter.record(spent));
        credit.get()
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_lane_starts_with_credit_for_one() {
        assert_eq!(after([]), 1);
        assert_eq!(after([micros(1)]), 1);
    }

    #[test]
    fn quick_handlers_get_a_deep_pipe_and_slow_ones_one_request_at_a_time() {
        assert_eq!(after(vec![Duration::ZERO; 1000]), 256);
        assert!((40..=51).contains(&after(vec![micros(1); 1000])));
        assert_eq!(after(vec![micros(50); 1000]), 1);
        assert_eq!(after(vec![micros(20_000); 1000]), 1);
    }

    #[test]
    fn one_slow_request_in_a_hundred_keeps_credit_at_one() {
        let mixed = (0..10_000).map(|n| micros(if n % 100 == 0 { 20_000 } else { 1 }));
        assert_eq!(after(mixed), 1);
    }

    #[test]
    fn a_slow_request_is_remembered_for_thousands_of_quick_ones() {
        let history = |quick: usize| [micros(20_000)].into_iter().chain(vec![micros(1); quick]);
        assert!(after(history(2000)) < 8);
        assert!(after(history(40_000)) > 40);
    }
}
