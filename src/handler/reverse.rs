//! The classic handler: text, backwards.

use unicode_segmentation::UnicodeSegmentation;

use crate::fault::Fault;
use crate::frame::Frame;

/// Answers with each frame of the request reversed: text by extended grapheme clusters
/// (Unicode Standard Annex 29), so that what a reader sees as one character stays one; a frame that
/// is not UTF-8 by bytes.
///
/// # Errors
/// None.
pub fn reverse(mut request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
    request.iter_mut().for_each(turn_around);
    Ok(request)
}

fn turn_around(frame: &mut Frame) {
    if is_plain(frame) {
        return frame.reverse();
    }
    match str::from_utf8(frame) {
        Ok(text) => *frame = text.graphemes(true).rev().collect::<String>().into(),
        Err(_) => frame.reverse(),
    }
}

/// Whether each byte is a cluster: in ASCII the only one of more is CR LF (rule GB3).
fn is_plain(bytes: &[u8]) -> bool {
    // Whole blocks without a way out, which compilers turn into vector instructions.
    let plain = |all, byte: &u8| all & byte.is_ascii() & (*byte != b'\r');
    bytes.chunks(4096).all(|block| block.iter().fold(true, plain))
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
