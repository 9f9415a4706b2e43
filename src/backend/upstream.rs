//! A DEALER to another repd that it is connected to.
//!
//! A request goes there as `[ticket][empty][body...]`, and the reply comes back with the same in
//! front, in any order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::warn;

use super::concurrency::Concurrency;
use super::names::shown;
use super::peer_load::Peer;
use super::reply;
use super::{Activity, Admission, CONNECT_GRACE, LaneEvent, Onward, Ticket, Unavailable};
use crate::auth::{Access, ClientKeys};
use crate::config::Config;
use crate::deadline;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::frame::Frame;
use crate::hops;
use crate::socket::{Context, HandshakeFailure, Refusals, Sent, Watched, share};

use connection::Trouble;
use link::Link;
use share::Share;

mod connection;
mod link;
mod share;

/// Time without news of a connection after which a new socket is made. libzmq tries again within two
/// seconds, and what it has begun ends within five; but there is what it does not try again.
const SILENCE: Duration = Duration::from_secs(8);

pub(crate) struct Upstream {
    name: String,
    endpoint: Endpoint,
    /// Which one of its addresses, if it is a name.
    address: Option<SocketAddr>,
    /// Its public key, and those by which it knows this service; `None` if it wants none.
    keys: Option<ClientKeys>,
    link: Link,
    /// Its handshake is complete.
    is_ready: bool,
    /// `None` if it is not connected.
    peer: Option<Peer>,
    max_outstanding: usize,
    reply_limits: reply::Limits,
    /// The connection has ended, but replies that came before are still to be received.
    is_disconnecting: bool,
    disconnected_since: Instant,
    /// When something was heard of a connection last.
    heard: Instant,
    /// It takes nothing more: its address is no longer one of the name.
    is_leaving: bool,
    /// It takes a request only if another upstream has lost that.
    is_standing_by: bool,
    /// `None` if upstreams have no different weights.
    share: Option<Share>,
    /// What the log was told since then.
    trouble: Option<Trouble>,
    /// libzmq tries to connect again, and has not connected since.
    is_retrying: bool,
    lost: VecDeque<Ticket>,
    refusals: Refusals,
    /// Number of connections that are about to end whose handshake has failed, and why that of the
    /// last one has.
    failed: usize,
    failure: HandshakeFailure,
}

impl Upstream {
    /// Makes a lane to another repd, and begins to connect: to that address, if the endpoint is a name.
    ///
    /// # Errors
    /// An endpoint that names no single place.
    pub fn new(
        context: &Context,
        endpoint: &Endpoint,
        address: Option<SocketAddr>,
        access: Option<&Access>,
        config: &Config,
    ) -> Result<Upstream, Error> {
        let keys = access.and_then(|access| access.keys_for(endpoint));
        let link = Link::new(context, endpoint, address, keys.as_ref(), config)?;
        let now = Instant::now();
        Ok(Upstream {
            name: format!("upstream {}", place(endpoint, address)),
            endpoint: endpoint.clone(),
            address,
            link,
            keys,
            is_ready: false,
            peer: None,
            max_outstanding: config.max_outstanding,
            reply_limits: reply::Limits::of(config),
            is_disconnecting: false,
            disconnected_since: now,
            heard: now,
            is_leaving: false,
            is_standing_by: false,
            share: None,
            trouble: None,
            is_retrying: false,
            lost: VecDeque::new(),
            refusals: Refusals::new("server of REQ clients", config.keys.key.is_some()),
            failed: 0,
            failure: HandshakeFailure::Other,
        })
    }

    pub fn readable(&self) -> [Watched<'_>; 2] {
        [self.link.socket.readable(), self.link.monitor.readable()]
    }

    /// Returns true if [`Upstream::next_event`] may give something without another wait.
    pub fn may_have_more(&self) -> bool {
        self.link.socket.may_have_more()
            || self.link.monitor.may_have_more()
            || !self.lost.is_empty()
            || self.peer.as_ref().is_some_and(Peer::has_forgotten)
            || self.has_ended()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how many requests are outstanding that somebody waits for.
    pub fn in_flight(&self) -> usize {
        self.peer.as_ref().map_or(0, Peer::awaited)
    }

    /// Returns where it is, as it is written, and of a name the address.
    pub fn place(&self) -> String {
        place(&self.endpoint, self.address)
    }

    /// Gives it nothing more: it ends once it has answered.
    pub fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// Returns true if it is to that address of that name, and is to end.
    pub fn is_leaving_at(&self, endpoint: &Endpoint, address: SocketAddr) -> bool {
        self.is_leaving && self.endpoint == *endpoint && self.address == Some(address)
    }

    /// Takes back [`Upstream::leave`].
    pub fn stay(&mut self) {
        self.is_leaving = false;
    }

    /// Sets whether it stands by: it takes a request only if another upstream has lost that.
    pub fn stand_by(&mut self, is_standing_by: bool) {
        self.is_standing_by = is_standing_by;
    }

    /// Returns true if it is connected and takes requests, if perhaps not at once.
    pub fn is_available(&self, now: Instant) -> bool {
        let is_connected = !self.is_leaving && !self.is_disconnecting;
        self.peer.as_ref().is_some_and(|peer| is_connected && peer.is_willing(now))
    }

    /// Sets its part of the load, beside upstreams with other ones; `None` if they have none.
    pub fn set_part(&mut self, part: Option<f64>) {
        match (&mut self.share, part) {
            (Some(share), Some(part)) => share.set(part),
            (share, part) => *share = part.map(Share::new),
        }
    }

    /// Takes account of a request that was sent: here, or to another upstream.
    pub fn on_any_sent(&mut self, is_here: bool) {
        self.share.iter_mut().for_each(|share| share.on_sent(is_here));
    }

    /// Returns true if it has answered all, and gets nothing more.
    pub fn has_ended(&self) -> bool {
        self.is_leaving && self.in_flight() == 0 && self.lost.is_empty()
    }

    /// Returns what it is doing, and since when it has no connection.
    pub fn activity(&self, now: Instant) -> (Activity, Option<Instant>) {
        let Some(peer) = &self.peer else {
            return (Activity::Disconnected, Some(self.disconnected_since));
        };
        peer.activity(now)
    }

    /// Returns when requests should no longer wait for a connection; `None` while there is one.
    fn down_at(&self) -> Option<Instant> {
        self.peer.is_none().then(|| self.disconnected_since + CONNECT_GRACE)
    }

    pub fn admission(&self, now: Instant) -> Admission {
        if self.is_leaving {
            return Admission::Unavailable(Unavailable::Disconnected);
        }
        let Some(peer) = &self.peer else {
            let is_down = self.down_at().is_some_and(|at| now >= at);
            let disconnected = Admission::Unavailable(Unavailable::Disconnected);
            return if is_down { disconnected } else { Admission::Full };
        };
        if self.is_disconnecting {
            return Admission::Full;
        }
        let cost = match peer.admission(now) {
            Admission::Cost(cost) => {
                self.share.map_or(cost, |share| share.cost(cost, peer.in_flight()))
            }
            other => return other,
        };
        if self.is_standing_by { Admission::Standby(cost) } else { Admission::Cost(cost) }
    }

    /// Returns when the admission may change though no poll item tells.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let renew_at = self.peer.is_none().then(|| self.heard + SILENCE);
        let down_at = self.down_at().filter(|at| *at > now);
        down_at.into_iter().chain(renew_at).chain(self.link.connect_at()).min()
    }

    /// Sends the request; returns false if the upstream is not connected any more. Its body is kept.
    pub fn send(
        &mut self,
        ticket: Ticket,
        body: &mut [Frame],
        onward: Onward,
        now: Instant,
    ) -> Result<bool, Error> {
        let said = onward.patience.map(deadline::to_frame);
        let hops = (onward.hops > 0).then(|| hops::to_frame(onward.hops));
        let ticket_frame = Frame::from(&ticket.to_bytes()[..]);
        let envelope = [Some(ticket_frame), said, hops, Some(Frame::default())];
        let envelope = envelope.into_iter().flatten();
        let mut message: Vec<Frame> = envelope.chain(body.iter_mut().map(share)).collect();
        let sent = self.link.socket.send_message(&mut message)?;
        match (sent, &mut self.peer) {
            (Sent::Done, Some(peer)) => {
                peer.on_sent(ticket, now);
                Ok(true)
            }
            // The connection has ended just now, which the monitor has not told yet.
            _ => {
                self.is_disconnecting |= !self.link.socket.can_send()?;
                Ok(false)
            }
        }
    }

    /// Returns the next event, if there is one, and puts the message that comes with it into
    /// `body`.
    pub fn next_event(
        &mut self,
        body: &mut Vec<Frame>,
        now: Instant,
    ) -> Result<Option<LaneEvent>, Error> {
        self.take_connection_events(now)?;
        if let Some(reply) = self.receive(body, now)? {
            return Ok(Some(reply));
        }
        if let Some(peer) = &mut self.peer {
            self.lost.extend(peer.take_forgotten(now));
            if self.is_leaving && peer.awaited() == 0 {
                // Nobody waits for the end of those that are late.
                self.lost.extend(peer.take_outstanding());
            }
        }
        Ok(reply::next_lost(&mut self.lost, body))
    }

    /// Receives the next message into `body`; returns what it is, or `None` if there is none.
    fn receive(&mut self, body: &mut Vec<Frame>, now: Instant) -> Result<Option<LaneEvent>, Error> {
        body.clear();
        if !self.link.socket.try_recv_message(body)? {
            if self.is_disconnecting {
                self.on_disconnected(now)?;
            }
            return Ok(None);
        }
        let (name, limits) = (&self.name, self.reply_limits);
        let event = reply::take(body, self.peer.as_mut(), name, limits, now);
        if !matches!(event, LaneEvent::Ignored) {
            self.link.on_reply();
        }
        Ok(Some(event))
    }

    /// Takes account of a request whose deadline has passed: nobody waits for its reply, but it
    /// counts as outstanding until that comes.
    pub fn on_deadline(&mut self, ticket: Ticket, now: Instant) {
        if self.peer.as_mut().is_some_and(|peer| peer.on_deadline(ticket, now)) {
            warn!("{}: a request has passed its deadline", self.name);
        }
    }

    /// Takes account of an outstanding request that nobody waits for any more: another lane has
    /// replied to it, or it was given up.
    pub fn on_unawaited(&mut self, ticket: Ticket) {
        self.peer.iter_mut().for_each(|peer| peer.on_unawaited(ticket));
    }
}

fn place(endpoint: &Endpoint, address: Option<SocketAddr>) -> String {
    match address {
        Some(address) => format!("{endpoint} ({})", shown(endpoint, address)),
        None => endpoint.to_string(),
    }
}
