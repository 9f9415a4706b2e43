//! A lane's credit: how many requests may be outstanding on it, from what its handler has taken for
//! those before.

#[cfg(feature = "loom")]
use loom::sync::Arc;
#[cfg(feature = "loom")]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(not(feature = "loom"))]
use std::sync::Arc;
#[cfg(not(feature = "loom"))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Maximum credit of a lane, in requests.
const MAX_CREDIT: f64 = 256.0;

/// Work that may be outstanding on one lane. Waking a sleeping thread costs some tens of
/// microseconds: what is done sooner than that is better left to the worker that is awake.
const WORK_AHEAD: Duration = Duration::from_micros(50);

/// Work that may be outstanding on one lane while no lane has credit. It would have to wait in any
/// case, and here the worker need not be woken for each request.
const OVERCOMMITTED_WORK: Duration = Duration::from_micros(250);

/// Maximum number of requests on an overcommitted lane: a worker that has as many is awake for long
/// enough.
const MAX_OVERCOMMIT: u32 = 8;

/// Handler time above which a request is a slow one, which nothing should wait behind.
const SLOW: Duration = Duration::from_micros(500);

/// Maximum share of requests that are sent behind a slow one.
const MAX_SHARE_BEHIND_SLOW: f64 = 0.001;

/// Number of requests over which the mean time, and the share of slow requests, are averaged.
const MEAN_WINDOW: f64 = 64.0;
const SHARE_WINDOW: f64 = 4096.0;

/// Stands for the credit of a worker that is [`Availability::Down`].
const DOWN: u32 = u32::MAX;

/// The credit of a lane: its worker sets it ([`Meter`]), the proxy reads it.
#[derive(Clone, Debug)]
pub(crate) struct Credit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The credit and the overcommit, of 32 bits each: one word, so that they go together.
    word: AtomicU64,
    may_pause: AtomicBool,
}

/// Returns how many requests may be outstanding where that share of them is slow, so that few are
/// behind a slow one: more than 1.
pub(super) fn by_risk(slow_share: f64) -> f64 {
    1.0 + MAX_SHARE_BEHIND_SLOW / slow_share
}

fn pack(credit: u32, overcommit: u32) -> u64 {
    u64::from(credit) << 32 | u64::from(overcommit)
}

/// What a worker says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    /// It takes requests.
    Ready,
    /// It takes none until it has done something that ends by itself, such as ending a program.
    Paused,
    /// It takes none, and may not for long: requests should not wait for it.
    Down,
}

impl Credit {
    /// Returns credit for one request at a time, until it is known how long requests take.
    pub fn new() -> Credit {
        Credit(Arc::new(Shared {
            word: AtomicU64::new(pack(1, 1)),
            may_pause: AtomicBool::new(false),
        }))
    }

    /// Returns the credit and the overcommit.
    fn load(&self) -> (u32, u32) {
        // Nothing else is published by it.
        let word = self.0.word.load(Ordering::Relaxed);
        ((word >> 32) as u32, word as u32)
    }

    /// Returns how many requests may be outstanding: 1 to 256, or 0 if the worker is not ready.
    pub fn get(&self) -> usize {
        match self.load() {
            (DOWN, _) => 0,
            (credit, _) => credit as usize,
        }
    }

    /// Returns how many requests may be outstanding while no lane has credit: 1 to 256, or 0 if the
    /// worker is not ready.
    pub fn overcommit(&self) -> usize {
        self.load().1 as usize
    }

    /// Returns true if the worker may pause between two requests (its program can exit), so that
    /// what was sent to it may have to be taken back.
    pub fn may_pause(&self) -> bool {
        self.0.may_pause.load(Ordering::Relaxed)
    }

    /// Returns true if the worker is [`Availability::Down`].
    pub fn is_down(&self) -> bool {
        self.load().0 == DOWN
    }
}

/// The worker's side: measures what requests take, and sets the credit.
#[derive(Debug)]
pub(crate) struct Meter {
    credit: Credit,
    /// Mean handler time, in seconds.
    mean: f64,
    slow_share: f64,
    availability: Availability,
}

impl Meter {
    pub fn new(credit: Credit) -> Meter {
        let availability = Availability::Ready;
        Meter { credit, mean: WORK_AHEAD.as_secs_f64(), slow_share: 0.0, availability }
    }

    /// Takes account of a request on which the handler spent that long.
    ///
    /// The mean alone would forget a slow request within a hundred quick ones, and the next slow
    /// one would hold up what was sent behind it; hence the share of slow ones, with a longer
    /// memory.
    pub fn record(&mut self, spent: Duration) {
        self.mean += (spent.as_secs_f64() - self.mean) / MEAN_WINDOW;
        let slow = f64::from(u8::from(spent > SLOW));
        self.slow_share += (slow - self.slow_share) / SHARE_WINDOW;
        self.publish();
    }

    /// Says that the worker may pause ([`Credit::may_pause`]). It must be said before the first
    /// request that it may concern.
    pub fn set_may_pause(&self) {
        self.credit.0.may_pause.store(true, Ordering::Relaxed);
    }

    /// Sets whether the worker takes requests; returns true if that is a change.
    pub fn set_availability(&mut self, availability: Availability) -> bool {
        let is_change = self.availability != availability;
        self.availability = availability;
        if is_change {
            self.publish();
        }
        is_change
    }

    fn publish(&self) {
        let by_risk = by_risk(self.slow_share);
        let by_work = |work: Duration| {
            let by_work = work.as_secs_f64() / self.mean;
            by_work.min(by_risk).clamp(1.0, MAX_CREDIT) as u32
        };
        let (credit, overcommit) = match self.availability {
            Availability::Ready => {
                let credit = by_work(WORK_AHEAD);
                (credit, by_work(OVERCOMMITTED_WORK).min(MAX_OVERCOMMIT).max(credit))
            }
            Availability::Paused => (0, 0),
            Availability::Down => (DOWN, 0),
        };
        self.credit.0.word.store(pack(credit, overcommit), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(feature = "loom")))]
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
        assert!(!meter.set_availability(Availability::Ready));
        assert!(meter.set_availability(Availability::Paused));
        assert!(!meter.set_availability(Availability::Paused));
        meter.record(micros(1));
        assert_eq!((credit.get(), credit.is_down()), (0, false));
        assert!(meter.set_availability(Availability::Down));
        assert_eq!((credit.get(), credit.is_down()), (0, true));
        assert!(meter.set_availability(Availability::Ready));
        assert_eq!((credit.get(), credit.is_down()), (1, false));
    }

    #[test]
    fn a_worker_that_may_pause_has_said_so() {
        let credit = Credit::new();
        let meter = Meter::new(credit.clone());
        assert!(!credit.may_pause());
        meter.set_may_pause();
        assert!(credit.may_pause());
    }

    #[test]
    fn the_risk_allows_one_more_than_the_share_that_may_wait_behind_a_slow_one() {
        for (slow_share, requests) in [(1.0, 1.001), (0.001, 2.0), (0.0001, 11.0)] {
            assert!((by_risk(slow_share) - requests).abs() < 1e-9, "{slow_share}");
        }
        // What takes just as long is no slow request.
        assert_eq!(after([vec![SLOW], vec![Duration::ZERO; 2000]].concat()), 256);
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
    fn an_overcommitted_lane_takes_more_but_not_behind_what_may_be_slow() {
        let overcommit = |spent: Duration| {
            let mut meter = Meter::new(Credit::new());
            (0..1000).for_each(|_| meter.record(spent));
            meter.credit.overcommit()
        };
        assert_eq!((overcommit(micros(50)), overcommit(micros(250))), (5, 1));
        assert_eq!((overcommit(micros(501)), overcommit(micros(10))), (1, 8));
        assert_eq!(overcommit(Duration::ZERO), 256);
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

/// Every order in which the two sides can meet: see `claim`.
#[cfg(all(test, feature = "loom"))]
mod every_order {
    use loom::sync::mpsc::channel;
    use loom::thread::spawn;

    use super::*;

    #[test]
    fn a_worker_that_pauses_is_known_to_when_its_reply_is_read() {
        loom::model(|| {
            let credit = Credit::new();
            let mut meter = Meter::new(credit.clone());
            let (send, replies) = channel();
            let worker = spawn(move || {
                meter.record(Duration::from_micros(1));
                meter.set_availability(Availability::Paused);
                send.send(()).unwrap();
            });
            let ready_or_not = [(1, 1), (1, 5), (0, 0)];
            assert!(ready_or_not.map(|(a, b)| (a, b)).contains(&credit.load()), "{credit:?}");
            replies.recv().unwrap();
            assert_eq!((credit.get(), credit.overcommit()), (0, 0));
            worker.join().unwrap();
        });
    }
}
