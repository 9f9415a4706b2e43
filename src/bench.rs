//! The load tool `repd bench`: loads a service and reports rate and latency.

use std::fs;
use std::io::{IsTerminal, Write, stderr};
use std::thread::available_parallelism;

use crate::call::ask;
use crate::cli::{self, Builtin, Size};
use crate::config::{BENCH_CLIENTS, BENCH_DURATION};
use crate::error::{Error, plain};
use crate::frame::Frame;
use crate::handler::{echo, reverse};
use crate::sys::rlimit;
use crate::sys::signals::Signals;

mod clients;
mod load;
mod open_loop;
mod report;
mod watch;

pub use load::{Body, Clients, End, Load, Outcome, run};

/// The remedy where replies are missing.
const MISSING_REMEDY: &str = "is the service overloaded, or gone? more time: --timeout";

/// Loads the service that `options` name and prints the report.
///
/// # Errors
/// Returns an error if no service is there, or if replies were missing or not as expected (exit
/// code 1), or if an option or a limit of the system is in the way (2).
pub fn bench(options: &cli::Bench) -> Result<(), Error> {
    options.check()?;
    let load = load_from(options)?;
    rlimit::raise_for_clients(load.clients.sockets())?;
    // So that a missing service is one error at once, and not one for each client at the end.
    ask(
        &load.endpoint,
        load.keys.as_ref(),
        &[Frame::from(&load.bodies[0].bytes[..])],
        load.timeout,
    )?;
    let outcome = run_with_progress(&load)?;
    check_measured(&outcome)?;
    let report =
        if options.json { report::json(&load, &outcome) } else { report::text(&load, &outcome) };
    cli::print(&report)?;
    check_replies(&outcome)
}

/// Returns the load that `options` describe.
fn load_from(options: &cli::Bench) -> Result<Load, Error> {
    let bytes = body(&options.size)?;
    let request = || vec![Frame::from(&bytes[..])];
    let reply = match options.expect {
        None => None,
        Some(Builtin::Echo) => echo(request()).ok(),
        Some(Builtin::Reverse) => reverse(request()).ok(),
    };
    let expected = reply.and_then(|mut frames| frames.pop());
    let clients = options.clients.unwrap_or(BENCH_CLIENTS);
    Ok(Load {
        endpoint: options.endpoint.clone(),
        keys: options.keys()?,
        clients: match (options.pipeline, options.open_loop) {
            (Some(outstanding), _) => Clients::Pipeline(outstanding),
            (None, Some(rate)) => Clients::OpenLoop { clients, rate },
            (None, None) => Clients::Req(clients),
        },
        threads: available_parallelism().map_or(1, |n| n.get()),
        bodies: vec![Body { bytes, weight: 1, expected }],
        warmup: options.warmup,
        end: match options.requests {
            None => End::After(options.duration.unwrap_or(BENCH_DURATION)),
            Some(requests) => End::Requests(requests),
        },
        timeout: options.timeout,
    })
}

/// Returns the body of each request: the bytes of a file, or the alphabet repeated, which differs
/// from itself reversed.
fn body(size: &Size) -> Result<Vec<u8>, Error> {
    match size {
        Size::Bytes(bytes) => Ok((b'a'..=b'z').cycle().take(*bytes).collect()),
        Size::File(path) => fs::read(path).map_err(|error| {
            Error::config(format!("cannot read {path}")).with_cause(plain(error)).with_remedy(
                "give --size bytes, with k for KiB or M for MiB, or a file for the body",
            )
        }),
    }
}

/// Runs the load until its end or a signal. Shows the rate meanwhile if standard error is a
/// terminal.
fn run_with_progress(load: &Load) -> Result<Outcome, Error> {
    let stop = Signals::catch()?;
    let shows_progress = stderr().is_terminal();
    let outcome = run(load, &stop, |elapsed, rate| {
        if shows_progress {
            let _ = write!(stderr(), "\r\x1b[K{}", report::progress(elapsed, rate));
        }
    });
    if shows_progress {
        let _ = write!(stderr(), "\r\x1b[K");
    }
    outcome
}

/// Fails if no request was sent after the warm-up.
fn check_measured(outcome: &Outcome) -> Result<(), Error> {
    if outcome.sent > 0 {
        return Ok(());
    }
    let missing = outcome.missing_before;
    if missing > 0 {
        let what = format!("nothing was measured: warm-up requests with no reply: {missing}");
        return Err(Error::failed(what).with_remedy(MISSING_REMEDY));
    }
    Err(Error::failed("nothing was measured: the load ended within its warm-up")
        .with_remedy("let it run longer, or give a shorter --warmup"))
}

/// Fails if a reply was missing or not as expected.
fn check_replies(outcome: &Outcome) -> Result<(), Error> {
    let lost = [(outcome.missing, "no reply"), (outcome.wrong, "a reply that was not expected")];
    let lost: Vec<String> = lost
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{what}: {count}"))
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    let remedy = match outcome.missing {
        0 => "is --expect the handler that the service runs?",
        _ => MISSING_REMEDY,
    };
    Err(Error::failed(format!("of {} requests, {}", outcome.sent, lost.join(", ")))
        .with_remedy(remedy))
}
