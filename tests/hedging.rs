//! Requests that take long, and are given to another upstream or worker as well.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::spawn;

use common::status::Status;
use common::{Client, Process, ask_while, time_limit, until};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::Value;

/// Number of requests after which enough is known of how long they take.
const KNOWN: usize = 1000;

const OPTIONS: [&str; 8] = [
    "--retries",
    "1",
    "--hedge",
    "--timeout",
    "600",
    "--drain",
    "600",
    "--status=tcp://127.0.0.1:*",
];

/// An upstream that echoes, but for requests that it keeps until it is to release them.
#[derive(Default)]
struct Keeper {
    /// Held while it decides what to keep.
    is_keeping: Mutex<bool>,
    is_releasing: AtomicBool,
    kept: AtomicUsize,
}

impl Keeper {
    /// Starts one; returns its endpoint too. While it keeps some, that is one of twenty.
    fn start() -> (Arc<Keeper>, String) {
        let keeper = Arc::new(Keeper::default());
        let socket = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        socket.set_rcvtimeo(10).unwrap();
        let its = Arc::clone(&keeper);
        spawn(move || {
            let (mut asked, mut kept) = (0, Vec::new());
            loop {
                if its.is_releasing.load(Relaxed) {
                    kept.drain(..).for_each(|it: Vec<_>| socket.send_multipart(it, 0).unwrap());
                }
                let Ok(request) = socket.recv_multipart(0) else { continue };
                asked += 1;
                let is_keeping = its.is_keeping.lock().unwrap();
                if *is_keeping && asked % 20 == 0 {
                    kept.push(request);
                    its.kept.fetch_add(1, Relaxed);
                } else {
                    socket.send_multipart(request, 0).unwrap();
                }
            }
        });
        (keeper, endpoint)
    }
}

fn count(shown: &Value, name: &str) -> usize {
    shown["requests"][name].as_u64().unwrap() as usize
}

/// Returns what is shown once so many requests are answered.
fn answered(status: &Status, replies: usize) -> Value {
    status.until("all are answered", |shown| shown["replies"]["ok"] == replies)
}

/// Waits until so many more requests have come.
fn wait_for_requests(status: &Status, more: usize) {
    let before = count(&status.json(), "total");
    status.until("more requests come", |shown| count(shown, "total") >= before + more);
}

#[test]
fn what_an_upstream_keeps_is_answered_by_another_and_its_own_reply_is_dropped() {
    let _limit = time_limit(60);
    let others = [(); 2].map(|()| Process::start(&["--handler", "echo"]));
    let (keeper, endpoint) = Keeper::start();
    let mut options = OPTIONS.to_vec();
    for upstream in [&endpoint, &others[0].endpoint, &others[1].endpoint] {
        options.extend(["--upstream", upstream]);
    }
    let mut service = Process::start(&options);
    (0..3).for_each(|_| drop(service.wait_for_line(": connected")));
    let (status, endpoint) = (Status::of(&service), service.endpoint.clone());
    let kept = || keeper.kept.load(Relaxed);
    let until_all_are_won = || {
        status.until("what is kept is answered", |shown| count(shown, "hedges_won") >= kept());
    };
    // Who waits gets the next hedge that the requests of the others pay for. What one keeps is
    // outstanding there, so that it gets less than its share.
    let (first, _) = ask_while(&endpoint, 60, &[], |_| {
        wait_for_requests(&status, KNOWN);
        *keeper.is_keeping.lock().unwrap() = true;
        until("some are kept", || kept() >= 20);
        *keeper.is_keeping.lock().unwrap() = false;
        until_all_are_won();
    });
    let shown = answered(&status, first);
    let [total, hedged, won] = ["total", "hedged", "hedges_won"].map(|it| count(&shown, it));
    assert!(won >= kept() && hedged >= won && 20 * hedged <= total, "{}, {shown}", kept());
    assert_eq!(count(&shown, "retried"), 0);
    assert_eq!(status.metrics()["repd_hedges_total"], hedged as f64);
    // What it has kept is no reply to anybody, and not late.
    keeper.is_releasing.store(true, Relaxed);
    let (second, _) = ask_while(&endpoint, 10, &[], |_| wait_for_requests(&status, KNOWN));
    assert_eq!(count(&answered(&status, first + second), "late"), 0);
    // The stop does not wait for what has been answered.
    keeper.is_releasing.store(false, Relaxed);
    let before = kept();
    ask_while(&endpoint, 10, &[], |_| {
        *keeper.is_keeping.lock().unwrap() = true;
        until("some are kept", || kept() > before);
        *keeper.is_keeping.lock().unwrap() = false;
        until_all_are_won();
    });
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
    assert!(service.log.iter().any(|line| line.contains(", hedged: ")));
}

#[test]
fn what_a_worker_hangs_in_is_answered_by_another() {
    let _limit = time_limit(60);
    let options = [&OPTIONS[..], &["--backend", "tcp://127.0.0.1:*"]].concat();
    let mut service = Process::start(&options);
    let line = service.log.iter().find(|line| line.contains("workers connect to ")).unwrap();
    let backend = line.split("workers connect to ").nth(1).unwrap().to_string();
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let (hang, hung) = channel();
    for _ in 0..3 {
        let (backend, seen, hang) = (backend.clone(), Arc::clone(&seen), hang.clone());
        spawn(move || {
            let socket = zmq::Context::new().socket(zmq::REP).unwrap();
            socket.connect(&backend).unwrap();
            loop {
                let request = socket.recv_bytes(0).unwrap();
                if request.starts_with(b"hang") && seen.lock().unwrap().insert(request.clone()) {
                    let (go_on, gate) = channel::<()>();
                    hang.send(go_on).unwrap();
                    gate.recv().unwrap();
                }
                socket.send(request, 0).unwrap();
            }
        });
    }
    (0..3).for_each(|_| drop(service.wait_for_line(": connected")));
    let status = Status::of(&service);
    // A worker has nothing to do now and then, and there are requests that pay for hedges.
    let (replies, _) = ask_while(&service.endpoint, 1, &[], |_| {
        wait_for_requests(&status, KNOWN);
        let client = Client::req(&service.endpoint);
        // Two of three hang in the end, and then they go on.
        let gates = ["hang 1", "hang 2"].map(|text| {
            assert_eq!(client.ask_text(text), text);
            hung.recv().unwrap()
        });
        wait_for_requests(&status, KNOWN);
        gates.iter().for_each(|gate| gate.send(()).unwrap());
        wait_for_requests(&status, KNOWN);
    });
    let shown = answered(&status, replies + 2);
    assert!(count(&shown, "hedges_won") >= 2 && count(&shown, "late") == 0, "{shown}");
}

#[test]
fn hedges_need_retries_and_somebody_elsewhere() {
    let _limit = time_limit(60);
    for (options, says) in [
        (&["--hedge"][..], "cannot use --hedge with workers of this process; leave it out, or"),
        (&["--hedge", "--retries", "1", "--", "cat"], "with workers of this process"),
        (
            &["--hedge", "--upstream", "tcp://127.0.0.1:9"],
            "cannot use --hedge without --retries: it has requests handled twice; leave it out, or",
        ),
    ] {
        let run =
            common::repd(&[&["serve", "--listen", "tcp://127.0.0.1:*"], options].concat(), b"");
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{options:?}: {said}");
        assert!(said.contains(says), "{options:?}: {said}");
    }
}
