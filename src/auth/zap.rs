//! The ZAP handler (ZeroMQ RFC 27): libzmq asks it about each client that has shown its key.

use std::io::{PipeReader, PipeWriter, pipe};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{Builder, JoinHandle};
use std::time::SystemTime;

use log::warn;

use super::access::{Access, Decision};
use super::key::PublicKey;
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::{Context, Socket};

/// Where libzmq looks for it (RFC 27).
pub(crate) const ENDPOINT: &str = "inproc://zeromq.zap.01";

/// The thread that answers. Who was let in is not asked about again, so it is in nobody's way.
pub(crate) struct ZapHandler {
    context: Context,
    thread: Option<JoinHandle<Result<(), Error>>>,
    ended: PipeReader,
}

impl ZapHandler {
    /// Starts it: before any socket of that context listens with keys.
    ///
    /// # Errors
    /// Too few threads or descriptors.
    pub fn start(context: &Context, access: Arc<Access>) -> Result<ZapHandler, Error> {
        let cannot = |error| Error::of_system("cannot start the check of keys", error);
        let (ended, ending) = pipe().map_err(cannot)?;
        let (ready, is_ready) = channel();
        let (context, own) = (context.clone(), context.clone());
        let body = move || {
            // Closed however the thread ends.
            let _ending: PipeWriter = ending;
            let socket = own.zap_handler(ENDPOINT)?;
            let _ = ready.send(());
            drop((ready, own));
            run(&socket, &access)
        };
        let thread = Builder::new().name("zap".into()).spawn(body).map_err(cannot)?;
        let handler = ZapHandler { context, thread: Some(thread), ended };
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

/// Answers until the context is shut down.
fn run(socket: &Socket, access: &Access) -> Result<(), Error> {
    let mut request = Vec::new();
    while socket.recv_message(&mut request)? {
        let mut reply = answer(&request, access, SystemTime::now());
        socket.send_message(&mut reply)?;
        request.clear();
    }
    Ok(())
}

/// Returns the reply to a request; each request has one.
fn answer(request: &[Frame], access: &Access, now: SystemTime) -> [Frame; 6] {
    let id = request.get(1).cloned().unwrap_or_default();
    let (code, text, name) = match Request::parse(request) {
        None => ("500", "not a ZAP request", String::new()),
        Some(request) => match access.decide(request.domain, &request.key, request.address, now) {
            Decision::LetIn(name) => ("200", "", name.to_string()),
            Decision::Refused(why) => {
                warn!("{why}");
                ("400", "refused", String::new())
            }
            Decision::RefusedAgain => ("400", "refused", String::new()),
        },
    };
    let metadata = Frame::default();
    [Frame::from(VERSION), id, Frame::from(code), Frame::from(text), Frame::from(name), metadata]
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
        // An IPv6 address may have a zone.
        let address = str::from_utf8(address).ok().and_then(|it| it.split('%').next());
        let address = address.and_then(|address| address.parse().ok());
        Some(Request { domain, address, key: PublicKey::from_bytes(key)? })
    }
}
