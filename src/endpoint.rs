//! Endpoints, checked before they reach libzmq, which takes what it should refuse.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::dns;
use crate::error::Error;
use crate::text::is_escaped;

mod connect;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod host;
mod inherited;
mod listener;
mod resolve;
mod targets;

use connect::ONLY_FOR;
pub(crate) use host::{Host, is_local};
pub(crate) use listener::{Listener, Listeners, OwnAddresses, SocketFile};
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

/// Maximum length of a path in bytes: `sun_path` of `sockaddr_un` has 108, the last of which is
/// zero (unix(7)).
const MAX_PATH: usize = 107;

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
        let address = address(text).map_err(|why| EndpointError { text: text.into(), why })?;
        Ok(Endpoint { text: text.into(), address })
    }
}

fn address(text: &str) -> Result<Address, String> {
    if text.chars().any(|c| c.is_whitespace() || is_escaped(c)) {
        return Err(format!("an endpoint has no blanks or control characters; {GIVE}"));
    }
    match text.split_once("://") {
        Some(("tcp", rest)) => tcp(rest),
        Some(("ipc", rest)) => ipc(rest),
        Some(("fd", name)) => inherited(name),
        Some((scheme, _)) => {
            let given = scheme.escape_default();
            Err(format!("no transport {given}://; {GIVE}"))
        }
        None => Err(format!("no transport; {GIVE}")),
    }
}

const GIVE: &str = "give tcp://HOST:PORT or ipc://PATH";

fn tcp(rest: &str) -> Result<Address, String> {
    if rest.starts_with('_') && !rest.contains(':') {
        return srv(rest);
    }
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Err("no port; give tcp://HOST:PORT, such as tcp://127.0.0.1:5555".into());
    };
    let port = match port {
        "*" => 0,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits
            .parse()
            .map_err(|_| "no such port; give one from 1 to 65535, or * for any".to_string())?,
        _ => return Err("no such port; give one from 1 to 65535, or * for any".into()),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match (host, bracketed) {
        ("*", _) => Host::Any,
        ("", _) | (_, Some("")) => {
            return Err("no host; give * for every interface, an address or a name".into());
        }
        (_, Some(v6)) if v6.contains(':') => Host::Named(v6.into()),
        (host, _) if host.contains(['/', ';', ',', '[', ']', '@']) => {
            return Err("no such host; give *, an address, an interface or a name".into());
        }
        (host, _) if host.contains(':') => {
            return Err("an IPv6 address needs brackets: tcp://[::1]:5555".into());
        }
        (host, _) => Host::Named(host.into()),
    };
    Ok(Address::Tcp { host, port })
}

fn srv(name: &str) -> Result<Address, String> {
    if !dns::is_name(name) || name.split('.').filter(|label| !label.is_empty()).count() < 3 {
        return Err("no such name of SRV records; give _SERVICE._PROTO.NAME, such as \
                    tcp://_repd._tcp.example.org, or a port"
            .into());
    }
    Ok(Address::Srv { name: name.into() })
}

fn ipc(path: &str) -> Result<Address, String> {
    if path.len() > MAX_PATH {
        let length = path.len();
        return Err(format!("that path has {length} bytes; give one of at most {MAX_PATH}"));
    }
    match path.strip_prefix('@') {
        _ if path == "*" => Err("no path; name a file, such as ipc:///run/repd.sock".into()),
        Some("") => Err("no name behind the @; give ipc://@NAME".into()),
        Some(name) => Ok(Address::Abstract { name: name.into() }),
        None if path.is_empty() => {
            Err("no path; give ipc://PATH, such as ipc:///run/repd.sock".into())
        }
        None if Path::new(path).file_name().is_none() || path.ends_with('/') => {
            Err("that is a folder; name a file in it".into())
        }
        None => Ok(Address::Ipc { path: path.into() }),
    }
}

/// Maximum length of the name of a descriptor in bytes (systemd.socket(5), FileDescriptorName=).
const MAX_NAME: usize = 255;

fn inherited(name: &str) -> Result<Address, String> {
    let is_name = !name.is_empty() && name.len() <= MAX_NAME && !name.contains([':', '/']);
    if !is_name {
        return Err("no such name; give that of FileDescriptorName= in the socket unit, \
                    such as fd://clients"
            .into());
    }
    Ok(Address::Inherited { name: name.into() })
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
