//! The client `repd call`: sends one request and prints the reply.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::auth::ClientKeys;
use crate::cli::Call;
use crate::config::{FRAMES_RANGE, SIZE_RANGE};
use crate::endpoint::Endpoint;
use crate::error::{Error, plain};
use crate::fault::Fault;
use crate::frame::Frame;
use crate::socket::{Context, Event, HandshakeFailure, Monitored, wait};
use crate::text::printable;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

/// Sends the request, again if there is no reply and `call` allows retries, and prints the reply.
///
/// # Errors
/// Returns an error if no reply came in time or the reply cannot be printed (exit code 1), if the
/// endpoint or a limit of the system is in the way (2), or if the reply is an error reply (3).
pub fn call(call: &Call) -> Result<(), Error> {
    let keys = call.keys()?;
    let request = request(call)?;
    let mut retries = call.retries;
    let reply = loop {
        match attempt(&call.endpoint, keys.as_ref(), &request, call.timeout, retries > 0) {
            Err(error) if error.exit_code() == 1 && retries > 0 => retries -= 1,
            result => break result?,
        }
    };
    if let Some(fault) = Fault::parse(&reply) {
        let text = printable(fault.text().as_bytes());
        return Err(Error::fault(format!("{} {text}", fault.code())));
    }
    print(&reply, call.raw, &mut io::stdout().lock()).map_err(Error::cannot_print)
}

/// Sends `request` once and returns the reply.
///
/// # Errors
/// Returns an error if no service is there, or if no reply comes within `timeout`.
pub(crate) fn ask(
    endpoint: &Endpoint,
    keys: Option<&ClientKeys>,
    request: &[Frame],
    timeout: Duration,
) -> Result<Vec<Frame>, Error> {
    attempt(endpoint, keys, request, timeout, false)
}

/// Returns the frames of the request: those of the command line, or standard input as one frame if
/// there are none.
fn request(call: &Call) -> Result<Vec<Frame>, Error> {
    if !call.frames.is_empty() {
        return Ok(call.frames.iter().map(|frame| Frame::from(frame.as_str())).collect());
    }
    let mut input = Vec::new();
    let read = io::stdin().read_to_end(&mut input);
    read.map_err(|error| {
        Error::failed("cannot read standard input")
            .with_cause(plain(error))
            .with_remedy("give a file or a pipe, or the frames as arguments")
    })?;
    if !call.keep_newline {
        cut_newline(&mut input);
    }
    Ok(vec![Frame::from(input)])
}

/// Cuts the line end off a text, so that `echo hello` asks for what `printf hello` does. Bytes that
/// are no text (they are not UTF-8, or have a zero) are left as they are.
fn cut_newline(input: &mut Vec<u8>) {
    if str::from_utf8(input).is_ok() && !input.contains(&0) {
        let line = input.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let length = line.map_or(input.len(), <[u8]>::len);
        input.truncate(length);
    }
}

/// Sends `request` from a socket of its own and returns the reply, as the Lazy Pirate client of the
/// ZeroMQ guide (chapter 4): a REQ socket whose reply is lost cannot send again. Gives up when the
/// connection is refused or lost, or, if `can_retry`, only after `timeout`: the service may be
/// about to start.
fn attempt(
    endpoint: &Endpoint,
    keys: Option<&ClientKeys>,
    request: &[Frame],
    timeout: Duration,
    can_retry: bool,
) -> Result<Vec<Frame>, Error> {
    let context = Context::new(1)?;
    let Monitored { socket, monitor } =
        &context.monitored_req(endpoint, timeout, keys.map(ClientKeys::raw))?;
    socket.send_message(&mut request.iter().map(Frame::clone).collect::<Vec<_>>())?;
    let deadline = Instant::now() + timeout;
    let mut connection = Connection::Pending;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        wait(&mut [socket.readable(), monitor.readable()], Some(left))?;
        let mut reply = Vec::new();
        if socket.try_recv_message(&mut reply)? {
            return if is_whole(&reply) { Ok(reply) } else { Err(too_large(endpoint)) };
        }
        connection = connection.after(monitor.next()?);
        let is_broken = !matches!(connection, Connection::Pending | Connection::Established);
        if (is_broken && !can_retry) || left == Duration::ZERO {
            return Err(no_reply(endpoint, keys, timeout, connection));
        }
    }
}

/// Returns true if a reply has come whole: of one that is too large only as much is received as shows
/// that.
fn is_whole(reply: &[Frame]) -> bool {
    let bytes: usize = reply.iter().map(|frame| frame.len()).sum();
    bytes <= *SIZE_RANGE.end() && reply.len() <= *FRAMES_RANGE.end()
}

fn too_large(endpoint: &Endpoint) -> Error {
    let (bytes, frames) = (SIZE_RANGE.end(), FRAMES_RANGE.end());
    Error::failed(format!("the reply of {endpoint} is too large"))
        .with_cause(format!("it has more than {bytes} bytes or {frames} frames"))
        .with_remedy("is that a server of REQ clients?")
}

/// The state of the connection to the service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    Pending,
    Refused,
    Established,
    /// It ended after it was established, perhaps after the request was handled.
    Lost,
    /// It ended before its handshake was done.
    NotTaken,
    /// Its handshake failed for that.
    Denied(HandshakeFailure),
}

impl Connection {
    /// Returns the state after an event, or after none.
    fn after(self, event: Option<Event>) -> Connection {
        match (self, event) {
            (Connection::Lost | Connection::NotTaken | Connection::Denied(_), _) => self,
            (_, Some(Event::HandshakeFailed(HandshakeFailure::Other))) => Connection::NotTaken,
            (_, Some(Event::HandshakeFailed(why))) => Connection::Denied(why),
            (_, Some(Event::Connected)) => Connection::Established,
            (_, Some(Event::Disconnected)) => Connection::Lost,
            (Connection::Pending, Some(Event::Retried)) => Connection::Refused,
            _ => self,
        }
    }
}

/// Returns the error for a request without a reply.
fn no_reply(
    endpoint: &Endpoint,
    keys: Option<&ClientKeys>,
    timeout: Duration,
    connection: Connection,
) -> Error {
    let within = format!("within {} s", timeout.as_secs_f64());
    match connection {
        Connection::Refused => {
            let cannot = format!("cannot connect to {endpoint}");
            let error = match endpoint.connect().map(drop) {
                Ok(()) => Error::failed(cannot).with_cause("it was gone for a moment"),
                Err(error) => Error::of_system(cannot, error),
            };
            error.or_remedy("is the service running there?")
        }
        Connection::Lost => {
            Error::failed(format!("{endpoint} closed the connection before it replied"))
                .with_remedy(
                    "has the service ended, is the request larger than it takes, \
                 or does it not serve REQ clients?",
                )
        }
        Connection::NotTaken => {
            Error::failed(format!("{endpoint} closed the connection before its handshake"))
                .with_remedy(
                    "does it serve REQ clients, from here, and has this one too many connections?",
                )
        }
        Connection::Denied(why) => denied(endpoint, keys, why),
        Connection::Pending => {
            Error::failed(format!("timed out: no connection to {endpoint} {within}"))
                .with_remedy("is the host up, and the port open?")
        }
        Connection::Established => {
            Error::failed(format!("timed out: no reply from {endpoint} {within}"))
                .with_remedy("is it busy, or does it not serve REQ clients? more time: --timeout")
        }
    }
}

/// Returns the error of a handshake that failed for that.
fn denied(endpoint: &Endpoint, keys: Option<&ClientKeys>, why: HandshakeFailure) -> Error {
    if let Some(stranger) = why.stranger() {
        return Error::failed(format!("{endpoint} {stranger}"))
            .with_remedy("give the endpoint of a repd, or of another server of REQ clients");
    }
    let (what, remedy) = match (why, keys) {
        (HandshakeFailure::ServerKey, _) => (
            format!("{endpoint} has another key than --server-key says"),
            "give its public key: repd keygen --public FILE prints it there".into(),
        ),
        (HandshakeFailure::NotListed, Some(keys)) => (
            format!("{endpoint} does not let this key in"),
            format!(
                "have it added to the list of its clients, or its line there changed: NAME {}",
                keys.public()
            ),
        ),
        (HandshakeFailure::NotListed, None) => {
            (format!("{endpoint} does not let this client in"), "ask whose it is".into())
        }
        (_, None) => (
            format!("{endpoint} wants keys or a password"),
            "if keys, give --server-key, its public key, and --key, the file with your secret one"
                .into(),
        ),
        (_, Some(_)) => {
            (format!("{endpoint} has no keys"), "leave out --key and --server-key".into())
        }
    };
    Error::failed(what).with_remedy(remedy)
}

/// Prints each frame on a line of its own, or, if `raw`, the bytes of all frames as they are.
fn print(reply: &[Frame], raw: bool, out: &mut impl Write) -> io::Result<()> {
    for frame in reply {
        if raw {
            out.write_all(frame)?;
        } else {
            writeln!(out, "{}", printable(frame))?;
        }
    }
    out.flush()
}
