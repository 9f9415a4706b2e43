//! What a client says of itself when it connects.

use std::sync::Arc;
use std::time::Duration;

use super::trace::{self, Sender};
use crate::auth::{Access, Listed};
use crate::deadline;
use crate::frame::Frame;
use crate::status::Who;

/// What a client has said of itself when it connected (ZMTP 3.1, RFC 37: the metadata of READY).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// It is a REQ, which has one request outstanding: with the next one it has given up the last.
    pub is_req: bool,
    /// Time for which it waits for the reply to each of its requests, if it has said so.
    pub patience: Option<Duration>,
    /// Who it is, by its key.
    pub listed: Option<Listed>,
    /// Who it is, for the figures.
    pub who: Who,
    /// Who it is, for the log, if that tells of each client.
    pub sender: Option<Sender>,
}

impl Handshake {
    /// Reads what the sender of a message has said, from its first frame.
    pub fn of(frame: &mut Frame, access: Option<&Access>) -> Handshake {
        let is_req = frame.property("Socket-Type") == Some("REQ");
        let listed = access.and_then(|access| access.by_name(&access.sender_of(frame)?.name));
        let who = match &listed {
            Some(listed) => Who::Listed(Arc::clone(&listed.name)),
            None => Who::at(frame.property("Peer-Address").unwrap_or_default()),
        };
        let patience = deadline::of_sender(frame);
        let sender = trace::is_on().then(|| Sender::of(frame, access));
        Handshake { is_req, patience, listed, who, sender }
    }
}
