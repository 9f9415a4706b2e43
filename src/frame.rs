//! One frame of a message: bytes that are moved from socket to handler and back.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// One frame of a message: read it as a byte slice, make it from bytes or text (`From` for `&str`,
/// `String`, `&[u8]`, `&[u8; N]` and `Vec<u8>`), compare it with either.
///
/// A frame that came off a socket is handed on as it is: a handler that answers with a frame of its
/// request moves it, changed in place or not. A clone copies the bytes.
///
/// ```
/// use repd::Frame;
///
/// let mut frame = Frame::from("hello");
/// frame[0] = b'j';
/// assert_eq!(frame, "jello");
/// assert_eq!(frame, *b"jello");
/// assert_eq!(frame.len(), 5);
/// ```
pub struct Frame(zmq::Message);

/// Maximum number of bytes that libzmq keeps inside the message itself (`max_vsm_size` in its
/// `msg.hpp`): up to here copying is cheaper than handing over an allocation.
const MAX_INLINE: usize = 33;

/// Maximum capacity, in frames, that a buffer keeps from one request to the next.
pub(crate) const MAX_IDLE_CAPACITY: usize = 8;

impl Frame {
    pub(crate) fn from_message(message: zmq::Message) -> Frame {
        Frame(message)
    }

    /// Returns true if another frame of the same message follows.
    pub(crate) fn has_more(&self) -> bool {
        self.0.get_more()
    }

    /// Returns a property of the connection over which it was received (ZMTP 3.1, RFC 37: the
    /// metadata of READY); `None` if the peer has not said that.
    pub(crate) fn property(&mut self, name: &str) -> Option<&str> {
        self.0.gets(name)
    }

    pub(crate) fn message_mut(&mut self) -> &mut zmq::Message {
        &mut self.0
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A handler may change a frame of its request in place.
impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Clone for Frame {
    fn clone(&self) -> Frame {
        Frame::from(&self[..])
    }
}

/// A frame equals bytes, text or another frame of the same bytes.
impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Frame {
    fn eq(&self, other: &T) -> bool {
        self[..] == *other.as_ref()
    }
}

impl Eq for Frame {}

impl Default for Frame {
    fn default() -> Frame {
        Frame(zmq::Message::new())
    }
}

impl From<&[u8]> for Frame {
    fn from(bytes: &[u8]) -> Frame {
        Frame(zmq::Message::from(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for Frame {
    fn from(bytes: &[u8; N]) -> Frame {
        Frame::from(&bytes[..])
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Frame {
        if bytes.len() <= MAX_INLINE {
            Frame::from(&bytes[..])
        } else {
            Frame(zmq::Message::from(bytes))
        }
    }
}

impl From<&str> for Frame {
    fn from(text: &str) -> Frame {
        Frame::from(text.as_bytes())
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Frame {
        Frame::from(text.into_bytes())
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

/// Shows a message in the log: the start of its first frame, and the numbers of its frames and
/// bytes.
pub(crate) struct Excerpt<'a>(pub &'a [Frame]);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        let first = self.0.first().map_or(&[][..], |frame| frame);
        let bytes: usize = self.0.iter().map(|frame| frame.len()).sum();
        let cut = if first.len() > SHOWN { "..." } else { "" };
        let start = first[..first.len().min(SHOWN)].escape_ascii();
        write!(f, "\"{start}{cut}\" (frames: {}, bytes: {bytes})", self.0.len())
    }
}
