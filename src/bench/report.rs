//! Reports of a load, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

use super::load::{Clients, Load, Outcome};

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Returns the line that is shown while a load runs; `rate` is in requests a second.
pub fn progress(elapsed: Duration, rate: f64) -> String {
    format!("{:.1} s: {} requests/s", elapsed.as_secs_f64(), thousands(rate))
}

/// Returns the report that people read.
pub fn text(load: &Load, outcome: &Outcome) -> String {
    let seconds = outcome.elapsed.as_secs_f64();
    let (sent, received) = outcome.megabytes();
    let mut errors = String::new();
    for (code, count) in &outcome.errors {
        let _ = write!(errors, ", {code}: {}", thousands(*count as f64));
    }
    if outcome.wrong > 0 {
        let _ = write!(errors, ", not as expected: {}", thousands(outcome.wrong as f64));
    }
    let mut text = format!(
        "{}, {} B, {}\n\
         requests   {} in {seconds:.2} s\n\
         replies    {}, missing: {}{errors}\n\
         rate       {} requests/s, {sent:.2} MB/s sent, {received:.2} MB/s received\n",
        clients(&load.clients),
        thousands(load.bodies[0].bytes.len() as f64),
        load.endpoint,
        thousands(outcome.sent as f64),
        thousands(outcome.replies as f64),
        thousands(outcome.missing as f64),
        thousands(outcome.rate()),
    );
    if let Clients::OpenLoop { .. } = load.clients {
        let goodput = thousands(outcome.goodput());
        let _ = writeln!(text, "goodput    {goodput} replies/s in time, without errors");
    }
    let latency = &outcome.latency[0];
    if !latency.is_empty() {
        let _ = write!(
            text,
            "latency    min {}, mean {}",
            time(latency.min()),
            time(latency.mean() as u64)
        );
        for (name, quantile) in QUANTILES {
            let _ = write!(text, ", {name} {}", time(latency.value_at_quantile(quantile)));
        }
        let _ = writeln!(text, ", max {}", time(latency.max()));
    }
    let _ = writeln!(
        text,
        "bench      {:.2} processors used by the clients themselves",
        outcome.processors
    );
    text + &histogram(latency)
}

/// Returns who asks.
fn clients(clients: &Clients) -> String {
    match *clients {
        Clients::Req(1) => "1 REQ client".into(),
        Clients::Req(clients) => format!("{clients} REQ clients"),
        Clients::Pipeline(outstanding) => format!("1 DEALER with {outstanding} outstanding"),
        Clients::OpenLoop { clients, rate } => {
            format!("{clients} DEALER clients, {} requests/s asked", thousands(rate as f64))
        }
    }
}

/// Returns the histogram of the latency. The upper bounds of its rows grow by the same factor from
/// the least to the greatest latency; there are no more rows than replies.
fn histogram(latency: &Histogram<u64>) -> String {
    const ROWS: u64 = 12;
    const WIDTH: f64 = 50.0;
    let mut text = String::new();
    if latency.is_empty() {
        return text;
    }
    let (min, max) = (latency.min().max(1) as f64, latency.max().max(1) as f64);
    let rows = ROWS.min(latency.len()) as i32;
    let step = (max / min).powf(1.0 / f64::from(rows));
    let mut rows: Vec<(f64, u64)> = (1..=rows).map(|row| (min * step.powi(row), 0)).collect();
    for recorded in latency.iter_recorded() {
        let value = recorded.value_iterated_to() as f64;
        let row = rows.iter().position(|(edge, _)| value <= *edge).unwrap_or(rows.len() - 1);
        rows[row].1 += recorded.count_at_value();
    }
    let most = rows.iter().map(|row| row.1).max().unwrap_or(1).max(1) as f64;
    text.push('\n');
    for (edge, count) in rows {
        let share = count as f64 / latency.len() as f64 * 100.0;
        let bar = "█".repeat((count as f64 / most * WIDTH).ceil() as usize);
        let _ = writeln!(
            text,
            "{}",
            format!("up to {:>8} {share:>6.2} % {bar}", time(edge as u64)).trim_end()
        );
    }
    text
}

/// Returns the report that programs read: one JSON object, with the units in its names.
pub fn json(load: &Load, outcome: &Outcome) -> String {
    let (clients, outstanding, asked) = match load.clients {
        Clients::Req(clients) => (clients, Some(1), None),
        Clients::Pipeline(outstanding) => (1, Some(outstanding), None),
        Clients::OpenLoop { clients, rate } => (clients, None, Some(rate)),
    };
    let latency = &outcome.latency[0];
    let micros = |nanos: f64| (!latency.is_empty()).then_some(nanos / 1e3);
    let at = |quantile| micros(latency.value_at_quantile(quantile) as f64);
    let (sent, received) = outcome.megabytes();
    let object = json!({
        "endpoint": load.endpoint.to_string(),
        "clients": clients,
        "outstanding_per_client": outstanding,
        "asked_requests_per_second": asked,
        "body_bytes": load.bodies[0].bytes.len(),
        "elapsed_seconds": outcome.elapsed.as_secs_f64(),
        "requests": outcome.sent,
        "replies": outcome.replies,
        "missing": outcome.missing,
        "wrong": outcome.wrong,
        "errors_by_code": outcome.errors,
        "requests_per_second": outcome.rate(),
        "goodput_per_second": outcome.goodput(),
        "sent_megabytes_per_second": sent,
        "received_megabytes_per_second": received,
        "latency_min_microseconds": micros(latency.min() as f64),
        "latency_mean_microseconds": micros(latency.mean()),
        "latency_p50_microseconds": at(0.5),
        "latency_p90_microseconds": at(0.9),
        "latency_p99_microseconds": at(0.99),
        "latency_p99_9_microseconds": at(0.999),
        "latency_max_microseconds": micros(latency.max() as f64),
        "processors_used_by_bench": outcome.processors,
    });
    format!("{object:#}\n")
}

/// Returns `nanos` nanoseconds as text with three digits and a unit.
fn time(nanos: u64) -> String {
    let nanos = nanos as f64;
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// Returns `number` rounded to a whole one, with a comma between groups of three digits.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in
            [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1234567.0, "1,234,567")]
        {
            assert_eq!(thousands(number), text);
        }
        for (nanos, text) in [
            (950, "950 ns"),
            (1500, "1.50 µs"),
            (31_400, "31.4 µs"),
            (20_000_000, "20.0 ms"),
            (2_500_000_000, "2.50 s"),
        ] {
            assert_eq!(time(nanos), text);
        }
    }

    #[test]
    fn every_reply_is_in_one_row_of_the_histogram() {
        let mut latency = Histogram::new(3).unwrap();
        assert_eq!(histogram(&latency), "");
        for nanos in (1..1000).map(|n| n * n) {
            latency.record(nanos).unwrap();
        }
        let shares: f64 = histogram(&latency)
            .lines()
            .filter_map(|line| {
                line.split(" %").next()?.split_whitespace().last()?.parse::<f64>().ok()
            })
            .sum();
        assert!((99.9..100.1).contains(&shares), "{}", histogram(&latency));
        latency.clear();
        latency.record(5).unwrap();
        assert_eq!(histogram(&latency).lines().count(), 2);
        assert!(histogram(&latency).contains("100.00 % █"));
    }
}
