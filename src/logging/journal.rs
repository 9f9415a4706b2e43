//! Writes log lines to systemd's journal, each with its fields, by its native protocol
//! (systemd.io/JOURNAL_NATIVE_PROTOCOL).

use super::datagrams::Datagrams;
use super::event;
use super::line::{Field, Line};
use super::logger::Sink;
use super::standard_error::severity;
use crate::error::Error;

/// Where the journal receives lines.
const SOCKET: &str = "/run/systemd/journal/socket";

pub(super) struct Journal(Datagrams);

impl Journal {
    /// Makes a socket, and checks that the journal is there.
    ///
    /// # Errors
    /// A journal that is not there.
    pub fn connect() -> Result<Journal, Error> {
        let cannot = "cannot reach the journal at /run/systemd/journal/socket";
        Datagrams::to(SOCKET, cannot, "start systemd-journald, or use --log stderr").map(Journal)
    }
}

impl Sink for Journal {
    fn write(&self, line: &Line) -> bool {
        self.0.send(&datagram(line))
    }
}

/// Returns the message about a line.
fn datagram(line: &Line) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(line.text.len() + 256);
    push(&mut datagram, "PRIORITY", &severity(line.level).to_string());
    push(&mut datagram, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    for (key, value) in &line.fields {
        let value = match value {
            Field::Number(number) => &number.to_string(),
            Field::Text(text) => text,
        };
        if key == event::FIELD
            && let Some(id) = event::message_id(value)
        {
            push(&mut datagram, "MESSAGE_ID", id);
        }
        push(&mut datagram, &name_of(key), value);
    }
    push(&mut datagram, "MESSAGE", &line.text);
    datagram
}

/// Adds a field by its length, so that its value may be of any bytes.
fn push(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend(name.as_bytes());
    datagram.push(b'\n');
    datagram.extend((value.len() as u64).to_le_bytes());
    datagram.extend(value.as_bytes());
    datagram.push(b'\n');
}

/// Returns what the journal calls a field: its names are of upper-case letters, digits and `_`.
fn name_of(key: &str) -> String {
    let name =
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("REPD_{}", name.take(50).collect::<String>())
}
