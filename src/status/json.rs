//! `/status.json`: all that is shown, for programs. docs/monitoring.md says what each field means;
//! [`SCHEMA`] is raised when one changes its meaning or goes.

use std::time::Duration;

use serde_json::{Map, Value};

use super::history::{STEP, Step, WINDOWS};
use super::report::Report;
use super::snapshot::{Usage, Who};
use crate::auth::Access;
use crate::backend::{LaneKind, LaneReport};
use crate::logging;
use crate::text::utc;

/// The version of the fields.
pub(super) const SCHEMA: u32 = 1;

/// Shares of which the times are told.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Returns the text of the page.
pub(super) fn text(report: &Report<'_>) -> String {
    let mut text = of(report).to_string();
    text.push('\n');
    text
}

fn of(report: &Report<'_>) -> Value {
    let (snapshot, facts) = (report.snapshot, report.facts);
    object(vec![
        ("schema", SCHEMA.into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("state", report.state.name().into()),
        ("reason", report.state.reason().into()),
        ("ready", report.state.is_ready().into()),
        ("since", utc(report.since).into()),
        ("time", utc(report.clock).into()),
        ("started", utc(facts.started_at).into()),
        ("uptime_seconds", rounded(report.uptime().as_secs_f64())),
        ("loop_age_seconds", rounded(report.age().as_secs_f64())),
        ("endpoints", facts.endpoints.clone().into()),
        ("public_key", report.public_key().into()),
        ("requests", requests(report)),
        ("replies", replies(report)),
        ("latency_seconds", latencies(report)),
        ("workers", lanes(report, |kind| matches!(kind, LaneKind::Worker(_)))),
        ("backend", lanes(report, |kind| matches!(kind, LaneKind::External(_)))),
        ("upstreams", lanes(report, |kind| matches!(kind, LaneKind::Upstream(_)))),
        ("program", program(report)),
        ("connections", connections(report)),
        ("clients", snapshot.clients.iter().map(|usage| client(usage, report)).collect()),
        ("limits", limits(report)),
        ("process", process(report)),
        ("reloads", facts.access.as_deref().map_or(Value::Null, reloads)),
        ("log", log()),
        ("history", history(report)),
    ])
}

fn connections(report: &Report<'_>) -> Value {
    object(vec![
        ("open", report.snapshot.connections.into()),
        ("max", report.facts.max_clients.into()),
        ("refused", counts(report.snapshot.refused.iter().copied())),
    ])
}

fn limits(report: &Report<'_>) -> Value {
    object(vec![
        ("memory_held_bytes", report.snapshot.held_bytes.into()),
        ("memory_max_bytes", report.facts.max_memory.into()),
        ("open_files", report.process.open_files.into()),
        ("open_files_max", report.process.max_files.into()),
    ])
}

fn process(report: &Report<'_>) -> Value {
    object(vec![
        ("id", std::process::id().into()),
        ("cpu_seconds", rounded(report.process.cpu.as_secs_f64())),
        ("resident_bytes", report.process.resident_bytes.into()),
        ("threads", report.process.threads.into()),
    ])
}

fn reloads(access: &Access) -> Value {
    let [done, failed] = access.reloads();
    counts([("ok", done), ("failed", failed)])
}

fn requests(report: &Report<'_>) -> Value {
    let (snapshot, stats) = (report.snapshot, &report.snapshot.stats);
    let rate = |(name, time)| (name, rounded(report.history.rate(time, snapshot)));
    object(vec![
        ("total", stats.requests.into()),
        ("in_flight", snapshot.in_flight.into()),
        ("queued", snapshot.queued.into()),
        ("withdrawn", stats.withdrawn.into()),
        ("retried", stats.retried.into()),
        ("hedged", stats.hedged.into()),
        ("hedges_won", stats.hedges_won.into()),
        ("recalled", stats.recalled.into()),
        ("late", stats.late.into()),
        ("per_second", object(WINDOWS.map(rate).into())),
    ])
}

fn replies(report: &Report<'_>) -> Value {
    let stats = &report.snapshot.stats;
    let mut errors = Map::new();
    for (code, count) in &stats.errors {
        errors.insert(code.to_string(), (*count).into());
    }
    object(vec![
        ("ok", stats.replies.into()),
        ("errors", Value::Object(errors)),
        ("unread", stats.unread.into()),
        ("gone", stats.gone.into()),
        ("unsent_bytes", report.snapshot.unsent_bytes.into()),
    ])
}

/// Returns how long the requests of the last minute took, by part.
fn latencies(report: &Report<'_>) -> Value {
    let recent = report.history.latencies(report.snapshot);
    let parts = recent.each().map(|(name, histogram)| {
        let share = |(name, share)| (name, seconds(histogram.quantile(share)));
        let mut fields: Vec<_> = QUANTILES.map(share).into();
        fields.push(("count", histogram.count().into()));
        (name, object(fields))
    });
    object(parts.into())
}

fn lanes(report: &Report<'_>, is_wanted: fn(&LaneKind) -> bool) -> Value {
    let lanes = report.snapshot.lanes.iter().filter(|lane| is_wanted(&lane.kind));
    lanes.map(|lane| self::lane(lane, report)).collect()
}

fn lane(lane: &LaneReport, report: &Report<'_>) -> Value {
    let mut fields = Vec::new();
    match &lane.kind {
        LaneKind::Worker(number) => {
            fields.push(("number", (*number).into()));
            if let Some((process, starts)) = report.program_of(*number) {
                fields.extend([("process", process.into()), ("starts", starts.into())]);
            }
        }
        LaneKind::Upstream(endpoint) => fields.push(("endpoint", endpoint.as_str().into())),
        LaneKind::External(name) => fields.push(("name", name.as_str().into())),
    }
    let passed = lane.since.map(|since| report.now.saturating_duration_since(since));
    let mean = lane.handled.as_secs_f64() / lane.replies as f64;
    fields.extend([
        ("state", lane.activity.name().into()),
        ("for_seconds", seconds(passed)),
        ("in_flight", lane.in_flight.into()),
        ("replies", lane.replies.into()),
        // Of no replies it is no number, which becomes null.
        ("mean_seconds", mean.into()),
    ]);
    object(fields)
}

fn program(report: &Report<'_>) -> Value {
    let Some(copies) = &report.facts.programs else { return Value::Null };
    let (starts, failures) = copies.all();
    object(vec![("starts", starts.into()), ("failures", counts(failures))])
}

fn client(usage: &Usage, report: &Report<'_>) -> Value {
    let kind = match usage.who {
        Who::Listed(_) => "name",
        Who::Address(_) => "address",
        Who::User(_) => "user",
        Who::Others => "others",
    };
    let rate = report.history.rate_of(&usage.who, usage.requests, report.snapshot);
    object(vec![
        ("client", usage.who.to_string().into()),
        ("kind", kind.into()),
        ("connections", usage.connections.into()),
        ("requests", usage.requests.into()),
        ("refused", usage.refused.into()),
        ("per_second", rounded(rate)),
    ])
}

/// Returns what the log was told: lines by level, and the last warnings and errors.
fn log() -> Value {
    let warnings = logging::last_warnings().into_iter().map(|trouble| {
        object(vec![
            ("time", utc(trouble.time).into()),
            ("level", logging::name_of(trouble.level).into()),
            ("text", trouble.text.into()),
        ])
    });
    object(vec![("lines", counts(logging::counts().each())), ("warnings", warnings.collect())])
}

fn history(report: &Report<'_>) -> Value {
    let of_each = |value: fn(&Step) -> Value| report.history.steps().map(value).collect();
    object(vec![
        ("step_seconds", STEP.as_secs().into()),
        ("requests_per_second", of_each(|step| rounded(step.requests))),
        ("errors_per_second", of_each(|step| rounded(step.errors))),
        ("p50_seconds", of_each(|step| seconds(step.median))),
        ("p99_seconds", of_each(|step| seconds(step.p99))),
    ])
}

fn object(fields: Vec<(&'static str, Value)>) -> Value {
    let mut object = Map::new();
    for (name, value) in fields {
        object.insert(name.into(), value);
    }
    Value::Object(object)
}

fn counts(counts: impl IntoIterator<Item = (&'static str, u64)>) -> Value {
    object(counts.into_iter().map(|(name, count)| (name, count.into())).collect())
}

fn seconds(time: Option<Duration>) -> Value {
    time.map(|time| time.as_secs_f64()).into()
}

/// Returns a number with at most three digits behind the point.
fn rounded(value: f64) -> Value {
    ((value * 1000.0).round() / 1000.0).into()
}
