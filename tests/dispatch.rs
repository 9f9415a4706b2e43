//! No quick request waits behind a slow one.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use common::{Client, Local, time_limit};
use repd::{Config, Frame};

/// Asks so many quick questions that each worker is trusted with many at a time.
fn warm_up(endpoint: &str) {
    let client = Client::dealer(endpoint);
    for _ in 0..20 {
        (0..500).for_each(|_| client.send(&[b"quick"]));
        (0..500).for_each(|_| assert_eq!(client.receive(), [b"quick"]));
    }
}

/// With one to four of five workers in a slow request, which ends only when all the quick ones have
/// had their replies: if one of these waited for it, both would wait for ever.
#[test]
fn quick_requests_are_answered_while_slow_ones_take_as_long_as_they_like() {
    let _limit = time_limit(120);
    for slow in 1..=4 {
        let (begun, all_begun) = channel();
        let (open, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let handled = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&handled);
        let new_handler = move |_| {
            let (begun, gate, counter) = (begun.clone(), Arc::clone(&gate), Arc::clone(&counter));
            move |request: Vec<Frame>| {
                counter.fetch_add(1, Ordering::Relaxed);
                if *request[0] == *b"slow" {
                    begun.send(()).unwrap();
                    gate.lock().unwrap().recv().unwrap();
                }
                Ok(request)
            }
        };
        let service = Local::start(Config::default(), new_handler);
        warm_up(&service.endpoint);
        // Each slow request in the middle of a burst of quick ones, from one client.
        let client = Client::dealer(&service.endpoint);
        for _ in 0..slow {
            (0..200).for_each(|_| client.send(&[b"quick"]));
            client.send(&[b"slow"]);
            (0..200).for_each(|_| client.send(&[b"quick"]));
        }
        let other = Client::req(&service.endpoint);
        (0..1000).for_each(|_| assert_eq!(other.ask_text("quick"), "quick"));
        (0..400 * slow).for_each(|_| assert_eq!(client.receive(), [b"quick"]));
        (0..slow).for_each(|_| all_begun.recv().unwrap());
        (0..slow).for_each(|_| open.send(()).unwrap());
        (0..slow).for_each(|_| assert_eq!(client.receive(), [b"slow"]));
        assert!(service.stop().is_ok());
        // Those that were taken back from one worker and given to another were handled once.
        assert_eq!(handled.load(Ordering::Relaxed), 10_000 + 1000 + 400 * slow + slow);
    }
}
