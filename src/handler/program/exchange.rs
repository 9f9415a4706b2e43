//! One request to a program, and its reply.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};

use super::failure::Failure;
use super::framing::{Broken, Format, Framing, Reader, quoted};
use super::process::Process;
use crate::frame::Frame;
use crate::sys::fd::poll;

/// Gives `input`, a request, to the program, and takes its reply, a `buffer` at a time.
///
/// # Errors
/// There is none: the program has ended, broken the framing, or let the deadline pass.
pub(super) fn exchange(
    process: &mut Process,
    format: Format,
    mut input: &[u8],
    buffer: &mut [u8],
    deadline: Instant,
) -> Result<Vec<Frame>, Failure> {
    let once = format.framing == Framing::Once;
    let mut reader = Reader::new(format);
    let mut written = 0;
    let mut open = true;
    loop {
        if let Some(stdin) = process.stdin.as_mut().filter(|_| !input.is_empty()) {
            match stdin.write(input) {
                Ok(now) => {
                    input = &input[now..];
                    written += now;
                }
                Err(error) if is_passing(&error) => (),
                // It takes no more: what it says to that, or its end, decides.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => input = &[],
                Err(error) => return Err(error.into()),
            }
        }
        if once && input.is_empty() {
            process.stdin = None;
        }
        let exited = match wait(process, !input.is_empty(), open, deadline)? {
            Waited::Exited => true,
            Waited::Spoken => false,
            Waited::Late => return Err(Failure::Late(reader.unfinished())),
        };
        while open {
            match process.stdout.read(buffer) {
                Ok(0) => open = false,
                Ok(read) => {
                    let Some(reply) = reader.push(&buffer[..read])? else { continue };
                    if !input.is_empty() {
                        let wrote = quoted(&buffer[..read]);
                        let why = format!("it wrote {wrote} before it had read the request");
                        let hint = "it is to write replies alone";
                        return Err(Broken::Malformed(why, hint).into());
                    }
                    return Ok(reply);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if once && exited {
            return Ok(reader.finish());
        }
        if !once && (exited || !open) {
            let is_untouched = process.take_back().is_ok_and(|unread| unread >= written);
            let lost = || Failure::Lost(reader.unfinished());
            return Err(if is_untouched { Failure::Untouched } else { lost() });
        }
    }
}

/// Returns true if the call is to be made again, at once or when the other side has done something.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// What a program has been waited for.
enum Waited {
    /// It has ended.
    Exited,
    /// It says something, or takes more.
    Spoken,
    /// The deadline has passed before either.
    Late,
}

/// Waits until the program has ended; or says something, as long as its output is `open`; or takes more, if there
/// `is_more`.
fn wait(process: &Process, is_more: bool, open: bool, deadline: Instant) -> io::Result<Waited> {
    let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds = vec![watch(process.exit())];
    fds.extend(open.then(|| watch(process.stdout.as_fd())));
    let stdin = process.stdin.as_ref().filter(|_| is_more);
    fds.extend(stdin.map(|stdin| PollFd::new(stdin.as_fd(), PollFlags::POLLOUT)));
    let left = deadline.saturating_duration_since(Instant::now());
    poll(&mut fds, Some(left))?;
    if left.is_zero() && fds.iter().all(|fd| fd.any() == Some(false)) {
        return Ok(Waited::Late);
    }
    Ok(if fds[0].any() == Some(false) { Waited::Spoken } else { Waited::Exited })
}
