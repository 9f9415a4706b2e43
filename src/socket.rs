//! The one place that makes ZeroMQ sockets, sets their options and speaks to libzmq.
//!
//! Everything unsafe in this crate is here: what the `zmq` crate has no call for
//! (`zmq_ctx_shutdown`, `ZMQ_USE_FD`, a context whose end can be told from its sockets').
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use zmq::{DONTWAIT, SNDMORE, SocketType};

use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::frame::Frame;
use crate::listen::{Listener, SocketFile};

/// A libzmq context. It ends (`zmq_ctx_term`) when the last of its clones and sockets is dropped,
/// which waits for unsent messages as long as the sockets' linger says.
#[derive(Clone)]
pub(crate) struct Context(Arc<RawContext>);

struct RawContext(*mut c_void);

// SAFETY: zmq.h says of contexts that they are thread safe and may be shared.
unsafe impl Send for RawContext {}
// SAFETY: as above.
unsafe impl Sync for RawContext {}

impl Drop for RawContext {
    fn drop(&mut self) {
        // SAFETY: the pointer is a context's, and no clone and no socket of it is left: each
        // holds this value.
        while unsafe { zmq_sys::zmq_ctx_term(self.0) } == -1
            && unsafe { zmq_sys::zmq_errno() } == zmq_sys::errno::EINTR
        {}
    }
}

impl Context {
    /// A context with that many I/O threads; none is enough for inproc alone.
    pub fn new(io_threads: usize) -> Result<Context, Error> {
        // SAFETY: no conditions. The result is checked before it is used.
        let raw = unsafe { zmq_sys::zmq_ctx_new() };
        if raw.is_null() {
            return Err(failed("cannot make a ZeroMQ context", io::Error::last_os_error()));
        }
        let context = Context(Arc::new(RawContext(raw)));
        context.set(zmq_sys::ZMQ_IO_THREADS, io_threads)?;
        Ok(context)
    }

    /// Lets the context have that many sockets; libzmq's default is 1,023. Before the first is made.
    pub fn allow_sockets(&self, sockets: usize) -> Result<(), Error> {
        self.set(zmq_sys::ZMQ_MAX_SOCKETS, sockets)
    }

    fn set(&self, option: u32, value: usize) -> Result<(), Error> {
        let value = c_int::try_from(value).unwrap_or(c_int::MAX);
        // SAFETY: the pointer is a live context's.
        match unsafe { zmq_sys::zmq_ctx_set(self.0.0, option as c_int, value) } {
            0 => Ok(()),
            _ => Err(failed("cannot set up a context", last_error())),
        }
    }

    /// From here on each call on a socket of this context fails with ETERM: blocked ones wake.
    pub fn shutdown(&self) {
        // SAFETY: the pointer is a live context's. The call fails on nothing else.
        unsafe { zmq_sys::zmq_ctx_shutdown(self.0.0) };
    }

    fn socket(&self, kind: SocketType) -> Result<Socket, Error> {
        // SAFETY: the pointer is a live context's.
        let raw = unsafe { zmq_sys::zmq_socket(self.0.0, kind as c_int) };
        if raw.is_null() {
            return Err(failed("cannot make a socket", last_error()));
        }
        // SAFETY: the pointer is a socket's that nobody else has; `Socket` keeps its context.
        let inner = unsafe { zmq::Socket::from_raw(raw) };
        let fd = inner.get_fd().map_err(|error| failed("cannot set up a socket", error))?;
        let socket = Socket {
            inner,
            raw,
            fd,
            quiet: Cell::new(false),
            woken: Cell::new(false),
            _context: self.clone(),
        };
        // Never -1, libzmq's default, which waits for ever for a client that does not read.
        socket.linger(Duration::ZERO)?;
        Ok(socket)
    }

    /// The ROUTER that clients connect to.
    pub fn router(&self, config: &Config) -> Result<Socket, Error> {
        let socket = self.socket(zmq::ROUTER)?;
        // A reply that its client does not take is reported, and not dropped.
        socket.set(|s| s.set_router_mandatory(true))?;
        // A client with a routing id of its own that lost its connection takes its place again,
        // also before the old connection is known to be dead.
        socket.set(|s| s.set_router_handover(true))?;
        socket.set(|s| s.set_maxmsgsize(config.max_message_size as i64))?;
        socket.set(|s| s.set_rcvhwm(high_water_mark(64 << 20, config.max_message_size)))?;
        // More for replies: whoever pipelines deeper than that has them take a longer way.
        socket.set(|s| s.set_sndhwm(high_water_mark(256 << 20, config.max_message_size)))?;
        if config.heartbeat > Duration::ZERO {
            let (idle, interval, probes) = keepalive(config.heartbeat);
            socket.set(|s| s.set_tcp_keepalive(1))?;
            socket.set(|s| s.set_tcp_keepalive_idle(idle))?;
            socket.set(|s| s.set_tcp_keepalive_intvl(interval))?;
            socket.set(|s| s.set_tcp_keepalive_cnt(probes))?;
        }
        Ok(socket)
    }

    /// A proxy's end of a lane.
    pub fn lane(&self, endpoint: &str) -> Result<Socket, Error> {
        let socket = self.socket(zmq::DEALER)?;
        again(|| socket.inner.bind(endpoint))
            .map_err(|error| failed(&format!("cannot bind {endpoint}"), error))?;
        Ok(socket)
    }

    /// A worker's end of a lane.
    pub fn worker(&self, endpoint: &str) -> Result<Socket, Error> {
        let socket = self.socket(zmq::REP)?;
        socket.connect(endpoint)?;
        Ok(socket)
    }

    /// A REQ client of `endpoint`, and a PAIR that tells what becomes of the connection, an event of
    /// zmq_socket_monitor(3) each.
    pub fn watched_req(&self, endpoint: &Endpoint) -> Result<(Socket, Socket), Error> {
        let socket = self.socket(zmq::REQ)?;
        let events = zmq::SocketEvent::ALL.to_raw();
        socket.set(|s| s.monitor(MONITOR, events.into()))?;
        let monitor = self.socket(zmq::PAIR)?;
        monitor.connect(MONITOR)?;
        socket.reach(endpoint)?;
        Ok((socket, monitor))
    }

    /// A client of `endpoint`.
    pub fn req(&self, endpoint: &Endpoint) -> Result<Socket, Error> {
        let socket = self.socket(zmq::REQ)?;
        socket.reach(endpoint)?;
        Ok(socket)
    }

    /// A client of `endpoint` that may have any number of requests outstanding.
    pub fn dealer(&self, endpoint: &Endpoint) -> Result<Socket, Error> {
        let socket = self.socket(zmq::DEALER)?;
        socket.set(|s| s.set_sndhwm(0))?;
        socket.set(|s| s.set_rcvhwm(0))?;
        socket.reach(endpoint)?;
        Ok(socket)
    }
}

const MONITOR: &str = "inproc://monitor";

/// How many messages libzmq may hold for one client, one way: libzmq's own 1,000, but no more than fit
/// into so many bytes if each is one frame of the largest size. libzmq counts neither bytes nor frames.
///
/// It is set before the first client comes and never again: libzmq 4.3.5 changes it for connections
/// that are ending too, whose other end may be gone from memory.
fn high_water_mark(bytes: usize, max_message_size: usize) -> i32 {
    (bytes / max_message_size).clamp(4, 1000) as i32
}

/// The seconds of silence before the first probe and between probes, and the number of probes, so that
/// a peer is known to be dead after two heartbeats.
///
/// By TCP and not by ZMTP's PING: while a client has as many requests waiting as the high-water mark
/// allows, libzmq does not read its connection, sees no PONG, and would hang up on a healthy client.
fn keepalive(heartbeat: Duration) -> (i32, i32, i32) {
    const PROBES: i32 = 3;
    let idle = i32::try_from(heartbeat.as_secs_f64().ceil() as u64).unwrap_or(i32::MAX);
    let interval = idle / PROBES;
    if interval == 0 { (idle, 1, idle) } else { (idle, interval, PROBES) }
}

fn milliseconds(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

fn failed(what: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::failed(what).because(cause)
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
    _context: Context,
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
            Err(zmq::Error::EAGAIN | zmq::Error::ETERM) => {
                self.quiet.set(true);
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

    /// Sends these frames as one message. The first decides for all what becomes of them.
    pub fn send_all<'a>(
        &self,
        frames: impl IntoIterator<Item = &'a mut Frame>,
    ) -> Result<Sent, Error> {
        let mut frames = frames.into_iter().peekable();
        let mut sent = Sent::Done;
        while let Some(frame) = frames.next() {
            sent = self.send(frame, frames.peek().is_some())?;
            if sent != Sent::Done {
                break;
            }
        }
        Ok(sent)
    }

    /// Accepts clients from `listener`. Gives the endpoint as the system has it, and the file that is to
    /// be removed in the end.
    pub fn listen(&mut self, listener: Listener) -> Result<(String, Option<SocketFile>), Error> {
        let Listener { fd, endpoint, file } = listener;
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
        let value = (&raw const fd).cast::<c_void>();
        // SAFETY: the socket is live, and the value is an int, as zmq_setsockopt(3) asks.
        let rc = unsafe {
            let option = zmq_sys::ZMQ_USE_FD as c_int;
            zmq_sys::zmq_setsockopt(self.raw, option, value, size_of::<c_int>())
        };
        if rc == 0 {
            Ok(())
        } else {
            Err(failed("cannot hand over a listening socket", last_error()))
        }
    }

    /// Has libzmq learn what peers have taken, which it does by itself no more than once in a millisecond
    /// or so.
    pub fn catch_up(&self) -> Result<(), Error> {
        self.quiet.set(false);
        match again(|| self.inner.get_events()) {
            Ok(_) | Err(zmq::Error::ETERM) => Ok(()),
            Err(error) => Err(failed("cannot look after a socket", error)),
        }
    }

    /// Whether a [`wait`] has found something to have happened since this was last asked.
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

    /// Whether [`Socket::try_recv`] may give something without another [`wait`].
    pub fn may_have_more(&self) -> bool {
        !self.quiet.get()
    }

    /// Lets [`Socket::try_recv`] look again: the socket's descriptor was found readable.
    pub fn look_again(&self) {
        self.woken.set(true);
        self.quiet.set(false);
    }

    /// For [`wait`], which then lets [`Socket::try_recv`] look again.
    pub fn readable(&self) -> Watched<'_> {
        Watched { fd: self.as_fd(), socket: Some(self), readable: false }
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

/// What [`wait`] is to watch.
pub(crate) struct Watched<'a> {
    fd: BorrowedFd<'a>,
    socket: Option<&'a Socket>,
    readable: bool,
}

impl Watched<'_> {
    /// Whether the descriptor had something to read, or its other end was closed.
    pub fn is_readable(&self) -> bool {
        self.readable
    }
}

/// Has [`wait`] watch a descriptor.
pub(crate) fn readable(fd: &impl AsFd) -> Watched<'_> {
    Watched { fd: fd.as_fd(), socket: None, readable: false }
}

/// Waits until one of these has something to read, or a signal comes, or the time is up; for ever
/// without a time. Not at all if a socket among them may have something already.
///
/// Not by zmq_poll(3), which asks every socket, twice, by a system call each.
pub(crate) fn wait(watched: &mut [Watched<'_>], time: Option<Duration>) -> Result<(), Error> {
    let at_once = watched.iter().any(|w| w.socket.is_some_and(Socket::may_have_more));
    let time = if at_once { Some(Duration::ZERO) } else { time };
    let mut fds: Vec<_> =
        watched.iter().map(|watched| PollFd::new(watched.fd, PollFlags::POLLIN)).collect();
    match ppoll(&mut fds, time.map(TimeSpec::from_duration), None) {
        Ok(_) => (),
        Err(Errno::EINTR) => return Ok(()),
        Err(error) => return Err(failed("cannot wait for messages", error)),
    }
    let readable: Vec<bool> = fds.iter().map(|fd| fd.any() != Some(false)).collect();
    for (watched, readable) in watched.iter_mut().zip(readable) {
        watched.readable = readable;
        if let (Some(socket), true) = (watched.socket, readable) {
            socket.look_again();
        }
    }
    Ok(())
}
