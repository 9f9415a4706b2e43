//! One connection of a reader: its request is read, the response is written, and it ends.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::socket::{Shutdown, shutdown};

use super::http::{self, MAX_REQUEST, Refused, Request};

/// Time that a connection may take in all.
const LIMIT: Duration = Duration::from_secs(10);

/// Maximum number of bytes that are dropped of what a reader sends after its request.
const MAX_DROPPED: usize = 64 << 10;

/// What is written to a reader.
pub(super) struct Response {
    pub head: String,
    pub body: Arc<[u8]>,
}

pub(super) struct Connection {
    socket: File,
    state: State,
    /// When it is ended, wherever it is.
    pub ends_at: Instant,
}

enum State {
    /// The bytes that have come.
    Reading(Vec<u8>),
    /// The response, and how many bytes of it were written.
    Writing(Response, usize),
    /// All was written. What the reader still sends is dropped until it ends the connection, and
    /// counted: ended before, it would lose what it has not read yet (RFC 9112, section 9.6).
    Closing(usize),
}

impl Connection {
    /// Takes a socket that does not block.
    pub fn new(socket: OwnedFd, now: Instant) -> Connection {
        Connection {
            socket: File::from(socket),
            state: State::Reading(Vec::new()),
            ends_at: now + LIMIT,
        }
    }

    /// Returns its descriptor, and what to wait for.
    pub fn watched(&self) -> (BorrowedFd<'_>, PollFlags) {
        let events = match self.state {
            State::Writing(..) => PollFlags::POLLOUT,
            State::Reading(_) | State::Closing(_) => PollFlags::POLLIN,
        };
        (self.socket.as_fd(), events)
    }

    /// Does what can be done without waiting; returns false once it has ended. `respond` answers the
    /// request.
    pub fn advance(&mut self, respond: impl FnOnce(Result<Request, Refused>) -> Response) -> bool {
        if let State::Reading(bytes) = &mut self.state {
            // Who has sent all may close that direction, and still reads.
            let has_more = matches!(read(&mut self.socket, bytes), Progress::Waiting);
            match http::parse(bytes).transpose() {
                Some(request) => self.state = State::Writing(respond(request), 0),
                None => return has_more,
            }
        }
        if let State::Writing(response, written) = &mut self.state {
            let length = response.head.len() + response.body.len();
            match write(&mut self.socket, response, written) {
                Progress::Ended => return false,
                Progress::Waiting if *written < length => return true,
                Progress::Waiting => (),
            }
            if shutdown(self.socket.as_raw_fd(), Shutdown::Write).is_err() {
                return false;
            }
            self.state = State::Closing(0);
        }
        let State::Closing(dropped) = &mut self.state else { return true };
        let mut rest = Vec::new();
        let is_open = matches!(read(&mut self.socket, &mut rest), Progress::Waiting);
        *dropped += rest.len();
        is_open && *dropped < MAX_DROPPED
    }
}

/// What became of a try to read or write.
enum Progress {
    /// There is nothing more to be done now.
    Waiting,
    /// The other end has closed the connection, or it has failed.
    Ended,
}

/// Reads what has come, up to [`MAX_REQUEST`] bytes in all.
fn read(socket: &mut File, bytes: &mut Vec<u8>) -> Progress {
    let mut buffer = [0; 2048];
    while bytes.len() < MAX_REQUEST {
        let most = buffer.len().min(MAX_REQUEST - bytes.len());
        match socket.read(&mut buffer[..most]) {
            Ok(0) => return Progress::Ended,
            Ok(count) => bytes.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waiting,
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(_) => return Progress::Ended,
        }
    }
    Progress::Waiting
}

/// Writes what there is place for, from the byte `written` on, and counts it there.
fn write(socket: &mut File, response: &Response, written: &mut usize) -> Progress {
    let (head, body) = (response.head.as_bytes(), &response.body[..]);
    loop {
        let rest = match written.checked_sub(head.len()) {
            None => &head[*written..],
            Some(of_body) => &body[of_body..],
        };
        if rest.is_empty() {
            return Progress::Waiting;
        }
        match socket.write(rest) {
            Ok(count) => *written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waiting,
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(_) => return Progress::Ended,
        }
    }
}
