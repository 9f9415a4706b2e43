//! Messages from elsewhere: `[ticket][empty][body...]`, which may be anything; and what there is
//! instead of one that is lost.

use std::collections::VecDeque;
use std::time::Instant;

use log::{debug, warn};

use super::LaneEvent;
use super::peer_load::Peer;
use super::ticket::Ticket;
use crate::config::Config;
use crate::fault::{Code, Fault};
use crate::frame::Frame;

/// The limits of a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    max_frames: usize,
    max_message_size: usize,
}

impl Limits {
    pub fn of(config: &Config) -> Limits {
        Limits { max_frames: config.max_frames, max_message_size: config.max_message_size }
    }

    fn are_kept(&self, body: &[Frame]) -> bool {
        let bytes: usize = body.iter().map(|frame| frame.len()).sum();
        bytes <= self.max_message_size && body.len() <= self.max_frames
    }
}

/// Takes a message that has come from `peer`, which the log calls `name`: leaves its body in
/// `message`, and returns what it is.
pub(super) fn take(
    message: &mut Vec<Frame>,
    peer: Option<&mut Peer>,
    name: &str,
    limits: Limits,
    now: Instant,
) -> LaneEvent {
    // Behind the ticket there may be what was said of the request.
    let delimiter = message.iter().take(4).position(|frame| frame.is_empty());
    let envelope = delimiter.map_or(message.len().min(2), |place| place + 1);
    let ticket = match &message[..] {
        [ticket, .., _] if delimiter.is_some() && envelope < message.len() => {
            Ticket::from_bytes(ticket)
        }
        _ => None,
    };
    message.drain(..envelope);
    let outstanding = peer.zip(ticket).and_then(|(peer, ticket)| {
        let is_outstanding = peer.on_reply(ticket, now);
        is_outstanding.then_some((peer, ticket))
    });
    let Some((peer, ticket)) = outstanding else {
        match ticket {
            Some(_) => debug!("{name}: message dropped: it is no reply to an outstanding request"),
            None => warn!("{name}: message dropped: it does not begin with a request's envelope"),
        }
        return LaneEvent::Ignored;
    };
    if !limits.are_kept(message) {
        warn!("{name}: its reply is larger than this service takes");
        let why = "the reply is larger than this service takes";
        *message = Fault::new(Code::FAILED, why).to_frames();
    }
    match Fault::code_of(message) {
        Some(Code::UNAVAILABLE) => {
            peer.on_refusal(now);
            LaneEvent::Lost(ticket)
        }
        Some(Code::LOST) => LaneEvent::Lost(ticket),
        _ => LaneEvent::Reply(ticket),
    }
}

/// Returns the next of the requests that are lost, if there is one, and puts what its client is told
/// into `body`.
pub(super) fn next_lost(lost: &mut VecDeque<Ticket>, body: &mut Vec<Frame>) -> Option<LaneEvent> {
    let ticket = lost.pop_front()?;
    *body = Fault::lost().to_frames();
    Some(LaneEvent::Lost(ticket))
}
