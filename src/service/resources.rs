//! What a service is made of besides its sockets: checked and counted before the first of these.

use std::sync::Arc;

use crate::auth::Access;
use crate::config::{Backend, Config, Workers, WorkersHandler};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::handler::NewHandler;
use crate::status;
use crate::sys::rlimit::{self, Needs};

/// What a service is made of besides its sockets.
pub(super) struct Resources {
    /// Its keys, and who may connect; `None` if everybody may.
    pub access: Option<Arc<Access>>,
    /// The number of workers of this process, and what makes their handlers; `None` if requests are
    /// answered elsewhere.
    pub workers: Option<(usize, NewHandler)>,
    /// How many clients may be connected.
    pub clients: usize,
}

/// Number of external workers for which open files are kept back from clients.
const EXTERNAL_WORKERS: usize = 8;

/// Number of addresses of a name for which open files are kept back from clients.
const ADDRESSES: usize = 8;

/// Returns how many addresses an upstream has, or is expected to have.
fn addresses(upstream: &Endpoint) -> usize {
    if upstream.is_name() { ADDRESSES } else { 1 }
}

/// Returns what a service can be made of.
///
/// # Errors
/// A setting out of its range, a program that cannot be run, or too few open files.
pub(super) fn resources(config: &Config) -> Result<Resources, Error> {
    if let Some(mistake) = config.invalid_setting() {
        return Err(Error::config(format!("cannot use {mistake}")));
    }
    let access = Access::open(&config.keys, config.upstreams())?.map(Arc::new);
    let mut needs = Needs {
        workers: 0,
        programs: 0,
        io_threads: config.io_thread_count().max(1),
        upstreams: config.upstreams().iter().map(addresses).sum(),
        external_workers: EXTERNAL_WORKERS * config.external().len().min(1),
        status_connections: if config.status.is_some() { status::MAX_CONNECTIONS } else { 0 },
    };
    let workers = match &config.backend {
        Backend::External(_) | Backend::Upstream(_) => None,
        Backend::Workers(Workers { count, handler }) => {
            needs.workers = *count;
            let new_handler = match handler {
                WorkersHandler::Function(new_handler) => new_handler.clone(),
                WorkersHandler::Program(program) => {
                    needs.programs = (*count).max(1);
                    NewHandler::Program(program.settings(config.program_limits(), *count)?)
                }
            };
            Some((*count, new_handler))
        }
    };
    // Those that the service needs itself are kept back from clients.
    let left = rlimit::raise(needs)?;
    let clients = config.max_clients.map_or(left, |most| most.min(left));
    Ok(Resources { access, workers, clients })
}
