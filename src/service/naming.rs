//! How what answers hears who asks: frames in front of the body.

use std::net::IpAddr;

use crate::auth::Access;
use crate::config::{Backend, Config};
use crate::frame::Frame;
use crate::handler::Client;
use crate::status::Who;

/// What is put in front of the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Nothing,
    /// The name of its client: for workers and upstreams elsewhere.
    Name,
    /// That and its address: for the handlers of this process, which take both off again.
    NameAndAddress,
}

impl Naming {
    pub fn of(config: &Config) -> Naming {
        match config.backend {
            _ if !config.name_clients => Naming::Nothing,
            Backend::Workers(_) => Naming::NameAndAddress,
            Backend::External(_) | Backend::Upstream(_) => Naming::Name,
        }
    }

    /// Puts it there, of the client that has sent `first`, the first frame of the message. Returns
    /// the bytes that this takes.
    pub fn put(self, first: &mut Frame, body: &mut Vec<Frame>, access: Option<&Access>) -> usize {
        if self == Naming::Nothing {
            return 0;
        }
        let mut bytes = 0;
        let mut put = |frame: Frame| {
            bytes += size_of::<Frame>() + frame.len();
            body.insert(0, frame);
        };
        let [name, address] = client_of(first, access).to_frames();
        if self == Naming::NameAndAddress {
            put(address);
        }
        put(name);
        bytes
    }
}

/// Returns who has sent a message, by its first frame.
pub(super) fn client_of(first: &mut Frame, access: Option<&Access>) -> Client {
    if let Some(identity) = access.and_then(|access| access.sender_of(first)) {
        let address = identity.address.map(|address: IpAddr| address.to_canonical().to_string());
        return Client::new(&identity.name, &address.unwrap_or_default());
    }
    let address = first.property("Peer-Address").unwrap_or_default();
    match Who::at(address) {
        who @ Who::User(_) => Client::new(&who.to_string(), "localhost"),
        // A client over IPv4 is one whatever the endpoint is.
        who @ Who::Address(IpAddr::V4(_)) => Client::new("", &who.to_string()),
        _ => Client::new("", address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_front_is_counted() {
        for (naming, frames) in
            [(Naming::Nothing, 0), (Naming::Name, 1), (Naming::NameAndAddress, 2)]
        {
            let mut body = vec![Frame::from("ab")];
            let bytes = naming.put(&mut Frame::default(), &mut body, None);
            let put: usize = body[..frames].iter().map(|it| size_of::<Frame>() + it.len()).sum();
            assert_eq!(bytes, put);
            assert!(body.len() == frames + 1 && body[frames][..] == *b"ab");
        }
    }
}
