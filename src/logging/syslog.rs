//! Writes log lines to the syslog daemon of this machine (RFC 3164).

use super::datagrams::Datagrams;
use super::line::Line;
use super::logger::Sink;
use super::standard_error::severity;
use crate::error::Error;

/// The facility of system daemons (RFC 3164, section 4.1.1).
const DAEMON: u8 = 3;

pub(super) struct Syslog(Datagrams);

impl Syslog {
    /// Makes a socket, and checks that a daemon is there.
    ///
    /// # Errors
    /// A daemon that is not there.
    pub fn connect() -> Result<Syslog, Error> {
        let cannot = "cannot reach a syslog daemon at /dev/log";
        Datagrams::to("/dev/log", cannot, "start one, or use --log stderr").map(Syslog)
    }
}

impl Sink for Syslog {
    /// Without a time: the daemon adds that of its arrival (section 4.3.2).
    fn write(&self, line: &Line) -> bool {
        let priority = DAEMON * 8 + severity(line.level);
        let (name, process) = (env!("CARGO_PKG_NAME"), std::process::id());
        self.0.send(format!("<{priority}>{name}[{process}]: {}", line.text).as_bytes())
    }
}
