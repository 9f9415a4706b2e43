//! How many requests a peer may have outstanding.

use std::time::{Duration, Instant};

use super::credit::by_risk;

/// Time after which what a peer that handles one request at a time is at counts as slow: nothing more
/// is sent behind it. No shorter, since the way there and a processor are waited for too.
pub(super) const SLOW_AFTER: Duration = Duration::from_millis(1);

/// Maximum number of requests that such a peer may have outstanding: as many are lost when it ends, or
/// miss their deadlines when it hangs.
const MAX_SERIAL: usize = 5;

/// Number of its replies before it may have more than one outstanding.
const MIN_REPLIES: u32 = 16;

/// Weights of the latest reply in the mean time and in the share of slow ones.
const MEAN_WEIGHT: f64 = 1.0 / 64.0;
const SHARE_WEIGHT: f64 = 1.0 / 4096.0;

/// Time after which a peer that may handle many requests is tried again, once some have passed their
/// deadlines: it may have dropped them. It doubles with each time that it is tried in vain.
const MIN_BACK_OFF: Duration = Duration::from_secs(1);
/// The same of another service, which drops none: what it answers late tells that it is back.
const UPSTREAM_BACK_OFF: Duration = Duration::from_secs(8);
const MAX_BACK_OFF: Duration = Duration::from_secs(32);

/// How many requests a peer may have outstanding.
#[derive(Debug)]
pub(crate) enum Concurrency {
    /// Of a peer that handles one request at a time: more are outstanding only so that it need not
    /// wait for the next.
    Serial(Serial),
    /// Of a peer that may handle many at once: as many as it answers in time.
    Parallel(Parallel),
    /// Of another service, which answers all that it has been sent, unless it hangs.
    Upstream(Upstream),
}

#[derive(Debug)]
pub(crate) struct Serial {
    max: usize,
    /// Number of replies, up to [`MIN_REPLIES`].
    replies: u32,
    /// Mean time from one reply to the next while there is something to do, in seconds.
    mean: f64,
    slow_share: f64,
}

#[derive(Debug)]
pub(crate) struct Parallel {
    max: usize,
    limit: usize,
    /// When a deadline made it half as many last.
    halved: Option<Instant>,
    back_off: Duration,
    /// When those that are late count no longer.
    retry_at: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Upstream {
    max: usize,
    back_off: Duration,
    /// When one request is a trial, if nothing has come until then.
    trial_at: Option<Instant>,
}

impl Concurrency {
    /// Returns that of a peer that handles one request at a time. At most `max` are outstanding.
    pub fn serial(max: usize) -> Concurrency {
        Concurrency::Serial(Serial { max, replies: 0, mean: 0.0, slow_share: 0.0 })
    }

    /// Returns that of a peer that may handle many requests at once, `max` at most, and gets one
    /// until it has answered.
    pub fn parallel(max: usize) -> Concurrency {
        let (halved, back_off, retry_at) = (None, MIN_BACK_OFF, None);
        Concurrency::Parallel(Parallel { max, limit: 1, halved, back_off, retry_at })
    }

    /// Returns that of another service. At most `max` are outstanding.
    pub fn upstream(max: usize) -> Concurrency {
        Concurrency::Upstream(Upstream { max, back_off: UPSTREAM_BACK_OFF, trial_at: None })
    }

    /// Returns how many requests may be outstanding: at least 1.
    pub fn limit(&self) -> usize {
        match self {
            Concurrency::Serial(serial) => serial.limit(),
            Concurrency::Parallel(parallel) => parallel.limit,
            Concurrency::Upstream(upstream) => upstream.max,
        }
    }

    /// Returns true if requests are handled in the order in which they are sent, one at a time.
    pub fn is_serial(&self) -> bool {
        matches!(self, Concurrency::Serial(_))
    }

    /// Returns when those that are late are to be forgotten, so that the peer is tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        match self {
            Concurrency::Parallel(parallel) => parallel.retry_at,
            _ => None,
        }
    }

    /// Returns true if one request may be a trial of a peer that hangs.
    pub fn is_trial_due(&self, now: Instant) -> bool {
        match self {
            Concurrency::Upstream(upstream) => upstream.trial_at.is_some_and(|at| at <= now),
            _ => false,
        }
    }

    /// Takes account of a request that was sent to a peer that hangs.
    pub fn on_trial(&mut self, now: Instant) {
        let is_due = self.is_trial_due(now);
        if let (Concurrency::Upstream(upstream), true) = (self, is_due) {
            upstream.back_off = (2 * upstream.back_off).min(MAX_BACK_OFF);
            upstream.trial_at = Some(now + upstream.back_off);
        }
    }

    /// Takes account of a reply that came that long after the one before, or after the request if
    /// there was no other. `was_full` tells that there were about as many as there may be.
    pub fn on_reply(&mut self, after: Duration, was_full: bool) {
        match self {
            Concurrency::Serial(serial) => serial.on_reply(after),
            Concurrency::Parallel(parallel) => {
                parallel.back_off = MIN_BACK_OFF;
                parallel.limit = (parallel.limit + usize::from(was_full)).min(parallel.max);
            }
            Concurrency::Upstream(upstream) => {
                (upstream.back_off, upstream.trial_at) = (UPSTREAM_BACK_OFF, None);
            }
        }
    }

    /// Takes account of a request, sent at that time, whose deadline has passed. Of several that were
    /// outstanding together the first one counts.
    pub fn on_deadline(&mut self, sent_at: Instant, now: Instant) {
        let parallel = match self {
            Concurrency::Serial(_) => return,
            Concurrency::Parallel(parallel) => parallel,
            Concurrency::Upstream(upstream) => {
                upstream.trial_at.get_or_insert(now + upstream.back_off);
                return;
            }
        };
        if parallel.halved.is_none_or(|at| sent_at > at) {
            parallel.limit = (parallel.limit / 2).max(1);
            parallel.halved = Some(now);
        }
        parallel.retry_at.get_or_insert(now + parallel.back_off);
    }

    /// Takes account of that those that were late are forgotten; `is_silent` tells that nothing has
    /// come since they were sent: one more request is a trial.
    pub fn on_retry(&mut self, is_silent: bool) {
        let Concurrency::Parallel(parallel) = self else { return };
        parallel.retry_at = None;
        if is_silent {
            parallel.limit = 1;
            parallel.back_off = (2 * parallel.back_off).min(MAX_BACK_OFF);
        }
    }
}

impl Serial {
    fn on_reply(&mut self, after: Duration) {
        let seconds = after.as_secs_f64();
        self.mean += if self.replies == 0 { seconds } else { (seconds - self.mean) * MEAN_WEIGHT };
        let slow = f64::from(u8::from(after > SLOW_AFTER));
        self.slow_share += (slow - self.slow_share) * SHARE_WEIGHT;
        self.replies = (self.replies + 1).min(MIN_REPLIES);
    }

    /// What is outstanding is to be done before it counts as slow, and few may be behind what is.
    fn limit(&self) -> usize {
        if self.replies < MIN_REPLIES {
            return 1;
        }
        let by_work = SLOW_AFTER.as_secs_f64() / self.mean.max(1e-9);
        let limit = by_work.min(by_risk(self.slow_share)) as usize;
        limit.clamp(1, MAX_SERIAL).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    fn serial_after(replies: impl IntoIterator<Item = Duration>) -> usize {
        let mut serial = Concurrency::serial(1000);
        replies.into_iter().for_each(|spent| serial.on_reply(spent, false));
        serial.limit()
    }

    #[test]
    fn one_that_handles_one_at_a_time_gets_more_only_if_it_is_known_to_be_quick() {
        assert_eq!(serial_after([]), 1);
        assert_eq!(serial_after([US; 15]), 1);
        assert_eq!(serial_after([US; 16]), MAX_SERIAL);
        assert_eq!(serial_after([300 * US; 100]), 3);
        assert_eq!(serial_after([20_000 * US; 100]), 1);
        // One of a hundred is slow, and the mean is not.
        let mixed = |slow: u32, quick: u32| {
            serial_after(
                (0..2000).map(|number| if number % 100 == 0 { slow * US } else { quick * US }),
            )
        };
        assert_eq!((mixed(2000, 20), mixed(900, 20)), (1, MAX_SERIAL));
        let mut limited = Concurrency::serial(2);
        (0..20).for_each(|_| limited.on_reply(US, true));
        assert_eq!(limited.limit(), 2);
    }

    #[test]
    fn one_that_may_handle_many_gets_more_while_it_answers_in_time_and_half_if_it_does_not() {
        let mut parallel = Concurrency::parallel(100);
        (0..10).for_each(|_| parallel.on_reply(20_000 * US, false));
        assert_eq!(parallel.limit(), 1);
        (0..39).for_each(|_| parallel.on_reply(20_000 * US, true));
        assert_eq!(parallel.limit(), 40);
        let mut now = Instant::now();
        let (start, ms) = (now, Duration::from_millis(1));
        parallel.on_deadline(start, now);
        assert_eq!((parallel.limit(), parallel.retry_at()), (20, Some(now + MIN_BACK_OFF)));
        // Of one that was outstanding together with that.
        parallel.on_deadline(start - ms, now + ms);
        assert_eq!((parallel.limit(), parallel.retry_at()), (20, Some(now + MIN_BACK_OFF)));
        // It answers others.
        parallel.on_retry(false);
        assert_eq!((parallel.limit(), parallel.retry_at()), (20, None));
        for trial in 0..10 {
            now += MAX_BACK_OFF;
            parallel.on_deadline(now, now);
            let back_off = (MIN_BACK_OFF * (1 << trial)).min(MAX_BACK_OFF);
            assert_eq!(parallel.retry_at(), Some(now + back_off));
            parallel.on_retry(true);
            assert_eq!((parallel.limit(), parallel.retry_at()), (1, None));
        }
        parallel.on_reply(US, true);
        parallel.on_deadline(now, now);
        assert_eq!(parallel.retry_at(), Some(now + MIN_BACK_OFF));
        (0..1000).for_each(|_| parallel.on_reply(US, true));
        assert_eq!(parallel.limit(), 100);
    }

    #[test]
    fn an_upstream_that_hangs_is_tried_less_and_less_and_never_gets_less_than_it_may() {
        let (mut upstream, mut now) = (Concurrency::upstream(100), Instant::now());
        for back_off in [8, 16, 32, 32] {
            let back_off = Duration::from_secs(back_off);
            upstream.on_deadline(now, now);
            assert!(!upstream.is_trial_due(now + back_off - US));
            // What it gets since there is no other is no trial.
            upstream.on_trial(now);
            now += back_off;
            assert!(upstream.is_trial_due(now));
            upstream.on_trial(now);
            assert!(!upstream.is_trial_due(now) && upstream.limit() == 100);
        }
        upstream.on_reply(US, true);
        assert!(!upstream.is_trial_due(now + MAX_BACK_OFF));
    }
}
