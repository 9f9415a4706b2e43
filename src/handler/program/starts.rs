//! When the next copy of a program may start: at once after one that has replied, later and later
//! after copies that have not. It reads no clock.

use std::time::{Duration, Instant};

/// Pause before the next start when a second copy in a row has ended without a reply. It doubles
/// with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The starts of one worker's copies.
pub(super) struct Starts {
    /// Time of the last start.
    started: Instant,
    /// Earliest time of the next start.
    next: Instant,
    /// True if the last copy has shown that it works.
    has_worked: bool,
    /// Number of copies in a row that ended without a reply, or could not be started.
    failures: u32,
}

impl Starts {
    pub fn new(now: Instant) -> Starts {
        Starts { started: now, next: now, has_worked: false, failures: 0 }
    }

    /// Returns the earliest time of the next start.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Takes account of a copy that is started now.
    pub fn on_start(&mut self, now: Instant) {
        self.started = now;
        self.has_worked = false;
    }

    /// Takes account of a copy that has replied, or that was only too slow: its end is no failed
    /// start.
    pub fn on_work(&mut self) {
        self.has_worked = true;
    }

    /// Takes account of a copy that has ended. Returns the pause before the next start: zero if it
    /// has worked, and after the first one in a row that has not.
    pub fn on_end(&mut self, now: Instant) -> Duration {
        if self.has_worked || now.saturating_duration_since(self.started) > MAX_PAUSE {
            self.failures = 0;
        }
        let pause = if self.has_worked { Duration::ZERO } else { self.pause() };
        self.next = now + pause;
        pause
    }

    /// Takes account of a copy that could not be started. Returns the pause before the next start.
    pub fn on_failed(&mut self, now: Instant) -> Duration {
        let pause = self.pause().max(FIRST_PAUSE);
        self.next = now + pause;
        pause
    }

    /// Counts a failure. Returns the pause that so many in a row take.
    fn pause(&mut self) -> Duration {
        let before = self.failures;
        self.failures = before.saturating_add(1);
        let doubled = before.checked_sub(1).map(|times| 2_u32.saturating_pow(times));
        doubled.map_or(Duration::ZERO, |n| FIRST_PAUSE.saturating_mul(n).min(MAX_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn copies_that_do_not_work_start_later_and_later() {
        let start = Instant::now();
        let mut starts = Starts::new(start);
        assert_eq!(starts.next(), start);
        let mut end = |at: Duration| {
            starts.on_start(start + at);
            (starts.on_end(start + at), starts.next() - start - at)
        };
        let pauses: Vec<_> = (0..10).map(|_| end(Duration::ZERO).0.as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(end(MS), (MAX_PAUSE, MAX_PAUSE), "it is counted from the end");
    }

    #[test]
    fn one_that_works_or_lives_long_makes_good_what_was_before() {
        let start = Instant::now();
        let mut starts = Starts::new(start);
        let mut end = |works: bool, lives: Duration| {
            starts.on_start(start);
            if works {
                starts.on_work();
            }
            starts.on_end(start + lives)
        };
        let pauses = |end: &mut dyn FnMut(bool, Duration) -> Duration| {
            [(); 3].map(|()| end(false, MAX_PAUSE).as_millis())
        };
        assert_eq!(pauses(&mut end), [0, 100, 200]);
        assert_eq!(end(true, Duration::ZERO), Duration::ZERO);
        assert_eq!(pauses(&mut end), [0, 100, 200]);
        // It has not worked, and counts as the first one of a new row.
        assert_eq!(end(false, MAX_PAUSE + MS), Duration::ZERO);
        assert_eq!(pauses(&mut end), [100, 200, 400]);
    }

    #[test]
    fn a_start_that_fails_is_never_tried_again_at_once() {
        let start = Instant::now();
        let mut starts = Starts::new(start);
        let pauses = [(); 4].map(|()| starts.on_failed(start).as_millis());
        assert_eq!(pauses, [100, 100, 200, 400]);
        assert_eq!(starts.next(), start + 400 * MS);
    }
}
