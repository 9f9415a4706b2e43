//! The ROUTER that clients connect to: requests in, replies out.

use std::time::{Duration, Instant};

use crate::auth::{Access, CLIENTS};
use crate::config::{Config, MAX_ENVELOPE, MAX_HOPS};
use crate::deadline;
use crate::endpoint::{Listener, SocketFile};
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frame::{Frame, MAX_IDLE_CAPACITY};
use crate::hops;
use crate::service::outbox::{Outbox, Reply};
use crate::service::request::Request;
use crate::socket::{Peer, Refusals, Sent, Socket, Watched};
use crate::status::Stats;

/// What a request takes in memory besides its frames, in bytes, roughly.
const OVERHEAD: usize = 256;

/// What was received from a client.
pub(crate) enum Received {
    Nothing,
    Request,
    /// A request that is larger than the service takes, and what its client is told. Its body is
    /// dropped.
    TooLarge(Fault),
    /// A message without a delimiter, or with nothing behind it: no request.
    Malformed,
}

/// What was read of a message, in bytes of content.
#[derive(Default)]
struct Parts {
    is_delimited: bool,
    /// The envelope and the delimiter.
    envelope: usize,
    body: usize,
}

pub(crate) struct Frontend {
    socket: Socket,
    endpoints: Vec<String>,
    files: Vec<SocketFile>,
    max_frames: usize,
    max_message_size: usize,
    outbox: Outbox,
    pub stats: Stats,
    /// Number of replies that had been dropped when the drain began.
    dropped_before: usize,
    /// All endpoints were handed over.
    is_inherited: bool,
    refusals: Refusals,
}

/// What is left of a server that has stopped.
pub(crate) struct Stopped {
    pub stats: Stats,
    /// Number of replies that clients did not take during the drain.
    pub unread: usize,
    /// When the socket was closed, and the time that unsent replies have from then on.
    pub closed: Instant,
    pub linger: Duration,
}

impl Frontend {
    /// Listens at these endpoints and hands them to `socket`, a ROUTER.
    ///
    /// # Errors
    /// An endpoint that cannot be listened on.
    pub fn listen(
        socket: Socket,
        listeners: Vec<Listener>,
        access: Option<&Access>,
        config: &Config,
    ) -> Result<Frontend, Error> {
        listeners.iter().try_for_each(Listener::listen)?;
        let is_inherited = listeners.iter().all(Listener::is_inherited);
        let keys = access.map(|access| access.server_keys(CLIENTS));
        let (endpoints, files) = socket.listen(listeners, keys)?;
        Ok(Frontend {
            socket,
            endpoints,
            files,
            max_frames: config.max_frames,
            max_message_size: config.max_message_size,
            outbox: Outbox::new(),
            stats: Stats::default(),
            dropped_before: 0,
            is_inherited,
            refusals: Refusals::new("ZeroMQ client", access.is_some()),
        })
    }

    /// Returns the endpoints as the system has them, with the ports that it chose.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Removes the files of ipc endpoints, so that clients that connect from now on reach the next
    /// service. At endpoints that were handed over they wait for it.
    ///
    /// The endpoints themselves stay to the end: zmq_unbind would end the connections that were
    /// accepted there, and lose their replies.
    pub fn begin_drain(&mut self) -> Result<(), Error> {
        self.files.clear();
        self.dropped_before = self.outbox.dropped();
        self.socket.leave_inherited()
    }

    /// Returns true if clients that connect during the drain wait for the next service, wherever they
    /// do.
    pub fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    /// Reads nothing more from clients. What was read can still be received.
    pub fn stop_reading(&self) -> Result<(), Error> {
        self.socket.stop_reading()
    }

    pub fn readable(&self) -> Watched<'_> {
        self.socket.readable()
    }

    /// Returns true if [`Frontend::receive`] may give something without another wait.
    pub fn may_have_more(&self) -> bool {
        self.socket.may_have_more()
    }

    /// Receives the next message of a client, if there is one, into the buffers of `request`.
    pub fn receive(&mut self, request: &mut Request) -> Result<Received, Error> {
        let Some(parts) = self.read(request)? else { return Ok(Received::Nothing) };
        let Request { number, envelope, body, bytes, hops, .. } = request;
        let frames = (envelope.len() + body.len()) * size_of::<Frame>();
        *bytes = OVERHEAD + frames + parts.envelope + parts.body;
        if !parts.is_delimited || body.is_empty() {
            self.stats.count_malformed();
            return Ok(Received::Malformed);
        }
        self.stats.requests += 1;
        *number = self.stats.requests;
        // libzmq hands on what is just over the limit, so that it is seen here, and drops the rest.
        let what = if body.len() > self.max_frames {
            format!("has more than {} frames", self.max_frames)
        } else if parts.body > self.max_message_size {
            format!("is larger than {} bytes", self.max_message_size)
        } else if *hops > MAX_HOPS || envelope.len() - 2 > 2 * MAX_HOPS {
            format!("has come over more than {MAX_HOPS} hops")
        } else if parts.envelope > MAX_ENVELOPE {
            format!("has an envelope of more than {MAX_ENVELOPE} bytes")
        } else {
            return Ok(Received::Request);
        };
        body.clear();
        Ok(Received::TooLarge(Fault::new(Code::TOO_LARGE, format!("the request {what}"))))
    }

    /// Reads the frames of the next message, and what those of its envelope say; `None` if there is
    /// none.
    fn read(&self, request: &mut Request) -> Result<Option<Parts>, Error> {
        let Request { envelope, body, patience, hops: came_over, .. } = request;
        (*patience, *came_over) = (None, 0);
        for frames in [&mut *envelope, &mut *body] {
            frames.clear();
            frames.shrink_to(MAX_IDLE_CAPACITY);
        }
        let mut frame = Frame::default();
        if !self.socket.try_recv_frame(&mut frame)? {
            return Ok(None);
        }
        let mut more = frame.has_more();
        let mut parts = Parts::default();
        envelope.push(frame);
        while more {
            let mut frame = Frame::default();
            if !self.socket.try_recv_frame(&mut frame)? {
                break;
            }
            more = frame.has_more();
            // Looked at once: libzmq is asked where it lies.
            let content = &frame[..];
            if parts.is_delimited {
                parts.body += content.len();
                body.push(frame);
                continue;
            }
            parts.is_delimited = content.is_empty();
            if let Some(said) = deadline::of_frame(content) {
                *patience = Some(patience.map_or(said, |before| before.min(said)));
            } else if !parts.is_delimited {
                // Another frame is that of a hop, unless it tells of those before.
                *came_over += hops::of_frame(content).unwrap_or(1);
            }
            parts.envelope += content.len();
            envelope.push(frame);
        }
        Ok(Some(parts))
    }

    /// Sends a reply. One that its client does not take yet is kept, and tried again until `until`.
    /// The frames of both parts are used up, unless the client is gone. Returns whether it was sent.
    pub fn reply(
        &mut self,
        envelope: &mut [Frame],
        body: &mut [Frame],
        until: Instant,
        now: Instant,
    ) -> Result<Sent, Error> {
        self.stats.count_reply(body);
        let mut sent = Sent::Full;
        if self.outbox.is_empty() || !self.outbox.has(&envelope[0]) {
            sent = self.socket.send_message(envelope.iter_mut().chain(&mut *body))?;
            if sent == Sent::Full {
                // It may only seem so: libzmq learns only now and then what the client has taken.
                self.socket.process_commands()?;
                sent = self.socket.send_message(envelope.iter_mut().chain(&mut *body))?;
            }
        }
        match sent {
            Sent::Done => (),
            Sent::Full => {
                let frames = envelope.iter_mut().chain(body).map(std::mem::take).collect();
                self.outbox.keep(Reply { frames, until }, now);
            }
            Sent::Gone => self.stats.gone += 1,
        }
        Ok(sent)
    }

    /// Tries the kept replies again, if it is time or something has happened to the socket, and
    /// tells the log which connections were refused.
    pub fn retry(&mut self, now: Instant) -> Result<(), Error> {
        let send = |reply: &mut Reply| {
            let sent = self.socket.send_message(&mut reply.frames)?;
            if sent == Sent::Gone {
                self.stats.gone += 1;
            }
            Ok(sent != Sent::Full)
        };
        let woken = self.socket.take_woken();
        self.outbox.retry(now, woken, send)?;
        self.refusals.log_if_due("", &self.socket, now)
    }

    /// Returns the routing id of the next client that has gone, if there is one.
    pub fn next_gone(&self) -> Result<Option<Vec<u8>>, Error> {
        self.socket.next_gone()
    }

    /// Returns the next of the connected clients, one at each call; `None` after the last.
    pub fn next_peer(&self) -> Result<Option<Peer>, Error> {
        self.socket.next_peer()
    }

    /// Ends a client's connection, once the replies that were sent have left.
    pub fn end_peer(&self, routing_id: &[u8]) -> Result<(), Error> {
        self.socket.end_peer(routing_id)
    }

    /// Drops a reply that its client does not take: of those for which most is kept.
    pub fn drop_unsent(&mut self) {
        self.outbox.drop_oldest();
    }

    /// Returns the replies that clients do not take yet.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Returns the counters as they are now.
    pub fn stats(&self) -> Result<Stats, Error> {
        let mut stats = self.stats.clone();
        stats.unread = self.outbox.dropped() as u64;
        stats.cut_off = self.socket.cut_off_count()?.unsigned_abs().into();
        Ok(stats)
    }

    /// Returns the number of connections that clients have.
    pub fn connections(&self) -> Result<usize, Error> {
        self.socket.connections()
    }

    /// Returns how many connections were refused, by why.
    pub fn refused(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        self.refusals.counts(&self.socket)
    }

    /// Closes the socket. Unsent replies have `linger` to leave.
    pub fn close(self, linger: Duration) -> Result<Stopped, Error> {
        let mut stats = self.stats()?;
        stats.unread += self.outbox.len() as u64;
        let unread = self.outbox.len() + self.outbox.dropped() - self.dropped_before;
        self.socket.set_linger(linger)?;
        drop(self.socket);
        Ok(Stopped { stats, unread, closed: Instant::now(), linger })
    }
}
