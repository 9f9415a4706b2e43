//! Peers whose connection libzmq has ended for what they sent.

use std::ffi::c_int;

use log::warn;

use super::Socket;
use crate::error::Error;

/// What has been said of them in the log.
pub(crate) struct Refusals([Kind; 3]);

/// Those of one kind.
struct Kind {
    /// What was done to them, and why.
    done: &'static str,
    why: String,
    /// The options that count them, and have the address of the last.
    count: u32,
    last: u32,
    /// How many of them have been told of.
    told: c_int,
}

impl Kind {
    fn new(done: &'static str, why: String, count: u32, last: u32) -> Kind {
        Kind { done, why, count, last, told: 0 }
    }
}

impl Refusals {
    /// Those of a socket whose peers should each be such a `peer`.
    pub fn new(peer: &str) -> Refusals {
        use zmq_sys as z;
        let far_too_large = "its message or handshake is far larger than this service takes".into();
        let no_peer = format!("it is no {peer}, or breaks the protocol");
        let namesake = "its name is that of a connection that lives".into();
        Refusals([
            Kind::new("cut off", far_too_large, z::ZMQ_CUT_OFF, z::ZMQ_LAST_CUT_OFF),
            Kind::new("refused", no_peer, z::ZMQ_REFUSED, z::ZMQ_LAST_REFUSED),
            Kind::new("refused", namesake, z::ZMQ_NAMESAKES, z::ZMQ_LAST_NAMESAKE),
        ])
    }

    /// Says what is new of those of `socket`, with `of` in front of it. Unless `is_told` it is only taken note of, since
    /// it was said in other words.
    pub fn tell(&mut self, of: &str, socket: &Socket, is_told: bool) -> Result<(), Error> {
        for Kind { done, why, count, last, told } in &mut self.0 {
            let count = socket.get_number(*count)?;
            if std::mem::replace(told, count) != count && is_told {
                let address = shown(socket.last_address(*last)?);
                warn!("{of}{done} {address}: {why}; so far: {count}");
            }
        }
        Ok(())
    }

    /// Begins anew, with another socket.
    pub fn forget(&mut self) {
        self.0.iter_mut().for_each(|kind| kind.told = 0);
    }
}

/// Who connects over ipc has no address.
fn shown(address: String) -> String {
    if address == "ipc://" { "a process of this machine".into() } else { address }
}
