//! Taking an endpoint: a listening socket of the system's, so that its errors are exact and no live
//! service's path is stolen.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr as RawUnixAddr, connect, listen, socket,
};

use crate::endpoint::{Address, Endpoint, Host};
use crate::error::{Error, plain};

/// An endpoint that this process listens on.
#[derive(Debug)]
pub(crate) struct Listener {
    pub fd: OwnedFd,
    /// The endpoint as the user wrote it.
    pub endpoint: Endpoint,
    pub file: Option<SocketFile>,
}

impl Listener {
    /// Listens at `endpoint`, with room for `backlog` connections that wait to be accepted.
    pub fn open(endpoint: &Endpoint, backlog: usize) -> Result<Listener, Error> {
        let cannot =
            |why: String| Error::config(format!("cannot listen on {endpoint}")).because(why);
        let (fd, file): (OwnedFd, _) = match endpoint.address() {
            Address::Tcp { host, port } => {
                let address = host.resolve(*port).map_err(cannot)?;
                let listener = TcpListener::bind(address)
                    .map_err(|error| cannot(tcp_trouble(error, host, *port)))?;
                (listener.into(), None)
            }
            Address::Ipc { path } => {
                let (listener, file) = bind_file(path).map_err(cannot)?;
                (listener.into(), Some(file))
            }
            Address::Abstract { name } => {
                let listener = UnixAddr::from_abstract_name(name)
                    .and_then(|address| UnixListener::bind_addr(&address))
                    .map_err(|error| cannot(ipc_trouble(error)))?;
                (listener.into(), None)
            }
        };
        // A second listen() only changes the backlog.
        let backlog =
            Backlog::new(i32::try_from(backlog).unwrap_or(i32::MAX)).unwrap_or(Backlog::MAXCONN);
        listen(&fd, backlog).map_err(|error| cannot(plain(error.into())))?;
        Ok(Listener { fd, endpoint: endpoint.clone(), file })
    }
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
