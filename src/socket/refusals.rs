//! Peers whose connection libzmq has ended for what they sent.

use std::ffi::c_int;

use log::warn;

use super::Socket;
use crate::error::Error;

/// What has been said of them in the log.
pub(crate) struct Refusals {
    /// What a peer of this socket should be.
    peer: &'static str,
    cut_off: c_int,
    refused: c_int,
}

impl Refusals {
    pub fn new(peer: &'static str) -> Refusals {
        Refusals { peer, cut_off: 0, refused: 0 }
    }

    /// Says what is new of those of `socket`, with `of` in front of it.
    pub fn tell(&mut self, of: &str, socket: &Socket) -> Result<(), Error> {
        let cut_off = socket.cut_off()?;
        if std::mem::replace(&mut self.cut_off, cut_off) != cut_off {
            let address = shown(socket.last_address(zmq_sys::ZMQ_LAST_CUT_OFF)?);
            warn!(
                "{of}cut off {address}: its message or handshake is far larger than this service takes; so far: \
                 {cut_off}"
            );
        }
        let refused = socket.refused()?;
        if std::mem::replace(&mut self.refused, refused) != refused {
            let address = shown(socket.last_address(zmq_sys::ZMQ_LAST_REFUSED)?);
            let peer = self.peer;
            warn!(
                "{of}refused {address}: it is no {peer}, or breaks the protocol; so far: {refused}"
            );
        }
        Ok(())
    }

    /// Begins anew, with another socket.
    pub fn forget(&mut self) {
        (self.cut_off, self.refused) = (0, 0);
    }
}

/// Who connects over ipc has no address.
fn shown(address: String) -> String {
    if address == "ipc://" { "a process of this machine".into() } else { address }
}
