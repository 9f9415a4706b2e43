//! The ROUTER: requests in, replies out, and the replies that a client does not take yet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use zmq::PollItem;

use crate::config::Config;
use crate::error::Error;
use crate::frame::Frame;
use crate::listen::{Listener, SocketFile};
use crate::socket::{Context, Sent, Socket};

/// A request: the frames up to and including the empty delimiter, which lead the reply back over any
/// number of hops, and the frames that are the handler's.
#[derive(Default)]
pub(crate) struct Request {
    pub envelope: Vec<Frame>,
    pub body: Vec<Frame>,
}

/// What came in.
pub(crate) enum Received {
    Nothing,
    Request(Request),
    /// A request of more frames than are allowed; its body is not kept.
    TooManyFrames(Vec<Frame>),
    /// A message with no delimiter or nothing behind it, which is no request and has no way back.
    Malformed,
}

pub(crate) struct Frontend {
    socket: Socket,
    endpoints: Endpoints,
    max_frames: usize,
    unread: VecDeque<Unread>,
    unread_bytes: usize,
    retry_at: Instant,
}

/// A reply that its client's connection had no room for.
struct Unread {
    envelope: Vec<Frame>,
    body: Vec<Frame>,
    bytes: usize,
    until: Instant,
}

/// How often a client that takes no replies is tried again; libzmq tells nobody when it has room.
const RETRY: Duration = Duration::from_millis(10);

/// How many bytes of replies are kept for clients that do not take them.
const UNREAD_BYTES: usize = 64 << 20;

/// What became of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replied {
    Sent,
    /// The client is gone.
    Gone,
    /// The client does not read, and too much is kept already.
    Dropped,
}

impl Frontend {
    /// Serves clients at every endpoint that `config` names.
    pub fn listen(context: &Context, config: &Config) -> Result<Frontend, Error> {
        let mut socket = context.router(config)?;
        Ok(Frontend {
            endpoints: Endpoints::open(&mut socket, config)?,
            socket,
            max_frames: config.max_frames,
            unread: VecDeque::new(),
            unread_bytes: 0,
            retry_at: Instant::now(),
        })
    }

    /// The endpoints as the system has them.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints.names
    }

    /// Accepts no more clients; those that are connected stay.
    pub fn unbind(&mut self) -> Result<(), Error> {
        self.endpoints.close(&self.socket)
    }

    pub fn readable(&self) -> PollItem<'_> {
        self.socket.readable()
    }

    /// The next message of a client, if one waits.
    pub fn receive(&self) -> Result<Received, Error> {
        let Some(routing_id) = self.socket.try_recv()? else { return Ok(Received::Nothing) };
        let mut request = Request::default();
        let mut more = routing_id.more();
        let mut delimited = false;
        let mut surplus = false;
        request.envelope.push(routing_id);
        while more {
            let Some(frame) = self.socket.try_recv()? else { break };
            more = frame.more();
            let part = if delimited { &mut request.body } else { &mut request.envelope };
            delimited |= frame.is_empty();
            // One more than a body may have: the routing id is not the client's.
            if part.len() <= self.max_frames {
                part.push(frame);
            } else {
                surplus = true;
            }
        }
        Ok(match request {
            _ if !delimited || (surplus && request.body.is_empty()) => Received::Malformed,
            Request { body, .. } if body.is_empty() => Received::Malformed,
            Request { envelope, body } if body.len() > self.max_frames => {
                Received::TooManyFrames(envelope)
            }
            request => Received::Request(request),
        })
    }

    /// Sends a reply. If the client has no room for it, it is kept and tried again until `until`.
    pub fn reply(
        &mut self,
        envelope: Vec<Frame>,
        body: Vec<Frame>,
        until: Instant,
    ) -> Result<Replied, Error> {
        let bytes =
            envelope.iter().chain(&body).map(|frame| frame.len() + size_of::<Frame>()).sum();
        let reply = Unread { envelope, body, bytes, until };
        match self.send(reply)? {
            Ok(replied) => Ok(replied),
            Err(reply) if self.unread_bytes + reply.bytes > UNREAD_BYTES => {
                drop(reply);
                Ok(Replied::Dropped)
            }
            Err(reply) => {
                self.unread_bytes += reply.bytes;
                self.unread.push_back(reply);
                Ok(Replied::Sent)
            }
        }
    }

    /// Sends a reply, or gives it back if its client has no room for it.
    fn send(&self, mut reply: Unread) -> Result<Result<Replied, Unread>, Error> {
        // The first frame decides; libzmq takes it even when it refuses, so it gets a copy.
        match self.socket.send(reply.envelope[0].copy(), true)? {
            Sent::Full => Ok(Err(reply)),
            Sent::Gone => Ok(Ok(Replied::Gone)),
            Sent::Done => {
                let rest = reply.envelope.drain(1..).chain(reply.body);
                Ok(Ok(match self.socket.send_all(rest)? {
                    Sent::Done => Replied::Sent,
                    Sent::Full | Sent::Gone => Replied::Gone,
                }))
            }
        }
    }

    /// Tries the kept replies again. Gives how many are given up, since nobody took them in time.
    pub fn retry(&mut self, now: Instant) -> Result<usize, Error> {
        if now < self.retry_at {
            return Ok(0);
        }
        self.retry_at = now + RETRY;
        let mut given_up = 0;
        for _ in 0..self.unread.len() {
            let Some(reply) = self.unread.pop_front() else { break };
            self.unread_bytes -= reply.bytes;
            let until = reply.until;
            match self.send(reply)? {
                Ok(_) => (),
                Err(_) if until <= now => given_up += 1,
                Err(reply) => {
                    self.unread_bytes += reply.bytes;
                    self.unread.push_back(reply);
                }
            }
        }
        Ok(given_up)
    }

    /// When [`Frontend::retry`] is to be called again, if it is.
    pub fn retry_at(&self) -> Option<Instant> {
        (!self.unread.is_empty()).then_some(self.retry_at)
    }

    /// How many replies are kept for clients that do not read.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Closes the socket; what it has not yet sent may take that long.
    pub fn close(self, linger: Duration) -> Result<(), Error> {
        self.socket.linger(linger)
    }
}

/// The endpoints that a server's socket listens on.
pub(crate) struct Endpoints {
    pub names: Vec<String>,
    files: Vec<SocketFile>,
}

impl Endpoints {
    pub fn open(socket: &mut Socket, config: &Config) -> Result<Endpoints, Error> {
        // All are taken before the first client is let in.
        let open = |endpoint| Listener::open(endpoint, config.backlog);
        let listeners = config.listen.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
        let mut endpoints = Endpoints { names: Vec::new(), files: Vec::new() };
        for listener in listeners {
            let (name, file) = socket.listen(listener)?;
            endpoints.names.push(name);
            endpoints.files.extend(file);
        }
        Ok(endpoints)
    }

    /// Listens no more, and removes the files of ipc endpoints.
    pub fn close(&mut self, socket: &Socket) -> Result<(), Error> {
        self.files.clear();
        self.names.drain(..).try_for_each(|name| socket.unbind(&name))
    }
}
