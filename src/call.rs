//! The client: one request, one reply.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::cli::Call;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::socket::{Context, Event, Monitor, Monitored, wait};
use crate::text::printable;

/// Sends the request and prints the reply.
///
/// # Errors
/// Nobody there or no reply in time (exit code 1), or an error reply (3).
pub fn call(call: &Call) -> Result<(), Error> {
    let request = request(&call.frames)?;
    let reply = (0..=call.retries)
        .find_map(|again| {
            match attempt(&call.endpoint, &request, call.timeout, again < call.retries) {
                Err(error) if error.exit_code() == 1 && again < call.retries => None,
                result => Some(result),
            }
        })
        .unwrap_or_else(|| Err(Error::failed("no try was made")))?;
    if let Some(fault) = Fault::parse(&reply) {
        return Err(Error::fault(format!(
            "{} {}",
            fault.code(),
            printable(fault.text().as_bytes())
        )));
    }
    print(&reply, call.raw).map_err(Error::unprinted)
}

/// Asks once, and gives the reply.
///
/// # Errors
/// Nobody there, or no reply in time.
pub(crate) fn ask(
    endpoint: &Endpoint,
    request: &[Frame],
    timeout: Duration,
) -> Result<Vec<Frame>, Error> {
    attempt(endpoint, request, timeout, false)
}

fn request(frames: &[String]) -> Result<Vec<Frame>, Error> {
    if !frames.is_empty() {
        return Ok(frames.iter().map(|frame| Frame::from(frame.as_str())).collect());
    }
    let mut input = Vec::new();
    let read = io::stdin().read_to_end(&mut input);
    read.map_err(|error| Error::failed("cannot read standard input").because(error))?;
    Ok(vec![Frame::from(input)])
}

/// One try with a socket of its own, so that one that waits for a lost reply is left behind: the
/// Lazy Pirate client of the ZeroMQ guide, chapter 4.
fn attempt(
    endpoint: &Endpoint,
    request: &[Frame],
    timeout: Duration,
    patient: bool,
) -> Result<Vec<Frame>, Error> {
    let context = Context::new(1)?;
    let Monitored { socket, monitor } = &context.monitored_req(endpoint)?;
    socket.send_all(&mut request.iter().map(Frame::copy).collect::<Vec<_>>())?;
    let deadline = Instant::now() + timeout;
    let mut reached = Reached::NotYet;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        wait(&mut [socket.readable(), monitor.readable()], Some(left))?;
        let mut reply = Vec::new();
        if socket.try_receive(&mut reply)? {
            return Ok(reply);
        }
        reached = reached.after(monitor)?;
        // Who may try again has time: the service may be about to start.
        let hopeless = matches!(reached, Reached::Refused | Reached::Lost) && !patient;
        if hopeless || left == Duration::ZERO {
            return Err(no_reply(endpoint, timeout, reached));
        }
    }
}

/// How far the connection has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    NotYet,
    Refused,
    Connected,
    /// It was made and then ended, perhaps after the request was handled.
    Lost,
}

impl Reached {
    /// What follows from the next event.
    fn after(self, monitor: &Monitor) -> Result<Reached, Error> {
        Ok(match (self, monitor.next()?) {
            (Reached::Lost, _) => self,
            (_, Some(Event::Connected)) => Reached::Connected,
            (_, Some(Event::Disconnected)) => Reached::Lost,
            (Reached::NotYet, Some(Event::Retried)) => Reached::Refused,
            _ => self,
        })
    }
}

fn no_reply(endpoint: &Endpoint, timeout: Duration, reached: Reached) -> Error {
    let within = format!("within {} s", timeout.as_secs_f64());
    match reached {
        Reached::Refused => {
            let cannot = format!("cannot connect to {endpoint}");
            let error = match endpoint.probe() {
                Ok(()) => Error::failed(cannot).because("it was gone for a moment"),
                Err(error) => Error::of_system(cannot, error),
            };
            error.otherwise("is the service running there?")
        }
        Reached::Lost => {
            Error::failed(format!("{endpoint} closed the connection before it replied"))
                .remedy("has the service ended, is the request larger than it takes, or is it no server of REQ clients?")
        }
        Reached::NotYet => {
            Error::failed(format!("timed out: no connection to {endpoint} {within}"))
                .remedy("is the host up, and the port open?")
        }
        Reached::Connected => {
            Error::failed(format!("timed out: no reply from {endpoint} {within}"))
                .remedy("is it busy, or no server of REQ clients? more time: --timeout")
        }
    }
}

fn print(reply: &[Frame], raw: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for frame in reply {
        if raw {
            out.write_all(frame)?;
        } else {
            writeln!(out, "{}", printable(frame))?;
        }
    }
    out.flush()
}
