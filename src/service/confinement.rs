//! What `repd serve` with keys still may do once it serves, if a handler of its own answers.

use std::path::{Path, PathBuf, absolute};

use log::{debug, warn};

use crate::config::{Backend, Config, Workers, WorkersHandler};
use crate::endpoint::{Address, Endpoint};
use crate::sys::landlock::{Allowed, restrict};

/// What looking up a name reads, with the modules that nsswitch.conf(5) names; and what the system
/// says of itself and of this process.
const SYSTEM: [&str; 10] = [
    "/etc",
    "/lib",
    "/lib64",
    "/nix/store",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/proc",
    "/sys",
    "/dev/urandom",
];

/// Files of name look-ups that may be links to elsewhere.
const LOOK_UP: [&str; 4] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf"];

/// The port of DNS, where an answer is too long for UDP (RFC 7766).
const DNS: u16 = 53;

/// Keeps this thread, and those that it starts, from what such a service does not need. Without
/// keys, or with a program, nothing changes, nor on a system that has no Landlock.
pub(super) fn begin(config: &Config) {
    if config.keys.key.is_none() || has_program(config) {
        return;
    }
    match restrict(&allowed(config)) {
        Ok(true) => debug!("Landlock: only what is needed can be opened from now on"),
        Ok(false) => debug!("this system has no Landlock: all that this user may open can be"),
        Err(error) => warn!("cannot use Landlock: {error}"),
    }
}

fn has_program(config: &Config) -> bool {
    let Backend::Workers(Workers { handler, .. }) = &config.backend else { return false };
    matches!(handler, WorkersHandler::Program(_))
}

fn allowed(config: &Config) -> Allowed {
    let files = &config.keys;
    // The key is read already.
    let lists = [&files.clients, &files.workers, &files.servers].into_iter().flatten();
    let linked = LOOK_UP.iter().map(Path::new).chain(lists.map(PathBuf::as_path));
    let system = SYSTEM.iter().map(PathBuf::from);
    let own = config.listen.iter().chain(config.external()).chain(&config.status);
    let connects = config.upstreams().iter().any(Endpoint::is_tcp);
    Allowed {
        read: system.chain(linked.flat_map(folders_of)).collect(),
        sockets: own.filter_map(socket_folder).collect(),
        ports: (!connects).then(|| vec![DNS]),
    }
}

/// Returns the folder of a file, in which it may be replaced; and of each link on the way, that in
/// which what it leads to is, since it may be led to another one there.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let file = absolute(file).unwrap_or_default();
    let links = file.ancestors().filter(|path| **path == file || path.is_symlink());
    let folders = links.filter_map(|path| Some(path.canonicalize().ok()?.parent()?.to_path_buf()));
    // Not all there is, where such as /var/run is a link.
    let is_some_folder = |folder: &PathBuf| folder.parent().is_some();
    folders.chain(file.parent().map(PathBuf::from)).filter(is_some_folder).collect()
}

/// Returns the folder where the socket of an ipc endpoint is made.
fn socket_folder(endpoint: &Endpoint) -> Option<PathBuf> {
    let Address::Ipc { path } = endpoint.address() else { return None };
    path.parent().map(|folder| if folder == Path::new("") { ".".into() } else { folder.into() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_list_may_be_replaced_where_it_is_and_where_its_links_lead() {
        let folder = std::env::temp_dir().join(format!("repd-links-{}", std::process::id()));
        for name in ["releases/1", "own"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let folder = folder.canonicalize().unwrap();
        fs::write(folder.join("releases/1/clients"), "").unwrap();
        symlink("releases/1", folder.join("current")).unwrap();
        symlink("../current/clients", folder.join("own/clients")).unwrap();
        let found = |file: &str| folders_of(&folder.join(file));
        let (current, own) = (found("current/clients"), found("own/clients"));
        fs::remove_dir_all(&folder).unwrap();
        let releases = folder.join("releases");
        assert_eq!(current, [releases.join("1"), releases.clone(), folder.join("current")]);
        assert_eq!(own, [releases.join("1"), folder.join("own")]);
        assert!(folders_of(Path::new("/no-such-file")).is_empty());
    }
}
