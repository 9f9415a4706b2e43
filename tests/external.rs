//! Workers that connect from outside, each a lane of its own.

mod common;

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread::spawn;

use common::keys::Keys;
use common::raw::{Raw, command, property};
use common::status::Status;
use common::{
    Client, Folder, Killed, Process, ask_while, backend_of, code, time_limit, until, with_backend,
};
use nix::sys::signal::Signal::{SIGCONT, SIGHUP, SIGSTOP};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::json;

/// Starts a REP worker of this process, which answers by what `answer` makes of a request until it
/// is gone.
fn worker(endpoint: &str, answer: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + 'static) {
    let endpoint = endpoint.to_string();
    spawn(move || {
        let socket = zmq::Context::new().socket(zmq::REP).unwrap();
        socket.set_linger(0).unwrap();
        socket.connect(&endpoint).unwrap();
        while let Some(reply) = answer(socket.recv_bytes(0).unwrap()) {
            socket.send(reply, 0).unwrap();
        }
    });
}

/// A worker in Python, which echoes.
const ECHO: &str = "import sys, zmq\ns = zmq.Context().socket(zmq.REP)\ns.connect(sys.argv[1])\n\
                    while True: s.send(s.recv())";

fn python(python: &str, endpoint: &str) -> Killed {
    python_running(ECHO, python, endpoint)
}

fn python_running(worker: &str, python: &str, endpoint: &str) -> Killed {
    Killed(Command::new(python).args(["-c", worker, endpoint]).spawn().unwrap())
}

/// Dealt in turn, each third request would wait behind the slow one.
#[test]
fn each_worker_is_a_lane_of_its_own() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&["--timeout", "600"]);
    let (begin, begun) = channel();
    let gates: Vec<_> = (0..3)
        .map(|number| {
            let (begin, (open, gate)) = (begin.clone(), channel());
            worker(&backend, move |request| {
                if request == b"wait" {
                    begin.send(number).unwrap();
                    gate.recv().unwrap();
                }
                Some(vec![number])
            });
            open
        })
        .collect();
    (0..3).for_each(|_| drop(service.wait_for_line(": connected")));
    let slow = Client::req(&service.endpoint);
    slow.send(&[b"wait"]);
    let waiting = begun.recv().unwrap();
    let client = Client::dealer(&service.endpoint);
    for _ in 0..20 {
        (0..10).for_each(|_| client.send(&[b"quick"]));
        (0..10).for_each(|_| assert_ne!(client.receive(), [[waiting]]));
    }
    gates[usize::from(waiting)].send(()).unwrap();
    assert_eq!(slow.receive(), [[waiting]]);
}

#[test]
fn with_nobody_connected_requests_get_a_503_and_replies_as_soon_as_somebody_is() {
    let _limit = time_limit(60);
    let (service, backend) = with_backend(&[]);
    let client = Client::req(&service.endpoint);
    for _ in 0..3 {
        assert_eq!(code(&client.ask(&[b"a"])), Some(503));
    }
    worker(&backend, |request| (request != b"leave").then_some(request));
    until("the worker answers", || client.ask(&[b"a"]) == [b"a"]);
    // It was at it, and nobody else is there who might be.
    assert_eq!(code(&client.ask(&[b"leave"])), Some(502));
    assert_eq!(code(&client.ask(&[b"a"])), Some(503));
    worker(&backend, Some);
    until("another one answers", || client.ask(&[b"a"]) == [b"a"]);
}

/// What a worker has when it ends is lost, and nothing else is.
#[test]
fn when_one_of_three_workers_is_killed_only_what_it_had_is_lost_and_with_retries_nothing_is() {
    let _limit = time_limit(120);
    let Some(interpreter) = common::python_with_pyzmq() else { return };
    for (retries, codes) in [("0", &[502][..]), ("1", &[])] {
        let (mut service, backend) = with_backend(&["--timeout", "600", "--retries", retries]);
        let mut workers: Vec<_> = (0..3).map(|_| python(interpreter, &backend)).collect();
        (0..3).for_each(|_| drop(service.wait_for_line(": connected")));
        let mut told = 0;
        let (_, lost) = ask_while(&service.endpoint.clone(), 50, codes, |go_on| {
            for worker in &mut workers {
                worker.0.kill().unwrap();
                let line = service.wait_for_line("has gone");
                let count = line.split("requests lost: ").nth(1);
                told += count.map_or(0, |count| count.parse().unwrap());
                go_on("the others answer");
                *worker = python(interpreter, &backend);
                service.wait_for_line(": connected");
                go_on("all answer");
            }
        });
        assert_eq!(lost, if retries == "0" { told } else { 0 });
    }
}

#[test]
fn a_worker_that_is_stopped_is_left_out_until_it_goes_on() {
    let _limit = time_limit(120);
    let Some(interpreter) = common::python_with_pyzmq() else { return };
    let (mut service, backend) = with_backend(&["--timeout", "2", "--status", "tcp://127.0.0.1:*"]);
    let status = Status::of(&service);
    let workers: Vec<_> = (0..3).map(|_| python(interpreter, &backend)).collect();
    (0..3).for_each(|_| drop(service.wait_for_line(": connected")));
    let pid = Pid::from_raw(workers[0].0.id() as i32);
    let states = |state| {
        move |shown: &serde_json::Value| {
            let workers = shown["backend"].as_array().unwrap();
            workers.iter().filter(|worker| worker["state"] == state).count()
        }
    };
    let (_, late) = ask_while(&service.endpoint.clone(), 20, &[504], |go_on| {
        kill(pid, SIGSTOP).unwrap();
        status.until("one is stuck", |shown| states("stuck")(shown) == 1);
        (0..10).for_each(|_| go_on("the others answer"));
        kill(pid, SIGCONT).unwrap();
        status.until("none is stuck", |shown| states("stuck")(shown) == 0);
        let replies = |shown: &serde_json::Value| {
            let workers = shown["backend"].as_array().unwrap().iter();
            workers.map(|worker| worker["replies"].as_u64().unwrap()).min().unwrap()
        };
        let before = replies(&status.json());
        status.until("it gets its share", |shown| replies(shown) > before + 20);
    });
    assert!((1..=5).contains(&late), "{late} requests got a 504");
}

/// Those that may answer many at once, and are alike, whoever had much to do before.
#[test]
fn workers_that_are_alike_get_alike_also_once_one_has_been_stopped() {
    let _limit = time_limit(120);
    let Some(interpreter) = common::python_with_pyzmq() else { return };
    let (mut service, backend) = with_backend(&["--timeout", "2", "--status", "tcp://127.0.0.1:*"]);
    let status = Status::of(&service);
    let echo = ECHO.replace("zmq.REP", "zmq.DEALER");
    let echo = echo.replace("s.send(s.recv())", "s.send_multipart(s.recv_multipart())");
    let workers: Vec<_> = (0..3).map(|_| python_running(&echo, interpreter, &backend)).collect();
    (0..3).for_each(|_| drop(service.wait_for_line(": connected")));
    status.until("they are shown", |shown| shown["backend"].as_array().unwrap().len() == 3);
    let pid = Pid::from_raw(workers[0].0.id() as i32);
    let replies = |shown: &serde_json::Value| {
        let workers = shown["backend"].as_array().unwrap();
        workers.iter().map(|worker| worker["replies"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let stuck = |shown: &serde_json::Value| {
        shown["backend"].as_array().unwrap().iter().any(|worker| worker["state"] == "stuck")
    };
    ask_while(&service.endpoint.clone(), 20, &[504], |go_on| {
        let share = || {
            let before = replies(&status.json());
            status.until("each gets its share", |shown| {
                let more = replies(shown);
                let more: Vec<_> = more.iter().zip(&before).map(|(now, then)| now - then).collect();
                let (least, most) = (more.iter().min().unwrap(), more.iter().max().unwrap());
                *least > 1000 && 2 * least > *most
            });
        };
        share();
        kill(pid, SIGSTOP).unwrap();
        status.until("one is stuck", stuck);
        (0..10).for_each(|_| go_on("the others answer"));
        kill(pid, SIGCONT).unwrap();
        status.until("none is stuck", |shown| !stuck(shown));
        share();
    });
}

/// More of them than the loop takes from a lane at a time, and their deadline is far away.
#[test]
fn every_request_of_a_worker_that_is_lost_is_answered_then() {
    let _limit = time_limit(60);
    const REQUESTS: usize = 1000;
    let (mut service, backend) = with_backend(&["--timeout", "3600", "--max-outstanding", "1000"]);
    let worker = Client::dealer(&backend);
    service.wait_for_line(": connected");
    let client = Client::dealer(&service.endpoint);
    // One that answers in time gets more and more at once.
    (0..3 * REQUESTS).for_each(|_| client.send(&[b"x"]));
    for _ in 0..2 * REQUESTS {
        let request = worker.socket.recv_multipart(0).unwrap();
        worker.socket.send_multipart(request, 0).unwrap();
        client.receive();
    }
    (0..REQUESTS).for_each(|_| drop(worker.socket.recv_multipart(0).unwrap()));
    drop(worker);
    (0..REQUESTS).for_each(|_| assert_eq!(client.receive_code(), 502));
}

/// Over ipc nothing but its process tells who a worker is.
#[test]
fn workers_of_one_process_are_told_apart() {
    let _limit = time_limit(60);
    let folder = Folder::new("one-process");
    let backend = format!("ipc://{}", folder.file("backend"));
    let status = ["--status", "tcp://127.0.0.1:*"];
    let mut service = Process::start(&[&["--backend", &backend], &status[..]].concat());
    (0..3).for_each(|_| worker(&backend, Some));
    (0..3).for_each(|_| drop(service.wait_for_line(": connected")));
    let client = Client::dealer(&service.endpoint);
    (0..30).for_each(|_| client.send(&[b"x"]));
    (0..30).for_each(|_| assert_eq!(client.receive(), [b"x"]));
    let status = Status::of(&service);
    status.until("they are shown", |shown| shown["backend"].as_array().unwrap().len() == 3);
    let (_, _, metrics) = status.get("/metrics");
    let series = metrics.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name);
    let series: Vec<_> = series.filter(|name| name.contains("\"worker process ")).collect();
    let different: HashSet<_> = series.iter().collect();
    assert!(series.len() >= 3 && different.len() == series.len(), "{metrics}");
}

/// One that may answer many at once, and does not, is tried again by one.
#[test]
fn a_worker_that_drops_requests_is_tried_again() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&["--timeout", "1"]);
    let worker = Client::dealer(&backend);
    service.wait_for_line(": connected");
    let client = Client::dealer(&service.endpoint);
    client.send(&[b"dropped"]);
    worker.socket.recv_multipart(0).unwrap();
    assert_eq!(client.receive_code(), 504);
    service.wait_for_line(": a request has passed its deadline");
    // From now on it answers.
    spawn(move || {
        while let Ok(request) = worker.socket.recv_multipart(0) {
            worker.socket.send_multipart(request, 0).unwrap();
        }
    });
    until("it gets another", || client.ask(&[b"another"]) == [b"another"]);
}

#[test]
fn a_worker_gets_no_more_at_once_than_is_allowed() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&["--max-outstanding", "3", "--timeout", "3"]);
    let worker = Client::dealer(&backend);
    service.wait_for_line(": connected");
    let client = Client::dealer(&service.endpoint);
    (0..20).for_each(|_| client.send(&[b"x"]));
    let take = || worker.socket.recv_multipart(0).unwrap();
    for _ in 0..10 {
        worker.socket.send_multipart(take(), 0).unwrap();
        client.receive();
    }
    (0..3).for_each(|_| drop(take()));
    // The others are refused where they wait.
    (0..10).for_each(|_| assert_eq!(client.receive_code(), 504));
    assert!(worker.socket.recv_multipart(zmq::DONTWAIT).is_err());
}

#[test]
fn who_only_looks_whether_the_backends_port_is_open_is_no_news() {
    let _limit = time_limit(60);
    let (mut service, mut backend) = with_backend(&[]);
    for _ in 0..20 {
        drop(TcpStream::connect(backend.strip_prefix("tcp://").unwrap()).unwrap());
    }
    // Those that are no workers are, each; and they would end their connections themselves, if they
    // were told who is here.
    for kind in ["PUB", "REQ", "PUSH", "PAIR"] {
        let mut stranger = Raw::connect(&backend);
        stranger.greet();
        stranger.send(&command("READY", &property("Socket-Type", kind.as_bytes())));
        service.wait_for_line("backend: refused tcp://127.0.0.1:");
        let told = service.log.iter().filter(|line| line.contains("has gone"));
        assert_eq!(told.count(), 0, "{:?}", service.log);
        // Each has a service of its own: they try again.
        (service, backend) = with_backend(&[]);
    }
}

/// Each of those who scan it says something.
#[test]
fn a_scan_of_the_backends_port_is_summed_up() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&[]);
    for _ in 0..300 {
        let mut stranger = Raw::connect(&backend);
        stranger.send(b"GET / HTTP/1.0\r\n\r\n");
        stranger.rest();
    }
    service.wait_for_line("so far: 300");
    let told = service.log.iter().filter(|line| line.contains("refused")).count();
    assert!(told <= 5, "{:?}", service.log);
}

/// A worker that says what nobody asked it, in every way, harms nobody.
#[test]
fn what_no_worker_should_send_is_dropped() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&["--timeout", "20"]);
    let rogue = Client::dealer(&backend);
    service.wait_for_line(": connected");
    let client = Client::req(&service.endpoint);
    client.send(&[b"a request"]);
    let request = rogue.socket.recv_multipart(0).unwrap();
    assert_eq!(request[1..], [&b""[..], b"a request"]);
    let other = 7_u64.to_be_bytes();
    for message in [
        &[&b""[..]][..],
        &[b"x"],
        &[b"", b""],
        &[&request[0]],
        &[&request[0], b""],
        &[&request[0], b"no delimiter", b"x"],
        &[&other, b"", b"not asked"],
        &[&request[0][..7], b"", b"x"],
    ] {
        rogue.socket.send_multipart(message, 0).unwrap();
    }
    // Twice, of which one is the reply.
    for _ in 0..2 {
        rogue.socket.send_multipart([&request[0][..], b"", b"a", b"reply"], 0).unwrap();
    }
    assert_eq!(client.receive(), [&b"a"[..], b"reply"]);
    client.send(&[b"another"]);
    let request = rogue.socket.recv_multipart(0).unwrap();
    rogue.socket.send_multipart([&request[0][..], b"", b"reply"], 0).unwrap();
    assert_eq!(client.receive(), [b"reply"]);
}

/// Who connects and is no worker, whatever it says, does not pass for one that leaves.
#[test]
fn a_stranger_at_the_workers_port_disturbs_nobody() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&["--timeout", "20", "--verbose"]);
    let (begin, begun) = channel();
    let (open, gate) = channel::<()>();
    worker(&backend, move |request| {
        if request == b"wait" {
            begin.send(()).unwrap();
            gate.recv().unwrap();
        }
        Some(request)
    });
    service.wait_for_line(": connected");
    let client = Client::req(&service.endpoint);
    client.send(&[b"wait"]);
    begun.recv().unwrap();
    let open_files = service.descriptors();
    for bytes in
        [&[0; 100][..], b"GET / HTTP/1.0\r\n\r\n", b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0XXXX", b""]
    {
        let mut stranger = TcpStream::connect(backend.trim_start_matches("tcp://")).unwrap();
        stranger.write_all(bytes).unwrap();
        stranger.shutdown(Shutdown::Write).unwrap();
        // It is closed by the service: nothing more can be read.
        stranger.set_read_timeout(Some(common::LIMIT)).unwrap();
        // A reset is an end too.
        let _ = std::io::copy(&mut stranger, &mut std::io::sink());
        until("it has gone", || service.descriptors() == open_files);
    }
    open.send(()).unwrap();
    assert_eq!(client.receive(), [b"wait"]);
    (0..20).for_each(|_| assert_eq!(client.ask(&[b"a"]), [b"a"]));
}

/// As what is too large for clients is: it is no reason to lose what else is due.
#[test]
fn a_reply_that_is_larger_than_the_service_takes_is_a_500() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&["--max-message-size", "32k", "--max-frames", "2"]);
    worker(&backend, |request| {
        let size = std::str::from_utf8(&request).unwrap().parse().unwrap();
        Some(vec![b'x'; size])
    });
    service.wait_for_line(": connected");
    let client = Client::dealer(&service.endpoint);
    for size in ["32769", "100000"] {
        for size in [size, "32768"] {
            client.send(&[size.as_bytes()]);
        }
        let replies = [client.receive(), client.receive()];
        assert_eq!(code(&replies[0]), Some(500), "{size}");
        assert_eq!(replies[1], [vec![b'x'; 32768]]);
    }
    service.wait_for_line(": its reply is larger than this service takes");
    // Far larger: its connection ends.
    client.send(&[b"1000000"]);
    assert_eq!(code(&client.receive()), Some(502));
    let line = service.wait_for_line("backend: cut off tcp://127.0.0.1:");
    assert!(line.contains("far larger than this service takes"), "{line}");
}

/// Nothing is left of workers that have come and gone, however many.
#[test]
fn twenty_thousand_workers_come_and_go_and_leave_nothing() {
    let _limit = time_limit(120);
    let (service, backend) = with_backend(&["--status", "tcp://127.0.0.1:*"]);
    let ready = [property("Socket-Type", b"REP")];
    let (open_files, status) = (service.descriptors(), Status::of(&service));
    let come = |count: usize, at_a_time: usize| {
        for _ in 0..count / at_a_time {
            (0..at_a_time).for_each(|_| Raw::connect(&backend).shake_hands(&ready));
            until("all have ended", || service.descriptors() == open_files);
            // The loop may be behind.
            status.until("no worker is there", |shown| shown["backend"] == json!([]));
        }
        service.memory()
    };
    // How many are there at once is another matter: so many that later there are no more.
    let (before, after) = (come(2000, 500), come(18_000, 200));
    // 116 bytes of each would be too much; the heap by itself differs by a mebibyte.
    assert!(after < before + (2 << 20), "{before} {after}");
    worker(&backend, Some);
    let client = Client::req(&service.endpoint);
    until("a worker answers", || client.ask(&[b"a"]) == [b"a"]);
}

#[test]
fn a_worker_that_is_taken_off_the_list_ends_what_it_is_at_and_gets_nothing_more() {
    let _limit = time_limit(60);
    let keys = Keys::new("workers-leave");
    let lines = [keys.make("one"), keys.make("two")];
    let list = keys.write("backend", &lines.concat());
    let options = ["--backend", "tcp://127.0.0.1:*", "--backend-clients", &list];
    let mut service = keys.serve(&options);
    let backend = backend_of(&service);
    let worker = keys.client(zmq::REP, &backend, "one");
    service.wait_for_line("worker one at tcp://127.0.0.1:");
    let client = keys.client(zmq::REQ, &service.endpoint, "pump-7");
    client.send(&[b"abc"]);
    assert_eq!(worker.socket.recv_multipart(0).unwrap(), [b"abc"]);
    fs::write(&list, &lines[1]).unwrap();
    service.signal(SIGHUP);
    service.wait_for_line("is no longer listed");
    worker.socket.send("done", 0).unwrap();
    assert_eq!(client.receive(), [b"done"]);
    service.wait_for_line("worker one at tcp://127.0.0.1:");
    assert!(service.log.last().unwrap().contains("has gone"), "{:?}", service.log);
    assert_eq!(code(&client.ask(&[b"abc"])), Some(503));
}
