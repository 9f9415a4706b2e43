//! Monitors: what happens to a socket's connections (zmq_socket_monitor(3)).

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Context, Socket, Watched, stranger};
use crate::error::Error;

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It was made; its handshake is next.
    Connected,
    /// Its handshake is done: messages may be sent over it.
    Ready,
    /// Its handshake failed; `Disconnected` follows.
    HandshakeFailed(HandshakeFailure),
    /// It ended.
    Disconnected,
    /// It could not be made: nobody listens there, or the host cannot be reached.
    Closed,
    /// Another attempt to connect is about to be made.
    Retried,
    Other,
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeFailure {
    /// The peer has another security mechanism: one of both has keys, and the other none.
    Mechanism,
    /// Of a client: the server has another key.
    ServerKey,
    /// Of a client: the server does not let its key in (ZAP's code 400, ZeroMQ RFC 27).
    NotListed,
    /// The peer does not speak ZMTP, and began with these bytes.
    NotZmtp([u8; 4]),
    /// The peer's socket is of a type that does not match: that number, or a greater one.
    SocketType(u8),
    Other,
}

/// A socket and its monitor.
///
/// The fields are in the order in which they must be closed: libzmq's I/O thread waits until its
/// events are read, so a socket whose monitor is closed first may never close.
pub(crate) struct Monitored {
    pub socket: Socket,
    pub monitor: Monitor,
}

impl Context {
    /// Adds a monitor to a socket that has no connections yet.
    pub(super) fn monitored(&self, socket: Socket) -> Result<Monitored, Error> {
        static MONITORS: AtomicUsize = AtomicUsize::new(0);
        // A new name for each: that of a closed monitor is free only some time later.
        let number = MONITORS.fetch_add(1, Ordering::Relaxed);
        let endpoint = format!("inproc://monitor-{number}");
        // Not MONITOR_STOPPED: libzmq would wait for ever for a reader that could not be made or is
        // closed already.
        let events = zmq::SocketEvent::ALL.to_raw() & !zmq::SocketEvent::MONITOR_STOPPED.to_raw();
        socket.set(|s| s.monitor(&endpoint, events.into()))?;
        let reader = self.socket(zmq::PAIR)?;
        reader.connect(&endpoint)?;
        Ok(Monitored { socket, monitor: Monitor(reader) })
    }
}

/// The PAIR socket that receives the events.
pub(crate) struct Monitor(Socket);

impl Monitor {
    /// Returns the monitor's entry for [`wait`](super::wait).
    pub fn readable(&self) -> Watched<'_> {
        self.0.readable()
    }

    /// Returns true if [`Monitor::next`] may return an event without another wait.
    pub fn may_have_more(&self) -> bool {
        self.0.may_have_more()
    }

    /// Returns the next event, or `None` if there is none yet.
    pub fn next(&self) -> Result<Option<Event>, Error> {
        let mut frames = Vec::new();
        if !self.0.try_recv_message(&mut frames)? {
            return Ok(None);
        }
        // The first frame is the event's 16-bit number and its 32-bit value.
        let number = frames[0].first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes));
        let value = frames[0].last_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        Ok(Some(match u32::from(number) {
            zmq_sys::ZMQ_EVENT_CONNECTED => Event::Connected,
            zmq_sys::ZMQ_EVENT_HANDSHAKE_SUCCEEDED => Event::Ready,
            zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL => {
                Event::HandshakeFailed(HandshakeFailure::Other)
            }
            zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL => {
                Event::HandshakeFailed(HandshakeFailure::of_protocol(value))
            }
            zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH => {
                Event::HandshakeFailed(HandshakeFailure::NotListed)
            }
            zmq_sys::ZMQ_EVENT_HANDSHAKE_FAILED_NOT_ZMTP => {
                Event::HandshakeFailed(HandshakeFailure::NotZmtp(value.to_ne_bytes()))
            }
            zmq_sys::ZMQ_EVENT_DISCONNECTED => Event::Disconnected,
            zmq_sys::ZMQ_EVENT_CLOSED => Event::Closed,
            zmq_sys::ZMQ_EVENT_CONNECT_RETRIED => Event::Retried,
            _ => Event::Other,
        }))
    }
}

impl HandshakeFailure {
    /// Returns what the peer is, if it is none to send requests to: "speaks HTTP, not ZMTP".
    pub fn stranger(self) -> Option<String> {
        match self {
            HandshakeFailure::NotZmtp(first) => Some(stranger::says(first)),
            HandshakeFailure::SocketType(number) => Some(stranger::is_of(number)),
            _ => None,
        }
    }

    /// Returns true if it is the same, or who does not speak ZMTP speaks no known protocol again.
    pub fn is_like(self, other: HandshakeFailure) -> bool {
        use HandshakeFailure::NotZmtp;
        match (self, other) {
            (NotZmtp(one), NotZmtp(other)) => {
                stranger::protocol(&one) == stranger::protocol(&other)
            }
            _ => self == other,
        }
    }

    fn of_protocol(code: u32) -> HandshakeFailure {
        let socket_type = code.wrapping_sub(zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_SOCKET_TYPE);
        if let Ok(number) = u8::try_from(socket_type) {
            return HandshakeFailure::SocketType(number);
        }
        match code {
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH => HandshakeFailure::Mechanism,
            zmq_sys::ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC => HandshakeFailure::ServerKey,
            _ => HandshakeFailure::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc::channel;
    use std::thread::spawn;
    use std::time::Duration;

    use crate::endpoint::Endpoint;
    use crate::socket::{Context, Monitored, wait};

    const WAIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_socket_is_closed_though_nobody_hears_of_it_any_more() {
        let (done, is_done) = channel();
        spawn(move || {
            for _ in 0..1000 {
                let context = Context::new(1).unwrap();
                let socket = context.lane("inproc://lane").unwrap();
                let Monitored { socket, monitor } = context.monitored(socket).unwrap();
                drop(monitor);
                drop(socket);
            }
            done.send(()).unwrap();
        });
        is_done.recv_timeout(WAIT).expect("a socket waits for its monitor");
    }

    #[test]
    fn a_socket_that_is_closed_amid_events_holds_up_no_other() {
        let (done, is_done) = channel();
        // In a thread of its own: a socket that is held up never closes.
        spawn(move || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
            let endpoint: Endpoint = endpoint.parse().unwrap();
            let context = Context::new(1).unwrap();
            for _ in 0..300 {
                let _monitored = context.monitored_req(&endpoint, WAIT, None).unwrap();
                drop(listener.accept().unwrap());
            }
            let Monitored { socket: _socket, monitor } =
                context.monitored_req(&endpoint, WAIT, None).unwrap();
            while monitor.next().unwrap().is_none() {
                wait(&mut [monitor.readable()], None).unwrap();
            }
            done.send(()).unwrap();
        });
        is_done.recv_timeout(WAIT).expect("libzmq tells of nothing any more");
    }
}
