//! Binds the endpoints of a service. libzmq is handed these sockets later: bound by it, errors
//! would be vague, and an ipc path would be stolen from a live service.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

use crate::config::Config;
use crate::endpoint::inherited::{self, Inherited};
use crate::endpoint::place::{Place, is_reached};
use crate::endpoint::socket_file::{SocketFile, bind_file, explain_ipc, identity};
use crate::endpoint::{Address, Endpoint, GIVE, Host, ONLY_FOR};
use crate::error::{Error, plain};

/// The bound endpoints of a service.
pub(crate) struct Listeners {
    /// Endpoints for clients.
    pub listen: Vec<Listener>,
    /// Endpoints for workers.
    pub backend: Vec<Listener>,
    /// The endpoint that shows how the service is doing.
    pub status: Option<Listener>,
    /// All of these that are TCP.
    pub addresses: OwnAddresses,
}

/// The addresses at which this service listens over TCP.
#[derive(Clone, Debug)]
pub(crate) struct OwnAddresses(Vec<SocketAddr>);

impl OwnAddresses {
    /// Returns true if a connection to `address` arrives at one of them.
    pub fn are_reached_at(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|own| is_reached(*own, address))
    }
}

impl Listeners {
    /// Binds every endpoint that `config` names.
    ///
    /// # Errors
    /// Returns an error if an endpoint cannot be bound, if two of them overlap, or if an upstream
    /// is one of them.
    pub fn bind(config: &Config) -> Result<Listeners, Error> {
        let mut own = Vec::new();
        let mut bind = |endpoints: &[Endpoint]| {
            let before = own.len();
            for endpoint in endpoints {
                own.extend(Listener::bind(endpoint, config.backlog, &own)?);
            }
            Ok::<_, Error>(own.len() - before)
        };
        let for_clients = bind(&config.listen)?;
        let for_workers = bind(config.external())?;
        if let Some(status) = config.status.as_ref().filter(|status| status.is_inherited()) {
            return Err(cannot_listen(status).with_cause(ONLY_FOR).with_remedy(GIVE));
        }
        bind(config.status.as_slice())?;
        inherited::warn_of_others(config.listen.iter().chain(config.external()));
        for upstream in config.upstreams() {
            if let Some(own) = own.iter().find(|listener| listener.place.is_reached_at(upstream)) {
                return Err(Error::config(format!("cannot use the upstream {upstream}"))
                    .with_cause(format!("it is {} of this service itself", own.endpoint))
                    .with_remedy("give the endpoint of another service"));
            }
        }
        let addresses = OwnAddresses(own.iter().filter_map(Listener::address).collect());
        let mut backend = own.split_off(for_clients);
        let status = backend.split_off(for_workers).pop();
        Ok(Listeners { listen: own, backend, status, addresses })
    }
}

/// A bound endpoint.
#[derive(Debug)]
pub(crate) struct Listener {
    pub fd: OwnedFd,
    /// The endpoint as the user wrote it.
    pub endpoint: Endpoint,
    /// The file of an ipc endpoint with a path.
    pub file: Option<SocketFile>,
    /// The endpoint as libzmq is told it.
    pub name: String,
    place: Place,
    backlog: usize,
}

impl Listener {
    /// Binds `endpoint`, where up to `backlog` connections may wait to be accepted. A tcp endpoint
    /// accepts none before [`Listener::listen`]. What is handed over is bound already, and may be
    /// several sockets.
    ///
    /// # Errors
    /// Returns an error if the system refuses `endpoint`, or if it overlaps with one of `own`.
    pub fn bind(
        endpoint: &Endpoint,
        backlog: usize,
        own: &[Listener],
    ) -> Result<Vec<Listener>, Error> {
        let cannot = |why: String| cannot_listen(endpoint).with_cause(why);
        let check_free = |place: &Place| match own.iter().find(|other| other.place.overlaps(place))
        {
            Some(other) => {
                Err(format!("{} of this service has it already; give another", other.endpoint))
            }
            None => Ok(()),
        };
        let (fd, file, place): (OwnedFd, _, _) = match endpoint.address() {
            Address::Tcp { host, port } => {
                let address = host.resolve(*port).map_err(cannot)?;
                check_free(&Place::Tcp(address)).map_err(cannot)?;
                let fd = bind_tcp(address)
                    .map_err(|error| cannot(explain_tcp(error.into(), host, *port)))?;
                (fd, None, Place::Tcp(address))
            }
            Address::Srv { .. } => {
                let why = "SRV records tell where to connect to";
                return Err(cannot(why.into()).with_remedy(GIVE));
            }
            Address::Ipc { path } => {
                if let Ok(identity) = identity(path) {
                    check_free(&Place::File(identity)).map_err(cannot)?;
                }
                let (listener, file) = bind_file(path).map_err(cannot)?;
                let place = Place::File(file.identity);
                (listener.into(), Some(file), place)
            }
            Address::Abstract { name } => {
                let place = Place::Abstract(name.clone());
                check_free(&place).map_err(cannot)?;
                let listener = UnixAddr::from_abstract_name(name)
                    .and_then(|address| UnixListener::bind_addr(&address))
                    .map_err(|error| cannot(explain_ipc(error)))?;
                (listener.into(), None, place)
            }
            Address::Inherited { name } => {
                let sockets = inherited::sockets(name).map_err(cannot)?;
                let listeners = sockets.into_iter().map(|Inherited { fd, place, name }| {
                    check_free(&place).map_err(cannot)?;
                    let endpoint = endpoint.clone();
                    Ok(Listener { fd, endpoint, file: None, name, place, backlog })
                });
                return listeners.collect();
            }
        };
        let name = endpoint.to_string();
        Ok(vec![Listener { fd, endpoint: endpoint.clone(), file, name, place, backlog }])
    }

    /// Returns true if it goes on listening when this process has ended.
    pub fn is_inherited(&self) -> bool {
        self.endpoint.is_inherited()
    }

    /// Returns true if clients come over TCP.
    pub fn is_tcp(&self) -> bool {
        self.address().is_some()
    }

    /// Returns the address that it is bound to; `None` if it is no TCP endpoint.
    fn address(&self) -> Option<SocketAddr> {
        if let Place::Tcp(address) = self.place { Some(address) } else { None }
    }

    /// Lets clients connect. At ipc endpoints they can since `bind`: another service would remove a
    /// socket file where nobody listens, as one that was left behind. What is handed over listens
    /// already, with a backlog of its own.
    pub fn listen(&self) -> Result<(), Error> {
        if self.is_inherited() {
            return Ok(());
        }
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        listen(&self.fd, Backlog::new(backlog).unwrap_or(Backlog::MAXCONN)).map_err(|error| {
            cannot_listen(&self.endpoint).with_cause(match self.endpoint.address() {
                Address::Tcp { host, port } => explain_tcp(error.into(), host, *port),
                _ => explain_ipc(error.into()),
            })
        })
    }
}

fn cannot_listen(endpoint: &Endpoint) -> Error {
    Error::config(format!("cannot listen on {endpoint}"))
}

/// Returns a socket that is bound to `address` and does not listen yet. One that is bound to every
/// IPv6 address is bound to every IPv4 address too, whatever `net.ipv6.bindv6only` says.
fn bind_tcp(address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &!address.ip().is_unspecified())?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(fd)
}

/// Returns the cause and the remedy of an error on a tcp endpoint.
fn explain_tcp(error: io::Error, host: &Host, port: u16) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "the port is in use; stop the process that has it or give another port".into()
        }
        ErrorKind::PermissionDenied if port < 1024 => format!(
            "no permission for port {port}; give one from 1024 up, \
             or the capability CAP_NET_BIND_SERVICE"
        ),
        ErrorKind::AddrNotAvailable => {
            let Host::Named(name) = host else { return plain(error) };
            format!("{name} is no address of this machine; give one that is, or *")
        }
        _ => format!("{}; give another address", plain(error)),
    }
}
