//! Landlock (landlock(7)): a process gives up what its user may do and it does not need.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

static IS_RESTRICTED: AtomicBool = AtomicBool::new(false);

/// What is still allowed. Nothing else is read, nothing is written, and no program is run.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    /// Files that may be read, and folders with all that is in them.
    pub read: Vec<PathBuf>,
    /// Folders where sockets may be made and removed.
    pub sockets: Vec<PathBuf>,
    /// The TCP ports that may be connected to; any if there is no list.
    pub ports: Option<Vec<u16>>,
}

/// Allows this thread, and those that it starts later, nothing more than that, nor signals to other
/// processes: as much of it as this system's Landlock knows. Returns false if it has none. Files that
/// are open stay so, and sockets of unix(7) can be connected to.
///
/// # Errors
/// A system that refuses it; then all is allowed as before.
pub(crate) fn restrict(allowed: &Allowed) -> Result<bool, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let sockets = AccessFs::MakeSock | AccessFs::RemoveFile | AccessFs::ReadDir;
    let ports = allowed.ports.as_ref();
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(ABI::V5))?;
    if ports.is_some() {
        rules = rules.handle_access(AccessNet::ConnectTcp)?;
    }
    let rules = rules.scope(Scope::Signal)?.create()?;
    let to_port = |port: &u16| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp));
    let status = rules
        .add_rules(path_beneath_rules(&allowed.read, read))?
        .add_rules(path_beneath_rules(allowed.sockets.iter().filter(|it| it.is_dir()), sockets))?
        .add_rules(ports.into_iter().flatten().map(to_port))?
        .restrict_self()?;
    let is_restricted = status.ruleset != RulesetStatus::NotEnforced;
    IS_RESTRICTED.store(is_restricted, Ordering::Relaxed);
    Ok(is_restricted)
}

/// Returns true if [`restrict`] was called, on a system with Landlock.
pub(crate) fn is_restricted() -> bool {
    IS_RESTRICTED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{self, ErrorKind, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn nothing_is_allowed_but_what_is_said() {
        let folder = std::env::temp_dir().join(format!("repd-landlock-{}", std::process::id()));
        let [read, sockets, other] = ["read", "sockets", "other"].map(|name| folder.join(name));
        for folder in [&read, &sockets, &other] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("file"), "text").unwrap();
        }
        let [open, closed] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [open, closed] = [open, closed].map(|it| (it.local_addr().unwrap(), it));
        let paths = (read.clone(), sockets.clone(), other.clone());
        // Its own thread alone is restricted.
        let restricted = thread::spawn(move || {
            let (read, sockets, other) = paths;
            let allowed = Allowed {
                read: vec![read.clone(), "/no/such/folder".into()],
                sockets: vec![sockets.clone(), read.join("file")],
                ports: Some(vec![open.0.port()]),
            };
            if !restrict(&allowed).unwrap() {
                let _ = writeln!(io::stderr(), "skipped: this system has no Landlock");
                return;
            }
            let refused = |what: &str, done: io::Result<()>| {
                let kind = done.map_err(|error| error.kind());
                assert_eq!(kind, Err(ErrorKind::PermissionDenied), "{what}");
            };
            assert_eq!(fs::read_to_string(read.join("file")).unwrap(), "text");
            assert_eq!(fs::read_dir(&read).unwrap().count(), 1);
            refused("to read", fs::read(other.join("file")).map(drop));
            refused("to list", fs::read_dir(&other).map(drop));
            for folder in [&read, &sockets, &other] {
                refused("to write", fs::write(folder.join("file"), "other"));
                refused("to make a file", File::create(folder.join("new")).map(drop));
                refused("to make a folder", fs::create_dir(folder.join("new")));
            }
            refused("to remove", fs::remove_file(read.join("file")));
            refused("to run a program", Command::new("/bin/true").status().map(drop));
            drop(UnixListener::bind(sockets.join("socket")).unwrap());
            fs::remove_file(sockets.join("socket")).unwrap();
            refused("to make a socket", UnixListener::bind(other.join("socket")).map(drop));
            // Linux before 6.7 knows nothing of ports.
            if has_ports() {
                refused("to connect", TcpStream::connect(closed.0).map(drop));
            }
            TcpStream::connect(open.0).unwrap();
        });
        let restricted = restricted.join();
        let run = Command::new("/bin/true").status();
        fs::remove_dir_all(&folder).unwrap();
        assert!(restricted.is_ok() && run.unwrap().success());
    }

    /// Returns true if this system's Landlock knows ports.
    fn has_ports() -> bool {
        use landlock::{CompatLevel, Compatible};
        let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        strict.handle_access(AccessNet::ConnectTcp).is_ok()
    }
}
