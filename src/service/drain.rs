//! When a service that is stopping may end.

use std::time::{Duration, Instant};

/// Time without a request after which none is expected any more.
const QUIET: Duration = Duration::from_millis(100);

/// Maximum time that is waited for [`QUIET`]: clients that ask again as soon as they are refused
/// would otherwise keep a service alive until its limit.
const MAX_WAIT_FOR_QUIET: Duration = Duration::from_secs(1);

/// Time that the last replies have to leave when the drain's time is used up.
const MIN_LINGER: Duration = Duration::from_millis(250);

pub(crate) struct Drain {
    limit: Duration,
    begun: Option<Begun>,
}

#[derive(Clone, Copy)]
struct Begun {
    at: Instant,
    /// When requests were refused first; `None` while they are still answered.
    refusing: Option<Instant>,
    /// When the latest request came.
    last_request: Instant,
}

impl Drain {
    /// Makes a drain that takes at most `limit` from when it begins.
    pub fn new(limit: Duration) -> Drain {
        Drain { limit, begun: None }
    }

    /// Begins it. Requests are still answered: those who ask are about to leave.
    pub fn begin(&mut self, now: Instant) {
        self.begun = Some(Begun { at: now, refusing: None, last_request: now });
    }

    /// Begins it, if it has not begun, and has requests refused from now on.
    pub fn begin_refusing(&mut self, now: Instant) {
        let begun = self.begun.unwrap_or(Begun { at: now, refusing: None, last_request: now });
        self.begun = Some(Begun { refusing: Some(now), ..begun });
    }

    /// Returns true if requests are to be refused from now on, since somebody goes on asking.
    pub fn should_refuse(&self, now: Instant) -> bool {
        self.begun.is_some_and(|it| it.refusing.is_none() && now >= it.at + MAX_WAIT_FOR_QUIET)
    }

    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Returns true if requests are still answered, of those who are to leave.
    pub fn is_answering(&self) -> bool {
        self.begun.is_some_and(|begun| begun.refusing.is_none())
    }

    /// Takes account of a request that has come.
    pub fn on_request(&mut self, now: Instant) {
        if let Some(begun) = &mut self.begun {
            begun.last_request = now;
        }
    }

    /// Returns true if the service may end; `is_answered` tells that everything that came was
    /// answered.
    pub fn is_over(&self, now: Instant, is_answered: bool) -> bool {
        self.begun.is_some_and(|begun| {
            let quiet = now >= begun.last_request + QUIET
                || begun.refusing.is_some_and(|at| now >= at + MAX_WAIT_FOR_QUIET);
            now >= begun.at + self.limit || (is_answered && quiet)
        })
    }

    /// Returns when [`Drain::is_over`] may change by time alone.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let begun = self.begun?;
        let limit = begun.at + self.limit;
        let wait_ends = begun.refusing.unwrap_or(begun.at) + MAX_WAIT_FOR_QUIET;
        let quiet = (begun.last_request + QUIET).min(wait_ends);
        let refuses_at = begun.refusing.map_or(wait_ends, |_| limit);
        [quiet, refuses_at].into_iter().filter(|time| now < *time).chain([limit]).min()
    }

    /// Returns the time that unsent replies have to leave.
    pub fn linger(&self, now: Instant) -> Duration {
        let limit = self.begun.map(|begun| begun.at + self.limit);
        limit.map_or(Duration::ZERO, |limit| limit.saturating_duration_since(now)).max(MIN_LINGER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn begun(limit: Duration) -> (Drain, Instant) {
        let (mut drain, now) = (Drain::new(limit), Instant::now());
        assert!(!drain.is_over(now, true) && drain.next_deadline(now).is_none());
        drain.begin_refusing(now);
        (drain, now)
    }

    #[test]
    fn it_ends_once_all_is_answered_and_nothing_more_comes() {
        let (mut drain, start) = begun(5000 * MS);
        assert!(!drain.is_over(start + 99 * MS, true));
        assert!(drain.is_over(start + 100 * MS, true) && !drain.is_over(start + 100 * MS, false));
        drain.on_request(start + 90 * MS);
        assert!(!drain.is_over(start + 189 * MS, true));
        assert_eq!(drain.next_deadline(start + 100 * MS), Some(start + 190 * MS));
        assert_eq!(drain.next_deadline(start + 200 * MS), Some(start + 5000 * MS));
    }

    #[test]
    fn clients_that_never_fall_silent_do_not_hold_it_up() {
        let (mut drain, start) = begun(5000 * MS);
        drain.on_request(start + 999 * MS);
        assert!(!drain.is_over(start + 999 * MS, true) && drain.is_over(start + 1000 * MS, true));
    }

    #[test]
    fn requests_are_answered_for_a_while_where_others_wait_for_the_next_service() {
        let (mut drain, start) = (Drain::new(5000 * MS), Instant::now());
        assert!(!drain.has_begun() && !drain.is_answering() && !drain.should_refuse(start));
        assert_eq!(drain.linger(start), MIN_LINGER);
        drain.begin(start);
        assert!(drain.has_begun() && drain.is_answering());
        assert_eq!(drain.next_deadline(start), Some(start + 100 * MS));
        assert!(!drain.is_over(start + 99 * MS, true) && drain.is_over(start + 100 * MS, true));
        drain.on_request(start + 999 * MS);
        assert!(!drain.should_refuse(start + 999 * MS) && drain.should_refuse(start + 1000 * MS));
        assert_eq!(drain.next_deadline(start + 999 * MS), Some(start + 1000 * MS));
        drain.begin_refusing(start + 1000 * MS);
        assert!(drain.has_begun() && !drain.is_answering());
        assert!(!drain.should_refuse(start + 1000 * MS));
        drain.on_request(start + 1990 * MS);
        assert!(!drain.is_over(start + 1999 * MS, true) && drain.is_over(start + 2000 * MS, true));
        assert!(
            !drain.is_over(start + 4999 * MS, false) && drain.is_over(start + 5000 * MS, false)
        );
    }

    #[test]
    fn it_ends_at_its_limit_and_leaves_time_for_the_last_word() {
        let (drain, start) = begun(2000 * MS);
        assert!(
            !drain.is_over(start + 1999 * MS, false) && drain.is_over(start + 2000 * MS, false)
        );
        assert_eq!(drain.linger(start + 500 * MS), 1500 * MS);
        assert_eq!(drain.linger(start + 2000 * MS), MIN_LINGER);
    }
}
