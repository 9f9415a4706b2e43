//! A service in a thread of the test's process.

use repd::{Backend, Config, Error, Handler, Running, Service};

/// A service in a thread of this process, with a handler of the test; stopped when dropped.
pub struct Local {
    running: Running,
    pub endpoint: String,
}

impl Local {
    /// Starts a service with these settings, at a port of loopback.
    pub fn start(config: Config) -> Local {
        let config = config.listen(["tcp://127.0.0.1:*".parse().unwrap()]);
        let running = Service::spawn(&config).unwrap();
        let endpoint = running.endpoints()[0].clone();
        Local { running, endpoint }
    }

    /// Starts a service of that many workers.
    pub fn workers<F, H>(count: usize, new_handler: F) -> Local
    where
        F: Fn(usize) -> H + Send + Sync + 'static,
        H: Handler + 'static,
    {
        Local::start(Config::new(Backend::workers(count, new_handler)))
    }

    /// Waits until the service has ended by itself, and returns its result.
    pub fn wait(self) -> Result<(), Error> {
        self.running.wait()
    }

    /// Stops the service and returns its result.
    pub fn stop(self) -> Result<(), Error> {
        self.running.stop()
    }
}
