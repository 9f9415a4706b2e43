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
        if self.extend_at.is_some_and(|at| at <= now) {
            self.extend_at = Some(now + EXTENSION_INTERVAL);
            if is_waiting {
                self.tell(extension(), now);
            }
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

/// Returns where the service manager hears of this process, if it wants to.
pub(super) fn notifier() -> Option<Notifier> {
    Notifier::from_environment().unwrap_or_else(|error| {
        warn!("cannot notify systemd: {error}");
        None
    })
}

/// Returns what gives a stop more time.
pub(super) fn extension() -> String {
    format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros())
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns a manager, and what hears what it is told.
    fn heard(name: &str) -> (Manager, UnixDatagram) {
        let name = format!("repd-manager-{name}-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap());
        let notifier = Notifier::to(format!("@{name}").as_ref()).unwrap();
        (Manager::new(Some(notifier), "serving".into()), socket.unwrap())
    }

    fn told(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 2048];
        let next = || {
            let length = socket.recv(&mut bytes).ok()?;
            Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn the_watchdog_hears_of_it_twice_in_its_time() {
        let (mut manager, socket) = heard("watchdog");
        let start = manager.ping_at;
        assert_eq!(manager.next_deadline(), None);
        manager.set_watchdog(Some(30 * SECOND), start);
        for after in [0, 1, 14, 15, 29, 30] {
            manager.on_turn(start + after * SECOND);
        }
        assert_eq!(told(&socket), ["WATCHDOG=1"; 3]);
        assert_eq!(manager.next_deadline(), Some(start + 45 * SECOND));
    }

    #[test]
    fn a_stop_is_given_time_while_something_is_in_flight() {
        let (mut manager, socket) = heard("stop");
        let start = manager.ping_at;
        manager.on_stopping(2, start);
        for after in [0, 1, 4, 5, 6] {
            manager.on_drain(true, start + after * SECOND);
        }
        assert_eq!(manager.next_deadline(), Some(start + 10 * SECOND));
        manager.on_drain(false, start + 10 * SECOND);
        let extension = "EXTEND_TIMEOUT_USEC=15000000";
        let stopping = "STOPPING=1\nSTATUS=draining; requests in flight: 2";
        assert_eq!(told(&socket), [stopping, extension, extension]);
        // Where clients wait for the next service, one may ask once more.
        for after in [11, 15] {
            manager.on_drain(true, start + after * SECOND);
        }
        assert_eq!(told(&socket), [extension]);
        manager.on_reloading(start + 21 * SECOND);
        assert!(!manager.is_look_due(start + 21 * SECOND) && told(&socket).is_empty());
    }

    #[test]
    fn a_status_is_told_when_it_changes() {
        let (mut manager, socket) = heard("status");
        let start = manager.ping_at;
        manager.on_ready(Some("nobody is there"), start);
        for unavailable in [Some("nobody is there"), None, None, Some("nobody is there")] {
            manager.on_look(unavailable, start);
        }
        assert!(!manager.is_look_due(start) && manager.is_look_due(start + SECOND));
        let [ready, serving, not_ready] = &told(&socket)[..] else { panic!("not three") };
        assert_eq!(ready, "READY=1\nSTATUS=not ready: nobody is there; serving");
        assert_eq!([&**serving, not_ready], ["STATUS=serving", &ready[8..]]);
    }

    #[test]
    fn what_nobody_reads_is_kept_up_to_a_bound_and_told_later() {
        let (mut manager, socket) = heard("unread");
        let start = manager.ping_at;
        // Until the system takes no more of it, and then for a while.
        for _ in 0..4096 {
            manager.on_stopping(0, start);
        }
        assert_eq!(manager.untold.len(), MAX_UNTOLD);
        manager.extend_at = None;
        assert_eq!(manager.next_deadline(), Some(start + RETRY_INTERVAL));
        let before = told(&socket).len();
        manager.on_turn(start + RETRY_INTERVAL);
        assert!(before > 0 && !told(&socket).is_empty() && manager.untold.len() < MAX_UNTOLD);
    }
}
