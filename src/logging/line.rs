//! A line of the log, and the fields that it has besides its text.

use std::fmt::Display;

use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};

use super::PROGRAM_TARGET;
use crate::text::{printable, shorten};

/// Maximum length of a line's text in bytes. With its time and level in front it is below PIPE_BUF,
/// 4,096 bytes, which a pipe takes at once.
pub(super) const MAX_TEXT_BYTES: usize = 4000;

/// Maximum length of the text of a field in bytes.
const MAX_FIELD_BYTES: usize = 200;

/// A line, safe to print whoever has written it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub level: Level,
    /// A program has written it.
    pub is_program: bool,
    pub text: String,
    pub fields: Vec<(String, Field)>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Number(u64),
    Text(String),
}

impl Line {
    /// Makes the line of a record.
    pub fn of(record: &Record<'_>) -> Line {
        let mut fields = Fields(Vec::new());
        // A field that cannot be shown is left out.
        let _ = record.key_values().visit(&mut fields);
        let is_program = record.target() == PROGRAM_TARGET;
        Line { is_program, fields: fields.0, ..Line::new(record.level(), record.args()) }
    }

    /// Makes a line without fields.
    pub fn new(level: Level, text: impl Display) -> Line {
        let text = safe(text, MAX_TEXT_BYTES);
        Line { level, is_program: false, text, fields: Vec::new() }
    }

    /// Adds that it stands for `more` lines like it, unless that is zero.
    pub fn and_more(mut self, more: u64) -> Line {
        if more > 0 {
            let addition = format!(" (and {more} more like it)");
            shorten(&mut self.text, MAX_TEXT_BYTES - addition.len());
            self.text.push_str(&addition);
        }
        self
    }
}

/// Returns `text` on one line that changes no terminal, shortened to `max_bytes`.
fn safe(text: impl Display, max_bytes: usize) -> String {
    let mut safe = printable(text.to_string().replace('\n', " ").as_bytes());
    shorten(&mut safe, max_bytes);
    safe
}

struct Fields(Vec<(String, Field)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut read = Read(None);
        value.visit(&mut read)?;
        self.0.extend(read.0.map(|field| (key.as_str().into(), field)));
        Ok(())
    }
}

/// What a value is; `None` if it is empty.
struct Read(Option<Field>);

impl<'v> VisitValue<'v> for Read {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.0 = Some(Field::Text(safe(value, MAX_FIELD_BYTES)));
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.0 = Some(Field::Number(value));
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
