//! Those that answer elsewhere, behind one DEALER: REP workers that connect to it, or another repd that it
//! is connected to.
//!
//! A request goes there as `[ticket][empty][body...]`, and the reply comes back with the same in front, in
//! any order. Among several workers the DEALER deals in turn, and does not say who has what.

use std::time::{Duration, Instant};

use log::{debug, info, log_enabled, warn};

use super::peer_load::Peer;
use crate::backend::ticket::Ticket;
use crate::config::Config;
use crate::endpoint::{Endpoint, Listener, SocketFile};
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frame::{Excerpt, Frame};
use crate::socket::{Context, Event, Monitored, Refusals, Sent, Watched, share};

/// How long requests wait for somebody to connect before they are refused.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked again whether a worker is left, and how soon.
const LOOKS: u32 = 10;
const LOOK: Duration = Duration::from_millis(10);

/// Why an upstream is not connected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Complaint {
    /// Nobody listens there, or it cannot be reached.
    Unreachable,
    /// Whoever listens there does not shake hands.
    NoHandshake,
}

type Connect = Box<dyn Fn() -> Result<Monitored, Error>>;

pub(crate) struct Remote {
    name: String,
    link: Monitored,
    /// To another repd: makes the socket anew. Else any number of workers connect.
    connect: Option<Connect>,
    /// Of another repd, whether its connection is ready; of workers this says nothing.
    is_ready: bool,
    /// All that are connected, as one; none if nobody is.
    peer: Option<Peer>,
    /// The most requests that may be outstanding.
    most: usize,
    /// What a reply may have.
    max_frames: usize,
    max_message_size: usize,
    /// Nobody is connected any more, but replies that came before are yet to be received.
    is_leaving: bool,
    /// Of workers, when it is to be looked again whether one is left, and how often: that a connection has
    /// ended is told a little before the socket knows it.
    look_at: Instant,
    looks: u32,
    /// Since when nobody is connected.
    alone_since: Instant,
    /// What was said since then of why.
    complaint: Option<Complaint>,
    /// It is tried to connect again, and has not connected since.
    is_retrying: bool,
    lost: Vec<Ticket>,
    refusals: Refusals,
    /// How many connections are about to end whose handshake came to nothing.
    failed: usize,
    /// Of the endpoints where workers connect; they are removed in the end.
    files: Vec<SocketFile>,
}

impl Remote {
    /// A lane to the REP workers that connect to one of these endpoints.
    pub fn backend(
        context: &Context,
        listeners: Vec<Listener>,
        config: &Config,
    ) -> Result<Remote, Error> {
        listeners.iter().try_for_each(Listener::listen)?;
        let mut remote =
            Remote::new("backend".into(), context.backend(&config.peer_limits())?, None, config);
        for listener in listeners {
            let (endpoint, file) = remote.link.socket.listen(listener)?;
            info!("workers connect to {endpoint}");
            remote.files.extend(file);
        }
        Ok(remote)
    }

    /// A lane to another repd.
    pub fn upstream(
        context: &Context,
        endpoint: &Endpoint,
        config: &Config,
    ) -> Result<Remote, Error> {
        let address = endpoint.to_connect()?;
        let (context, limits) = (context.clone(), config.peer_limits());
        let connect = move || context.upstream(&address, &limits);
        let link = connect()?;
        let name = format!("upstream {endpoint}");
        Ok(Remote::new(name, link, Some(Box::new(connect)), config))
    }

    fn new(name: String, link: Monitored, connect: Option<Connect>, config: &Config) -> Remote {
        let peer = if connect.is_some() { "server of REQ clients" } else { "REP worker" };
        Remote {
            refusals: Refusals::new(peer),
            failed: 0,
            name,
            link,
            is_ready: connect.is_none(),
            connect,
            peer: None,
            most: config.max_outstanding,
            max_frames: config.max_frames,
            max_message_size: config.max_message_size,
            is_leaving: false,
            look_at: Instant::now(),
            looks: 0,
            alone_since: Instant::now(),
            complaint: None,
            is_retrying: false,
            lost: Vec::new(),
            files: Vec::new(),
        }
    }

    pub fn readable(&self) -> [Watched<'_>; 2] {
        [self.link.socket.readable(), self.link.monitor.readable()]
    }

    /// Whether there may be a reply, or news of a connection, without another wait.
    pub fn may_have_more(&self) -> bool {
        self.link.socket.may_have_more()
            || self.link.monitor.may_have_more()
            || !self.lost.is_empty()
    }

    pub fn owes_nothing(&self) -> bool {
        self.peer.as_ref().is_none_or(|peer| peer.owes() == 0)
    }

    /// When nobody should wait any more for somebody to connect.
    pub fn down_at(&self) -> Option<Instant> {
        self.peer.is_none().then(|| self.alone_since + PATIENCE)
    }

    /// What one more request would cost, if there is room for it.
    pub fn cost(&self, now: Instant) -> Option<f64> {
        let peer = self.peer.as_ref().filter(|_| !self.is_leaving);
        let peer = peer.filter(|peer| peer.owes() < self.most);
        peer.map(|peer| peer.cost(now))
    }

    /// Sends the request; whether it could be. Its body is kept.
    pub fn send(
        &mut self,
        ticket: Ticket,
        body: &mut [Frame],
        now: Instant,
    ) -> Result<bool, Error> {
        if log_enabled!(log::Level::Debug) {
            debug!("{}: request {}", self.name, Excerpt(body));
        }
        let mut envelope = [Frame::from(&ticket.to_bytes()[..]), Frame::default()];
        let mut body: Vec<Frame> = body.iter_mut().map(share).collect();
        let sent = self.link.socket.send_all(envelope.iter_mut().chain(&mut body))?;
        match (sent, &mut self.peer) {
            (Sent::Done, Some(peer)) => {
                peer.sent(ticket, now);
                Ok(true)
            }
            // One has gone at this moment, which the monitor is yet to tell; others may be left.
            _ => {
                self.is_leaving |= !self.link.socket.has_taker()?;
                Ok(false)
            }
        }
    }

    /// When [`Remote::take_lost`] has something to do by itself.
    pub fn look_at(&self) -> Option<Instant> {
        (self.looks > 0).then_some(self.look_at)
    }

    /// The next reply, if one is there: whose it is, whether it says that it is lost or that nobody there can
    /// answer, and into `body` what it is. What is not owed is nobody's.
    pub fn receive(
        &mut self,
        body: &mut Vec<Frame>,
        now: Instant,
    ) -> Result<Option<Option<(Ticket, bool)>>, Error> {
        body.clear();
        if !self.link.socket.try_receive(body)? {
            if self.is_leaving {
                self.leave(now);
            }
            return Ok(None);
        }
        let ticket = match &body[..] {
            [ticket, delimiter, _, ..] if delimiter.is_empty() => Ticket::from_bytes(ticket),
            _ => None,
        };
        let peer = &mut self.peer;
        let is_owed = |ticket: &Ticket| peer.as_mut().is_some_and(|p| p.replied(*ticket, now));
        let owed = ticket.filter(is_owed);
        if owed.is_none() {
            debug!("{}: message dropped: it is no reply that is due", self.name);
        }
        body.drain(..body.len().min(2));
        let bytes: usize = body.iter().map(|frame| frame.len()).sum();
        if bytes > self.max_message_size || body.len() > self.max_frames {
            warn!("{}: its reply is larger than this service takes", self.name);
            *body =
                Fault::new(Code::Failed, "the reply is larger than this service takes").to_frames();
        }
        let code = Fault::parse(body).map(|fault| fault.code());
        let refused = code == Some(Code::Unavailable as u16);
        if let (Some(peer), true) = (&mut self.peer, refused) {
            peer.has_refused(now);
        }
        let is_lost = refused || code == Some(Code::Lost as u16);
        Ok(Some(owed.map(|ticket| (ticket, is_lost))))
    }

    /// Hears who comes and goes, and gives the requests that those who are gone were at.
    ///
    /// That nobody is connected is known from the socket, which then takes no message: not each connection
    /// that ends had been one of a worker's.
    pub fn take_lost(&mut self, now: Instant) -> Result<Vec<Ticket>, Error> {
        let mut news = self.link.socket.take_woken();
        if self.looks > 0 && now >= self.look_at {
            news = true;
            self.looks -= 1;
            self.look_at = now + LOOK;
        }
        while let Some(event) = self.link.monitor.next()? {
            news = true;
            match event {
                Event::Ready => {
                    if self.connect.is_some() && self.is_leaving {
                        // This socket is given up.
                        continue;
                    }
                    info!("{}: connected", self.name);
                    self.complaint = None;
                    self.is_ready = true;
                }
                Event::Failed => self.failed += 1,
                Event::Disconnected if self.failed > 0 => {
                    self.failed -= 1;
                    if self.connect.is_none() {
                        // Somebody who looks whether the port is open.
                        debug!("{}: a connection has ended before its handshake", self.name);
                    } else {
                        let what = "the connection ends before its handshake; is that a server of REQ clients?";
                        self.complain(Complaint::NoHandshake, what);
                    }
                }
                Event::Disconnected => {
                    info!("{}: a connection has ended", self.name);
                    if self.connect.is_some() {
                        self.is_ready = false;
                        self.is_leaving = self.peer.is_some();
                    } else {
                        (self.look_at, self.looks) = (now + LOOK, LOOKS);
                    }
                }
                Event::Connected => self.is_retrying = false,
                Event::Closed if self.connect.is_some() => {
                    self.complain(Complaint::Unreachable, "cannot connect");
                }
                // Again without a connection in between: it could not even be begun.
                Event::Retried if std::mem::replace(&mut self.is_retrying, true) => {
                    self.complain(Complaint::Unreachable, "cannot connect");
                }
                _ => (),
            }
        }
        if news {
            // That an upstream which is none breaks the protocol is said above.
            let is_told = self.connect.is_none() || self.complaint != Some(Complaint::NoHandshake);
            self.refusals.tell(&format!("{}: ", self.name), &self.link.socket, is_told)?;
            match self.link.socket.has_taker()? {
                true if self.is_ready => drop(self.peer.get_or_insert_with(|| Peer::new(now))),
                true => (),
                false => self.is_leaving = self.peer.is_some(),
            }
        }
        Ok(std::mem::take(&mut self.lost))
    }

    /// A reply that is overdue is owed no more.
    pub fn expire(&mut self, ticket: Ticket, now: Instant) {
        if self.peer.as_mut().is_some_and(|peer| peer.is_late(ticket, now)) {
            warn!("{}: a request has passed its deadline", self.name);
        }
    }

    /// Says why nobody is connected, when that is another reason than before.
    fn complain(&mut self, complaint: Complaint, what: &str) {
        if self.complaint.replace(complaint) != Some(complaint) {
            warn!("{}: {what}; trying on", self.name);
        }
    }

    /// Nobody is connected any more.
    fn leave(&mut self, now: Instant) {
        self.is_leaving = false;
        let Some(peer) = self.peer.take() else { return };
        self.alone_since = now;
        if peer.owes() > 0 {
            warn!("{}: nobody is connected any more; requests lost: {}", self.name, peer.owes());
        }
        self.lost.extend(peer.all());
        // A worker may have come since, of which all news is heard already.
        (self.look_at, self.looks) = (now, LOOKS);
        // What the old socket had not sent yet would go out over its next connection.
        match self.connect.as_ref().map(|connect| connect()) {
            Some(Ok(link)) => {
                (self.link, self.is_ready) = (link, false);
                self.refusals.forget();
                self.failed = 0;
            }
            Some(Err(error)) => warn!("{}: {error}", self.name),
            None => (),
        }
    }
}
