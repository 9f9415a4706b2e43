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

    /// Takes account of one more request.
    ///
    /// # Errors
    /// The fault that its client is told if that is more than it may: the request does not count
    /// then.
    pub fn admit(&mut self, now: Instant) -> Result<(), Fault> {
        let most = self.limits.outstanding;
        if self.outstanding >= most {
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
