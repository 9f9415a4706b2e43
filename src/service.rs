//! The service, put together in the order in which it starts and ends.

use std::os::fd::AsFd;
use std::process::exit;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use log::{error, info, warn};
use sd_notify::NotifyState;

use crate::backend::Pool;
use crate::backend::{Lane, Remote};
use crate::config::Config;
use crate::endpoint::Listeners;
use crate::error::Error;
use crate::handler::{Answers, Handler, echo, kill_all};
use crate::service::frontend::Frontend;
use crate::service::proxy::Proxy;
use crate::service::single_threaded::Single;
use crate::socket::{Context, readable, wait};
use crate::sys::rlimit;
use crate::sys::sched;
use crate::sys::signals::Signals;

mod dispatcher;
mod drain;
mod frontend;
mod in_flight;
mod outbox;
mod proxy;
mod single_threaded;
mod stats;

/// Runs a service until SIGTERM or SIGINT: what `repd serve` does.
///
/// `new_handler` makes the handler of each worker, from its number: 1 and up, or 0 for the
/// single-threaded server, and again after a panic.
///
/// The first signal drains the service; a second ends the process at once, with exit code 128 and
/// the signal's number. The soft limit of open files is raised to the hard one, and the threads run
/// under SCHED_BATCH (sched(7)), unless this one has another policy than the usual.
///
/// # Errors
/// A configuration that cannot be served ([`Error::exit_code`] 2), or a failure while running, such
/// as requests that had to be abandoned (1).
pub fn serve<F, H>(config: &Config, new_handler: F) -> Result<(), Error>
where
    F: Fn(usize) -> H + Clone + Send + 'static,
    H: Handler + 'static,
{
    rlimit::raise(config)?;
    let signals = Signals::catch()?;
    sched::in_batches();
    let is_single = config.workers == 0 && !config.is_remote();
    let serving = is_single.then(|| watch(&signals, config.drain)).transpose()?;
    let service = Service::start(config, new_handler)?;
    for endpoint in service.endpoints() {
        info!("listening on {endpoint}");
    }
    // Tells systemd, if it asked to be told.
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        warn!("cannot notify systemd: {error}");
    }
    service.run_until(&signals, || drop(serving))
}

/// Ends the process if its only server thread is stuck in a handler when it is to stop, unless what
/// this gives is dropped in time. With a proxy there is no need: the proxy is never in a handler.
fn watch(signals: &Signals, drain: Duration) -> Result<Sender<()>, Error> {
    const TO_SPARE: Duration = Duration::from_secs(1);
    let cannot = |error| Error::of_system("cannot watch over the stop", error);
    let stop = signals.as_fd().try_clone_to_owned().map_err(cannot)?;
    let (serving, ended) = channel();
    let body = move || {
        let mut stopping = [readable(&stop)];
        while !stopping[0].is_readable() {
            // A signal may wake it without a reason.
            if wait(&mut stopping, None).is_err() {
                return;
            }
        }
        if ended.recv_timeout(drain + TO_SPARE) == Err(RecvTimeoutError::Timeout) {
            error!("the drain's time was up: abandoned the request that the handler is in");
            kill_all();
            exit(1);
        }
    };
    Builder::new().name("watch".into()).spawn(body).map_err(cannot)?;
    Ok(serving)
}

/// Does all that [`serve`] does before it lets clients in, and undoes it: what `repd serve --check`
/// does. The endpoints are taken for a moment.
///
/// # Errors
/// As of [`serve`].
pub fn check(config: &Config) -> Result<(), Error> {
    rlimit::raise(config)?;
    let service = Service::start(config, |_| echo)?;
    service.end()
}

/// A service that is ready: its endpoints are taken and its workers wait.
///
/// It belongs to the thread that started it.
pub struct Service {
    server: Server,
    context: Context,
}

enum Server {
    /// With the workers of this process, if it has some.
    Proxy(Box<Proxy>, Option<Pool>),
    Single(Box<Single>),
}

impl Service {
    /// Starts the workers, each with a handler of its own that `new_handler` makes from the
    /// worker's number, and takes the endpoints.
    ///
    /// # Errors
    /// An endpoint that cannot be taken, or a value out of its range.
    pub fn start<F, H>(config: &Config, new_handler: F) -> Result<Service, Error>
    where
        F: Fn(usize) -> H + Clone + Send + 'static,
        H: Handler + 'static,
    {
        if let Some(mistake) = config.mistake() {
            return Err(Error::config(format!("cannot use {mistake}")));
        }
        let listeners = Listeners::bind(config)?;
        let context = Context::new(config.io_threads)?;
        // First, since libzmq's threads come with it: if there are too few, no worker and no
        // program is started.
        let router = context.router(&config.peer_limits())?;
        if config.is_remote() {
            let mut lanes = Vec::new();
            if !config.backend.is_empty() {
                lanes.push(Lane::Remote(Box::new(Remote::backend(
                    &context,
                    listeners.backend,
                    config,
                )?)));
            }
            for upstream in &config.upstream {
                lanes.push(Lane::Remote(Box::new(Remote::upstream(&context, upstream, config)?)));
            }
            let proxy =
                Proxy::new(Frontend::listen(router, listeners.listen, config)?, lanes, config);
            return Ok(Service { server: Server::Proxy(Box::new(proxy), None), context });
        }
        if config.workers == 0 {
            let answers = Answers::new(0, new_handler);
            let single =
                Single::new(Frontend::listen(router, listeners.listen, config)?, answers, config);
            return Ok(Service { server: Server::Single(Box::new(single)), context });
        }
        let (pool, lanes) = Pool::start(config.workers, new_handler)?;
        // Last, so that who connects is served.
        let frontend = match Frontend::listen(router, listeners.listen, config) {
            Ok(frontend) => frontend,
            Err(error) => {
                drop(lanes);
                pool.end(Duration::MAX)?;
                return Err(error);
            }
        };
        let proxy = Proxy::new(frontend, lanes, config);
        Ok(Service { server: Server::Proxy(Box::new(proxy), Some(pool)), context })
    }

    /// Where clients connect: the endpoints as the system has them, with the port that it chose.
    pub fn endpoints(&self) -> &[String] {
        match &self.server {
            Server::Proxy(proxy, _) => proxy.endpoints(),
            Server::Single(single) => single.endpoints(),
        }
    }

    /// Serves until `stop` has something to read, then drains: finishes what is in flight, refuses
    /// what still comes with 503, for no longer than the configured time.
    ///
    /// # Errors
    /// A failure while running; or requests, workers or replies that had to be abandoned.
    pub fn run(self, stop: &impl AsFd) -> Result<(), Error> {
        self.run_until(stop, || ())
    }

    /// Likewise, and says when no more requests are answered.
    fn run_until(self, stop: &impl AsFd, answered: impl FnOnce()) -> Result<(), Error> {
        let Service { server, context } = self;
        let stop = stop.as_fd();
        let (stopped, pool, answers) = match server {
            Server::Proxy(proxy, pool) => (proxy.run(&stop, pool.as_ref()), pool, None),
            Server::Single(single) => match single.run(&stop) {
                Ok((stopped, answers)) => (Ok(stopped), None, Some(answers)),
                Err(error) => (Err(error), None, None),
            },
        };
        answered();
        pool.iter().for_each(Pool::begin_end);
        // The last replies leave before anything that may take longer is waited for. libzmq does
        // not say whether they did, but it waits no longer than it must.
        drop(context);
        let linger = stopped.as_ref().map_or(A_MOMENT, |stopped| stopped.linger);
        let waited = stopped.as_ref().map_or(Duration::ZERO, |stopped| stopped.closed.elapsed());
        let all_left = waited + A_TICK < linger;
        // Where nothing is abandoned, programs have a moment to end in any case.
        let is_abandoned = stopped.as_ref().is_ok_and(|stopped| stopped.stats.abandoned > 0);
        let least = if is_abandoned { Duration::ZERO } else { A_MOMENT };
        let limit = linger.saturating_sub(waited).max(least);
        let stuck = pool.map_or(Ok(0), |pool| pool.end(limit))?;
        drop(answers);
        let stopped = stopped?;
        log::logger().flush();
        info!("stopped: {}", stopped.stats);
        let lost = [
            (
                stopped.stats.abandoned > 0,
                format!("requests in flight: {}", stopped.stats.abandoned),
            ),
            (stuck > 0, format!("workers still in a request: {stuck}")),
            (stopped.unread > 0 || !all_left, "replies that their clients did not read".into()),
        ];
        let lost: Vec<String> =
            lost.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        if lost.is_empty() {
            return Ok(());
        }
        Err(Error::failed(format!("the drain's time was up: abandoned {}", lost.join(", "))))
    }

    fn end(self) -> Result<(), Error> {
        match self.server {
            Server::Proxy(proxy, pool) => {
                drop(proxy);
                pool.map_or(Ok(()), |pool| pool.end(Duration::MAX).map(|_| ()))
            }
            Server::Single(_) => Ok(()),
        }
    }
}

/// How long the workers of a service that has failed have to end.
const A_MOMENT: Duration = Duration::from_secs(1);

/// libzmq counts time in milliseconds.
const A_TICK: Duration = Duration::from_millis(1);
