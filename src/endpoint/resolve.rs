//! Looks up the addresses of a host name.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Returns the addresses of `name`, a host name or an address, or an empty list if there are none.
/// A static glibc looks only in /etc/hosts and DNS.
pub(crate) fn addresses(name: &str, port: u16) -> Vec<SocketAddr> {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    crate::sys::nss::use_files_and_dns();
    let found: Vec<SocketAddr> =
        (name, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    // RFC 6761, section 6.3: these names are loopback, even on a system without hosts(5).
    let host = name.trim_end_matches('.');
    if found.is_empty() && (host == "localhost" || host.ends_with(".localhost")) {
        return vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_has_an_address_whatever_the_system_says() {
        for name in ["localhost", "localhost.", "not-in-hosts.localhost"] {
            let addresses = addresses(name, 7);
            assert!(!addresses.is_empty(), "{name}");
            assert!(addresses.iter().all(|it| it.ip().is_loopback() && it.port() == 7), "{name}");
        }
    }
}
