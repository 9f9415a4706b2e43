//! Public and secret keys.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::key_file::read_pair;
use crate::error::Error;
use crate::socket::curve::{self, Key};

/// A public key of CURVE (ZeroMQ RFC 26), by which a client knows a service, and a service a client.
///
/// It is written in 40 characters of Z85 (RFC 32), or read from 64 hexadecimal digits.
///
/// ```
/// use repd::PublicKey;
///
/// let text = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
/// let key: PublicKey = text.parse().unwrap();
/// assert_eq!(key.to_string(), text);
/// assert_eq!(format!("{key:x}").parse(), Ok(key));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(Key);

impl PublicKey {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<PublicKey> {
        bytes.try_into().ok().map(PublicKey)
    }
}

/// What a text is that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoKey;

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key has 40 characters of Z85 or 64 hexadecimal digits")
    }
}

impl std::error::Error for NoKey {}

impl FromStr for PublicKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<PublicKey, NoKey> {
        parse(text).map(PublicKey).ok_or(NoKey)
    }
}

/// Shows it in Z85.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&curve::to_z85(&self.0))
    }
}

/// Shows it in hexadecimal digits.
impl fmt::LowerHex for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Reads a key in Z85 or hexadecimal digits.
fn parse(text: &str) -> Option<Key> {
    match text.len() {
        64 if text.is_ascii() => {
            let mut key = [0; _];
            for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
                let digits = str::from_utf8(digits).ok()?;
                let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                *byte = is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()?;
            }
            Some(key)
        }
        _ => curve::from_z85(text),
    }
}

/// A secret key. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretKey(Key);

impl SecretKey {
    pub fn parse(text: &str) -> Option<SecretKey> {
        parse(text).map(SecretKey)
    }

    pub fn as_bytes(&self) -> &Key {
        &self.0
    }

    /// Returns it in Z85, for its own file alone.
    #[cfg(any(test, feature = "cli"))]
    pub fn to_z85(&self) -> String {
        curve::to_z85(&self.0)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

/// A secret key and its public one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPair {
    pub public: PublicKey,
    pub secret: SecretKey,
}

impl KeyPair {
    /// Makes a new pair.
    ///
    /// # Errors
    /// A system without random numbers.
    #[cfg(any(test, feature = "cli"))]
    pub fn new() -> Result<KeyPair, Error> {
        let (public, secret) = curve::key_pair().ok_or_else(|| {
            Error::failed("cannot make keys").with_cause("the system gives no random numbers")
        })?;
        Ok(KeyPair { public: PublicKey(public), secret: SecretKey(secret) })
    }

    /// Returns the pair of a secret key; `None` if it is none.
    pub fn of(secret: SecretKey) -> Option<KeyPair> {
        let public = curve::public_key(&secret.0).map(PublicKey)?;
        Some(KeyPair { public, secret })
    }
}

/// The keys of a client: its own, and the public one of the service that it connects to.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKeys(curve::ClientKeys);

impl ClientKeys {
    /// Reads the client's secret key from a file that `repd keygen`, CZMQ or pyzmq has written, or
    /// that has a secret key alone.
    ///
    /// # Errors
    /// A file that cannot be read, that every user may read, or that holds no secret key.
    pub fn read(file: impl AsRef<Path>, server: PublicKey) -> Result<ClientKeys, Error> {
        Ok(ClientKeys::of(&read_pair(file.as_ref())?, server))
    }

    pub(crate) fn of(KeyPair { public, secret }: &KeyPair, server: PublicKey) -> ClientKeys {
        ClientKeys(curve::ClientKeys { public: public.0, secret: secret.0, server: server.0 })
    }

    /// Returns the public key by which the service knows the client.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public)
    }

    pub(crate) fn raw(&self) -> &curve::ClientKeys {
        &self.0
    }
}

/// Shows the public keys.
impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let curve::ClientKeys { public, server, .. } = &self.0;
        let mut text = f.debug_struct("ClientKeys");
        text.field("public", &PublicKey(*public)).field("server", &PublicKey(*server));
        text.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused() {
        let key = KeyPair::new().unwrap().public;
        for right in [format!("{key}"), format!("{key:x}"), format!("{key:x}").to_uppercase()] {
            assert_eq!(right.parse(), Ok(key));
        }
        let hex = format!("{key:x}");
        for wrong in [
            "",
            "key",
            &hex[1..],
            &hex.replacen(|_| true, "+", 1),
            &hex.replacen(|_| true, "g", 1),
            &"é".repeat(32),
            &format!("{key} "),
            &key.to_string()[1..],
        ] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(NoKey), "{wrong:?}");
        }
    }

    #[test]
    fn a_secret_key_is_not_shown() {
        let pair = KeyPair::new().unwrap();
        let shown = format!("{pair:?} {:?}", pair.secret);
        assert!(!shown.contains(&pair.secret.to_z85()), "{shown}");
        assert_eq!(KeyPair::of(pair.secret.clone()), Some(pair));
    }
}
