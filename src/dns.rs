//! A client of DNS, for what the system's look-up does not tell: SRV records (RFC 2782), and for how
//! long they hold.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

#[cfg(any(test, fuzzing))]
pub use message::fuzz::dns_reply;
use message::{Query, Reply};
pub(crate) use message::{Srv, SrvSet, is_name};
use servers::Servers;

mod message;
mod servers;

/// Maximum size of a reply over UDP that is read, in bytes. A server should send 512 at most (RFC 1035,
/// section 4.2.1).
const MAX_DATAGRAM: usize = 4096;

/// Maximum size of a reply over TCP, in bytes. Read, it takes more: a name in it may be two bytes that
/// stand for 255.
const MAX_MESSAGE: usize = 16 << 10;

/// Returns the SRV records of an absolute name, whether it ends with a dot or not.
///
/// # Errors
/// The reason why there are none.
pub(crate) fn look_up_srv(name: &str) -> Result<SrvSet, String> {
    ask_all(name, &Servers::of_system())
}

/// Asks one name server after the other, and all of them as often as they say.
fn ask_all(name: &str, servers: &Servers) -> Result<SrvSet, String> {
    let mut why = String::new();
    for server in (0..servers.attempts).flat_map(|_| &servers.addresses) {
        // Of each try its own, so that nobody who is not asked can answer.
        let query = Query::new(name, RandomState::new().hash_one(()) as u16);
        why = match ask(&query, *server, servers.timeout) {
            Ok(Reply::Records(records)) => return Ok(records),
            Ok(Reply::None) => return Err("it has no SRV records".into()),
            Ok(Reply::Refused(code)) => {
                format!("the name server {} refuses: {code:?}", server.ip())
            }
            Ok(Reply::Truncated) => format!("the name server {} cuts its answers", server.ip()),
            Err(error) => format!("the name server {} does not answer: {error}", server.ip()),
        };
    }
    Err(why)
}

/// Asks a name server, over TCP if the answer is too long for UDP.
fn ask(query: &Query, server: SocketAddr, timeout: Duration) -> io::Result<Reply> {
    match ask_udp(query, server, Instant::now() + timeout)? {
        Reply::Truncated => ask_tcp(query, server, Instant::now() + timeout),
        reply => Ok(reply),
    }
}

fn ask_udp(query: &Query, server: SocketAddr, ends: Instant) -> io::Result<Reply> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    // The system chooses a port at random, and takes datagrams of this server alone.
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.send(query.bytes())?;
    let mut datagram = [0; MAX_DATAGRAM];
    loop {
        socket.set_read_timeout(Some(left(ends)?))?;
        let length = socket.recv(&mut datagram).map_err(in_time)?;
        if let Some(reply) = query.read(&datagram[..length]) {
            return Ok(reply);
        }
        // What is no answer to this may be from somebody else: the server's may still come.
    }
}

/// Asks over TCP, where a length is in front of each message (RFC 7766, section 8).
fn ask_tcp(query: &Query, server: SocketAddr, ends: Instant) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&server, left(ends)?).map_err(in_time)?;
    stream.set_write_timeout(Some(left(ends)?))?;
    let length = (query.bytes().len() as u16).to_be_bytes();
    stream.write_all(&[&length, query.bytes()].concat()).map_err(in_time)?;
    let mut length = [0; 2];
    read_exact(&mut stream, &mut length, ends)?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX_MESSAGE {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let mut message = vec![0; length];
    read_exact(&mut stream, &mut message, ends)?;
    let reply = query.read(&message).filter(|reply| !matches!(reply, Reply::Truncated));
    reply.ok_or_else(|| ErrorKind::InvalidData.into())
}

/// Fills the buffer, however slowly its bytes come, but not after `ends`.
fn read_exact(stream: &mut TcpStream, mut buffer: &mut [u8], ends: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(ends)?))?;
        match stream.read(buffer).map_err(in_time)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => buffer = &mut buffer[length..],
        }
    }
    Ok(())
}

/// Returns the time until `ends`.
///
/// # Errors
/// It has passed.
fn left(ends: Instant) -> io::Result<Duration> {
    let left = ends.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Returns an error that says what it is that the time is over.
fn in_time(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests;
