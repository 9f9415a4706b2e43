//! Hosts, and their addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::resolve;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Any,
    Named(String),
}

impl Host {
    /// Returns the address of the host; of several, an IPv4 one, as libzmq does.
    ///
    /// # Errors
    /// The reason why there is none that can be used.
    pub(crate) fn resolve(&self, port: u16) -> Result<SocketAddr, String> {
        Ok(self.addresses(port)?[0])
    }

    /// Returns true if no name server is asked for it.
    pub(crate) fn is_known_here(&self) -> bool {
        let Host::Named(name) = self else { return true };
        let is_address = name.contains([':', '%']) || name.parse::<IpAddr>().is_ok();
        is_address || resolve::is_localhost(name) || interface(name).is_some()
    }

    /// Returns the addresses of the host, those of IPv4 first: at least one.
    ///
    /// # Errors
    /// The reason why there is none that can be used.
    pub(crate) fn addresses(&self, port: u16) -> Result<Vec<SocketAddr>, String> {
        let Host::Named(name) = self else {
            return Ok(vec![SocketAddr::from(([0, 0, 0, 0], port))]);
        };
        if let Some(address) = interface(name) {
            return Ok(vec![SocketAddr::from((address?, port))]);
        }
        let (found, what_to_do) = match resolve::addresses(name, port) {
            Some(found) => (found, "give an IP address"),
            None => (Vec::new(), "no name server answers: wait for one, or give an IP address"),
        };
        let (v4, v6): (Vec<_>, Vec<_>) = found.into_iter().partition(SocketAddr::is_ipv4);
        let mut usable = Vec::new();
        let mut why =
            format!("no address, interface or host is called {name:?} here; {what_to_do}");
        for address in v4.into_iter().chain(v6) {
            match Host::usable(address) {
                Ok(address) if usable.contains(&address) => (),
                Ok(address) => usable.push(address),
                Err(error) => why = error,
            }
        }
        if usable.is_empty() { Err(why) } else { Ok(usable) }
    }

    /// Returns the address of a host as it is used.
    ///
    /// # Errors
    /// The reason why it cannot be.
    fn usable(mut address: SocketAddr) -> Result<SocketAddr, String> {
        // An IPv4 address may be written as an IPv6 one: RFC 4291, section 2.5.5.2.
        if let Some(v4) = address.ip().to_canonical().is_ipv4().then(|| address.ip().to_canonical())
        {
            address.set_ip(v4);
        }
        if matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0)
        {
            return Err(
                "a link-local address needs its interface; give it behind a %, as in fe80::1%eth0"
                    .into(),
            );
        }
        let broadcast = matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
        if broadcast || address.ip().is_multicast() {
            return Err("that is a broadcast or multicast address; give one host's".into());
        }
        Ok(address)
    }
}

/// Returns the IPv4 address of the network interface of that name; `None` if there is no such
/// interface. An IPv6 address is not used instead: a link-local one, or one that a router gave,
/// comes before DHCP's address.
///
/// # Errors
/// An interface without an IPv4 address.
fn interface(name: &str) -> Option<Result<Ipv4Addr, String>> {
    let mut named =
        getifaddrs().ok()?.filter(|interface| interface.interface_name == name).peekable();
    named.peek()?;
    let address = named.find_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    Some(address.ok_or_else(|| {
        format!("{name} has no IPv4 address yet; wait for one, or give an IPv6 address in brackets")
    }))
}

/// Returns true if that is an address of this machine.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    let is_it = |address: &SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or(address.as_sockaddr_in6().map(|v6| v6.ip().into())) == Some(ip)
    };
    let mut own = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    ip.is_loopback() || ip.is_unspecified() || own.any(|address| is_it(&address))
}
