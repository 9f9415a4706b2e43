//! A forwarder in front of a service: what happens to its one connection can be seen, and not all of
//! it need arrive.

use std::io::{Read, Write, copy};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::spawn;

/// Passes on what the first client sends, up to a number of bytes, and all that comes back. The
/// connection to the service stays open when the client closes its own.
pub struct Forwarder {
    pub endpoint: String,
    is_closed: Arc<AtomicBool>,
    passed: Arc<AtomicUsize>,
}

impl Forwarder {
    pub fn new(service: &str, most: usize) -> Forwarder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let address = service.strip_prefix("tcp://").unwrap().to_string();
        let (is_closed, passed): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let forwarder =
            Forwarder { endpoint, is_closed: Arc::clone(&is_closed), passed: Arc::clone(&passed) };
        spawn(move || {
            let mut client = listener.accept().unwrap().0;
            let mut service = TcpStream::connect(address).unwrap();
            let (from, to) = (client.try_clone().unwrap(), service.try_clone().unwrap());
            spawn(move || pass_on(from, to, most, &passed));
            let _ = copy(&mut service, &mut client);
            is_closed.store(true, Ordering::SeqCst);
        });
        forwarder
    }

    /// Returns true if the service has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes that were passed on to the service.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, most: usize, passed: &AtomicUsize) {
    let mut part = [0; 4096];
    loop {
        let left = most - passed.load(Ordering::SeqCst);
        match from.read(&mut part[..left.min(4096)]) {
            Ok(length) if length > 0 && to.write_all(&part[..length]).is_ok() => {
                passed.fetch_add(length, Ordering::SeqCst);
            }
            _ => return,
        }
    }
}
