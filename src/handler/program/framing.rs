//! How a request is written to a program, and its reply read: bytes alone, without a process.

use std::fmt::Write;

use crate::fault::{Code, Fault};
use crate::frame::Frame;
use crate::text::printable;

/// How requests and replies are told apart on a program's standard input and output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Each is led by its length in bytes, as four bytes, the highest first: `{packet,4}` of Erlang's
    /// ports. With several frames, the top bit of a length says that another frame follows.
    #[default]
    Packet,
    /// Each is a line.
    Lines,
    /// The program is started for each request, which is all of its standard input, and all of its
    /// standard output is the reply.
    Once,
}

/// The top bit of a length: another frame of the same message follows.
const MORE: u32 = 1 << 31;

/// What a reply may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub framing: Framing,
    /// Whether a message may have several frames.
    pub multipart: bool,
    /// The largest frame, in bytes.
    pub max_frame: usize,
    pub max_frames: usize,
}

/// A reply that is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Larger than it may be: how large that is.
    TooLarge(String),
    /// What the program wrote instead, quoted, and what it may be about.
    Malformed(String, &'static str),
}

impl Broken {
    /// Returns what is wrong, for the log.
    pub fn why(&self) -> &str {
        match self {
            Broken::TooLarge(why) | Broken::Malformed(why, _) => why,
        }
    }
}

impl Format {
    /// Appends what the program is to read. A request that it cannot be given is a 400.
    pub fn encode(&self, request: &[Frame], bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let refuse = |why: &str| Err(Fault::new(Code::BadRequest, why));
        if request.len() > 1 && !self.multipart {
            return refuse("the program takes requests of one frame");
        }
        match self.framing {
            Framing::Packet => {
                for (place, frame) in request.iter().enumerate() {
                    let more = if place + 1 < request.len() { MORE } else { 0 };
                    // A frame has no more than max_frame bytes, and that is at most 1 GiB.
                    bytes.extend((frame.len() as u32 | more).to_be_bytes());
                    bytes.extend(&frame[..]);
                }
            }
            Framing::Lines => {
                if request[0].contains(&b'\n') {
                    return refuse("the program takes requests of one line");
                }
                bytes.extend(&request[0][..]);
                bytes.push(b'\n');
            }
            Framing::Once => request.iter().for_each(|frame| bytes.extend(&frame[..])),
        }
        Ok(())
    }
}

/// The lengths of a request's frames in bytes, with a blank between two: what `REPD_FRAMES` says.
pub(crate) fn lengths(request: &[Frame]) -> String {
    let mut text = String::new();
    for frame in request {
        let blank = if text.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(text, "{blank}{}", frame.len());
    }
    text
}

/// What a program wrote, or the beginning of it, for people.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    const MOST: usize = 40;
    let (start, rest) = bytes.split_at(bytes.len().min(MOST));
    format!("\"{}\"{}", printable(start), if rest.is_empty() { "" } else { "..." })
}

/// Returns true if these are characters that text has: no length within reason looks like this.
fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'..=b'\r'))
}

fn no_length(bytes: &[u8]) -> Broken {
    let why = format!("it wrote {} where a length should be", quoted(bytes));
    Broken::Malformed(why, "--framing lines?")
}

/// Reads one reply.
pub(crate) struct Reader {
    format: Format,
    /// What came and is not yet in `frames`.
    bytes: Vec<u8>,
    frames: Vec<Frame>,
}

impl Reader {
    pub fn new(format: Format) -> Reader {
        Reader { format, bytes: Vec::new(), frames: Vec::new() }
    }

    /// Takes what came next, and gives the reply once it is there. With `once` it never is: only the end
    /// says so ([`Reader::finish`]).
    ///
    /// A reply that is too large, or that more comes behind, is broken: whatever else comes could be
    /// taken for the reply to another request.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Vec<Frame>>, Broken> {
        let known = self.bytes.len();
        self.bytes.extend(bytes);
        let complete = match self.format.framing {
            Framing::Packet => self.packets()?,
            Framing::Lines => self.line(known)?,
            Framing::Once => {
                self.fits(self.bytes.len())?;
                false
            }
        };
        if complete && !self.bytes.is_empty() {
            let more = quoted(&self.bytes);
            let hint = "it is to write one for each request";
            return Err(Broken::Malformed(format!("it wrote {more} behind its reply"), hint));
        }
        Ok(complete.then(|| std::mem::take(&mut self.frames)))
    }

    /// Returns what is wrong with a reply that was begun, and does not go on; `None` if none was begun.
    pub fn unfinished(&self) -> Option<Broken> {
        let wrote = quoted(&self.bytes);
        match self.format.framing {
            Framing::Once => None,
            _ if self.bytes.is_empty() && self.frames.is_empty() => None,
            Framing::Lines => Some(Broken::Malformed(
                format!("it wrote {wrote} without an end of line"),
                "a reply ends with \\n",
            )),
            Framing::Packet if !self.bytes.is_empty() && is_text(&self.bytes) => {
                Some(no_length(&self.bytes))
            }
            Framing::Packet => {
                let why = format!("it wrote {wrote}, and not the whole of its reply");
                Some(Broken::Malformed(why, "is the length in front right?"))
            }
        }
    }

    /// The reply that all of the output is.
    pub fn finish(&mut self) -> Vec<Frame> {
        vec![Frame::from(std::mem::take(&mut self.bytes))]
    }

    fn fits(&self, length: usize) -> Result<(), Broken> {
        let most = self.format.max_frame;
        if length > most {
            return Err(Broken::TooLarge(format!("its reply is longer than {most} bytes")));
        }
        Ok(())
    }

    /// Takes whole packets off `bytes`; whether one of them was the last of a reply.
    fn packets(&mut self) -> Result<bool, Broken> {
        let (mut taken, mut complete) = (0, false);
        while let Some((head, rest)) = self.bytes[taken..].split_first_chunk()
            && !complete
        {
            let head = u32::from_be_bytes(*head);
            let more = self.format.multipart && head & MORE != 0;
            let length = if more { head & !MORE } else { head } as usize;
            self.fits(length).map_err(|broken| {
                let start = &self.bytes[taken..];
                if is_text(&start[..4]) { no_length(start) } else { broken }
            })?;
            let Some(frame) = rest.get(..length) else { break };
            if self.frames.len() >= self.format.max_frames {
                let most = self.format.max_frames;
                return Err(Broken::TooLarge(format!("its reply has more than {most} frames")));
            }
            self.frames.push(Frame::from(frame));
            taken += size_of_val(&head) + length;
            complete = !more;
        }
        self.bytes.drain(..taken);
        Ok(complete)
    }

    /// Takes a line off `bytes`, of which the first `known` have no end of line.
    fn line(&mut self, known: usize) -> Result<bool, Broken> {
        let Some(end) = self.bytes[known..].iter().position(|byte| *byte == b'\n') else {
            self.fits(self.bytes.len())?;
            return Ok(false);
        };
        let end = known + end;
        self.fits(end)?;
        self.frames.push(Frame::from(&self.bytes[..end]));
        self.bytes.drain(..=end);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX_FRAME: usize = 300;
    const MAX_FRAMES: usize = 4;

    fn format(framing: Framing, multipart: bool) -> Format {
        Format { framing, multipart, max_frame: MAX_FRAME, max_frames: MAX_FRAMES }
    }

    fn packets(multipart: bool) -> Format {
        format(Framing::Packet, multipart)
    }

    const LINES: fn() -> Format = || format(Framing::Lines, false);

    fn frames(bodies: &[Vec<u8>]) -> Vec<Frame> {
        bodies.iter().map(|body| Frame::from(&body[..])).collect()
    }

    /// What a reader makes of these bytes when they come in parts of these sizes, over and over.
    fn read(format: Format, bytes: &[u8], parts: &[usize]) -> Result<Option<Vec<Frame>>, Broken> {
        let mut reader = Reader::new(format);
        let (mut rest, mut sizes) = (bytes, parts.iter().cycle());
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = after;
            match reader.push(part)? {
                Some(_) if !rest.is_empty() => return Err(Broken::Malformed("more".into(), "")),
                Some(reply) => return Ok(Some(reply)),
                None => (),
            }
        }
        Ok(None)
    }

    fn bodies(most: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=MAX_FRAME), 1..=most)
    }

    fn parts() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(1_usize..400, 1..6)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_it_comes(bodies in bodies(MAX_FRAMES), parts in parts()) {
            let mut bytes = Vec::new();
            packets(true).encode(&frames(&bodies), &mut bytes).unwrap();
            prop_assert_eq!(read(packets(true), &bytes, &parts), Ok(Some(frames(&bodies))));
            let (mut bytes, first) = (Vec::new(), &bodies[..1]);
            packets(false).encode(&frames(first), &mut bytes).unwrap();
            prop_assert_eq!(read(packets(false), &bytes, &parts), Ok(Some(frames(first))));
        }

        #[test]
        fn a_line_is_read_however_it_comes(mut body in bodies(1), parts in parts()) {
            body[0].retain(|byte| *byte != b'\n');
            let mut bytes = Vec::new();
            LINES().encode(&frames(&body), &mut bytes).unwrap();
            prop_assert_eq!(read(LINES(), &bytes, &parts), Ok(Some(frames(&body))));
        }

        #[test]
        fn what_is_cut_short_is_no_reply(
            bodies in bodies(MAX_FRAMES), parts in parts(), cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            packets(true).encode(&frames(&bodies), &mut bytes).unwrap();
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
                    _ => format.encode(&frames(&bodies), &mut bytes).unwrap(),
                }
                bytes.extend(vec![0; more]);
                prop_assert!(read(format, &bytes, &parts).is_err());
            }
        }

        #[test]
        fn what_is_too_long_is_broken_as_soon_as_it_is_known(
            length in MAX_FRAME + 1..=u32::MAX as usize, parts in parts(),
        ) {
            let head = (length as u32).to_be_bytes();
            prop_assert!(read(packets(false), &head, &parts).is_err());
            if length & MORE as usize == 0 {
                prop_assert!(read(packets(true), &head, &parts).is_err());
            }
            let line = vec![b'x'; (length).min(2 * MAX_FRAME)];
            prop_assert!(read(LINES(), &line, &parts).is_err());
            prop_assert!(read(format(Framing::Once, false), &line, &parts).is_err());
        }

        #[test]
        fn no_bytes_are_too_much_for_it(bytes in prop::collection::vec(any::<u8>(), 0..2000), parts in parts()) {
            for framing in [Framing::Packet, Framing::Lines, Framing::Once] {
                for multipart in [true, false] {
                    let reply = read(format(framing, multipart), &bytes, &parts);
                    let Ok(Some(reply)) = reply else { continue };
                    prop_assert!(!reply.is_empty() && reply.len() <= MAX_FRAMES);
                    prop_assert!(reply.iter().all(|frame| frame.len() <= MAX_FRAME));
                }
            }
        }
    }

    #[test]
    fn a_reply_of_too_many_frames_is_broken() {
        let mut bytes = Vec::new();
        packets(true).encode(&frames(&vec![vec![1]; MAX_FRAMES + 1]), &mut bytes).unwrap();
        assert!(read(packets(true), &bytes, &[7]).is_err());
    }

    #[test]
    fn what_would_throw_a_program_out_of_step_is_refused() {
        let refused = |format: Format, request: &[&str]| {
            let request: Vec<Frame> = request.iter().map(|&text| Frame::from(text)).collect();
            format.encode(&request, &mut Vec::new()).is_err_and(|fault| fault.code() == 400)
        };
        assert!(refused(packets(false), &["a", "b"]) && !refused(packets(true), &["a", "b"]));
        assert!(refused(LINES(), &["a\nb"]) && refused(LINES(), &["a\n"]));
        assert!(refused(LINES(), &["a", "b"]) && !refused(LINES(), &[""]));
        assert!(refused(format(Framing::Once, false), &["a", "b"]));
    }

    #[test]
    fn all_of_the_output_is_one_reply() {
        let mut reader = Reader::new(format(Framing::Once, false));
        assert_eq!(reader.push(b"a\n"), Ok(None));
        assert_eq!(reader.push(b"b"), Ok(None));
        assert_eq!(reader.finish(), [Frame::from("a\nb")]);
        assert_eq!(lengths(&[Frame::from("abc"), Frame::default()]), "3 0");
    }
}
