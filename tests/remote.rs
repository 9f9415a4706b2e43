//! Other services that requests go on to.

mod common;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::raw::{Raw, command, frame, greeting, property, request};
use common::status::Status;
use common::{Client, Folder, Killed, Link, Local, Process, ask_while, code, time_limit, until};
use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM};
use repd::{Frame, echo};
use serde_json::Value;

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
                service.wait_for_line("the connection has ended");
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
fn a_request_that_goes_round_ends() {
    let _limit = time_limit(60);
    let folder = Folder::new("round");
    let endpoints = ["a", "b"].map(|name| format!("ipc://{}", folder.file(name)));
    let start = |listen: &str, upstream: &str| {
        let mut command = Command::new(common::REPD);
        Process::run(command.args(["serve", "--listen", listen, "--upstream", upstream]))
    };
    let [one, other] = &endpoints;
    let mut services = [start(one, other), start(other, one)];
    services.iter_mut().for_each(|service| drop(service.wait_for_line(": connected")));
    for client in [Client::req(one), Client::dealer(one)] {
        let reply = client.ask(&[b"a"]);
        assert_eq!(reply[1..], [&b"413"[..], b"the request has come over more than 64 hops"]);
    }
}

#[test]
fn an_upstream_that_hangs_is_left_out_at_once_and_gets_its_share_when_it_goes_on() {
    let _limit = time_limit(60);
    let upstreams = [(); 2].map(|()| Process::start(&["--handler", "echo"]));
    let endpoints = [0, 1].map(|n: usize| upstreams[n].endpoint.clone());
    let status = ["--timeout", "1", "--status", "tcp://127.0.0.1:*"];
    let mut service = Process::start(&[&upstream_options(&endpoints)[..], &status].concat());
    endpoints.iter().for_each(|_| drop(service.wait_for_line(": connected")));
    let client = Client::req(&service.endpoint);
    (0..100).for_each(|_| assert_eq!(client.ask(&[b"a"]), [b"a"]));
    let [frozen, _other] = &upstreams;
    frozen.signal(SIGSTOP);
    let replies: Vec<_> = (0..1000).map(|_| client.ask(&[b"b"])).collect();
    let late = replies.iter().filter(|reply| code(reply) == Some(504)).count();
    assert!(late <= 1, "{late}");
    assert_eq!(replies.iter().filter(|reply| **reply == [b"b"]).count(), 1000 - late);
    frozen.signal(SIGCONT);
    let status = Status::of(&service);
    status.until("both are idle", |shown| {
        shown["upstreams"].as_array().unwrap().iter().all(|it| it["state"] == "idle")
    });
    // A fifth at least of a thousand, once it is forgotten how slow it was when it went on.
    let before = RefCell::new(status.json()["upstreams"].clone());
    ask_while(&service.endpoint, 20, &[], |_| {
        status.until("it gets its share", |shown| {
            let replies = |shown: &Value, place: usize| shown[place]["replies"].as_u64().unwrap();
            let shown = &shown["upstreams"];
            let more = [0, 1].map(|place| replies(shown, place) - replies(&before.borrow(), place));
            let all: u64 = more.iter().sum();
            if all >= 1000 {
                *before.borrow_mut() = shown.clone();
            }
            all >= 1000 && more.iter().all(|more| more * 5 >= all)
        });
    });
}

/// All that it may have outstanding, though it goes on with others.
#[test]
fn what_an_upstream_has_dropped_keeps_nothing_out() {
    let _limit = time_limit(60);
    let upstream = zmq::Context::new().socket(zmq::ROUTER).unwrap();
    upstream.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = upstream.get_last_endpoint().unwrap().unwrap();
    let options = ["--upstream", &endpoint, "--max-outstanding", "3", "--timeout", "0.5"];
    let service = Process::start(&options);
    let client = Client::req(&service.endpoint);
    for _ in 0..3 {
        client.send(&[b"dropped"]);
        upstream.recv_multipart(0).unwrap();
        assert_eq!(client.receive_code(), 504);
    }
    // Until one is tried.
    client.send(&[b"a"]);
    while upstream.poll(zmq::POLLIN, 100).unwrap() == 0 {
        assert!([503, 504].contains(&client.receive_code()));
        client.send(&[b"a"]);
    }
    for _ in 0..20 {
        upstream.send_multipart(upstream.recv_multipart(0).unwrap(), 0).unwrap();
        assert_eq!(client.receive(), [b"a"]);
        client.send(&[b"a"]);
    }
}

#[test]
fn what_is_no_reply_at_all_is_told() {
    let _limit = time_limit(60);
    let upstream = zmq::Context::new().socket(zmq::ROUTER).unwrap();
    upstream.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = upstream.get_last_endpoint().unwrap().unwrap();
    let mut service = Process::start(&["--upstream", &endpoint]);
    let client = Client::req(&service.endpoint);
    client.send(&[b"a"]);
    let request = upstream.recv_multipart(0).unwrap();
    upstream.send_multipart([&request[0][..], b"a"], 0).unwrap();
    service.wait_for_line("message dropped: it does not begin with a request's envelope");
    upstream.send_multipart(request, 0).unwrap();
    assert_eq!(client.receive(), [b"a"]);
}

/// It has not answered one in time, and there is no other.
#[test]
fn an_upstream_that_is_alone_is_asked_again_at_once() {
    let _limit = time_limit(60);
    let upstream = zmq::Context::new().socket(zmq::ROUTER).unwrap();
    upstream.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = upstream.get_last_endpoint().unwrap().unwrap();
    let mut service = Process::start(&["--upstream", &endpoint, "--timeout", "1"]);
    service.wait_for_line(": connected");
    let client = Client::req(&service.endpoint);
    assert_eq!(code(&client.ask(&[b"late"])), Some(504));
    upstream.recv_multipart(0).unwrap();
    service.wait_for_line("has passed its deadline");
    client.send(&[b"another"]);
    upstream.send_multipart(upstream.recv_multipart(0).unwrap(), 0).unwrap();
    assert_eq!(client.receive(), [b"another"]);
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

#[test]
fn a_stop_does_not_wait_for_what_its_client_has_given_up() {
    let _limit = time_limit(60);
    let context = zmq::Context::new();
    let hung = context.socket(zmq::ROUTER).unwrap();
    hung.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = hung.get_last_endpoint().unwrap().unwrap();
    let options = ["--timeout", "3600", "--drain", "3600"];
    let mut service = Process::start(&[&["--upstream", &endpoint], &options[..]].concat());
    service.wait_for_line(": connected");
    let client = Client::dealer(&service.endpoint);
    client.socket.send_multipart(["REPD-DEADLINE:100", "", "hello"], 0).unwrap();
    hung.recv_multipart(0).unwrap();
    assert_eq!(client.socket.recv_multipart(0).unwrap()[3], b"504");
    service.signal(SIGTERM);
    assert_eq!(service.wait().code(), Some(0));
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
    service.wait_for_line("it speaks HTTP, not ZMTP; retrying");
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
    let bad = Process::start(&["--backend", "tcp://127.0.0.1:*"]);
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

/// libzmq never connects again to what has shown that it is no peer, though the next that listens
/// there may be one.
#[test]
fn an_upstream_where_something_else_was_before_is_connected_to() {
    let _limit = time_limit(120);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let mut service = Process::start(&["--upstream", &endpoint]);
    let (stream, _) = listener.accept().unwrap();
    let mut stranger = Raw::from_stream(stream);
    stranger.greet();
    stranger.send(&command("READY", &property("Socket-Type", b"PUB")));
    stranger.rest();
    service.wait_for_line("it is a PUB, which does not serve REQ clients; retrying");
    drop((stranger, listener));
    let _upstream = Process::start(&["--listen", &endpoint]);
    service.wait_for_line(": connected");
    assert_eq!(Client::req(&service.endpoint).ask_text("ab"), "ba");
}

/// The log says why once as long as it lasts, and not because the connection ends without a word in
/// between. MySQL's first bytes are almost those of a ZMTP 1.0 peer.
#[test]
fn what_a_server_speaks_that_is_no_upstream_is_told_and_it_gets_no_request() {
    let _limit = time_limit(120);
    // As long as it says.
    let mysql = [&b"J\0\0\0\n8.0.36\0"[..], &[b'x'; 66]].concat();
    let of_type = |name| [greeting(), command("READY", &property("Socket-Type", name))].concat();
    let (publisher, dealer) = (of_type(b"PUB"), of_type(b"DEALER"));
    for (says, told) in [
        (&mysql[..], r"it does not speak ZMTP, but begins with J\x00\x00\x00"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it speaks SSH, not ZMTP"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks HTTP, not ZMTP"),
        (b"\xff\xfd\x18\xff\xfd\x20\xff\xfd\x23\xff", "it speaks Telnet, not ZMTP"),
        (b"\x05\x01noise", r"it does not speak ZMTP, but begins with \x05\x01no"),
        (&publisher, "it is a PUB, which does not serve REQ clients"),
        // So is what sends back all that it gets.
        (&dealer, "it is a DEALER, which does not serve REQ clients"),
        // In ZMTP 2.0 the type stands in the greeting.
        (
            b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x01\0\0",
            "it is a PUB, which does not serve REQ clients",
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let mut service = Process::start(&["--upstream", &endpoint]);
        let client = Client::req(&service.endpoint);
        client.send(&[b"in vain"]);
        for says in [says, b"", says] {
            let mut connection = Raw::from_stream(listener.accept().unwrap().0);
            connection.send(says);
            if says.is_empty() {
                continue;
            }
            let mut heard = Vec::new();
            while let Some(byte) = connection.byte() {
                heard.push(byte);
                assert!(!heard.ends_with(b"in vain"), "{told}: it has got the request");
            }
        }
        service.wait_for_line(&format!("upstream {endpoint}: {told}; retrying"));
        assert_eq!(client.receive_code(), 503);
        drop(listener);
        service.wait_for_line("cannot connect; retrying");
        let about = format!("upstream {endpoint}: ");
        let lines = service.log.iter().filter(|line| line.contains(&about));
        // On a busy machine the first connection may have no greeting in the time that it has for one.
        let lines: Vec<_> =
            lines.skip_while(|line| line.contains("before its handshake")).collect();
        assert_eq!(lines.len(), 2, "{told}: {lines:#?}");
    }
}

#[test]
fn a_request_that_is_larger_than_an_upstream_takes_is_refused_and_others_are_answered() {
    let _limit = time_limit(60);
    let mut upstream = Process::start(&["--handler", "echo", "--max-message-size", "1k"]);
    let service = Process::start(&["--upstream", &upstream.endpoint]);
    let client = Client::req(&service.endpoint);
    assert_eq!(code(&client.ask(&[&[7; 2000]])), Some(413));
    // Far larger: its connection ends.
    assert_eq!(code(&client.ask(&[&[7; 100_000]])), Some(502));
    upstream.wait_for_line("far larger than this service takes");
    assert_eq!(client.ask(&[b"again"]), [b"again"]);
}

#[test]
fn a_reply_of_an_upstream_that_is_larger_than_the_service_takes_is_a_500() {
    let _limit = time_limit(60);
    // As many bytes as it is asked for.
    let zeros = "head -c \"$(cat)\" /dev/zero";
    let upstream = Process::start(&["--framing", "once", "--", "sh", "-c", zeros]);
    let options = ["--upstream", &upstream.endpoint, "--max-message-size", "32k"];
    let mut service = Process::start(&options);
    let client = Client::req(&service.endpoint);
    for _ in 0..2 {
        assert_eq!(code(&client.ask(&[b"32769"])), Some(500));
        assert_eq!(client.ask(&[b"32768"]), [vec![0; 32768]]);
    }
    service.wait_for_line(": its reply is larger than this service takes");
    // Far larger: its connection ends.
    assert_eq!(code(&client.ask(&[b"1000000"])), Some(502));
    service.wait_for_line("far larger than this service takes");
}

#[test]
fn an_upstream_that_is_cut_off_is_told_each_time() {
    let _limit = time_limit(60);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let mut service = Process::start(&["--upstream", &endpoint]);
    for _ in 0..5 {
        let mut upstream = Raw::from_stream(listener.accept().unwrap().0);
        upstream.shake_hands(&[property("Socket-Type", b"ROUTER")]);
        service.wait_for_line(": connected");
        // A frame of 2^64 - 1 bytes.
        upstream.send(b"\x02\xff\xff\xff\xff\xff\xff\xff\xff");
        service.wait_for_line(&format!("upstream {endpoint}: cut off tcp://127.0.0.1:"));
        upstream.rest();
    }
}

/// Each connection may get a request, which is lost with it.
#[test]
fn an_upstream_that_ends_each_connection_is_connected_to_less_and_less() {
    let _limit = time_limit(60);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let _service = Process::start(&["--upstream", &endpoint]);
    let began = Instant::now();
    for _ in 0..7 {
        let mut upstream = Raw::from_stream(listener.accept().unwrap().0);
        upstream.shake_hands(&[property("Socket-Type", b"ROUTER")]);
    }
    // The second comes at once, and the third after 0.1 s.
    assert!(began.elapsed() >= Duration::from_millis(100 + 200 + 400 + 800 + 1600));
}

/// Each of them at every attempt, of which there are many.
#[test]
fn what_is_no_upstream_in_the_same_way_again_is_told_once() {
    let _limit = time_limit(120);
    let greeted = |rest: &[u8]| [&greeting()[..], rest].concat();
    let says = |what: u32, attempt: u8| match what {
        0 => greeted(&command("ERROR", b"\x06go off")),
        1 => greeted(&[attempt | 0x80; 60]),
        2 => vec![b'a' + attempt; 60],
        _ => Vec::new(),
    };
    for what in 0..4 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let mut service = Process::start(&["--upstream", &endpoint]);
        for attempt in 0..4 {
            let (mut stream, _) = listener.accept().unwrap();
            let said = says(what, attempt);
            if !said.is_empty() {
                stream.read_exact(&mut [0; 10]).unwrap();
                stream.write_all(&said).unwrap();
                // Until the other side has ended it.
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
        service.wait_for_line(match what {
            2 => "does not speak ZMTP, but begins with",
            _ => "the connection ends before its handshake",
        });
        service.signal(SIGTERM);
        assert_eq!(service.wait().code(), Some(0));
        service.rest_of_log();
        let told: Vec<_> = service.log.iter().filter(|line| line.contains("upstream ")).collect();
        assert_eq!(told.len(), 1, "{told:?}");
    }
}

/// ZMTP 1.0 is what libzmq 2 speaks, 2.0 what libzmq 3 does.
#[test]
fn an_upstream_of_an_older_protocol_is_served() {
    let _limit = time_limit(60);
    // The signature, the revision and the type (ROUTER), and the routing id; or that alone.
    let newer = [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x06"[..], &frame(0, b"")].concat();
    let named = b"\xff\0\0\0\0\0\0\0\x06\0named";
    for greeting in [&newer[..], b"\x01\0", b"\x06\0named", named] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let mut service = Process::start(&["--upstream", &endpoint]);
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(greeting).unwrap();
        service.wait_for_line(": connected");
        let client = Client::req(&service.endpoint);
        client.send(&[b"ask"]);
        // What came is sent back, once the body is there: a frame with the ticket before it, and an
        // empty one.
        let mut bytes = Vec::new();
        until("the request has come", || {
            let mut some = [0; 256];
            let count = stream.read(&mut some).unwrap();
            bytes.extend_from_slice(&some[..count]);
            bytes.ends_with(b"ask")
        });
        let frames = (2 + 8) + 2 + (2 + 3);
        stream.write_all(&bytes[bytes.len() - frames..]).unwrap();
        assert_eq!(client.receive(), [b"ask"]);
    }
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
        (&["--upstream", "tcp://10.9.9.9:*"], "name a host and a port"),
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
        near.wait_for_line("the connection has ended");
        link.set("up");
        near.wait_for_line(": connected");
        assert!(ask("0").0.wait().unwrap().success());
    }
}

#[test]
fn there_may_be_more_upstreams_than_a_context_has_sockets_by_itself() {
    let _limit = time_limit(120);
    let (_held, refusing) = common::refusing();
    let port = refusing.rsplit(':').next().unwrap();
    let endpoints: Vec<String> =
        (0..400).map(|n| format!("tcp://127.1.{}.{}:{port}", n / 200, n % 200 + 1)).collect();
    let options: Vec<&str> = endpoints.iter().flat_map(|it| ["--upstream", it]).collect();
    // Each takes three sockets.
    let service = Process::start(&options);
    let client = Client::req(&service.endpoint);
    client.send(&[b"a"]);
    assert_eq!(client.receive_code(), 503);
}
