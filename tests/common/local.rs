//! A service in a thread of the test's process.

use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc::channel;
use std::thread::{JoinHandle, spawn};

use nix::sys::pthread::pthread_kill;
use nix::sys::signal::Signal;
use repd::{Backend, Config, Error, Handler, Service, StopHandle};

use super::LIMIT;

/// A service in a thread of this process, with a handler of the test; stopped when dropped.
pub struct Local {
    stop: StopHandle,
    thread: Option<JoinHandle<Result<(), Error>>>,
    pub endpoint: String,
}

impl Local {
    /// Starts a service with these settings, at a port of loopback.
    pub fn start(config: Config) -> Local {
        let (send, started) = channel();
        let thread = spawn(move || {
            let config = config.listen(["tcp://127.0.0.1:*".parse().unwrap()]);
            let service = Service::start(&config)?;
            send.send((service.endpoints()[0].clone(), service.stop_handle())).unwrap();
            service.run()
        });
        let (endpoint, stop) = started.recv_timeout(LIMIT).unwrap();
        Local { stop, thread: Some(thread), endpoint }
    }

    /// Starts a service of that many workers.
    pub fn workers<F, H>(count: usize, new_handler: F) -> Local
    where
        F: Fn(usize) -> H + Send + Sync + 'static,
        H: Handler + 'static,
    {
        Local::start(Config::new(Backend::workers(count, new_handler)))
    }

    /// Sends a signal to the thread of the proxy, or of the single-threaded server.
    pub fn signal(&self, signal: Signal) {
        let thread = self.thread.as_ref().unwrap();
        pthread_kill(thread.as_pthread_t(), signal).unwrap();
    }

    /// Waits until the service has ended by itself, and returns its result.
    pub fn wait(mut self) -> Result<(), Error> {
        self.thread.take().unwrap().join().unwrap()
    }

    /// Stops the service and returns its result.
    pub fn stop(mut self) -> Result<(), Error> {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
