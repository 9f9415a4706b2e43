//! Bytes that anyone may have sent, as text for people.

/// Text as it is, but for control characters, ends of lines and what changes the direction of text; bytes that are
/// no text as `\x` and two digits. So it is on one line, and changes no terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if changes(c) { text.extend(c.escape_default()) } else { text.push(c) }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

/// Whether it changes more than its own place, or has none: a control character, a separator of lines or paragraphs, one
/// that changes the direction of what follows (Unicode Standard Annex 9, section 2), or one that is not seen. Not those
/// that join letters or pictures.
fn changes(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{ad}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Shortens text to so many bytes, at the end of a character, and marks it where it was cut.
pub(crate) fn shorten(text: &mut String, most: usize) {
    const MARK: &str = "...";
    if text.len() > most {
        let end = (0..=most - MARK.len()).rev().find(|at| text.is_char_boundary(*at));
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
    fn a_long_one_is_cut_at_the_end_of_a_character_and_marked() {
        for (text, most, short) in
            [("äöü", 6, "äöü"), ("äöüx", 6, "ä..."), ("äöüx", 5, "ä..."), ("abcdef", 5, "ab...")]
        {
            let mut shortened = text.to_string();
            shorten(&mut shortened, most);
            assert_eq!(shortened, short);
        }
    }
}
