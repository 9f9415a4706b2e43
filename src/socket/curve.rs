//! Keys of CURVE (ZeroMQ RFC 26), as libzmq makes them, and as it writes them (Z85, RFC 32).

use std::ffi::{CStr, CString, c_char};

/// A public or secret key.
pub(crate) type Key = [u8; 32];

/// What a client needs to connect where keys are wanted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientKeys {
    pub public: Key,
    pub secret: Key,
    /// The public key of who is connected to.
    pub server: Key,
}

/// Number of characters of a key in Z85.
pub(crate) const Z85_LENGTH: usize = 40;

/// A key in Z85, with its zero at the end.
type Text = [u8; Z85_LENGTH + 1];

/// Makes a pair of keys: the public one and the secret one; `None` if the system gives no random
/// numbers.
#[cfg(any(test, feature = "cli"))]
pub(crate) fn key_pair() -> Option<(Key, Key)> {
    let (mut public, mut secret): (Text, Text) = ([0; _], [0; _]);
    let (to, with) = (public.as_mut_ptr().cast(), secret.as_mut_ptr().cast());
    // SAFETY: it writes two texts of 41 bytes with the zeros (zmq_curve_keypair(3)).
    if unsafe { zmq_sys::zmq_curve_keypair(to, with) } != 0 {
        return None;
    }
    let decode = |text: &Text| CStr::from_bytes_with_nul(text).ok().and_then(decode);
    decode(&public).zip(decode(&secret))
}

/// Returns the public key of a secret one; `None` if libzmq refuses it.
pub(crate) fn public_key(secret: &Key) -> Option<Key> {
    let secret = CString::new(to_z85(secret)).ok()?;
    let mut public: Text = [0; _];
    // SAFETY: it reads a text of 40 characters and writes one (zmq_curve_public(3)).
    let rc = unsafe { zmq_sys::zmq_curve_public(public.as_mut_ptr().cast(), secret.as_ptr()) };
    if rc != 0 {
        return None;
    }
    CStr::from_bytes_with_nul(&public).ok().and_then(decode)
}

/// Returns a key in Z85.
pub(crate) fn to_z85(key: &Key) -> String {
    let mut text: Text = [0; _];
    // SAFETY: it reads the key and writes five characters for four bytes, and a zero
    // (zmq_z85_encode(3)).
    unsafe { zmq_sys::zmq_z85_encode(text.as_mut_ptr().cast(), key.as_ptr(), key.len()) };
    String::from_utf8_lossy(&text[..Z85_LENGTH]).into_owned()
}

/// Returns the key that a text is in Z85; `None` if it is none.
pub(crate) fn from_z85(text: &str) -> Option<Key> {
    decode(&CString::new(text).ok()?)
}

fn decode(text: &CStr) -> Option<Key> {
    if text.count_bytes() != Z85_LENGTH {
        return None;
    }
    let mut key = [0; _];
    let start: *const c_char = text.as_ptr();
    // SAFETY: it reads 40 characters and writes 32 bytes; null says that the text is no Z85
    // (zmq_z85_decode(3)).
    let decoded = unsafe { zmq_sys::zmq_z85_decode(key.as_mut_ptr(), start) };
    (!decoded.is_null()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_text() {
        // The client's keys of RFC 26's test, and of zmq_curve(7).
        let public = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
        let secret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";
        let key = from_z85(secret).unwrap();
        assert_eq!(to_z85(&key), secret);
        assert_eq!(public_key(&key).map(|key| to_z85(&key)), Some(public.into()));
        for wrong in ["", &public[1..], &format!("{public}a"), &public.replace('Y', "~")] {
            assert_eq!(from_z85(wrong), None, "{wrong:?}");
        }
        assert_eq!(from_z85(&public.replace('Y', "\0")), None);
    }

    #[test]
    fn each_pair_is_another() {
        let (public, secret) = key_pair().unwrap();
        assert_eq!(public_key(&secret), Some(public));
        assert_ne!(key_pair().unwrap().1, secret);
    }
}
