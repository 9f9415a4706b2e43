//! The figures for Prometheus, in its text format 0.0.4, and in OpenMetrics 1.0, which says much the
//! same.

use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime};

use super::histogram::Histogram;
use super::report::Report;
use super::snapshot::Who;
use crate::backend::{Activity, LaneKind, LaneReport};
use crate::fault::Code;
use crate::logging;

/// The media type of OpenMetrics, as who takes it says so, and as it is answered.
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text";
pub(super) const OPEN_METRICS_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(super) const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The codes of repd's own error replies, which are told though there were none.
const CODES: [Code; 8] = [
    Code::BAD_REQUEST,
    Code::FORBIDDEN,
    Code::TOO_LARGE,
    Code::TOO_MANY,
    Code::FAILED,
    Code::LOST,
    Code::UNAVAILABLE,
    Code::TIMEOUT,
];

/// Returns the figures in the text format.
pub(super) fn text(report: &Report<'_>) -> String {
    let mut exposition = Exposition { text: String::new(), is_open: false };
    exposition.write(report);
    exposition.text
}

/// Returns the figures in OpenMetrics.
pub(super) fn open_metrics(report: &Report<'_>) -> String {
    let mut exposition = Exposition { text: String::new(), is_open: true };
    exposition.write(report);
    exposition.text.push_str("# EOF\n");
    exposition.text
}

struct Exposition {
    text: String,
    /// It is OpenMetrics.
    is_open: bool,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    fn write(&mut self, report: &Report<'_>) {
        self.requests(report);
        self.latencies(report);
        self.lanes(report);
        self.programs(report);
        self.clients(report);
        self.service(report);
        self.process(report);
    }

    fn requests(&mut self, report: &Report<'_>) {
        let (stats, snapshot) = (&report.snapshot.stats, report.snapshot);
        self.counter("repd_requests", "Requests that were received.", stats.requests);
        self.family("repd_replies", "counter", "Replies by code; ok if they are no errors.");
        self.sample("repd_replies_total", &[("code", "ok")], stats.replies);
        let unseen = CODES.iter().filter(|code| !stats.errors.contains_key(code));
        for (code, count) in stats.errors.iter().chain(unseen.map(|code| (code, &0))) {
            self.sample("repd_replies_total", &[("code", &code.to_string())], count);
        }
        for (name, help, count) in [
            (
                "repd_requests_withdrawn",
                "Requests that were dropped unhandled, since their client had gone or had asked anew.",
                stats.withdrawn,
            ),
            ("repd_retries", "Requests that were lost, and given to another lane.", stats.retried),
            (
                "repd_hedges",
                "Requests given to another lane too, since they took long.",
                stats.hedged,
            ),
            ("repd_hedges_won", "Of these, those that it replied to first.", stats.hedges_won),
            ("repd_recalls", "Requests taken back from a slow lane.", stats.recalled),
            ("repd_late_replies", "Replies that came after the deadline.", stats.late),
            ("repd_malformed_messages", "Messages that were no requests.", stats.malformed),
            ("repd_gone_clients_replies", "Replies whose client had gone.", stats.gone),
            ("repd_unread_replies", "Replies dropped since clients did not read.", stats.unread),
        ] {
            self.counter(name, help, count);
        }
        for (name, help, value) in [
            ("repd_requests_in_flight", "Requests taken and not answered.", snapshot.in_flight),
            ("repd_requests_queued", "Requests that no lane has yet.", snapshot.queued),
            (
                "repd_unsent_reply_bytes",
                "Replies that clients do not take yet.",
                snapshot.unsent_bytes,
            ),
            (
                "repd_memory_held_bytes",
                "Memory of requests and unsent replies.",
                snapshot.held_bytes,
            ),
            ("repd_memory_max_bytes", "Most that these may take.", report.facts.max_memory),
        ] {
            self.gauge(name, help, value);
        }
    }

    fn latencies(&mut self, report: &Report<'_>) {
        let latencies = &report.snapshot.latencies;
        for (name, help, histogram) in [
            (
                "repd_request_duration_seconds",
                "Time from when a request was read to its reply.",
                &latencies.total,
            ),
            ("repd_queue_duration_seconds", "Time until a lane got the request.", &latencies.queue),
            (
                "repd_handle_duration_seconds",
                "Time that the lane took for the request.",
                &latencies.handle,
            ),
        ] {
            self.family(name, "histogram", help);
            self.histogram(name, histogram);
        }
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative() {
            self.sample(&bucket, &[("le", &bound.as_secs_f64().to_string())], count);
        }
        self.sample(&bucket, &[("le", "+Inf")], histogram.count());
        self.sample(&format!("{name}_sum"), &[], histogram.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), &[], histogram.count());
    }

    fn lanes(&mut self, report: &Report<'_>) {
        let lanes = &report.snapshot.lanes;
        let is_worker = |kind: &LaneKind| matches!(kind, LaneKind::Worker(_));
        let is_external = |kind: &LaneKind| matches!(kind, LaneKind::External(_));
        let states = Activity::OF_WORKERS;
        self.states("repd_workers", "Workers of this process by state.", &states, lanes, is_worker);
        let (name, help) = ("repd_external_workers", "External workers by state.");
        // Whether one has a program is not known.
        self.states(name, help, &states[..3], lanes, is_external);
        let external = elsewhere(lanes, |kind| match kind {
            LaneKind::External(name) => Some(name),
            _ => None,
        });
        let names =
            ["repd_external_worker_requests_in_flight", "repd_external_worker_duration_seconds"];
        self.loads(names, "worker", "external worker", &external);
        let upstreams = elsewhere(lanes, |kind| match kind {
            LaneKind::Upstream(endpoint) => Some(endpoint),
            _ => None,
        });
        if !upstreams.is_empty() {
            self.family("repd_upstream_up", "gauge", "1 if the upstream is connected.");
        }
        for (upstream, lane) in &upstreams {
            let is_up = u8::from(lane.activity != Activity::Disconnected);
            self.sample("repd_upstream_up", &[("upstream", upstream)], is_up);
        }
        let names = ["repd_upstream_requests_in_flight", "repd_upstream_duration_seconds"];
        self.loads(names, "upstream", "upstream", &upstreams);
    }

    fn states(
        &mut self,
        name: &str,
        help: &str,
        states: &[Activity],
        lanes: &[LaneReport],
        is_counted: fn(&LaneKind) -> bool,
    ) {
        self.family(name, "gauge", help);
        for state in states {
            let is_it = |lane: &&LaneReport| is_counted(&lane.kind) && lane.activity == *state;
            self.sample(name, &[("state", state.name())], lanes.iter().filter(is_it).count());
        }
    }

    /// Writes what each of these has to do, and how long it takes.
    fn loads(
        &mut self,
        [in_flight, duration]: [&str; 2],
        label: &str,
        what: &str,
        lanes: &[(&str, &LaneReport)],
    ) {
        if lanes.is_empty() {
            return;
        }
        self.family(in_flight, "gauge", &format!("Requests outstanding with the {what}."));
        for (value, lane) in lanes {
            self.sample(in_flight, &[(label, value)], lane.in_flight);
        }
        self.family(duration, "summary", &format!("Time that the {what} took for requests."));
        for (value, lane) in lanes {
            let labels = &[(label, *value)];
            self.sample(&format!("{duration}_sum"), labels, lane.handled.as_secs_f64());
            self.sample(&format!("{duration}_count"), labels, lane.replies);
        }
    }

    fn programs(&mut self, report: &Report<'_>) {
        let Some(counts) = &report.facts.programs else { return };
        let (starts, failures) = counts.all();
        self.counter("repd_program_starts", "Copies of the program that were started.", starts);
        self.family("repd_program_failures", "counter", "Copies that have failed, by reason.");
        for (reason, count) in failures {
            self.sample("repd_program_failures_total", &[("reason", reason)], count);
        }
    }

    fn clients(&mut self, report: &Report<'_>) {
        let snapshot = report.snapshot;
        self.gauge("repd_connections", "Connections of clients.", snapshot.connections);
        let most = report.facts.max_clients;
        self.gauge("repd_connections_max", "Most that clients may have.", most);
        let help = "Connections that were refused or cut off, by reason.";
        self.family("repd_connections_refused", "counter", help);
        for (reason, count) in &snapshot.refused {
            self.sample("repd_connections_refused_total", &[("reason", reason)], count);
        }
        let listed: Vec<_> = snapshot
            .clients
            .iter()
            .filter_map(|usage| match &usage.who {
                Who::Listed(name) => Some((&**name, usage)),
                _ => None,
            })
            .collect();
        if report.facts.access.is_some() {
            self.family("repd_client_requests", "counter", "Requests of each listed client.");
            for (client, usage) in &listed {
                self.sample("repd_client_requests_total", &[("client", client)], usage.requests);
            }
            self.family("repd_client_refused", "counter", "Requests over the client's limits.");
            for (client, usage) in &listed {
                self.sample("repd_client_refused_total", &[("client", client)], usage.refused);
            }
        }
    }

    fn service(&mut self, report: &Report<'_>) {
        if let Some(access) = &report.facts.access {
            let [done, failed] = access.reloads();
            self.family("repd_reloads", "counter", "Times that the lists were read again.");
            self.sample("repd_reloads_total", &[("result", "ok")], done);
            self.sample("repd_reloads_total", &[("result", "failed")], failed);
        }
        self.family("repd_log_lines", "counter", "Log lines by level, those left out included.");
        for (level, count) in logging::counts().each() {
            self.sample("repd_log_lines_total", &[("level", level)], count);
        }
        let is_ready = u8::from(report.state.is_ready());
        self.gauge("repd_ready", "1 if requests are taken.", is_ready);
        let age = report.age().as_secs_f64();
        self.gauge("repd_loop_age_seconds", "Time since the service's loop told this.", age);
        self.family("repd_build_info", "gauge", "Always 1.");
        self.sample("repd_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    }

    fn process(&mut self, report: &Report<'_>) {
        let process = report.process;
        self.family("process_cpu_seconds", "counter", "Processor time of this process.");
        self.sample("process_cpu_seconds_total", &[], process.cpu.as_secs_f64());
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in use.", process.resident_bytes),
            ("process_virtual_memory_bytes", "Memory mapped.", process.virtual_bytes),
            ("process_threads", "Threads.", process.threads),
            ("process_open_fds", "Open files.", process.open_files),
            ("process_max_fds", "Most open files.", process.max_files),
        ] {
            self.gauge(name, help, value);
        }
        let since_1970 = report.facts.started_at.duration_since(SystemTime::UNIX_EPOCH);
        let started = since_1970.unwrap_or(Duration::ZERO).as_secs_f64();
        let help = "When the service was started, in seconds since 1970.";
        self.gauge("process_start_time_seconds", help, started);
    }

    /// Begins a family of samples. A counter's name is given without `_total`.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let suffix = if kind == "counter" && !self.is_open { "_total" } else { "" };
        // Writing to a String never fails.
        let _ = writeln!(self.text, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.text, "# TYPE {name}{suffix} {kind}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{before}{label}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

/// Returns the lanes that have such a name, with it.
fn elsewhere(
    lanes: &[LaneReport],
    name_of: fn(&LaneKind) -> Option<&String>,
) -> Vec<(&str, &LaneReport)> {
    lanes.iter().filter_map(|lane| Some((name_of(&lane.kind)?.as_str(), lane))).collect()
}
