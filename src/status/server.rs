//! The thread that shows how a service is doing. Whatever becomes of it, requests are answered.

use std::io::{self, ErrorKind, PipeReader, PipeWriter, pipe};
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use log::{info, warn};
use nix::poll::{PollFd, PollFlags};

use super::connection::Connection;
use super::observer::Observer;
use super::probe::Probe;
use super::report::Facts;
use super::views::Views;
use crate::endpoint::{Listener, SocketFile};
use crate::error::Error;
use crate::socket::AcceptCheck;
use crate::sys::fd::{poll, set_nonblocking};

/// Maximum number of connections. For one more the oldest is ended: whoever is quick is served,
/// however many are slow.
pub(crate) const MAX_CONNECTIONS: usize = 32;

/// Time for which none is accepted when the system has refused to.
const PAUSE: Duration = Duration::from_millis(100);

/// The thread. Dropping it ends the thread, and waits for that.
pub(crate) struct StatusServer {
    /// Closed to end it.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
    endpoint: String,
}

impl StatusServer {
    /// Starts it. `accept_check` says from where it may be read, besides this machine.
    ///
    /// # Errors
    /// An endpoint that cannot be listened on, or too few threads or open files.
    pub fn start(
        listener: Listener,
        accept_check: Option<Arc<AcceptCheck>>,
        probe: Probe,
        facts: Facts,
    ) -> Result<StatusServer, Error> {
        listener.listen()?;
        let cannot = |error| Error::of_system("cannot start the status server", error);
        let (stopping, stop) = pipe().map_err(cannot)?;
        let name = listener.endpoint.to_string();
        let (listening, file) = Listening::of(listener).map_err(cannot)?;
        let endpoint = listening.endpoint().unwrap_or(name);
        let views = Views::new(Observer::new(probe, facts));
        let mut server = Server {
            stopping,
            listening,
            accept_check,
            accept_at: Instant::now(),
            connections: Vec::new(),
            views,
        };
        let body = move || {
            let _file: Option<SocketFile> = file;
            if let Err(error) = server.run() {
                warn!("the status server has ended: {error}");
            }
        };
        let thread = Builder::new().name("status".into()).spawn(body).map_err(cannot)?;
        info!("status at {endpoint}");
        Ok(StatusServer { stop: Some(stop), thread: Some(thread), endpoint })
    }

    /// Returns the endpoint as the system has it, with the port that it chose.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        self.stop = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The socket that readers connect to.
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    fn of(listener: Listener) -> io::Result<(Listening, Option<SocketFile>)> {
        let is_tcp = listener.is_tcp();
        let Listener { fd, file, .. } = listener;
        set_nonblocking(&fd)?;
        let listening = if is_tcp { Listening::Tcp(fd.into()) } else { Listening::Unix(fd.into()) };
        Ok((listening, file))
    }

    fn endpoint(&self) -> Option<String> {
        match self {
            Listening::Tcp(listener) => Some(format!("tcp://{}", listener.local_addr().ok()?)),
            Listening::Unix(_) => None,
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listening::Tcp(listener) => listener.as_fd(),
            Listening::Unix(listener) => listener.as_fd(),
        }
    }

    /// Accepts a connection; returns its address too if it has one.
    fn accept(&self) -> io::Result<(OwnedFd, Option<IpAddr>)> {
        match self {
            Listening::Tcp(listener) => {
                listener.accept().map(|(stream, address)| (stream.into(), Some(address.ip())))
            }
            Listening::Unix(listener) => listener.accept().map(|(stream, _)| (stream.into(), None)),
        }
    }
}

struct Server {
    /// Readable once the server is to end.
    stopping: PipeReader,
    listening: Listening,
    accept_check: Option<Arc<AcceptCheck>>,
    accept_at: Instant,
    /// The oldest first.
    connections: Vec<Connection>,
    views: Views,
}

impl Server {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready[0] {
                return Ok(());
            }
            let now = Instant::now();
            if now >= self.views.observer().sample_at() {
                self.views.observer().sample(now);
            }
            let mut is_ready = ready[2..].iter();
            let views = &mut self.views;
            self.connections.retain_mut(|connection| {
                let is_kept = is_ready.next() != Some(&true)
                    || connection.advance(|request| views.respond(request));
                is_kept && now < connection.ends_at
            });
            if ready[1] && now >= self.accept_at {
                self.accept(now);
            }
        }
    }

    /// Waits until there is something to do. Returns what is ready: the end, the listener, and each
    /// connection.
    fn wait(&mut self) -> io::Result<Vec<bool>> {
        let now = Instant::now();
        let is_accepting = now >= self.accept_at;
        let times = self.connections.iter().map(|connection| connection.ends_at);
        let times = times.chain([self.views.observer().sample_at()]);
        let next = times.chain((!is_accepting).then_some(self.accept_at)).min();
        let accepting = if is_accepting { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut items = vec![
            PollFd::new(self.stopping.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listening.as_fd(), accepting),
        ];
        items.extend(self.connections.iter().map(|connection| {
            let (fd, events) = connection.watched();
            PollFd::new(fd, events)
        }));
        poll(&mut items, next.map(|next| next.saturating_duration_since(now)))?;
        Ok(items.iter().map(|item| item.any() == Some(true)).collect())
    }

    /// Accepts the connections that wait.
    fn accept(&mut self, now: Instant) {
        for _ in 0..MAX_CONNECTIONS {
            match self.listening.accept() {
                Ok((socket, address)) => {
                    if self.lets_in(address) && set_nonblocking(&socket).is_ok() {
                        if self.connections.len() >= MAX_CONNECTIONS {
                            self.connections.remove(0);
                        }
                        self.connections.push(Connection::new(socket, now));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // It ended before it was accepted, and the like: accept(2).
                Err(_) => {
                    self.accept_at = now + PAUSE;
                    return;
                }
            }
        }
    }

    fn lets_in(&self, address: Option<IpAddr>) -> bool {
        let (Some(check), Some(address)) = (&self.accept_check, address) else { return true };
        address.to_canonical().is_loopback() || check(address)
    }
}
