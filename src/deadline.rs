//! How a client says how long it waits for a reply: when it connects, for all that it asks, or by a
//! frame of a request's envelope. Nobody else trips over it: a property that is not known is ignored
//! (ZMTP 3.1, RFC 37), and an envelope comes back as it was, from a REP and over any chain of ROUTER
//! and DEALER.

use std::time::Duration;

use crate::frame::Frame;

/// The name of the property, and without the `X-` that of the frame, in which a colon and the value
/// follow: the number of milliseconds in decimal digits.
const PROPERTY: &str = "X-REPD-DEADLINE";

/// Maximum number of digits, which are about a day.
const MAX_DIGITS: usize = 8;

/// Returns the frame that says that a reply is waited for so long. What is less than a millisecond
/// is left off.
pub(crate) fn to_frame(patience: Duration) -> Frame {
    Frame::from(&to_property(patience)["X-".len()..])
}

/// Returns the property that says the same, as libzmq takes it by ZMQ_METADATA.
pub(crate) fn to_property(patience: Duration) -> String {
    format!("{PROPERTY}:{}", patience.as_millis())
}

/// Returns how long a reply is waited for, if that is what the frame of an envelope says.
pub(crate) fn of_frame(frame: &[u8]) -> Option<Duration> {
    let value = frame.strip_prefix(&PROPERTY.as_bytes()["X-".len()..])?.strip_prefix(b":")?;
    str::from_utf8(value).ok().and_then(parse)
}

/// Returns how long its sender waits, as it said when it connected.
pub(crate) fn of_sender(frame: &mut Frame) -> Option<Duration> {
    frame.property(PROPERTY).and_then(parse)
}

fn parse(digits: &str) -> Option<Duration> {
    let is_number =
        (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_milliseconds_says_nothing() {
        for milliseconds in [0, 1, 1500, 86_400_000] {
            let patience = Duration::from_millis(milliseconds);
            assert_eq!(of_frame(&to_frame(patience)), Some(patience));
        }
        assert_eq!(&to_frame(Duration::from_micros(1_500_900))[..], b"REPD-DEADLINE:1500");
        for wrong in [
            "",
            "REPD-DEADLINE",
            "REPD-DEADLINE:",
            "REPD-DEADLINE:-1",
            "REPD-DEADLINE:+1",
            "REPD-DEADLINE:1 ",
            "REPD-DEADLINE:1s",
            "REPD-DEADLINE:123456789",
            "X-REPD-DEADLINE:1",
            "repd-deadline:1",
        ] {
            assert_eq!(of_frame(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(of_frame(b"REPD-DEADLINE:\xff"), None);
    }
}
