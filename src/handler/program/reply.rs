//! How a program's reply is read, and what is wrong with output that is none: bytes alone, without a
//! process.

use super::framing::{Format, Framing, MORE};
use crate::frame::Frame;
use crate::text::printable;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX_BODY: usize = 300;
    const MAX_FRAMES: usize = 4;
    const MAX_BYTES: usize = MAX_FRAMES * MAX_BODY;

    fn format(framing: Framing, multipart: bool) -> Format {
        Format { framing, multipart, max_bytes: MAX_BYTES, max_frames: MAX_FRAMES }
    }

    fn packets(multipart: bool) -> Format {
        format(Framing::Packet, multipart)
    }

    const LINES: fn() -> Format = || format(Framing::Lines, false);

    fn frames(bodies: &[Vec<u8>]) -> Vec<Frame> {
        bodies.iter().map(|body| Frame::from(&body[..])).collect()
    }

    /// Returns what a reader makes of `bytes` that come in pieces of these sizes, repeated.
    fn read(
        format: Format,
        bytes: &[u8],
        parts: &[usize],
    ) -> Result<Option<Vec<Frame>>, InvalidReply> {
        let mut reader = Reader::new(format);
        let (mut rest, mut sizes) = (bytes, parts.iter().cycle());
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = after;
            match reader.push(part)? {
                Some(_) if !rest.is_empty() => {
                    return Err(InvalidReply::Malformed { reason: "more".into(), hint: "" });
                }
                Some(reply) => return Ok(Some(reply)),
                None => (),
            }
        }
        Ok(None)
    }

    fn bodies(max: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=MAX_BODY), 1..=max)
    }

    fn parts() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(1_usize..400, 1..6)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_it_comes(
            bodies in bodies(MAX_FRAMES), parts in parts(),
        ) {
            let mut bytes = Vec::new();
            packets(true).encode(None, &frames(&bodies), &mut bytes).unwrap();
            prop_assert_eq!(read(packets(true), &bytes, &parts), Ok(Some(frames(&bodies))));
            let (mut bytes, first) = (Vec::new(), &bodies[..1]);
            packets(false).encode(None, &frames(first), &mut bytes).unwrap();
            prop_assert_eq!(read(packets(false), &bytes, &parts), Ok(Some(frames(first))));
        }

        #[test]
        fn a_line_is_read_however_it_comes(mut body in bodies(1), parts in parts()) {
            body[0].retain(|byte| *byte != b'\n');
            let mut bytes = Vec::new();
            LINES().encode(None, &frames(&body), &mut bytes).unwrap();
            prop_assert_eq!(read(LINES(), &bytes, &parts), Ok(Some(frames(&body))));
        }

        #[test]
        fn what_is_cut_short_is_no_reply(
            bodies in bodies(MAX_FRAMES), parts in parts(), cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            packets(true).encode(None, &frames(&bodies), &mut bytes).unwrap();
            bytes.truncate(cut.index(bytes.len()));
            prop_assert_eq!(read(packets(true), &bytes, &parts), Ok(None));
        }

        #[test]
        fn what_has_more_behind_it_is_broken(
            bodies in bodies(MAX_FRAMES), parts in parts(), more in 1_usize..9,
        ) {
            for format in [packets(true), LINES()] {
                let mut bytes = Vec::new();
                match format.framing {
                    Framing::Lines => bytes.extend(b"a line\n"),
                    _ => format.encode(None, &frames(&bodies), &mut bytes).unwrap(),
                }
                bytes.extend(vec![0; more]);
                prop_assert!(read(format, &bytes, &parts).is_err());
            }
        }

        #[test]
        fn what_is_too_long_is_broken_as_soon_as_it_is_known(
            length in MAX_BYTES + 1..=u32::MAX as usize, parts in parts(),
        ) {
            let head = (length as u32).to_be_bytes();
            prop_assert!(read(packets(false), &head, &parts).is_err());
            if length & MORE as usize == 0 {
                prop_assert!(read(packets(true), &head, &parts).is_err());
            }
            let line = vec![b'x'; length.min(2 * MAX_BYTES)];
            prop_assert!(read(LINES(), &line, &parts).is_err());
            prop_assert!(read(format(Framing::Once, false), &line, &parts).is_err());
        }

        #[test]
        fn whatever_is_read_a_reply_is_within_the_limits(
            bytes in prop::collection::vec(any::<u8>(), 0..2000), parts in parts(),
        ) {
            for framing in [Framing::Packet, Framing::Lines, Framing::Once] {
                for multipart in [true, false] {
                    let reply = read(format(framing, multipart), &bytes, &parts);
                    let Ok(Some(reply)) = reply else { continue };
                    prop_assert!(!reply.is_empty() && reply.len() <= MAX_FRAMES);
                    prop_assert!(reply.iter().map(|frame| frame.len()).sum::<usize>() <= MAX_BYTES);
                }
            }
        }
    }

    #[test]
    fn the_frames_of_a_reply_are_bounded_together() {
        let read_frames = |lengths: [usize; 2]| {
            let bodies = lengths.map(|length| vec![b'x'; length]);
            let mut bytes = Vec::new();
            packets(true).encode(None, &frames(&bodies), &mut bytes).unwrap();
            read(packets(true), &bytes, &[50])
        };
        assert!(read_frames([MAX_BYTES / 2, MAX_BYTES / 2]).is_ok());
        assert!(matches!(
            read_frames([MAX_BYTES / 2, MAX_BYTES / 2 + 1]),
            Err(InvalidReply::TooLarge(_))
        ));
    }

    #[test]
    fn a_reply_of_too_many_frames_is_broken() {
        let mut bytes = Vec::new();
        packets(true).encode(None, &frames(&vec![vec![1]; MAX_FRAMES + 1]), &mut bytes).unwrap();
        assert!(read(packets(true), &bytes, &[7]).is_err());
    }

    #[test]
    fn with_once_all_of_the_output_is_one_reply() {
        let mut reader = Reader::new(format(Framing::Once, false));
        assert_eq!(reader.push(b"a\n"), Ok(None));
        assert_eq!(reader.push(b"b"), Ok(None));
        assert_eq!(reader.finish(), [Frame::from("a\nb")]);
    }
}
