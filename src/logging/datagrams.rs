//! A socket of this machine that receives log lines, a datagram each.

use std::io;
use std::os::unix::net::UnixDatagram;

use crate::error::{Error, plain};

/// It is not connected, so that who receives there is reached though it was started again.
pub(super) struct Datagrams {
    socket: UnixDatagram,
    path: &'static str,
}

impl Datagrams {
    /// Makes a socket, and checks that somebody receives at `path`.
    ///
    /// # Errors
    /// `cannot` with why nobody does, and `remedy`.
    pub fn to(path: &'static str, cannot: &str, remedy: &str) -> Result<Datagrams, Error> {
        let make = || -> io::Result<UnixDatagram> {
            UnixDatagram::unbound()?.connect(path)?;
            let socket = UnixDatagram::unbound()?;
            // What is not taken at once is lost: it must not block the service.
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = make()
            .map_err(|error| Error::config(cannot).with_cause(plain(error)).with_remedy(remedy))?;
        Ok(Datagrams { socket, path })
    }

    /// Sends a datagram; returns false if it is lost.
    pub fn send(&self, datagram: &[u8]) -> bool {
        self.socket.send_to(datagram, self.path).is_ok()
    }
}
