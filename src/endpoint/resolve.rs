//! Looks up the addresses of a host name.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Returns the addresses of `name`, a host name or an address, or an empty list if there are none;
/// `None` if no name server says whether there are any. A static glibc looks only in /etc/hosts and DNS.
pub(crate) fn addresses(name: &str, port: u16) -> Option<Vec<SocketAddr>> {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    crate::sys::nss::use_files_and_dns();
    let (found, why): (Vec<SocketAddr>, _) = match (name, port).to_socket_addrs() {
        Ok(found) => (found.collect(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    if found.is_empty() && is_localhost(name) {
        return Some(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]);
    }
    // EAI_AGAIN has no number in a Rust error, but words: glibc's, and musl's.
    let is_again = |why: &String| why.contains("Temporary failure") || why.contains("Try again");
    if why.as_ref().is_some_and(is_again) { None } else { Some(found) }
}

/// Returns true if that name is loopback, even on a system without hosts(5): RFC 6761, section 6.3.
pub(crate) fn is_localhost(name: &str) -> bool {
    let host = name.trim_end_matches('.');
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_has_an_address_whatever_the_system_says() {
        for name in ["localhost", "localhost.", "not-in-hosts.localhost"] {
            let addresses = addresses(name, 7).unwrap();
            assert!(!addresses.is_empty(), "{name}");
            assert!(addresses.iter().all(|it| it.ip().is_loopback() && it.port() == 7), "{name}");
        }
    }
}
