//! `/`: the page for people, one HTML document without script. It loads itself anew every five
//! seconds, and loads nothing else.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::history::WINDOWS;
use super::report::{Report, State};
use super::snapshot::Usage;
use super::units::{bytes, count, ranked, short, time};
use crate::backend::{Activity, LaneKind, LaneReport};
use crate::logging;
use crate::text::{shorten, utc};
use chart::{Scale, chart};
use table::{Cell, Escaped, MAX_ROWS, name, table};

mod chart;
mod table;
#[cfg(test)]
mod tests;

const STYLE: &str = include_str!("page/style.css");

/// What the page may do (Content Security Policy Level 3): use the style that is in it, by its
/// SHA-256, and nothing else.
pub(super) const POLICY: &str = "default-src 'none'; \
     style-src 'sha256-BtDqRBiGyDlv20/LMXyIL1KRAMQ0oyB04jqOtRfCF4w='; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Maximum number of warnings, and of bytes of one.
const MAX_WARNINGS: usize = 5;
const MAX_WARNING: usize = 160;

/// Returns the page.
pub(super) fn page(report: &Report<'_>) -> String {
    let mut html = String::with_capacity(16 << 10);
    let state = capitalized(report.state.name());
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"5\"><title>{state} – repd</title>\
         <style>{STYLE}</style></head><body>"
    );
    header(&mut html, report, &state);
    html.push_str("<main>");
    now(&mut html, report);
    html.push_str("<div class=\"flow\">");
    charts(&mut html, report);
    html.push_str("</div><div class=\"flow\">");
    workers(&mut html, report);
    elsewhere(&mut html, report);
    clients(&mut html, report);
    replies(&mut html, report);
    limits(&mut html, report);
    warnings(&mut html);
    html.push_str("</div></main></body></html>\n");
    html
}

fn header(html: &mut String, report: &Report<'_>, state: &str) {
    let lanes = &report.snapshot.lanes;
    let broken = lanes.iter().filter(|lane| is_broken(lane.activity)).count();
    let class = match report.state {
        State::Serving | State::Handling if broken == 0 => "good",
        State::Serving | State::Handling | State::Draining => "part",
        State::NotReady(_) | State::Hanging => "bad",
    };
    let _ = write!(html, "<header class=\"{class}\"><h1>{state}</h1>");
    let reason = match report.state.reason() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let since = report.clock.duration_since(report.since).unwrap_or_default();
    let _ = write!(html, "<p>for {}, since {}{reason}", whole(since), minute(report.since));
    if !report.state.is_healthy() {
        let _ = write!(html, "; what follows is {} old", whole(report.age()));
    }
    if broken > 0 && report.state.is_ready() {
        let of = lanes.len();
        let _ = write!(html, "</p><p>{broken} of {of} workers and upstreams cannot answer");
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(html, "</p><p>repd {version}, up {}", whole(report.uptime()));
    for endpoint in report.facts.endpoints.iter().take(4) {
        let _ = write!(html, " · {}", name(endpoint));
    }
    html.push_str("</p>");
    if let Some(key) = report.public_key() {
        let _ = write!(html, "<p>public key {}</p>", Escaped(&key));
    }
    html.push_str("</header>");
}

fn now(html: &mut String, report: &Report<'_>) {
    let (history, snapshot) = (report.history, report.snapshot);
    let rate = |time| short(history.rate(time, snapshot));
    let total = history.latencies(snapshot).total;
    let within = |share| total.quantile(share).map_or("–".into(), time);
    let [(_, shortest), windows @ ..] = WINDOWS;
    let tiles = [
        ("requests a second", rate(shortest)),
        ("errors a second", short(history.steps().last().map_or(0.0, |step| step.errors))),
        ("half of them within", within(0.5)),
        ("99 of 100 within", within(0.99)),
        ("in flight", count(snapshot.in_flight as u64)),
        ("of these queued", count(snapshot.queued as u64)),
        ("connections", count(snapshot.connections as u64)),
    ];
    html.push_str("<section><dl>");
    for (what, value) in tiles {
        let _ = write!(html, "<div><dt>{what}</dt><dd>{value}</dd></div>");
    }
    let rates = windows.map(|(_, window)| format!("{}: {}", time(window), rate(window)));
    let _ = write!(html, "</dl><p>requests a second over {}</p></section>", rates.join(", "));
}

fn charts(html: &mut String, report: &Report<'_>) {
    let steps = || report.history.steps();
    let seconds = |time: Option<Duration>| time.map_or(0.0, |time| time.as_secs_f64());
    let requests: Vec<f64> = steps().map(|step| step.requests).collect();
    let errors: Vec<f64> = steps().map(|step| step.errors).collect();
    let medians: Vec<f64> = steps().map(|step| seconds(step.median)).collect();
    let p99s: Vec<f64> = steps().map(|step| seconds(step.p99)).collect();
    let shown = |seconds| time(Duration::from_secs_f64(seconds));
    let (curves, names) = ([&requests[..], &errors], ["requests", "errors"]);
    let rates = chart("Requests a second", Scale::Linear, curves, names, short);
    // The slowest of a hundred may take a thousand times as long as others.
    let (curves, names) = ([&medians[..], &p99s], ["half", "99 of 100"]);
    let times = chart("Time to the reply", Scale::Logarithmic, curves, names, shown);
    for (what, chart) in [("Requests a second", rates), ("Time to the reply", times)] {
        let _ = write!(html, "<section><h2>{what}</h2>{chart}</section>");
    }
}

fn replies(html: &mut String, report: &Report<'_>) {
    let stats = &report.snapshot.stats;
    let mut rows =
        vec![("requests".to_string(), stats.requests), ("replies".into(), stats.replies)];
    rows.extend(
        stats.errors.iter().take(MAX_ROWS).map(|(code, count)| (format!("error {code}"), *count)),
    );
    let refused = report.snapshot.refused.iter().filter(|(_, count)| *count > 0);
    let refused = refused.map(|(reason, count)| (format!("connections refused: {reason}"), *count));
    rows.extend(stats.rare().map(|(what, count)| (what.to_string(), count)).chain(refused));
    let rows =
        rows.into_iter().map(|(what, value)| vec![Cell::text(what), Cell::number(count(value))]);
    table(html, "Since the start", &[], rows.collect());
}

fn workers(html: &mut String, report: &Report<'_>) {
    // What is wrong comes first, and then what takes long.
    let rank = |lane: &LaneReport| {
        let kind = match lane.activity {
            activity if is_broken(activity) => 2.0,
            Activity::Idle => 0.0,
            _ => 1.0,
        };
        let since = lane.since.map(|since| report.now.saturating_duration_since(since));
        [kind, since.unwrap_or_default().as_secs_f64()]
    };
    let is_worker = |lane: &&&LaneReport| matches!(lane.kind, LaneKind::Worker(_));
    let lanes = ranked(&report.snapshot.lanes, rank);
    let has_programs = report.facts.programs.is_some();
    let rows = lanes.iter().filter(is_worker).map(|lane| {
        let LaneKind::Worker(number) = lane.kind else { return Vec::new() };
        let mut row = vec![Cell::text(format!("worker {number}")), activity_of(lane, report)];
        if let Some((process, starts)) = report.program_of(number) {
            let process = process.map_or("–".into(), |process| process.to_string());
            row.extend([Cell::number(process), Cell::number(count(starts))]);
        }
        row.push(Cell::number(count(lane.replies)));
        row
    });
    let programs: &[&str] = if has_programs { &["process", "starts"] } else { &[] };
    let head = [&["", "state"], programs, &["replies"]].concat();
    table(html, "Workers", &head, rows.collect());
}

fn elsewhere(html: &mut String, report: &Report<'_>) {
    let is_elsewhere = |lane: &&LaneReport| !matches!(lane.kind, LaneKind::Worker(_));
    let rows = report.snapshot.lanes.iter().filter(is_elsewhere).map(|lane| {
        let who = match &lane.kind {
            LaneKind::Upstream(name) | LaneKind::External(name) => name.clone(),
            LaneKind::Worker(number) => format!("worker {number}"),
        };
        let mean = (lane.replies > 0).then(|| lane.handled.div_f64(lane.replies as f64));
        // Names are long here.
        vec![
            Cell { above: Some(who), ..activity_of(lane, report) },
            Cell::number(count(lane.in_flight as u64)),
            Cell::number(mean.map_or("–".into(), time)),
            Cell::number(count(lane.replies)),
        ]
    });
    let head = ["", "in flight", "mean time", "replies"];
    table(html, "Upstreams and external workers", &head, rows.collect());
}

fn clients(html: &mut String, report: &Report<'_>) {
    let rate = |usage: &Usage| report.history.rate_of(&usage.who, usage.requests, report.snapshot);
    let clients = ranked(&report.snapshot.clients, |usage| [rate(usage), usage.requests as f64]);
    let has_refused = clients.iter().any(|usage| usage.refused > 0);
    let rows = clients.into_iter().map(|usage| {
        let rate = rate(usage);
        let mut row = vec![
            Cell::text(usage.who.to_string()),
            Cell::number(count(usage.connections as u64)),
            Cell::number(short(rate)),
            Cell::number(count(usage.requests)),
        ];
        row.extend(has_refused.then(|| Cell::number(count(usage.refused))));
        row
    });
    let head = ["", "connections", "a second", "requests", "refused"];
    table(html, "Clients", &head, rows.collect());
}

fn limits(html: &mut String, report: &Report<'_>) {
    let (snapshot, process, facts) = (report.snapshot, report.process, report.facts);
    html.push_str("<section><h2>Limits</h2>");
    let mut row = |what: &str, used: u64, most: u64, show: fn(u64) -> String| {
        let (shown, of, high) = (show(used), show(most), most / 10 * 9);
        let _ = write!(
            html,
            "<div class=\"row\"><span>{what}</span><span>{shown} of {of}</span></div>\
             <meter max=\"{most}\" high=\"{high}\" optimum=\"0\" value=\"{used}\"></meter>"
        );
    };
    row("requests and replies", snapshot.held_bytes as u64, facts.max_memory as u64, bytes);
    row("connections", snapshot.connections as u64, facts.max_clients as u64, count);
    row("open files", process.open_files, process.max_files, count);
    let _ = write!(
        html,
        "<p>process {}: {} of memory, {} of processor time, {} threads</p></section>",
        std::process::id(),
        bytes(process.resident_bytes),
        whole(process.cpu),
        process.threads
    );
}

/// Writes the last warnings and errors of the log, the newest first.
fn warnings(html: &mut String) {
    let last = logging::last_warnings();
    if last.is_empty() {
        return;
    }
    html.push_str("<section class=\"wide\"><h2>Last warnings</h2>");
    for trouble in last.iter().rev().take(MAX_WARNINGS) {
        let mut text = trouble.text.clone();
        shorten(&mut text, MAX_WARNING);
        let _ = write!(html, "<p>{} {}</p>", minute(trouble.time), Escaped(&text));
    }
    html.push_str("</section>");
}

/// Returns a time in UTC, to the minute.
fn minute(time: SystemTime) -> String {
    utc(time)[..16].replace('T', " ") + " UTC"
}

/// Returns what a lane is doing, and for how long.
fn activity_of(lane: &LaneReport, report: &Report<'_>) -> Cell {
    let since = lane.since.map(|since| report.now.saturating_duration_since(since));
    let text = match since {
        Some(since) => format!("{} for {}", lane.activity.name(), time(since)),
        None => lane.activity.name().into(),
    };
    Cell { is_bad: is_broken(lane.activity), ..Cell::text(text) }
}

/// Returns true if a lane cannot answer.
fn is_broken(activity: Activity) -> bool {
    !matches!(activity, Activity::Idle | Activity::Busy)
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Returns a time in whole seconds.
fn whole(passed: Duration) -> String {
    match passed.as_secs() {
        0 => "0 s".into(),
        seconds => time(Duration::from_secs(seconds)),
    }
}
