//! Plays scripts over connections of TCP.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

use crate::common::LIMIT;
use crate::script::{End, Script, Step};

/// How many connections are left open at most, the oldest of which is closed for the next.
const HELD: usize = 16;

/// After which time a service that takes no more bytes is not waited for.
const FULL: Duration = Duration::from_millis(500);

/// Connects again and again, from one address.
pub struct Player {
    service: SocketAddrV4,
    address: Ipv4Addr,
    held: VecDeque<TcpStream>,
}

impl Player {
    pub fn new(endpoint: &str, address: Ipv4Addr) -> Player {
        let service = match endpoint.strip_prefix("tcp://").unwrap().parse().unwrap() {
            SocketAddr::V4(service) => service,
            SocketAddr::V6(service) => panic!("{service} is not of version 4"),
        };
        Player { service, address, held: VecDeque::new() }
    }

    /// Plays one script.
    ///
    /// # Errors
    /// The service could not be connected to, or did not hang up: nothing else is an error here.
    pub fn play(&mut self, script: Script) -> Result<(), String> {
        let mut stream = self.connect().map_err(|error| format!("cannot connect: {error}"))?;
        let mut heard = 0;
        for step in script.steps {
            // A service that has hung up is one that has noticed.
            if take(&mut stream, step, &mut heard).is_err() {
                break;
            }
        }
        match script.end {
            End::Finish => finish(stream),
            End::Close => Ok(()),
            End::Reset => {
                let at_once = linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&stream, sockopt::Linger, &at_once).map_err(|error| error.to_string())
            }
            End::Hold => {
                self.held.push_back(stream);
                let excess = self.held.len().saturating_sub(HELD);
                self.held.drain(..excess);
                Ok(())
            }
        }
    }

    fn connect(&self) -> nix::Result<TcpStream> {
        let inet = AddressFamily::Inet;
        let socket = socket(inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // So that each pair of addresses has all ports.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(self.address, 0)))?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(self.service))?;
        let stream = TcpStream::from(socket);
        setsockopt(&stream, sockopt::TcpNoDelay, &true)?;
        stream.set_write_timeout(Some(FULL)).expect("the time is not zero");
        Ok(stream)
    }
}

/// Takes one step. `heard` is how many bytes have come since the beginning.
fn take(stream: &mut TcpStream, step: Step, heard: &mut usize) -> std::io::Result<()> {
    match step {
        Step::Send(bytes) => stream.write_all(&bytes),
        Step::Trickle(bytes) => bytes.iter().try_for_each(|byte| stream.write_all(&[*byte])),
        Step::Pause(time) => {
            sleep(time);
            Ok(())
        }
        Step::Read(bytes, time) => {
            let end = Instant::now() + time;
            while let Some(left) = end.checked_duration_since(Instant::now())
                && *heard < bytes
            {
                stream.set_read_timeout(Some(left.max(Duration::from_micros(1))))?;
                match stream.read(&mut [0; 65_536]) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(count) => *heard += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
    }
}

/// Waits until the service has read everything and hung up.
fn finish(mut stream: TcpStream) -> Result<(), String> {
    stream.set_read_timeout(Some(LIMIT)).expect("the time is not zero");
    if stream.shutdown(Shutdown::Write).is_err() {
        return Ok(());
    }
    loop {
        match stream.read(&mut [0; 65_536]) {
            Ok(0) => return Ok(()),
            Ok(_) => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err("the service did not hang up on a peer that had finished".into());
            }
            // It was reset, since the service had not read all.
            Err(_) => return Ok(()),
        }
    }
}
