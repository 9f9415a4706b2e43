//! The command `repd status`: reads `/status.json` of a service, and shows it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write, stdout};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::json::SCHEMA;
use super::terminal;
use crate::cli::{Status, print};
use crate::endpoint::Endpoint;
use crate::error::{Error, plain};
use crate::sys::fd::{readable_within, set_nonblocking};
use crate::sys::terminal::size as terminal_size;
use crate::text::is_escaped;

/// Time that the service has to answer.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Time between two looks with `--watch`.
const INTERVAL: Duration = Duration::from_secs(2);

/// Maximum size of an answer, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Moves the cursor of a terminal to the start, and clears what is below (ECMA-48, CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows what the service is doing; returns the exit code 0 if it is ready, 1 if it is not.
///
/// # Errors
/// An endpoint that names no place (exit code 2), or nothing that answers there (3).
pub fn status(options: &Status) -> Result<ExitCode, Error> {
    // What is wrong with the endpoint itself is wrong usage.
    options.endpoint.to_connect()?;
    if options.watch && options.quiet {
        return Err(
            Error::config("cannot use --watch with --quiet").with_remedy("leave out one of them")
        );
    }
    if options.watch {
        return watch(options);
    }
    match read(&options.endpoint) {
        Ok(status) => {
            if !options.quiet {
                print(&shown(&status, options.json))?;
            }
            let is_ready = status["ready"] == true;
            Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) if options.quiet => Ok(ExitCode::from(error.exit_code())),
        Err(error) => Err(error),
    }
}

/// Shows it again and again, also that nothing answers, until standard output takes no more.
fn watch(options: &Status) -> Result<ExitCode, Error> {
    loop {
        let text = match read(&options.endpoint) {
            Ok(status) => shown(&status, options.json),
            Err(error) if options.json => {
                format!("{}\n", serde_json::json!({"error": format!("{error:#}")}))
            }
            Err(error) => format!("{error:#}\n"),
        };
        match terminal_size(stdout()).filter(|_| !options.json) {
            Some(size) => print(&format!("{CLEAR}{}", cut(&text, size)))?,
            None => print(&text)?,
        }
        sleep(INTERVAL);
    }
}

/// Returns what of a text fits a terminal of so many rows and columns.
fn cut(text: &str, (rows, columns): (usize, usize)) -> String {
    let lines = text.lines().take(rows.saturating_sub(1));
    lines.map(|line| line.chars().take(columns).chain(['\n']).collect::<String>()).collect()
}

fn shown(status: &Value, is_json: bool) -> String {
    if is_json { json(status) } else { terminal::shown(status) }
}

/// Returns it as JSON, in which nothing changes a terminal: what serves there may be no repd.
fn json(status: &Value) -> String {
    let mut text = String::new();
    for c in status.to_string().chars() {
        if is_escaped(c) {
            // Each of these has four digits at most. Writing to a String never fails.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    text
}

/// Reads what the service shows.
fn read(endpoint: &Endpoint) -> Result<Value, Error> {
    let cannot = |why: String| {
        Error::fault(format!("cannot read the status at {endpoint}"))
            .with_cause(why)
            .with_remedy("is that the --status of a repd that runs?")
    };
    let answer = ask(endpoint).map_err(|error| cannot(plain(error)))?;
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let no_status = || cannot("what answers there shows no status".into());
    let start = match response.parse(&answer) {
        Ok(httparse::Status::Complete(start)) => start,
        _ => return Err(no_status()),
    };
    if response.code != Some(200) {
        let text = crate::text::printable(answer[start..].trim_ascii());
        return Err(cannot(format!("{} {text}", response.code.unwrap_or_default())));
    }
    let status: Value = serde_json::from_slice(&answer[start..]).map_err(|_| no_status())?;
    match (&status["schema"], status["ready"].is_boolean()) {
        (schema, true) if *schema == SCHEMA => Ok(status),
        (schema, true) if schema.is_u64() => {
            Err(cannot(format!("its schema is {schema}, and this repd reads {SCHEMA}")))
        }
        _ => Err(no_status()),
    }
}

/// Sends the request, and returns all that is answered.
fn ask(endpoint: &Endpoint) -> io::Result<Vec<u8>> {
    let ends = Instant::now() + MAX_WAIT;
    let socket = endpoint.connect()?;
    set_nonblocking(&socket)?;
    let mut socket = File::from(socket);
    // So short that the socket takes it at once. With HTTP/1.0 the answer comes in one piece.
    socket.write_all(b"GET /status.json HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(count) if answer.len() + count <= MAX_ANSWER => answer.extend(&buffer[..count]),
            Ok(_) => return Err(io::Error::other("its answer is too long")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = ends.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::Error::other("no answer in time"));
                }
                readable_within(&socket, left)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_as_json_is_the_same_and_changes_no_terminal() {
        let status = serde_json::json!({ "a": "\u{1b}\u{7f}\u{9b}31m \u{202e}é\u{feff}\n" });
        let printed = json(&status);
        assert!(!printed.trim_end().contains(is_escaped), "{printed}");
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), status);
    }

    #[test]
    fn what_does_not_fit_a_terminal_is_cut_at_the_end() {
        assert_eq!(cut("state\n\na long line\nmore\n", (4, 6)), "state\n\na long\n");
        assert_eq!(cut("state\n", (1, 1)), "");
    }
}
