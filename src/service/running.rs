//! A service seen from another thread: what stops it, and what waits for its end.

use std::io::{self, PipeReader, PipeWriter, Write, pipe};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{Builder, JoinHandle};

use log::error;

use super::Service;
use crate::config::Config;
use crate::error::Error;
use crate::sys::fd::set_nonblocking;
use crate::sys::signals;

/// Stops a [`Service`], from any thread. Dropping it does nothing.
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<PipeWriter>);

impl StopHandle {
    /// Has the service drain and end, as SIGTERM does. It does not wait for that, and does nothing
    /// if the service has ended already.
    pub fn stop(&self) {
        // A full pipe says as much; a closed one, that there is no service.
        let _ = (&*self.0).write(&[0]);
    }
}

/// Has a [`Service`] read its lists of clients, workers and upstreams again, from any thread.
/// Dropping it does nothing.
#[derive(Clone, Debug)]
pub struct ReloadHandle(Arc<PipeWriter>);

impl ReloadHandle {
    /// Has the lists read again, as SIGHUP does. It does not wait for that: what became of it is in
    /// the log.
    pub fn reload(&self) {
        let _ = (&*self.0).write(&[0]);
    }

    /// Returns another end of it, for a signal.
    fn writer(&self) -> io::Result<PipeWriter> {
        self.0.try_clone()
    }
}

/// Makes a handle, and what becomes readable when it stops the service.
pub(super) fn stop_pipe() -> Result<(PipeReader, StopHandle), Error> {
    let (stopping, stop) = handle_pipe()?;
    Ok((stopping, StopHandle(stop)))
}

/// Makes a handle, and what becomes readable when it has lists read again.
pub(super) fn reload_pipe() -> Result<(PipeReader, ReloadHandle), Error> {
    let (reloading, reload) = handle_pipe()?;
    Ok((reloading, ReloadHandle(reload)))
}

/// Has each SIGHUP act through `reload` from now on, and tell the loop first, if it is to know of it.
pub(super) fn catch_hangups(
    reload: Option<&ReloadHandle>,
    is_told: bool,
) -> io::Result<Option<PipeReader>> {
    let mut told = None;
    if is_told {
        let (reader, writer) = pipe()?;
        signals::send_hangups_to(writer)?;
        told = Some(reader);
    }
    if let Some(reload) = reload {
        signals::send_hangups_to(reload.writer()?)?;
    }
    Ok(told)
}

fn handle_pipe() -> Result<(PipeReader, Arc<PipeWriter>), Error> {
    let (reader, writer) = pipe().map_err(|error| Error::of_system("cannot make a pipe", error))?;
    set_nonblocking(&writer).map_err(|error| Error::of_system("cannot set up a pipe", error))?;
    Ok((reader, Arc::new(writer)))
}

impl Service {
    /// Starts and runs a service in a thread of its own.
    ///
    /// ```
    /// use repd::{Config, Service};
    ///
    /// let config = Config::default().listen(["tcp://127.0.0.1:*".parse().unwrap()]);
    /// let running = Service::spawn(&config).unwrap();
    /// println!("clients connect to {}", running.endpoints()[0]);
    /// running.stop().unwrap();
    /// ```
    ///
    /// # Errors
    /// As of [`Service::start`].
    pub fn spawn(config: &Config) -> Result<Running, Error> {
        let config = config.clone();
        let (started, starting) = channel();
        let body = move || {
            let service = Service::start(&config)?;
            // The other end waits for it.
            let handles = (service.stop_handle(), service.reload_handle());
            let status = service.status_endpoint().map(String::from);
            let _ = started.send((service.endpoints().to_vec(), status, handles));
            service.run()
        };
        let thread = Builder::new().name("service".into()).spawn(body);
        let thread = thread.map_err(|error| Error::of_system("cannot start a thread", error))?;
        let Ok((endpoints, status_endpoint, (stop, reload))) = starting.recv() else {
            return Err(join(thread).err().unwrap_or_else(|| Error::failed("it did not start")));
        };
        Ok(Running { endpoints, status_endpoint, stop, reload, thread: Some(thread) })
    }
}

/// A service that runs in a thread of its own. Dropping it stops the service and waits for its end.
#[derive(Debug)]
pub struct Running {
    endpoints: Vec<String>,
    status_endpoint: Option<String>,
    stop: StopHandle,
    reload: Option<ReloadHandle>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Running {
    /// Returns where clients connect, as [`Service::endpoints`] does.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Returns where it shows how it is doing, as [`Service::status_endpoint`] does.
    pub fn status_endpoint(&self) -> Option<&str> {
        self.status_endpoint.as_deref()
    }

    /// Returns what stops the service from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Returns what has its lists read again, as [`Service::reload_handle`] does.
    pub fn reload_handle(&self) -> Option<ReloadHandle> {
        self.reload.clone()
    }

    /// Stops the service, and waits for its end.
    ///
    /// # Errors
    /// As of [`Service::run`].
    pub fn stop(self) -> Result<(), Error> {
        self.stop.stop();
        self.wait()
    }

    /// Waits until the service has ended: by a [`StopHandle`], or by a failure.
    ///
    /// # Errors
    /// As of [`Service::run`].
    pub fn wait(mut self) -> Result<(), Error> {
        self.thread.take().map_or(Ok(()), join)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(Err(error)) = self.thread.take().map(join) {
            error!("{error:#}");
        }
    }
}

fn join(thread: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    thread.join().unwrap_or_else(|_| Err(Error::failed("the service panicked")))
}
