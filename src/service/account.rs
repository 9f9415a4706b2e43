//! How much is asked for, and whether it may be more.

use std::time::{Duration, Instant};

use crate::auth::Limits;
use crate::fault::{Code, Fault};

/// How much one client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientLimits {
    /// Maximum number of requests that it may have outstanding.
    pub outstanding: usize,
    /// Maximum number of requests a second; `None` for any.
    pub rate: Option<u32>,
}

impl ClientLimits {
    /// Returns these, with what a list says in their place.
    pub fn or(self, listed: &Limits) -> ClientLimits {
        ClientLimits {
            outstanding: listed.outstanding.unwrap_or(self.outstanding),
            rate: listed.rate.or(self.rate),
        }
    }
}

/// Part of the memory that is kept for clients that hold little: one in so many bytes. What lanes have
/// cannot be taken back, so without it one client could have all others refused.
const RESERVE: usize = 8;

/// Returns true if a client that holds `bytes` must lose some of them, when `held` bytes are held for
/// all and `limit` may be: once only the reserve is left, no client may hold more than is free.
pub(super) fn holds_too_much(bytes: usize, held: usize, limit: usize) -> bool {
    held > limit - limit / RESERVE && held + bytes > limit
}

/// Time whose requests a client may send at once, within its rate.
const BURST: Duration = Duration::from_secs(1);

/// What a client asks for, over all its connections if it is a listed one.
pub(crate) struct Account {
    limits: ClientLimits,
    /// Number of its requests that were taken and not answered.
    outstanding: usize,
    /// When its requests so far would all have come at its rate: the theoretical arrival time of
    /// the generic cell rate algorithm (ITU-T I.371), which is a token bucket in one number.
    paid_until: Option<Instant>,
}

impl Account {
    pub fn new(limits: ClientLimits) -> Account {
        Account { limits, outstanding: 0, paid_until: None }
    }

    /// Has other limits hold from now on.
    pub fn set_limits(&mut self, limits: ClientLimits) {
        self.limits = limits;
    }

    /// Returns true if no more may be outstanding.
    pub fn is_full(&self) -> bool {
        self.outstanding >= self.limits.outstanding
    }

    /// Takes account of one more request.
    ///
    /// # Errors
    /// The fault that its client is told if that is more than it may: the request does not count
    /// then.
    pub fn admit(&mut self, now: Instant) -> Result<(), Fault> {
        if self.is_full() {
            let most = self.limits.outstanding;
            let text = format!("the client has {most} requests outstanding, and may have no more");
            return Err(Fault::new(Code::TOO_MANY, text));
        }
        if let Some(rate) = self.limits.rate {
            let paid_until = self.paid_until.map_or(now, |time| time.max(now));
            let paid_until = paid_until + Duration::from_secs(1) / rate;
            if paid_until > now + BURST {
                let text = format!("the client asks too often: its limit is {rate} a second");
                return Err(Fault::new(Code::TOO_MANY, text));
            }
            self.paid_until = Some(paid_until);
        }
        self.outstanding += 1;
        Ok(())
    }

    /// Takes account of a request that has ended.
    pub fn on_ended(&mut self) {
        self.outstanding -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives each client as much as it may hold, in turn, of which nothing is taken back; returns how
    /// much each has.
    fn fill(clients: usize, limit: usize, most: usize) -> Vec<usize> {
        let (mut all, mut held) = (Vec::new(), 0);
        for _ in 0..clients {
            let takes = |bytes: &usize| !holds_too_much(*bytes, held + bytes, limit);
            let bytes = (1..=most).take_while(takes).last().unwrap_or(0);
            held += bytes;
            all.push(bytes);
        }
        all
    }

    #[test]
    fn whoever_holds_most_something_is_left_for_others_and_never_is_more_held_than_may_be() {
        assert_eq!(fill(5, 1600, 9999), [1400, 100, 50, 25, 12]);
        assert_eq!(fill(1000, 1600, 10)[..159], [10; 159]);
        for most in [1, 10, 100, 1000, 9999] {
            assert!(fill(3000, 1600, most).iter().sum::<usize>() <= 1600, "{most}");
        }
    }
}
