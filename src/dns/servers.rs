//! The name servers of the system: what resolv.conf(5) says.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

const PATH: &str = "/etc/resolv.conf";

/// The port of DNS.
const PORT: u16 = 53;

/// How many servers the system asks at most (MAXNS).
const MAX_SERVERS: usize = 3;

/// How long the system waits for each at most, in seconds, and how often it asks at most
/// (RES_MAXRETRANS, RES_MAXRETRY).
const MAX_TIMEOUT: u64 = 30;
const MAX_ATTEMPTS: u64 = 5;

/// Whom to ask, in this order, for how long, and how often.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Servers {
    pub addresses: Vec<SocketAddr>,
    pub timeout: Duration,
    pub attempts: u64,
}

impl Servers {
    /// Reads them anew each time: they change with the network.
    pub fn of_system() -> Servers {
        Servers::parse(&String::from_utf8_lossy(&fs::read(PATH).unwrap_or_default()))
    }

    /// Passes over lines that it does not know, as the system does.
    fn parse(text: &str) -> Servers {
        let (mut addresses, mut timeout, mut attempts) = (Vec::new(), 5, 2);
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => addresses.extend(words.next().and_then(address)),
                Some("options") => words.for_each(|option| match option.split_once(':') {
                    Some(("timeout", value)) => timeout = number(value, MAX_TIMEOUT, timeout),
                    Some(("attempts", value)) => attempts = number(value, MAX_ATTEMPTS, attempts),
                    _ => (),
                }),
                _ => (),
            }
        }
        addresses.truncate(MAX_SERVERS);
        if addresses.is_empty() {
            addresses.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        Servers { addresses, timeout: Duration::from_secs(timeout), attempts }
    }
}

/// Returns the address of a server, which may be a link-local one with its interface.
fn address(text: &str) -> Option<SocketAddr> {
    // No name: that would be looked up.
    text.split('%').next()?.parse::<IpAddr>().ok()?;
    (text, PORT).to_socket_addrs().ok()?.next()
}

fn number(text: &str, most: u64, otherwise: u64) -> u64 {
    text.parse().map_or(otherwise, |value: u64| value.clamp(1, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_asked_as_resolv_conf_says_within_the_systems_bounds() {
        let text = "# of a router\nnameserver 10.0.0.1\n nameserver 10.0.0.2 # second\n\
                    search example.org\noptions ndots:5 timeout:1 edns0 attempts:3\n\
                    nameserver\nnameserver nobody\nnameserver fd00::1\nnameserver fe80::1%lo\n";
        let servers = Servers::parse(text);
        let addresses = ["10.0.0.1:53", "10.0.0.2:53", "[fd00::1]:53"];
        assert_eq!(servers.addresses, addresses.map(|it| it.parse().unwrap()));
        assert_eq!((servers.timeout, servers.attempts), (Duration::from_secs(1), 3));
        let scoped = Servers::parse("nameserver fe80::1%lo").addresses;
        assert!(matches!(scoped[..], [SocketAddr::V6(it)] if it.scope_id() == 1), "{scoped:?}");
        let much = Servers::parse("options timeout:600 attempts:0\noptions attempts:x");
        assert_eq!(much.addresses, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!((much.timeout, much.attempts), (Duration::from_secs(30), 1));
    }
}
