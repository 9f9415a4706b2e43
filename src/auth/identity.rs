//! Who is connected: what the ZAP handler says of a client whom it lets in, and libzmq gives back
//! with each of its messages.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::key::PublicKey;

/// A client that was let in. Its text, `NAME KEY ADDRESS`, is the User-Id of its connection
/// (ZeroMQ RFC 27).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its name in the list.
    pub name: Arc<str>,
    pub key: PublicKey,
    /// Where it connects from; `None` on a transport that has no addresses.
    pub address: Option<IpAddr>,
}

/// Returns the IP address of a text from libzmq; of IPv6 it may have a zone.
pub(crate) fn parse_address(text: &str) -> Option<IpAddr> {
    text.split('%').next()?.parse().ok()
}

/// What stands for no address.
const NOWHERE: &str = "-";

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { name, key, address } = self;
        write!(f, "{name} {key} ")?;
        match address {
            Some(address) => address.fmt(f),
            None => f.write_str(NOWHERE),
        }
    }
}

/// That a text is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoIdentity;

impl FromStr for Identity {
    type Err = NoIdentity;

    fn from_str(text: &str) -> Result<Identity, NoIdentity> {
        let [name, key, address] = text.split(' ').collect::<Vec<_>>()[..] else {
            return Err(NoIdentity);
        };
        let address = match address {
            NOWHERE => None,
            address => Some(address.parse().map_err(|_| NoIdentity)?),
        };
        Ok(Identity { name: name.into(), key: key.parse().map_err(|_| NoIdentity)?, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        let key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID".parse().unwrap();
        for address in [Some("10.0.0.1".parse().unwrap()), Some("fe80::1".parse().unwrap()), None] {
            let identity = Identity { name: "pump-7".into(), key, address };
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
        for wrong in [
            "",
            "pump-7",
            "pump-7 key -",
            &format!("pump-7 {key} here"),
            &format!("pump-7 {key} - "),
        ] {
            assert_eq!(wrong.parse::<Identity>(), Err(NoIdentity), "{wrong:?}");
        }
    }
}
