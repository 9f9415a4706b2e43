//! Who has sent a request.

use std::sync::Arc;

use crate::frame::Frame;

/// The client that has sent a request, for handlers that want to know
/// ([`Config::name_clients`](crate::Config::name_clients)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    name: Arc<str>,
    address: Arc<str>,
}

impl Client {
    pub(crate) fn new(name: &str, address: &str) -> Client {
        Client { name: name.into(), address: address.into() }
    }

    /// Returns the frames that go in front of a request on its way to a handler.
    pub(crate) fn to_frames(&self) -> [Frame; 2] {
        [Frame::from(self.name()), Frame::from(self.address())]
    }

    /// Takes these frames off a request.
    pub(crate) fn take_from(request: &mut Vec<Frame>) -> Client {
        let mut frames = request.drain(..2.min(request.len()));
        let mut next = || frames.next().map(|frame| String::from_utf8_lossy(&frame).into_owned());
        Client::new(&next().unwrap_or_default(), &next().unwrap_or_default())
    }

    /// Returns its name in the list of clients; `uid:` and the number of its user if it has
    /// connected over ipc; or nothing, where nothing says who it is: over TCP without keys.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the IP address from which it has connected; over ipc `localhost`.
    pub fn address(&self) -> &str {
        &self.address
    }
}
