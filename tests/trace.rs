//! The lines of level debug about a request, which share its number.

mod common;

use common::keys::Keys;
use common::{Client, Process, has_ipv6, time_limit, until};

/// Waits for these lines, in this order.
fn expect(service: &mut Process, lines: &[&str]) {
    for line in lines {
        service.wait_for_line(line);
    }
}

#[test]
fn each_request_has_a_number_from_when_it_comes_until_it_is_answered() {
    let _limit = time_limit(60);
    for workers in ["1", "0"] {
        let options = ["--workers", workers, "--log-level", "debug"];
        let mut service = Process::start(&options);
        let client = Client::req(&service.endpoint);
        for number in 1..=2 {
            assert_eq!(client.ask_text("ab"), "ba");
            service.wait_for_line(&format!(
                "debug: request {number}: from 127.0.0.1: \"ab\" (frames: 1, bytes: 2)"
            ));
            if workers == "1" {
                service.wait_for_line(&format!("debug: request {number}: sent to worker 1"));
            }
            service.wait_for_line(&format!("debug: request {number}: answered after "));
        }
        drop(client);
        service.wait_for_line("debug: a client has gone: 127.0.0.1");
        let came = service.log.iter().filter(|line| line.contains("a client has come: 127.0.0.1"));
        assert_eq!(came.count(), 1);
    }
}

#[test]
fn the_log_tells_who_asks_by_name_and_address() {
    let _limit = time_limit(60);
    let keys = Keys::new("trace");
    let mut service = keys.serve(&["--verbose", "--workers", "1"]);
    assert_eq!(keys.call(&service.endpoint, "pump-7").stdout, b"olleh\n");
    expect(
        &mut service,
        &[
            "request 1: from pump-7 at 127.0.0.1: ",
            "a client has come: pump-7 at 127.0.0.1",
            "a client has gone: pump-7 at 127.0.0.1",
        ],
    );
}

#[test]
fn an_address_of_ipv4_is_one_wherever_the_client_connects() {
    let _limit = time_limit(60);
    if !has_ipv6() {
        return;
    }
    let mut service = Process::start(&["--listen", "tcp://[::]:*", "--verbose"]);
    let line = service.wait_for_line("listening on tcp://[::]:");
    let client = Client::req(&format!("tcp://127.0.0.1:{}", line.rsplit(':').next().unwrap()));
    assert_eq!(client.ask_text("ab"), "ba");
    service.wait_for_line("request 1: from 127.0.0.1: ");
}

#[test]
fn a_request_that_passes_its_deadline_is_answered_and_then_its_reply_is_late() {
    let _limit = time_limit(60);
    let mut service = Process::sleepy(&["--workers", "1", "--timeout", "0.05", "--verbose"]);
    let client = Client::req(&service.endpoint);
    client.send(&[b"300"]);
    assert_eq!(client.receive_code(), 504);
    expect(
        &mut service,
        &[
            "request 1: sent to worker 1",
            "request 1: answered after ",
            "request 1: reply of worker 1 dropped: it came after the deadline",
        ],
    );
    assert!(
        service.log.iter().any(|line| line.ends_with(": 504 the deadline passed before the reply"))
    );
}

/// Returns the number that a line begins with.
fn number(line: &str) -> &str {
    line.split("request ").nth(1).unwrap().split(':').next().unwrap()
}

#[test]
fn a_request_that_is_lost_is_sent_again() {
    let _limit = time_limit(60);
    let program = "read line; test $REPD_WORKER = 2 && echo $line";
    let options = ["--workers", "2", "--retries", "1", "--verbose", "--framing", "lines"];
    let mut service = Process::start(&[&options[..], &["--", "sh", "-c", program]].concat());
    let client = Client::req(&service.endpoint);
    until("one was given to the other worker", || {
        client.ask(&[b"a"]);
        service.wait_for_line(": answered after ");
        service.log.iter().any(|line| line.contains(": sent again, to worker "))
    });
    let last = |text| number(service.log.iter().rfind(|line| line.contains(text)).unwrap());
    assert_eq!(last(": lost by worker 1"), last(": sent again, to worker 2"));
}

/// Returns the log of a service whose quick requests have had others be sent behind them, and so
/// behind a slow one.
fn log_with_a_slow_one() -> Vec<String> {
    let mut service = Process::sleepy(&["--workers", "2", "--verbose"]);
    let client = Client::dealer(&service.endpoint);
    let requests: Vec<&[u8]> = [&[&b"0"[..]; 50][..], &[b"20", b"0", b"0"]].concat();
    requests.iter().for_each(|request| client.send(&[request]));
    requests.iter().for_each(|_| drop(client.receive()));
    (0..requests.len()).for_each(|_| drop(service.wait_for_line(": answered after ")));
    std::mem::take(&mut service.log)
}

#[test]
fn a_request_that_waits_behind_a_slow_one_is_taken_back() {
    let _limit = time_limit(60);
    let is_it = |line: &String| line.contains(": taken back from worker ");
    let mut log = Vec::new();
    // On a busy machine the quick ones may seem slow, and each is sent to a worker that is free. A
    // service that has seen that does not forget it soon.
    until("one was taken back", || {
        log = log_with_a_slow_one();
        log.iter().any(is_it)
    });
    let place = log.iter().position(is_it).unwrap();
    let sent = format!("request {}: sent to worker ", number(&log[place]));
    assert!(log[..place].iter().any(|line| line.contains(&sent)));
    assert!(log[place..].iter().any(|line| line.contains(&sent)));
}

#[test]
fn a_request_that_nobody_waits_for_is_withdrawn() {
    let _limit = time_limit(60);
    let mut service = Process::sleepy(&["--workers", "1", "--verbose"]);
    let (busy, other) = (Client::dealer(&service.endpoint), Client::req(&service.endpoint));
    busy.send(&[b"1000"]);
    service.wait_for_line("worker 1: request ");
    busy.send(&[b"0"]);
    service.wait_for_line("request 2: from ");
    other.send(&[b"0"]);
    service.wait_for_line("request 3: from ");
    drop(other);
    service.wait_for_line("request 3: withdrawn");
}
