//! The connection to an upstream: that it comes and goes, and why it does not.

use std::time::Instant;

use log::{info, warn};

use super::{Concurrency, Peer, SILENCE, Upstream};
use crate::auth::{Access, ClientKeys};
use crate::error::Error;
use crate::socket::{Event, HandshakeFailure};

/// The reason why an upstream is not connected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It cannot be reached, or nothing listens there.
    Unreachable,
    /// What listens there does not shake hands.
    Handshake(HandshakeFailure),
}

impl Trouble {
    /// Returns true if the log tells the same of both. Of noise each byte is another.
    fn is_like(self, other: Trouble) -> bool {
        match (self, other) {
            (Trouble::Handshake(one), Trouble::Handshake(other)) => one.is_like(other),
            _ => self == other,
        }
    }
}

impl Upstream {
    /// Takes the events of the connection. Whether there is one is asked of the socket, which then
    /// takes a message.
    pub(super) fn take_connection_events(&mut self, now: Instant) -> Result<(), Error> {
        let mut may_have_changed = self.link.socket.take_woken();
        while let Some(event) = self.link.monitor.next()? {
            may_have_changed = true;
            self.heard = now;
            if event == Event::Disconnected {
                self.log_refusals()?;
            }
            self.on_connection_event(event);
        }
        self.link.connect_if_due(now)?;
        if self.peer.is_none() && now >= self.heard + SILENCE {
            self.heard = now;
            self.renew();
        }
        if may_have_changed {
            match self.link.socket.can_send()? {
                true if self.is_ready && self.peer.is_none() => {
                    let concurrency = Concurrency::upstream(self.max_outstanding);
                    self.peer = Some(Peer::new(concurrency, now));
                }
                true => (),
                false => self.is_disconnecting |= self.peer.is_some(),
            }
        }
        Ok(())
    }

    fn on_connection_event(&mut self, event: Event) {
        match event {
            // This socket is about to be replaced.
            Event::Ready if self.is_disconnecting => (),
            Event::Ready => {
                info!("{}: connected", self.name);
                self.trouble = None;
                self.is_ready = true;
                self.link.on_ready(self.heard);
            }
            Event::HandshakeFailed(why) => {
                self.failed += 1;
                self.failure = why;
            }
            Event::Disconnected if self.failed > 0 => {
                self.failed -= 1;
                let what = self.handshake_trouble(self.failure);
                self.warn_once(Trouble::Handshake(self.failure), &what);
            }
            Event::Disconnected if !self.is_ready => {
                let why = HandshakeFailure::Other;
                self.warn_once(Trouble::Handshake(why), &self.handshake_trouble(why));
            }
            Event::Disconnected => {
                info!("{}: the connection has ended", self.name);
                self.is_ready = false;
                self.is_disconnecting = true;
            }
            Event::Connected => self.is_retrying = false,
            Event::Closed => self.warn_once(Trouble::Unreachable, "cannot connect"),
            // Again without a connection in between: it could not even be begun.
            Event::Retried if std::mem::replace(&mut self.is_retrying, true) => {
                self.warn_once(Trouble::Unreachable, "cannot connect");
            }
            _ => (),
        }
    }

    /// Returns what the log is told of an upstream whose handshake fails.
    fn handshake_trouble(&self, why: HandshakeFailure) -> String {
        if let Some(stranger) = why.stranger() {
            return format!("it {stranger}");
        }
        match (why, self.keys.as_ref().map(ClientKeys::public)) {
            (HandshakeFailure::ServerKey, _) => "it has another key than --servers says".into(),
            (HandshakeFailure::NotListed, Some(key)) => {
                format!(
                    "it does not let this service in; add to the list of its clients: NAME {key}"
                )
            }
            (HandshakeFailure::Mechanism, Some(_)) => {
                "it has no keys of CURVE; take it off the list of --servers".into()
            }
            (HandshakeFailure::Mechanism, None) => {
                "it wants keys or a password; if keys, give --key, and its own in --servers".into()
            }
            _ => {
                "the connection ends before its handshake; is that a server of REQ clients?".into()
            }
        }
    }

    /// Tells the log why the upstream is not connected, unless that is what it was told last.
    fn warn_once(&mut self, trouble: Trouble, what: &str) {
        // What is there may close the connection before it has said what it is, some of the times.
        if trouble == Trouble::Handshake(HandshakeFailure::Other)
            && matches!(self.trouble, Some(Trouble::Handshake(_)))
        {
            return;
        }
        if self.trouble.replace(trouble).is_none_or(|last| !last.is_like(trouble)) {
            warn!("{}: {what}; retrying", self.name);
        }
    }

    /// Tells the log that libzmq has ended the connection for what the upstream has sent. Of one
    /// that did not shake hands, the event that comes tells it.
    fn log_refusals(&mut self) -> Result<(), Error> {
        let prefix = format!("{}: ", self.name);
        self.refusals.log_new(&prefix, &self.link.socket, self.is_ready)
    }

    /// Takes account of the end of the connection: what is outstanding is lost.
    pub(super) fn on_disconnected(&mut self, now: Instant) -> Result<(), Error> {
        self.is_disconnecting = false;
        // The socket may know of the end before its monitor does.
        self.log_refusals()?;
        if let Some(mut peer) = self.peer.take() {
            self.disconnected_since = now;
            if peer.awaited() > 0 {
                warn!("{}: requests lost with the connection: {}", self.name, peer.awaited());
            }
            self.lost.extend(peer.take_outstanding());
        }
        // The old socket would send over its next connection what it has not sent yet.
        let renewed = self.link.renew_after(self.keys.as_ref(), now);
        self.on_renewed(renewed);
        Ok(())
    }

    /// Takes account of lists that have changed: an upstream that has another key now is connected
    /// to anew.
    pub fn on_lists_changed(&mut self, access: &Access) {
        let keys = access.keys_for(&self.endpoint);
        if keys == self.keys {
            return;
        }
        self.keys = keys;
        self.trouble = None;
        info!("{}: it has another key now", self.name);
        // Once the replies that have come are received, or at once.
        self.is_disconnecting = self.peer.is_some();
        if !self.is_disconnecting {
            self.renew();
        }
    }

    /// Connects to the upstream with a new socket.
    fn renew(&mut self) {
        let renewed = self.link.renew(self.keys.as_ref());
        self.on_renewed(renewed);
    }

    fn on_renewed(&mut self, renewed: Result<(), Error>) {
        // Nor is the old one used, if there can be no new one.
        self.is_ready = false;
        match renewed {
            Ok(()) => {
                self.refusals.reset();
                self.failed = 0;
                self.is_retrying = false;
            }
            Err(error) => warn!("{}: {error:#}", self.name),
        }
    }
}
