//! Tables of the page, and text in it that came from outside.

use std::fmt::{Display, Write};

use crate::text::{printable, shorten};

/// Maximum number of rows of a table, and of bytes of a name in it.
pub(super) const MAX_ROWS: usize = 16;
const MAX_NAME: usize = 64;

pub(super) struct Cell {
    /// A line of its own.
    pub above: Option<String>,
    pub text: String,
    pub is_number: bool,
    pub is_bad: bool,
}

impl Cell {
    pub fn text(text: String) -> Cell {
        Cell { above: None, text, is_number: false, is_bad: false }
    }

    pub fn number(text: String) -> Cell {
        Cell { is_number: true, ..Cell::text(text) }
    }
}

/// Writes a table, unless it is empty, with the first [`MAX_ROWS`] of its rows.
pub(super) fn table(html: &mut String, title: &str, head: &[&str], rows: Vec<Vec<Cell>>) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(html, "<section><h2>{title}</h2><table>");
    if !head.is_empty() {
        html.push_str("<tr>");
        for (name, cell) in head.iter().zip(&rows[0]) {
            let class = if cell.is_number { " class=\"n\"" } else { "" };
            let _ = write!(html, "<th{class}>{name}</th>");
        }
        html.push_str("</tr>");
    }
    for row in rows.iter().take(MAX_ROWS) {
        html.push_str("<tr>");
        for Cell { above, text, is_number, is_bad } in row {
            let class = if *is_number { " class=\"n\"" } else { "" };
            let (open, close) = if *is_bad { ("<b>", "</b>") } else { ("", "") };
            let above = above.as_ref().map_or(String::new(), |above| name(above) + "<br>");
            let _ = write!(html, "<td{class}>{open}{above}{}{close}</td>", name(text));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
    if rows.len() > MAX_ROWS {
        let _ = write!(html, "<p>and {} more: see /status.json</p>", rows.len() - MAX_ROWS);
    }
    html.push_str("</section>");
}

/// Returns a name that came from outside, short and harmless.
pub(super) fn name(text: &str) -> String {
    let mut text = printable(text.as_bytes());
    shorten(&mut text, MAX_NAME);
    Escaped(&text).to_string()
}

/// Shows text with what means something in HTML escaped.
pub(super) struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
