//! The socket of an upstream, which is made anew for each connection, and when that is begun.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::auth::ClientKeys;
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::socket::{Context, Monitored};

/// Time until the next connection if the last one has ended without a reply. It doubles with each such
/// connection.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Makes a socket that is not connected yet.
type MakeSocket = Box<dyn Fn(Option<&ClientKeys>) -> Result<Monitored, Error>>;

pub(super) struct Link {
    make_socket: MakeSocket,
    /// Where libzmq connects to.
    connected_to: String,
    sockets: Monitored,
    /// When it is to connect; `None` if it was told to already.
    connect_at: Option<Instant>,
    /// Since when it is connected.
    since: Instant,
    /// Time until the next connection, if this one ends without a reply.
    pause: Duration,
}

impl Link {
    /// Begins to connect to that address, if the endpoint is a name.
    ///
    /// # Errors
    /// An endpoint that names no single place.
    pub fn new(
        context: &Context,
        endpoint: &Endpoint,
        address: Option<SocketAddr>,
        keys: Option<&ClientKeys>,
        config: &Config,
    ) -> Result<Link, Error> {
        let (connected_to, v6) = match address {
            Some(address) => (format!("tcp://{address}"), address.is_ipv6()),
            None => endpoint.to_connect()?,
        };
        let (context, limits) = (context.clone(), config.peer_limits());
        let make_socket: MakeSocket = Box::new(move |keys: Option<&ClientKeys>| {
            context.upstream(v6, &limits, keys.map(ClientKeys::raw))
        });
        let sockets = make_socket(keys)?;
        let (now, pause) = (Instant::now(), Duration::ZERO);
        let mut link =
            Link { make_socket, connected_to, sockets, connect_at: None, since: now, pause };
        link.connect()?;
        Ok(link)
    }

    /// Connects with a new socket.
    ///
    /// # Errors
    /// Too few sockets or descriptors. The old socket stays.
    pub fn renew(&mut self, keys: Option<&ClientKeys>) -> Result<(), Error> {
        self.sockets = (self.make_socket)(keys)?;
        self.connect()
    }

    /// Has a new socket for the next connection, which is begun at once if this one was of use, or else
    /// after a pause: each connection may get a request that ends with it.
    ///
    /// # Errors
    /// Those of [`Link::renew`].
    pub fn renew_after(&mut self, keys: Option<&ClientKeys>, now: Instant) -> Result<(), Error> {
        if now >= self.since + MAX_PAUSE {
            self.pause = Duration::ZERO;
        }
        let pause = self.pause;
        self.pause = (2 * pause).clamp(MIN_PAUSE, MAX_PAUSE);
        if pause.is_zero() {
            return self.renew(keys);
        }
        self.sockets = (self.make_socket)(keys)?;
        self.connect_at = Some(now + pause);
        Ok(())
    }

    /// Returns when [`Link::connect_if_due`] is to be called.
    pub fn connect_at(&self) -> Option<Instant> {
        self.connect_at
    }

    /// Begins the next connection, if it is time for that.
    ///
    /// # Errors
    /// Those of libzmq, for want of memory.
    pub fn connect_if_due(&mut self, now: Instant) -> Result<(), Error> {
        if self.connect_at.is_some_and(|at| at <= now) { self.connect() } else { Ok(()) }
    }

    fn connect(&mut self) -> Result<(), Error> {
        self.connect_at = None;
        self.sockets.socket.connect(&self.connected_to)
    }

    /// Takes account of that the connection is ready.
    pub fn on_ready(&mut self, now: Instant) {
        self.since = now;
    }

    /// Takes account of a reply: the connection is of use.
    pub fn on_reply(&mut self) {
        self.pause = Duration::ZERO;
    }
}

impl Deref for Link {
    type Target = Monitored;

    fn deref(&self) -> &Monitored {
        &self.sockets
    }
}
