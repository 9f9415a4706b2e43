//! What the service manager is told of a service (sd_notify(3)), and when. It never waits for it.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use log::warn;

use crate::sys::systemd::{Notifier, monotonic_microseconds};
use crate::text::shorten;

/// Time that a stop is given beyond its limit each time that there is need.
pub(super) const EXTENSION: Duration = Duration::from_secs(15);

/// Time after which it is given again.
pub(super) const EXTENSION_INTERVAL: Duration = Duration::from_secs(5);

/// Least time between two looks at whether requests can be answered.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Time after which what nobody took is told again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of things that are still to be told.
const MAX_UNTOLD: usize = 16;

/// Maximum length of a status in bytes: systemd takes no message of more than 4 KiB.
const MAX_STATUS: usize = 1000;

/// A service manager, or none.
pub(crate) struct Manager {
    notifier: Option<Notifier>,
    /// Time within which it wants to hear that the loop turns.
    watchdog: Option<Duration>,
    ping_at: Instant,
    /// What it is told while requests are answered.
    serving: String,
    /// Why requests cannot be answered, as it was told.
    unavailable: Option<&'static str>,
    look_at: Instant,
    is_stopping: bool,
    /// When a stop is given more time next, while something is in flight.
    extend_at: Option<Instant>,
    is_reloading: bool,
    untold: VecDeque<String>,
    tell_at: Instant,
}

impl Manager {
    /// Makes one that is told of a service whose status is `serving`.
    pub fn new(notifier: Option<Notifier>, serving: String) -> Manager {
        let now = Instant::now();
        Manager {
            notifier,
            watchdog: None,
            ping_at: now,
            serving,
            unavailable: None,
            look_at: now,
            is_stopping: false,
            extend_at: None,
            is_reloading: false,
            untold: VecDeque::new(),
            tell_at: now,
        }
    }

    /// Makes one that is told nothing.
    pub fn none() -> Manager {
        Manager::new(None, String::new())
    }

    /// Tells it from now on, more often than each `interval`, that the loop turns. With `None` it is
    /// told to expect nothing like that.
    pub fn set_watchdog(&mut self, interval: Option<Duration>, now: Instant) {
        self.watchdog = interval;
        if interval.is_none() {
            self.tell("WATCHDOG_USEC=0".into(), now);
        }
    }

    /// Tells that the service is ready, and why requests cannot be answered yet.
    pub fn on_ready(&mut self, unavailable: Option<&'static str>, now: Instant) {
        self.unavailable = unavailable;
        let status = self.status();
        self.tell(format!("READY=1\n{status}"), now);
    }

    /// Tells that the lists are read again.
    pub fn on_reloading(&mut self, now: Instant) {
        if !self.is_stopping {
            self.is_reloading = true;
            let time = monotonic_microseconds();
            self.tell(format!("RELOADING=1\nMONOTONIC_USEC={time}"), now);
        }
    }

    /// Tells that this is done.
    pub fn on_reloaded(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_reloading) {
            self.tell("READY=1".into(), now);
        }
    }

    /// Tells that the service stops.
    pub fn on_stopping(&mut self, in_flight: usize, now: Instant) {
        self.is_stopping = true;
        self.extend_at = Some(now);
        self.tell(format!("STOPPING=1\nSTATUS=draining; requests in flight: {in_flight}"), now);
    }

    /// Gives a stop more time if it is time for that: `is_waiting` tells that something is still in
    /// flight and may take its time.
    pub fn on_drain(&mut self, is_waiting: bool, now: Instant) {
        match self.extend_at {
            Some(_) if !is_waiting => self.extend_at = None,
            Some(at) if at <= now => {
                self.extend_at = Some(now + EXTENSION_INTERVAL);
                self.tell(extension(), now);
            }
            _ => (),
        }
    }

    /// Returns true if it is time to look whether requests can be answered.
    pub fn is_look_due(&self, now: Instant) -> bool {
        self.notifier.is_some() && !self.is_stopping && now >= self.look_at
    }

    /// Tells that requests can be answered, or why they cannot.
    pub fn on_look(&mut self, unavailable: Option<&'static str>, now: Instant) {
        self.look_at = now + LOOK_INTERVAL;
        if self.unavailable != unavailable {
            self.unavailable = unavailable;
            self.tell(self.status(), now);
        }
    }

    fn status(&self) -> String {
        let mut status = match self.unavailable {
            Some(why) => format!("not ready: {why}; {}", self.serving),
            None => self.serving.clone(),
        };
        shorten(&mut status, MAX_STATUS);
        format!("STATUS={status}")
    }

    /// Tells that the loop turns, when it is time for that, and what nobody took before.
    pub fn on_turn(&mut self, now: Instant) {
        if let Some(interval) = self.watchdog
            && now >= self.ping_at
        {
            self.ping_at = now + interval / 2;
            if self.untold.is_empty() {
                self.tell("WATCHDOG=1".into(), now);
            }
        }
        if now >= self.tell_at && !self.untold.is_empty() {
            self.flush(now);
        }
    }

    /// Returns when something is next to be told though nothing happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let ping_at = self.watchdog.map(|_| self.ping_at);
        let tell_at = (!self.untold.is_empty()).then_some(self.tell_at);
        [ping_at, tell_at, self.extend_at].into_iter().flatten().min()
    }

    fn tell(&mut self, lines: String, now: Instant) {
        if self.notifier.is_some() && self.untold.len() < MAX_UNTOLD {
            self.untold.push_back(lines);
            self.flush(now);
        }
    }

    fn flush(&mut self, now: Instant) {
        let Some(notifier) = &self.notifier else { return };
        while let Some(lines) = self.untold.front() {
            match notifier.send(lines) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.tell_at = now + RETRY_INTERVAL;
                    return;
                }
                Err(error) => warn!("cannot notify systemd: {error}"),
                Ok(()) => (),
            }
            self.untold.pop_front();
        }
    }
}

/// Returns what gives a stop more time.
pub(super) fn extension() -> String {
    format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros())
}
