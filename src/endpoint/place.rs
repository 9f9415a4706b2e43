//! Where an endpoint is in the system, and which others are there too.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::socket_file::identity;
use super::{Address, Endpoint, is_local};

/// The identity of an endpoint in the system.
#[derive(Debug)]
pub(super) enum Place {
    Tcp(SocketAddr),
    /// Device and inode of the socket file.
    File((u64, u64)),
    Abstract(String),
    /// A socket file that this process does not see.
    Elsewhere(PathBuf),
}

impl Place {
    /// Returns true if only one of the two can be bound.
    pub fn overlaps(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Tcp(one), Place::Tcp(other)) => {
                one.port() == other.port()
                    && one.port() != 0
                    && (covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
            }
            (Place::File(one), Place::File(other)) => one == other,
            (Place::Abstract(one), Place::Abstract(other)) => one == other,
            (Place::Elsewhere(one), Place::Elsewhere(other)) => one == other,
            _ => false,
        }
    }

    /// Returns true if a connection to `endpoint` arrives here.
    pub fn is_reached_at(&self, endpoint: &Endpoint) -> bool {
        match (self, endpoint.address()) {
            (Place::Tcp(own), Address::Tcp { host, port }) => {
                // A name server may take its time: where such a name leads is seen later.
                let meant = host.is_known_here().then(|| host.resolve(*port));
                matches!(meant, Some(Ok(meant)) if is_reached(*own, meant))
            }
            (Place::File(own), Address::Ipc { path }) => identity(path).is_ok_and(|it| it == *own),
            (Place::Abstract(own), Address::Abstract { name }) => own == name,
            _ => false,
        }
    }
}

/// Returns true if a connection to `address` arrives at a socket of this machine that is bound to `own`.
pub(super) fn is_reached(own: SocketAddr, address: SocketAddr) -> bool {
    own.port() == address.port() && covers(own.ip(), address.ip()) && is_local(address.ip())
}

/// Returns true if a socket that is bound to `bound` also accepts connections to `ip`.
fn covers(bound: IpAddr, ip: IpAddr) -> bool {
    match (bound, ip) {
        (IpAddr::V4(any), IpAddr::V6(ip)) => {
            ip.to_ipv4_mapped().is_some_and(|ip| any.is_unspecified() || any == ip)
        }
        _ => bound == ip || bound.is_unspecified(),
    }
}
