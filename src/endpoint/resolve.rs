//! The addresses of a host's name. One of the few places with unsafe code.
#![cfg_attr(all(target_env = "gnu", target_feature = "crt-static"), allow(unsafe_code))]

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// What the name, or the address in text, means on this machine; nothing if it has no meaning.
pub(crate) fn addresses(name: &str, port: u16) -> Vec<SocketAddr> {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    by_itself();
    let found: Vec<SocketAddr> =
        (name, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    // A small system may have no hosts(5) that says so; RFC 6761, section 6.3, does.
    let whole = name.trim_end_matches('.');
    if found.is_empty() && (whole == "localhost" || whole.ends_with(".localhost")) {
        return vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
    }
    found
}

/// Has names looked up in hosts(5) and by DNS alone, both of which a static glibc has inside. The other
/// modules that nsswitch.conf(5) may name are loaded from the system, with the system's own libc, and
/// where that is of another version the process crashes.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
fn by_itself() {
    use std::ffi::{c_char, c_int};
    use std::sync::Once;

    use log::debug;

    unsafe extern "C" {
        /// `nss.h` of glibc: which services a database is looked up in, whatever the file says.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both are strings that end with a zero and live for ever, and this is before the first
        // lookup.
        if unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) } != 0 {
            debug!("cannot say how names are looked up: {}", std::io::Error::last_os_error());
        }
    });
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
