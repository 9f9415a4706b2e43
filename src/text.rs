//! Bytes that anyone may have sent, as text for people.

/// Text as it is, but for control characters; bytes that are no text as `\x` and two digits. So it is on
/// one line, and changes no terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
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
            (b"", ""),
        ] {
            assert_eq!(printable(bytes), text);
        }
    }
}
