//! The ROUTER: requests in, replies out, and the replies that a client does not take yet.

use std::time::{Duration, Instant};

use crate::config::{Config, MAX_ENVELOPE, MAX_HOPS};
use crate::endpoint::{Listener, SocketFile};
use crate::error::Error;
use crate::fault::{Code, Fault};
use crate::frame::{FEW_FRAMES, Frame};
use crate::service::in_flight::Request;
use crate::service::outbox::{Outbox, Reply};
use crate::service::stats::Tally;
use crate::socket::{Refusals, Sent, Socket, Watched};

/// How soon it is looked again whether clients were refused. At the latest it is when the loop wakes by itself.
const A_MOMENT: Duration = Duration::from_millis(100);

/// What came in.
pub(crate) enum Received {
    Nothing,
    Request,
    /// A request that is larger than the service takes, and what its client is told; its body is not kept.
    TooLarge(Fault),
    /// A message with no delimiter, or nothing behind it: no request.
    Malformed,
}

pub(crate) struct Frontend {
    socket: Socket,
    endpoints: Vec<String>,
    files: Vec<SocketFile>,
    max_frames: usize,
    max_message_size: usize,
    outbox: Outbox,
    pub tally: Tally,
    /// How many replies had been dropped when the drain began.
    dropped_before: usize,
    refusals: Refusals,
    /// When it is looked next whether some were refused: nothing else tells of it.
    tell_at: Instant,
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
    /// Serves clients at these endpoints, over a ROUTER.
    pub fn listen(
        mut socket: Socket,
        listeners: Vec<Listener>,
        config: &Config,
    ) -> Result<Frontend, Error> {
        listeners.iter().try_for_each(Listener::listen)?;
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
            max_message_size: config.max_message_size,
            outbox: Outbox::new(),
            tally: Tally::default(),
            dropped_before: 0,
            refusals: Refusals::new("ZeroMQ client"),
            tell_at: Instant::now(),
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

    pub fn readable(&self) -> Watched<'_> {
        self.socket.readable()
    }

    /// Whether [`Frontend::receive`] may give something without another wait.
    pub fn may_have_more(&self) -> bool {
        self.socket.may_have_more()
    }

    /// The next message of a client, if one waits, into the room that `request` has.
    pub fn receive(&mut self, request: &mut Request) -> Result<Received, Error> {
        let Request { envelope, body } = request;
        for frames in [&mut *envelope, &mut *body] {
            frames.clear();
            frames.shrink_to(FEW_FRAMES);
        }
        let mut frame = Frame::default();
        if !self.socket.try_recv(&mut frame)? {
            return Ok(Received::Nothing);
        }
        let mut more = frame.more();
        let (mut delimited, mut way, mut bytes) = (false, 0, 0);
        envelope.push(frame);
        while more {
            let mut frame = Frame::default();
            if !self.socket.try_recv(&mut frame)? {
                break;
            }
            more = frame.more();
            if delimited {
                bytes += frame.len();
                body.push(frame);
            } else {
                delimited = frame.is_empty();
                way += frame.len();
                envelope.push(frame);
            }
        }
        if !delimited || body.is_empty() {
            self.tally.malformed();
            return Ok(Received::Malformed);
        }
        self.tally.requests += 1;
        // libzmq gives what is just too much, so that it is seen here, and throws the rest away.
        let what = if body.len() > self.max_frames {
            format!("has more than {} frames", self.max_frames)
        } else if bytes > self.max_message_size {
            format!("is larger than {} bytes", self.max_message_size)
        } else if envelope.len() - 2 > MAX_HOPS {
            format!("has come over more than {MAX_HOPS} hops")
        } else if way > MAX_ENVELOPE {
            format!("has an envelope of more than {MAX_ENVELOPE} bytes")
        } else {
            return Ok(Received::Request);
        };
        body.clear();
        Ok(Received::TooLarge(Fault::new(Code::TooLarge, format!("the request {what}"))))
    }

    /// Answers a request: sends the reply; if its client has no room for it, keeps it and tries again until its
    /// time is up. The frames of both parts are used up, unless the client is gone.
    pub fn reply(
        &mut self,
        envelope: &mut [Frame],
        body: &mut [Frame],
        until: Instant,
        now: Instant,
    ) -> Result<(), Error> {
        self.tally.answered(body);
        let mut sent = Sent::Full;
        if !self.outbox.has(&envelope[0]) {
            sent = self.socket.send_all(envelope.iter_mut().chain(&mut *body))?;
            if sent == Sent::Full {
                // Or so it seems: libzmq looks only now and then what the client has taken.
                self.socket.catch_up()?;
                sent = self.socket.send_all(envelope.iter_mut().chain(&mut *body))?;
            }
        }
        match sent {
            Sent::Done => (),
            Sent::Full => {
                let frames = envelope.iter_mut().chain(body).map(std::mem::take).collect();
                self.outbox.keep(Reply { frames, until }, now);
            }
            Sent::Gone => self.tally.client_gone(),
        }
        Ok(())
    }

    /// Tries the kept replies again, if it is time or something has happened to the socket.
    pub fn retry(&mut self, now: Instant) -> Result<(), Error> {
        let send = |reply: &mut Reply| {
            let sent = self.socket.send_all(&mut reply.frames)?;
            if sent == Sent::Gone {
                self.tally.client_gone();
            }
            Ok(sent != Sent::Full)
        };
        let woken = self.socket.take_woken();
        self.outbox.retry(now, woken, send)?;
        if now >= self.tell_at {
            self.refusals.tell("", &self.socket, true)?;
            self.tell_at = now + A_MOMENT;
        }
        Ok(())
    }

    /// The replies that its clients do not take yet, and those that they did not take in time.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Closes the socket; what it has not yet sent may take that long.
    pub fn close(self, linger: Duration) -> Result<Stopped, Error> {
        let mut tally = self.tally;
        let unread = self.outbox.len() + self.outbox.dropped() - self.dropped_before;
        tally.unread = (self.outbox.len() + self.outbox.dropped()) as u64;
        tally.cut_off = self.socket.cut_off()?.unsigned_abs().into();
        self.socket.linger(linger)?;
        drop(self.socket);
        Ok(Stopped { tally, unread, closed: Instant::now(), linger })
    }
}
