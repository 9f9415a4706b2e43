//! Where to connect to, and whether something listens there.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::time::Duration;

use super::{Address, Endpoint, GIVE, Host};
use crate::error::Error;

/// Where endpoints are that a process inherits.
pub(super) const ONLY_FOR: &str = "it is for --listen and --backend of repd serve alone";

/// Time after which an address of several counts as one where nothing listens.
const REACH_TIME: Duration = Duration::from_secs(1);

impl Endpoint {
    /// Connects without ZeroMQ. Waits for one second at most for each address over TCP.
    pub(crate) fn connect(&self) -> io::Result<OwnedFd> {
        match &self.address {
            Address::Tcp { .. } | Address::Srv { .. } => {
                let mut last = io::Error::other("it has no address");
                for address in self.addresses().map_err(io::Error::other)? {
                    match TcpStream::connect_timeout(&address, REACH_TIME) {
                        Ok(stream) => return Ok(stream.into()),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Address::Ipc { path } => UnixStream::connect(path).map(OwnedFd::from),
            Address::Abstract { name } => {
                let address = UnixAddr::from_abstract_name(name)?;
                UnixStream::connect_addr(&address).map(OwnedFd::from)
            }
            Address::Inherited { .. } => Err(io::Error::other(ONLY_FOR)),
        }
    }

    /// Returns the address for libzmq to connect to, and true if that is an IPv6 one.
    ///
    /// # Errors
    /// An endpoint that names no single place, or a host that is not known.
    pub(crate) fn to_connect(&self) -> Result<(String, bool), Error> {
        self.to_connect_by(|addresses| addresses[0])
    }

    /// Returns the same; of several addresses of a name, the first one where something listens. Those
    /// of SRV records come in the order of their priorities.
    ///
    /// # Errors
    /// Those of [`Endpoint::to_connect`].
    pub(crate) fn to_reach(&self) -> Result<(String, bool), Error> {
        self.to_connect_by(|addresses| {
            let is_there = |address: &&SocketAddr| {
                addresses.len() > 1 && TcpStream::connect_timeout(address, REACH_TIME).is_ok()
            };
            *addresses.iter().find(is_there).unwrap_or(&addresses[0])
        })
    }

    /// Returns the endpoint of that address alone.
    ///
    /// # Errors
    /// Those of [`Endpoint::to_connect`].
    #[cfg(feature = "cli")]
    pub(crate) fn reached(&self) -> Result<Endpoint, Error> {
        Ok(if self.is_tcp() { self.to_reach()?.0.parse()? } else { self.clone() })
    }

    /// `choose` is given at least one address.
    fn to_connect_by(
        &self,
        choose: impl FnOnce(&[SocketAddr]) -> SocketAddr,
    ) -> Result<(String, bool), Error> {
        let cannot = || Error::config(format!("cannot connect to {self}"));
        match &self.address {
            Address::Tcp { host: Host::Any, .. } | Address::Tcp { port: 0, .. } => {
                return Err(cannot()
                    .with_cause("it is not one address")
                    .with_remedy("name a host and a port"));
            }
            Address::Tcp { .. } | Address::Srv { .. } => (),
            Address::Ipc { .. } | Address::Abstract { .. } => {
                return Ok((self.text.clone(), false));
            }
            Address::Inherited { .. } => {
                return Err(cannot().with_cause(ONLY_FOR).with_remedy(GIVE));
            }
        }
        let address = choose(&self.addresses().map_err(|why| cannot().with_cause(why))?);
        Ok((format!("tcp://{address}"), address.is_ipv6()))
    }
}
