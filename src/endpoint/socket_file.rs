//! The file of an ipc endpoint: taken where it was left behind, never from a service that listens.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::error::plain;

/// The file of an ipc endpoint. Dropping it removes the file, unless another one took its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    pub(super) identity: (u64, u64),
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
pub(super) fn bind_file(path: &Path) -> Result<(UnixListener, SocketFile), String> {
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
    let address = UnixAddr::new(path);
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

/// Returns the cause and the remedy of an error on an ipc endpoint.
pub(super) fn explain_ipc(error: io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::NotFound => "make the folder first, or give another path",
        ErrorKind::NotADirectory => "a file stands where a folder should; give another path",
        ErrorKind::PermissionDenied => "give a path in a folder that this user may write to",
        ErrorKind::AddrInUse => "another process listens there; stop it or give another name",
        _ => "give another path",
    };
    format!("{}; {remedy}", plain(error))
}
