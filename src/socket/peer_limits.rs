//! What a peer may cost: how large its messages are, how many are kept, and how long it may be silent.

use std::ffi::c_int;
use std::sync::Arc;
use std::time::Duration;

use super::checks::AcceptCheck;
use super::{Socket, milliseconds};
use crate::config::{FRAMES_RANGE, SIZE_RANGE};
use crate::error::Error;

/// The limits that a socket sets for each of its peers.
pub(crate) struct PeerLimits {
    /// Time of silence after which the peer's host is probed; zero for one minute.
    pub heartbeat: Duration,
    /// Maximum number of bytes of a message, all its frames together. A longer one is not received
    /// whole.
    pub message_bytes: i64,
    /// Maximum number of frames of a message. One with more is not received whole.
    pub message_frames: c_int,
    /// Asked of each connection that is accepted over TCP, before it counts.
    pub accept_check: Option<Arc<AcceptCheck>>,
}

/// Maximum number of one client's requests that libzmq holds unread. With more, a client waits
/// longer for its first reply: client and service take turns on the processors, where both could
/// work.
const MAX_UNREAD: c_int = 64;

/// Time of silence after which a host is probed if the heartbeat is zero. Without probes, the
/// routing id of a client whose host has vanished would stay in use for ever.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(60);

impl PeerLimits {
    /// Limits the size of each message that a peer sends.
    pub fn bound_messages(&self, socket: &Socket) -> Result<(), Error> {
        socket.set_option(zmq_sys::ZMQ_MAX_MESSAGE_BYTES, self.message_bytes)?;
        socket.set_option(zmq_sys::ZMQ_MAX_MESSAGE_FRAMES, self.message_frames)
    }

    /// Limits the memory that libzmq uses for a client's unread requests and unsent replies, and for
    /// the unread requests of all clients. Even at the last limit it reads one message of a client that
    /// has nothing else unread, so clients that flood the service do not keep others out.
    ///
    /// Not to be called once clients may connect: libzmq applies a change to connections that are
    /// ending too, whose other end may be freed already.
    pub fn bound_buffers(&self, socket: &Socket) -> Result<(), Error> {
        let largest = self.message_bytes;
        for (option, bytes) in [
            (zmq_sys::ZMQ_RCVHWM_BYTES, (2 * largest).max(1 << 20)),
            (zmq_sys::ZMQ_SNDHWM_BYTES, largest.max(1 << 20)),
            (zmq_sys::ZMQ_RCVHWM_ALL_BYTES, (2 * largest).max(32 << 20)),
        ] {
            socket.set_option(option, bytes)?;
        }
        socket.set(|s| s.set_rcvhwm(MAX_UNREAD))
    }

    /// Has the system probe a silent peer's host, and close the connection if it does not answer.
    pub fn keep_alive(&self, socket: &Socket) -> Result<(), Error> {
        let heartbeat = if self.heartbeat.is_zero() { DEFAULT_HEARTBEAT } else { self.heartbeat };
        let (idle, interval, probes) = keepalive_times(heartbeat);
        socket.set(|s| s.set_tcp_keepalive(1))?;
        socket.set(|s| s.set_tcp_keepalive_idle(idle))?;
        socket.set(|s| s.set_tcp_keepalive_intvl(interval))?;
        socket.set(|s| s.set_tcp_keepalive_cnt(probes))?;
        // While data is unacknowledged the system does not probe; this limits that time.
        socket.set_option(zmq_sys::ZMQ_TCP_MAXRT, milliseconds(2 * heartbeat))
    }
}

/// Limits what a server may send to a client: no more than the largest request that any service can be
/// told to take.
pub fn bound_replies(socket: &Socket) -> Result<(), Error> {
    let bytes = *SIZE_RANGE.end() as i64;
    socket.set_option(zmq_sys::ZMQ_MAX_MESSAGE_BYTES, bytes)?;
    socket.set_option(zmq_sys::ZMQ_RCVHWM_BYTES, bytes)?;
    // The delimiter is one more.
    socket.set_option(zmq_sys::ZMQ_MAX_MESSAGE_FRAMES, *FRAMES_RANGE.end() as c_int + 1)
}

/// Time after which a connection whose handshake is not done is closed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of a socket's connections whose handshake is not done. From half of it on, new
/// ones are closed at random, so that a host that keeps many open does not keep out all others.
const MAX_HANDSHAKES: c_int = 8192;

/// Maximum number of such connections from one host, likewise at random from half of it on.
const MAX_HANDSHAKES_FROM: c_int = 4096;

/// Limits the connections whose handshake is not done.
pub fn bound_handshakes(socket: &Socket) -> Result<(), Error> {
    socket.set(|s| s.set_handshake_ivl(milliseconds(HANDSHAKE_TIMEOUT)))?;
    socket.set_option(zmq_sys::ZMQ_MAX_HANDSHAKES, MAX_HANDSHAKES)?;
    socket.set_option(zmq_sys::ZMQ_MAX_HANDSHAKES_FROM, MAX_HANDSHAKES_FROM)
}

/// Returns the seconds of silence before the first probe, those between two probes, and the number
/// of probes, so that a dead peer is disconnected after two heartbeats.
///
/// TCP's probes and not ZMTP's PING: at the high-water mark libzmq does not read a client's
/// connection, so it would see no PONG and disconnect a healthy client.
fn keepalive_times(heartbeat: Duration) -> (i32, i32, i32) {
    const PROBES: i32 = 3;
    let idle = i32::try_from(heartbeat.as_secs_f64().ceil() as u64).unwrap_or(i32::MAX);
    let interval = idle / PROBES;
    if interval == 0 { (idle, 1, idle) } else { (idle, interval, PROBES) }
}
