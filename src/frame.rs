//! One frame of a message: bytes that are moved from socket to handler and back, never copied.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// One frame of a message: read it as a byte slice, make it from bytes or text.
///
/// A frame that came off a socket is handed on as it is; a handler that answers with a frame of
/// its request moves it, changed in place or not.
#[derive(PartialEq, Eq)]
pub struct Frame(zmq::Message);

/// Up to this many bytes libzmq keeps inside the message itself (`max_vsm_size` in its `msg.hpp`),
/// so that copying is cheaper than handing over an allocation.
const INLINE: usize = 33;

/// No more room than for these is kept from one request to the next.
pub(crate) const FEW_FRAMES: usize = 8;

impl Frame {
    pub(crate) fn copy(&self) -> Frame {
        Frame::from(&self[..])
    }

    /// Whether another frame of the same message follows, as its sender said.
    pub(crate) fn more(&self) -> bool {
        self.0.get_more()
    }

    pub(crate) fn message_mut(&mut self) -> &mut zmq::Message {
        &mut self.0
    }
}

impl From<zmq::Message> for Frame {
    fn from(message: zmq::Message) -> Frame {
        Frame(message)
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A handler may change a frame of its request where it lies.
impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

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

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Frame {
        if bytes.len() <= INLINE {
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

/// What the log shows of a message: the start of its first frame, and how much there is.
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
