//! Log lines about peers that libzmq has disconnected for what they sent.

use std::ffi::c_int;
use std::mem::replace;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::warn;

use super::{Socket, stranger};
use crate::error::Error;
use crate::logging::Event;

/// The refusals of one socket that are already logged, by kind.
pub(crate) struct Refusals {
    kinds: [Kind; 7],
    /// When [`Refusals::log_if_due`] looks next.
    due_at: Instant,
}

/// Least time between two looks of [`Refusals::log_if_due`]. The last look is when the loop next wakes.
const INTERVAL: Duration = Duration::from_millis(100);

struct Kind {
    /// Its name in figures.
    name: &'static str,
    /// What was done to the peer, and why.
    action: &'static str,
    reason: String,
    /// The socket option with the number of these peers, and the one with the address of the last.
    count: u32,
    last: u32,
    /// How many of them are logged.
    logged: c_int,
}

impl Kind {
    fn new(
        (name, action): (&'static str, &'static str),
        reason: String,
        (count, last): (u32, u32),
    ) -> Kind {
        Kind { name, action, reason, count, last, logged: 0 }
    }
}

impl Refusals {
    /// Makes the record for a socket whose peers are each to be a `peer`, such as "REP worker", and
    /// with `has_keys` to have a key.
    pub fn new(peer: &str, has_keys: bool) -> Refusals {
        use zmq_sys as z;
        let too_large = "its message or handshake is far larger than this service takes".into();
        let not_a_peer = format!("it is no {peer}, or breaks the protocol");
        let too_many = "there are as many connections as this service takes".into();
        let same_id = "another connection has its routing id".into();
        let keyless = match has_keys {
            true => "it has no key of CURVE: it needs its own, and the public key of this service",
            false => "it wants keys or a password, and this service has none; see --key",
        };
        let wrong_key = "it has not the public key of this service, but another".into();
        let denied = "--allow and --deny do not let its address in".into();
        let kinds = [
            Kind::new(("too-large", "cut off"), too_large, (z::ZMQ_CUT_OFF, z::ZMQ_LAST_CUT_OFF)),
            Kind::new(("protocol", "refused"), not_a_peer, (z::ZMQ_REFUSED, z::ZMQ_LAST_REFUSED)),
            Kind::new(("routing-id", "refused"), same_id, (z::ZMQ_NAMESAKES, z::ZMQ_LAST_NAMESAKE)),
            Kind::new(("network", "refused"), denied, (z::ZMQ_DENIED, z::ZMQ_LAST_DENIED)),
            Kind::new(("no-key", "refused"), keyless.into(), (z::ZMQ_KEYLESS, z::ZMQ_LAST_KEYLESS)),
            Kind::new(
                ("server-key", "refused"),
                wrong_key,
                (z::ZMQ_WRONG_KEY, z::ZMQ_LAST_WRONG_KEY),
            ),
            Kind::new(
                ("too-many", "turned away"),
                too_many,
                (z::ZMQ_TURNED_AWAY, z::ZMQ_LAST_TURNED_AWAY),
            ),
        ];
        Refusals { kinds, due_at: Instant::now() }
    }

    /// Logs the new refusals of `socket`, of which nothing else tells, if that was not done a moment ago.
    pub fn log_if_due(&mut self, prefix: &str, socket: &Socket, now: Instant) -> Result<(), Error> {
        if now < self.due_at {
            return Ok(());
        }
        self.due_at = now + INTERVAL;
        self.log_new(prefix, socket, true)
    }

    /// Logs the new refusals of `socket`, each line with `prefix` in front. Without `is_logged`
    /// they are only counted, because the log already reports them in other words.
    pub fn log_new(&mut self, prefix: &str, socket: &Socket, is_logged: bool) -> Result<(), Error> {
        for Kind { action, reason, count, last, logged, .. } in &mut self.kinds {
            let count = socket.get_int(*count)?;
            if replace(logged, count) != count && is_logged {
                let last = socket.get_string(*last)?;
                let (address, said) = last.split_once(' ').unwrap_or((&last, ""));
                let (ip, peer) = (ip_of(address), name_of(address));
                let reason = reason_of(reason, said);
                warn!(
                    event = Event::Refused, peer = ip;
                    "{prefix}{action} {peer}: {reason}; so far: {count}"
                );
            }
        }
        Ok(())
    }

    /// Returns how many peers of `socket` were refused, by why.
    pub fn counts(&self, socket: &Socket) -> Result<Vec<(&'static str, u64)>, Error> {
        let count =
            |kind: &Kind| Ok((kind.name, socket.get_int(kind.count)?.unsigned_abs().into()));
        self.kinds.iter().map(count).collect()
    }

    /// Starts counting at zero, for a new socket.
    pub fn reset(&mut self) {
        self.kinds.iter_mut().for_each(|kind| kind.logged = 0);
    }
}

/// Returns why a peer was refused that has said that: its first four bytes in hexadecimal digits, its
/// version, its mechanism, or nothing of interest.
fn reason_of(reason: &str, said: &str) -> String {
    if said.is_empty() {
        reason.into()
    } else if let Ok(first) = u32::from_str_radix(said, 16) {
        format!("it {}", stranger::says(first.to_be_bytes()))
    } else if said.starts_with("ZMTP ") {
        format!("it speaks {said}, which has no keys")
    } else {
        format!("{reason} (it offers {said})")
    }
}

/// Returns the IP address in an address of libzmq's; `None` over ipc.
fn ip_of(address: &str) -> Option<String> {
    let address: SocketAddr = address.strip_prefix("tcp://")?.parse().ok()?;
    Some(address.ip().to_canonical().to_string())
}

/// Returns what the log calls the peer at `address`. A peer over ipc has no address of its own, and one
/// that has gone none any more.
fn name_of(address: &str) -> &str {
    match address {
        "ipc://" => "a process of this machine",
        "" => "somebody who has gone",
        _ => address,
    }
}
