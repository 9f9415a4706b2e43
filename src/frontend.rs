//! The ROUTER: requests in, replies out, and the replies that a client does not take yet.

use std::time::{Duration, Instant};

use zmq::PollItem;

use crate::config::Config;
use crate::error::Error;
use crate::frame::Frame;
use crate::listen::{Listener, SocketFile};
use crate::outbox::{Outbox, Reply};
use crate::socket::{Context, Sent, Socket};
use crate::tally::Tally;

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
    /// A message with no delimiter, or nothing behind it, or more hops before it than a request may
    /// have frames: no request.
    Malformed,
}

pub(crate) struct Frontend {
    socket: Socket,
    endpoints: Vec<String>,
    files: Vec<SocketFile>,
    max_frames: usize,
    outbox: Outbox,
    /// How many replies had been dropped when the drain began.
    dropped_before: usize,
}

/// A server that serves no more.
pub(crate) struct Stopped {
    pub tally: Tally,
    /// Replies that clients would not take during the drain.
    pub unread: usize,
    /// When the socket was closed, and how long what is not yet sent may take from then on.
    pub closed: Instant,
    pub linger: Duration,
}

impl Frontend {
    /// Serves clients at every endpoint that `config` names.
    pub fn listen(context: &Context, config: &Config) -> Result<Frontend, Error> {
        let mut socket = context.router(config)?;
        // All endpoints are taken before the first client is let in.
        let open = |endpoint| Listener::open(endpoint, config.backlog);
        let listeners = config.listen.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
        let (mut endpoints, mut files) = (Vec::new(), Vec::new());
        for listener in listeners {
            let (endpoint, file) = socket.listen(listener)?;
            endpoints.push(endpoint);
            files.extend(file);
        }
        Ok(Frontend {
            socket,
            endpoints,
            files,
            max_frames: config.max_frames,
            outbox: Outbox::new(),
            dropped_before: 0,
        })
    }

    /// The endpoints as the system has them.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Removes the files of ipc endpoints, so that who comes from now on finds the next service.
    ///
    /// The endpoints themselves stay to the end: zmq_unbind would end the connections that were made
    /// there, and the replies that are due on them would be lost.
    pub fn begin_drain(&mut self) {
        self.files.clear();
        self.dropped_before = self.outbox.dropped();
    }

    pub fn readable(&self) -> PollItem<'_> {
        self.socket.readable()
    }

    /// The next message of a client, if one waits.
    pub fn receive(&self) -> Result<Received, Error> {
        let Some(routing_id) = self.socket.try_recv()? else { return Ok(Received::Nothing) };
        let mut request = Request::default();
        let mut more = routing_id.more();
        let (mut delimited, mut too_long) = (false, false);
        request.envelope.push(routing_id);
        while more {
            let Some(frame) = self.socket.try_recv()? else { break };
            more = frame.more();
            if delimited {
                // One more than allowed tells that there are more.
                if request.body.len() <= self.max_frames {
                    request.body.push(frame);
                }
                continue;
            }
            delimited = frame.is_empty();
            too_long |= request.envelope.len() > self.max_frames;
            if !too_long {
                request.envelope.push(frame);
            }
        }
        Ok(if !delimited || too_long || request.body.is_empty() {
            Received::Malformed
        } else if request.body.len() > self.max_frames {
            Received::TooManyFrames(request.envelope)
        } else {
            Received::Request(request)
        })
    }

    /// Sends a reply; if its client has no room for it, keeps it and tries again until its time is up.
    /// Whether the client is still there.
    pub fn reply(&mut self, reply: Reply, now: Instant) -> Result<bool, Error> {
        if self.outbox.has(&reply.envelope[0]) {
            self.outbox.keep(reply, now);
            return Ok(true);
        }
        match send(&self.socket, reply)? {
            Replied::Sent => Ok(true),
            Replied::Gone => Ok(false),
            Replied::Full(reply) => {
                self.outbox.keep(reply, now);
                Ok(true)
            }
        }
    }

    /// Tries the kept replies again, if it is time. Gives how many clients of theirs are gone.
    pub fn retry(&mut self, now: Instant) -> Result<u64, Error> {
        let mut gone = 0;
        let send = |reply| match send(&self.socket, reply)? {
            Replied::Full(reply) => Ok(Some(reply)),
            Replied::Sent => Ok(None),
            Replied::Gone => {
                gone += 1;
                Ok(None)
            }
        };
        self.outbox.retry(now, send)?;
        Ok(gone)
    }

    /// The replies that its clients do not take yet, and those that they did not take in time.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Closes the socket; what it has not yet sent may take that long.
    pub fn close(self, mut tally: Tally, linger: Duration) -> Result<Stopped, Error> {
        let unread = self.outbox.len() + self.outbox.dropped() - self.dropped_before;
        tally.unread = self.outbox.len() + self.outbox.dropped();
        self.socket.linger(linger)?;
        drop(self.socket);
        Ok(Stopped { tally, unread, closed: Instant::now(), linger })
    }
}

/// What became of a reply.
enum Replied {
    Sent,
    /// The client is gone.
    Gone,
    /// The client has no room for it now.
    Full(Reply),
}

fn send(socket: &Socket, mut reply: Reply) -> Result<Replied, Error> {
    // The first frame decides, and sending uses it up; so that the reply stays whole, it is a copy.
    match socket.send(reply.envelope[0].copy(), true)? {
        Sent::Full => Ok(Replied::Full(reply)),
        Sent::Gone => Ok(Replied::Gone),
        Sent::Done => {
            let rest = reply.envelope.drain(1..).chain(reply.body);
            let all = socket.send_all(rest)? == Sent::Done;
            Ok(if all { Replied::Sent } else { Replied::Gone })
        }
    }
}
