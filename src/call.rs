//! The client: one request, one reply.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use zmq::SocketEvent;

use crate::cli::Call;
use crate::error::{Error, plain};
use crate::fault::Fault;
use crate::frame::Frame;
use crate::socket::{Context, Socket, wait};

/// Sends the request and prints the reply.
///
/// # Errors
/// Nobody there or no reply in time (exit code 1), or an error reply (3).
pub fn call(call: &Call) -> Result<(), Error> {
    let request = request(&call.frames)?;
    let reply = (0..=call.retries)
        .find_map(|again| match attempt(call, &request, again < call.retries) {
            Err(error) if error.exit_code() == 1 && again < call.retries => None,
            result => Some(result),
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
fn attempt(call: &Call, request: &[Frame], patient: bool) -> Result<Vec<Frame>, Error> {
    let context = Context::new(1)?;
    let (socket, monitor) = context.client(&call.endpoint)?;
    socket.send_all(request.iter().map(Frame::copy))?;
    let deadline = Instant::now() + call.timeout;
    let mut reached = Reached::NotYet;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut items = [socket.readable(), monitor.readable()];
        wait(&mut items, Some(left))?;
        let [replied, told] = items.map(|item| item.is_readable());
        if replied && let Some(first) = socket.try_recv()? {
            let mut reply = Vec::new();
            socket.recv_rest(first, &mut reply)?;
            return Ok(reply);
        }
        if told {
            reached = reached.after(&monitor)?;
        }
        // Who may try again has time: the service may be about to start.
        let hopeless = matches!(reached, Reached::Refused | Reached::Lost) && !patient;
        if hopeless || left == Duration::ZERO {
            return Err(no_reply(call, reached));
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
    /// What follows from the next event of zmq_socket_monitor(3): its first frame begins with a 16-bit
    /// number.
    fn after(self, monitor: &Socket) -> Result<Reached, Error> {
        let Some(first) = monitor.try_recv()? else { return Ok(self) };
        let event = first.first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes));
        monitor.recv_rest(first, &mut Vec::new())?;
        Ok(match self {
            Reached::Lost => self,
            _ if event == SocketEvent::CONNECTED.to_raw() => Reached::Connected,
            _ if event == SocketEvent::DISCONNECTED.to_raw() => Reached::Lost,
            Reached::NotYet if event == SocketEvent::CONNECT_RETRIED.to_raw() => Reached::Refused,
            _ => self,
        })
    }
}

fn no_reply(call: &Call, reached: Reached) -> Error {
    let Call { endpoint, timeout, .. } = call;
    let within = format!("within {} s", timeout.as_secs_f64());
    match reached {
        Reached::Refused => {
            let why = endpoint.probe().err().map_or("it was gone for a moment".into(), plain);
            Error::failed(format!("cannot connect to {endpoint}"))
                .because(why)
                .remedy("is the service running there?")
        }
        Reached::Lost => {
            Error::failed(format!("{endpoint} closed the connection before it replied"))
                .remedy("has the service ended, or is the request larger than it takes?")
        }
        Reached::NotYet => {
            Error::failed(format!("timed out: no connection to {endpoint} {within}"))
                .remedy("is the host up, and the port open?")
        }
        Reached::Connected => {
            Error::failed(format!("timed out: no reply from {endpoint} {within}"))
                .remedy("give it longer with --timeout, or ask again with --retries")
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

/// Text as it is, but for control characters; bytes that are no text as `\x` and two digits.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_printed_on_one_line_and_changes_no_terminal() {
        for (bytes, text) in [
            (&b"hello"[..], "hello"),
            ("é 👩‍🚒".as_bytes(), "é 👩‍🚒"),
            (b"a\nb\tc\x1b[2J", "a\\nb\\tc\\u{1b}[2J"),
            (b"\xff\x00", "\\xff\\u{0}"),
            (b"", ""),
        ] {
            assert_eq!(printable(bytes), text);
        }
    }
}
