//! Sockets that the service manager hands over: they listen already, and go on listening when this
//! process has ended.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use log::warn;
use nix::sys::socket::{SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt};

use super::Endpoint;
use super::place::Place;
use super::socket_file::identity;
use crate::error::plain;
use crate::sys::systemd;

/// A socket that was handed over.
pub(super) struct Inherited {
    pub fd: OwnedFd,
    pub place: Place,
    /// The same place as an endpoint for libzmq.
    pub name: String,
}

/// Returns the sockets that were handed over under that name: one, or several of one unit.
///
/// # Errors
/// The reason why there is none that can be used, and what to do.
pub(super) fn sockets(name: &str) -> Result<Vec<Inherited>, String> {
    let given = systemd::names();
    if given.is_empty() {
        return Err(format!(
            "systemd has handed over no sockets; have a socket unit with FileDescriptorName={name} \
             start the service"
        ));
    }
    if !given.iter().any(|it| it == name) {
        let names = given.join(", ");
        return Err(format!(
            "systemd has handed over no socket of that name, but: {names}; give one of these, or \
             FileDescriptorName={name} in the socket unit"
        ));
    }
    let fds = systemd::named(name).map_err(|error| {
        format!("its descriptor cannot be used: {}; see the socket unit", plain(error))
    })?;
    fds.into_iter().map(check).collect()
}

/// Tells the log of sockets that were handed over, and that none of these endpoints names: who
/// connects there would wait in vain.
pub(super) fn warn_of_others<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) {
    let named: Vec<&str> = endpoints.filter_map(Endpoint::inherited_name).collect();
    let mut others = systemd::names();
    others.retain(|name| !named.contains(&name.as_str()));
    if !others.is_empty() {
        let names = others.join(", ");
        warn!("nobody listens at the sockets that systemd has handed over: {names}; see fd://");
    }
}

fn check(fd: OwnedFd) -> Result<Inherited, String> {
    let wrong = |what| format!("{what}; give the socket unit ListenStream=, and no Accept=");
    let kind = getsockopt(&fd, sockopt::SockType).map_err(|_| wrong("it is no socket"))?;
    let listens = getsockopt(&fd, sockopt::AcceptConn) == Ok(true);
    if kind != SockType::Stream || !listens {
        return Err(wrong("it is no stream socket that listens"));
    }
    let address: SockaddrStorage =
        getsockname(fd.as_fd().as_raw_fd()).map_err(|_| wrong("it has no address"))?;
    let (place, name) = place(&address).ok_or_else(|| wrong("it is none of TCP or of a path"))?;
    Ok(Inherited { fd, place, name })
}

fn place(address: &SockaddrStorage) -> Option<(Place, String)> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    let tcp = v4.or(address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())));
    if let Some(address) = tcp {
        return Some((Place::Tcp(address), format!("tcp://{address}")));
    }
    let unix = address.as_unix_addr().filter(|unix| unix.len() > 0)?;
    if let Some(name) = unix.as_abstract() {
        let name = str::from_utf8(name).ok()?;
        return Some((Place::Abstract(name.into()), format!("ipc://@{name}")));
    }
    let path = unix.path().and_then(Path::to_str)?;
    // The file may be out of this process's sight.
    let place =
        identity(Path::new(path)).map_or_else(|_| Place::Elsewhere(path.into()), Place::File);
    Some((place, format!("ipc://{path}")))
}
