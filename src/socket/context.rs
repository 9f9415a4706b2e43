//! The context, and each kind of socket that the crate uses, with its options.

use std::any::Any;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zmq::SocketType;

use super::checks;
use super::curve::ClientKeys;
use super::peer_limits::{PeerLimits, bound_handshakes, bound_replies};
use super::{Monitored, OwnIo, Socket, last_error, milliseconds, retry_on_eintr, socket_error};
use crate::deadline;
use crate::endpoint::Endpoint;
use crate::error::Error;

#[cfg(test)]
mod tests;

/// A libzmq context. It is terminated (`zmq_ctx_term`) when the last of its clones and sockets is
/// dropped, which waits for unsent messages as long as the sockets' linger says.
#[derive(Clone)]
pub(crate) struct Context(Arc<RawContext>);

struct RawContext {
    raw: *mut c_void,
    /// It has no I/O thread.
    has_own_io: bool,
    /// What the I/O threads ask as long as they run.
    kept: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

// SAFETY: zmq.h says of contexts that they are thread safe and may be shared.
unsafe impl Send for RawContext {}
// SAFETY: as above.
unsafe impl Sync for RawContext {}

impl Drop for RawContext {
    fn drop(&mut self) {
        // SAFETY: the pointer is a context's. No clone and no socket of it is left: each holds this
        // value.
        while unsafe { zmq_sys::zmq_ctx_term(self.raw) } == -1
            && unsafe { zmq_sys::zmq_errno() } == zmq_sys::errno::EINTR
        {}
    }
}

impl Context {
    /// Makes a context without an I/O thread: see [`Context::own_io`].
    pub fn without_thread() -> Result<Context, Error> {
        let context = Context::make(true)?;
        context.set(zmq_sys::ZMQ_OWN_IO, 1)?;
        Ok(context)
    }

    /// Returns what is to do its input and output, of a context that has no thread for that, and has
    /// had a socket. It is to be called once.
    pub fn own_io(&self) -> Result<OwnIo, Error> {
        // SAFETY: the pointer is a live context's.
        match unsafe { zmq_sys::zmq_ctx_get(self.0.raw, zmq_sys::ZMQ_IO_FD as c_int) } {
            -1 => Err(socket_error("cannot have a context's input and output", last_error())),
            fd => Ok(OwnIo::new(self.clone(), fd)),
        }
    }

    pub(super) fn raw(&self) -> *mut c_void {
        self.0.raw
    }

    /// Makes a context with that many I/O threads. Zero is enough for inproc endpoints.
    pub fn new(io_threads: usize) -> Result<Context, Error> {
        let context = Context::make(false)?;
        context.set(zmq_sys::ZMQ_IO_THREADS, io_threads)?;
        Ok(context)
    }

    fn make(has_own_io: bool) -> Result<Context, Error> {
        // SAFETY: no conditions. The result is checked before it is used.
        let raw = unsafe { zmq_sys::zmq_ctx_new() };
        if raw.is_null() {
            return Err(socket_error("cannot make a ZeroMQ context", last_error()));
        }
        Ok(Context(Arc::new(RawContext { raw, has_own_io, kept: Mutex::default() })))
    }

    /// Sets the maximum number of sockets of this context, before the first one is made. libzmq's
    /// default is 1,023.
    pub fn allow_sockets(&self, sockets: usize) -> Result<(), Error> {
        self.set(zmq_sys::ZMQ_MAX_SOCKETS, sockets)
    }

    /// Sets the maximum number of sockets of this context so that there may be that many upstreams,
    /// before the first socket is made. Its table takes memory, so that it is not always large.
    pub fn allow_upstreams(&self, upstreams: usize) -> Result<(), Error> {
        // Besides the DEALER, its monitor is two; and for a moment, a socket that is given up exists
        // beside its successor. The others are few.
        match 2 * 3 * upstreams + 16 {
            sockets if sockets > zmq_sys::ZMQ_MAX_SOCKETS_DFLT as usize => {
                self.allow_sockets(sockets)
            }
            _ => Ok(()),
        }
    }

    fn set(&self, option: u32, value: usize) -> Result<(), Error> {
        let value = c_int::try_from(value).unwrap_or(c_int::MAX);
        // SAFETY: the pointer is a live context's.
        match unsafe { zmq_sys::zmq_ctx_set(self.0.raw, option as c_int, value) } {
            0 => Ok(()),
            _ => Err(socket_error("cannot set up a context", last_error())),
        }
    }

    /// Makes all calls on this context's sockets fail with ETERM from now on, and wakes those that
    /// wait.
    pub fn shutdown(&self) {
        // SAFETY: the pointer is a live context's. The call fails only on an invalid one.
        unsafe { zmq_sys::zmq_ctx_shutdown(self.0.raw) };
    }

    pub(super) fn socket(&self, kind: SocketType) -> Result<Socket, Error> {
        // SAFETY: the pointer is a live context's.
        let raw = unsafe { zmq_sys::zmq_socket(self.0.raw, kind as c_int) };
        if raw.is_null() {
            // Such as EAGAIN: the first socket of a context starts its threads.
            return Err(socket_error("cannot make a socket", last_error()));
        }
        // SAFETY: the pointer is that of a new socket; `Socket` keeps its context alive.
        let inner = unsafe { zmq::Socket::from_raw(raw) };
        let fd = inner.get_fd().map_err(|error| socket_error("cannot set up a socket", error))?;
        let socket = Socket {
            inner,
            raw,
            fd,
            drained: Cell::new(false),
            woken: Cell::new(false),
            shut_down: Cell::new(false),
            _context: self.clone(),
        };
        // The REP that libzmq asks has a thread of its own.
        if self.0.has_own_io && kind != zmq::REP {
            socket.set_option(zmq_sys::ZMQ_OWN_SOCKET, 1)?;
        }
        // libzmq's default, -1, waits for ever for a client that does not read.
        socket.set_linger(Duration::ZERO)?;
        Ok(socket)
    }

    /// Makes the ROUTER that clients connect to, at most `clients` at a time.
    pub fn router(&self, limits: &PeerLimits, clients: usize) -> Result<Socket, Error> {
        // Without a copy, a small message would keep all that was read from the network with it.
        self.set(zmq_sys::ZMQ_ZERO_COPY_RECV, 0)?;
        let socket = self.socket(zmq::ROUTER)?;
        // So that libzmq reports a reply that it cannot deliver, instead of dropping it.
        socket.set(|s| s.set_router_mandatory(true))?;
        socket.set_option(zmq_sys::ZMQ_GONE, 1)?;
        let clients = c_int::try_from(clients).unwrap_or(c_int::MAX);
        socket.set_option(zmq_sys::ZMQ_MAX_CONNECTIONS, clients)?;
        limits.bound_messages(&socket)?;
        limits.bound_buffers(&socket)?;
        limits.keep_alive(&socket)?;
        bound_handshakes(&socket)?;
        self.set_accept_check(&socket, limits)?;
        Ok(socket)
    }

    /// Makes the REP that answers libzmq's questions about who may connect.
    pub fn zap_handler(&self, endpoint: &str) -> Result<Socket, Error> {
        let socket = self.socket(zmq::REP)?;
        retry_on_eintr(|| socket.inner.bind(endpoint))
            .map_err(|error| socket_error(&format!("cannot bind {endpoint}"), error))?;
        Ok(socket)
    }

    /// Has `socket` ask of each connection that it accepts over TCP, if there is something to ask.
    fn set_accept_check(&self, socket: &Socket, limits: &PeerLimits) -> Result<(), Error> {
        let Some(check) = &limits.accept_check else { return Ok(()) };
        socket.set_option(zmq_sys::ZMQ_ACCEPT_CHECK, checks::accept_option(check))?;
        self.keep(Arc::clone(check) as Arc<dyn Any + Send + Sync>);
        Ok(())
    }

    /// Keeps what libzmq's threads may ask as long as they run.
    pub(super) fn keep(&self, check: Arc<dyn Any + Send + Sync>) {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).push(check);
    }

    /// Makes the ROUTER that external workers connect to. To them it is a DEALER.
    pub fn workers(&self, limits: &PeerLimits) -> Result<Socket, Error> {
        // As for that of clients.
        self.set(zmq_sys::ZMQ_ZERO_COPY_RECV, 0)?;
        let socket = self.socket(zmq::ROUTER)?;
        socket.set_option(zmq_sys::ZMQ_AS_DEALER, 1)?;
        socket.set(|s| s.set_router_mandatory(true))?;
        socket.set_option(zmq_sys::ZMQ_GONE, 1)?;
        socket.set_option(zmq_sys::ZMQ_MAX_CONNECTIONS, MAX_WORKERS)?;
        limits.bound_messages(&socket)?;
        limits.bound_buffers(&socket)?;
        // But for what is sent to them: the lanes limit their outstanding requests themselves.
        socket.set(|s| s.set_sndhwm(0))?;
        socket.set_option::<i64>(zmq_sys::ZMQ_SNDHWM_BYTES, 0)?;
        limits.keep_alive(&socket)?;
        bound_handshakes(&socket)?;
        self.set_accept_check(&socket, limits)?;
        Ok(socket)
    }

    /// Makes a DEALER that, once it is connected, stays connected to another repd, over IPv6 too with
    /// `v6`.
    pub fn upstream(
        &self,
        v6: bool,
        limits: &PeerLimits,
        keys: Option<&ClientKeys>,
    ) -> Result<Monitored, Error> {
        let socket = self.socket(zmq::DEALER)?;
        // No high-water marks: the lane limits its outstanding requests itself.
        socket.set(|s| s.set_sndhwm(0))?;
        socket.set(|s| s.set_rcvhwm(0))?;
        limits.bound_messages(&socket)?;
        limits.keep_alive(&socket)?;
        bound_handshakes(&socket)?;
        keys.map_or(Ok(()), |keys| socket.use_server_key(keys))?;
        // Not ZMQ_IMMEDIATE: when a connection ends, libzmq 4.3.5 then drops the replies that have
        // come, and aborts if one of them is half received.
        socket.set_option(zmq_sys::ZMQ_CONNECT_TIMEOUT, milliseconds(CONNECT_TIMEOUT))?;
        // libzmq begins with 0.1 s and doubles it at each attempt.
        socket.set(|s| s.set_reconnect_ivl_max(milliseconds(MAX_RECONNECT_INTERVAL)))?;
        socket.set(|s| s.set_ipv6(v6))?;
        socket.set_option(zmq_sys::ZMQ_PEERS_OF, zmq::REQ as c_int)?;
        self.monitored(socket)
    }

    /// Makes the proxy's end of a worker lane.
    pub fn lane(&self, endpoint: &str) -> Result<Socket, Error> {
        let socket = self.socket(zmq::DEALER)?;
        retry_on_eintr(|| socket.inner.bind(endpoint))
            .map_err(|error| socket_error(&format!("cannot bind {endpoint}"), error))?;
        Ok(socket)
    }

    /// Makes the worker's end of a worker lane.
    pub fn worker(&self, endpoint: &str) -> Result<Socket, Error> {
        let socket = self.socket(zmq::REP)?;
        socket.connect(endpoint)?;
        Ok(socket)
    }

    /// Makes the socket of a client, not connected yet, which tells the service that it waits for
    /// each reply for that long.
    fn client(
        &self,
        kind: zmq::SocketType,
        patience: Duration,
        keys: Option<&ClientKeys>,
    ) -> Result<Socket, Error> {
        let socket = self.socket(kind)?;
        bound_replies(&socket)?;
        keys.map_or(Ok(()), |keys| socket.use_server_key(keys))?;
        let property = deadline::to_property(patience);
        socket.set_slice(zmq_sys::ZMQ_METADATA, property.as_bytes())?;
        Ok(socket)
    }

    /// Makes a REQ client of `endpoint` with a monitor.
    pub fn monitored_req(
        &self,
        endpoint: &Endpoint,
        patience: Duration,
        keys: Option<&ClientKeys>,
    ) -> Result<Monitored, Error> {
        let monitored = self.monitored(self.client(zmq::REQ, patience, keys)?)?;
        monitored.socket.connect_endpoint(endpoint)?;
        Ok(monitored)
    }

    /// Makes a REQ client of `endpoint`.
    pub fn req(
        &self,
        endpoint: &Endpoint,
        patience: Duration,
        keys: Option<&ClientKeys>,
    ) -> Result<Socket, Error> {
        let socket = self.client(zmq::REQ, patience, keys)?;
        socket.connect_endpoint(endpoint)?;
        Ok(socket)
    }

    /// Makes a client of `endpoint` that may have any number of requests outstanding.
    pub fn dealer(
        &self,
        endpoint: &Endpoint,
        patience: Duration,
        keys: Option<&ClientKeys>,
    ) -> Result<Socket, Error> {
        let socket = self.client(zmq::DEALER, patience, keys)?;
        socket.set(|s| s.set_sndhwm(0))?;
        socket.set(|s| s.set_rcvhwm(0))?;
        socket.connect_endpoint(endpoint)?;
        Ok(socket)
    }
}

/// Maximum number of external workers.
const MAX_WORKERS: c_int = 1024;

/// Time after which an attempt to connect to an upstream is given up. TCP's own takes minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum time between two attempts to connect to an upstream.
const MAX_RECONNECT_INTERVAL: Duration = Duration::from_secs(2);
