//! What a service costs when it has nothing to do, or nobody who could do it.

mod common;

use std::net::TcpStream;
use std::thread::{scope, sleep};
use std::time::Duration;

use common::{Client, Process, code, time_limit, until};

/// Waits until the service, which may be busy with what it was just given, has come to take no more
/// than that share of one processor over five seconds.
fn rests(what: &str, service: &Process, share: f64) {
    const WINDOW: Duration = Duration::from_secs(5);
    common::until(&format!("{what}: it takes no processor time"), || {
        let before = service.processor_time();
        sleep(WINDOW);
        let used = (service.processor_time() - before).as_secs_f64() / WINDOW.as_secs_f64();
        println!("{what}: {:.3} %", used * 100.0);
        used < share
    });
}

#[test]
fn idle_with_a_hundred_clients_it_takes_no_processor_time() {
    let _limit = time_limit(60);
    for workers in ["5", "0"] {
        let service = Process::start(&["--workers", workers]);
        let context = zmq::Context::new();
        let clients: Vec<Client> = (0..100)
            .map(|_| Client::within(&context, zmq::REQ, &service.endpoint, |_| ()))
            .collect();
        clients.iter().for_each(|client| assert_eq!(client.ask_text("ab"), "ba"));
        rests(&format!("idle, {workers} workers"), &service, 0.005);
    }
}

#[test]
fn with_every_worker_busy_and_a_thousand_requests_waiting_it_sleeps() {
    let _limit = time_limit(60);
    let mut service = Process::sleepy(&["--verbose"]);
    let context = zmq::Context::new();
    let clients: Vec<Client> =
        (0..1000).map(|_| Client::within(&context, zmq::REQ, &service.endpoint, |_| ())).collect();
    clients[..5].iter().for_each(|client| client.send(&[b"never"]));
    (0..5).for_each(|_| drop(service.wait_for_line("request \"never\"")));
    clients[5..].iter().for_each(|client| client.send(&[b"0"]));
    let pipelined = Client::dealer(&service.endpoint);
    (0..1000).for_each(|_| pipelined.send(&[b"0"]));
    rests("busy, 2,000 waiting", &service, 0.02);
}

#[test]
fn at_the_limit_of_open_files_it_sleeps() {
    let _limit = time_limit(60);
    let service = Process::start(&[]);
    service.limit_files(80);
    let address = service.endpoint.strip_prefix("tcp://").unwrap();
    let _clients: Vec<TcpStream> = (0..120).map(|_| TcpStream::connect(address).unwrap()).collect();
    until("it has no descriptor left", || service.descriptors() >= 80);
    rests("clients that it cannot let in", &service, 0.02);
}

#[test]
fn with_programs_workers_or_upstreams_that_are_idle_or_away_it_sleeps() {
    let _limit = time_limit(120);
    let idle = Process::start(&[]);
    let mut services = vec![
        ("a program", Process::start(&["--framing", "lines", "--", "cat"])),
        ("an upstream", Process::start(&["--upstream", &idle.endpoint])),
        ("a backend where nobody is", Process::start(&["--backend", "tcp://127.0.0.1:*"])),
    ];
    for (_, service) in &services[..2] {
        let client = Client::req(&service.endpoint);
        common::until("it serves", || code(&client.ask(&[b"a"])).is_none());
    }
    // Where requests wait too.
    let mut busy = Process::start(&["--workers", "2", "--framing", "lines", "--", "sleep", "3600"]);
    let client = Client::dealer(&busy.endpoint);
    (0..1000).for_each(|_| client.send(&[b"a"]));
    services.push(("programs that do not reply, and requests that wait", busy));
    busy = Process::start(&["--upstream", "ipc://@repd-nobody-is-here"]);
    let client = Client::dealer(&busy.endpoint);
    client.send(&[b"a"]);
    assert_eq!(client.receive_code(), 503);
    services.push(("an upstream that is away", busy));
    scope(|threads| {
        for (what, service) in services {
            // One that is away is tried again ten times a second.
            threads.spawn(move || rests(what, &service, 0.02));
        }
    });
}
