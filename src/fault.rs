//! Replies that are errors: `REPD-ERROR`, a three-digit code, a sentence.

use std::fmt;

use crate::frame::Frame;

/// The first frame of a reply that repd, and not the handler, wrote. The three frames are in the
/// manner of ZAP's status (ZeroMQ RFC 27) and MMI's (RFC 8).
pub const MARK: &str = "REPD-ERROR";

/// Why a request gets no reply of the handler's. The numbers are those of HTTP's nearest kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// The request cannot be given to this handler.
    BadRequest = 400,
    /// The request is larger than the handler may take.
    TooLarge = 413,
    /// The handler failed.
    Failed = 500,
    /// What was to answer was lost before it replied.
    Lost = 502,
    /// No one can take the request now.
    Unavailable = 503,
    /// The deadline passed.
    Timeout = 504,
}

/// An error reply: a code and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    code: u16,
    text: String,
}

impl Fault {
    /// An error reply of that code, with one sentence that says what happened.
    pub fn new(code: Code, text: impl Into<String>) -> Fault {
        Fault { code: code as u16, text: text.into() }
    }

    pub(crate) fn stopping() -> Fault {
        Fault::new(Code::Unavailable, "the service is stopping")
    }

    pub(crate) fn lost() -> Fault {
        Fault::new(Code::Lost, "what was to answer was lost before it replied")
    }

    pub(crate) fn timeout() -> Fault {
        Fault::new(Code::Timeout, "the deadline passed before the reply")
    }

    /// The three digits on the wire.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The sentence on the wire, in UTF-8.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn to_frames(&self) -> Vec<Frame> {
        vec![Frame::from(MARK), Frame::from(self.code.to_string()), Frame::from(self.text.as_str())]
    }

    /// The error reply that these frames are, if they are one.
    pub fn parse(frames: &[Frame]) -> Option<Fault> {
        let code = Fault::code_of(frames)?;
        frames.last().map(|text| Fault { code, text: String::from_utf8_lossy(text).into_owned() })
    }

    /// Its code alone.
    pub(crate) fn code_of(frames: &[Frame]) -> Option<u16> {
        let [mark, code, _] = frames else { return None };
        let is_code = mark[..] == *MARK.as_bytes() && code.len() == 3;
        let digits = str::from_utf8(code).ok().filter(|_| is_code)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reply_is_read_back_as_it_was_written() {
        let fault = Fault::new(Code::Timeout, "the deadline passed");
        assert_eq!(Fault::parse(&fault.to_frames()), Some(fault));
    }

    #[test]
    fn a_reply_that_only_looks_like_an_error_is_a_reply() {
        let frames = |texts: &[&str]| texts.iter().map(|&t| Frame::from(t)).collect::<Vec<_>>();
        for reply in [
            &["REPD-ERROR"][..],
            &["REPD-ERROR", "504"],
            &["REPD-ERROR", "5O4", "x"],
            &["REPD-ERROR", "+04", "x"],
            &["repd-error", "504", "x"],
            &["REPD-ERROR", "504", "x", "y"],
        ] {
            assert_eq!(Fault::parse(&frames(reply)), None, "{reply:?}");
        }
    }
}
