//! The load tool: loads a service and says what came of it.

use std::fs;
use std::io::{IsTerminal, Write, stderr, stdout};
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
mod report;

pub use load::{Body, Clients, End, Load, Outcome, run};

/// Loads the service and prints what came of it.
///
/// # Errors
/// Nobody there, or replies that were missing or not as expected (exit code 1).
pub fn bench(options: &cli::Bench) -> Result<(), Error> {
    options.check()?;
    let body = body(&options.size)?;
    let request = || vec![Frame::from(&body[..])];
    let expected = match options.expect {
        None => None,
        Some(Builtin::Echo) => echo(request()).ok(),
        Some(Builtin::Reverse) => reverse(request()).ok(),
    };
    let expected = expected.and_then(|mut frames| frames.pop());
    let clients = match options.pipeline {
        None => Clients::Req(options.clients.unwrap_or(BENCH_CLIENTS)),
        Some(outstanding) => Clients::Pipeline(outstanding),
    };
    let load = Load {
        endpoint: options.endpoint.clone(),
        clients,
        threads: available_parallelism().map_or(1, |n| n.get()),
        bodies: vec![Body { bytes: body.clone(), weight: 1, expected }],
        warmup: options.warmup,
        end: match options.requests {
            None => End::After(options.duration.unwrap_or(BENCH_DURATION)),
            Some(requests) => End::Requests(requests),
        },
        timeout: options.timeout,
    };
    rlimit::raise_for_clients(clients.sockets())?;
    // A service that is not there is said at once, and not for each client at the end.
    ask(&options.endpoint, &[Frame::from(&body[..])], options.timeout)?;
    let stop = Signals::catch()?;
    let shows_progress = stderr().is_terminal();
    let outcome = run(&load, &stop, |elapsed, rate| {
        if shows_progress {
            let _ = write!(stderr(), "\r\x1b[K{}", report::progress(elapsed, rate));
        }
    });
    if shows_progress {
        let _ = write!(stderr(), "\r\x1b[K");
    }
    let outcome = outcome?;
    if outcome.sent == 0 && outcome.missing_before > 0 {
        let missing = outcome.missing_before;
        return Err(Error::failed(format!(
            "nothing was measured: of the warm-up, no reply: {missing}"
        ))
        .remedy("is the service overloaded, or gone? more time: --timeout"));
    }
    if outcome.sent == 0 {
        return Err(Error::failed("nothing was measured: the load ended within its warm-up")
            .remedy("let it run, or give less --warmup"));
    }
    let text =
        if options.json { report::json(&load, &outcome) } else { report::text(&load, &outcome) };
    stdout().write_all(text.as_bytes()).map_err(Error::unprinted)?;
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
        0 => "is that the handler which the service runs?",
        _ => "is the service overloaded, or gone? more time: --timeout",
    };
    Err(Error::failed(format!("of {} requests, {}", outcome.sent, lost.join(", "))).remedy(remedy))
}

/// The body of each request. Text that reads otherwise backwards, if only its size is given.
fn body(size: &Size) -> Result<Vec<u8>, Error> {
    match size {
        Size::Bytes(bytes) => Ok((b'a'..=b'z').cycle().take(*bytes).collect()),
        Size::File(path) => fs::read(path).map_err(|error| {
            Error::config(format!("cannot read {path}"))
                .because(plain(error))
                .remedy("give --size bytes, with k for KiB or M for MiB, or a file for the body")
        }),
    }
}
