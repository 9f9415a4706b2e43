use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;
use crate::fault::Code;
use crate::status::Who;
use crate::status::history::History;
use crate::status::process::Process;
use crate::status::report::Facts;
use crate::status::snapshot::Snapshot;
use crate::status::snapshot::tests::snapshot;

/// Returns the page of a service that has done what `snapshot` says.
fn shown(snapshot: &Snapshot, history: &History) -> String {
    let facts = Facts {
        started: snapshot.taken,
        started_at: SystemTime::now(),
        endpoints: (0..9).map(|n| format!("ipc:///{}{n}", "<'&\">".repeat(19))).collect(),
        access: None,
        programs: None,
        is_single_threaded: false,
        max_memory: usize::MAX,
        max_clients: usize::MAX,
    };
    page(&Report {
        facts: &facts,
        state: State::NotReady("every worker or upstream is stuck"),
        since: SystemTime::UNIX_EPOCH,
        snapshot,
        history,
        process: Process::read(),
        now: snapshot.taken + Duration::from_secs(1_000_000),
        clock: SystemTime::now(),
    })
}

#[test]
fn the_policy_lets_the_style_in_and_nothing_else() {
    let mut sha = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum");
    sha.stdin.take().unwrap().write_all(STYLE.as_bytes()).unwrap();
    let hex = String::from_utf8(sha.wait_with_output().unwrap().stdout).unwrap();
    let encoded = POLICY.split("sha256-").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(base64(encoded), hex[..64], "of style.css: {hex}");
    assert!(POLICY.starts_with("default-src 'none'; "));
}

/// Decodes base64 (RFC 4648, section 4) to hexadecimal digits.
fn base64(text: &str) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let values = text.bytes().filter_map(|c| digits.iter().position(|digit| *digit == c));
    let bits: String = values.map(|value| format!("{value:06b}")).collect();
    let bytes = bits.as_bytes().chunks_exact(8).map(|byte| {
        format!("{:02x}", u8::from_str_radix(str::from_utf8(byte).unwrap(), 2).unwrap())
    });
    bytes.collect()
}

#[test]
fn it_is_small_and_harmless_whatever_there_is_to_show() {
    let start = Instant::now();
    let (mut history, mut now) = (History::default(), snapshot(start, 0));
    for step in 0..400_u32 {
        now = snapshot(start + step * Duration::from_secs(5), u64::from(step * step) << 20);
        now.latencies.total.record(1000 * u64::from(step * step));
        history.add(&now);
    }
    let lane = |kind| LaneReport {
        kind,
        activity: Activity::Disconnected,
        since: Some(start),
        in_flight: usize::MAX,
        replies: u64::MAX,
        handled: Duration::MAX,
    };
    now.lanes = (1..=500).map(|n| lane(LaneKind::Worker(n))).collect();
    let endpoint = "tcp://<script>alert('&')</script>";
    now.lanes.extend((0..50).map(|n| lane(LaneKind::Upstream(format!("{endpoint}{n}")))));
    now.stats.errors =
        (100..=999).map(|code| (Code::new(code).unwrap(), u64::MAX / 1000)).collect();
    let who = |n: u32| match n % 2 {
        0 => Who::Listed(format!("<b>{n}</b>\u{202e}{}", "\"".repeat(100)).into()),
        _ => Who::Address(IpAddr::V4(Ipv4Addr::from(n))),
    };
    now.clients = (0..2000)
        .map(|n| Usage { who: who(n), connections: 9, requests: u64::MAX / 9000, refused: 1 })
        .collect();
    let html = shown(&now, &history);
    assert!(html.len() <= 24 << 10, "{}", html.len());
    assert!(!html.contains("<script") && !html.contains("<b>0") && !html.contains('\u{202e}'));
    assert!(html.contains("&lt;script&gt;alert(&#39;&amp;&#39;)"));
    for loads in ["src=", "href", "url(", "@import", "style=", "on"] {
        let is_attribute = |at: usize| html[..at].ends_with(' ') && html[at..].contains('=');
        let found = html.match_indices(loads).any(|(at, _)| {
            loads != "on" || {
                let rest = &html[at..];
                is_attribute(at) && rest.split('=').next().is_some_and(|name| !name.contains(' '))
            }
        });
        assert!(!found, "{loads}");
    }
}
