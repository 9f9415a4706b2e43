//! Writes log lines to syslog.

use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};

use ::syslog::{Facility, Formatter3164, Logger, LoggerBackend};
use log::Level;

use super::line::Line;
use super::logger::Sink;
use crate::error::Error;

type Connection = Logger<LoggerBackend, Formatter3164>;

/// The connection to the syslog daemon, or `Option::None` while it cannot be reached.
pub(super) struct Syslog(Mutex<Option<Connection>>);

impl Syslog {
    /// Connects to the syslog daemon of this machine.
    ///
    /// # Errors
    /// A daemon that is not there.
    pub fn connect() -> Result<Syslog, Error> {
        let connection = connect().map_err(|_| {
            Error::config("cannot reach a syslog daemon at /dev/log")
                .with_remedy("start one, or use --log stderr")
        })?;
        Ok(Syslog(Mutex::new(Some(connection))))
    }
}

fn connect() -> Result<Connection, ::syslog::Error> {
    let connection = ::syslog::unix(Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: env!("CARGO_PKG_NAME").into(),
        pid: std::process::id(),
    })?;
    // Lines are lost if the daemon does not read them: it must not block the service.
    match &connection.backend {
        LoggerBackend::Unix(socket) => socket.set_nonblocking(true)?,
        LoggerBackend::UnixStream(socket) => socket.get_ref().set_nonblocking(true)?,
        LoggerBackend::Udp(..) | LoggerBackend::Tcp(..) => (),
    }
    Ok(connection)
}

/// Sends `line` with the severity of `level`.
fn send(connection: &mut Connection, level: Level, line: &str) -> Result<(), ::syslog::Error> {
    match level {
        Level::Error => connection.err(line),
        Level::Warn => connection.warning(line),
        Level::Info => connection.info(line),
        Level::Debug | Level::Trace => connection.debug(line),
    }
}

impl Sink for Syslog {
    fn write(&self, Line { level, text, .. }: &Line) -> bool {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match connection.as_mut().map(|it| send(it, *level, text)) {
            Some(Ok(())) => return true,
            // It does not read at the moment. To connect to such a one may block.
            Some(Err(::syslog::Error::Write(error))) if error.kind() == ErrorKind::WouldBlock => {
                return false;
            }
            _ => (),
        }
        // A daemon that was restarted has a new socket.
        *connection = connect().ok();
        connection.as_mut().is_some_and(|it| send(it, *level, text).is_ok())
    }
}
