//! What systemd and a service of it tell each other: sd_notify(3), sd_watchdog_enabled(3) and
//! sd_listen_fds(3).
#![allow(unsafe_code)]

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::time::{ClockId, clock_gettime};

use super::fd::set_nonblocking;

/// Where the service manager hears of this process.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Returns it if the service manager wants to hear of this process.
    ///
    /// # Errors
    /// An address that is none, or too few open files.
    pub fn from_environment() -> io::Result<Option<Notifier>> {
        env::var_os("NOTIFY_SOCKET").map(|address| Notifier::to(&address)).transpose()
    }

    /// Returns one that tells who listens at that address.
    pub fn to(address: &OsStr) -> io::Result<Notifier> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        // Who listens there may have stopped reading.
        socket.set_nonblocking(true)?;
        Ok(Notifier { socket, address })
    }

    /// Sends lines `NAME=VALUE`, without waiting.
    pub fn send(&self, lines: &str) -> io::Result<()> {
        self.socket.send_to_addr(lines.as_bytes(), &self.address).map(drop)
    }
}

/// Returns the time within which the service manager wants to hear of this process again and again;
/// `None` if it does not.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    let microseconds = env::var("WATCHDOG_USEC").ok()?.parse().ok().filter(|it| *it > 0)?;
    let pid = env::var("WATCHDOG_PID").ok();
    let is_meant = pid.is_none_or(|pid| pid.parse() == Ok(process::id()));
    is_meant.then(|| Duration::from_micros(microseconds))
}

/// Returns the time of CLOCK_MONOTONIC in microseconds.
pub(crate) fn monotonic_microseconds() -> i128 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.map_or(0, |now| now.as_micros() as i128)
}

/// The first of the descriptors that are handed over: SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;

/// The most of them that are looked at.
const MAX_DESCRIPTORS: RawFd = 4096;

/// Returns true if the service manager has handed over descriptors.
pub(crate) fn has_descriptors() -> bool {
    descriptors() > 0
}

/// Returns the number of descriptors that were handed over.
fn descriptors() -> RawFd {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(process::id()) {
        return 0;
    }
    number("LISTEN_FDS")
        .map_or(0, |number| RawFd::try_from(number).unwrap_or(RawFd::MAX))
        .min(MAX_DESCRIPTORS)
}

/// Returns the names of the descriptors that were handed over, in their order. One without a name is
/// called "unknown", as sd_listen_fds(3) says.
pub(crate) fn names() -> Vec<String> {
    let text = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let given = text.split(':').filter(|_| !text.is_empty());
    let names = given.map(String::from).chain(std::iter::repeat("unknown".into()));
    names.take(descriptors() as usize).collect()
}

/// Returns another descriptor of each that was handed over under that name. They block nobody, and
/// programs do not inherit them.
///
/// # Errors
/// One that is not open, or too few open files.
pub(crate) fn named(name: &str) -> io::Result<Vec<OwnedFd>> {
    let named = (FIRST..).zip(names()).filter(|(_, its)| its == name);
    named.map(|(number, _)| duplicate(number)).collect()
}

fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: the number is not -1, and the borrow ends with this function. Whoever has set
    // LISTEN_PID to this process has left the descriptors to it, and nothing here closes them; if one
    // was never open, the calls fail.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let own = fd.try_clone_to_owned()?;
    set_nonblocking(&own)?;
    Ok(own)
}
