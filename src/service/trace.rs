//! The lines of `--log-level debug` about requests and clients. One about a request begins with its
//! number, which counts the requests that the service has received. Below that level nothing is put
//! into words, and no clock is read.

use std::fmt;
use std::time::Duration;

use log::{LevelFilter, debug, max_level};

use super::naming::client_of;
use super::request::Request;
use crate::auth::Access;
use crate::fault::{Code, Fault};
use crate::frame::{Excerpt, Frame};
use crate::handler::Client;
use crate::socket::Sent;

/// Returns true if these lines are logged.
pub(super) fn is_on() -> bool {
    max_level() >= LevelFilter::Debug
}

/// Who has sent a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sender(Client);

impl Sender {
    /// Returns who has sent a message, by its first frame.
    pub fn of(first: &mut Frame, access: Option<&Access>) -> Sender {
        Sender(client_of(first, access))
    }

    fn name(&self) -> Option<&str> {
        Some(self.0.name()).filter(|name| !name.is_empty())
    }

    fn address(&self) -> Option<&str> {
        Some(self.0.address()).filter(|address| !address.is_empty())
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address().unwrap_or("elsewhere");
        match self.name() {
            Some(name) => write!(f, "{name} at {address}"),
            None => f.write_str(address),
        }
    }
}

/// Logs a client that has sent its first request.
pub(super) fn came(sender: &Sender) {
    debug!(client = sender.name(), peer = sender.address(); "a client has come: {sender}");
}

/// Logs the end of a client's connection.
pub(super) fn gone(sender: &Sender) {
    debug!(client = sender.name(), peer = sender.address(); "a client has gone: {sender}");
}

/// Logs a request that has come.
pub(super) fn received(request: &mut Request, access: Option<&Access>) {
    let (true, [first, ..]) = (is_on(), &mut request.envelope[..]) else { return };
    let (number, sender, body) =
        (request.number, Sender::of(first, access), Excerpt(&request.body));
    debug!(
        request = number, client = sender.name(), peer = sender.address();
        "request {number}: from {sender}: {body}"
    );
}

/// Logs a request that a lane has got.
pub(super) fn sent(number: u64, lane: &str, is_retry: bool) {
    let again = if is_retry { "again, " } else { "" };
    debug!(request = number; "request {number}: sent {again}to {lane}");
}

/// Logs a request that takes long, and that another lane has got as well.
pub(super) fn hedged(number: u64, lane: &str) {
    debug!(request = number; "request {number}: sent to {lane} too, since it takes long");
}

/// Logs a request that its lane has lost, or cannot answer.
pub(super) fn lost(number: u64, lane: &str) {
    debug!(request = number; "request {number}: lost by {lane}");
}

/// Logs a request that was taken back.
pub(super) fn recalled(number: u64, lane: &str) {
    debug!(request = number; "request {number}: taken back from {lane}");
}

/// Logs a request that nobody waits for.
pub(super) fn withdrawn(number: u64) {
    debug!(request = number; "request {number}: withdrawn: its client has gone, or has asked anew");
}

/// Logs the reply to a request, which has come `age` ago.
pub(super) fn answered(number: u64, reply: &[Frame], age: Duration) {
    match Fault::parse(reply) {
        Some(fault) => debug!(
            request = number, code = fault.code().get();
            "request {number}: answered after {age:.1?}: {fault}"
        ),
        None => debug!(request = number; "request {number}: answered after {age:.1?}"),
    }
}

/// Logs a reply that has not left.
pub(super) fn delivered(number: u64, sent: Sent) {
    match sent {
        Sent::Done => (),
        Sent::Full => {
            debug!(request = number; "request {number}: its client does not take the reply yet")
        }
        Sent::Gone => {
            debug!(request = number; "request {number}: reply dropped: its client is gone")
        }
    }
}

/// Logs a reply that no client gets.
pub(super) fn dropped(number: u64, lane: &str, reply: &[Frame], why: &str) {
    let code = Fault::code_of(reply).map(Code::get);
    debug!(request = number, code = code; "request {number}: reply of {lane} dropped: {why}");
}
