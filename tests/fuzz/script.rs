//! What a peer that means no good does with one connection: a pure function of a seed.
//!
//! Most of it is ZMTP (RFC 13, 15, 23, 37) that is wrong in one place, so that it gets far before
//! it is found out.

use std::time::Duration;

use fastrand::Rng;

/// The name of a client that the service has all the time.
pub const INNOCENT: &str = "innocent";

/// What a frame's body begins with that no honest peer would send.
const LIE: &[u8] = b"lie";

/// What the service takes its peer for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// A client of `--listen`.
    Client,
    /// A worker at `--backend`.
    Worker,
}

/// One connection from its first byte to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    pub steps: Vec<Step>,
    pub end: End,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Send(Vec<u8>),
    /// Sends each byte by itself.
    Trickle(Vec<u8>),
    Pause(Duration),
    /// Reads until so many bytes have come since the beginning, or the time is over.
    Read(usize, Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Says that no more will be sent, and reads until the service hangs up.
    Finish,
    /// Closes the connection, whatever is still to be read.
    Close,
    /// Resets it.
    Reset,
    /// Leaves it open and silent while others come.
    Hold,
}

/// How frames are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// The length, which counts the flags, before them.
    V1,
    /// The flags before the length: ZMTP 2.0 and later.
    V2,
}

/// How long a greeting of ZMTP 3 is.
const GREETING: usize = 64;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Returns the script of the connection with that number.
pub fn script(seed: u64, number: u64, front: Front) -> Script {
    let seed = Rng::with_seed(seed).u64(..) ^ number;
    let mut peer = Peer { random: Rng::with_seed(seed), number, front };
    let mut steps = Vec::new();
    for mut bytes in peer.words() {
        // The one before is a handshake: what comes behind it is refused before it is answered.
        if !steps.is_empty() && !peer.one_in(20) {
            steps.push(Step::Read(GREETING + 1, Duration::from_millis(20)));
        }
        if peer.one_in(6) {
            peer.damage(&mut bytes);
        }
        steps.extend(peer.delivery(bytes));
    }
    Script { steps, end: peer.end() }
}

struct Peer {
    random: Rng,
    number: u64,
    front: Front,
}

impl Peer {
    fn one_in(&mut self, times: u32) -> bool {
        self.random.u32(..times) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.random.usize(..from.len())].clone()
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.random.u8(..)).collect()
    }

    /// Returns all that is sent, before any of it is damaged: what goes before the service has
    /// answered, and what comes after.
    fn words(&mut self) -> Vec<Vec<u8>> {
        match self.random.u32(..100) {
            0..3 => {
                let length = self.random.usize(..300);
                vec![self.noise(length)]
            }
            3..6 => vec![self.http()],
            6..8 => vec![self.tls()],
            8..14 => vec![[self.greeting_1_0(), self.messages(Framing::V1)].concat()],
            14..24 => vec![self.version_2_0()],
            _ => vec![self.handshake_3(), self.messages(Framing::V2)],
        }
    }

    fn http(&mut self) -> Vec<u8> {
        let method = self.pick(&["GET", "POST", "OPTIONS", "PRI", "CONNECT"]);
        let path = self.pick(&["/", "*", "/healthz", "/../../etc/passwd"]);
        let version = self.pick(&["HTTP/1.0", "HTTP/1.1", "HTTP/2.0"]);
        let upgrade =
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: ZWS2.0\r\n";
        let headers = self.pick(&["", "Host: localhost\r\n", upgrade]);
        format!("{method} {path} {version}\r\n{headers}\r\n").into_bytes()
    }

    /// Returns a ClientHello (RFC 8446) as far as its outer layers go.
    fn tls(&mut self) -> Vec<u8> {
        let length = self.random.u8(4..250);
        let mut hello = vec![0x16, 3, self.random.u8(..5), 0, length, 1, 0, 0, length - 4, 3, 3];
        hello.extend(self.noise(usize::from(length)));
        hello
    }

    /// Returns the routing id of a peer of ZMTP 1.0, which says no version.
    fn greeting_1_0(&mut self) -> Vec<u8> {
        let id = self.routing_id();
        self.frame(Framing::V1, 0, &id)
    }

    fn signature(&mut self) -> Vec<u8> {
        let mut signature = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f];
        if self.one_in(20) {
            let place = self.random.usize(1..10);
            signature[place] = self.random.u8(..);
        }
        signature
    }

    /// Greets by revision 0 or 1, with the socket's type as a number.
    fn version_2_0(&mut self) -> Vec<u8> {
        let revision = self.random.u8(..2);
        let framing = if revision == 0 { Framing::V1 } else { Framing::V2 };
        let kind = if self.one_in(10) { self.random.u8(..) } else { self.pick(&[3, 4, 5, 6]) };
        let id = self.routing_id();
        let id = self.frame(framing, 0, &id);
        [self.signature(), vec![revision, kind], id, self.messages(framing)].concat()
    }

    fn handshake_3(&mut self) -> Vec<u8> {
        let mut wire = self.greeting_3();
        let commands = if self.one_in(8) { self.pick(&[0, 2, 3]) } else { 1 };
        for _ in 0..commands {
            let command = if self.one_in(15) { self.command() } else { self.ready() };
            wire.extend(self.frame(Framing::V2, COMMAND, &command));
        }
        wire
    }

    fn greeting_3(&mut self) -> Vec<u8> {
        let odd = self.one_in(12);
        let version =
            if odd { [self.random.u8(2..), self.random.u8(..)] } else { [3, self.pick(&[0, 1])] };
        let mechanism: &[u8] = match self.random.u32(..50) {
            0 => b"PLAIN",
            1 => b"CURVE",
            2 => b"GSSAPI",
            3 => b"null",
            4 => b"",
            5 => b"NULLNULLNULLNULLNULL",
            _ => b"NULL",
        };
        let mut padded = mechanism.to_vec();
        padded.resize(20, 0);
        if self.one_in(40) {
            padded[19] = 1;
        }
        let as_server = self.pick(&[0, 0, 0, 0, 1, 255]);
        let filler = if self.one_in(20) { self.noise(31) } else { vec![0; 31] };
        [self.signature(), version.into(), padded, vec![as_server], filler].concat()
    }

    /// Returns the empty id mostly, and else a name that another may have, one that a ROUTER may
    /// give, or one of any length.
    fn routing_id(&mut self) -> Vec<u8> {
        match self.random.u32(..20) {
            0..12 => Vec::new(),
            12..14 => self.pick(&[INNOCENT, "a", "b", "c", "d"]).into(),
            14..17 => {
                // A zero and a counter, which glibc's rand() gives when nobody has seeded it: as
                // the first and as the twelfth number of a process.
                let first = self.pick(&[0x6b8b_4567_u32, 0xbd1b_58ba]);
                let given = self.random.u32(..400 + self.number.min(100_000) as u32);
                [&[0][..], &first.wrapping_add(given).to_be_bytes()].concat()
            }
            17 => [vec![0], self.noise(4)].concat(),
            18 => vec![0; self.random.usize(1..4)],
            _ => {
                let length = self.pick(&[1, 4, 5, 32, 33, 254, 255, 256, 300]);
                self.noise(length)
            }
        }
    }

    fn socket_type(&mut self) -> Vec<u8> {
        let types: &[&str] = match self.front {
            Front::Client => &["REQ", "DEALER", "ROUTER"],
            Front::Worker => &["REP", "DEALER", "ROUTER"],
        };
        match self.random.u32(..25) {
            0 => self.pick(&["PUB", "SUB", "XPUB", "PAIR", "PULL", "STREAM", "req"]).into(),
            1 => {
                let length = self.pick(&[0, 1, 7, 255, 300]);
                self.noise(length)
            }
            _ => self.pick(types).into(),
        }
    }

    fn ready(&mut self) -> Vec<u8> {
        let mut properties = Vec::new();
        if !self.one_in(30) {
            properties.push((b"Socket-Type".to_vec(), self.socket_type()));
        }
        if !self.one_in(4) {
            properties.push((b"Identity".to_vec(), self.routing_id()));
        }
        let others = match self.random.u32(..3000) {
            // As many as fit into 1 MiB.
            0 => 131_000,
            1..30 => 1000,
            30..200 => self.random.usize(30..36),
            _ => self.pick(&[0, 0, 0, 0, 0, 0, 1, 3]),
        };
        for _ in 0..others {
            let few = others < 100;
            let name = if few { self.random.usize(..40) } else { 3 };
            let value = if few { self.pick(&[0, 1, 20, 255, 256]) } else { 0 };
            properties.push((self.noise(name), self.noise(value)));
        }
        if self.one_in(20) {
            properties.extend(properties.clone());
        }
        let mut command = b"\x05READY".to_vec();
        for (name, value) in properties {
            command.push(name.len() as u8);
            command.extend(&name);
            command.extend((value.len() as u32).to_be_bytes());
            command.extend(&value);
            if self.one_in(60) {
                // The value's length, or a part of the next name.
                let place = command.len().saturating_sub(value.len() + self.random.usize(1..=4));
                command[place] = self.pick(&[0x7f, 0x80, 0xff]);
            }
        }
        command
    }

    /// Returns any command but a good READY.
    fn command(&mut self) -> Vec<u8> {
        let name = self.pick(&[
            "PING",
            "PING",
            "PING",
            "PONG",
            "SUBSCRIBE",
            "CANCEL",
            "ERROR",
            "HELLO",
            "WELCOME",
            "INITIATE",
            "MESSAGE",
            "READY",
            "JOIN",
            "LEAVE",
            "",
        ]);
        let length = match name {
            "PING" | "PONG" => self.random.usize(..30),
            "HELLO" => self.pick(&[2, 194]),
            _ => self.pick(&[0, 1, 2, 5, 40, 300]),
        };
        let mut command = [&[name.len() as u8][..], name.as_bytes()].concat();
        command.extend(self.noise(length));
        match self.random.u32(..12) {
            0 => command[0] = self.random.u8(..),
            1 => command.truncate(self.random.usize(..=name.len())),
            _ => (),
        }
        command
    }

    fn messages(&mut self, framing: Framing) -> Vec<u8> {
        // One that is wrong may be the last that is read.
        let all_valid = self.one_in(3);
        let mut wire = Vec::new();
        for _ in 0..self.pick(&[0, 1, 1, 2, 3, 5, 20]) {
            let valid = all_valid || self.one_in(2);
            wire.extend(if valid { self.request(framing) } else { self.message(framing) });
        }
        wire
    }

    /// Returns a request, or a worker's reply.
    fn request(&mut self, framing: Framing) -> Vec<u8> {
        let envelope = self.envelope();
        let frames = self.pick(&[1, 1, 1, 2, 5]);
        let body = (0..frames).map(|_| self.body()).collect();
        self.parts(framing, [envelope, body].concat())
    }

    /// Returns what is no request, or an odd one.
    fn message(&mut self, framing: Framing) -> Vec<u8> {
        match self.random.u32(..12) {
            // No delimiter, nothing behind it, or nothing at all.
            0 => {
                let parts = self.random.usize(1..4);
                let parts = (0..parts).map(|_| self.body()).collect();
                self.parts(framing, parts)
            }
            1 => self.parts(framing, vec![Vec::new()]),
            2 => {
                let hops = vec![b"hop".to_vec(); self.pick(&[1, 63, 64, 65, 200])];
                self.parts(framing, [hops, vec![Vec::new(), LIE.into()]].concat())
            }
            3 => {
                let frames = match self.random.u32(..100) {
                    0 => 100_000,
                    _ => self.pick(&[63, 64, 65, 255, 1000]),
                };
                self.parts(framing, vec![Vec::new(); frames])
            }
            // Without an end.
            4 => self.frame(framing, MORE, LIE).repeat(self.pick(&[1, 10, 300])),
            5 => {
                let (flags, body) = (self.random.u8(..), self.body());
                self.frame(framing, flags, &body)
            }
            6 | 7 => self.false_size(framing),
            8 => {
                let length = match self.random.u32(..20) {
                    0 => self.pick(&[(1 << 20) - 1, 1 << 20, (1 << 20) + 1]),
                    _ => self.pick(&[255, 256, 8191, 8192, 8193, 65_536]),
                };
                let body = [LIE, &vec![b'x'; length - LIE.len()]].concat();
                self.parts(framing, vec![Vec::new(), body])
            }
            // Between the parts of a message.
            9 => {
                let (head, command, rest) = (self.body(), self.command(), self.body());
                let head = self.frame(framing, MORE, &head);
                let flags = self.pick(&[COMMAND, COMMAND | MORE]);
                let command = self.frame(framing, flags, &command);
                [head, command, self.frame(framing, 0, &rest)].concat()
            }
            _ => {
                let command = self.command();
                self.frame(framing, COMMAND, &command)
            }
        }
    }

    /// Returns the frames before a body. Of a worker's reply the first is the name of a request,
    /// which may be guessed.
    fn envelope(&mut self) -> Vec<Vec<u8>> {
        if self.front == Front::Client {
            return if self.one_in(4) { vec![self.noise(4), Vec::new()] } else { vec![Vec::new()] };
        }
        let slot = self.random.u32(..4);
        let turn = self.random.u32(..4 + self.number.min(100_000) as u32);
        let ticket = match self.random.u32(..6) {
            0 => self.noise(8),
            1 => self.noise(5),
            _ => [slot.to_be_bytes(), turn.to_be_bytes()].concat(),
        };
        vec![ticket, Vec::new()]
    }

    fn body(&mut self) -> Vec<u8> {
        let length = self.pick(&[0, 0, 1, 10, 29, 30, 33, 34, 64, 251, 252, 253, 300]);
        [LIE, &self.noise(length)].concat()
    }

    fn parts(&mut self, framing: Framing, parts: Vec<Vec<u8>>) -> Vec<u8> {
        let last = parts.len() - 1;
        let frames = parts.iter().enumerate();
        let frames = frames
            .map(|(place, part)| self.frame(framing, if place < last { MORE } else { 0 }, part));
        frames.collect::<Vec<_>>().concat()
    }

    /// Writes a frame. The long form may be used for any length.
    fn frame(&mut self, framing: Framing, flags: u8, body: &[u8]) -> Vec<u8> {
        let long = self.one_in(20);
        [header(framing, flags, body.len() as u64, long), body.into()].concat()
    }

    /// Writes a frame that is shorter or longer than it says.
    fn false_size(&mut self, framing: Framing) -> Vec<u8> {
        let body = self.body();
        let length = body.len() as u64;
        let size = match self.random.u32(..3) {
            0 => self.pick(&[0, 1, length - 1, length + 1, 255, 256]),
            1 => {
                self.pick(&[1 << 20, (1 << 20) + 1, (4 << 20) + 1, 1 << 31, (1 << 32) - 1, 1 << 40])
            }
            _ => {
                let large = self.pick(&[1 << 62, 1 << 63, u64::MAX - 63, u64::MAX]);
                large.saturating_add(self.random.u64(..64))
            }
        };
        let (flags, long) = (self.random.u8(..8), self.one_in(2));
        [header(framing, flags, size, long), body].concat()
    }

    /// Changes a few of the bytes, or how many there are.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.pick(&[1, 1, 1, 2, 3]) {
            // Most of what matters is said at first.
            let within = if self.one_in(2) { bytes.len().min(120) } else { bytes.len() };
            let place = self.random.usize(..=within);
            let next = bytes.len().min(place + self.random.usize(..20));
            match self.random.u32(..8) {
                0..4 => bytes.truncate(place),
                4 if place < bytes.len() => bytes[place] ^= 1 << self.random.u8(..8),
                5 if place < bytes.len() => bytes[place] = self.pick(&[0, 1, 0x7f, 0x80, 0xff]),
                6 => drop(bytes.drain(place..next)),
                _ => {
                    let noise = self.noise(next - place);
                    drop(bytes.splice(place..place, noise));
                }
            }
        }
    }

    fn delivery(&mut self, bytes: Vec<u8>) -> Vec<Step> {
        let mut steps = match self.random.u32(..20) {
            0..3 => {
                let (slowly, rest) = bytes.split_at(bytes.len().min(300));
                vec![Step::Trickle(slowly.into()), Step::Send(rest.into())]
            }
            3..8 => {
                let cut = self.random.usize(..=bytes.len());
                let (first, second) = bytes.split_at(cut);
                let time = Duration::from_micros(self.random.u64(..3000));
                let read = Step::Read(usize::MAX, time);
                let between = if self.one_in(2) { Step::Pause(time) } else { read };
                vec![Step::Send(first.into()), between, Step::Send(second.into())]
            }
            _ => vec![Step::Send(bytes)],
        };
        if self.one_in(8) {
            steps.push(Step::Read(usize::MAX, Duration::from_millis(2)));
        }
        steps
    }

    fn end(&mut self) -> End {
        self.pick(&[
            End::Finish,
            End::Finish,
            End::Finish,
            End::Close,
            End::Reset,
            End::Hold,
            End::Hold,
        ])
    }
}

fn header(framing: Framing, flags: u8, size: u64, long: bool) -> Vec<u8> {
    match framing {
        Framing::V1 if long || size >= 254 => {
            [&[0xff][..], &size.wrapping_add(1).to_be_bytes(), &[flags]].concat()
        }
        Framing::V1 => vec![size as u8 + 1, flags],
        Framing::V2 if long || size > 255 => [&[flags | LONG][..], &size.to_be_bytes()].concat(),
        Framing::V2 => vec![flags, size as u8],
    }
}

#[test]
fn a_script_is_a_function_of_its_seed() {
    for front in [Front::Client, Front::Worker] {
        for number in 0..100 {
            assert_eq!(script(1, number, front), script(1, number, front));
            assert_ne!(script(1, number, front), script(2, number, front));
        }
    }
}
