//! The default handler: replies with the request's text reversed.

use unicode_segmentation::UnicodeSegmentation;

use crate::fault::Fault;
use crate::frame::Frame;

/// Returns the request with each frame reversed. UTF-8 text is reversed by extended grapheme
/// clusters (Unicode Standard Annex 29), so that what a reader sees as one character stays one. Any
/// other frame is reversed byte by byte.
///
/// # Errors
/// Never returns an error.
pub fn reverse(mut request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
    request.iter_mut().for_each(reverse_frame);
    Ok(request)
}

fn reverse_frame(frame: &mut Frame) {
    if is_single_byte_text(frame) {
        return frame.reverse();
    }
    match str::from_utf8(frame) {
        Ok(text) => *frame = text.graphemes(true).rev().collect::<String>().into(),
        Err(_) => frame.reverse(),
    }
}

/// Returns true if `bytes` is ASCII without a carriage return. Each byte is a cluster then: the
/// only cluster of several ASCII characters is CR LF (rule GB3).
fn is_single_byte_text(bytes: &[u8]) -> bool {
    // A block is tested without an early exit, so that compilers use vector instructions.
    let is_single = |all, byte: &u8| all & byte.is_ascii() & (*byte != b'\r');
    bytes.chunks(4096).all(|block| block.iter().fold(true, is_single))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_reversed_by_what_a_reader_sees_as_characters() {
        for (text, reversed) in [
            ("", ""),
            ("hello", "olleh"),
            ("cafe\u{301}!", "!e\u{301}fac"),
            ("a👩‍🚒🇩🇪b", "b🇩🇪👩‍🚒a"),
            ("one\r\ntwo", "owt\r\neno"),
        ] {
            let reply = reverse(vec![Frame::from(text)]).unwrap();
            assert_eq!(reply, [Frame::from(reversed)], "{text:?}");
        }
    }

    #[test]
    fn what_is_not_text_is_reversed_by_bytes_each_frame_by_itself() {
        let request = vec![Frame::from(&[0xff, 0, 0xc3][..]), Frame::from("ab")];
        let reply = reverse(request).unwrap();
        assert_eq!(reply, [Frame::from(&[0xc3, 0, 0xff][..]), Frame::from("ba")]);
    }
}
