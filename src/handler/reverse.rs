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
pub fn reverse(request: Vec<Frame>) -> Result<Vec<Frame>, Fault> {
    Ok(request.iter().map(|frame| backwards(frame)).collect())
}

fn backwards(bytes: &[u8]) -> Frame {
    // In ASCII the only cluster of more than one byte is CR LF (rule GB3).
    let by_bytes = bytes.is_ascii() && !bytes.contains(&b'\r');
    match str::from_utf8(bytes) {
        Ok(text) if !by_bytes => text.graphemes(true).rev().collect::<String>().into(),
        _ => bytes.iter().rev().copied().collect::<Vec<u8>>().into(),
    }
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
            assert_eq!(*backwards(text.as_bytes()), *reversed.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_text_is_reversed_by_bytes_each_frame_by_itself() {
        let request = vec![Frame::from(&[0xff, 0, 0xc3][..]), Frame::from("ab")];
        let reply = reverse(request).unwrap();
        assert_eq!(reply, [Frame::from(&[0xc3, 0, 0xff][..]), Frame::from("ba")]);
    }
}
