//! How many services and proxies a request has come through: each service that hands on a request which
//! did not come straight from its client says so in the envelope, so that one that goes round ends. Nobody
//! else trips over the frame: an envelope comes back as it was.

use crate::frame::Frame;

/// What the frame begins with; the number in decimal digits follows.
const MARK: &str = "REPD-HOPS:";

/// Maximum number of digits.
const MAX_DIGITS: usize = 4;

/// Returns the frame that says that a request has come over so many hops.
pub(crate) fn to_frame(hops: usize) -> Frame {
    Frame::from(format!("{MARK}{hops}"))
}

/// Returns over how many hops a request had come, if that is what the frame of an envelope says.
pub(crate) fn of_frame(frame: &[u8]) -> Option<usize> {
    let digits = str::from_utf8(frame.strip_prefix(MARK.as_bytes())?).ok()?;
    let is_number =
        (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_hops_says_nothing() {
        for hops in [0, 1, 64, 9999] {
            assert_eq!(of_frame(&to_frame(hops)), Some(hops));
        }
        for wrong in
            ["", "REPD-HOPS", "REPD-HOPS:", "REPD-HOPS:-1", "REPD-HOPS:+1", "REPD-HOPS:12345"]
        {
            assert_eq!(of_frame(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(of_frame(b"REPD-HOPS:\xff"), None);
    }
}
