//! The limit of open files: raised at the start, and checked against what the process needs.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::error::Error;

/// Files that any process has open.
const BASE_FILES: rlim_t = 32;

/// Files to spare, for the first connections.
const SPARE_FILES: rlim_t = 16;

/// Files of a worker: an event descriptor for each end of its lane, and one to spare.
const FILES_PER_WORKER: rlim_t = 3;

/// Files of a worker's program: two pipes for its requests and replies, its pidfd, the pipe of its
/// standard error; and more for a moment while the next one is started.
const FILES_PER_PROGRAM: rlim_t = 12;

const FILES_PER_IO_THREAD: rlim_t = 3;

/// Files of an upstream: its connection, the event descriptors of its socket and monitor, and as
/// many while it is replaced.
const FILES_PER_UPSTREAM: rlim_t = 6;

/// Files of an external worker: its connection, and one more while it is replaced.
const FILES_PER_EXTERNAL_WORKER: rlim_t = 2;

/// Files of a client: its connection, its event descriptor, and one more while it is replaced.
const FILES_PER_CLIENT: rlim_t = 3;

/// What a service opens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub workers: usize,
    /// Number of programs that run at a time.
    pub programs: usize,
    pub io_threads: usize,
    pub upstreams: usize,
    /// Number of external workers that can connect in any case.
    pub external_workers: usize,
    /// Number of connections of who reads its status.
    pub status_connections: usize,
}

/// Raises the soft limit to the hard one, since each client takes a descriptor. Returns how many
/// descriptors are left for clients.
///
/// # Errors
/// The limit is too low for these needs. It must not be found out later: libzmq ends the process
/// when it cannot open what it needs at the start.
pub(crate) fn raise(needs: Needs) -> Result<usize, Error> {
    let files = BASE_FILES
        + FILES_PER_WORKER * needs.workers as rlim_t
        + FILES_PER_PROGRAM * needs.programs as rlim_t
        + FILES_PER_IO_THREAD * needs.io_threads as rlim_t
        + FILES_PER_UPSTREAM * needs.upstreams as rlim_t
        + FILES_PER_EXTERNAL_WORKER * needs.external_workers as rlim_t
        + needs.status_connections as rlim_t;
    let limit = require("serve", files + SPARE_FILES)?;
    Ok(usize::try_from(limit - files).unwrap_or(usize::MAX))
}

/// Raises the limit as [`raise`] does, for a process with that many clients of its own.
pub(crate) fn raise_for_clients(clients: usize) -> Result<(), Error> {
    let files = BASE_FILES + SPARE_FILES + FILES_PER_CLIENT * clients as rlim_t;
    require("have so many clients", files).map(drop)
}

/// Returns the soft and the hard limit that this process was started with.
pub(crate) fn initial_limits() -> (rlim_t, rlim_t) {
    static INITIAL: OnceLock<(rlim_t, rlim_t)> = OnceLock::new();
    // getrlimit(2) fails only on an invalid argument.
    *INITIAL.get_or_init(|| getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024)))
}

/// Raises the limit and returns it.
///
/// # Errors
/// Fewer than `needed` files are allowed to do `what`.
fn require(what: &str, needed: rlim_t) -> Result<rlim_t, Error> {
    let cannot = |error| Error::failed("cannot read the limit of open files").with_cause(error);
    initial_limits();
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|e: nix::Error| cannot(e.desc()))?;
    let raised = soft == hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let limit = if raised { hard } else { soft };
    if limit < needed {
        return Err(Error::config(format!("cannot {what} with {limit} open files allowed"))
            .with_remedy(format!("allow at least {needed} (ulimit -n, LimitNOFILE=)")));
    }
    Ok(limit)
}
