//! The end of a service whose loop has ended: what it is made of goes, one after the other, and what
//! was abandoned is told.

use std::time::Duration;

use log::info;

use super::frontend::Stopped;
use crate::auth::ZapHandler;
use crate::backend::Pool;
use crate::error::Error;
use crate::handler::WorkerHandler;
use crate::logging::Event;
use crate::socket::Context;

/// Time that workers and programs have to end in any case.
const MIN_END: Duration = Duration::from_secs(1);

/// The unit in which libzmq counts time.
const LIBZMQ_TICK: Duration = Duration::from_millis(1);

/// Ends all of it; `stopped` is what is left of the loop.
///
/// # Errors
/// Why the loop or a thread has failed; or requests, workers or replies that had to be abandoned.
pub(super) fn end(
    stopped: Result<Stopped, Error>,
    pool: Option<Pool>,
    handler: Option<WorkerHandler>,
    zap: Option<ZapHandler>,
    context: Context,
) -> Result<(), Error> {
    pool.iter().for_each(Pool::begin_end);
    let access_checked = zap.map_or(Ok(()), ZapHandler::end);
    // The last replies leave before anything that may take longer is waited for. libzmq does
    // not tell whether they did, but it waits no longer than it must.
    drop(context);
    let linger = stopped.as_ref().map_or(MIN_END, |stopped| stopped.linger);
    let waited = stopped.as_ref().map_or(Duration::ZERO, |stopped| stopped.closed.elapsed());
    let all_left = waited + LIBZMQ_TICK < linger;
    // Where nothing is abandoned, programs have some time to end in any case.
    let is_abandoned = stopped.as_ref().is_ok_and(|stopped| stopped.stats.abandoned > 0);
    let least = if is_abandoned { Duration::ZERO } else { MIN_END };
    let limit = linger.saturating_sub(waited).max(least);
    let stuck = pool.map_or(Ok(0), |pool| pool.end(limit))?;
    drop(handler);
    access_checked?;
    let stopped = stopped?;
    log::logger().flush();
    info!(event = Event::Stopped; "stopped: {}", stopped.stats);
    let lost = [
        (stopped.stats.abandoned > 0, format!("requests in flight: {}", stopped.stats.abandoned)),
        (stuck > 0, format!("workers still in a request: {stuck}")),
        (stopped.unread > 0 || !all_left, "replies that their clients did not read".into()),
    ];
    let lost: Vec<String> =
        lost.into_iter().filter(|(is_lost, _)| *is_lost).map(|(_, what)| what).collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(Error::failed(format!("the drain's time was up: abandoned {}", lost.join(", "))))
}
