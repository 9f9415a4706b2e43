//! All of libzmq: its sockets, and what makes them ([`Context`]) and waits for them ([`wait`]).
//!
//! What is unsafe in this crate is here, but for calls of the system in `sched`, `memory`, `names` and
//! `handler::program::process`: what the `zmq` crate has no call for (`zmq_ctx_shutdown`, `ZMQ_USE_FD`, the
//! end of a monitoring, a context whose end can be told from its sockets').
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::ptr;
use std::time::Duration;

use zmq::{DONTWAIT, SNDMORE};

use crate::endpoint::Endpoint;
use crate::endpoint::{Listener, SocketFile};
use crate::error::Error;
use crate::frame::Frame;

mod context;
mod monitor;
mod poll;
mod refusals;

pub(crate) use context::{Context, PeerLimits};
pub(crate) use monitor::{Event, Monitor, Monitored};
pub(crate) use poll::{Watched, readable, wait};
pub(crate) use refusals::Refusals;

fn milliseconds(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

fn failed(what: &str, cause: zmq::Error) -> Error {
    match cause {
        // libzmq's own, like EFSM, are not known to the system.
        zmq::Error::EMFILE | zmq::Error::EAGAIN => {
            Error::of_system(what, io::Error::from_raw_os_error(cause.to_raw()))
        }
        _ => Error::failed(what).because(cause),
    }
}

/// libzmq's last error in this thread, by its own number and not by the nearest that `zmq` knows.
fn last_error() -> zmq::Error {
    // SAFETY: no conditions.
    zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() })
}

/// A ZeroMQ socket. It is made, used and dropped in one thread: the pointer in it keeps the compiler
/// from sending it to another, which the `zmq` crate's own would let pass.
pub(crate) struct Socket {
    // Declared first, so that it is closed before its context may end.
    inner: zmq::Socket,
    raw: *mut c_void,
    /// ZMQ_FD: readable when something has happened to the socket that no call has seen yet.
    fd: c_int,
    /// Nothing is to be received before `fd` is readable. Any call but a receipt in vain may have used
    /// up what `fd` told of, and ends this.
    quiet: Cell<bool>,
    /// `fd` was found readable.
    woken: Cell<bool>,
    /// The context was found shut down.
    ended: Cell<bool>,
    _context: Context,
}

impl Drop for Socket {
    /// Ends its monitoring before it is closed, while what hears of it is still there. libzmq's I/O thread waits
    /// for ever to tell of an event when nobody is there to hear it (socket_base.cpp, monitor_event).
    fn drop(&mut self) {
        // SAFETY: the socket is open until `inner` is dropped, after this; no address means no monitoring.
        unsafe { zmq_sys::zmq_socket_monitor(self.raw, ptr::null(), 0) };
    }
}

const _: () = assert!(size_of::<zmq::Message>() == size_of::<zmq_sys::zmq_msg_t>());

/// What became of a message that was to be sent without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Done,
    /// The peer takes no more for now.
    Full,
    /// There is no such peer any more, or the context is being shut down.
    Gone,
}

// Frames are received and sent where they lie: a message of three is six calls of libzmq, and moving
// them about would cost as much again.
impl Socket {
    /// Receives the next frame into `frame`, if one waits and the context is not shut down; whether
    /// there was one.
    pub fn try_recv(&self, frame: &mut Frame) -> Result<bool, Error> {
        if self.quiet.get() {
            return Ok(false);
        }
        match self.recv(frame, DONTWAIT) {
            Ok(()) => Ok(true),
            Err(error @ (zmq::Error::EAGAIN | zmq::Error::ETERM)) => {
                self.quiet.set(true);
                self.ended.set(error == zmq::Error::ETERM);
                Ok(false)
            }
            Err(error) => Err(failed("cannot receive a message", error)),
        }
    }

    /// Appends the frames of the next message, if one waits; whether there was one.
    pub fn try_receive(&self, frames: &mut Vec<Frame>) -> Result<bool, Error> {
        let mut first = Frame::default();
        Ok(self.try_recv(&mut first)? && self.receive_rest(first, frames)?)
    }

    /// Waits for the next message and appends its frames; not if the context is shut down.
    pub fn receive(&self, frames: &mut Vec<Frame>) -> Result<bool, Error> {
        let mut first = Frame::default();
        match self.recv(&mut first, 0) {
            Ok(()) => self.receive_rest(first, frames),
            Err(zmq::Error::ETERM) => Ok(false),
            Err(error) => Err(failed("cannot receive a message", error)),
        }
    }

    /// libzmq has a message whole or not at all, so that the frames after the first need no waiting
    /// for. Whether they are all there: not if the context is shut down in between.
    fn receive_rest(&self, first: Frame, frames: &mut Vec<Frame>) -> Result<bool, Error> {
        let mut more = first.more();
        frames.push(first);
        while more {
            let mut frame = Frame::default();
            if !self.try_recv(&mut frame)? {
                return Ok(false);
            }
            more = frame.more();
            frames.push(frame);
        }
        Ok(true)
    }

    fn recv(&self, frame: &mut Frame, flags: c_int) -> zmq::Result<()> {
        let message = frame.message_mut() as *mut zmq::Message;
        again(|| {
            // SAFETY: the socket is live and this thread's. A `Message` is as large as its only field,
            // so that this is where it lies; libzmq gives back what it held before.
            let rc = unsafe { zmq_sys::zmq_msg_recv(message.cast(), self.raw, flags) };
            if rc == -1 { Err(last_error()) } else { Ok(()) }
        })
    }

    /// Sends one frame without waiting; `more` says that another of the same message follows. A frame
    /// that was sent is left empty, one that was not is left as it is.
    pub fn send(&self, frame: &mut Frame, more: bool) -> Result<Sent, Error> {
        self.quiet.set(false);
        let flags = if more { DONTWAIT | SNDMORE } else { DONTWAIT };
        let message = frame.message_mut() as *mut zmq::Message;
        let sent = again(|| {
            // SAFETY: as in `recv`; libzmq leaves the message empty or as it was, both fit to be
            // dropped.
            let rc = unsafe { zmq_sys::zmq_msg_send(message.cast(), self.raw, flags) };
            if rc == -1 { Err(last_error()) } else { Ok(()) }
        });
        match sent {
            Ok(()) => Ok(Sent::Done),
            Err(zmq::Error::EAGAIN) => Ok(Sent::Full),
            Err(zmq::Error::EHOSTUNREACH | zmq::Error::ETERM) => Ok(Sent::Gone),
            Err(error) => Err(failed("cannot send a message", error)),
        }
    }

    /// Sends these frames as one message, or none of them.
    ///
    /// Mostly the first decides for all. But the peer of a DEALER may go between two frames: then those before
    /// are gone, and those behind are to be given to libzmq too, which drops them.
    pub fn send_all<'a>(
        &self,
        frames: impl IntoIterator<Item = &'a mut Frame>,
    ) -> Result<Sent, Error> {
        let mut frames = frames.into_iter().peekable();
        let mut sent = Sent::Done;
        let mut begun = false;
        while let Some(frame) = frames.next() {
            let now = self.send(frame, frames.peek().is_some())?;
            if now != Sent::Done {
                sent = now;
                if !begun {
                    break;
                }
            }
            begun = true;
        }
        Ok(sent)
    }

    /// Accepts clients from `listener`. Gives the endpoint as the system has it, and the file that is to
    /// be removed in the end.
    pub fn listen(&mut self, listener: Listener) -> Result<(String, Option<SocketFile>), Error> {
        let Listener { fd, endpoint, file, .. } = listener;
        self.use_fd(fd.as_raw_fd())?;
        let cannot = |error| failed(&format!("cannot listen on {endpoint}"), error);
        // The address is the descriptor's; libzmq only looks at the transport, and the path.
        let name = endpoint.to_string();
        again(|| self.inner.bind(&name)).map_err(cannot)?;
        // libzmq closes it from here on.
        let _ = fd.into_raw_fd();
        self.use_fd(-1)?;
        let bound = self.inner.get_last_endpoint().map_err(cannot)?;
        Ok((bound.unwrap_or(name), file))
    }

    fn use_fd(&mut self, fd: c_int) -> Result<(), Error> {
        self.set_number(zmq_sys::ZMQ_USE_FD, fd)
    }

    /// Sets an option that the `zmq` crate has no call for, and whose value is an int.
    fn set_number(&self, option: u32, number: c_int) -> Result<(), Error> {
        self.set_option(option, number)
    }

    /// Sets an option that the `zmq` crate has no call for, whose value is of the type that zmq_setsockopt(3) asks
    /// for.
    fn set_option<T: Copy>(&self, option: u32, value: T) -> Result<(), Error> {
        // SAFETY: the socket is live; libzmq reads the value, and looks at its size.
        let rc = unsafe {
            let value = (&raw const value).cast::<c_void>();
            zmq_sys::zmq_setsockopt(self.raw, option as c_int, value, size_of::<T>())
        };
        if rc == 0 { Ok(()) } else { Err(failed("cannot set up a socket", last_error())) }
    }

    /// Returns how many peers were cut off, since their message was far beyond its bounds.
    pub fn cut_off(&self) -> Result<c_int, Error> {
        self.get_number(zmq_sys::ZMQ_CUT_OFF)
    }

    /// Reads an option whose value is an int.
    fn get_number(&self, option: u32) -> Result<c_int, Error> {
        let mut count: c_int = 0;
        let mut size = size_of::<c_int>();
        self.get_option(option, (&raw mut count).cast(), &mut size)?;
        Ok(count)
    }

    /// Reads an option whose value is an address.
    fn last_address(&self, option: u32) -> Result<String, Error> {
        let mut text = [0_u8; 256];
        let mut size = text.len();
        self.get_option(option, (&raw mut text).cast(), &mut size)?;
        Ok(String::from_utf8_lossy(&text[..size.saturating_sub(1)]).into_owned())
    }

    /// Reads an option into a value of that many bytes, and `size` is then that of the value.
    fn get_option(&self, option: u32, value: *mut c_void, size: &mut usize) -> Result<(), Error> {
        // SAFETY: the socket is live, and libzmq writes no more than `size` bytes, which are there.
        let rc = unsafe { zmq_sys::zmq_getsockopt(self.raw, option as c_int, value, size) };
        match if rc == 0 { None } else { Some(last_error()) } {
            // A context that is shut down tells nothing more.
            None | Some(zmq::Error::ETERM) => Ok(()),
            Some(error) => Err(failed("cannot look after a socket", error)),
        }
    }

    /// Has libzmq learn what peers have taken, which it does by itself no more than once in a millisecond
    /// or so.
    pub fn catch_up(&self) -> Result<(), Error> {
        self.quiet.set(false);
        match again(|| self.inner.get_events()) {
            Ok(_) => Ok(()),
            Err(zmq::Error::ETERM) => {
                self.ended.set(true);
                Ok(())
            }
            Err(error) => Err(failed("cannot look after a socket", error)),
        }
    }

    /// Whether the last receipt in vain, or look after the socket, found the context shut down.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether somebody is connected who takes a message, as far as the socket has heard by now.
    pub fn has_taker(&self) -> Result<bool, Error> {
        self.quiet.set(false);
        match again(|| self.inner.get_events()) {
            Ok(events) => Ok(events.contains(zmq::POLLOUT)),
            Err(zmq::Error::ETERM) => Ok(false),
            Err(error) => Err(failed("cannot look after a socket", error)),
        }
    }

    /// Whether a [`wait`](fn@wait) has found something to have happened since this was last asked.
    pub fn take_woken(&self) -> bool {
        self.woken.take()
    }

    /// How long what is not yet sent may take when the socket is closed.
    pub fn linger(&self, time: Duration) -> Result<(), Error> {
        self.set(|s| s.set_linger(milliseconds(time)))
    }

    fn reach(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let (address, v6) = endpoint.to_connect()?;
        self.set(|s| s.set_ipv6(v6))?;
        self.connect(&address)
    }

    fn connect(&self, endpoint: &str) -> Result<(), Error> {
        self.inner
            .connect(endpoint)
            .map_err(|error| failed(&format!("cannot connect to {endpoint}"), error))
    }

    fn set(&self, option: impl Fn(&zmq::Socket) -> zmq::Result<()>) -> Result<(), Error> {
        again(|| option(&self.inner)).map_err(|error| failed("cannot set up a socket", error))
    }

    /// Whether [`Socket::try_recv`] may give something without another [`wait`](fn@wait).
    pub fn may_have_more(&self) -> bool {
        !self.quiet.get()
    }

    /// Lets [`Socket::try_recv`] look again: the socket's descriptor was found readable.
    pub fn look_again(&self) {
        self.woken.set(true);
        self.quiet.set(false);
    }

    /// For [`wait`](fn@wait), which then lets [`Socket::try_recv`] look again.
    pub fn readable(&self) -> Watched<'_> {
        Watched::socket(self)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: libzmq closes the descriptor with the socket, which is borrowed as long.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

/// Calls until no signal interrupts.
fn again<T>(mut call: impl FnMut() -> zmq::Result<T>) -> zmq::Result<T> {
    loop {
        match call() {
            Err(zmq::Error::EINTR) => (),
            result => return result,
        }
    }
}

/// Another frame of the same bytes, which is cheap however many these are: beyond those that fit into
/// the frame itself, the two share them. So while the one may be changed, the other must not be read:
/// the proxy does not read its own once a worker has begun the request (`claim`).
pub(crate) fn share(frame: &mut Frame) -> Frame {
    let mut copy = zmq::Message::new();
    let (to, from) = (&raw mut copy, frame.message_mut() as *mut zmq::Message);
    // SAFETY: both are live messages, each as large as its only field, so that this is where it lies.
    // libzmq counts the owners of the bytes.
    let rc = unsafe { zmq_sys::zmq_msg_copy(to.cast(), from.cast()) };
    assert_eq!(rc, 0, "zmq_msg_copy fails on an invalid message alone");
    copy.into()
}
