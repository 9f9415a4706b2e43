//! How many files the process may have open.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::config::Config;
use crate::error::Error;

/// What a service has open beside its workers, and a few connections.
const FEW: u64 = 48;

/// What a worker needs: an event descriptor for each end of its lane, with some to spare.
const A_WORKER: u64 = 3;

/// What its program needs beside: pipes to and from it, what tells of its end, what reads its standard
/// error; and a moment's more for the start of the next one.
const A_PROGRAM: u64 = 12;

/// What an I/O thread needs.
const AN_IO_THREAD: u64 = 3;

/// Raises the limit as far as this process may, since each client takes a descriptor. libzmq ends the
/// process when it cannot open what it needs at the start, so that is looked after here.
pub(crate) fn raise(config: &Config) -> Result<(), Error> {
    need("serve", of_service(config))
}

/// Likewise for a service whose workers have a program each.
pub(crate) fn raise_for_programs(config: &Config) -> Result<(), Error> {
    let programs = A_PROGRAM * config.workers.max(1) as u64;
    need("serve", of_service(config) + programs)
}

fn of_service(config: &Config) -> u64 {
    FEW + A_WORKER * config.workers as u64 + AN_IO_THREAD * config.io_threads as u64
}

/// Likewise for a process that has so many clients of its own, each with a connection and an event
/// descriptor, and some more for a moment when it is given up.
pub(crate) fn raise_for_clients(clients: usize) -> Result<(), Error> {
    need("have so many clients", FEW + 3 * clients as u64)
}

/// The limit that this process was started with, soft and hard.
pub(crate) fn at_start() -> (rlim_t, rlim_t) {
    static AT_START: OnceLock<(rlim_t, rlim_t)> = OnceLock::new();
    // It fails on a wrong address alone.
    *AT_START.get_or_init(|| getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024)))
}

fn need(what: &str, needed: u64) -> Result<(), Error> {
    let cannot = |error| Error::failed("cannot tell the limit of open files").because(error);
    at_start();
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|e: nix::Error| cannot(e.desc()))?;
    let raised = soft == hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let limit = if raised { hard } else { soft };
    if limit < needed {
        return Err(Error::config(format!("cannot {what} with {limit} open files allowed"))
            .remedy(format!("allow at least {needed} (ulimit -n, LimitNOFILE=)")));
    }
    Ok(())
}
