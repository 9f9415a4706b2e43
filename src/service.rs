//! The service, put together in the order in which it starts and ends.

use std::fmt;
use std::io::PipeReader;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};

use crate::auth::ZapHandler;
use crate::backend::{Lane, Lanes, Names, Pool, Router, Upstream};
use crate::config::{Backend, Config, Workers};
use crate::endpoint::{Endpoint, Listeners};
use crate::error::Error;
use crate::logging::Event;
use crate::service::frontend::Frontend;
use crate::service::manager::{Manager, notifier};
use crate::service::proxy::Proxy;
use crate::service::resources::{Resources, resources};
use crate::service::single_threaded::SingleThreaded;
use crate::service::wakers::Wakers;
use crate::socket::Context;
use crate::status::{self, Facts, Probed, StatusServer};
use crate::sys::sched;
use crate::sys::secrecy;
use crate::sys::signals::{self, Signals};
use crate::sys::systemd::{self, Notifier};

mod account;
mod broker;
mod check;
mod clients;
mod confinement;
mod dispatcher;
mod drain;
mod end;
mod figures;
mod frontend;
mod in_flight;
mod manager;
mod naming;
mod outbox;
mod proxy;
mod queue;
mod resources;
mod running;
mod single_threaded;
mod trace;
mod usage;
mod wakers;
mod watch;

pub use check::check;
pub use running::{ReloadHandle, Running, StopHandle};

/// Runs a service until SIGTERM or SIGINT: what `repd serve` does.
///
/// The first signal drains the service; a second ends the process at once, with exit code 128 and
/// the signal's number. The signals stay caught after that: this is for one service in a process.
/// The soft limit of open files is raised to the hard one, and the threads run under SCHED_BATCH
/// (sched(7)), unless this one has another policy than the usual. systemd is told what the service
/// does (sd_notify(3)), and that its loop turns. With lists of clients, workers or upstreams, SIGHUP
/// has them read again; without, it ends the process, as usual, but for one that systemd has started,
/// which goes on. With [`Config::key`] the process writes no core, other processes of its user cannot
/// look into it, and its programs gain no privileges.
///
/// # Errors
/// A configuration that cannot be served ([`Error::exit_code`] 2), or a failure while running, such
/// as requests that had to be abandoned (1).
pub fn serve(config: &Config) -> Result<(), Error> {
    serve_after(config, || ())
}

/// Does the same in a process that runs nothing else: with [`Config::key`], and unless a program
/// answers, it gives up what it does not need (landlock(7)). A handler must be one of this crate.
///
/// # Errors
/// Those of [`serve`].
#[doc(hidden)]
pub fn serve_confined(config: &Config) -> Result<(), Error> {
    serve_after(config, || confinement::begin(config))
}

/// Serves, and calls `confine` once all files are read that are not read again.
fn serve_after(config: &Config, confine: impl FnOnce()) -> Result<(), Error> {
    let signals = Signals::catch()?;
    let cannot_catch = |error| Error::of_system("cannot catch SIGHUP", error);
    let notifier = notifier();
    // `systemctl reload` is not to end it, nor one that comes before the lists are read.
    if config.keys.has_lists() || notifier.is_some() {
        signals::ignore_hangups().map_err(cannot_catch)?;
    }
    sched::use_batch_policy();
    if config.keys.key.is_some() {
        // Before the key is read.
        secrecy::begin()
            .map_err(|error| Error::of_system("cannot keep the key from other processes", error))?;
    }
    let resources = resources(config)?;
    // Before the first thread is started, since it is for this one and those that it starts.
    confine();
    let serving =
        config.is_single_threaded().then(|| watch::start(&signals, config.drain)).transpose()?;
    let mut service = Service::assemble(config, resources)?;
    let reload = service.reload.as_ref().filter(|_| config.keys.has_lists());
    let hangups = running::catch_hangups(reload, notifier.is_some()).map_err(cannot_catch)?;
    for endpoint in service.endpoints() {
        info!(event = Event::Start; "listening on {endpoint}");
    }
    if let Some(endpoint) = service.endpoints().iter().find(|it| is_open(it, config)) {
        warn!("whoever reaches {endpoint} is served; see --key");
    }
    if let Some(notifier) = notifier {
        service.report_to(notifier, config);
    }
    service.run_until(&[signals.as_fd()], hangups, || drop(serving))
}

/// Returns true if everybody may connect to that endpoint from other machines.
fn is_open(endpoint: &str, config: &Config) -> bool {
    let address = endpoint.strip_prefix("tcp://").and_then(|it| it.parse::<SocketAddr>().ok());
    let is_remote = address.is_some_and(|address| !address.ip().to_canonical().is_loopback());
    is_remote && config.keys.key.is_none() && config.allow.is_empty()
}

/// A service that is ready: its endpoints are taken, its workers wait, and clients can connect.
///
/// It belongs to the thread that started it, and a [`StopHandle`] stops it from any other;
/// [`Service::spawn`] starts it in a thread of its own. One that is dropped instead of
/// [run](Service::run) answers nobody.
pub struct Service {
    server: Server,
    zap: Option<ZapHandler>,
    context: Context,
    stop_handle: StopHandle,
    stopping: PipeReader,
    /// With keys.
    reload: Option<ReloadHandle>,
    /// Where it shows how it is doing: the end of the loop first, for which the server may wait.
    status: Option<(Probed, StatusServer)>,
}

enum Server {
    /// With the workers of this process, if it has some.
    Proxy(Box<Proxy>, Option<Pool>),
    SingleThreaded(Box<SingleThreaded>),
}

impl Server {
    fn endpoints(&self) -> &[String] {
        match self {
            Server::Proxy(proxy, _) => proxy.endpoints(),
            Server::SingleThreaded(single) => single.endpoints(),
        }
    }
}

impl Service {
    /// Takes the endpoints, starts the workers, and lets clients in.
    ///
    /// It raises this process's soft limit of open files to the hard one; where a program answers,
    /// SIGCHLD is no longer ignored.
    ///
    /// # Errors
    /// A value out of its range, an endpoint that cannot be taken, a handler that cannot be made, a
    /// program that cannot be run, or too few threads, open files or memory.
    pub fn start(config: &Config) -> Result<Service, Error> {
        Service::assemble(config, resources(config)?)
    }

    /// Puts the service together.
    fn assemble(config: &Config, resources: Resources) -> Result<Service, Error> {
        let Resources { access, workers, clients } = resources;
        let started = (Instant::now(), SystemTime::now());
        let (stopping, stop_handle) = running::stop_pipe()?;
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
                let (reloading, reload) = running::reload_pipe()?;
                let zap = ZapHandler::start(&context, Arc::clone(access), reloading)?;
                (Some(zap), Some(reload))
            }
            None => (None, None),
        };
        let programs = workers.as_ref().and_then(|(_, new_handler)| new_handler.program_counts());
        let accepts = access.as_deref();
        let server = match workers {
            Some((0, new_handler)) => {
                let frontend = Frontend::listen(router, listeners.listen, accepts, config)?;
                Server::SingleThreaded(Box::new(SingleThreaded::new(
                    frontend,
                    access.clone(),
                    new_handler,
                    config,
                )?))
            }
            Some((count, new_handler)) => {
                let (pool, lanes) = Pool::start(count, &new_handler, config.name_clients)?;
                // Last, so that who connects is served.
                match Frontend::listen(router, listeners.listen, accepts, config) {
                    Ok(frontend) => Server::Proxy(
                        Box::new(Proxy::new(
                            frontend,
                            access.clone(),
                            Lanes::fixed(lanes),
                            io,
                            config,
                        )),
                        Some(pool),
                    ),
                    Err(error) => {
                        drop(lanes);
                        pool.end(Duration::MAX)?;
                        return Err(error);
                    }
                }
            }
            None => {
                let lanes = if listeners.backend.is_empty() {
                    let (names, places): (Vec<_>, Vec<_>) =
                        config.upstreams().iter().cloned().partition(Endpoint::is_name);
                    let mut lanes = Vec::new();
                    for place in &places {
                        let upstream = Upstream::new(&context, place, None, accepts, config)?;
                        lanes.push(Lane::Upstream(Box::new(upstream)));
                    }
                    let own = listeners.addresses;
                    let start = |names| Names::start(&context, names, own, access.clone(), config);
                    let names = (!names.is_empty()).then(|| start(names)).transpose()?;
                    Lanes::upstreams(lanes, names)
                } else {
                    Lanes::external(Router::listen(&context, listeners.backend, accepts, config)?)
                };
                let frontend = Frontend::listen(router, listeners.listen, accepts, config)?;
                Server::Proxy(
                    Box::new(Proxy::new(frontend, access.clone(), lanes, io, config)),
                    None,
                )
            }
        };
        let status = match listeners.status {
            Some(listener) => {
                let facts = Facts {
                    started: started.0,
                    started_at: started.1,
                    endpoints: server.endpoints().to_vec(),
                    access,
                    programs,
                    is_single_threaded: config.is_single_threaded(),
                    max_memory: config.max_memory_bytes(),
                    max_clients: clients,
                };
                let (probe, probed) = status::probe()?;
                let accept_check = config.peer_limits().accept_check;
                Some((probed, StatusServer::start(listener, accept_check, probe, facts)?))
            }
            None => None,
        };
        Ok(Service { server, zap, context, stop_handle, stopping, reload, status })
    }

    /// Returns where clients connect: the endpoints as the system has them, with the ports that it
    /// chose. The host 0.0.0.0 stands for each IPv4 address of this machine.
    pub fn endpoints(&self) -> &[String] {
        self.server.endpoints()
    }

    /// Returns where it shows how it is doing, with the port that the system chose; `None` if
    /// nowhere.
    pub fn status_endpoint(&self) -> Option<&str> {
        self.status.as_ref().map(|(_, server)| server.endpoint())
    }

    /// Returns what stops this service from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop_handle.clone()
    }

    /// Returns what has the lists of clients, workers and upstreams read again; `None` without keys.
    pub fn reload_handle(&self) -> Option<ReloadHandle> {
        self.reload.clone()
    }

    /// Has the service manager told of this service, which is ready, from now on.
    fn report_to(&mut self, notifier: Notifier, config: &Config) {
        let mut manager = Manager::new(Some(notifier), self.summary(config));
        if let Some(interval) = systemd::watchdog_interval() {
            // In the single-threaded server's loop a handler may take any time.
            let is_watched = !config.is_single_threaded();
            manager.set_watchdog(is_watched.then_some(interval), Instant::now());
        }
        match &mut self.server {
            Server::Proxy(proxy, _) => proxy.report_to(manager),
            Server::SingleThreaded(single) => single.report_to(manager),
        }
    }

    /// Returns what the service is, in one line.
    fn summary(&self, config: &Config) -> String {
        let endpoints = self.endpoints().join(", ");
        let backend = match &config.backend {
            Backend::Workers(Workers { count, .. }) => format!("workers: {count}"),
            Backend::External(places) => format!("endpoints for workers: {}", places.len()),
            Backend::Upstream(places) => format!("upstreams: {}", places.len()),
        };
        format!("serving at {endpoints}; {backend}")
    }

    /// Serves until [`StopHandle::stop`] is called, then drains: finishes what is in flight and
    /// refuses what still comes with a 503, for about as long as [`Config::drain`] allows. A
    /// single-threaded service waits for its handler, however long that takes. It handles no
    /// signals.
    ///
    /// # Errors
    /// A failure while running; or requests, workers or replies that had to be abandoned.
    pub fn run(self) -> Result<(), Error> {
        self.run_until(&[], None, || ())
    }

    /// Does the same, until one of `stops` is readable too, and calls `on_answered` when no more
    /// requests are answered. `hangups` tells of each SIGHUP.
    fn run_until(
        self,
        stops: &[BorrowedFd<'_>],
        hangups: Option<PipeReader>,
        on_answered: impl FnOnce(),
    ) -> Result<(), Error> {
        // The handles are kept: a pipe that nobody can write to is readable.
        let Service { server, zap, context, stop_handle, stopping, reload, status } = self;
        let _kept = (stop_handle, reload);
        let mut wakers = Wakers {
            stops: [&[stopping.as_fd()], stops].concat(),
            ends: zap.iter().map(|zap| zap.ended().as_fd()).collect(),
            lists: zap.as_ref().map(ZapHandler::changed),
            probe: status.as_ref().map(|(probed, _)| probed),
            hangups: hangups.as_ref(),
        };
        let (stopped, pool, handler) = match server {
            Server::Proxy(proxy, pool) => {
                wakers.ends.extend(pool.iter().map(|pool| pool.ended().as_fd()));
                (proxy.run(&wakers, pool.as_ref()), pool, None)
            }
            Server::SingleThreaded(single) => match single.run(&wakers) {
                Ok((stopped, handler)) => (Ok(stopped), None, Some(handler)),
                Err(error) => (Err(error), None, None),
            },
        };
        on_answered();
        drop(status);
        end::end(stopped, pool, handler, zap, context)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}
