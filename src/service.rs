//! The service: what one starts, runs and stops.

use std::fmt;
use std::io::PipeReader;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use log::{info, warn};

use crate::auth::ZapHandler;
use crate::backend::Pool;
use crate::config::{Backend, Config, Workers};
use crate::error::Error;
use crate::logging::Event;
use crate::service::manager::{Manager, notifier};
use crate::service::proxy::Proxy;
use crate::service::resources::resources;
use crate::service::single_threaded::SingleThreaded;
use crate::service::wakers::Wakers;
use crate::socket::Context;
use crate::status::{Probed, StatusServer};
use crate::sys::secrecy;
use crate::sys::signals::{self, Signals};
use crate::sys::systemd::{self, Notifier};

mod account;
mod broker;
mod check;
mod clients;
mod confinement;
mod demand;
mod dispatcher;
mod drain;
mod end;
mod figures;
mod frontend;
mod handshake;
mod in_flight;
mod manager;
mod naming;
mod outbox;
mod proxy;
mod queue;
mod request;
mod resources;
mod running;
mod single_threaded;
mod start;
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
/// The soft limit of open files is raised to the hard one. systemd is told what the service does
/// (sd_notify(3)), and that its loop turns. With lists of clients, workers or upstreams, SIGHUP has
/// them read again; without, it ends the process, as usual, but for one that systemd has started,
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
