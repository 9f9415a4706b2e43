//! All use of libzmq: sockets, the [`Context`] that makes them, and [`wait`], which waits for them.
//!
//! The `unsafe` calls are those that the `zmq` crate has no function for: `zmq_ctx_shutdown`,
//! `ZMQ_USE_FD`, the end of a monitor, contexts that outlive their sockets, messages in place, keys.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use zmq::{DONTWAIT, SNDMORE};

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::frame::Frame;

mod checks;
mod context;
pub(crate) mod curve;
mod listening;
mod monitor;
mod options;
mod own_io;
mod peer_limits;
mod peers;
mod poll;
mod refusals;
mod stranger;

pub(crate) use checks::{AcceptCheck, UserCheck};
pub(crate) use context::Context;
pub(crate) use listening::ServerKeys;
pub(crate) use monitor::{Event, HandshakeFailure, Monitored};
pub(crate) use own_io::OwnIo;
pub(crate) use peer_limits::PeerLimits;
pub(crate) use peers::{Newcomer, Peer};
pub(crate) use poll::{PollSet, Watched, look_at, readable, wait};
pub(crate) use refusals::Refusals;

fn milliseconds(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

fn socket_error(what: &str, cause: zmq::Error) -> Error {
    match cause {
        // Only these have a remedy. libzmq's own numbers, like EFSM, mean nothing to the system.
        zmq::Error::EMFILE | zmq::Error::EAGAIN => {
            Error::of_system(what, io::Error::from_raw_os_error(cause.to_raw()))
        }
        _ => Error::failed(what).with_cause(cause),
    }
}

/// Returns libzmq's last error in this thread.
fn last_error() -> zmq::Error {
    // SAFETY: no conditions.
    zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() })
}

/// A ZeroMQ socket, which is made, used and dropped in one thread. The raw pointer makes it not
/// `Send`; the `zmq` crate's own socket is.
pub(crate) struct Socket {
    // Declared first, so that it is closed before its context is terminated.
    inner: zmq::Socket,
    raw: *mut c_void,
    /// ZMQ_FD: readable when the socket has events that no call has processed yet.
    fd: c_int,
    /// True if there is nothing to receive until `fd` is readable. Every call but a failed receive
    /// clears it: it may have processed the events that made `fd` readable.
    drained: Cell<bool>,
    /// True if `fd` was found readable since [`Socket::take_woken`].
    woken: Cell<bool>,
    /// True if the last failed receive, or look at the socket's events, found the context shut
    /// down.
    shut_down: Cell<bool>,
    _context: Context,
}

impl Drop for Socket {
    /// Ends the monitoring before the socket is closed, while the monitor still exists. Without a
    /// reader, libzmq's I/O thread would block on an event for ever (`monitor_event` in its
    /// `socket_base.cpp`).
    fn drop(&mut self) {
        // SAFETY: the socket is open until `inner` is dropped, after this. A null address ends the
        // monitoring.
        unsafe { zmq_sys::zmq_socket_monitor(self.raw, ptr::null(), 0) };
    }
}

const _: () = assert!(size_of::<zmq::Message>() == size_of::<zmq_sys::zmq_msg_t>());

/// The outcome of a send that does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Done,
    /// The peer's queue is full or, of a DEALER or REQ, no peer is connected.
    Full,
    /// The peer is gone, or the context is shut down.
    Gone,
}

// Frames are received and sent in place: to pass on a message of three frames takes six calls of
// libzmq, and moving the frames would cost as much again.
impl Socket {
    /// Receives the next frame into `frame` without waiting. Returns false if there is none, or if
    /// the context is shut down.
    pub fn try_recv_frame(&self, frame: &mut Frame) -> Result<bool, Error> {
        if self.drained.get() {
            return Ok(false);
        }
        match self.recv_into(frame, DONTWAIT) {
            Ok(()) => Ok(true),
            Err(error @ (zmq::Error::EAGAIN | zmq::Error::ETERM)) => {
                self.drained.set(true);
                self.shut_down.set(error == zmq::Error::ETERM);
                Ok(false)
            }
            Err(error) => Err(socket_error("cannot receive a message", error)),
        }
    }

    /// Appends the frames of the next message, or the rest of one that [`Socket::try_recv_frame`]
    /// has begun, without waiting. Returns false if there is none, or if the context is shut down.
    pub fn try_recv_message(&self, frames: &mut Vec<Frame>) -> Result<bool, Error> {
        let mut first = Frame::default();
        Ok(self.try_recv_frame(&mut first)? && self.recv_rest(first, frames)?)
    }

    /// Waits for the next message and appends its frames. Returns false if the context is shut
    /// down.
    pub fn recv_message(&self, frames: &mut Vec<Frame>) -> Result<bool, Error> {
        let mut first = Frame::default();
        match self.recv_into(&mut first, 0) {
            Ok(()) => self.recv_rest(first, frames),
            Err(zmq::Error::ETERM) => Ok(false),
            Err(error) => Err(socket_error("cannot receive a message", error)),
        }
    }

    /// Appends `first` and the frames that follow it; libzmq has received all of a message before
    /// it gives out the first. Returns false if the context is shut down in between.
    fn recv_rest(&self, first: Frame, frames: &mut Vec<Frame>) -> Result<bool, Error> {
        let mut more = first.has_more();
        frames.push(first);
        while more {
            let mut frame = Frame::default();
            if !self.try_recv_frame(&mut frame)? {
                return Ok(false);
            }
            more = frame.has_more();
            frames.push(frame);
        }
        Ok(true)
    }

    fn recv_into(&self, frame: &mut Frame, flags: c_int) -> zmq::Result<()> {
        let message = frame.message_mut() as *mut zmq::Message;
        retry_on_eintr(|| {
            // SAFETY: the socket is live and this thread's. A `Message` is as large as its only
            // field, a `zmq_msg_t`, so both have one address. libzmq frees what the message held
            // before.
            let rc = unsafe { zmq_sys::zmq_msg_recv(message.cast(), self.raw, flags) };
            if rc == -1 { Err(last_error()) } else { Ok(()) }
        })
    }

    /// Sends one frame without waiting; `more` says that another of the same message follows. A
    /// frame that was sent is left empty, one that was not is unchanged.
    pub fn send_frame(&self, frame: &mut Frame, more: bool) -> Result<Sent, Error> {
        self.drained.set(false);
        let flags = if more { DONTWAIT | SNDMORE } else { DONTWAIT };
        let message = frame.message_mut() as *mut zmq::Message;
        let sent = retry_on_eintr(|| {
            // SAFETY: as in `recv_into`. libzmq leaves the message empty or as it was; either may
            // be dropped.
            let rc = unsafe { zmq_sys::zmq_msg_send(message.cast(), self.raw, flags) };
            if rc == -1 { Err(last_error()) } else { Ok(()) }
        });
        match sent {
            Ok(()) => Ok(Sent::Done),
            Err(zmq::Error::EAGAIN) => Ok(Sent::Full),
            Err(zmq::Error::EHOSTUNREACH | zmq::Error::ETERM) => Ok(Sent::Gone),
            Err(error) => Err(socket_error("cannot send a message", error)),
        }
    }

    /// Sends these frames as one message, or as the rest of one that [`Socket::send_frame`] has
    /// begun. Sends all or none, without waiting.
    ///
    /// Usually the outcome of the first frame is that of all. But the peer of a DEALER may
    /// disconnect between two frames: libzmq drops those before, and must be given those after,
    /// which it drops.
    pub fn send_message<'a>(
        &self,
        frames: impl IntoIterator<Item = &'a mut Frame>,
    ) -> Result<Sent, Error> {
        let mut frames = frames.into_iter().peekable();
        let mut sent = Sent::Done;
        let mut is_first = true;
        while let Some(frame) = frames.next() {
            let outcome = self.send_frame(frame, frames.peek().is_some())?;
            if outcome != Sent::Done {
                sent = outcome;
                if is_first {
                    break;
                }
            }
            is_first = false;
        }
        Ok(sent)
    }

    /// Sends what [`share`] makes of these frames, as [`Socket::send_message`] does.
    pub fn send_shares(&self, frames: &mut [Frame]) -> Result<Sent, Error> {
        let [first @ .., last] = frames else { return Ok(Sent::Done) };
        let mut sent = Sent::Done;
        for (place, frame) in first.iter_mut().enumerate() {
            match self.send_frame(&mut share(frame), true)? {
                Sent::Done => (),
                outcome if place == 0 => return Ok(outcome),
                outcome => sent = outcome,
            }
        }
        Ok(match self.send_frame(&mut share(last), false)? {
            Sent::Done => sent,
            outcome => outcome,
        })
    }

    /// Has libzmq process what its I/O thread has reported, such as messages that peers have taken.
    /// By itself a send does so at most once a millisecond or so.
    pub fn process_commands(&self) -> Result<(), Error> {
        self.events().map(drop)
    }

    /// Returns true if a connected peer takes a message, once what the I/O thread has reported is
    /// processed; false if the context is shut down.
    pub fn can_send(&self) -> Result<bool, Error> {
        Ok(self.events()?.contains(zmq::POLLOUT))
    }

    /// Reads ZMQ_EVENTS, which processes what the I/O thread has reported. Returns no events if the
    /// context is shut down.
    fn events(&self) -> Result<zmq::PollEvents, Error> {
        self.drained.set(false);
        match retry_on_eintr(|| self.inner.get_events()) {
            Err(zmq::Error::ETERM) => {
                self.shut_down.set(true);
                Ok(zmq::PollEvents::empty())
            }
            events => events.map_err(|e| socket_error("cannot read the state of a socket", e)),
        }
    }

    /// Returns true if the last failed receive, or look at the socket's events, found the context
    /// shut down.
    pub fn is_shut_down(&self) -> bool {
        self.shut_down.get()
    }

    /// Returns true if the socket's descriptor was found readable since the last call of this.
    pub fn take_woken(&self) -> bool {
        self.woken.take()
    }

    /// Has connections that the socket makes from now on use CURVE, with the pair of keys of its
    /// own and the public key of who is connected to.
    fn use_server_key(&self, keys: &curve::ClientKeys) -> Result<(), Error> {
        self.set(|s| s.set_curve_publickey(&keys.public))?;
        self.set(|s| s.set_curve_secretkey(&keys.secret))?;
        self.set(|s| s.set_curve_serverkey(&keys.server))
    }

    fn connect_endpoint(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let (address, v6) = endpoint.to_reach()?;
        self.set(|s| s.set_ipv6(v6))?;
        self.connect(&address)
    }

    pub fn connect(&self, endpoint: &str) -> Result<(), Error> {
        self.inner
            .connect(endpoint)
            .map_err(|error| socket_error(&format!("cannot connect to {endpoint}"), error))
    }

    /// Returns true if there may be something to receive without another [`wait`](fn@wait).
    pub fn may_have_more(&self) -> bool {
        !self.drained.get()
    }

    /// Notes that the socket's descriptor was found readable, so there may be something to receive.
    pub fn on_readable(&self) {
        self.woken.set(true);
        self.drained.set(false);
    }

    /// Returns the socket's entry for [`wait`](fn@wait), which calls [`Socket::on_readable`].
    pub fn readable(&self) -> Watched<'_> {
        Watched::socket(self)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: libzmq closes the descriptor with the socket, which outlives this borrow.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

/// Repeats `call` as long as a signal interrupts it.
fn retry_on_eintr<T>(mut call: impl FnMut() -> zmq::Result<T>) -> zmq::Result<T> {
    loop {
        match call() {
            Err(zmq::Error::EINTR) => (),
            result => return result,
        }
    }
}

/// Returns a second frame with the same bytes. Those that do not fit into the frame itself are
/// shared, not copied, so the cost does not grow with their number.
///
/// If one of the two is changed, the other must not be used any more: the proxy drops its own
/// when a worker has started the request (`claim`), and an upstream's is only read.
pub(crate) fn share(frame: &mut Frame) -> Frame {
    let mut copy = zmq::Message::new();
    let (to, from) = (&raw mut copy, frame.message_mut() as *mut zmq::Message);
    // SAFETY: both are live messages, each at the address of its only field, a `zmq_msg_t`. libzmq
    // counts the owners of the bytes.
    let rc = unsafe { zmq_sys::zmq_msg_copy(to.cast(), from.cast()) };
    assert_eq!(rc, 0, "zmq_msg_copy fails only on an invalid message");
    Frame::from_message(copy)
}
