//! Watches over the stop of a single-threaded server, whose handler may hang.

use std::os::fd::AsFd;
use std::process::exit;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use log::error;

use super::manager::{EXTENSION_INTERVAL, extension, notifier};
use crate::error::Error;
use crate::handler::kill_all;
use crate::socket::{readable, wait};
use crate::sys::signals::Signals;

/// Ends the process if its only server thread is stuck in a handler when it is to stop, unless the
/// returned sender is dropped in time; until then the service manager is to be patient. With a proxy
/// there is no need: the proxy is never in a handler.
pub(super) fn start(signals: &Signals, drain: Duration) -> Result<Sender<()>, Error> {
    const MARGIN: Duration = Duration::from_secs(1);
    /// Time in which a service that has nothing to do has ended.
    const MOMENT: Duration = Duration::from_secs(1);
    let cannot = |error| Error::of_system("cannot watch over the stop", error);
    let stop = signals.as_fd().try_clone_to_owned().map_err(cannot)?;
    let (serving, ended) = channel();
    let notifier = notifier();
    let body = move || {
        let mut stopping = [readable(&stop)];
        while !stopping[0].is_readable() {
            if wait(&mut stopping, None).is_err() {
                return;
            }
        }
        let end = Instant::now() + drain + MARGIN;
        let mut pause = MOMENT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if ended.recv_timeout(left.min(pause)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            if left <= pause {
                break;
            }
            if let Some(notifier) = &notifier {
                let _ = notifier.send(&extension());
            }
            pause = EXTENSION_INTERVAL;
        }
        error!("the drain's time was up: abandoned the request that the handler is in");
        kill_all();
        exit(1);
    };
    Builder::new().name("watch".into()).spawn(body).map_err(cannot)?;
    Ok(serving)
}
