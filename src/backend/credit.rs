//! A lane's credit: how many requests may be outstanding on it, from how its handler has done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// The most requests that may be outstanding on one lane.
const MOST: f64 = 256.0;

/// How much work may wait on one lane. Waking a sleeping thread costs some tens of microseconds;
/// what is done sooner than that is better left to the worker that is awake.
const WORK_AHEAD: Duration = Duration::from_micros(50);

/// How much may wait on one lane while no worker is free: then it would have to wait elsewhere, and here
/// the worker need not be woken for each.
const WORK_IN_NEED: Duration = Duration::from_micros(250);

/// A worker that has so many requests is awake for long enough.
const MOST_IN_NEED: u32 = 8;

/// A request that takes longer is a slow one, which nothing should wait behind.
const SLOW: Duration = Duration::from_micros(500);

/// The share of requests that may find themselves sent behind a slow one.
const BEHIND_SLOW: f64 = 0.001;

/// Over how many requests the mean time, and the share of slow requests, are averaged.
const MEAN_OVER: f64 = 64.0;
const SHARE_OVER: f64 = 4096.0;

/// Stands for a worker that takes no requests until further notice.
const DOWN: u32 = u32::MAX;

/// The figure that the worker keeps and the proxy reads.
#[derive(Clone, Debug)]
pub(crate) struct Credit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    credit: AtomicU32,
    in_need: AtomicU32,
    may_rest: AtomicBool,
}

/// Whether a worker takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ready,
    /// Not now, but as soon as it can.
    Resting,
    /// Not for a while: nobody should wait for it.
    Down,
}

impl Credit {
    /// Credit for one request at a time, until it is known what requests cost.
    pub fn new() -> Credit {
        Credit(Arc::new(Shared {
            credit: AtomicU32::new(1),
            in_need: AtomicU32::new(1),
            may_rest: AtomicBool::new(false),
        }))
    }

    /// None while the worker takes no requests.
    pub fn get(&self) -> usize {
        // Nothing else is published by it.
        match self.0.credit.load(Ordering::Relaxed) {
            DOWN => 0,
            credit => credit as usize,
        }
    }

    /// How many requests may be outstanding while no worker is free; no fewer.
    pub fn in_need(&self) -> usize {
        self.0.in_need.load(Ordering::Relaxed) as usize
    }

    /// Whether the worker may at any time have requests that it will not begin.
    pub fn may_rest(&self) -> bool {
        self.0.may_rest.load(Ordering::Relaxed)
    }

    /// Whether nobody should wait for the worker.
    pub fn is_down(&self) -> bool {
        self.0.credit.load(Ordering::Relaxed) == DOWN
    }
}

/// The worker's side: watches what requests cost, and sets the credit.
#[derive(Debug)]
pub(crate) struct Meter {
    credit: Credit,
    mean: f64,
    slow_share: f64,
    standing: Standing,
}

impl Meter {
    pub fn new(credit: Credit) -> Meter {
        let standing = Standing::Ready;
        Meter { credit, mean: WORK_AHEAD.as_secs_f64(), slow_share: 0.0, standing }
    }

    /// Takes account of a request on which the handler spent that long.
    ///
    /// The mean alone would forget a slow request within a hundred quick ones, and the next slow one
    /// would hold up what was sent behind it; hence the share of slow ones, with a longer memory.
    pub fn record(&mut self, spent: Duration) {
        self.mean += (spent.as_secs_f64() - self.mean) / MEAN_OVER;
        let slow = f64::from(u8::from(spent > SLOW));
        self.slow_share += (slow - self.slow_share) / SHARE_OVER;
        self.publish();
    }

    /// Says, before the first request, that the worker may rest without having been asked for anything.
    pub fn will_rest(&self) {
        self.credit.0.may_rest.store(true, Ordering::Relaxed);
    }

    /// Takes account of what the worker can do; whether that is news.
    pub fn stand(&mut self, standing: Standing) -> bool {
        let news = self.standing != standing;
        self.standing = standing;
        if news {
            self.publish();
        }
        news
    }

    fn publish(&self) {
        let by_risk = 1.0 + BEHIND_SLOW / self.slow_share;
        let by_work = |ahead: Duration| {
            let by_work = ahead.as_secs_f64() / self.mean;
            by_work.min(by_risk).clamp(1.0, MOST) as u32
        };
        let (credit, in_need) = match self.standing {
            Standing::Ready => {
                let credit = by_work(WORK_AHEAD);
                (credit, by_work(WORK_IN_NEED).min(MOST_IN_NEED).max(credit))
            }
            Standing::Resting => (0, 0),
            Standing::Down => (DOWN, 0),
        };
        let shared = &self.credit.0;
        shared.credit.store(credit, Ordering::Relaxed);
        shared.in_need.store(in_need, Ordering::Relaxed);
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
    fn a_worker_that_takes_nothing_gives_no_credit_until_it_does_again() {
        let credit = Credit::new();
        let mut meter = Meter::new(credit.clone());
        assert!(!meter.stand(Standing::Ready));
        assert!(meter.stand(Standing::Resting) && !meter.stand(Standing::Resting));
        meter.record(micros(1));
        assert_eq!((credit.get(), credit.is_down()), (0, false));
        assert!(meter.stand(Standing::Down));
        assert_eq!((credit.get(), credit.is_down()), (0, true));
        assert!(meter.stand(Standing::Ready));
        assert_eq!((credit.get(), credit.is_down()), (1, false));
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
    fn in_need_more_may_wait_but_not_behind_what_may_be_slow() {
        let in_need = |spent: Duration| {
            let mut meter = Meter::new(Credit::new());
            (0..1000).for_each(|_| meter.record(spent));
            meter.credit.in_need()
        };
        assert_eq!((in_need(micros(50)), in_need(micros(250))), (5, 1));
        assert_eq!((in_need(micros(501)), in_need(micros(10))), (1, 8));
        assert_eq!(in_need(Duration::ZERO), 256);
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
