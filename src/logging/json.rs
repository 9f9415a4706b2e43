//! A line as a JSON object.

use std::fmt::Write;

use log::Level;

use super::line::{Field, Line};
use crate::text::shorten;

/// Maximum length of the object in bytes: with what may be in front of it and behind, it is no more
/// than PIPE_BUF, which a pipe takes at once.
const MAX_BYTES: usize = 4080;

/// Returns the object (RFC 8259) of a line: its time, level and message, and its fields. A message
/// that makes it too long is cut.
pub(super) fn object(line: &Line, time: &str) -> String {
    let object = with_message(line, time, &line.text);
    let excess = object.len().saturating_sub(MAX_BYTES);
    if excess == 0 {
        return object;
    }
    let mut message = line.text.clone();
    // What it loses took at least as many bytes.
    shorten(&mut message, line.text.len().saturating_sub(excess).max(3));
    with_message(line, time, &message)
}

fn with_message(line: &Line, time: &str, message: &str) -> String {
    let mut json = format!("{{\"time\":\"{time}\",\"level\":\"{}\"", name(line.level));
    push_member(&mut json, "message", message);
    for (key, value) in &line.fields {
        match value {
            // Writing to a String never fails.
            Field::Number(number) => _ = write!(json, ",{}:{number}", quoted(key)),
            Field::Text(text) => push_member(&mut json, key, text),
        }
    }
    json.push('}');
    json
}

fn push_member(json: &mut String, key: &str, text: &str) {
    let _ = write!(json, ",{}:{}", quoted(key), quoted(text));
}

/// Returns what a level is called.
pub(crate) fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

/// Returns `text` as a JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => _ = write!(quoted, "\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    fn parsed(text: &str) -> serde_json::Value {
        let fields = vec![
            ("worker".into(), Field::Number(7)),
            ("client".into(), Field::Text("\"a\\\u{7f}\n".into())),
        ];
        let line = Line { level: Level::Warn, is_program: false, text: text.into(), fields };
        let object = object(&line, "2026-11-27T08:15:30.125Z");
        assert!(object.len() <= MAX_BYTES && !object.contains('\n'), "{object}");
        serde_json::from_str(&object).unwrap()
    }

    #[test]
    fn it_is_json_whatever_the_text_is() {
        for text in ["", "a\"b\\c", "\0\u{1b}\r\n\u{85}\u{2028}", "é 👩‍🚒", "\\u0041"] {
            let object = parsed(text);
            let said =
                ["time", "level", "message", "client"].map(|key| object[key].as_str().unwrap());
            assert_eq!(said, ["2026-11-27T08:15:30.125Z", "warning", text, "\"a\\\u{7f}\n"]);
            assert_eq!(object["worker"], 7);
        }
    }

    #[test]
    fn one_that_would_be_too_long_has_its_message_cut() {
        for text in ["x", "\"", "\0", "é"].map(|text| text.repeat(4000 / text.len())) {
            let object = parsed(&text);
            let start = object["message"].as_str().unwrap().strip_suffix("...").unwrap();
            assert!(text.starts_with(start));
        }
    }
}
