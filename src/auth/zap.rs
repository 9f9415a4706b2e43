//! The ZAP handler (ZeroMQ RFC 27): libzmq asks it about each client that has shown its key.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime};

use log::{error, info, warn};

use super::access::Access;
use super::guard::Decision;
use super::identity::parse_address;
use super::key::PublicKey;
use crate::error::Error;
use crate::frame::Frame;
use crate::logging::Event;
use crate::socket::{Context, PollSet, Socket, readable};
use crate::sys::fd::set_nonblocking;

/// Where libzmq looks for it (RFC 27).
pub(crate) const ENDPOINT: &str = "inproc://zeromq.zap.01";

/// Maximum time between two looks at the clock while keys are to expire: it may be set meanwhile.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);

/// The thread that answers, and reads the lists again when it is told to. Who was let in is not asked
/// about again, so it is in nobody's way.
pub(crate) struct ZapHandler {
    context: Context,
    thread: Option<JoinHandle<Result<(), Error>>>,
    ended: PipeReader,
    changed: PipeReader,
}

/// What wakes the thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    Request,
    Reload,
}

impl ZapHandler {
    /// Starts it: before any socket of that context listens with keys. It reads the lists again
    /// whenever something comes over `reload`.
    ///
    /// # Errors
    /// Too few threads or descriptors.
    pub fn start(
        context: &Context,
        access: Arc<Access>,
        reload: PipeReader,
    ) -> Result<ZapHandler, Error> {
        let cannot = |error| Error::of_system("cannot start the check of keys", error);
        let (ended, ending) = pipe().map_err(cannot)?;
        let (changed, change) = pipe().map_err(cannot)?;
        for end in [change.as_fd(), changed.as_fd(), reload.as_fd()] {
            set_nonblocking(end).map_err(cannot)?;
        }
        let (ready, is_ready) = channel();
        let (context, own) = (context.clone(), context.clone());
        let body = move || {
            // Closed however the thread ends.
            let _ending: PipeWriter = ending;
            let socket = own.zap_handler(ENDPOINT)?;
            let _ = ready.send(());
            drop((ready, own));
            Answering { socket, access, reload, change }.run()
        };
        let thread = Builder::new().name("zap".into()).spawn(body).map_err(cannot)?;
        let handler = ZapHandler { context, thread: Some(thread), ended, changed };
        match is_ready.recv() {
            Ok(()) => Ok(handler),
            Err(_) => {
                let error = Error::failed("the check of keys has ended");
                Err(handler.end().err().unwrap_or(error))
            }
        }
    }

    /// Returns what becomes readable when it has ended.
    pub fn ended(&self) -> &PipeReader {
        &self.ended
    }

    /// Returns what becomes readable when who may connect has changed. It does not block.
    pub fn changed(&self) -> &PipeReader {
        &self.changed
    }

    /// Shuts its context down, and waits until it has ended.
    ///
    /// # Errors
    /// Why it had ended before.
    pub fn end(mut self) -> Result<(), Error> {
        self.join()
    }

    fn join(&mut self) -> Result<(), Error> {
        self.context.shutdown();
        let thread = self.thread.take().map_or(Ok(Ok(())), JoinHandle::join);
        thread.unwrap_or_else(|_| Err(Error::failed("the check of keys panicked")))
    }
}

/// Of a service that did not start.
impl Drop for ZapHandler {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

/// What the thread works with.
struct Answering {
    socket: Socket,
    access: Arc<Access>,
    reload: PipeReader,
    change: PipeWriter,
}

impl Answering {
    /// Answers until the context is shut down.
    fn run(self) -> Result<(), Error> {
        let Answering { socket, access, reload, change } = &self;
        let mut request = Vec::new();
        let mut seen = SystemTime::now();
        let mut expires_at = access.next_expiry(seen);
        loop {
            let mut poll = PollSet::with_capacity(2);
            poll.add(Wake::Request, [socket.readable()]);
            poll.add(Wake::Reload, [readable(reload)]);
            poll.wait(expires_at.map(|at| {
                let left = at.duration_since(SystemTime::now()).unwrap_or_default();
                left.min(CLOCK_INTERVAL)
            }))?;
            let is_told = poll.is_readable(Wake::Reload);
            drop(poll);
            if is_told {
                self.reload();
            }
            let now = SystemTime::now();
            let is_due = is_told || expires_at.is_some_and(|at| at <= now);
            if is_due {
                // A full pipe says as much, and one that is closed that the service ends.
                let _ = (&mut &*change).write(&[0]);
            }
            // If the clock was set back, keys are valid again, and expire once more.
            if is_due || now < seen {
                expires_at = access.next_expiry(now);
            }
            seen = now;
            while socket.try_recv_message(&mut request)? {
                let mut reply = answer(&request, access, now);
                socket.send_message(&mut reply)?;
                request.clear();
            }
            if socket.is_shut_down() {
                return Ok(());
            }
        }
    }

    /// Reads the lists again.
    fn reload(&self) {
        // However often it was told to.
        while (&mut &self.reload).read(&mut [0; 64]).is_ok_and(|length| length == 64) {}
        match self.access.reload() {
            Ok(lists) => info!(event = Event::Reload; "read the lists again: {lists}"),
            Err(error) => {
                error!(event = Event::Reload; "{error:#}; the lists stay as they were");
            }
        }
    }
}

/// Returns the reply to a request; each request has one.
fn answer(request: &[Frame], access: &Access, now: SystemTime) -> [Frame; 6] {
    let id = request.get(1).cloned().unwrap_or_default();
    let (code, text, user_id) = match Request::parse(request) {
        None => ("500", "not a ZAP request", String::new()),
        Some(request) => match access.decide(request.domain, &request.key, request.address, now) {
            Decision::LetIn(identity) => ("200", "", identity.to_string()),
            Decision::Refused(why) => {
                let peer = request.address.map(|address| address.to_canonical().to_string());
                warn!(event = Event::Refused, peer = peer; "{why}");
                ("400", "refused", String::new())
            }
            Decision::RefusedAgain => ("400", "refused", String::new()),
        },
    };
    let metadata = Frame::default();
    [Frame::from(VERSION), id, Frame::from(code), Frame::from(text), Frame::from(user_id), metadata]
}

const VERSION: &str = "1.0";

/// What libzmq asks.
struct Request<'a> {
    domain: &'a [u8],
    /// `None` on a transport that has none.
    address: Option<IpAddr>,
    key: PublicKey,
}

impl Request<'_> {
    fn parse(frames: &[Frame]) -> Option<Request<'_>> {
        let [version, _id, domain, address, _routing_id, mechanism, key] = frames else {
            return None;
        };
        if &version[..] != VERSION.as_bytes() || &mechanism[..] != b"CURVE" {
            return None;
        }
        let address = str::from_utf8(address).ok().and_then(parse_address);
        Some(Request { domain, address, key: PublicKey::from_bytes(key)? })
    }
}
