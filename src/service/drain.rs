//! When a service that is stopping has answered everybody.

use std::time::{Duration, Instant};

/// How long nothing must come in before it is believed that nothing more was sent.
const QUIET: Duration = Duration::from_millis(100);

/// How long after the signal a request may still be one that was sent before it. Clients that ask
/// again as soon as they are refused would otherwise keep a service alive until its limit.
const BACKLOG: Duration = Duration::from_secs(1);

/// The time that the last replies have to leave when all other time is used up.
const LAST_WORD: Duration = Duration::from_millis(250);

pub(crate) struct Drain {
    limit: Duration,
    begun: Option<Begun>,
}

#[derive(Clone, Copy)]
struct Begun {
    at: Instant,
    heard: Instant,
}

impl Drain {
    /// A drain that is to take at most `limit`.
    pub fn new(limit: Duration) -> Drain {
        Drain { limit, begun: None }
    }

    pub fn begin(&mut self, now: Instant) {
        self.begun = Some(Begun { at: now, heard: now });
    }

    pub fn begun(&self) -> bool {
        self.begun.is_some()
    }

    /// A request has come in.
    pub fn heard(&mut self, now: Instant) {
        if let Some(begun) = &mut self.begun {
            begun.heard = now;
        }
    }

    /// Whether the service may end, when `answered` says whether all that came in was answered.
    pub fn ends(&self, now: Instant, answered: bool) -> bool {
        self.begun.is_some_and(|begun| {
            let quiet = now >= begun.heard + QUIET || now >= begun.at + BACKLOG;
            now >= begun.at + self.limit || (answered && quiet)
        })
    }

    /// When [`Drain::ends`] may next come to another answer by itself.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let begun = self.begun?;
        let quiet = (begun.heard + QUIET).min(begun.at + BACKLOG);
        let limit = begun.at + self.limit;
        Some(if now < quiet { quiet.min(limit) } else { limit })
    }

    /// How long what is not yet sent may take to leave.
    pub fn linger(&self, now: Instant) -> Duration {
        let limit = self.begun.map(|begun| begun.at + self.limit);
        limit.map_or(Duration::ZERO, |limit| limit.saturating_duration_since(now)).max(LAST_WORD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn begun(limit: Duration) -> (Drain, Instant) {
        let (mut drain, now) = (Drain::new(limit), Instant::now());
        assert!(!drain.ends(now, true) && drain.next(now).is_none());
        drain.begin(now);
        (drain, now)
    }

    #[test]
    fn it_ends_once_all_is_answered_and_nothing_more_comes() {
        let (mut drain, start) = begun(5000 * MS);
        assert!(!drain.ends(start + 99 * MS, true));
        assert!(drain.ends(start + 100 * MS, true) && !drain.ends(start + 100 * MS, false));
        drain.heard(start + 90 * MS);
        assert!(!drain.ends(start + 189 * MS, true));
        assert_eq!(drain.next(start + 100 * MS), Some(start + 190 * MS));
        assert_eq!(drain.next(start + 200 * MS), Some(start + 5000 * MS));
    }

    #[test]
    fn clients_that_never_fall_silent_do_not_hold_it_up() {
        let (mut drain, start) = begun(5000 * MS);
        drain.heard(start + 999 * MS);
        assert!(!drain.ends(start + 999 * MS, true) && drain.ends(start + 1000 * MS, true));
    }

    #[test]
    fn it_ends_at_its_limit_and_leaves_time_for_the_last_word() {
        let (drain, start) = begun(2000 * MS);
        assert!(!drain.ends(start + 1999 * MS, false) && drain.ends(start + 2000 * MS, false));
        assert_eq!(drain.linger(start + 500 * MS), 1500 * MS);
        assert_eq!(drain.linger(start + 2000 * MS), LAST_WORD);
    }
}
