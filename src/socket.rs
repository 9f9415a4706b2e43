//! The one place that makes ZeroMQ sockets, sets their options and speaks to libzmq.
//!
//! Everything unsafe in this crate is here: what the `zmq` crate has no call for
//! (`zmq_ctx_shutdown`, `ZMQ_USE_FD`, a context whose end can be told from its sockets').
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Arc;
use std::time::Duration;

use zmq::{DONTWAIT, PollItem, SNDMORE, SocketType};

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
        let threads = c_int::try_from(io_threads).unwrap_or(c_int::MAX);
        // SAFETY: the pointer is a live context's.
        match unsafe { zmq_sys::zmq_ctx_set(raw, zmq_sys::ZMQ_IO_THREADS as c_int, threads) } {
            0 => Ok(context),
            _ => Err(failed("cannot set the number of I/O threads", last_error())),
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
        let socket = Socket { inner, raw, _context: self.clone() };
        // Never -1, libzmq's default, which waits for ever for a client that does not read.
        socket.linger(Duration::ZERO)?;
        Ok(socket)
    }

    /// The ROUTER that clients connect to.
    pub fn router(&self, config: &Config) -> Result<Socket, Error> {
        let socket = self.socket(zmq::ROUTER)?;
        let hwm = high_water_mark(config.max_message_size);
        // A reply that its client does not take is reported, and not dropped.
        socket.set(|s| s.set_router_mandatory(true))?;
        // A client with a routing id of its own that lost its connection takes its place again,
        // also before the old connection is known to be dead.
        socket.set(|s| s.set_router_handover(true))?;
        socket.set(|s| s.set_maxmsgsize(config.max_message_size as i64))?;
        socket.set(|s| s.set_rcvhwm(hwm))?;
        socket.set(|s| s.set_sndhwm(hwm))?;
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

    /// A client of `endpoint`, and a PAIR that tells what becomes of the connection, an event of
    /// zmq_socket_monitor(3) each.
    pub fn client(&self, endpoint: &Endpoint) -> Result<(Socket, Socket), Error> {
        let (address, v6) = endpoint.to_connect()?;
        let socket = self.socket(zmq::REQ)?;
        let events = zmq::SocketEvent::ALL.to_raw();
        socket.set(|s| s.set_ipv6(v6))?;
        socket.set(|s| s.monitor(MONITOR, events.into()))?;
        let monitor = self.socket(zmq::PAIR)?;
        monitor.connect(MONITOR)?;
        socket.connect(&address)?;
        Ok((socket, monitor))
    }
}

const MONITOR: &str = "inproc://monitor";

/// How many messages libzmq may hold for one client, each way: libzmq's own 1,000, but no more than
/// fit into 64 MiB if each is one frame of the largest size. libzmq counts neither bytes nor frames.
fn high_water_mark(max_message_size: usize) -> i32 {
    const BYTES: usize = 64 << 20;
    (BYTES / max_message_size).clamp(4, 1000) as i32
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

impl Socket {
    /// The next frame, if one waits and the context is not shut down.
    pub fn try_recv(&self) -> Result<Option<Frame>, Error> {
        match again(|| self.inner.recv_msg(DONTWAIT)) {
            Ok(message) => Ok(Some(message.into())),
            Err(zmq::Error::EAGAIN | zmq::Error::ETERM) => Ok(None),
            Err(error) => Err(failed("cannot receive a message", error)),
        }
    }

    /// The next frame, waited for; none once the context is shut down.
    pub fn recv(&self) -> Result<Option<Frame>, Error> {
        match again(|| self.inner.recv_msg(0)) {
            Ok(message) => Ok(Some(message.into())),
            Err(zmq::Error::ETERM) => Ok(None),
            Err(error) => Err(failed("cannot receive a message", error)),
        }
    }

    /// The first frame and those that follow it in the same message. libzmq has a message whole or not
    /// at all, so that they need no waiting for. Whether they are all there: not if the context is
    /// shut down in between.
    pub fn recv_rest(&self, first: Frame, frames: &mut Vec<Frame>) -> Result<bool, Error> {
        let mut more = first.more();
        frames.push(first);
        while more {
            let Some(frame) = self.try_recv()? else { return Ok(false) };
            more = frame.more();
            frames.push(frame);
        }
        Ok(true)
    }

    /// Sends one frame without waiting; `more` says that another of the same message follows.
    pub fn send(&self, frame: Frame, more: bool) -> Result<Sent, Error> {
        let flags = if more { DONTWAIT | SNDMORE } else { DONTWAIT };
        let mut message = frame.into_message();
        // By libzmq's own function, since a signal may interrupt a call that does not wait, and the
        // `zmq` crate's has used up the message by then.
        let sent = again(|| {
            // SAFETY: the socket is live and this thread's. A `Message` is as large as its only field,
            // so that this is where it lies; libzmq leaves it empty or as it was, both fit to be dropped.
            let rc = unsafe { zmq_sys::zmq_msg_send((&raw mut message).cast(), self.raw, flags) };
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
    pub fn send_all(&self, frames: impl IntoIterator<Item = Frame>) -> Result<Sent, Error> {
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

    /// How long what is not yet sent may take when the socket is closed.
    pub fn linger(&self, time: Duration) -> Result<(), Error> {
        self.set(|s| s.set_linger(milliseconds(time)))
    }

    fn connect(&self, endpoint: &str) -> Result<(), Error> {
        self.inner
            .connect(endpoint)
            .map_err(|error| failed(&format!("cannot connect to {endpoint}"), error))
    }

    fn set(&self, option: impl Fn(&zmq::Socket) -> zmq::Result<()>) -> Result<(), Error> {
        again(|| option(&self.inner)).map_err(|error| failed("cannot set up a socket", error))
    }

    /// What [`wait`] is to watch: whether this socket has a message.
    pub fn readable(&self) -> PollItem<'_> {
        self.inner.as_poll_item(zmq::POLLIN)
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

/// What [`wait`] is to watch: whether the descriptor has something to read.
pub(crate) fn readable(fd: &impl AsRawFd) -> PollItem<'_> {
    PollItem::from_fd(fd.as_raw_fd(), zmq::POLLIN)
}

/// Waits until one of these has something to read, or a signal comes, or the time is up; for ever
/// without a time.
pub(crate) fn wait(items: &mut [PollItem<'_>], time: Option<Duration>) -> Result<(), Error> {
    // Up, so that a time that has not quite come is not waited for in a busy loop.
    let timeout = time.map_or(-1, |time| time.as_nanos().div_ceil(1_000_000) as i64);
    match zmq::poll(items, timeout) {
        Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
        Err(error) => Err(failed("cannot wait for messages", error)),
    }
}
