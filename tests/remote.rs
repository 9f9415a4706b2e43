//! Workers that connect from outside, and other services that requests go on to.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use common::raw::{Raw, greeting, property, request};
use common::{Client, Folder, Killed, Link, Local, Process, code, time_limit, until};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use repd::{Frame, echo};

/// Starts a service in front of what connects to the endpoint that this gives too.
fn with_backend(options: &[&str]) -> (Process, String) {
    let options = [&["--backend", "tcp://127.0.0.1:*"], options].concat();
    let service = Process::start(&options);
    let line = service.log.iter().find(|line| line.contains("workers connect to ")).unwrap();
    let backend = line.split("workers connect to ").nth(1).unwrap().to_string();
    (service, backend)
}

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

fn python_worker(endpoint: &str) -> Option<Killed> {
    let python = common::python_with_pyzmq()?;
    let path = format!("{}/examples/worker.py", env!("CARGO_MANIFEST_DIR"));
    assert!(std::fs::read_to_string(&path).unwrap().lines().count() <= 20);
    Some(Killed(Command::new(python).args([&path, endpoint]).spawn().unwrap()))
}

#[test]
fn workers_of_any_language_connect_and_answer() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&[]);
    let Some(_worker) = python_worker(&backend) else { return };
    service.wait_for_line("backend: connected");
    for client in [Client::req(&service.endpoint), Client::dealer(&service.endpoint)] {
        assert_eq!(client.ask_text("one two three"), "3");
        assert_eq!(client.ask_text(""), "0");
    }
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
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

/// Has the clients ask all the time while `meanwhile` runs. What each gets is a reply or one of
/// these codes. Gives how many were replies, and how many were not.
fn ask_while(
    endpoint: &str,
    clients: usize,
    codes: &[u16],
    meanwhile: impl FnOnce(&dyn Fn(&str)),
) -> (usize, usize) {
    let (done, replies, errors) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let context = zmq::Context::new();
    scope(|threads| {
        for client in 0..clients {
            let (done, replies, errors, context) = (&done, &replies, &errors, &context);
            threads.spawn(move || {
                let socket = Client::within(context, zmq::REQ, endpoint, |_| ());
                for number in 0.. {
                    let text = format!("client {client}, request {number}");
                    let reply = socket.ask(&[text.as_bytes()]);
                    match code(&reply) {
                        None => {
                            assert_eq!(reply, [text.as_bytes()]);
                            replies.fetch_add(1, Ordering::Relaxed);
                        }
                        Some(code) => {
                            assert!(codes.contains(&code), "{reply:?}");
                            errors.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let go_on = |what: &str| {
            let before = replies.load(Ordering::Relaxed);
            until(what, || replies.load(Ordering::Relaxed) > before + 20 * clients);
        };
        go_on("the clients are at work");
        meanwhile(&go_on);
        done.store(true, Ordering::Relaxed);
    });
    (replies.into_inner(), errors.into_inner())
}

#[test]
fn when_one_of_two_workers_is_killed_every_request_is_answered() {
    let _limit = time_limit(120);
    let Some(python) = common::python_with_pyzmq() else { return };
    let (mut service, backend) = with_backend(&["--timeout", "2"]);
    let echo = "import sys, zmq\ns = zmq.Context().socket(zmq.REP)\ns.connect(sys.argv[1])\n\
                while True: s.send(s.recv())";
    let start = || Killed(Command::new(python).args(["-c", echo, &backend]).spawn().unwrap());
    let (mut one, _other) = (start(), start());
    (0..2).for_each(|_| drop(service.wait_for_line("backend: connected")));
    let (replies, _) = ask_while(&service.endpoint.clone(), 50, &[502, 503, 504], |go_on| {
        one.0.kill().unwrap();
        service.wait_for_line("backend: a connection has ended");
        go_on("the other one answers");
    });
    assert!(replies > 2000, "{replies}");
}

/// Starts an echoing service at an ipc endpoint, which another one can take again.
fn echo_at(endpoint: &str, options: &[&str]) -> Process {
    let mut command = Command::new(common::REPD);
    command.args(["serve", "--handler", "echo", "--listen", endpoint]).args(options);
    Process::run(&mut command)
}

fn upstream_options(endpoints: &[String]) -> Vec<&str> {
    endpoints.iter().flat_map(|endpoint| ["--upstream", endpoint]).collect()
}

#[test]
fn when_one_of_three_upstreams_is_killed_every_request_is_answered_and_with_retries_replied_to() {
    let _limit = time_limit(120);
    let folder = Folder::new("upstreams");
    let endpoints: Vec<String> =
        (0..3).map(|n| format!("ipc://{}", folder.file(&format!("{n}")))).collect();
    for (retries, codes) in [("0", &[502, 503, 504][..]), ("1", &[])] {
        let mut upstreams: Vec<Process> = endpoints.iter().map(|e| echo_at(e, &[])).collect();
        let options = [&upstream_options(&endpoints)[..], &["--retries", retries]].concat();
        let mut service = Process::start(&options);
        endpoints.iter().for_each(|_| drop(service.wait_for_line(": connected")));
        ask_while(&service.endpoint.clone(), 50, codes, |go_on| {
            for round in 0..4 {
                let place = round % 3;
                upstreams[place].signal(SIGKILL);
                service.wait_for_line("a connection has ended");
                go_on("the others answer");
                upstreams[place] = echo_at(&endpoints[place], &["--verbose"]);
                service.wait_for_line(": connected");
                // The one that came back has its share.
                (0..100).for_each(|_| drop(upstreams[place].wait_for_line(": reply ")));
                go_on("all answer");
            }
        });
        let mut back = upstreams.swap_remove(0);
        back.signal(SIGTERM);
        assert_eq!(back.wait().code(), Some(0));
        service.signal(SIGTERM);
        assert_eq!(service.wait().code(), Some(0));
    }
}

/// More of them than the loop takes from a lane at a time, and their deadline is far away.
#[test]
fn every_request_of_a_worker_that_is_lost_is_answered_then() {
    let _limit = time_limit(60);
    const REQUESTS: usize = 20_000;
    let (mut service, backend) = with_backend(&["--timeout", "3600", "--max-outstanding", "20000"]);
    let mut worker = Raw::connect(&backend);
    worker.shake_hands(&[property("Socket-Type", b"REP")]);
    service.wait_for_line("backend: connected");
    let client = Client::dealer(&service.endpoint);
    (0..REQUESTS).for_each(|_| client.send(&[b"x"]));
    // Each is a ticket, the delimiter and a body.
    (0..3 * REQUESTS).for_each(|_| drop(worker.receive().unwrap()));
    drop(worker);
    (0..REQUESTS).for_each(|_| assert_eq!(client.receive_code(), 502));
}

/// Of three, two answer at once. Dealt in turn, each would get a third.
#[test]
fn the_share_of_a_slow_upstream_falls() {
    let _limit = time_limit(60);
    const REQUESTS: usize = 3000;
    let slow = Duration::from_millis(100);
    let handled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&handled);
    let sleepy = Local::workers(5, move |_| {
        let counter = Arc::clone(&counter);
        move |request: Vec<Frame>| {
            counter.fetch_add(1, Ordering::Relaxed);
            sleep(slow);
            Ok(request)
        }
    });
    let quick = [(); 2].map(|()| Local::workers(5, |_| echo));
    let endpoints: Vec<String> =
        [&quick[0], &quick[1], &sleepy].map(|upstream| upstream.endpoint.clone()).into();
    let mut service = Process::start(&upstream_options(&endpoints));
    endpoints.iter().for_each(|_| drop(service.wait_for_line(": connected")));
    let client = Client::dealer(&service.endpoint);
    (0..50).for_each(|_| client.send(&[b"a"]));
    for number in 0..REQUESTS {
        assert_eq!(client.receive(), [b"a"]);
        if number + 50 < REQUESTS {
            client.send(&[b"a"]);
        }
    }
    let handled = handled.load(Ordering::Relaxed);
    assert!(handled < REQUESTS / 10, "{handled}");
}

#[test]
fn requests_go_through_any_number_of_services_and_errors_come_back_as_they_were() {
    let _limit = time_limit(60);
    let last = Process::sleepy(&["--timeout", "3", "--workers", "2"]);
    let third = Process::start(&["--upstream", &last.endpoint]);
    let second = Process::start(&["--upstream", &third.endpoint]);
    let first = Process::start(&["--upstream", &second.endpoint]);
    let clients = [Client::req(&first.endpoint), Client::dealer(&first.endpoint)];
    for client in &clients {
        until("all are connected", || client.ask(&[b"0"]) == [b"0"]);
        assert_eq!(client.ask(&[b"1", b"", b"two"]), [&b"1"[..], b"", b"two"]);
        assert_eq!(
            client.ask(&[b"what"])[1..],
            [&b"400"[..], b"send milliseconds, never, or panic"]
        );
        assert_eq!(code(&client.ask(&[b"panic"])), Some(500));
        assert_eq!(code(&client.ask(&[b"never"])), Some(504));
    }
    // Both workers are stuck by now.
    assert_eq!(code(&clients[0].ask(&[b"0"])), Some(503));
}

#[test]
fn a_stop_waits_for_what_is_elsewhere() {
    let _limit = time_limit(60);
    let mut upstream = Process::sleepy(&["--workers", "5", "--verbose"]);
    let mut service = Process::start(&["--upstream", &upstream.endpoint, "--drain", "3600"]);
    service.wait_for_line(": connected");
    let mut client = Raw::dealer(&service.endpoint, b"");
    (0..20).for_each(|_| client.send(&request(b"300")));
    (0..5).for_each(|_| drop(upstream.wait_for_line("request \"300\"")));
    service.signal(SIGTERM);
    let (mut replies, mut refused) = (0, 0);
    for _ in 0..20 {
        match code(&client.reply().expect("a reply")) {
            None => replies += 1,
            Some(503) => refused += 1,
            Some(code) => panic!("{code}"),
        }
    }
    assert!(replies >= 5 && replies + refused == 20, "{replies}, {refused}");
    assert_eq!(service.wait().code(), Some(0));
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
    service.wait_for_line("backend: connected");
    let client = Client::dealer(&service.endpoint);
    for size in ["32769", "100000"] {
        for size in [size, "32768"] {
            client.send(&[size.as_bytes()]);
        }
        let replies = [client.receive(), client.receive()];
        assert_eq!(code(&replies[0]), Some(500), "{size}");
        assert_eq!(replies[1], [vec![b'x'; 32768]]);
    }
    service.wait_for_line("backend: its reply is larger than this service takes");
    // Far larger: its connection ends.
    client.send(&[b"1000000"]);
    assert_eq!(code(&client.receive()), Some(502));
    let line = service.wait_for_line("backend: cut off tcp://127.0.0.1:");
    assert!(line.contains("far larger than this service takes"), "{line}");
}

/// One that ends each connection, and one that wants another mechanism.
#[test]
fn an_upstream_that_is_none_is_tried_less_and_less_and_served_when_it_is_there() {
    let _limit = time_limit(120);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let mut service = Process::start(&["--upstream", &endpoint]);
    let began = Instant::now();
    for number in 0..7 {
        let (mut connection, _) = listener.accept().unwrap();
        let other: &[u8] = match number % 3 {
            0 => &[&greeting()[..12], b"PLAIN", &[0; 47]].concat(),
            1 => b"HTTP/1.1 400 Bad Request\r\n\r\n",
            _ => continue,
        };
        let _ = connection.write_all(other);
        let _ = connection.read_to_end(&mut Vec::new());
    }
    // 0.1 s, and twice as long each time up to 2 s: no less.
    assert!(began.elapsed() >= Duration::from_millis(100 + 200 + 400 + 800 + 1600));
    service.wait_for_line(
        "the connection ends before its handshake; is that a server of REQ clients?",
    );
    assert!(
        service.log.iter().filter(|line| line.contains("upstream")).count() <= 12,
        "{:?}",
        service.log
    );
    drop(listener);
    service.wait_for_line("cannot connect; retrying");
    let listener = TcpListener::bind(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
    drop(listener.accept().unwrap());
    // Each reason is said when it is another than before.
    service.wait_for_line("the connection ends before its handshake");
    drop(listener);
    let _upstream = Process::start(&["--listen", &endpoint]);
    service.wait_for_line(": connected");
    assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
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
    for kind in [zmq::PUB, zmq::REQ, zmq::PUSH, zmq::PAIR] {
        let _stranger = Client::new(kind, &backend);
        service.wait_for_line("backend: refused tcp://127.0.0.1:");
        let ended = service.log.iter().filter(|line| line.contains("has ended"));
        assert_eq!(ended.count(), 0, "{:?}", service.log);
        // Each has a service of its own: they try again.
        (service, backend) = with_backend(&[]);
    }
}

/// A worker that says what nobody asked it, in every way, harms nobody.
#[test]
fn what_no_worker_should_send_is_dropped() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&["--timeout", "20"]);
    let rogue = Client::dealer(&backend);
    service.wait_for_line("backend: connected");
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
fn a_stranger_at_the_workers_door_disturbs_nobody() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&["--timeout", "20", "--verbose"]);
    let (begin, begun) = std::sync::mpsc::channel();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    worker(&backend, move |request| {
        if request == b"wait" {
            begin.send(()).unwrap();
            gate.recv().unwrap();
        }
        Some(request)
    });
    service.wait_for_line("backend: connected");
    let client = Client::req(&service.endpoint);
    client.send(&[b"wait"]);
    begun.recv().unwrap();
    for bytes in
        [&[0; 100][..], b"GET / HTTP/1.0\r\n\r\n", b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0XXXX", b""]
    {
        let mut stranger = TcpStream::connect(backend.trim_start_matches("tcp://")).unwrap();
        stranger.write_all(bytes).unwrap();
        stranger.shutdown(std::net::Shutdown::Write).unwrap();
        service.wait_for_line("a connection has ended");
    }
    open.send(()).unwrap();
    assert_eq!(client.receive(), [b"wait"]);
    (0..20).for_each(|_| assert_eq!(client.ask(&[b"a"]), [b"a"]));
}

/// However many replies come with the end of the connection.
#[test]
fn replies_that_came_before_an_upstream_left_are_not_lost() {
    let _limit = time_limit(60);
    const REQUESTS: usize = 900;
    for _ in 0..10 {
        let context = zmq::Context::new();
        let upstream = context.socket(zmq::ROUTER).unwrap();
        upstream.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = upstream.get_last_endpoint().unwrap().unwrap();
        let mut service = Process::start(&["--upstream", &endpoint, "--timeout", "20"]);
        service.wait_for_line(": connected");
        let client = Client::dealer(&service.endpoint);
        (0..REQUESTS).for_each(|_| client.send(&[b"a"]));
        let requests: Vec<_> = (0..REQUESTS).map(|_| upstream.recv_multipart(0).unwrap()).collect();
        requests.into_iter().for_each(|reply| upstream.send_multipart(reply, 0).unwrap());
        drop((upstream, context));
        (0..REQUESTS).for_each(|_| assert_eq!(client.receive(), [b"a"]));
    }
}

/// One that can only refuse is quick at that, and is not taken for the best.
#[test]
fn an_upstream_that_refuses_gets_little_and_with_retries_no_client_hears_of_it() {
    let _limit = time_limit(60);
    let good = Process::start(&["--handler", "echo"]);
    let (bad, _) = with_backend(&[]);
    let waits = Client::req(&bad.endpoint);
    assert_eq!(code(&waits.ask(&[b"a"])), Some(503));
    for (retries, most) in [("0", 20), ("1", 0)] {
        let options =
            ["--upstream", &good.endpoint, "--upstream", &bad.endpoint, "--retries", retries];
        let mut service = Process::start(&options);
        (0..2).for_each(|_| drop(service.wait_for_line(": connected")));
        let client = Client::dealer(&service.endpoint);
        let mut refused = 0;
        (0..10).for_each(|_| client.send(&[b"a"]));
        for number in 0..2000 {
            let reply = client.receive();
            refused += usize::from(code(&reply) == Some(503));
            assert!(reply == [b"a"] || code(&reply) == Some(503), "{reply:?}");
            if number < 1990 {
                client.send(&[b"a"]);
            }
        }
        assert!(refused <= most, "{refused}");
    }
}

#[test]
fn no_more_requests_are_outstanding_than_allowed_and_those_past_their_deadline_count_too() {
    let _limit = time_limit(60);
    let (mut service, backend) = with_backend(&["--max-outstanding", "3", "--timeout", "3"]);
    let silent = Client::dealer(&backend);
    service.wait_for_line("backend: connected");
    let client = Client::dealer(&service.endpoint);
    (0..5_u8).for_each(|n| client.send(&[&[n]]));
    let take = || silent.socket.recv_multipart(0).unwrap();
    let taken = [take(), take(), take()];
    silent.socket.send_multipart([&taken[1][0][..], b"", b"reply"], 0).unwrap();
    assert_eq!(client.receive(), [b"reply"]);
    // The fourth came after that reply; the fifth stays in the queue.
    assert_eq!(take()[2], [3]);
    (0..4).for_each(|_| assert_eq!(client.receive_code(), 504));
    service.wait_for_line("warning: backend: a request has passed its deadline");
    assert_eq!(code(&client.ask(&[b"refused"])), Some(503));
    // One that is replied to, however late, makes room for another.
    silent.socket.send_multipart([&taken[0][0][..], b"", b"late"], 0).unwrap();
    until("there is room", || {
        client.send(&[b"more"]);
        client.receive_code() == 504
    });
    assert_eq!(take()[2], b"more");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let _limit = time_limit(60);
    let (one, two) = ("tcp://127.0.0.1:9998", "tcp://127.0.0.1:9999");
    for (options, says) in [
        (&["--backend", one, "--upstream", two][..], "cannot use --upstream with --backend"),
        (&["--backend", one, "--workers", "2"], "cannot use --workers with --backend"),
        (&["--upstream", one, "--handler", "echo"], "cannot use --handler with --upstream"),
        (&["--upstream", one, "--", "cat"], "cannot use a program with --upstream"),
        (&["--max-outstanding", "3"], "cannot use --max-outstanding with workers of this process"),
        (&["--upstream", one, "--upstream", one], "is given twice"),
        (
            &["--listen", one, "--upstream", one],
            "of this service itself; give the endpoint of another service",
        ),
        (&["--listen", one, "--backend", one], "of this service has it already; give another"),
        (&["--upstream", one, "--framing", "lines"], "cannot use --framing with --upstream"),
        (&["--upstream", "tcp://*:1"], "name a host and a port"),
        (&["--upstream", "tcp://no.such.invalid:1"], "give an IP address"),
        (&["--upstream", one, "--max-outstanding", "0"], "from 1 to 100000"),
        (&["--backend", "ipc:///no/such/folder/x"], "make the folder first"),
    ] {
        let listen = ["serve", "--listen", "tcp://127.0.0.1:*"];
        let run = common::repd(&[&listen[..], options].concat(), b"");
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{options:?}: {said}");
        assert!(said.trim_end().lines().last().unwrap().contains(says), "{options:?}: {said}");
    }
}

#[test]
fn two_hops_over_a_bad_link_lose_nothing_and_a_link_that_was_down_serves_again() {
    let _limit = time_limit(120);
    let Some(link) = Link::new("bad") else { return };
    let _far = link.serve("b", common::REPD, "--listen tcp://10.77.0.2:5555");
    let options = "--listen tcp://127.0.0.1:5555 --upstream tcp://10.77.0.2:5555";
    let mut near = link.serve("a", common::REPD, options);
    near.wait_for_line(": connected");
    link.lose_packets();
    let load = "bench tcp://127.0.0.1:5555 --clients 20 --requests 3000 --expect reverse \
                --warmup 0 --timeout 30";
    assert!(link.client(load).status().unwrap().success());
    assert!(link.lost_packets() > 0);
    link.set("down");
    let asking = link.client("call tcp://127.0.0.1:5555 --timeout 30 hello").spawn().unwrap();
    let mut asking = Killed(asking);
    // Not a wait for anything: that long the link is down.
    sleep(Duration::from_secs(3));
    link.set("up");
    until("what was asked meanwhile is answered", || asking.0.try_wait().unwrap().is_some());
    until("it is served again", || {
        link.client("call tcp://127.0.0.1:5555 --timeout 5 hello").status().unwrap().success()
    });
    assert!(link.client(load).status().unwrap().success());
}

/// Without a word, as when its power fails: who asked something of it is told long before the
/// deadline, also when that had not even reached it.
#[test]
fn an_upstream_whose_host_vanishes_is_missed() {
    let _limit = time_limit(120);
    let Some(link) = Link::new("gone") else { return };
    let sleepy = common::sleepy();
    let _far = link.serve("b", sleepy.to_str().unwrap(), "--listen tcp://10.77.0.2:5555");
    let options = "--listen tcp://127.0.0.1:5555 --upstream tcp://10.77.0.2:5555 --heartbeat 1 \
                   --timeout 3600 --verbose";
    for ask_first in [true, false] {
        let mut near = link.serve("a", common::REPD, options);
        near.wait_for_line(": connected");
        let ask = |request: &str| {
            let call = format!("call tcp://127.0.0.1:5555 --timeout 60 {request}");
            Killed(link.client(&call).spawn().unwrap())
        };
        let mut asking = ask(if ask_first { "3600000" } else { "0" });
        if ask_first {
            // It has come to where it is to be answered, since this one has that was sent after it.
            until("the way is free", || ask("0").0.wait().unwrap().success());
        } else {
            assert!(asking.0.wait().unwrap().success());
        }
        link.set("down");
        if !ask_first {
            asking = ask("0");
        }
        let status = asking.0.wait().unwrap();
        let said = std::io::read_to_string(asking.0.stderr.take().unwrap()).unwrap();
        assert_eq!(status.code(), Some(3), "{said}");
        assert!(said.contains("502") || (said.contains("503") && !ask_first), "{said}");
        near.wait_for_line("a connection has ended");
        link.set("up");
        near.wait_for_line(": connected");
        assert!(ask("0").0.wait().unwrap().success());
    }
}
