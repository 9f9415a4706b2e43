//! The connections of a lane to what answers elsewhere: that they come and go, and why they do not.

use std::time::Instant;

use log::{debug, info, warn};

use super::super::peer_load::Peer;
use super::{RECHECK_INTERVAL, RECHECKS, Remote, Trouble};
use crate::auth::{Access, ClientKeys};
use crate::error::Error;
use crate::socket::{Event, HandshakeFailure};

impl Remote {
    /// Takes the events of the connections. Whether anything is still connected is asked of the
    /// socket, which then takes a message: not each connection that ends was a worker's.
    pub(super) fn take_connection_events(&mut self, now: Instant) -> Result<(), Error> {
        let mut may_have_changed = self.link.socket.take_woken();
        if self.rechecks > 0 && now >= self.recheck_at {
            may_have_changed = true;
            self.rechecks -= 1;
            self.recheck_at = now + RECHECK_INTERVAL;
        }
        while let Some(event) = self.link.monitor.next()? {
            may_have_changed = true;
            self.on_connection_event(event, now);
        }
        if may_have_changed {
            // Of an upstream that does not shake hands the log was told already.
            let is_told =
                self.upstream.is_none() || !matches!(self.trouble, Some(Trouble::Handshake(_)));
            self.refusals.log_new(&format!("{}: ", self.name), &self.link.socket, is_told)?;
            match self.link.socket.can_send()? {
                true if self.is_ready => drop(self.peer.get_or_insert_with(|| Peer::new(now))),
                true => (),
                false => self.is_disconnecting = self.peer.is_some(),
            }
        }
        Ok(())
    }

    fn on_connection_event(&mut self, event: Event, now: Instant) {
        let is_upstream = self.upstream.is_some();
        match event {
            // This socket is about to be replaced.
            Event::Ready if is_upstream && self.is_disconnecting => (),
            Event::Ready => {
                info!("{}: connected", self.name);
                self.trouble = None;
                self.is_ready = true;
            }
            Event::HandshakeFailed(why) => {
                self.failed += 1;
                self.failure = why;
            }
            Event::Disconnected if self.failed > 0 => {
                self.failed -= 1;
                if is_upstream {
                    let what = self.handshake_trouble(self.failure);
                    self.warn_once(Trouble::Handshake(self.failure), &what);
                } else {
                    // Such as a health check of the port.
                    debug!("{}: a connection has ended before its handshake", self.name);
                }
            }
            Event::Disconnected => {
                info!("{}: a connection has ended", self.name);
                if is_upstream {
                    self.is_ready = false;
                    self.is_disconnecting = self.peer.is_some();
                } else {
                    (self.recheck_at, self.rechecks) = (now + RECHECK_INTERVAL, RECHECKS);
                    // What hung may be what has ended: which worker had a request is not known.
                    self.lost.extend(self.peer.iter_mut().flat_map(Peer::take_late));
                }
            }
            Event::Connected => self.is_retrying = false,
            Event::Closed if is_upstream => self.warn_once(Trouble::Unreachable, "cannot connect"),
            // Again without a connection in between: it could not even be begun.
            Event::Retried if std::mem::replace(&mut self.is_retrying, true) => {
                self.warn_once(Trouble::Unreachable, "cannot connect");
            }
            _ => (),
        }
    }

    /// Returns what the log is told of an upstream whose handshake fails.
    fn handshake_trouble(&self, why: HandshakeFailure) -> String {
        let keys = self.upstream.as_ref().and_then(|upstream| upstream.keys.as_ref());
        match (why, keys.map(ClientKeys::public)) {
            (HandshakeFailure::ServerKey, _) => "it has another key than --servers says".into(),
            (HandshakeFailure::NotListed, Some(key)) => {
                format!(
                    "it does not let this service in; add to the list of its clients: NAME {key}"
                )
            }
            (HandshakeFailure::Mechanism, Some(_)) => {
                "it has no keys; take it off the list of --servers".into()
            }
            (HandshakeFailure::Mechanism, None) => {
                "it wants keys; give --key, and its public key in --servers".into()
            }
            _ => {
                "the connection ends before its handshake; is that a server of REQ clients?".into()
            }
        }
    }

    /// Tells the log why the upstream is not connected, unless that is what it was told last.
    fn warn_once(&mut self, trouble: Trouble, what: &str) {
        if self.trouble.replace(trouble) != Some(trouble) {
            warn!("{}: {what}; retrying", self.name);
        }
    }

    /// Takes account of the end of the last connection: what is outstanding is lost.
    pub(super) fn on_disconnected(&mut self, now: Instant) {
        self.is_disconnecting = false;
        let Some(peer) = self.peer.take() else { return };
        self.disconnected_since = now;
        if peer.awaited() > 0 {
            warn!(
                "{}: the last connection has ended; requests lost: {}",
                self.name,
                peer.awaited()
            );
        }
        self.lost.extend(peer.into_outstanding());
        // A worker may have connected since, and its event be taken already.
        (self.recheck_at, self.rechecks) = (now, RECHECKS);
        // The old socket would send over its next connection what it has not sent yet.
        self.renew();
    }

    /// Takes account of lists that have changed: an upstream that has another key now is connected
    /// to anew.
    pub fn on_lists_changed(&mut self, access: &Access) {
        let Some(upstream) = &mut self.upstream else { return };
        let keys = access.keys_for(&upstream.endpoint);
        if keys == upstream.keys {
            return;
        }
        upstream.keys = keys;
        self.trouble = None;
        info!("{}: it has another key now", self.name);
        // Once the replies that have come are received, or at once.
        self.is_disconnecting = self.peer.is_some();
        if !self.is_disconnecting {
            self.renew();
        }
    }

    /// Connects to the upstream, if it is one, with a new socket.
    fn renew(&mut self) {
        let Some(upstream) = &self.upstream else { return };
        // Nor is the old one used, if there can be no new one.
        self.is_ready = false;
        match upstream.connect() {
            Ok(link) => {
                self.link = link;
                self.refusals.reset();
                self.failed = 0;
            }
            Err(error) => warn!("{}: {error:#}", self.name),
        }
    }
}
