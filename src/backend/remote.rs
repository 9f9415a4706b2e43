//! A DEALER to what answers elsewhere: the REP workers that connect to it, or another repd that it
//! is connected to.
//!
//! A request goes there as `[ticket][empty][body...]`, and the reply comes back with the same in
//! front, in any order. Among several workers the DEALER deals round-robin, and does not tell which
//! of them has a request.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use super::peer_load::Peer;
use crate::auth::{Access, ClientKeys, WORKERS};
use crate::backend::ticket::Ticket;
use crate::backend::{Activity, Admission, LaneEvent, Unavailable};
use crate::config::Config;
use crate::deadline;
use crate::endpoint::{Endpoint, Listener, SocketFile};
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frame::Frame;
use crate::socket::{Context, HandshakeFailure, Monitored, Refusals, Sent, Watched, share};

mod connection;

/// Time for which requests wait for a worker or the upstream to connect, before they are refused.
const CONNECT_GRACE: Duration = Duration::from_secs(1);

/// After a connection has ended: how many times, and how often, the socket is asked whether a
/// worker is left.
const RECHECKS: u32 = 10;
const RECHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The reason why an upstream is not connected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It cannot be reached, or nothing listens there.
    Unreachable,
    /// What listens there does not shake hands.
    Handshake(HandshakeFailure),
}

type Connect = Box<dyn Fn(Option<&ClientKeys>) -> Result<Monitored, Error>>;

/// Another repd.
struct Upstream {
    endpoint: Endpoint,
    /// Its public key, and those by which it knows this service; `None` if it wants none.
    keys: Option<ClientKeys>,
    /// Makes a socket that connects to it.
    connect: Connect,
}

impl Upstream {
    fn connect(&self) -> Result<Monitored, Error> {
        (self.connect)(self.keys.as_ref())
    }
}

pub(crate) struct Remote {
    name: String,
    link: Monitored,
    /// `None` where workers connect.
    upstream: Option<Upstream>,
    /// The upstream's handshake is complete; always true where workers connect.
    is_ready: bool,
    /// The upstream, or all connected workers as one; `None` if nothing is connected.
    peer: Option<Peer>,
    max_outstanding: usize,
    /// Limits of a reply.
    max_frames: usize,
    max_message_size: usize,
    /// The last connection has ended, but replies that came before are still to be received.
    is_disconnecting: bool,
    /// Of workers: when to ask the socket again whether one is left, and how many times. The
    /// monitor tells that a connection has ended a little before the socket knows it.
    recheck_at: Instant,
    rechecks: u32,
    disconnected_since: Instant,
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
    /// Of the ipc endpoints where workers connect; removed in the end.
    files: Vec<SocketFile>,
}

impl Remote {
    /// Makes a lane to the REP workers that connect to one of these endpoints.
    ///
    /// # Errors
    /// An endpoint that cannot be listened on.
    pub fn backend(
        context: &Context,
        listeners: Vec<Listener>,
        access: Option<&Access>,
        config: &Config,
    ) -> Result<Remote, Error> {
        listeners.iter().try_for_each(Listener::listen)?;
        let mut remote =
            Remote::new("backend".into(), context.backend(&config.peer_limits())?, None, config);
        let keys = access.map(|access| access.server_keys(WORKERS));
        let (endpoints, files) = remote.link.socket.listen(listeners, keys)?;
        endpoints.iter().for_each(|endpoint| info!("workers connect to {endpoint}"));
        remote.files = files;
        Ok(remote)
    }

    /// Makes a lane to another repd, and begins to connect.
    ///
    /// # Errors
    /// An endpoint that names no single place, or a host that is not known.
    pub fn upstream(
        context: &Context,
        endpoint: &Endpoint,
        access: Option<&Access>,
        config: &Config,
    ) -> Result<Remote, Error> {
        let address = endpoint.to_connect()?;
        let (context, limits) = (context.clone(), config.peer_limits());
        let connect = move |keys: Option<&ClientKeys>| {
            context.upstream(&address, &limits, keys.map(ClientKeys::raw))
        };
        let upstream = Upstream {
            endpoint: endpoint.clone(),
            keys: access.and_then(|access| access.keys_for(endpoint)),
            connect: Box::new(connect),
        };
        let (name, link) = (format!("upstream {endpoint}"), upstream.connect()?);
        Ok(Remote::new(name, link, Some(upstream), config))
    }

    fn new(name: String, link: Monitored, upstream: Option<Upstream>, config: &Config) -> Remote {
        let has_keys = config.keys.key.is_some();
        let peer = if upstream.is_some() { "server of REQ clients" } else { "REP worker" };
        Remote {
            refusals: Refusals::new(peer, has_keys),
            failed: 0,
            failure: HandshakeFailure::Other,
            name,
            link,
            is_ready: upstream.is_none(),
            upstream,
            peer: None,
            max_outstanding: config.max_outstanding,
            max_frames: config.max_frames,
            max_message_size: config.max_message_size,
            is_disconnecting: false,
            recheck_at: Instant::now(),
            rechecks: 0,
            disconnected_since: Instant::now(),
            trouble: None,
            is_retrying: false,
            lost: VecDeque::new(),
            files: Vec::new(),
        }
    }

    pub fn readable(&self) -> [Watched<'_>; 2] {
        [self.link.socket.readable(), self.link.monitor.readable()]
    }

    /// Returns true if [`Remote::next_event`] may give something without another wait.
    pub fn may_have_more(&self) -> bool {
        self.link.socket.may_have_more()
            || self.link.monitor.may_have_more()
            || !self.lost.is_empty()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how many requests are outstanding that somebody waits for.
    pub fn in_flight(&self) -> usize {
        self.peer.as_ref().map_or(0, Peer::awaited)
    }

    /// Returns where the upstream is; `None` where workers connect.
    pub fn upstream_endpoint(&self) -> Option<&Endpoint> {
        self.upstream.as_ref().map(|upstream| &upstream.endpoint)
    }

    /// Returns what it is doing, and since when it has no connection.
    pub fn activity(&self, now: Instant) -> (Activity, Option<Instant>) {
        let Some(peer) = &self.peer else {
            return (Activity::Disconnected, Some(self.disconnected_since));
        };
        match self.admission(now) {
            Admission::Unavailable(_) => (Activity::Stuck, None),
            _ if peer.awaited() > 0 => (Activity::Busy, None),
            _ => (Activity::Idle, None),
        }
    }

    /// Returns when requests should no longer wait for a connection; `None` while there is one.
    fn down_at(&self) -> Option<Instant> {
        self.peer.is_none().then(|| self.disconnected_since + CONNECT_GRACE)
    }

    pub fn admission(&self, now: Instant) -> Admission {
        let Some(peer) = &self.peer else {
            let is_down = self.down_at().is_some_and(|at| now >= at);
            let disconnected = Admission::Unavailable(Unavailable::Disconnected);
            return if is_down { disconnected } else { Admission::Full };
        };
        if self.is_disconnecting {
            return Admission::Full;
        }
        peer.admission(self.max_outstanding, now)
    }

    /// Returns when [`Remote::next_event`] may give something, or the admission may change, though
    /// no poll item tells.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let down_at = self.down_at().filter(|at| *at > now);
        let recheck_at = (self.rechecks > 0).then_some(self.recheck_at);
        down_at.into_iter().chain(recheck_at).min()
    }

    /// Sends the request; returns false if nothing is connected any more that takes it. Its body is
    /// kept. An upstream is told for how long its client still waits, if the client has said so.
    pub fn send(
        &mut self,
        ticket: Ticket,
        body: &mut [Frame],
        patience: Option<Duration>,
        now: Instant,
    ) -> Result<bool, Error> {
        let patience = patience.filter(|_| self.upstream.is_some()).map(deadline::to_frame);
        let ticket_frame = Frame::from(&ticket.to_bytes()[..]);
        let envelope = [Some(ticket_frame), patience, Some(Frame::default())].into_iter().flatten();
        let mut message: Vec<Frame> = envelope.chain(body.iter_mut().map(share)).collect();
        let sent = self.link.socket.send_message(&mut message)?;
        match (sent, &mut self.peer) {
            (Sent::Done, Some(peer)) => {
                peer.on_sent(ticket, now);
                Ok(true)
            }
            // A connection has ended just now, which the monitor has not told yet; others may be
            // left.
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
        let lost = self.lost.pop_front();
        Ok(lost.map(|ticket| {
            *body = Fault::lost().to_frames();
            LaneEvent::Lost(ticket)
        }))
    }

    /// Receives the next message into `body`; returns what it is, or `None` if there is none.
    fn receive(&mut self, body: &mut Vec<Frame>, now: Instant) -> Result<Option<LaneEvent>, Error> {
        body.clear();
        if !self.link.socket.try_recv_message(body)? {
            if self.is_disconnecting {
                self.on_disconnected(now);
            }
            return Ok(None);
        }
        // Behind the ticket there may be what the client had said.
        let delimiter = body.iter().take(3).position(|frame| frame.is_empty());
        let envelope = delimiter.map_or(body.len().min(2), |place| place + 1);
        let ticket = match &body[..] {
            [ticket, .., _] if delimiter.is_some() && envelope < body.len() => {
                Ticket::from_bytes(ticket)
            }
            _ => None,
        };
        let peer = &mut self.peer;
        let is_outstanding =
            |ticket: &Ticket| peer.as_mut().is_some_and(|p| p.on_reply(*ticket, now));
        let outstanding = ticket.filter(is_outstanding);
        if outstanding.is_none() {
            debug!("{}: message dropped: it is no reply to an outstanding request", self.name);
        }
        body.drain(..envelope);
        let bytes: usize = body.iter().map(|frame| frame.len()).sum();
        if bytes > self.max_message_size || body.len() > self.max_frames {
            warn!("{}: its reply is larger than this service takes", self.name);
            *body =
                Fault::new(Code::FAILED, "the reply is larger than this service takes").to_frames();
        }
        let code = Fault::parse(body).map(|fault| fault.code());
        let refused = code == Some(Code::UNAVAILABLE);
        if let (Some(peer), true) = (&mut self.peer, refused) {
            peer.on_refusal(now);
        }
        let is_lost = refused || code == Some(Code::LOST);
        Ok(Some(match outstanding {
            Some(ticket) if is_lost => LaneEvent::Lost(ticket),
            Some(ticket) => LaneEvent::Reply(ticket),
            None => LaneEvent::Ignored,
        }))
    }

    /// Takes account of a request whose deadline has passed: nobody waits for its reply, but it
    /// counts as outstanding until that comes.
    pub fn on_deadline(&mut self, ticket: Ticket, now: Instant) {
        if self.peer.as_mut().is_some_and(|peer| peer.on_deadline(ticket, now)) {
            warn!("{}: a request has passed its deadline", self.name);
        }
    }
}
