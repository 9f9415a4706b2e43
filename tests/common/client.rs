//! A client: requests and replies without envelopes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;

use repd::{Fault, Frame};

use super::{LIMIT, until};

/// A client with any type of socket, which waits no longer than [`LIMIT`] for a reply.
pub struct Client {
    pub socket: zmq::Socket,
    _context: zmq::Context,
}

impl Client {
    pub fn new(kind: zmq::SocketType, endpoint: &str) -> Client {
        Client::with(kind, endpoint, |_| ())
    }

    pub fn req(endpoint: &str) -> Client {
        Client::new(zmq::REQ, endpoint)
    }

    /// Connects a DEALER, which may send many requests before it reads a reply.
    pub fn dealer(endpoint: &str) -> Client {
        Client::new(zmq::DEALER, endpoint)
    }

    /// Connects a client whose other options `set` sets.
    pub fn with(kind: zmq::SocketType, endpoint: &str, set: impl Fn(&zmq::Socket)) -> Client {
        Client::within(&zmq::Context::new(), kind, endpoint, set)
    }

    /// Connects a client in a context that it shares with others, and so with one I/O thread.
    pub fn within(
        context: &zmq::Context,
        kind: zmq::SocketType,
        endpoint: &str,
        set: impl Fn(&zmq::Socket),
    ) -> Client {
        let socket = context.socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(LIMIT.as_millis() as i32).unwrap();
        socket.set_sndtimeo(LIMIT.as_millis() as i32).unwrap();
        socket.set_ipv6(endpoint.contains('[')).unwrap();
        set(&socket);
        socket.connect(endpoint).unwrap();
        Client { socket, _context: context.clone() }
    }

    /// Returns the context of its socket.
    pub fn context(&self) -> &zmq::Context {
        &self._context
    }

    fn is_dealer(&self) -> bool {
        self.socket.get_socket_type().unwrap() == zmq::DEALER
    }

    pub fn send(&self, frames: &[&[u8]]) {
        let delimiter: &[&[u8]] = if self.is_dealer() { &[b""] } else { &[] };
        self.socket.send_multipart(delimiter.iter().chain(frames).copied(), 0).unwrap();
    }

    /// Returns the next reply, or `None` if there is none within the socket's time-out.
    pub fn receive_in_time(&self) -> Option<Vec<Vec<u8>>> {
        let mut frames = self.socket.recv_multipart(0).ok()?;
        if self.is_dealer() {
            assert_eq!(frames.remove(0), b"", "no delimiter");
        }
        Some(frames)
    }

    pub fn receive(&self) -> Vec<Vec<u8>> {
        self.receive_in_time().expect("no reply")
    }

    pub fn ask(&self, frames: &[&[u8]]) -> Vec<Vec<u8>> {
        self.send(frames);
        self.receive()
    }

    /// Sends a request and returns the reply's only frame, as text.
    pub fn ask_text(&self, text: &str) -> String {
        let mut reply = self.ask(&[text.as_bytes()]);
        assert_eq!(reply.len(), 1, "{reply:?}");
        String::from_utf8(reply.remove(0)).unwrap()
    }

    /// Returns the code of the next reply, which must be an error reply.
    pub fn receive_code(&self) -> u16 {
        let reply = self.receive();
        code(&reply).unwrap_or_else(|| panic!("no error reply: {reply:?}"))
    }
}

/// Returns the code of an error reply, or `None` if it is another reply.
pub fn code(reply: &[Vec<u8>]) -> Option<u16> {
    let frames: Vec<Frame> = reply.iter().map(|frame| Frame::from(&frame[..])).collect();
    Fault::parse(&frames).map(|fault| fault.code().get())
}

/// Has the clients ask all the time while `meanwhile` runs. What each gets is its request or one of
/// these codes. Gives how many were replies, and how many were not.
pub fn ask_while(
    endpoint: &str,
    clients: usize,
    codes: &[u16],
    meanwhile: impl FnOnce(&dyn Fn(&str)),
) -> (usize, usize) {
    ask_while_replying(endpoint, clients, codes, str::to_string, meanwhile)
}

/// As [`ask_while`], of what replies to a request with `reply_to` it.
pub fn ask_while_replying(
    endpoint: &str,
    clients: usize,
    codes: &[u16],
    reply_to: fn(&str) -> String,
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
                            assert_eq!(reply, [reply_to(&text).as_bytes()]);
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
