//! Contexts, and each kind of socket with its options.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zmq::SocketType;

use super::{Monitor, Monitored, Socket, again, failed, last_error, milliseconds};
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

/// What is held of a peer.
pub(crate) struct PeerLimits {
    /// After how much silence its host is asked whether it is there; zero for after a minute.
    pub heartbeat: Duration,
    /// How many bytes a message of its may have, all frames together. One longer is not received whole.
    pub message_bytes: i64,
    /// Likewise how many frames.
    pub message_frames: c_int,
}

impl Context {
    /// A context with that many I/O threads; none is enough for inproc alone.
    pub fn new(io_threads: usize) -> Result<Context, Error> {
        // SAFETY: no conditions. The result is checked before it is used.
        let raw = unsafe { zmq_sys::zmq_ctx_new() };
        if raw.is_null() {
            return Err(failed("cannot make a ZeroMQ context", last_error()));
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
            // With the first one come the threads of its context.
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
    pub fn router(&self, limits: &PeerLimits) -> Result<Socket, Error> {
        // A small message is copied: else it would keep all that was read from the network with it.
        self.set(zmq_sys::ZMQ_ZERO_COPY_RECV, 0)?;
        let socket = self.socket(zmq::ROUTER)?;
        // A reply that its client does not take is reported, and not dropped.
        socket.set(|s| s.set_router_mandatory(true))?;
        limit_messages(&socket, limits)?;
        keep_alive(&socket, limits)?;
        bound_handshakes(&socket)?;
        Ok(socket)
    }

    /// The DEALER that REP workers connect to, and what tells of them.
    pub fn backend(&self, limits: &PeerLimits) -> Result<Monitored, Error> {
        self.monitored(self.remote(limits)?)
    }

    /// A DEALER that is connected to another repd whenever that is there, and what tells of it. Where that is,
    /// [`Endpoint::to_connect`] has said.
    pub fn upstream(
        &self,
        (address, v6): &(String, bool),
        limits: &PeerLimits,
    ) -> Result<Monitored, Error> {
        let socket = self.remote(limits)?;
        // Not ZMQ_IMMEDIATE: when such a connection ends, libzmq 4.3.5 throws away replies that have come, and
        // aborts if one of them is half received.
        // A host that does not answer at all is tried again after that time, and not after minutes.
        socket.set_number(zmq_sys::ZMQ_CONNECT_TIMEOUT, milliseconds(CONNECT_TIMEOUT))?;
        // From a tenth of a second on, twice as long each time, as long as nobody is there, or somebody else.
        socket.set(|s| s.set_reconnect_ivl_max(milliseconds(RECONNECT_MOST)))?;
        socket.set(|s| s.set_ipv6(*v6))?;
        let monitored = self.monitored(socket)?;
        monitored.socket.connect(address)?;
        Ok(monitored)
    }

    fn remote(&self, limits: &PeerLimits) -> Result<Socket, Error> {
        let socket = self.socket(zmq::DEALER)?;
        // What may be outstanding is counted elsewhere.
        socket.set(|s| s.set_sndhwm(0))?;
        socket.set(|s| s.set_rcvhwm(0))?;
        bound_message(&socket, limits)?;
        keep_alive(&socket, limits)?;
        bound_handshakes(&socket)?;
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

    /// A REQ client of `endpoint`, and what tells of its connection.
    pub fn monitored_req(&self, endpoint: &Endpoint) -> Result<Monitored, Error> {
        let monitored = self.monitored(self.socket(zmq::REQ)?)?;
        monitored.socket.reach(endpoint)?;
        Ok(monitored)
    }

    /// Adds what tells of a socket's connections, an event of zmq_socket_monitor(3) each, before it has any.
    fn monitored(&self, socket: Socket) -> Result<Monitored, Error> {
        static MONITORS: AtomicUsize = AtomicUsize::new(0);
        // Another name for each: that of one that is closed is free only some time later.
        let number = MONITORS.fetch_add(1, Ordering::Relaxed);
        let endpoint = format!("inproc://monitor-{number}");
        // Not of its own end: if the reader could not be made, or is closed before, libzmq would wait for it for ever.
        let events = zmq::SocketEvent::ALL.to_raw() & !zmq::SocketEvent::MONITOR_STOPPED.to_raw();
        socket.set(|s| s.monitor(&endpoint, events.into()))?;
        let reader = self.socket(zmq::PAIR)?;
        reader.connect(&endpoint)?;
        Ok(Monitored { socket, monitor: Monitor(reader) })
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

/// How long it is at most until an upstream is tried again.
const RECONNECT_MOST: Duration = Duration::from_secs(2);

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connections of a socket may be in their handshake, and how many of them from one host. From half of that on
/// new ones are closed by chance, so that who keeps many open does not keep out all others.
const MAX_HANDSHAKES: c_int = 8192;
const MAX_HANDSHAKES_FROM: c_int = 4096;

/// Bounds what those cost who have connected, and not yet said who they are.
fn bound_handshakes(socket: &Socket) -> Result<(), Error> {
    socket.set(|s| s.set_handshake_ivl(milliseconds(HANDSHAKE_TIMEOUT)))?;
    socket.set_number(zmq_sys::ZMQ_MAX_HANDSHAKES, MAX_HANDSHAKES)?;
    socket.set_number(zmq_sys::ZMQ_MAX_HANDSHAKES_FROM, MAX_HANDSHAKES_FROM)
}

/// After how much silence a host is asked without a heartbeat. Not never: the name of a client whose host has
/// vanished would be taken for ever.
const WITHOUT_HEARTBEAT: Duration = Duration::from_secs(60);

/// Has a peer's host asked whether it is there.
fn keep_alive(socket: &Socket, limits: &PeerLimits) -> Result<(), Error> {
    let heartbeat = if limits.heartbeat.is_zero() { WITHOUT_HEARTBEAT } else { limits.heartbeat };
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
fn limit_messages(socket: &Socket, limits: &PeerLimits) -> Result<(), Error> {
    bound_message(socket, limits)?;
    let one = limits.message_bytes;
    for (option, bytes) in [
        (zmq_sys::ZMQ_RCVHWM_BYTES, (2 * one).max(1 << 20)),
        (zmq_sys::ZMQ_SNDHWM_BYTES, one.max(1 << 20)),
        (zmq_sys::ZMQ_RCVHWM_ALL_BYTES, (2 * one).max(32 << 20)),
    ] {
        socket.set_option(option, bytes)?;
    }
    socket.set(|s| s.set_rcvhwm(READ_AHEAD))
}

/// How many requests of one client are read before the first of them is taken. The more these are, the longer the
/// client waits for the first reply: client and service take turns on the processors, where both could work.
const READ_AHEAD: i32 = 64;

/// Bounds each message that a peer sends, while it is being received.
fn bound_message(socket: &Socket, limits: &PeerLimits) -> Result<(), Error> {
    socket.set_option(zmq_sys::ZMQ_MAX_MESSAGE_BYTES, limits.message_bytes)?;
    socket.set_number(zmq_sys::ZMQ_MAX_MESSAGE_FRAMES, limits.message_frames)
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

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddrV4, TcpStream};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

    use crate::config::Config;
    use crate::endpoint::Listener;
    use crate::socket::{Context, Socket};

    fn router(context: &Context, options: &[(u32, i32)]) -> Socket {
        let socket = context.router(&Config::default().peer_limits()).unwrap();
        options.iter().for_each(|&(option, most)| socket.set_number(option, most).unwrap());
        socket
    }

    fn listen(socket: &mut Socket) -> SocketAddrV4 {
        let listener = Listener::bind(&"tcp://127.0.0.1:*".parse().unwrap(), 10, &[]).unwrap();
        listener.listen().unwrap();
        socket.listen(listener).unwrap().0.strip_prefix("tcp://").unwrap().parse().unwrap()
    }

    /// Connects from 127.0.0.`host`, and returns the connection if the service begins to greet.
    fn knock(host: u8, address: SocketAddrV4) -> Option<TcpStream> {
        let client = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let client = client.unwrap();
        bind(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, host, 0)).unwrap();
        connect(client.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
        let mut client = TcpStream::from(client);
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        match client.read_exact(&mut [0; 10]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("waited in vain"),
            greeted => greeted.is_ok().then_some(client),
        }
    }

    #[test]
    fn connections_over_the_limit_are_closed_at_once() {
        let context = Context::new(1).unwrap();
        let mut socket = router(&context, &[(zmq_sys::ZMQ_MAX_CONNECTIONS, 2)]);
        // It counts for both together.
        let addresses = [listen(&mut socket), listen(&mut socket)];
        let held = addresses.map(|address| knock(1, address));
        assert!(held.iter().all(Option::is_some));
        (0..10).for_each(|n| assert!(knock(1, addresses[n % 2]).is_none()));
        drop(held);
        while knock(1, addresses[0]).is_none() {}
    }

    #[test]
    fn handshakes_under_way_are_bounded_in_all_and_from_one_host() {
        let context = Context::new(1).unwrap();
        let limits = [(zmq_sys::ZMQ_MAX_HANDSHAKES, 16), (zmq_sys::ZMQ_MAX_HANDSHAKES_FROM, 8)];
        let mut socket = router(&context, &limits);
        let address = listen(&mut socket);
        // Near the limit one in four gets in, or one in eight.
        let all_from = |host| (0..500).filter_map(|_| knock(host, address)).collect::<Vec<_>>();
        let mut first = all_from(1);
        assert_eq!(first.len(), 8);
        let second = all_from(2);
        assert_eq!(second.len(), 8);
        assert_eq!(all_from(3).len(), 0);
        // Who has shaken hands does not count any more.
        let greeting = [b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".to_vec(), vec![0; 48]].concat();
        first[0].write_all(&greeting).unwrap();
        first[0].write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03REQ").unwrap();
        first[0].read_exact(&mut [0; 54 + 30]).unwrap();
        let mut third = all_from(3);
        assert_eq!(third.len(), 1);
        drop(second);
        while third.len() < 8 {
            third.extend(knock(3, address));
        }
        assert_eq!(all_from(3).len(), 0);
    }
}
