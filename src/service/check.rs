//! Checks that a service can be started.

use std::time::Duration;

use log::{info, warn};

use super::resources::{Resources, resources};
use super::{Server, Service};
use crate::auth::ZapHandler;
use crate::config::{Backend, Config};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::handler::{NewHandler, echo};
use crate::sys::systemd;

/// Checks that a service can be started, and serves nothing. [`crate::serve`] and [`Service::start`]
/// check the same by themselves.
///
/// The endpoints are taken for a moment. No handler is made, no program is run, and no upstream is
/// asked.
///
/// # Errors
/// Those of [`Service::start`], but for handlers that cannot be made.
pub fn check(config: &Config) -> Result<(), Error> {
    let Resources { access, workers, clients } = resources(config)?;
    for name in config.upstreams().iter().filter(|upstream| upstream.is_name()) {
        name.addresses().err().iter().for_each(|why| warn!("upstream {name}: {why}"));
    }
    let config = &without_inherited(config);
    let idle = NewHandler::of(|_worker| Ok::<_, Error>(echo));
    let workers = workers.map(|(count, _)| (count, idle));
    let service = Service::assemble(config, Resources { access, workers, clients })?;
    match service.server {
        Server::Proxy(proxy, pool) => {
            drop(proxy);
            pool.map_or(Ok(()), |pool| pool.end(Duration::MAX).map(drop))?;
        }
        Server::SingleThreaded(single) => drop(single),
    }
    service.zap.map_or(Ok(()), ZapHandler::end)
}

/// Returns the settings without the endpoints that only a start by systemd brings.
fn without_inherited(config: &Config) -> Config {
    let is_there = |endpoint: &Endpoint| {
        let is_missing = endpoint.is_inherited() && !systemd::has_descriptors();
        if is_missing {
            info!("not checked: {endpoint}: systemd hands it over when it starts the service");
        }
        !is_missing
    };
    let mut config = config.clone();
    config.listen.retain(is_there);
    if let Backend::External(places) = &mut config.backend {
        places.retain(is_there);
    }
    config
}
