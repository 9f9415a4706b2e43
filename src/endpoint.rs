//! Endpoints, checked before they reach libzmq, which takes what it should refuse.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;

mod connect;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod host;
mod inherited;
mod listener;
mod parse;
mod place;
mod resolve;
mod socket_file;
mod targets;

use connect::ONLY_FOR;
pub(crate) use host::{Host, is_local};
pub(crate) use listener::{Listener, Listeners, OwnAddresses};
use parse::GIVE;
pub(crate) use socket_file::SocketFile;
pub(crate) use targets::{MAX_TARGETS, NO_SERVICE, Target, addresses_of, enter_all};

/// A place to listen at or to connect to: `tcp://HOST:PORT` or `ipc://PATH`; or `fd://NAME`, a
/// socket that listens already and that systemd hands over under that name (sd_listen_fds(3)); or
/// `tcp://_SERVICE._PROTO.NAME`, the places that the SRV records of that name tell (RFC 2782).
///
/// HOST is `*` (every IPv4 interface), an IPv4 address, an IPv6 address in brackets, a network
/// interface, or a name. PORT is 1 to 65535; `*` or 0 lets the system choose one. PATH is a file's
/// path of at most 107 bytes, or `@NAME` for Linux's abstract namespace.
///
/// ```
/// use repd::Endpoint;
///
/// let endpoint: Endpoint = "tcp://127.0.0.1:5555".parse().unwrap();
/// assert_eq!(endpoint.to_string(), "tcp://127.0.0.1:5555");
/// let error = "udp://127.0.0.1:5555".parse::<Endpoint>().unwrap_err();
/// assert!(error.to_string().contains("give tcp://HOST:PORT or ipc://PATH"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    text: String,
    address: Address,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: Host, port: u16 },
    Srv { name: String },
    Ipc { path: PathBuf },
    Abstract { name: String },
    Inherited { name: String },
}

impl Endpoint {
    /// Makes the endpoint of that port of every IPv4 interface; port 0 lets the system choose one.
    pub fn any(port: u16) -> Endpoint {
        Endpoint {
            text: format!("tcp://*:{port}"),
            address: Address::Tcp { host: Host::Any, port },
        }
    }

    /// Returns true if it is reached over TCP.
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.address, Address::Tcp { .. } | Address::Srv { .. })
    }

    /// Returns true if a service manager hands it over.
    pub(crate) fn is_inherited(&self) -> bool {
        self.inherited_name().is_some()
    }

    /// Returns the name of the sockets that it stands for, if systemd hands them over.
    fn inherited_name(&self) -> Option<&str> {
        match &self.address {
            Address::Inherited { name } => Some(name),
            _ => None,
        }
    }

    /// Returns true if it is reached over TCP, or may be: what is handed over is not known before the
    /// start.
    pub(crate) fn may_be_tcp(&self) -> bool {
        self.is_tcp() || self.is_inherited()
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Makes an ipc endpoint of the path of a file.
    #[cfg(feature = "cli")]
    pub(crate) fn ipc(path: &str) -> Endpoint {
        Endpoint { text: format!("ipc://{path}"), address: Address::Ipc { path: path.into() } }
    }

    /// Returns true if it is a name, whose addresses may change.
    pub(crate) fn is_name(&self) -> bool {
        match &self.address {
            Address::Tcp { host: Host::Named(name), port: 1.. } => {
                !name.contains([':', '%']) && name.parse::<IpAddr>().is_err()
            }
            Address::Srv { .. } => true,
            _ => false,
        }
    }
}

/// A text that is no endpoint. It shows what is wrong with it and what to give, without the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointError {
    text: String,
    why: String,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Makes an error of bad configuration, which shows the text too.
impl From<EndpointError> for Error {
    fn from(error: EndpointError) -> Error {
        Error::config(format!("cannot use the endpoint {:?}", error.text)).with_cause(error)
    }
}

impl StdError for EndpointError {}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let address =
            parse::address(text).map_err(|why| EndpointError { text: text.into(), why })?;
        Ok(Endpoint { text: text.into(), address })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn resolved(endpoint: &str) -> Result<SocketAddr, String> {
        match endpoint.parse::<Endpoint>().map_err(|error| error.to_string())?.address {
            Address::Tcp { host, port } => host.resolve(port),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_host_is_an_address_an_interface_or_a_name() {
        for (endpoint, address) in [
            ("tcp://*:5555", "0.0.0.0:5555"),
            ("tcp://*:*", "0.0.0.0:0"),
            ("tcp://127.0.0.1:1", "127.0.0.1:1"),
            ("tcp://[::1]:65535", "[::1]:65535"),
            ("tcp://lo:80", "127.0.0.1:80"),
            ("tcp://localhost:80", "127.0.0.1:80"),
        ] {
            assert_eq!(resolved(endpoint).unwrap(), address.parse().unwrap(), "{endpoint}");
        }
    }

    #[test]
    fn what_libzmq_would_take_or_misread_is_refused() {
        for wrong in [
            "",
            "tcp",
            "tcp:",
            "tcp://",
            "tcp://*",
            "tcp://*:",
            "tcp://:5555",
            "tcp://[]:1",
            "tcp://*:99999",
            "tcp://*:-1",
            "tcp://*:+1",
            "tcp://*:65536",
            "tcp://*:1x",
            "tcp://::1:5",
            "tcp://a;b:1",
            "tcp://[localhost]:1",
            "tcp://*:55 55",
            "tcp://a/b:1",
            "TCP://*:1",
            "udp://*:1",
            "ws://*:1",
            "inproc://x",
            "pgm://x",
            "://",
            "ipc://",
            "ipc://*",
            "ipc://@",
            "ipc:///",
            "ipc://a/",
            "ipc:///a/..",
            "ipc://a\0b",
            "fd://",
            "fd://a:b",
            "fd://a/b",
            "tcp://*:1\n",
            "tcp://a\u{202e}b:1",
            "tcp://_repd",
            "tcp://_repd._tcp",
            "tcp://_repd._tcp.",
            "tcp://_repd._tcp..example.org",
            "tcp://_repd._tcp.a b",
            "tcp://_repd._tcp.a/b",
            "tcp://_repd._tcp.a\\.b",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong:?}");
        }
        for wrong in ["tcp://255.255.255.255:1", "tcp://224.0.0.1:1", "tcp://[ff02::1]:1"] {
            assert!(resolved(wrong).unwrap_err().contains("multicast"), "{wrong:?}");
        }
        assert!(resolved("tcp://no.such.invalid:1").unwrap_err().contains("no.such.invalid"));
    }

    #[test]
    fn a_name_without_a_port_that_begins_with_an_underscore_is_that_of_srv_records() {
        for (text, is_srv) in [
            ("tcp://_repd._tcp.example.org", true),
            ("tcp://_repd._tcp.example.org.", true),
            ("tcp://_repd._tcp.repd.default.svc.cluster.local", true),
            ("tcp://_repd._tcp.example.org:5555", false),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert!(endpoint.is_tcp() && endpoint.is_name(), "{text}");
            assert_eq!(matches!(endpoint.address, Address::Srv { .. }), is_srv, "{text}");
            assert_eq!(endpoint.to_string(), text);
        }
        let long = format!("tcp://_repd._tcp.{}.org", "a".repeat(64));
        assert!(long.parse::<Endpoint>().is_err());
    }

    #[test]
    fn a_path_is_taken_up_to_what_the_system_takes() {
        assert!(format!("ipc:///{}", "x".repeat(106)).parse::<Endpoint>().is_ok());
        assert!(format!("ipc:///{}", "x".repeat(107)).parse::<Endpoint>().is_err());
    }

    #[test]
    fn one_connects_to_one_place() {
        let connect = |text: &str| text.parse::<Endpoint>().unwrap().to_connect();
        assert_eq!(connect("tcp://localhost:5555").unwrap().0, "tcp://127.0.0.1:5555");
        assert_eq!(connect("tcp://[::1]:5555").unwrap(), ("tcp://[::1]:5555".into(), true));
        assert!(connect("tcp://*:5555").is_err());
        assert!(connect("tcp://127.0.0.1:*").is_err());
        assert!(connect("fd://clients").is_err());
    }
}
