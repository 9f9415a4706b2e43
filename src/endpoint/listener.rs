//! Binds the endpoints of a service. libzmq is handed these sockets later: bound by it, errors
//! would be vague, and an ipc path would be stolen from a live service.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr as RawUnixAddr, bind,
    connect, listen, setsockopt, socket, sockopt,
};

use crate::config::Config;
use crate::endpoint::inherited::{self, Inherited};
use crate::endpoint::{Address, Endpoint, GIVE, Host, ONLY_FOR, is_local};
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

/// The identity of an endpoint in the system.
#[derive(Debug)]
pub(super) enum Place {
    Tcp(SocketAddr),
    /// Device and inode of the socket file.
    File((u64, u64)),
    Abstract(String),
    /// A socket file that this process does not see.
    Elsewhere(PathBuf),
}

impl Place {
    /// Returns true if only one of the two can be bound.
    fn overlaps(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Tcp(one), Place::Tcp(other)) => {
                one.port() == other.port()
                    && one.port() != 0
                    && (covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
            }
            (Place::File(one), Place::File(other)) => one == other,
            (Place::Abstract(one), Place::Abstract(other)) => one == other,
            (Place::Elsewhere(one), Place::Elsewhere(other)) => one == other,
            _ => false,
        }
    }

    /// Returns true if a connection to `endpoint` arrives here.
    fn is_reached_at(&self, endpoint: &Endpoint) -> bool {
        match (self, endpoint.address()) {
            (Place::Tcp(own), Address::Tcp { host, port }) => {
                // A name server may take its time: where such a name leads is seen later.
                let meant = host.is_known_here().then(|| host.resolve(*port));
                matches!(meant, Some(Ok(meant)) if is_reached(*own, meant))
            }
            (Place::File(own), Address::Ipc { path }) => identity(path).is_ok_and(|it| it == *own),
            (Place::Abstract(own), Address::Abstract { name }) => own == name,
            _ => false,
        }
    }
}

/// Returns true if a connection to `address` arrives at a socket of this machine that is bound to `own`.
fn is_reached(own: SocketAddr, address: SocketAddr) -> bool {
    own.port() == address.port() && covers(own.ip(), address.ip()) && is_local(address.ip())
}

/// Returns true if a socket that is bound to `bound` also accepts connections to `ip`.
fn covers(bound: IpAddr, ip: IpAddr) -> bool {
    match (bound, ip) {
        (IpAddr::V4(any), IpAddr::V6(ip)) => {
            ip.to_ipv4_mapped().is_some_and(|ip| any.is_unspecified() || any == ip)
        }
        _ => bound == ip || bound.is_unspecified(),
    }
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

/// The file of an ipc endpoint. Dropping it removes the file, unless another one took its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Nothing can be done about a file that is gone, or in a folder that is read-only now.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns the device and inode of the file at `path`, without following a symbolic link.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Binds a socket file at `path`, in place of one that no process listens at any more.
fn bind_file(path: &Path) -> Result<(UnixListener, SocketFile), String> {
    // Two services may find the same stale file: the lock, held until this returns, makes one wait.
    // A folder that cannot be opened is no error yet; if it matters, `bind` below fails.
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let _lock = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
    match fs::symlink_metadata(path) {
        Ok(file) if file.is_dir() => return Err("that is a folder; name a file in it".into()),
        Ok(file) if !file.file_type().is_socket() => {
            return Err("there is a file that is no socket; remove it or give another path".into());
        }
        Ok(_) if is_listening(path)? => {
            return Err("another process listens there; stop it or give another path".into());
        }
        Ok(_) => fs::remove_file(path).map_err(|error| {
            format!("the socket left there cannot be removed: {}", explain_ipc(error))
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(error) => return Err(explain_ipc(error)),
    }
    let listener = UnixListener::bind(path).map_err(explain_ipc)?;
    let identity = identity(path).map_err(explain_ipc)?;
    Ok((listener, SocketFile { path: path.into(), identity }))
}

/// Returns true if a process listens at `path`. Never waits: EAGAIN comes of a listener whose
/// backlog is full.
fn is_listening(path: &Path) -> Result<bool, String> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let address = RawUnixAddr::new(path);
    let reached = probe.and_then(|probe| connect(probe.as_fd().as_raw_fd(), &address?));
    match reached {
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        // Somebody listens there with another type of socket.
        Err(Errno::EPROTOTYPE) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(error) => Err(format!(
            "cannot tell whether a process listens there: {}; give another path",
            plain(error.into())
        )),
    }
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

/// Returns the cause and the remedy of an error on an ipc endpoint.
fn explain_ipc(error: io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "make the folder first, or give another path",
        ErrorKind::NotADirectory => "a file stands where a folder should; give another path",
        ErrorKind::PermissionDenied => "give a path in a folder that this user may write to",
        ErrorKind::AddrInUse => "another process listens there; stop it or give another name",
        _ => "give another path",
    };
    format!("{}; {remedy}", plain(error))
}
