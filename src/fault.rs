//! Replies that are errors: `REPD-ERROR`, a three-digit code, a sentence.

use std::error::Error as StdError;
use std::fmt;

use crate::frame::Frame;

/// The first frame of an error reply. The other two are the code's three digits and the sentence,
/// in the manner of ZAP's status (ZeroMQ RFC 27) and MMI's (RFC 8).
///
/// A handler that passes on what clients send, as [`echo`](crate::echo) does, can be made to give
/// such a reply too.
pub const MARK: &str = "REPD-ERROR";

/// The code of an error reply, with the meaning of HTTP's code of that number (RFC 9110, section
/// 15).
///
/// A handler may have codes of its own ([`Code::new`]), and a reply of another service may have one
/// that has no constant here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u16);

impl Code {
    /// 400: the request cannot be given to this handler.
    pub const BAD_REQUEST: Code = Code(400);
    /// 403: the client's key is no longer listed.
    pub const FORBIDDEN: Code = Code(403);
    /// 413: the request is larger than the service takes.
    pub const TOO_LARGE: Code = Code(413);
    /// 429: the client has too many requests outstanding, or asks too often.
    pub const TOO_MANY: Code = Code(429);
    /// 500: the handler failed.
    pub const FAILED: Code = Code(500);
    /// 502: the program, worker or upstream was lost before it replied.
    pub const LOST: Code = Code(502);
    /// 503: no worker or upstream can take the request now.
    pub const UNAVAILABLE: Code = Code(503);
    /// 504: the deadline passed before the reply.
    pub const TIMEOUT: Code = Code(504);

    /// Makes a code of a number of three digits; returns `None` if it is less than 100 or more than
    /// 999. repd's own are 400, 403, 413, 429 and from 500 on.
    ///
    /// ```
    /// use repd::Code;
    ///
    /// const NOT_FOUND: Code = Code::new(404).unwrap();
    /// assert_eq!(NOT_FOUND.to_string(), "404");
    /// ```
    pub const fn new(number: u16) -> Option<Code> {
        if 100 <= number && number <= 999 { Some(Code(number)) } else { None }
    }

    /// Returns the number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Shows the three digits that are on the wire.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}

/// An error reply: a code, and one sentence that says what happened.
///
/// A handler returns one, and a client reads one:
///
/// ```
/// use repd::{Code, Fault, Frame};
///
/// fn double(request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
///     let number = str::from_utf8(&request[0]).ok().and_then(|text| text.parse::<u32>().ok());
///     let number = number.ok_or_else(|| Fault::new(Code::BAD_REQUEST, "give a number"))?;
///     Ok(vec![Frame::from((2 * u64::from(number)).to_string())])
/// }
///
/// assert_eq!(double(vec![Frame::from("21")]).unwrap(), ["42"]);
/// let fault = double(vec![Frame::from("x")]).unwrap_err();
/// assert_eq!((fault.code(), fault.text()), (Code::BAD_REQUEST, "give a number"));
///
/// assert_eq!(Fault::parse(&["REPD-ERROR", "400", "give a number"]), Some(fault));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    code: Code,
    text: String,
}

impl Fault {
    /// Makes an error reply of that code, with one sentence that says what happened.
    pub fn new(code: Code, text: impl Into<String>) -> Fault {
        Fault { code, text: text.into() }
    }

    pub(crate) fn not_listed() -> Fault {
        Fault::new(Code::FORBIDDEN, "the client's key is no longer listed")
    }

    pub(crate) fn stopping() -> Fault {
        Fault::new(Code::UNAVAILABLE, "the service is stopping")
    }

    pub(crate) fn overloaded() -> Fault {
        Fault::new(Code::UNAVAILABLE, "the service holds as many requests as its memory allows")
    }

    pub(crate) fn lost() -> Fault {
        Fault::new(Code::LOST, "the worker, program or upstream was lost before it replied")
    }

    pub(crate) fn timeout() -> Fault {
        Fault::new(Code::TIMEOUT, "the deadline passed before the reply")
    }

    /// Returns the code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the sentence.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn to_frames(&self) -> Vec<Frame> {
        vec![Frame::from(MARK), Frame::from(self.code.to_string()), Frame::from(self.text.as_str())]
    }

    /// Reads the frames of a reply; returns `None` if it is no error reply. What of its sentence is
    /// not UTF-8 is replaced.
    pub fn parse<T: AsRef<[u8]>>(reply: &[T]) -> Option<Fault> {
        let code = Fault::code_of(reply)?;
        let text = String::from_utf8_lossy(reply.last()?.as_ref()).into_owned();
        Some(Fault { code, text })
    }

    /// Returns the code of a reply; `None` if it is no error reply.
    pub(crate) fn code_of<T: AsRef<[u8]>>(reply: &[T]) -> Option<Code> {
        let [mark, code, _] = reply else { return None };
        let (mark, code) = (mark.as_ref(), code.as_ref());
        let is_code = mark == MARK.as_bytes() && code.len() == 3;
        let digits = str::from_utf8(code).ok().filter(|_| is_code)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?.and_then(Code::new)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

impl StdError for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reply_is_read_back_as_it_was_written() {
        let fault = Fault::new(Code::TIMEOUT, "the deadline passed");
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
            &["REPD-ERROR", "000", "x"],
            &["repd-error", "504", "x"],
            &["REPD-ERROR", "504", "x", "y"],
        ] {
            assert_eq!(Fault::parse(&frames(reply)), None, "{reply:?}");
        }
    }
}
