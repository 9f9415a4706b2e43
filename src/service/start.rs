//! The start of a service: what it is made of, put together in the order in which it must begin.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::frontend::Frontend;
use super::proxy::Proxy;
use super::resources::Resources;
use super::running::{ReloadHandle, reload_pipe, stop_pipe};
use super::single_threaded::SingleThreaded;
use super::{Server, Service};
use crate::auth::{Access, ZapHandler};
use crate::backend::{Lane, Lanes, Names, Pool, Router, Upstream};
use crate::config::Config;
use crate::endpoint::{Endpoint, Listener, Listeners, OwnAddresses};
use crate::error::Error;
use crate::handler::Counts;
use crate::socket::Context;
use crate::status::{self, Facts, Probed, StatusServer};

impl Service {
    /// Puts the service together.
    pub(super) fn assemble(config: &Config, resources: Resources) -> Result<Service, Error> {
        let Resources { access, workers, clients } = resources;
        let (stopping, stop_handle) = stop_pipe()?;
        let listeners = Listeners::bind(config)?;
        let context = match config.io_thread_count() {
            0 => Context::without_thread()?,
            threads => Context::new(threads)?,
        };
        context.allow_upstreams(config.max_upstream_lanes())?;
        // First, since libzmq's threads come with it: if there are too few, no worker and no
        // program is started.
        let router = context.router(&config.peer_limits(), clients)?;
        let io = (config.io_thread_count() == 0).then(|| context.own_io()).transpose()?;
        let authenticate = |access| authenticate(&context, access);
        let (zap, reload) = access.as_ref().map(authenticate).transpose()?.unzip();
        let programs = workers.as_ref().and_then(|(_, new_handler)| new_handler.program_counts());
        // Last, so that who connects is served.
        let listen = || Frontend::listen(router, listeners.listen, access.as_deref(), config);
        let proxy = |frontend, lanes, pool| {
            Server::Proxy(Box::new(Proxy::new(frontend, access.clone(), lanes, io, config)), pool)
        };
        let server = match workers {
            Some((0, new_handler)) => {
                let single = SingleThreaded::new(listen()?, access.clone(), new_handler, config)?;
                Server::SingleThreaded(Box::new(single))
            }
            Some((count, new_handler)) => {
                let (pool, lanes) = Pool::start(count, &new_handler, config.name_clients)?;
                match listen() {
                    Ok(frontend) => proxy(frontend, Lanes::fixed(lanes), Some(pool)),
                    Err(error) => {
                        drop(lanes);
                        pool.end(Duration::MAX)?;
                        return Err(error);
                    }
                }
            }
            None => {
                let (own, access) = (listeners.addresses, access.as_ref());
                let lanes = match listeners.backend {
                    none if none.is_empty() => upstreams(&context, own, access, config)?,
                    some => external(&context, some, access, config)?,
                };
                proxy(listen()?, lanes, None)
            }
        };
        let show = |listener| {
            let endpoints = server.endpoints().to_vec();
            show_status(listener, facts(endpoints, access, programs, clients, config), config)
        };
        let status = listeners.status.map(show).transpose()?;
        Ok(Service { server, zap, context, stop_handle, stopping, reload, status })
    }
}

/// Starts what answers libzmq who may connect, and reads the lists again when it is told to.
fn authenticate(
    context: &Context,
    access: &Arc<Access>,
) -> Result<(ZapHandler, ReloadHandle), Error> {
    let (reloading, reload) = reload_pipe()?;
    Ok((ZapHandler::start(context, Arc::clone(access), reloading)?, reload))
}

/// Listens for the external workers.
fn external(
    context: &Context,
    listeners: Vec<Listener>,
    access: Option<&Arc<Access>>,
    config: &Config,
) -> Result<Lanes, Error> {
    let accepts = access.map(Arc::as_ref);
    Ok(Lanes::external(Router::listen(context, listeners, accepts, config)?))
}

/// Connects to the upstreams, and looks up those that are names; `own` are the service's addresses.
fn upstreams(
    context: &Context,
    own: OwnAddresses,
    access: Option<&Arc<Access>>,
    config: &Config,
) -> Result<Lanes, Error> {
    let (names, places): (Vec<_>, Vec<_>) =
        config.upstreams().iter().cloned().partition(Endpoint::is_name);
    let connect = |place: &Endpoint| {
        let upstream = Upstream::new(context, place, None, access.map(Arc::as_ref), config)?;
        Ok(Lane::Upstream(Box::new(upstream)))
    };
    let lanes = places.iter().map(connect).collect::<Result<Vec<_>, Error>>()?;
    let look_up = |names| Names::start(context, names, own, access.cloned(), config);
    let names = (!names.is_empty()).then(|| look_up(names)).transpose()?;
    Ok(Lanes::upstreams(lanes, names))
}

/// Returns what the status tells of a service that starts now.
fn facts(
    endpoints: Vec<String>,
    access: Option<Arc<Access>>,
    programs: Option<Arc<Counts>>,
    max_clients: usize,
    config: &Config,
) -> Facts {
    Facts {
        started: Instant::now(),
        started_at: SystemTime::now(),
        endpoints,
        access,
        programs,
        is_single_threaded: config.is_single_threaded(),
        max_memory: config.max_memory_bytes(),
        max_clients,
    }
}

/// Shows there how the service is doing.
fn show_status(
    listener: Listener,
    facts: Facts,
    config: &Config,
) -> Result<(Probed, StatusServer), Error> {
    let (probe, probed) = status::probe()?;
    let accept_check = config.peer_limits().accept_check;
    Ok((probed, StatusServer::start(listener, accept_check, probe, facts)?))
}
