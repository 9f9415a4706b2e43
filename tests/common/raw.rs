//! A ZMTP peer (RFC 37) that sends what a test tells it to, correct or not.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::LIMIT;

/// Flag: another frame of the same message follows.
pub const MORE: u8 = 1;
/// Flag: the length has eight bytes.
pub const LONG: u8 = 2;
/// Flag: the frame is a command.
pub const COMMAND: u8 = 4;

/// Returns the greeting of ZMTP 3.1 with the mechanism NULL.
pub fn greeting() -> Vec<u8> {
    [b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".to_vec(), vec![0; 48]].concat()
}

/// Returns a frame with these flags, and with its length in one byte if it fits.
pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(length) => [&[flags, length], body].concat(),
        Err(_) => [&[flags | LONG], &(body.len() as u64).to_be_bytes()[..], body].concat(),
    }
}

/// Returns the frame of a command.
pub fn command(name: &str, data: &[u8]) -> Vec<u8> {
    frame(COMMAND, &[&[name.len() as u8], name.as_bytes(), data].concat())
}

/// Returns a property of a READY command.
pub fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u32).to_be_bytes();
    [&[name.len() as u8], name.as_bytes(), &length[..], value].concat()
}

/// Returns the READY of a DEALER with that routing id.
pub fn ready(name: &[u8]) -> Vec<u8> {
    let properties = [property("Socket-Type", b"DEALER"), property("Identity", name)];
    command("READY", &properties.concat())
}

/// Returns what a DEALER with that routing id sends as its handshake, in ZMTP 3.1 and in ZMTP 2.0.
pub fn handshakes(name: &[u8]) -> [Vec<u8>; 2] {
    let older = b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05";
    [[greeting(), ready(name)].concat(), [&older[..], &frame(0, name)].concat()]
}

/// Returns a request of one frame, as a DEALER sends it.
pub fn request(body: &[u8]) -> Vec<u8> {
    [frame(MORE, b""), frame(0, body)].concat()
}

/// A connection that sends nothing by itself.
pub struct Raw(pub TcpStream);

impl Raw {
    pub fn connect(endpoint: &str) -> Raw {
        Raw::from_stream(TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap())
    }

    pub fn from_stream(stream: TcpStream) -> Raw {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw(stream)
    }

    /// Connects and does the handshake of a DEALER with that routing id.
    pub fn dealer(endpoint: &str, name: &[u8]) -> Raw {
        let mut raw = Raw::connect(endpoint);
        raw.become_dealer(name);
        raw
    }

    /// Does the handshake of a DEALER with that routing id.
    pub fn become_dealer(&mut self, name: &[u8]) {
        self.shake_hands(&[property("Socket-Type", b"DEALER"), property("Identity", name)]);
    }

    /// Exchanges greetings, sends a READY with these properties, and waits for the service's.
    pub fn shake_hands(&mut self, properties: &[Vec<u8>]) {
        self.greet();
        self.send(&command("READY", &properties.concat()));
        let (flags, ready) = self.receive().expect("the connection has ended");
        assert!(flags == COMMAND && ready.starts_with(b"\x05READY"), "{flags} {ready:?}");
    }

    /// Sends a greeting and waits for the service's.
    pub fn greet(&mut self) {
        self.send(&greeting());
        self.0.read_exact(&mut [0; 64]).unwrap();
    }

    /// Sends these bytes, unless the service has ended the connection.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Returns the next byte, or `None` if the service has ended the connection.
    pub fn byte(&mut self) -> Option<u8> {
        self.read::<1>().map(|[byte]| byte)
    }

    /// Returns the flags and the body of the next frame, or `None` if the service has ended the
    /// connection.
    pub fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let [flags] = self.read()?;
        let length = match flags & LONG {
            0 => self.read::<1>()?[0].into(),
            _ => u64::from_be_bytes(self.read()?),
        };
        let mut body = vec![0; length as usize];
        is_connected(self.0.read_exact(&mut body)).then_some((flags & !LONG, body))
    }

    /// Returns the frames of the next reply, or `None` if the service has ended the connection.
    pub fn reply(&mut self) -> Option<Vec<Vec<u8>>> {
        assert_eq!(self.receive()?, (MORE, Vec::new()));
        let mut frames = Vec::new();
        loop {
            let (flags, frame) = self.receive()?;
            frames.push(frame);
            if flags & MORE == 0 {
                return Some(frames);
            }
        }
    }

    /// Sends a request of one frame and returns the frames of its reply, or `None` if the service
    /// has ended the connection.
    pub fn ask(&mut self, body: &[u8]) -> Option<Vec<Vec<u8>>> {
        self.send(&request(body));
        self.reply()
    }

    /// Waits until the service has ended the connection, and returns what it has sent until then.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        is_connected(self.0.read_to_end(&mut rest).map(drop));
        rest
    }

    /// Resets the connection, as the system does for a process that crashes with something unread.
    pub fn reset(self) {
        setsockopt(&self.0, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).unwrap();
    }

    fn read<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        is_connected(self.0.read_exact(&mut bytes)).then_some(bytes)
    }
}

/// Returns false if the connection has ended. Fails if `result` is another error, such as a
/// time-out.
fn is_connected(result: std::io::Result<()>) -> bool {
    match result.as_ref().map_err(|error| error.kind()) {
        Ok(()) => true,
        Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => false,
        Err(_) => panic!("waited in vain for the service: {result:?}"),
    }
}
