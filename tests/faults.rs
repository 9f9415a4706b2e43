//! Handlers that fail, and requests that cannot be served: each client hears of it, in time.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Client, Local, Process, code, time_limit};
use repd::{Backend, Code, Config, Fault, Frame};

#[test]
fn a_panic_is_a_500_and_the_worker_goes_on() {
    let _limit = time_limit(60);
    for workers in ["1", "0"] {
        let mut service = Process::sleepy(&["--workers", workers]);
        let client = Client::req(&service.endpoint);
        for _ in 0..20 {
            client.send(&[b"panic"]);
            assert_eq!(client.receive_code(), 500);
            assert_eq!(client.ask_text("0"), "0");
        }
        let line = service.wait_for_line("panicked");
        assert!(line.contains("asked to") && line.starts_with("error: "), "{line}");
    }
}

#[test]
fn a_handlers_own_fault_reaches_its_client_with_its_words() {
    let _limit = time_limit(60);
    let service = Process::sleepy(&[]);
    let reply = Client::req(&service.endpoint).ask(&[b"what?"]);
    assert_eq!(reply, [&b"REPD-ERROR"[..], b"400", b"send milliseconds, never, or panic"]);
}

#[test]
fn a_request_of_too_many_frames_gets_a_413() {
    let _limit = time_limit(60);
    for workers in ["5", "0"] {
        let service = Process::start(&["--workers", workers, "--max-frames", "3"]);
        for client in [Client::req(&service.endpoint), Client::dealer(&service.endpoint)] {
            for frames in [4, 5, 500] {
                client.send(&vec![&b"ab"[..]; frames]);
                assert_eq!(client.receive_code(), 413);
                assert_eq!(client.ask(&[&b"ab"[..]; 3]), [b"ba"; 3]);
            }
        }
    }
}

/// A service whose request `wait` is replied to when the test lets it go on.
struct Gated {
    service: Local,
    open: Sender<()>,
}

/// Starts one with a deadline that only who waits for the gate will miss, also on a machine that
/// has other things to do.
fn gated(workers: usize) -> Gated {
    let (open, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let new_handler = move |_| {
        let gate = Arc::clone(&gate);
        move |request: Vec<Frame>| {
            if *request[0] == *b"wait" {
                gate.lock().unwrap().recv().map_err(|e| Fault::new(Code::FAILED, e.to_string()))?;
            }
            Ok(request)
        }
    };
    let timeout = Duration::from_secs(3);
    let config = Config::new(Backend::workers(workers, new_handler)).timeout(timeout);
    Gated { service: Local::start(config), open }
}

#[test]
fn a_handler_that_does_not_return_is_a_504_and_its_late_reply_reaches_nobody() {
    let _limit = time_limit(60);
    let Gated { service, open } = gated(2);
    let client = Client::req(&service.endpoint);
    client.send(&[b"wait"]);
    assert_eq!(client.receive_code(), 504);
    // The other worker goes on, for this client too.
    assert_eq!(client.ask_text("a"), "a");
    open.send(()).unwrap();
    // Both workers are there again, and what they say is what was asked.
    let clients: Vec<Client> = (0..10).map(|_| Client::req(&service.endpoint)).collect();
    for round in 0..50 {
        let text = format!("request {round}");
        clients.iter().for_each(|client| client.send(&[text.as_bytes()]));
        clients.iter().for_each(|client| assert_eq!(client.receive(), [text.as_bytes()]));
    }
    assert_eq!(client.ask_text("b"), "b");
    assert!(service.stop().is_ok());
}

#[test]
fn while_every_worker_is_stuck_requests_get_a_503_and_then_replies_again() {
    let _limit = time_limit(60);
    let Gated { service, open } = gated(2);
    let stuck = [Client::req(&service.endpoint), Client::req(&service.endpoint)];
    stuck.iter().for_each(|client| client.send(&[b"wait"]));
    stuck.iter().for_each(|client| assert_eq!(client.receive_code(), 504));
    let client = Client::req(&service.endpoint);
    for _ in 0..100 {
        client.send(&[b"a"]);
        assert_eq!(client.receive_code(), 503);
    }
    open.send(()).unwrap();
    open.send(()).unwrap();
    common::until("a worker replies again", || {
        let reply = client.ask(&[b"a"]);
        assert!(reply == [b"a"] || code(&reply) == Some(503), "{reply:?}");
        reply == [b"a"]
    });
    assert!(service.stop().is_ok());
}

#[test]
fn deadlines_are_each_requests_own() {
    let _limit = time_limit(60);
    let service = Process::sleepy(&["--workers", "3", "--timeout", "3"]);
    let clients: Vec<Client> = (0..3).map(|_| Client::req(&service.endpoint)).collect();
    for (client, time) in clients.iter().zip([&b"never"[..], b"10", b"never"]) {
        client.send(&[time]);
    }
    let outcome = |client: &Client| code(&client.receive());
    assert_eq!(clients.iter().map(outcome).collect::<Vec<_>>(), [Some(504), None, Some(504)]);
}

#[test]
fn a_worker_that_is_lost_ends_the_service_and_those_who_wait_are_told() {
    let _limit = time_limit(60);
    let made = Arc::new(AtomicUsize::new(0));
    // The third handler that is made, which is the one after the panic, cannot be.
    let new_handler = move |_| {
        assert!(made.fetch_add(1, Ordering::Relaxed) < 2, "no more handlers");
        |request: Vec<Frame>| {
            assert!(*request[0] != *b"panic", "asked to");
            Ok(request)
        }
    };
    let service = Local::workers(2, new_handler);
    let client = Client::req(&service.endpoint);
    assert_eq!(client.ask_text("a"), "a");
    client.send(&[b"panic"]);
    assert_eq!(client.receive_code(), 503);
    let error = service.wait().unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("worker"), "{error}");
}

#[test]
fn a_request_that_is_tried_again_comes_as_it_was_sent() {
    let _limit = time_limit(60);
    let new_handler = |_| {
        let mut tried = 0;
        move |mut request: Vec<Frame>| {
            request[0].reverse();
            tried += 1;
            if tried == 1 { Err(Fault::new(Code::LOST, "asked to")) } else { Ok(request) }
        }
    };
    for workers in [1, 2] {
        let config = Config::new(Backend::workers(workers, new_handler)).retries(2);
        let service = Local::start(config);
        // Longer than what libzmq keeps in a message itself.
        let request: Vec<u8> = (0..=255).collect();
        let reversed: Vec<u8> = request.iter().rev().copied().collect();
        for _ in 0..3 {
            assert_eq!(Client::req(&service.endpoint).ask(&[&request]), [&reversed[..]]);
        }
        assert!(service.stop().is_ok());
    }
}

/// A handler that echoes can be made to say what repd itself would say: that is a reply like any
/// other.
#[test]
fn a_reply_that_only_says_that_it_is_lost_is_not_asked_for_again() {
    let _limit = time_limit(60);
    let handled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&handled);
    let new_handler = move |_| {
        let counter = Arc::clone(&counter);
        move |request: Vec<Frame>| {
            counter.fetch_add(1, Ordering::Relaxed);
            if *request[0] == *b"lose" {
                return Err(Fault::new(Code::LOST, "asked to"));
            }
            Ok(request)
        }
    };
    let service = Local::start(Config::new(Backend::workers(5, new_handler)).retries(5));
    let client = Client::req(&service.endpoint);
    let forged = [&b"REPD-ERROR"[..], b"502", b"forged"];
    assert_eq!(client.ask(&forged), forged);
    assert_eq!(handled.swap(0, Ordering::Relaxed), 1);
    client.send(&[b"lose"]);
    assert_eq!(client.receive_code(), 502);
    assert_eq!(handled.load(Ordering::Relaxed), 6);
    assert!(service.stop().is_ok());
}
