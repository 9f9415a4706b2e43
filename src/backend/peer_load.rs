//! How much an upstream or an external worker has to do, and how soon one more reply may be
//! expected.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::concurrency::{Concurrency, SLOW_AFTER};
use super::ticket::Ticket;
use super::{Activity, Admission, Unavailable};

/// Weight of the latest reply in the moving average.
const WEIGHT: f64 = 0.125;

/// Time after which what was measured of a peer that has nothing to do counts for half. After twice
/// that it is a sixteenth, and so on with the square: one that was slow is tried again within seconds,
/// however slow that was.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// Time to a reply that one counts for which has not answered yet, in seconds: others come first.
const UNKNOWN: f64 = 1.0;

/// Most seconds that one counts for which refuses what it is asked: it is tried again in four of
/// [`HALF_LIFE`] even so.
const MOST_REFUSED: f64 = 1000.0;

/// Share of the time that a late request has had, for which nothing has come of a peer that hangs. What
/// came first may be the reply to one before.
const SILENCE: f64 = 0.75;

/// The requests that are outstanding with a peer, and its measured speed.
#[derive(Debug)]
pub(crate) struct Peer {
    concurrency: Concurrency,
    outstanding: HashMap<Ticket, Sent>,
    /// Number of these whose deadline has passed.
    late: usize,
    /// Number of these that nobody waits for: they are late, or another peer has replied.
    unawaited: usize,
    /// Those that are outstanding no longer, though they have not been replied to.
    forgotten: Vec<Ticket>,
    /// Number of requests that were ever sent.
    sent: u64,
    /// Moving average of the time to a reply, in seconds, by what was outstanding: see
    /// [`Peer::on_reply`]; 0 before the first reply.
    ewma: f64,
    measured: Instant,
    /// When it had nothing outstanding, or replied, last.
    foremost_since: Instant,
    /// A request has passed its deadline, and nothing has come for most of that time.
    is_silent: bool,
    /// When it has refused a request last.
    refused: Option<Instant>,
}

#[derive(Debug)]
struct Sent {
    /// How many requests were ever sent before.
    number: u64,
    at: Instant,
    /// Number of requests that were outstanding then, this one among them.
    outstanding: usize,
    /// When its deadline was seen to have passed.
    late_since: Option<Instant>,
    is_awaited: bool,
}

impl Peer {
    /// Makes one with nothing outstanding, of which nothing is known.
    pub fn new(concurrency: Concurrency, now: Instant) -> Peer {
        Peer {
            concurrency,
            outstanding: HashMap::new(),
            late: 0,
            unawaited: 0,
            forgotten: Vec::new(),
            sent: 0,
            ewma: 0.0,
            measured: now,
            foremost_since: now,
            is_silent: false,
            refused: None,
        }
    }

    /// Returns what it says to one more request.
    pub fn admission(&self, now: Instant) -> Admission {
        if self.concurrency.is_serial() {
            // In what it is at, or behind that.
            if self.late > 0 {
                return Admission::Unavailable(Unavailable::Stuck);
            }
            if self.in_flight() > 0 && now >= self.foremost_since + SLOW_AFTER {
                return Admission::Full;
            }
        } else if self.is_silent && (self.in_flight() == 0 || self.concurrency.is_trial_due(now)) {
            // It is tried again, as soon as there is a request.
            return Admission::Cost(0.0);
        }
        let limit = self.concurrency.limit();
        let has_place = self.in_flight() < limit;
        // Besides those that are late there may be one for a trial.
        let is_hopeless = self.is_silent && self.late >= limit;
        if has_place && !self.is_silent {
            Admission::Cost(self.cost(now))
        } else if has_place {
            Admission::Doubtful(self.cost(now))
        } else if self.in_flight() > self.late && !is_hopeless {
            Admission::Full
        } else {
            Admission::Unavailable(Unavailable::Stuck)
        }
    }

    /// Returns true if it takes requests, if perhaps not at once: it answers in time, and has refused
    /// none of late.
    pub fn is_willing(&self, now: Instant) -> bool {
        let refuses = self.refused.is_some_and(|at| now < at + HALF_LIFE);
        !refuses && !self.is_silent && !matches!(self.admission(now), Admission::Unavailable(_))
    }

    /// Returns what it is doing, and since when it is at it.
    pub fn activity(&self, now: Instant) -> (Activity, Option<Instant>) {
        let since = self.concurrency.is_serial().then_some(self.foremost_since);
        match self.admission(now) {
            _ if self.is_silent => (Activity::Stuck, Some(self.foremost_since)),
            Admission::Unavailable(_) => (Activity::Stuck, Some(self.foremost_since)),
            _ if self.in_flight() > self.late => (Activity::Busy, since),
            _ => (Activity::Idle, None),
        }
    }

    /// Returns when [`Peer::take_forgotten`] is to be called, so that the peer is tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.concurrency.retry_at()
    }

    /// Returns how many requests are outstanding: also those whose deadline has passed, until they
    /// are replied to.
    pub fn in_flight(&self) -> usize {
        self.outstanding.len()
    }

    /// Returns how many of them somebody still waits for.
    pub fn awaited(&self) -> usize {
        self.outstanding.len() - self.unawaited
    }

    /// Returns true if that request is outstanding here.
    #[cfg(test)]
    pub fn is_outstanding(&self, ticket: Ticket) -> bool {
        self.outstanding.contains_key(&ticket)
    }

    /// Returns the expected time to the reply of one more request, in seconds. Of several peers the
    /// one with the least should get it.
    pub fn cost(&self, now: Instant) -> f64 {
        let time = match self.in_flight() {
            0 => self.ewma * self.remembered(now),
            _ if self.ewma == 0.0 => UNKNOWN,
            _ => self.ewma,
        };
        // Where nothing is known, the number of outstanding requests decides.
        time.max(1e-9) * (self.in_flight() + 1) as f64
    }

    /// Returns how much of what was measured still counts.
    fn remembered(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.measured).as_secs_f64();
        (-(age / HALF_LIFE.as_secs_f64()).powi(2)).exp2()
    }

    /// Takes account of a request that was sent.
    pub fn on_sent(&mut self, ticket: Ticket, now: Instant) {
        if self.is_silent {
            self.concurrency.on_trial(now);
        }
        let (number, outstanding) = (self.sent, self.in_flight() + 1);
        self.sent += 1;
        if outstanding == 1 {
            self.foremost_since = now;
        }
        self.outstanding.insert(
            ticket,
            Sent { number, at: now, outstanding, late_since: None, is_awaited: true },
        );
    }

    /// Takes account of a reply; returns false if that request is not outstanding here.
    ///
    /// Of a peer that handles one request at a time a reply takes as many times as long as requests
    /// are outstanding; of one that handles them all at once no longer than of one. Which of these one
    /// that may handle many is more like is not known, so the root of their number is taken: of two
    /// that are alike the one that has less to do is cheaper in either case.
    pub fn on_reply(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some(sent) = self.outstanding.remove(&ticket) else { return false };
        let Sent { at, outstanding, late_since, is_awaited, .. } = sent;
        self.late -= usize::from(late_since.is_some());
        self.unawaited -= usize::from(!is_awaited);
        // Of replies that come together the first ones make room, so it may not be full now.
        let was_full = 2 * outstanding >= self.concurrency.limit();
        // How long it did nothing at all does not tell how quick it is.
        if late_since.is_none() {
            let spent = now.saturating_duration_since(at).as_secs_f64();
            let is_serial = self.concurrency.is_serial();
            let times = if is_serial { outstanding as f64 } else { (outstanding as f64).sqrt() };
            let time = spent / times;
            let weight =
                if self.ewma == 0.0 { 1.0 } else { 1.0 - (1.0 - WEIGHT) * self.remembered(at) };
            self.ewma += (time - self.ewma) * weight;
            self.measured = now;
        }
        self.concurrency.on_reply(now.saturating_duration_since(self.foremost_since), was_full);
        (self.foremost_since, self.is_silent) = (now, false);
        if self.late > 0 && !self.concurrency.is_serial() {
            // What was late when this one was sent it may have dropped, and that is not to keep others
            // out for ever.
            self.forget_late(|since| since < at);
        }
        true
    }

    /// Forgets the late requests whose deadline was seen to have passed at such a time.
    fn forget_late(&mut self, since: impl Fn(Instant) -> bool) {
        let late = self.outstanding.extract_if(|_, sent| sent.late_since.is_some_and(&since));
        let before = self.forgotten.len();
        self.forgotten.extend(late.map(|(ticket, _)| ticket));
        let count = self.forgotten.len() - before;
        (self.late, self.unawaited) = (self.late - count, self.unawaited - count);
    }

    /// Takes account of a 503, which comes quickly: it makes a peer no quicker than one reply in
    /// [`HALF_LIFE`], and slower each time. So it soon comes behind others, also those who have much
    /// to do and have not replied yet.
    pub fn on_refusal(&mut self, now: Instant) {
        self.ewma = (2.0 * self.ewma).clamp(HALF_LIFE.as_secs_f64(), MOST_REFUSED);
        (self.measured, self.refused) = (now, Some(now));
    }

    /// Takes account of a request whose deadline has passed; returns false if it is not outstanding
    /// here.
    pub fn on_deadline(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some(sent) = self.outstanding.get_mut(&ticket) else { return false };
        sent.late_since = Some(now);
        self.late += 1;
        self.unawaited += usize::from(std::mem::take(&mut sent.is_awaited));
        self.concurrency.on_deadline(sent.at, now);
        let age = now.saturating_duration_since(sent.at);
        if now.saturating_duration_since(self.foremost_since) >= age.mul_f64(SILENCE) {
            self.is_silent = true;
        } else {
            // It took at least that long.
            self.ewma = self.ewma.max(age.as_secs_f64());
            self.measured = now;
        }
        true
    }

    /// Takes account of a request that nobody waits for any more: it counts as outstanding until its
    /// reply comes.
    pub fn on_unawaited(&mut self, ticket: Ticket) {
        let Some(sent) = self.outstanding.get_mut(&ticket) else { return };
        self.unawaited += usize::from(std::mem::take(&mut sent.is_awaited));
    }

    /// Returns true if [`Peer::take_forgotten`] has something to return, whatever the
    /// time.
    pub fn has_forgotten(&self) -> bool {
        !self.forgotten.is_empty()
    }

    /// Returns the late requests that count as outstanding no longer, since the last call: it is not
    /// known whether they will be replied to.
    pub fn take_forgotten(&mut self, now: Instant) -> Vec<Ticket> {
        if self.retry_at().is_some_and(|at| at <= now) {
            self.concurrency.on_retry(self.is_silent);
            self.forget_late(|_| true);
        }
        std::mem::take(&mut self.forgotten)
    }

    /// Removes the requests that are still outstanding, and returns them in the order in which they
    /// were sent, behind those of [`Peer::take_forgotten`].
    pub fn take_outstanding(&mut self) -> Vec<Ticket> {
        (self.late, self.unawaited) = (0, 0);
        let mut sent: Vec<_> = self.outstanding.drain().collect();
        sent.sort_unstable_by_key(|(_, sent)| sent.number);
        let forgotten = std::mem::take(&mut self.forgotten);
        forgotten.into_iter().chain(sent.into_iter().map(|(ticket, _)| ticket)).collect()
    }
}

#[cfg(test)]
mod tests;
