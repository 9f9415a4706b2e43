//! The start of a service: what it is made of, put together in the order in which it must begin.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::frontend::Frontend;
use super::proxy::Proxy;
use super::resources::Resources;
use super::running::{reload_pipe, stop_pipe};
use super::single_threaded::SingleThreaded;
use super::{Server, Service};
use crate::auth::{Access, ZapHandler};
use crate::backend::{Lane, Lanes, Names, Pool, Router, Upstream};
use crate::config::Config;
use crate::endpoint::{Endpoint, Listener, Listeners, OwnAddresses};
use crate::error::Error;
use crate::socket::Context;
use crate::status::{self, Facts, Probed, StatusServer};

impl Service {
    /// Puts the service together.
    pub(super) fn assemble(config: &Config, resources: Resources) -> Result<Service, Error> {
        let Resources { access, workers, clients } = resources;
        let (started, started_at) = (Instant::now(), SystemTime::now());
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
        let (zap, reload) = match &access {
            Some(access) => {
                let (reloading, reload) = reload_pipe()?;
                let zap = ZapHandler::start(&context, Arc::clone(access), reloading)?;
                (Some(zap), Some(reload))
            }
            None => (None, None),
        };
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
            None if listeners.backend.is_empty() => {
                let lanes = upstreams(&context, listeners.addresses, access.as_ref(), config)?;
                proxy(listen()?, lanes, None)
            }
            None => {
                let accepts = access.as_deref();
                let router = Router::listen(&context, listeners.backend, accepts, config)?;
                proxy(listen()?, Lanes::external(router), None)
            }
        };
        let facts = Facts {
            started,
            started_at,
            endpoints: server.endpoints().to_vec(),
            access,
            programs,
            is_single_threaded: config.is_single_threaded(),
            max_memory: config.max_memory_bytes(),
            max_clients: clients,
        };
        let show = |listener| show_status(listener, facts, config);
        let status = listeners.status.map(show).transpose()?;
        Ok(Service { server, zap, context, stop_handle, stopping, reload, status })
    }
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
