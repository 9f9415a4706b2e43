//! Networks, as lists and options name them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// A network or an address, such as `10.1.0.0/16`, `2001:db8::/32` or `192.0.2.7`.
///
/// ```
/// use repd::Network;
///
/// let network: Network = "10.1.0.0/16".parse().unwrap();
/// assert!(network.has("10.1.2.3".parse().unwrap()));
/// // That is the same address, as a socket that serves both families tells it.
/// assert!(network.has("::ffff:10.1.2.3".parse().unwrap()));
/// assert!("10.1.2.3/16".parse::<Network>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// The number of bits in front of an IPv4 address that an IPv6 one holds (RFC 4291, section
/// 2.5.5.2).
const MAPPED: u8 = 96;

impl Network {
    /// Returns true if the address is one of it. An IPv4 address that is held in an IPv6 one is
    /// taken for itself.
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// Returns true if a connection from that address is taken: from any that is allowed, or from any if
/// none is, but for those that are denied.
pub(crate) fn admits(allow: &[Network], deny: &[Network], address: IpAddr) -> bool {
    let is_in = |networks: &[Network]| networks.iter().any(|network| network.has(address));
    !is_in(deny) && (allow.is_empty() || is_in(allow))
}

impl FromStr for Network {
    type Err = String;

    /// # Errors
    /// What is neither an address nor a network, and a network that names an address within it.
    fn from_str(text: &str) -> Result<Network, String> {
        let network = parse(text).ok_or_else(|| {
            // ipnet takes leading zeros, which inet_aton(3) and many programs take for octal.
            match text.parse::<IpNet>() {
                Ok(meant) => format!("{text:?} has leading zeros: give {}", meant.trunc()),
                Err(_) => format!(
                    "{text:?} is no network: give ADDRESS/BITS, such as 10.1.0.0/16, or an address"
                ),
            }
        })?;
        if network.trunc() != network {
            return Err(format!("{text:?} is an address in a network: give {}", network.trunc()));
        }
        Ok(Network(canonical(network)))
    }
}

/// Reads an address, with or without a number of bits.
fn parse(text: &str) -> Option<IpNet> {
    let Some((address, bits)) = text.split_once('/') else {
        return text.parse().ok().map(IpAddr::into);
    };
    let is_decimal = bits == "0" || bits.starts_with(|digit| ('1'..='9').contains(&digit));
    let bits = is_decimal.then(|| bits.parse().ok()).flatten()?;
    IpNet::new(address.parse().ok()?, bits).ok()
}

/// Returns the network of IPv4 that one of IPv6 stands for, if it does.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let v4 = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(MAPPED));
    let v4 = v4.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok());
    v4.map_or(network, IpNet::V4)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_its_networks_however_it_is_written() {
        let has = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().has(address.parse().unwrap())
        };
        for (network, address) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "::ffff:192.0.2.7"),
            ("::ffff:192.0.2.0/120", "192.0.2.7"),
            ("0.0.0.0/0", "::ffff:192.0.2.7"),
            ("2001:DB8::/32", "2001:db8:1::1"),
            ("::/0", "fe80::1"),
        ] {
            assert!(has(network, address), "{network} {address}");
        }
        for (network, address) in [
            ("192.0.2.7", "192.0.2.8"),
            ("10.0.0.0/8", "11.0.0.0"),
            ("::/0", "192.0.2.7"),
            ("0.0.0.0/0", "2001:db8::1"),
        ] {
            assert!(!has(network, address), "{network} {address}");
        }
    }

    #[test]
    fn what_is_denied_is_denied_though_it_is_allowed() {
        let networks = |texts: &[&str]| {
            texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Network>>()
        };
        let (ten, host) = (networks(&["10.0.0.0/8", "::1"]), networks(&["10.1.1.1"]));
        for (allow, deny, address, is_taken) in [
            (&[][..], &[][..], "192.0.2.1", true),
            (&ten, &[], "10.1.1.1", true),
            (&ten, &[], "::ffff:10.1.1.1", true),
            (&ten, &[], "::1", true),
            (&ten, &[], "192.0.2.1", false),
            (&ten, &host, "10.1.1.1", false),
            (&ten, &host, "::ffff:10.1.1.1", false),
            (&ten, &host, "10.1.1.2", true),
            (&[], &host, "10.1.1.1", false),
            (&[], &host, "192.0.2.1", true),
            (&host, &ten, "10.1.1.1", false),
        ] {
            let taken = admits(allow, deny, address.parse().unwrap());
            assert_eq!(taken, is_taken, "{allow:?} {deny:?} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0/8",
            "10.0.0.1/8",
            "::1/64",
            "a/8",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong:?}");
        }
        for (zeros, right) in
            [("010.0.0.0/8", "10.0.0.0/8"), ("10.0.0.0/08", "10.0.0.0/8"), ("::/00", "::/0")]
        {
            let said = zeros.parse::<Network>().unwrap_err();
            assert_eq!(said, format!("{zeros:?} has leading zeros: give {right}"));
        }
        assert!("010.0.0.1".parse::<Network>().is_err());
    }
}
