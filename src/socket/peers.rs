//! Who is connected to a ROUTER, who has gone, and how a connection is ended: options of the patches.

use std::ffi::c_int;

use super::{Socket, last_error, socket_error};
use crate::error::Error;
use crate::text::printable;

/// Maximum number of bytes of what the ZAP handler calls a peer.
const MAX_USER_ID: usize = 255;

/// Maximum number of bytes of a peer's routing id: what it may name itself (RFC 37, section 2.3), behind
/// what the ZAP handler calls it and two zeros.
const MAX_ROUTING_ID: usize = 255 + MAX_USER_ID + 2;

/// A peer of a ROUTER.
#[derive(Debug)]
pub(crate) struct Peer {
    pub routing_id: Vec<u8>,
    /// Who it is, as the ZAP handler has said; empty where that was not asked.
    pub user_id: String,
}

/// A peer of a ROUTER made by [`Context::workers`] that has come.
///
/// [`Context::workers`]: super::Context::workers
#[derive(Debug, Default)]
pub(crate) struct Newcomer {
    pub routing_id: Vec<u8>,
    /// Who it is, as the ZAP handler has said; empty where that was not asked.
    pub user_id: String,
    /// What kind of socket it is, such as REP; empty if its protocol does not tell.
    pub kind: String,
    /// Such as `tcp://10.0.0.7:41234`, or `process 4711` over ipc.
    pub address: String,
}

impl Newcomer {
    /// Returns what libzmq tells of a newcomer; `None` if it is not that.
    fn parse(told: &[u8]) -> Option<Newcomer> {
        let (length, told) = told.split_first()?;
        let (routing_id, told) = told.split_at_checked((*length).into())?;
        let (length, told) = told.split_first()?;
        let (user_id, told) = told.split_at_checked((*length).into())?;
        let about = printable(told);
        let (kind, address) = about.split_once(' ')?;
        let (endpoint, address) = address.rsplit_once(' ')?;
        // Over ipc the address is `:USER:GROUP:PROCESS`.
        let is_ipc = endpoint.starts_with("ipc:");
        let process = address.rsplit(':').next().filter(|_| is_ipc);
        Some(Newcomer {
            routing_id: routing_id.into(),
            user_id: String::from_utf8_lossy(user_id).into_owned(),
            kind: kind.into(),
            address: process.map_or(endpoint.into(), |process| format!("process {process}")),
        })
    }
}

impl Socket {
    /// Returns the next peer that has come, if there is one: of a ROUTER made by
    /// [`Context::workers`](super::Context::workers).
    pub fn next_come(&self) -> Result<Option<Newcomer>, Error> {
        let mut told = [0_u8; 1024];
        let mut size = told.len();
        let is_read = self.get_option(zmq_sys::ZMQ_COME, told.as_mut_ptr().cast(), &mut size)?;
        Ok(Some(&told[..size]).filter(|_| is_read).and_then(Newcomer::parse))
    }

    /// Returns the routing id of the next peer that has gone, if there is one: of a ROUTER made by
    /// [`Context::router`] or [`Context::workers`].
    pub fn next_gone(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut id = [0_u8; MAX_ROUTING_ID];
        let mut size = id.len();
        let is_read = self.get_option(zmq_sys::ZMQ_GONE, id.as_mut_ptr().cast(), &mut size)?;
        Ok((is_read && size > 0).then(|| id[..size].to_vec()))
    }

    /// Returns the next of the connected peers, one at each call; `None` after the last, and then it
    /// begins anew. Of a ROUTER.
    pub fn next_peer(&self) -> Result<Option<Peer>, Error> {
        let mut told = [0_u8; 2 + MAX_ROUTING_ID + MAX_USER_ID];
        let mut size = told.len();
        let is_read = self.get_option(zmq_sys::ZMQ_PEERS, told.as_mut_ptr().cast(), &mut size)?;
        let Some((length, told)) = told[..size].split_first_chunk().filter(|_| is_read) else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let (routing_id, user_id) = told.split_at(length.min(told.len()));
        let user_id = String::from_utf8_lossy(user_id).into_owned();
        Ok(Some(Peer { routing_id: routing_id.into(), user_id }))
    }

    /// Ends the connection of a ROUTER's peer, once what was sent to it has left. It does nothing if
    /// that peer has gone.
    pub fn end_peer(&self, routing_id: &[u8]) -> Result<(), Error> {
        self.drained.set(false);
        let (option, start) = (zmq_sys::ZMQ_END as c_int, routing_id.as_ptr().cast());
        // SAFETY: the socket is live; libzmq reads so many bytes.
        match unsafe { zmq_sys::zmq_setsockopt(self.raw, option, start, routing_id.len()) } {
            0 => Ok(()),
            _ => match last_error() {
                zmq::Error::EHOSTUNREACH | zmq::Error::ETERM => Ok(()),
                error => Err(socket_error("cannot end a connection", error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_newcomer_is_understood_or_nothing() {
        let of = |about: &str| Newcomer::parse(&[b"\x05\0abcd\x03who", about.as_bytes()].concat());
        for (about, kind, address) in [
            ("REP tcp://10.0.0.7:1234 10.0.0.7", "REP", "tcp://10.0.0.7:1234"),
            (" tcp://[::1]:1234 ::1", "", "tcp://[::1]:1234"),
            ("DEALER ipc:// :1000:100:4711", "DEALER", "process 4711"),
            ("REP ipc://@a b\n :1000:100:4711", "REP", "process 4711"),
        ] {
            let newcomer = of(about).unwrap();
            assert_eq!((&*newcomer.kind, &*newcomer.address), (kind, address));
            assert_eq!((&newcomer.routing_id[..], &*newcomer.user_id), (&b"\0abcd"[..], "who"));
        }
        for wrong in [&b""[..], b"\x05\0abc", b"\x01a\x01", b"\x01a\0REP", b"\x01a\0REP x"] {
            assert!(Newcomer::parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
