//! No quick request waits behind a slow one.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Client, Local, code, time_limit};
use repd::{Backend, Config, Frame};

/// Asks so many quick questions that each worker is trusted with many at a time.
fn warm_up(endpoint: &str, request: &[u8], reply: &[u8]) {
    let client = Client::dealer(endpoint);
    for _ in 0..20 {
        (0..500).for_each(|_| client.send(&[request]));
        (0..500).for_each(|_| assert_eq!(client.receive(), [reply]));
    }
}

const QUICK: &[u8] = b"a quick request that is longer than what libzmq keeps in a message itself";

/// With one to four of five workers in a slow request, which ends only when all the quick ones have
/// had their replies: if one of these waited for it, both would wait for ever. The quick ones are
/// changed where they lie, and are long enough to lie where the proxy's copy does: one that was
/// taken back must still be as it was sent.
#[test]
fn quick_requests_are_answered_while_slow_ones_take_as_long_as_they_like() {
    let _limit = time_limit(120);
    let answer: Vec<u8> = QUICK.iter().rev().copied().collect();
    for slow in 1..=4 {
        let (begun, all_begun) = channel();
        let (open, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let handled = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&handled);
        let new_handler = move |_| {
            let (begun, gate, counter) = (begun.clone(), Arc::clone(&gate), Arc::clone(&counter));
            move |mut request: Vec<Frame>| {
                counter.fetch_add(1, Ordering::Relaxed);
                if *request[0] == *b"slow" {
                    begun.send(()).unwrap();
                    gate.lock().unwrap().recv().unwrap();
                } else {
                    request[0].reverse();
                }
                Ok(request)
            }
        };
        let service = Local::workers(5, new_handler);
        warm_up(&service.endpoint, QUICK, &answer);
        // Each slow request in the middle of a burst of quick ones, from one client.
        let client = Client::dealer(&service.endpoint);
        for _ in 0..slow {
            (0..200).for_each(|_| client.send(&[QUICK]));
            client.send(&[b"slow"]);
            (0..200).for_each(|_| client.send(&[QUICK]));
        }
        let other = Client::req(&service.endpoint);
        (0..1000).for_each(|_| assert_eq!(other.ask(&[QUICK]), [&answer[..]]));
        (0..400 * slow).for_each(|_| assert_eq!(client.receive(), [&answer[..]]));
        (0..slow).for_each(|_| all_begun.recv().unwrap());
        (0..slow).for_each(|_| open.send(()).unwrap());
        (0..slow).for_each(|_| assert_eq!(client.receive(), [b"slow"]));
        assert!(service.stop().is_ok());
        // Those that were taken back from one worker and given to another were handled once.
        assert_eq!(handled.load(Ordering::Relaxed), 10_000 + 1000 + 400 * slow + slow);
    }
}

/// A worker that is awake takes the next request: who was used last is used again.
#[test]
fn requests_one_at_a_time_stay_with_the_worker_used_last() {
    let _limit = time_limit(60);
    let (begun, slow_begun) = channel();
    let (open, gate) = channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let new_handler = move |worker: usize| {
        let (begun, gate) = (begun.clone(), Arc::clone(&gate));
        move |request: Vec<Frame>| {
            if *request[0] == *b"slow" {
                begun.send(()).unwrap();
                gate.lock().unwrap().recv().unwrap();
            }
            Ok(vec![Frame::from(worker.to_string())])
        }
    };
    let service = Local::workers(5, new_handler);
    let slow = Client::req(&service.endpoint);
    slow.send(&[b"slow"]);
    slow_begun.recv().unwrap();
    let client = Client::req(&service.endpoint);
    let second = client.ask_text("quick");
    open.send(()).unwrap();
    let first = slow.receive();
    assert_ne!(first, [second.as_bytes()]);
    // The first worker is free again, and was used before the second.
    for _ in 0..20 {
        assert_eq!(client.ask_text("quick"), second);
    }
}

/// What has been told that it takes too long is not begun any more.
#[test]
fn a_request_past_its_deadline_is_not_handled() {
    let _limit = time_limit(60);
    let handled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&handled);
    let (open, gate) = channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let new_handler = move |_| {
        let (counter, gate) = (Arc::clone(&counter), Arc::clone(&gate));
        move |request: Vec<Frame>| {
            counter.fetch_add(1, Ordering::Relaxed);
            if *request[0] == *b"slow" {
                gate.lock().unwrap().recv().unwrap();
            }
            Ok(request)
        }
    };
    let config = Config::new(Backend::workers(1, new_handler)).timeout(Duration::from_secs(3));
    let service = Local::start(config);
    warm_up(&service.endpoint, b"quick", b"quick");
    let client = Client::dealer(&service.endpoint);
    client.send(&[b"slow"]);
    (0..10).for_each(|_| client.send(&[b"quick"]));
    // The slow one and what was sent with it behind it.
    (0..11).for_each(|_| assert!([503, 504].contains(&client.receive_code())));
    // Clients are told before what the worker has not begun is taken back.
    let is_stuck = || code(&client.ask(&[b"quick"])) == Some(503);
    common::until("the worker is known to be stuck", is_stuck);
    open.send(()).unwrap();
    common::until("the worker is back", || code(&client.ask(&[b"after"])).is_none());
    assert!(service.stop().is_ok());
    assert_eq!(handled.load(Ordering::Relaxed), 10_000 + 1 + 1);
}
