//! Makes text that anyone may have sent safe to print and to log, and times readable.

use std::time::{Duration, SystemTime};

/// Returns `bytes` as text on one line that changes no terminal. Characters that do more than show
/// themselves are escaped; bytes that are not UTF-8 become `\x` and two hexadecimal digits.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_escaped(c) { text.extend(c.escape_default()) } else { text.push(c) }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

/// Returns true if `c` is a control character, separates lines or paragraphs, changes the direction
/// of text (Unicode Standard Annex 9, section 2), or is invisible. The joiners of letters and of
/// emoji are not escaped.
pub(crate) fn is_escaped(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{ad}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Returns a time in UTC, to the millisecond (RFC 3339). Before 1970 and after 9999, which a clock that
/// was set may make of another time, it is the nearest that can be written.
pub(crate) fn utc(time: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let time = time.clamp(SystemTime::UNIX_EPOCH, last);
    humantime::format_rfc3339_millis(time).to_string()
}

/// Shortens `text` to at most `max_bytes` (3 or more), `...` at its end included. It is cut between
/// two characters.
pub(crate) fn shorten(text: &mut String, max_bytes: usize) {
    const MARK: &str = "...";
    if text.len() > max_bytes {
        let end = (0..=max_bytes - MARK.len()).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(MARK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_one_line_and_changes_no_terminal() {
        for (bytes, text) in [
            (&b"hello"[..], "hello"),
            ("é 👩‍🚒".as_bytes(), "é 👩‍🚒"),
            (b"a\nb\tc\x1b[2J", "a\\nb\\tc\\u{1b}[2J"),
            (b"\xff\x00", "\\xff\\u{0}"),
            (
                "a\u{202e}b\u{2028}c\u{85}\u{2069}".as_bytes(),
                "a\\u{202e}b\\u{2028}c\\u{85}\\u{2069}",
            ),
            ("a\u{200b}b\u{feff}c\u{ad}".as_bytes(), "a\\u{200b}b\\u{feff}c\\u{ad}"),
            (b"", ""),
        ] {
            assert_eq!(printable(bytes), text);
        }
    }

    #[test]
    fn any_time_can_be_written() {
        let since_1970 = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(1);
        for (time, text) in [
            (before, "1970-01-01T00:00:00.000Z"),
            (since_1970(1_791_936_000), "2026-10-14T00:00:00.000Z"),
            (since_1970(1 << 40), "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(utc(time), text);
        }
    }

    #[test]
    fn a_long_one_is_cut_at_the_end_of_a_character_and_marked() {
        for (text, max_bytes, short) in
            [("äöü", 6, "äöü"), ("äöüx", 6, "ä..."), ("äöüx", 5, "ä..."), ("abcdef", 5, "ab...")]
        {
            let mut shortened = text.to_string();
            shorten(&mut shortened, max_bytes);
            assert_eq!(shortened, short);
        }
    }
}
