//! `/status.json`: all that is shown, for programs. docs/operations.md says what each field means;
//! [`SCHEMA`] is raised when one changes its meaning or goes.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};
use time::UtcDateTime;

use super::histogram::Histogram;
use super::history::{STEP, WINDOWS};
use super::report::Report;
use super::snapshot::{Usage, Who};
use crate::backend::{LaneKind, LaneReport};

/// The version of the fields.
const SCHEMA: u32 = 1;

/// Shares of which the times are told.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Returns the text of the page.
pub(super) fn text(report: &Report<'_>) -> String {
    let mut text = of(report).to_string();
    text.push('\n');
    text
}

fn of(report: &Report<'_>) -> Value {
    let (snapshot, stats) = (report.snapshot, &report.snapshot.stats);
    let rates = WINDOWS.map(|(name, time)| (name, report.history.rate(time, snapshot)));
    let codes = stats.errors.iter().map(|(code, count)| (code.to_string(), json!(count)));
    let refused = snapshot.refused.iter().map(|(reason, count)| (*reason, json!(count)));
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "state": report.state.name(),
        "reason": report.state.reason(),
        "ready": report.state.is_ready(),
        "since": written(report.since),
        "time": written(report.clock),
        "started": written(report.facts.started_at),
        "uptime_seconds": rounded(report.uptime()),
        "loop_age_seconds": rounded(report.age()),
        "endpoints": report.facts.endpoints,
        "public_key": report.public_key(),
        "requests": {
            "total": stats.requests,
            "in_flight": snapshot.in_flight,
            "queued": snapshot.queued,
            "withdrawn": stats.withdrawn,
            "retried": stats.retried,
            "recalled": stats.recalled,
            "late": stats.late,
            "per_second": object(rates.map(|(name, rate)| (name, json!(round(rate))))),
        },
        "replies": {
            "ok": stats.replies,
            "errors": object(codes),
            "unread": stats.unread,
            "gone": stats.gone,
            "unsent_bytes": snapshot.unsent_bytes,
        },
        "latency_seconds": latencies(report),
        "workers": lanes(report, |lane| matches!(lane.kind, LaneKind::Worker(_))),
        "backend": lanes(report, |lane| lane.kind == LaneKind::External),
        "upstreams": lanes(report, |lane| matches!(lane.kind, LaneKind::Upstream(_))),
        "program": program(report),
        "connections": {
            "open": snapshot.connections,
            "max": report.facts.max_clients,
            "refused": object(refused),
        },
        "clients": snapshot.clients.iter().map(|usage| client(usage, report)).collect::<Vec<_>>(),
        "limits": {
            "memory_held_bytes": snapshot.held_bytes,
            "memory_max_bytes": report.facts.max_memory,
            "open_files": report.process.open_files,
            "open_files_max": report.process.max_files,
        },
        "process": {
            "id": std::process::id(),
            "cpu_seconds": rounded(report.process.cpu),
            "resident_bytes": report.process.resident_bytes,
            "threads": report.process.threads,
        },
        "reloads": report.facts.access.as_ref().map(|access| {
            let [done, failed] = access.reloads();
            json!({"ok": done, "failed": failed})
        }),
        "history": history(report),
    })
}

/// Returns how long the requests of the last minute took, by part.
fn latencies(report: &Report<'_>) -> Value {
    let recent = report.history.latencies(report.snapshot);
    let of = |histogram: &Histogram| {
        let shares =
            QUANTILES.map(|(name, share)| (name, json!(seconds(histogram.quantile(share)))));
        object(shares.into_iter().chain([("count", json!(histogram.count()))]))
    };
    object(recent.each().map(|(name, histogram)| (name, of(histogram))))
}

fn lanes(report: &Report<'_>, is_wanted: impl Fn(&LaneReport) -> bool) -> Value {
    let of = |lane: &LaneReport| {
        let mut fields = Map::new();
        match &lane.kind {
            LaneKind::Worker(number) => {
                fields.insert("number".into(), json!(number));
                if let Some((process, starts)) = report.program_of(*number) {
                    fields.insert("process".into(), json!(process));
                    fields.insert("starts".into(), json!(starts));
                }
            }
            LaneKind::Upstream(endpoint) => _ = fields.insert("endpoint".into(), json!(endpoint)),
            LaneKind::External => (),
        }
        let mean = lane.handled.as_secs_f64() / lane.replies as f64;
        let of_any = [
            ("state", json!(lane.activity.name())),
            ("for_seconds", json!(seconds(lane.since.map(|since| passed(since, report.now))))),
            ("in_flight", json!(lane.in_flight)),
            ("replies", json!(lane.replies)),
            ("mean_seconds", json!(mean.is_finite().then_some(mean))),
        ];
        fields.extend(of_any.map(|(name, value)| (name.to_string(), value)));
        Value::Object(fields)
    };
    report.snapshot.lanes.iter().filter(|lane| is_wanted(lane)).map(of).collect()
}

fn program(report: &Report<'_>) -> Value {
    let Some(counts) = &report.facts.programs else { return Value::Null };
    let (starts, failures) = counts.all();
    let failures = failures.into_iter().map(|(reason, count)| (reason, json!(count)));
    json!({"starts": starts, "failures": object(failures)})
}

fn client(usage: &Usage, report: &Report<'_>) -> Value {
    let kind = match usage.who {
        Who::Listed(_) => "name",
        Who::Address(_) => "address",
        Who::User(_) => "user",
        Who::Others => "others",
    };
    let rate = report.history.rate_of(&usage.who, usage.requests, report.snapshot);
    json!({
        "client": usage.who.to_string(),
        "kind": kind,
        "connections": usage.connections,
        "requests": usage.requests,
        "refused": usage.refused,
        "per_second": round(rate),
    })
}

fn history(report: &Report<'_>) -> Value {
    let steps = || report.history.steps();
    json!({
        "step_seconds": STEP.as_secs(),
        "requests_per_second": steps().map(|step| round(step.requests)).collect::<Vec<_>>(),
        "errors_per_second": steps().map(|step| round(step.errors)).collect::<Vec<_>>(),
        "p50_seconds": steps().map(|step| seconds(step.median)).collect::<Vec<_>>(),
        "p99_seconds": steps().map(|step| seconds(step.p99)).collect::<Vec<_>>(),
    })
}

fn object(fields: impl IntoIterator<Item = (impl Into<String>, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn passed(since: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(since)
}

fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}

/// Rounds to milliseconds.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Rounds to three digits behind the point.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Returns the time in UTC (RFC 3339).
pub(super) fn written(time: SystemTime) -> String {
    let time = UtcDateTime::from(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}
