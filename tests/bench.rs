//! `repd bench`: what it counts, and how it ends when replies are missing, wrong or errors.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use common::{Folder, Killed, Process, REPD, repd, time_limit, until};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Runs `repd bench`, without a warm-up unless the options have one.
fn bench(endpoint: &str, options: &[&str]) -> Output {
    let warmup: &[&str] = if options.contains(&"--warmup") { &[] } else { &["--warmup", "0"] };
    repd(&[&["bench", endpoint], warmup, options].concat(), b"")
}

/// Returns the report as JSON, and the exit code.
fn report(endpoint: &str, options: &[&str]) -> (Value, Option<i32>) {
    let output = bench(endpoint, &[options, &["--json"]].concat());
    let report = serde_json::from_slice(&output.stdout);
    (report.unwrap_or_else(|error| panic!("{error}: {output:?}")), output.status.code())
}

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Starts a server that gives each request to `answer` by its number, from 0, and sends the replies
/// that this gives. It ends when the process does.
fn server(
    mut answer: impl FnMut(usize, Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> + Send + 'static,
) -> (String, JoinHandle<()>) {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::ROUTER).unwrap();
    socket.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = socket.get_last_endpoint().unwrap().unwrap();
    let thread = spawn(move || {
        for number in 0.. {
            let request = socket.recv_multipart(0).unwrap();
            for reply in answer(number, request) {
                socket.send_multipart(reply, 0).unwrap();
            }
        }
    });
    (endpoint, thread)
}

const MODES: [[&str; 2]; 3] = [["--clients", "7"], ["--clients", "1"], ["--pipeline", "30"]];

#[test]
fn every_request_is_counted_once_and_its_reply_verified() {
    let _limit = time_limit(120);
    for workers in ["5", "0"] {
        let service = Process::start(&["--workers", workers]);
        for mode in MODES {
            let options = ["--requests", "2000", "--expect", "reverse", "--size", "1k"];
            let (report, status) = report(&service.endpoint, &[&mode[..], &options].concat());
            assert_eq!(status, Some(0), "{report}");
            assert_eq!((count(&report, "requests"), count(&report, "replies")), (2000, 2000));
            assert_eq!((count(&report, "missing"), count(&report, "wrong")), (0, 0));
            assert_eq!(count(&report, "body_bytes"), 1024);
            assert!(report["requests_per_second"].as_f64() > Some(0.0), "{report}");
        }
    }
}

#[test]
fn a_load_ends_when_its_time_is_up() {
    let _limit = time_limit(60);
    const TIME: Duration = Duration::from_secs(2);
    for (mode, outstanding) in MODES.into_iter().zip([7, 1, 30]) {
        // The replies come when the time is up, and nothing more is asked.
        let (endpoint, _server) = server(|number, request| {
            if number == 1 {
                sleep(TIME);
            }
            vec![request]
        });
        let options = [&mode[..], &["--duration", "2"]].concat();
        let (report, status) = report(&endpoint, &options);
        assert_eq!(status, Some(0), "{report}");
        assert!((1..=outstanding).contains(&count(&report, "requests")), "{report}");
        assert_eq!(count(&report, "requests"), count(&report, "replies"));
        assert!(report["elapsed_seconds"].as_f64() >= Some(TIME.as_secs_f64()), "{report}");
    }
}

#[test]
fn what_is_asked_in_the_warm_up_does_not_count() {
    let _limit = time_limit(60);
    for mode in MODES {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let (endpoint, _server) = server(move |_, request| {
            counter.fetch_add(1, Ordering::Relaxed);
            vec![request]
        });
        let options = [&mode[..], &["--requests", "50", "--warmup", "0.2"]].concat();
        // The warm-up may be over before a client is there.
        until("something is asked in the warm-up", || {
            let before = asked.load(Ordering::Relaxed);
            let (report, status) = report(&endpoint, &options);
            assert_eq!((status, count(&report, "requests")), (Some(0), 50), "{report}");
            // One was to see whether somebody is there.
            asked.load(Ordering::Relaxed) - before > 1 + 50
        });
    }
}

#[test]
fn latency_is_no_less_than_the_service_takes() {
    let _limit = time_limit(60);
    let service = Process::sleepy(&[]);
    let folder = Folder::new("bench-latency");
    let body = folder.file("body");
    std::fs::write(&body, "20").unwrap();
    for mode in [["--clients", "2"], ["--pipeline", "2"]] {
        let options = [&mode[..], &["--requests", "10", "--size", &body]].concat();
        let (report, status) = report(&service.endpoint, &options);
        assert_eq!((status, count(&report, "body_bytes")), (Some(0), 2), "{report}");
        for figure in ["min", "mean", "p50", "p90", "p99", "p99_9", "max"] {
            let figure = report[format!("latency_{figure}_microseconds")].as_f64().unwrap();
            assert!(figure >= 20_000.0, "{report}");
        }
    }
}

#[test]
fn a_reply_that_never_comes_is_missing_and_the_load_goes_on() {
    let _limit = time_limit(60);
    for mode in MODES {
        // The first is only to see whether somebody is there.
        let (endpoint, _server) =
            server(|number, request| if number == 5 { vec![] } else { vec![request] });
        let options = [&mode[..], &["--requests", "100", "--timeout", "3"]].concat();
        let (report, status) = report(&endpoint, &options);
        assert_eq!(status, Some(1), "{report}");
        let counts = ["requests", "replies", "missing"].map(|name| count(&report, name));
        assert_eq!(counts, [100, 99, 1]);
        let said = String::from_utf8(bench(&endpoint, &options).stderr).unwrap();
        assert_eq!(said, "", "from then on all are answered");
    }
}

/// A reply that comes after it was given up, or comes twice, is nobody's.
#[test]
fn late_and_double_replies_are_not_taken_for_others() {
    let _limit = time_limit(60);
    let mut held = Vec::new();
    let (endpoint, _server) = server(move |number, request| match number {
        // All that are outstanding, and the next ones until all of those have come: each comes when
        // one of the others is given up.
        5..12 => {
            held.push(request);
            vec![]
        }
        12 => {
            held.push(request);
            let twice = held[4..].to_vec();
            [std::mem::take(&mut held), twice].concat()
        }
        _ => vec![request],
    });
    let options = ["--pipeline", "4", "--requests", "100", "--timeout", "3", "--expect", "echo"];
    let (report, status) = report(&endpoint, &options);
    assert_eq!(status, Some(1), "{report}");
    let counts = ["requests", "replies", "missing", "wrong"].map(|name| count(&report, name));
    assert_eq!(counts, [100, 96, 4, 0], "{report}");
}

#[test]
fn error_replies_are_counted_by_their_codes_and_wrong_ones_told() {
    let _limit = time_limit(60);
    let service = Process::sleepy(&[]);
    let options = ["--clients", "3", "--requests", "30"];
    let (errors, status) = report(&service.endpoint, &options);
    assert_eq!(status, Some(0));
    assert_eq!(errors["errors_by_code"], serde_json::json!({"400": 30}), "{errors}");
    assert_eq!(errors["latency_p50_microseconds"], Value::Null);
    let output = bench(&service.endpoint, &[&options[..], &["--expect", "echo"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("replies    30, missing: 0, 400: 30, not as expected: 30\n"), "{text}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("error: of 30 requests, a reply that was not expected: 30; "),
        "{said}"
    );
}

/// Returns what comes of a load that gets SIGINT after some fifty requests.
fn interrupted(options: &[&str]) -> Output {
    let (send, asked) = channel();
    let (endpoint, _server) = server(move |number, request| {
        if number == 50 {
            send.send(()).unwrap();
        }
        vec![request]
    });
    let child = Command::new(REPD)
        .args(["bench", &endpoint, "--clients", "2"])
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    asked.recv().unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn sigint_ends_the_load_and_what_came_so_far_is_reported() {
    let _limit = time_limit(60);
    let output = interrupted(&["--duration", "3600", "--warmup", "0"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("missing: 0\n") && text.contains("latency    min "), "{text}");
    assert!(text.contains(" % █"), "{text}");
}

#[test]
fn a_load_that_ends_within_its_warm_up_has_measured_nothing_and_says_so() {
    let _limit = time_limit(60);
    let output = interrupted(&["--warmup", "3600", "--json"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{said}");
    assert!(said.starts_with("error: nothing was measured: "), "{said}");
}

#[test]
fn on_a_terminal_the_rate_is_shown_meanwhile() {
    let _limit = time_limit(60);
    if Command::new("script").arg("--version").output().is_err() {
        common::skipped("there is no script to have a terminal with");
        return;
    }
    let (is_shown, shown) = channel();
    let (endpoint, _server) = server(move |number, request| {
        if number == 5 {
            shown.recv().unwrap();
        }
        vec![request]
    });
    let command = format!("{REPD} bench {endpoint} --requests 10 --warmup 0 --timeout 3600");
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut run = Killed(script.spawn().unwrap());
    let mut terminal = BufReader::new(run.0.stdout.take().unwrap());
    let mut line = Vec::new();
    // The load goes on when its rate was shown.
    terminal.read_until(b'/', &mut line).unwrap();
    let line = String::from_utf8(line).unwrap();
    assert!(line.starts_with("\r\u{1b}[K") && line.ends_with(" requests/"), "{line:?}");
    is_shown.send(()).unwrap();
    std::io::copy(&mut terminal, &mut std::io::sink()).unwrap();
    assert_eq!(run.0.wait().unwrap().code(), Some(0));
}

#[test]
fn at_a_fixed_rate_it_asks_whatever_the_service_does_and_gives_up() {
    let _limit = time_limit(60);
    // It replies to who looks whether it is there, and then to every second request.
    let (endpoint, _server) = server(|number, request| match number % 2 {
        0 => vec![request],
        _ => Vec::new(),
    });
    let options = ["--open-loop", "200", "--clients", "3", "--duration", "2", "--timeout", "0.5"];
    let (report, _) = report(&endpoint, &[&options[..], &["--warmup", "0"]].concat());
    assert!((390..=401).contains(&count(&report, "requests")), "{report}");
    let (replies, missing) = (count(&report, "replies"), count(&report, "missing"));
    assert_eq!(replies + missing, count(&report, "requests"), "{report}");
    assert!(replies.abs_diff(missing) <= 20, "{report}");
    let goodput = report["goodput_per_second"].as_f64().unwrap();
    assert!((50.0..=110.0).contains(&goodput), "{report}");
}

#[test]
fn at_a_fixed_rate_latency_is_measured_from_when_a_request_was_due() {
    let _limit = time_limit(60);
    const STALL: Duration = Duration::from_secs(1);
    let (pid_here, pid) = channel();
    // The clients are held up for half of the time: what was due meanwhile is sent late.
    let (endpoint, _server) = server(move |number, request| {
        if number == 2 {
            let pid = Pid::from_raw(pid.recv().unwrap());
            kill(pid, Signal::SIGSTOP).unwrap();
            sleep(STALL);
            kill(pid, Signal::SIGCONT).unwrap();
        }
        vec![request]
    });
    let options = ["--open-loop", "100", "--clients", "1", "--duration", "2", "--warmup", "0"];
    let bench = Command::new(REPD)
        .args(["bench", &endpoint, "--json"])
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    pid_here.send(bench.id() as i32).unwrap();
    let output = bench.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Of two seconds' requests one half was late, and one half of these by more than half of that.
    let slow = report["latency_p90_microseconds"].as_f64().unwrap();
    assert!(slow >= STALL.as_micros() as f64 / 2.0, "{report}");
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    let _limit = time_limit(60);
    let folder = Folder::new("bench-wrong");
    let nobody = format!("ipc://{}", folder.file("nobody"));
    let (endpoint, _server) = server(|_, request| vec![request]);
    for (endpoint, options, status, says) in [
        (&nobody, &[][..], 1, "cannot connect to ipc://"),
        (&endpoint, &["--clients", "2", "--pipeline", "2"][..], 2, "--clients with --pipeline"),
        (&endpoint, &["--requests", "2", "--duration", "2"], 2, "--duration with --requests"),
        (&endpoint, &["--open-loop", "2", "--pipeline", "2"], 2, "--open-loop with --pipeline"),
        (&endpoint, &["--open-loop", "0"], 2, "give a whole number from 1 to 1000000"),
        (&endpoint, &["--size", "./no-such-file"], 2, "cannot read ./no-such-file"),
        (&endpoint, &["--size", "0"], 2, "give bytes from 1 to 1024M"),
        (&endpoint, &["--clients", "0"], 2, "give a whole number from 1 to 10000"),
        (&endpoint, &["--pipeline", "100001"], 2, "give a whole number from 1 to 100000"),
        (&endpoint, &["--expect", "what"], 2, "give reverse or echo"),
    ] {
        let output = bench(endpoint, options);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{options:?}: {said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{options:?}: {said}");
    }
}

/// A thousand clients, each with a socket of its own, which is more than libzmq has by default.
#[test]
fn there_may_be_many_clients() {
    let _limit = time_limit(120);
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if files < 4096 {
        common::skipped(&format!("no more than {files} open files are allowed"));
        return;
    }
    let service = Process::start(&[]);
    let options =
        ["--clients", "1200", "--requests", "6000", "--expect", "reverse", "--timeout", "60"];
    let (report, status) = report(&service.endpoint, &options);
    assert_eq!((status, count(&report, "replies")), (Some(0), 6000), "{report}");
}

#[test]
fn a_service_that_is_gone_within_the_warm_up_is_told_of() {
    let _limit = time_limit(60);
    // It answers the first request, by which the service is looked for, and nothing else.
    let (endpoint, _server) =
        server(|number, message| if number == 0 { vec![message] } else { Vec::new() });
    let times = ["--warmup", "1", "--duration", "0.5", "--timeout", "2"];
    let run = bench(&endpoint, &times);
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("no reply: ") && said.contains("overloaded, or gone?"), "{said}");
}
