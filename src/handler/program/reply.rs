//! How a program's reply is read, and what is wrong with output that is none: bytes alone, without a
//! process.

use super::framing::{Format, Framing, MORE};
use crate::frame::Frame;
use crate::text::printable;

#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(test)]
mod tests;

/// Maximum number of bytes of a program's output that [`quoted`] shows.
const MAX_QUOTED_BYTES: usize = 40;

/// The hint for a program that writes something beside its replies.
pub(super) const REPLIES_ONLY: &str = "it must write nothing but replies";

/// Output of a program that is not a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InvalidReply {
    /// The reply exceeds the limit that the text names.
    TooLarge(String),
    /// The output breaks the framing. `reason` quotes it, `hint` names the likely mistake.
    Malformed { reason: String, hint: &'static str },
}

impl InvalidReply {
    /// Returns the reason for the log.
    pub fn reason(&self) -> &str {
        match self {
            InvalidReply::TooLarge(reason) | InvalidReply::Malformed { reason, .. } => reason,
        }
    }

    /// Returns a hint at the likely mistake, or `None` if there is no guess.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            InvalidReply::TooLarge(_) => None,
            InvalidReply::Malformed { hint, .. } => Some(hint),
        }
    }
}

/// Returns the start of a program's output in quotation marks, printable.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let (start, rest) = bytes.split_at(bytes.len().min(MAX_QUOTED_BYTES));
    format!("\"{}\"{}", printable(start), if rest.is_empty() { "" } else { "..." })
}

/// Returns true if all bytes are ASCII characters of ordinary text. Read as the length of a frame,
/// four of them would be more than 150 MB.
fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'..=b'\r'))
}

fn text_for_length(bytes: &[u8]) -> InvalidReply {
    let reason = format!("it wrote {} where a length should be", quoted(bytes));
    InvalidReply::Malformed { reason, hint: "does it write lines? --framing lines" }
}

/// A reader of one reply.
pub(super) struct Reader {
    format: Format,
    /// The bytes that are not yet in `frames`.
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// Number of bytes in `frames`.
    frame_bytes: usize,
}

impl Reader {
    pub fn new(format: Format) -> Reader {
        Reader { format, bytes: Vec::new(), frames: Vec::new(), frame_bytes: 0 }
    }

    /// Takes the next bytes of the output. Returns the reply, or `None` while it is not complete.
    /// With [`Framing::Once`] that is always `None`: only the program's end completes the reply
    /// (see [`Reader::finish`]).
    ///
    /// # Errors
    /// Returns an [`InvalidReply`] if the reply is too large or malformed, or has bytes after it.
    /// The copy must be ended then: what it writes next could be taken for the reply to another
    /// request.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Vec<Frame>>, InvalidReply> {
        let searched = self.bytes.len();
        self.bytes.extend(bytes);
        let is_complete = match self.format.framing {
            Framing::Packet => self.take_packets()?,
            Framing::Lines => self.take_line(searched)?,
            Framing::Once => {
                self.check_length(self.bytes.len())?;
                false
            }
        };
        if is_complete && !self.bytes.is_empty() {
            let reason = format!("it wrote {} after its reply", quoted(&self.bytes));
            let hint = match self.format.framing {
                Framing::Packet => {
                    "is the length before that right? it must write one reply per request"
                }
                _ => "it must write one reply per request",
            };
            return Err(InvalidReply::Malformed { reason, hint });
        }
        Ok(is_complete.then(|| std::mem::take(&mut self.frames)))
    }

    /// Returns what is wrong with a reply that was begun and will not be completed, or `None` if
    /// none was begun.
    pub fn unfinished(&self) -> Option<InvalidReply> {
        let wrote = quoted(&self.bytes);
        let (reason, hint) = match self.format.framing {
            Framing::Once => return None,
            _ if self.bytes.is_empty() && self.frames.is_empty() => return None,
            Framing::Packet if !self.bytes.is_empty() && is_text(&self.bytes) => {
                return Some(text_for_length(&self.bytes));
            }
            Framing::Packet => {
                (format!("it wrote {wrote}, an incomplete reply"), "is the length before it right?")
            }
            Framing::Lines => {
                (format!("it wrote {wrote} without an end of line"), "a reply ends with \\n")
            }
        };
        Some(InvalidReply::Malformed { reason, hint })
    }

    /// Returns all of the output as the reply, for [`Framing::Once`].
    pub fn finish(&mut self) -> Vec<Frame> {
        vec![Frame::from(std::mem::take(&mut self.bytes))]
    }

    fn check_length(&self, length: usize) -> Result<(), InvalidReply> {
        let max = self.format.max_bytes;
        if length > max {
            return Err(InvalidReply::TooLarge(format!("its reply is longer than {max} bytes")));
        }
        Ok(())
    }

    /// Moves whole packets from `bytes` to `frames`. Returns true if one was the last of the reply.
    fn take_packets(&mut self) -> Result<bool, InvalidReply> {
        let (mut taken, mut is_complete) = (0, false);
        while let Some((head, rest)) = self.bytes[taken..].split_first_chunk()
            && !is_complete
        {
            let head = u32::from_be_bytes(*head);
            let more = self.format.multipart && head & MORE != 0;
            let length = if more { head & !MORE } else { head } as usize;
            self.check_length(self.frame_bytes + length).map_err(|too_large| {
                let start = &self.bytes[taken..];
                if is_text(&start[..4]) { text_for_length(start) } else { too_large }
            })?;
            let Some(frame) = rest.get(..length) else { break };
            let max = self.format.max_frames;
            if self.frames.len() >= max {
                return Err(InvalidReply::TooLarge(format!(
                    "its reply has more than {max} frames"
                )));
            }
            self.frames.push(Frame::from(frame));
            self.frame_bytes += length;
            taken += size_of_val(&head) + length;
            is_complete = !more;
        }
        self.bytes.drain(..taken);
        Ok(is_complete)
    }

    /// Moves a line from `bytes` to `frames`. Returns true if there is one. The first `searched`
    /// bytes have no end of line.
    fn take_line(&mut self, searched: usize) -> Result<bool, InvalidReply> {
        let Some(end) = self.bytes[searched..].iter().position(|byte| *byte == b'\n') else {
            self.check_length(self.bytes.len())?;
            return Ok(false);
        };
        let end = searched + end;
        self.check_length(end)?;
        self.frames.push(Frame::from(&self.bytes[..end]));
        self.bytes.drain(..=end);
        Ok(true)
    }
}
