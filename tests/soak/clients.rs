//! Who asks: clients that stay, that come and go, and that try again.

use std::thread::{Scope, sleep};
use std::time::Duration;

use super::account::{Account, Allowed, ECHO, SLOW};
use super::common::{Client, code};
use super::run::Run;
use super::services::Service;

/// For how long a client rests after what it has asked for. It keeps the load such that all that is
/// disturbed has its turn.
const REST: Duration = Duration::from_millis(5);

/// How often a client that tries again does so.
const TRIES: usize = 60;

/// Clients of one service.
pub struct Clients<'a> {
    pub run: &'a Run,
    pub account: &'a Account,
    endpoint: &'a str,
    context: zmq::Context,
    /// Sets options of each socket before it connects, such as keys.
    set: Option<&'a (dyn Fn(&zmq::Socket) + Sync)>,
    /// Of so many requests one is slow, on average.
    slow: Option<u32>,
    allowed: Allowed,
}

impl<'a> Clients<'a> {
    /// Makes clients who expect replies, and ask for nothing slow.
    pub fn new(run: &'a Run, account: &'a Account, endpoint: &'a str) -> Clients<'a> {
        let (allowed, context) = (Allowed::REPLY, zmq::Context::new());
        Clients { run, account, endpoint, context, set: None, slow: None, allowed }
    }

    /// Makes clients of that service.
    pub fn of(service: &'a Service, run: &'a Run) -> Clients<'a> {
        Clients::new(run, &service.account, &service.endpoint)
    }

    /// Has these options set on each socket before it connects.
    pub fn with(self, set: &'a (dyn Fn(&zmq::Socket) + Sync)) -> Clients<'a> {
        Clients { set: Some(set), ..self }
    }

    /// Has one of so many requests be slow, on average.
    pub fn one_slow_in(self, requests: u32) -> Clients<'a> {
        Clients { slow: Some(requests), ..self }
    }

    /// Expects a reply or an error reply of these codes.
    pub fn allowing(self, codes: &'static [u16]) -> Clients<'a> {
        Clients { allowed: Allowed::reply_or(codes), ..self }
    }

    /// Starts all kinds of clients. One has so many requests outstanding.
    pub fn start<'scope>(
        &'scope self,
        threads: &'scope Scope<'scope, '_>,
        name: &str,
        window: usize,
    ) {
        let name = |kind: &str| format!("{name}: a client {kind}");
        self.run.spawn(threads, name("with many requests"), move || self.pipeline(window));
        for _ in 0..3 {
            self.run.spawn(threads, name("that asks"), || self.converse());
        }
        self.run.spawn(threads, name("that comes and goes"), || self.come_and_go());
    }

    pub fn connect(&self, kind: zmq::SocketType) -> Client {
        Client::within(&self.context, kind, self.endpoint, |socket| {
            self.set.iter().for_each(|set| set(socket));
        })
    }

    /// Adds a request. Returns its number and its body.
    fn ask(&self) -> (u64, Vec<u8>) {
        let is_slow = self.slow.is_some_and(|slow| fastrand::u32(..slow) == 0);
        self.account.ask(if is_slow { SLOW } else { ECHO }, self.allowed)
    }

    /// Asks with a REQ, and waits for the reply.
    fn exchange(&self, client: &Client) {
        let (number, body) = self.ask();
        client.send(&[&body]);
        self.account.note(number, &client.receive());
    }

    /// Asks over one REQ.
    fn converse(&self) {
        let client = self.connect(zmq::REQ);
        self.run.repeat(|| {
            self.exchange(&client);
            sleep(REST);
        });
    }

    /// Asks over one DEALER, so many at a time.
    fn pipeline(&self, window: usize) {
        let client = self.connect(zmq::DEALER);
        self.run.repeat(|| {
            (0..window).for_each(|_| _ = self.send(&client));
            (0..window).for_each(|_| self.receive(&client));
            sleep(REST);
        });
    }

    /// Sends a request over a DEALER, and returns its number.
    pub fn send(&self, client: &Client) -> u64 {
        let (number, body) = self.ask();
        send(client, number, &body);
        number
    }

    /// Receives a reply over a DEALER.
    pub fn receive(&self, client: &Client) {
        let message = client.socket.recv_multipart(0).expect("no reply");
        let (number, reply) = numbered(&message);
        self.account.note(number, reply);
    }

    /// Asks a few times over one connection after the other, and leaves with or without the last
    /// reply.
    fn come_and_go(&self) {
        self.run.repeat(|| {
            let client = self.connect(zmq::REQ);
            (0..fastrand::u32(..20)).for_each(|_| self.exchange(&client));
            if fastrand::bool() {
                let (number, body) = self.ask();
                client.send(&[&body]);
                self.account.leave(number);
                // By this it may have left when the connection ends, or not.
                client.socket.set_linger(fastrand::i32(0..2) * 1000).unwrap();
            }
            self.run.happened("clients came and went");
            sleep(REST);
        });
    }

    /// Asks until it gets a reply: over a new connection, or `keeps` to it, and again after an error
    /// reply or after a while.
    pub fn try_again(&self, keeps: bool) {
        let connect = || {
            let client = self.connect(zmq::REQ);
            client.socket.set_rcvtimeo(2000).unwrap();
            client
        };
        let mut client = connect();
        self.run.repeat(|| {
            let is_replied = (0..TRIES).any(|tries| {
                if tries > 0 || !keeps {
                    client = connect();
                }
                let (number, body) = self.ask();
                client.send(&[&body]);
                let reply = client.receive_in_time();
                match &reply {
                    Some(reply) => self.account.note(number, reply),
                    None => self.account.leave(number),
                }
                reply.is_some_and(|reply| code(&reply).is_none())
            });
            assert!(is_replied, "no reply in {TRIES} tries");
            sleep(REST);
        });
    }
}

/// Sends a request over a DEALER, with its number in the envelope.
pub fn send(client: &Client, number: u64, body: &[u8]) {
    client.socket.send_multipart([&number.to_be_bytes()[..], b"", body], 0).unwrap();
}

/// Returns the number in the envelope of a reply, and its frames.
pub fn numbered(message: &[Vec<u8>]) -> (u64, &[Vec<u8>]) {
    let [number, delimiter, reply @ ..] = message else { panic!("no envelope: {message:?}") };
    assert!(delimiter.is_empty(), "no delimiter: {message:?}");
    let number = number[..].try_into().expect("a number in the envelope");
    (u64::from_be_bytes(number), reply)
}
