//! Taking an endpoint: a listening socket of the system's, so that its errors are exact and no live
//! service's path is stolen.

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
use crate::endpoint::{Address, Endpoint, Host, is_local};
use crate::error::{Error, plain};

/// The endpoints of a service, taken before anything else is started.
pub(crate) struct Taken {
    /// Where clients connect.
    pub listen: Vec<Listener>,
    /// Where workers do.
    pub backend: Vec<Listener>,
}

impl Taken {
    /// Takes each endpoint that `config` names.
    ///
    /// # Errors
    /// One that cannot be had, or that another of these has already; or an upstream that is one of these.
    pub fn new(config: &Config) -> Result<Taken, Error> {
        let mut own = Vec::new();
        for endpoint in config.listen.iter().chain(&config.backend) {
            let taken = Listener::take(endpoint, config.backlog, &own)?;
            own.push(taken);
        }
        for upstream in &config.upstream {
            if let Some(own) = own.iter().find(|listener| listener.place.is_reached_at(upstream)) {
                return Err(Error::config(format!("cannot use the upstream {upstream}"))
                    .because(format!("it is {} of this service itself", own.endpoint))
                    .remedy("give that of another"));
            }
        }
        let backend = own.split_off(config.listen.len());
        Ok(Taken { listen: own, backend })
    }
}

/// An endpoint that this process has taken.
#[derive(Debug)]
pub(crate) struct Listener {
    pub fd: OwnedFd,
    /// The endpoint as the user wrote it.
    pub endpoint: Endpoint,
    pub file: Option<SocketFile>,
    place: Place,
    backlog: usize,
}

impl Listener {
    /// Takes `endpoint`, which none of `own` may have, and where `backlog` connections may wait to be accepted.
    pub fn take(endpoint: &Endpoint, backlog: usize, own: &[Listener]) -> Result<Listener, Error> {
        let cannot = |why: String| cannot(endpoint).because(why);
        let is_free = |place: &Place| match own.iter().find(|other| other.place.overlaps(place)) {
            Some(other) => {
                Err(format!("{} of this service has it already; give another", other.endpoint))
            }
            None => Ok(()),
        };
        let (fd, file, place): (OwnedFd, _, _) = match endpoint.address() {
            Address::Tcp { host, port } => {
                let address = host.resolve(*port).map_err(cannot)?;
                is_free(&Place::Tcp(address)).map_err(cannot)?;
                let fd = bind_tcp(address)
                    .map_err(|error| cannot(tcp_trouble(error.into(), host, *port)))?;
                (fd, None, Place::Tcp(address))
            }
            Address::Ipc { path } => {
                if let Ok(identity) = identity(path) {
                    is_free(&Place::File(identity)).map_err(cannot)?;
                }
                let (listener, file) = bind_file(path).map_err(cannot)?;
                let place = Place::File(file.identity);
                (listener.into(), Some(file), place)
            }
            Address::Abstract { name } => {
                let place = Place::Abstract(name.clone());
                is_free(&place).map_err(cannot)?;
                let listener = UnixAddr::from_abstract_name(name)
                    .and_then(|address| UnixListener::bind_addr(&address))
                    .map_err(|error| cannot(ipc_trouble(error)))?;
                (listener.into(), None, place)
            }
        };
        Ok(Listener { fd, endpoint: endpoint.clone(), file, place, backlog })
    }

    /// Lets clients connect. At ipc endpoints they can from the beginning: a file where nobody listens would be taken
    /// for one that was left behind.
    pub fn listen(&self) -> Result<(), Error> {
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        listen(&self.fd, Backlog::new(backlog).unwrap_or(Backlog::MAXCONN)).map_err(|error| {
            cannot(&self.endpoint).because(
                match (self.endpoint.address(), io::Error::from(error)) {
                    (Address::Tcp { host, port }, error) => tcp_trouble(error, host, *port),
                    (_, error) => ipc_trouble(error),
                },
            )
        })
    }
}

fn cannot(endpoint: &Endpoint) -> Error {
    Error::config(format!("cannot listen on {endpoint}"))
}

/// Where the system has an endpoint.
#[derive(Debug)]
enum Place {
    Tcp(SocketAddr),
    /// By device and inode.
    File((u64, u64)),
    Abstract(String),
}

impl Place {
    /// Whether both cannot be had.
    fn overlaps(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Tcp(one), Place::Tcp(other)) => {
                one.port() == other.port()
                    && one.port() != 0
                    && (has(one.ip(), other.ip()) || has(other.ip(), one.ip()))
            }
            (Place::File(one), Place::File(other)) => one == other,
            (Place::Abstract(one), Place::Abstract(other)) => one == other,
            _ => false,
        }
    }

    /// Whether who connects to `endpoint` comes here.
    fn is_reached_at(&self, endpoint: &Endpoint) -> bool {
        match (self, endpoint.address()) {
            (Place::Tcp(own), Address::Tcp { host, port }) => {
                let meant = host.resolve(*port).map(|meant| meant.ip());
                own.port() == *port && meant.is_ok_and(|ip| has(own.ip(), ip) && is_local(ip))
            }
            (Place::File(own), Address::Ipc { path }) => identity(path).is_ok_and(|it| it == *own),
            (Place::Abstract(own), Address::Abstract { name }) => own == name,
            _ => false,
        }
    }
}

/// Whether a socket that is bound to `bound` has that address too.
fn has(bound: IpAddr, ip: IpAddr) -> bool {
    match (bound, ip) {
        (IpAddr::V4(any), IpAddr::V6(ip)) => {
            ip.to_ipv4_mapped().is_some_and(|ip| any.is_unspecified() || any == ip)
        }
        _ => bound == ip || bound.is_unspecified(),
    }
}

/// A socket that has that address, where nobody can connect yet. One for every IPv6 address is for every IPv4 address
/// too, whatever the system's `net.ipv6.bindv6only` is.
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

/// The file of an ipc endpoint, removed with this value if it is still the one that we made.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Gone already, or in a folder that has become read-only: nothing is to be done.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

fn bind_file(path: &Path) -> Result<(UnixListener, SocketFile), String> {
    // Held until this returns, so that of two services that find the same stale file one waits. Who
    // may not open the folder is told so below, if it matters.
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let _lock = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
    match fs::symlink_metadata(path) {
        Ok(file) if file.is_dir() => return Err("that is a folder; name a file in it".into()),
        Ok(file) if !file.file_type().is_socket() => {
            return Err("there is a file that is no socket; remove it or give another path".into());
        }
        Ok(_) if answers(path)? => {
            return Err("another process listens there; stop it or give another path".into());
        }
        Ok(_) => fs::remove_file(path).map_err(|error| {
            format!("the socket left there cannot be removed: {}", ipc_trouble(error))
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(error) => return Err(ipc_trouble(error)),
    }
    let listener = UnixListener::bind(path).map_err(ipc_trouble)?;
    let identity = identity(path).map_err(ipc_trouble)?;
    Ok((listener, SocketFile { path: path.into(), identity }))
}

/// Whether a process listens at the path. Does not wait: a listener whose backlog is full is one.
fn answers(path: &Path) -> Result<bool, String> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let address = RawUnixAddr::new(path);
    let reached = probe.and_then(|probe| connect(probe.as_fd().as_raw_fd(), &address?));
    match reached {
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        // A stream socket is not the only kind that a path can have.
        Err(Errno::EPROTOTYPE) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(error) => Err(format!(
            "cannot tell whether a process listens there: {}; give another path",
            plain(error.into())
        )),
    }
}

fn tcp_trouble(error: io::Error, host: &Host, port: u16) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "the port is in use; stop the process that has it or give another port".into()
        }
        ErrorKind::PermissionDenied if port < 1024 => format!(
            "no permission for port {port}; give one from 1024 up, or the capability CAP_NET_BIND_SERVICE"
        ),
        ErrorKind::AddrNotAvailable => {
            let Host::Named(name) = host else { return plain(error) };
            format!("{name} is no address of this machine; give one that is, or *")
        }
        _ => format!("{}; give another address", plain(error)),
    }
}

fn ipc_trouble(error: io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "make the folder first, or give another path",
        ErrorKind::NotADirectory => "a file stands where a folder should; give another path",
        ErrorKind::PermissionDenied => "give a path in a folder that this user may write to",
        ErrorKind::AddrInUse => "another process listens there; stop it or give another name",
        _ => "give another path",
    };
    format!("{}; {remedy}", plain(error))
}
