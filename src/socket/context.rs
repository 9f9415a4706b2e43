//! Contexts, and each kind of socket with its options.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zmq::SocketType;

use super::{Monitor, Socket, again, failed, last_error, milliseconds};
use crate::config::{Config, MAX_HOPS};
use crate::endpoint::Endpoint;
use crate::error::Error;

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
            ended: Cell::new(false),
            _context: self.clone(),
        };
        // Never -1, libzmq's default, which waits for ever for a client that does not read.
        socket.linger(Duration::ZERO)?;
        Ok(socket)
    }

    /// The ROUTER that clients connect to.
    pub fn router(&self, config: &Config) -> Result<Socket, Error> {
        // A small message is copied: else it would keep all that was read from the network with it.
        self.set(zmq_sys::ZMQ_ZERO_COPY_RECV, 0)?;
        let socket = self.socket(zmq::ROUTER)?;
        // A reply that its client does not take is reported, and not dropped.
        socket.set(|s| s.set_router_mandatory(true))?;
        limit_messages(&socket, config)?;
        keep_alive(&socket, config)?;
        Ok(socket)
    }

    /// The DEALER that REP workers connect to, and what tells of them.
    pub fn backend(&self, config: &Config) -> Result<(Socket, Monitor), Error> {
        let socket = self.remote(config)?;
        let monitor = self.monitor(&socket)?;
        Ok((socket, monitor))
    }

    /// A DEALER that is connected to another repd whenever that is there, and what tells of it. Where that is,
    /// [`Endpoint::to_connect`] has said.
    pub fn upstream(
        &self,
        (address, v6): &(String, bool),
        config: &Config,
    ) -> Result<(Socket, Monitor), Error> {
        let socket = self.remote(config)?;
        // Not ZMQ_IMMEDIATE: when such a connection ends, libzmq 4.3.5 throws away replies that have come, and
        // aborts if one of them is half received.
        // A host that does not answer at all is tried again after that time, and not after minutes.
        socket.set_number(zmq_sys::ZMQ_CONNECT_TIMEOUT, milliseconds(CONNECT_TIMEOUT))?;
        let monitor = self.monitor(&socket)?;
        socket.set(|s| s.set_ipv6(*v6))?;
        socket.connect(address)?;
        Ok((socket, monitor))
    }

    fn remote(&self, config: &Config) -> Result<Socket, Error> {
        let socket = self.socket(zmq::DEALER)?;
        // What may be outstanding is counted elsewhere.
        socket.set(|s| s.set_sndhwm(0))?;
        socket.set(|s| s.set_rcvhwm(0))?;
        bound_message(&socket, config)?;
        keep_alive(&socket, config)?;
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
    pub fn watched_req(&self, endpoint: &Endpoint) -> Result<(Monitor, Socket), Error> {
        let socket = self.socket(zmq::REQ)?;
        let monitor = self.monitor(&socket)?;
        socket.reach(endpoint)?;
        Ok((monitor, socket))
    }

    /// What tells of each event of a socket's connections.
    fn monitor(&self, socket: &Socket) -> Result<Monitor, Error> {
        static MONITORS: AtomicUsize = AtomicUsize::new(0);
        // Another name for each: that of one that is closed is free only some time later.
        let number = MONITORS.fetch_add(1, Ordering::Relaxed);
        let endpoint = format!("inproc://monitor-{number}");
        // Not of its own end: if the reader could not be made, or is closed before, libzmq would wait for it for ever.
        let events = zmq::SocketEvent::ALL.to_raw() & !zmq::SocketEvent::MONITOR_STOPPED.to_raw();
        socket.set(|s| s.monitor(&endpoint, events.into()))?;
        let monitor = self.socket(zmq::PAIR)?;
        monitor.connect(&endpoint)?;
        Ok(Monitor(monitor))
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

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// After how much silence a host is asked without a heartbeat. Not never: the name of a client whose host has
/// vanished would be taken for ever.
const WITHOUT_HEARTBEAT: Duration = Duration::from_secs(60);

/// Has a peer's host asked whether it is there.
fn keep_alive(socket: &Socket, config: &Config) -> Result<(), Error> {
    let heartbeat = if config.heartbeat.is_zero() { WITHOUT_HEARTBEAT } else { config.heartbeat };
    let (idle, interval, probes) = keepalive(heartbeat);
    socket.set(|s| s.set_tcp_keepalive(1))?;
    socket.set(|s| s.set_tcp_keepalive_idle(idle))?;
    socket.set(|s| s.set_tcp_keepalive_intvl(interval))?;
    socket.set(|s| s.set_tcp_keepalive_cnt(probes))?;
    // Probes find a dead peer when nothing is on its way to it; this does when something is.
    socket.set_number(zmq_sys::ZMQ_TCP_MAXRT, milliseconds(2 * heartbeat))
}

/// Bounds what libzmq holds of messages: each that a client sends, its unread requests and unsent replies, and
/// unread requests of all clients together. Of a client that has nothing else unread a message is read all the
/// same, so that those who flood the service keep nobody out.
///
/// They are set before the first client comes and never again: libzmq changes them for connections that are
/// ending too, whose other end may be gone from memory.
fn limit_messages(socket: &Socket, config: &Config) -> Result<(), Error> {
    bound_message(socket, config)?;
    let two = 2 * largest_message(config);
    for (option, bytes) in [
        (zmq_sys::ZMQ_RCVHWM_BYTES, two.max(1 << 20)),
        (zmq_sys::ZMQ_SNDHWM_BYTES, two.max(1 << 20)),
        (zmq_sys::ZMQ_RCVHWM_ALL_BYTES, two.max(32 << 20)),
    ] {
        socket.set_option(option, bytes)?;
    }
    Ok(())
}

/// Bounds each message that a peer sends, while it is being received.
fn bound_message(socket: &Socket, config: &Config) -> Result<(), Error> {
    socket.set_option(zmq_sys::ZMQ_MAX_MESSAGE_BYTES, largest_message(config))?;
    // An envelope over its bound is answered too, if it is not much longer.
    let frames = config.max_frames + 2 * MAX_HOPS + 1;
    socket.set_number(zmq_sys::ZMQ_MAX_MESSAGE_FRAMES, frames as c_int)
}

/// Returns the size of the largest message, with its envelope, in bytes.
fn largest_message(config: &Config) -> i64 {
    (config.max_message_size + MAX_HOPS * MAX_ROUTING_ID) as i64
}

/// The longest routing id that a peer may have, in bytes: ZeroMQ RFC 37, section 2.3.
const MAX_ROUTING_ID: usize = 255;

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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;
    use std::time::Duration;

    use crate::config::Config;
    use crate::listen::Listener;
    use crate::socket::Context;

    /// Connects, and returns the connection if the service greets.
    fn greeted(endpoint: &str) -> Option<TcpStream> {
        let mut stream = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let first = stream.read(&mut [0]);
        assert!(!first.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        first.is_ok_and(|bytes| bytes == 1).then_some(stream)
    }

    #[test]
    fn connections_over_the_limit_are_closed_at_once() {
        let context = Context::new(1).unwrap();
        let mut socket = context.router(&Config::default()).unwrap();
        socket.set_number(zmq_sys::ZMQ_MAX_CONNECTIONS, 2).unwrap();
        // It counts for both together.
        let endpoints = [(); 2].map(|()| {
            let endpoint = "tcp://127.0.0.1:*".parse().unwrap();
            socket.listen(Listener::open(&endpoint, 10).unwrap()).unwrap().0
        });
        let held = [0, 1].map(|place| greeted(&endpoints[place]));
        assert!(held.iter().all(Option::is_some));
        (0..10).for_each(|n| assert!(greeted(&endpoints[n % 2]).is_none()));
        drop(held);
        while greeted(&endpoints[0]).is_none() {}
    }
}
