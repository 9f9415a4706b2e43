//! Who asks: what each client has in the service, and whether it may ask for more. It holds no
//! socket and reads no clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::deadline;
use crate::fault::{Code, Fault};
use crate::frame::Frame;

/// Names a client as long as it is connected, or something of it is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(u32);

impl ClientId {
    /// Returns its place in a table of clients.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How much one client may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    /// Maximum number of requests that it may have outstanding.
    pub outstanding: usize,
    /// Maximum number of requests a second; `None` for any.
    pub rate: Option<u32>,
}

/// Time whose requests a client may send at once, within its rate.
const BURST: Duration = Duration::from_secs(1);

/// The clients that have asked, by their routing ids.
pub(crate) struct Clients {
    by_routing_id: HashMap<Box<[u8]>, ClientId>,
    /// The one that was found last, which often asks again.
    latest: Option<ClientId>,
    clients: Vec<Client>,
    free: Vec<ClientId>,
    limits: ClientLimits,
    /// Bytes that are held for all of them.
    bytes: usize,
}

/// What a client has said of itself when it connected (ZMTP 3.1, RFC 37: the metadata of READY).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// It is a REQ, which has one request outstanding: with the next one it has given up the last.
    pub is_req: bool,
    /// Time for which it waits for the reply to each of its requests, if it has said so.
    pub patience: Option<Duration>,
}

impl Handshake {
    /// Reads what the sender of a message has said, from its first frame.
    pub fn of(frame: &mut Frame) -> Handshake {
        let is_req = frame.property("Socket-Type") == Some("REQ");
        Handshake { is_req, patience: deadline::of_sender(frame) }
    }
}

struct Client {
    routing_id: Box<[u8]>,
    handshake: Handshake,
    /// Its connection has ended.
    is_gone: bool,
    /// Number of its requests that were taken and not answered.
    outstanding: usize,
    /// Number of its requests that are held: also those that were answered by their deadline, and
    /// that a lane still has.
    held: usize,
    /// Bytes of these.
    bytes: usize,
    /// When its requests so far would all have come at its rate: the theoretical arrival time of
    /// the generic cell rate algorithm (ITU-T I.371), which is a token bucket in one number.
    paid_until: Option<Instant>,
}

impl Clients {
    pub fn new(limits: ClientLimits) -> Clients {
        Clients {
            by_routing_id: HashMap::new(),
            latest: None,
            clients: Vec::new(),
            free: Vec::new(),
            limits,
            bytes: 0,
        }
    }

    /// Returns the client of that routing id; `None` if it is new.
    pub fn find(&mut self, routing_id: &[u8]) -> Option<ClientId> {
        let latest = self.latest.filter(|id| *self.clients[id.index()].routing_id == *routing_id);
        if latest.is_none() {
            self.latest = self.by_routing_id.get(routing_id).copied();
        }
        self.latest
    }

    /// Inserts a client that is new.
    pub fn insert(&mut self, routing_id: &[u8], handshake: Handshake) -> ClientId {
        let client = Client {
            routing_id: routing_id.into(),
            handshake,
            is_gone: false,
            outstanding: 0,
            held: 0,
            bytes: 0,
            paid_until: None,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.clients[id.index()] = client;
                id
            }
            None => {
                self.clients.push(client);
                ClientId(self.clients.len() as u32 - 1)
            }
        };
        self.by_routing_id.insert(routing_id.into(), id);
        id
    }

    /// Takes account of one more request that a client sends.
    ///
    /// # Errors
    /// The fault that it is told if that is more than it may: the request does not count then.
    pub fn admit(&mut self, id: ClientId, bytes: usize, now: Instant) -> Result<(), Fault> {
        let client = &mut self.clients[id.index()];
        // It may have come back.
        client.is_gone = false;
        let most = self.limits.outstanding;
        if client.outstanding >= most {
            let text = format!("the client has {most} requests outstanding, and may have no more");
            return Err(Fault::new(Code::TOO_MANY, text));
        }
        if let Some(rate) = self.limits.rate {
            let paid_until = client.paid_until.map_or(now, |time| time.max(now));
            if paid_until > now + BURST {
                let text = format!("the client asks for more than {rate} requests a second");
                return Err(Fault::new(Code::TOO_MANY, text));
            }
            client.paid_until = Some(paid_until + Duration::from_secs(1) / rate);
        }
        client.outstanding += 1;
        client.held += 1;
        client.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes account of a request that has ended; with `is_held` a lane still has it.
    pub fn on_ended(&mut self, id: ClientId, bytes: usize, is_held: bool) {
        self.clients[id.index()].outstanding -= 1;
        if !is_held {
            self.release(id, bytes);
        }
    }

    /// Takes account of a request that is not held any more.
    pub fn release(&mut self, id: ClientId, bytes: usize) {
        let client = &mut self.clients[id.index()];
        client.held -= 1;
        client.bytes -= bytes;
        self.bytes -= bytes;
        self.forget_if_done(id);
    }

    /// Takes account of a client whose connection has ended.
    pub fn on_gone(&mut self, id: ClientId) {
        self.clients[id.index()].is_gone = true;
        self.forget_if_done(id);
    }

    fn forget_if_done(&mut self, id: ClientId) {
        let client = &mut self.clients[id.index()];
        if client.is_gone && client.held == 0 {
            self.by_routing_id.remove(&std::mem::take(&mut client.routing_id));
            self.free.push(id);
        }
    }

    pub fn handshake(&self, id: ClientId) -> Handshake {
        self.clients[id.index()].handshake
    }

    pub fn is_gone(&self, id: ClientId) -> bool {
        self.clients[id.index()].is_gone
    }

    /// Returns the bytes that are held for all clients.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes that are held for one client.
    pub fn bytes_of(&self, id: ClientId) -> usize {
        self.clients[id.index()].bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn clients(outstanding: usize, rate: Option<u32>) -> Clients {
        Clients::new(ClientLimits { outstanding, rate })
    }

    fn enter(clients: &mut Clients, name: &str) -> ClientId {
        clients.insert(name.as_bytes(), Handshake::default())
    }

    #[test]
    fn a_client_may_have_as_much_outstanding_as_its_limit_and_others_do_not_count() {
        let (mut clients, now) = (clients(2, None), Instant::now());
        let (one, other) = (enter(&mut clients, "one"), enter(&mut clients, "other"));
        assert!(clients.admit(one, 10, now).is_ok() && clients.admit(one, 20, now).is_ok());
        let refused = clients.admit(one, 30, now).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "429 the client has 2 requests outstanding, and may have no more"
        );
        assert!(clients.admit(other, 1, now).is_ok());
        assert_eq!((clients.bytes(), clients.bytes_of(one)), (31, 30));
        clients.on_ended(one, 10, false);
        assert!(clients.admit(one, 5, now).is_ok());
        assert_eq!((clients.bytes(), clients.bytes_of(one)), (26, 25));
    }

    #[test]
    fn a_client_may_send_a_seconds_requests_at_once_and_then_at_its_rate() {
        let (mut clients, start) = (clients(1000, Some(10)), Instant::now());
        let one = enter(&mut clients, "one");
        let sends = |clients: &mut Clients, at| {
            (0..100).take_while(|_| clients.admit(one, 0, at).is_ok()).count()
        };
        assert_eq!(sends(&mut clients, start), 11);
        assert_eq!(sends(&mut clients, start + 99 * MS), 0);
        assert_eq!(sends(&mut clients, start + 100 * MS), 1);
        assert_eq!(sends(&mut clients, start + 600 * MS), 5);
        assert_eq!(sends(&mut clients, start + 60_000 * MS), 11);
        let text = clients.admit(one, 0, start + 60_000 * MS).unwrap_err().to_string();
        assert_eq!(text, "429 the client asks for more than 10 requests a second");
    }

    #[test]
    fn what_a_lane_still_has_is_held_though_it_is_answered() {
        let (mut clients, now) = (clients(1, None), Instant::now());
        let one = enter(&mut clients, "one");
        clients.admit(one, 10, now).unwrap();
        clients.on_ended(one, 10, true);
        assert_eq!(clients.bytes(), 10);
        assert!(clients.admit(one, 5, now).is_ok(), "it has nothing outstanding");
        clients.release(one, 10);
        assert_eq!(clients.bytes(), 5);
    }

    #[test]
    fn a_client_that_has_gone_is_forgotten_once_nothing_of_it_is_held() {
        let (mut clients, now) = (clients(9, None), Instant::now());
        let one = enter(&mut clients, "one");
        clients.admit(one, 10, now).unwrap();
        clients.on_gone(one);
        assert!(clients.is_gone(one) && clients.find(b"one") == Some(one));
        // Its place is not given away before.
        assert_ne!(enter(&mut clients, "other"), one);
        clients.on_ended(one, 10, false);
        assert_eq!(clients.find(b"one"), None);
        let req = Handshake { is_req: true, patience: None };
        assert_eq!(clients.insert(b"another", req), one);
        assert!(clients.handshake(one) == req && !clients.is_gone(one));
    }

    #[test]
    fn a_client_that_comes_back_is_the_same() {
        let (mut clients, now) = (clients(9, None), Instant::now());
        let one = enter(&mut clients, "one");
        clients.admit(one, 10, now).unwrap();
        clients.on_gone(one);
        assert_eq!(clients.find(b"one"), Some(one));
        clients.admit(one, 10, now).unwrap();
        assert!(!clients.is_gone(one));
    }
}
