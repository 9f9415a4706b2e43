//! `/status.json` as text for a terminal. What a service says is not trusted: it is made printable.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use super::units::{bytes, count, short, time};
use crate::text::printable;

/// Maximum number of rows of a table.
const MAX_ROWS: usize = 20;

/// Returns the text.
pub(super) fn shown(status: &Value) -> String {
    let mut text = String::new();
    head(&mut text, status);
    requests(&mut text, status);
    workers(&mut text, status);
    elsewhere(&mut text, status);
    clients(&mut text, status);
    limits(&mut text, status);
    text
}

fn head(text: &mut String, status: &Value) {
    let word = |field: &str| word(&status[field]);
    let reason = match word("reason") {
        reason if reason.is_empty() => reason,
        reason => format!(": {reason}"),
    };
    // Writing to a String never fails.
    let _ = writeln!(text, "{}{reason}, since {}", word("state"), word("since"));
    let endpoints = strings(&status["endpoints"]).join(", ");
    let up = seconds(&status["uptime_seconds"]).map_or_else(unknown, whole);
    let _ = writeln!(text, "repd {}, up {up}, at {endpoints}", word("version"));
    if !status["public_key"].is_null() {
        let _ = writeln!(text, "public key {}", word("public_key"));
    }
}

fn requests(text: &mut String, status: &Value) {
    let requests = &status["requests"];
    let number = |field: &str| count(requests[field].as_u64().unwrap_or(0));
    let rates = ["10s", "1m", "5m", "15m"].map(|window| {
        let rate = requests["per_second"][window].as_f64().unwrap_or(0.0);
        format!("{} ({window})", short(rate))
    });
    let _ = writeln!(text, "\nrequests a second  {}", rates.join(", "));
    let total = &status["latency_seconds"]["total"];
    let shares = ["p50", "p90", "p99", "p99.9"].map(|share| {
        let shown = seconds(&total[share]).map_or_else(unknown, time);
        format!("{share} {shown}")
    });
    let _ = writeln!(text, "time to the reply  {} (1m)", shares.join(", "));
    let (in_flight, queued) = (number("in_flight"), number("queued"));
    let _ = writeln!(text, "in flight          {in_flight}, of these queued {queued}");
    let errors = status["replies"]["errors"].as_object().into_iter().flatten();
    let errors =
        errors.map(|(code, count)| (format!("error {}", printable(code.as_bytes())), count));
    let rare = ["withdrawn", "retried", "recalled", "late"];
    let rare = rare.map(|what| (what.to_string(), &requests[what]));
    let all = errors.chain(rare).filter_map(|(what, value)| {
        let value = value.as_u64().filter(|value| *value > 0)?;
        Some(format!(", {what} {}", count(value)))
    });
    let ok = count(status["replies"]["ok"].as_u64().unwrap_or(0));
    let _ = writeln!(
        text,
        "since the start    requests {}, replies {ok}{}",
        number("total"),
        all.collect::<String>()
    );
}

fn workers(text: &mut String, status: &Value) {
    let workers = array(&status["workers"]);
    if workers.is_empty() {
        return;
    }
    let states = ["idle", "busy", "stuck", "down"].into_iter().filter_map(|state| {
        let count = workers.iter().filter(|worker| worker["state"] == state).count();
        (count > 0).then(|| format!("{count} {state}"))
    });
    let _ = writeln!(text, "\nworkers            {}", states.collect::<Vec<_>>().join(", "));
    let rows = workers.iter().filter(|worker| worker["state"] != "idle").map(|worker| {
        let process = worker["process"].as_u64().map(|id| format!("process {id}"));
        vec![
            format!("worker {}", worker["number"].as_u64().unwrap_or(0)),
            state_of(worker),
            process.unwrap_or_default(),
        ]
    });
    table(text, rows.collect());
    if let Some(starts) = status["program"]["starts"].as_u64() {
        let failures = status["program"]["failures"].as_object().into_iter().flatten();
        let failures =
            failures.filter(|(_, count)| count.as_u64() > Some(0)).map(|(reason, count)| {
                format!(", {} {}", printable(reason.as_bytes()), count.as_u64().unwrap_or(0))
            });
        let _ = writeln!(
            text,
            "program            starts {}{}",
            count(starts),
            failures.collect::<String>()
        );
    }
}

fn elsewhere(text: &mut String, status: &Value) {
    let all = array(&status["upstreams"]).iter().chain(array(&status["backend"]));
    let rows: Vec<_> = all
        .map(|lane| {
            let who = match lane["endpoint"].as_str() {
                Some(endpoint) => printable(endpoint.as_bytes()),
                None => "external workers".into(),
            };
            let mean = seconds(&lane["mean_seconds"]).map_or_else(unknown, time);
            let in_flight = lane["in_flight"].as_u64().unwrap_or(0);
            vec![who, state_of(lane), format!("in flight {in_flight}"), format!("mean {mean}")]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        table(text, rows);
    }
}

fn clients(text: &mut String, status: &Value) {
    let mut clients: Vec<&Value> = array(&status["clients"]).iter().collect();
    let rate = |client: &Value| client["per_second"].as_f64().unwrap_or(0.0);
    clients.sort_by(|one, other| rate(other).total_cmp(&rate(one)));
    let rows = clients.iter().map(|client| {
        let number = |field: &str| count(client[field].as_u64().unwrap_or(0));
        vec![
            word(&client["client"]),
            format!("{} a second", short(rate(client))),
            format!("requests {}", number("requests")),
            format!("refused {}", number("refused")),
            format!("connections {}", number("connections")),
        ]
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        text.push_str("\nclients\n");
        table(text, rows);
    }
}

fn limits(text: &mut String, status: &Value) {
    let (limits, connections) = (&status["limits"], &status["connections"]);
    let of = |used: &Value, most: &Value, show: fn(u64) -> String| {
        format!("{} of {}", show(used.as_u64().unwrap_or(0)), show(most.as_u64().unwrap_or(0)))
    };
    let rows = vec![
        vec!["connections".into(), of(&connections["open"], &connections["max"], count)],
        vec![
            "requests and replies".into(),
            of(&limits["memory_held_bytes"], &limits["memory_max_bytes"], bytes),
        ],
        vec!["open files".into(), of(&limits["open_files"], &limits["open_files_max"], count)],
    ];
    text.push('\n');
    table(text, rows);
}

fn state_of(lane: &Value) -> String {
    let state = word(&lane["state"]);
    match seconds(&lane["for_seconds"]) {
        Some(since) => format!("{state} for {}", time(since)),
        None => state,
    }
}

/// Writes rows with their columns below each other.
fn table(text: &mut String, rows: Vec<Vec<String>>) {
    let shown = &rows[..rows.len().min(MAX_ROWS)];
    let columns = shown.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        shown.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in shown {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "  {}", line.trim_end());
    }
    if rows.len() > MAX_ROWS {
        let _ = writeln!(text, "  and {} more: see --json", rows.len() - MAX_ROWS);
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> Vec<String> {
    array(value).iter().map(word).collect()
}

fn word(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default().as_bytes())
}

fn seconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(value.as_f64()?).ok()
}

fn whole(duration: Duration) -> String {
    time(Duration::from_secs(duration.as_secs()))
}

fn unknown() -> String {
    "–".into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
