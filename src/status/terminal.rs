//! `/status.json` as text for a terminal. What a service says is not trusted: it is made printable.

use std::fmt::{self, Write};
use std::time::Duration;

use serde_json::Value;

use super::units::{bytes, count, ranked, short, time};
use crate::text::printable;

/// Maximum number of rows of a table.
const MAX_ROWS: usize = 20;

/// Maximum number of warnings.
const MAX_WARNINGS: usize = 5;

/// Returns the text.
pub(super) fn shown(status: &Value) -> String {
    let mut text = Text(String::new());
    head(&mut text, status);
    requests(&mut text, status);
    workers(&mut text, status);
    elsewhere(&mut text, status);
    clients(&mut text, status);
    limits(&mut text, status);
    warnings(&mut text, status);
    text.0
}

fn head(text: &mut Text, status: &Value) {
    let reason = word(status, "/reason");
    let between = if reason.is_empty() { "" } else { ": " };
    let (state, since) = (word(status, "/state"), word(status, "/since"));
    text.line(format_args!("{state}{between}{reason}, since {since}"));
    let (version, up) = (word(status, "/version"), whole(status, "/uptime_seconds"));
    let endpoints = list(status, "/endpoints").iter().map(|it| word(it, ""));
    let endpoints = endpoints.collect::<Vec<_>>().join(", ");
    text.line(format_args!("repd {version}, up {up}, at {endpoints}"));
    let key = word(status, "/public_key");
    if !key.is_empty() {
        text.line(format_args!("public key {key}"));
    }
}

fn requests(text: &mut Text, status: &Value) {
    let mut rates = Vec::new();
    for window in ["10s", "1m", "5m", "15m"] {
        let rate = float(status, &format!("/requests/per_second/{window}"));
        rates.push(format!("{} ({window})", short(rate)));
    }
    text.line(format_args!("\nrequests a second  {}", rates.join(", ")));
    let mut shares = Vec::new();
    for share in ["p50", "p90", "p99", "p99.9"] {
        let within = span(status, &format!("/latency_seconds/total/{share}"));
        shares.push(format!("{share} {}", within.map_or_else(unknown, time)));
    }
    text.line(format_args!("time to the reply  {} (1m)", shares.join(", ")));
    let (in_flight, queued) =
        (number(status, "/requests/in_flight"), number(status, "/requests/queued"));
    text.line(format_args!("in flight          {in_flight}, of these queued {queued}"));
    let (total, ok) = (number(status, "/requests/total"), number(status, "/replies/ok"));
    let mut counts = counts(status, "/replies/errors", "error ");
    for what in ["withdrawn", "retried", "hedged", "hedges_won", "recalled", "late"] {
        let count = number(status, &format!("/requests/{what}"));
        if count != "0" {
            counts.push_str(&format!(", {} {count}", what.replace('_', " ")));
        }
    }
    text.line(format_args!("since the start    requests {total}, replies {ok}{counts}"));
}

fn workers(text: &mut Text, status: &Value) {
    let workers = list(status, "/workers");
    let mut states = Vec::new();
    for state in ["idle", "busy", "stuck", "down"] {
        let count = workers.iter().filter(|worker| word(worker, "/state") == state).count();
        if count > 0 {
            states.push(format!("{count} {state}"));
        }
    }
    if !states.is_empty() {
        text.line(format_args!("\nworkers            {}", states.join(", ")));
    }
    let mut rows = Vec::new();
    for worker in workers.iter().filter(|worker| word(worker, "/state") != "idle") {
        let process = worker.pointer("/process").and_then(Value::as_u64);
        rows.push(vec![
            format!("worker {}", number(worker, "/number")),
            state_of(worker),
            process.map(|id| format!("process {id}")).unwrap_or_default(),
        ]);
    }
    text.table(&rows);
    if status.pointer("/program/starts").is_some() {
        let starts = number(status, "/program/starts");
        let failures = counts(status, "/program/failures", "");
        text.line(format_args!("program            starts {starts}{failures}"));
    }
}

fn elsewhere(text: &mut Text, status: &Value) {
    let mut rows = Vec::new();
    for lane in list(status, "/upstreams").iter().chain(list(status, "/backend")) {
        rows.push(vec![
            word(lane, "/endpoint") + &word(lane, "/name"),
            state_of(lane),
            format!("in flight {}", number(lane, "/in_flight")),
            format!("mean {}", span(lane, "/mean_seconds").map_or_else(unknown, time)),
        ]);
    }
    text.titled_table("", &rows);
}

fn clients(text: &mut Text, status: &Value) {
    let rank = |client: &Value| [float(client, "/per_second"), float(client, "/requests")];
    let mut rows = Vec::new();
    for client in ranked(list(status, "/clients"), rank) {
        rows.push(vec![
            word(client, "/client"),
            format!("{} a second", short(float(client, "/per_second"))),
            format!("requests {}", number(client, "/requests")),
            format!("refused {}", number(client, "/refused")),
            format!("connections {}", number(client, "/connections")),
        ]);
    }
    text.titled_table("clients", &rows);
}

fn limits(text: &mut Text, status: &Value) {
    let of =
        |used: &str, most: &str| format!("{} of {}", number(status, used), number(status, most));
    let held = |path: &str| bytes(float(status, path) as u64);
    let (used, most) = (held("/limits/memory_held_bytes"), held("/limits/memory_max_bytes"));
    let rows = [
        vec!["connections".into(), of("/connections/open", "/connections/max")],
        vec!["requests and replies".into(), format!("{used} of {most}")],
        vec!["open files".into(), of("/limits/open_files", "/limits/open_files_max")],
    ];
    text.titled_table("", &rows);
}

fn warnings(text: &mut Text, status: &Value) {
    let all = list(status, "/log/warnings");
    if !all.is_empty() {
        text.line(format_args!("\nlast warnings"));
    }
    for warning in all.iter().rev().take(MAX_WARNINGS) {
        text.line(format_args!("  {} {}", word(warning, "/time"), word(warning, "/text")));
    }
}

/// What is put together for the terminal.
struct Text(String);

impl Text {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String never fails.
        let _ = writeln!(self.0, "{line}");
    }

    fn titled_table(&mut self, title: &str, rows: &[Vec<String>]) {
        if !rows.is_empty() {
            let end = if title.is_empty() { "" } else { "\n" };
            let _ = write!(self.0, "\n{title}{end}");
            self.table(rows);
        }
    }

    /// Writes rows with their columns below each other.
    fn table(&mut self, rows: &[Vec<String>]) {
        let shown = &rows[..rows.len().min(MAX_ROWS)];
        let mut widths = Vec::new();
        for (column, cell) in shown.iter().flat_map(|row| row.iter().enumerate()) {
            widths.resize(widths.len().max(column + 1), 0);
            widths[column] = widths[column].max(cell.chars().count());
        }
        for row in shown {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "  {cell:width$}");
            }
            self.line(format_args!("{}", line.trim_end()));
        }
        if rows.len() > MAX_ROWS {
            self.line(format_args!("  and {} more: see --json", rows.len() - MAX_ROWS));
        }
    }
}

/// Returns what is counted there, each with what stands before its name, but for what is zero.
fn counts(status: &Value, path: &str, before: &str) -> String {
    let mut text = String::new();
    for (name, value) in status.pointer(path).and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = value.as_u64().filter(|value| *value > 0) {
            let _ = write!(text, ", {before}{} {}", printable(name.as_bytes()), count(value));
        }
    }
    text
}

fn state_of(lane: &Value) -> String {
    let state = word(lane, "/state");
    match span(lane, "/for_seconds") {
        Some(since) => format!("{state} for {}", time(since)),
        None => state,
    }
}

fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn word(value: &Value, path: &str) -> String {
    let word = value.pointer(path).and_then(Value::as_str).unwrap_or_default();
    printable(word.as_bytes())
}

fn float(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
}

fn number(value: &Value, path: &str) -> String {
    count(value.pointer(path).and_then(Value::as_u64).unwrap_or(0))
}

fn span(value: &Value, path: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.pointer(path)?.as_f64()?).ok()
}

fn whole(value: &Value, path: &str) -> String {
    span(value, path).map_or_else(unknown, |span| match span.as_secs() {
        0 => "0 s".into(),
        seconds => time(Duration::from_secs(seconds)),
    })
}

fn unknown() -> String {
    "–".into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_not_happened_is_left_out() {
        let text =
            shown(&json!({"requests": {"total": 9, "hedged": 2, "hedges_won": 1, "late": 0}}));
        assert!(text.contains("requests 9, replies 0, hedged 2, hedges won 1\n"), "{text}");
    }

    #[test]
    fn what_a_service_says_is_not_trusted() {
        for status in [
            json!({}),
            json!({"workers": 7, "clients": {"a": 1}, "requests": [], "uptime_seconds": -1}),
            json!({"uptime_seconds": 1e300, "workers": [{"for_seconds": "x", "number": -1}]}),
        ] {
            assert!(!shown(&status).is_empty());
        }
        let text = shown(&json!({"state": "\u{1b}[2Jgood", "clients": [{"client": "a\nb"}]}));
        assert!(!text.contains('\u{1b}') && text.contains("a\\nb"), "{text}");
    }
}
