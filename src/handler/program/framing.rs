//! How requests and replies are told apart, and how a request is written: bytes alone, without a
//! process.

use std::fmt::{self, Write};
use std::str::FromStr;

use crate::fault::{Code, Fault};
use crate::frame::Frame;

/// The way in which requests and replies are told apart on a program's standard input and output.
///
/// It is written and read as `--framing` has it: `packet`, `lines` or `once`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// Each frame follows its length in bytes, a 32-bit big-endian number: `{packet,4}` of Erlang's
    /// `open_port/2`. If a message may have several frames, the top bit of a length says that
    /// another frame of the same message follows.
    #[default]
    Packet,
    /// Each request and each reply is a line, which ends with `\n`.
    Lines,
    /// The program is started for each request. The request is all of its standard input, the reply
    /// all of its standard output.
    Once,
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Framing::Packet => "packet",
            Framing::Lines => "lines",
            Framing::Once => "once",
        })
    }
}

impl FromStr for Framing {
    /// What to give instead.
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Framing, &'static str> {
        let all = [Framing::Packet, Framing::Lines, Framing::Once];
        let found = all.into_iter().find(|framing| framing.to_string() == name);
        found.ok_or("give packet, lines or once")
    }
}

/// The top bit of a length: another frame of the same message follows.
pub(super) const MORE: u32 = 1 << 31;

/// The framing of requests and replies, and the limits of a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub framing: Framing,
    /// True if a message may have several frames.
    pub multipart: bool,
    /// Maximum size of a reply in bytes, all frames together: 1 GiB at most.
    pub max_bytes: usize,
    pub max_frames: usize,
}

impl Format {
    /// Appends `request` to `bytes` as the program is to read it, with the name of its client in
    /// front if there is one: as a frame if a message may have several, otherwise as a field that a
    /// tab ends. With [`Framing::Once`] a variable has it.
    ///
    /// # Errors
    /// Returns a 400 if this framing cannot express the request.
    pub fn encode(
        &self,
        client: Option<&str>,
        request: &[Frame],
        bytes: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let refuse = |reason: &str| Err(Fault::new(Code::BAD_REQUEST, reason));
        if request.len() > 1 && !self.multipart {
            return refuse("the program takes requests of one frame");
        }
        let field =
            client.filter(|_| !self.multipart).map_or_else(String::new, |name| format!("{name}\t"));
        match self.framing {
            Framing::Packet => {
                let name = client.filter(|_| self.multipart).map(str::as_bytes);
                let parts = name.into_iter().chain(request.iter().map(|frame| &frame[..]));
                let mut parts = parts.peekable();
                while let Some(part) = parts.next() {
                    let more = if parts.peek().is_some() { MORE } else { 0 };
                    // A request is no larger than max_bytes, so its length has 31 bits.
                    bytes.extend(((field.len() + part.len()) as u32 | more).to_be_bytes());
                    bytes.extend(field.as_bytes());
                    bytes.extend(part);
                }
            }
            Framing::Lines => {
                if request[0].contains(&b'\n') {
                    return refuse("the program takes requests of one line");
                }
                bytes.extend(field.as_bytes());
                bytes.extend(&request[0][..]);
                bytes.push(b'\n');
            }
            Framing::Once => request.iter().for_each(|frame| bytes.extend(&frame[..])),
        }
        Ok(())
    }
}

/// Returns the lengths of the frames in bytes, separated by spaces: the value of `REPD_FRAMES`.
pub(super) fn frame_lengths(request: &[Frame]) -> String {
    let mut text = String::new();
    for frame in request {
        let separator = if text.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}{}", frame.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(framing: Framing, multipart: bool) -> Format {
        Format { framing, multipart, max_bytes: 300, max_frames: 4 }
    }

    #[test]
    fn a_framing_is_read_as_it_is_written() {
        for framing in [Framing::Packet, Framing::Lines, Framing::Once] {
            assert_eq!(framing.to_string().parse(), Ok(framing));
        }
        assert!("Packet".parse::<Framing>().is_err());
    }

    #[test]
    fn a_request_that_the_framing_cannot_express_is_refused() {
        let refused = |format: Format, request: &[&str]| {
            let request: Vec<Frame> = request.iter().map(|&text| Frame::from(text)).collect();
            format
                .encode(None, &request, &mut Vec::new())
                .is_err_and(|fault| fault.code() == Code::BAD_REQUEST)
        };
        assert!(
            refused(format(Framing::Packet, false), &["a", "b"])
                && !refused(format(Framing::Packet, true), &["a", "b"])
        );
        assert!(
            refused(format(Framing::Lines, false), &["a\nb"])
                && refused(format(Framing::Lines, false), &["a\n"])
        );
        assert!(
            refused(format(Framing::Lines, false), &["a", "b"])
                && !refused(format(Framing::Lines, false), &[""])
        );
        assert!(refused(format(Framing::Once, false), &["a", "b"]));
    }

    #[test]
    fn the_name_of_its_client_is_in_front_of_a_request() {
        let encoded = |format: Format, request: &[&str]| {
            let request: Vec<Frame> = request.iter().map(|&text| Frame::from(text)).collect();
            let mut bytes = Vec::new();
            format.encode(Some("pump-7"), &request, &mut bytes).unwrap();
            bytes
        };
        let packet = encoded(format(Framing::Packet, false), &["ab"]);
        assert_eq!(packet, b"\0\0\0\x09pump-7\tab");
        let packets = encoded(format(Framing::Packet, true), &["ab", "c"]);
        assert_eq!(packets, b"\x80\0\0\x06pump-7\x80\0\0\x02ab\0\0\0\x01c");
        assert_eq!(encoded(format(Framing::Lines, false), &["ab"]), b"pump-7\tab\n");
        assert_eq!(encoded(format(Framing::Once, true), &["ab", "c"]), b"abc");
    }

    #[test]
    fn frame_lengths_are_separated_by_spaces() {
        assert_eq!(frame_lengths(&[Frame::from("abc"), Frame::default()]), "3 0");
    }
}
