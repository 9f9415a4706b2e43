//! REP workers, which connect to `--backend`: some stay, others come and go.

use std::sync::Arc;
use std::thread::{sleep, spawn};
use std::time::Duration;

use super::account::{Handled, SLOW, number_of};
use super::common::LIMIT;
use super::run::Run;

/// How long a slow request takes.
const SLOW_TIME: Duration = Duration::from_millis(20);

/// Workers of one service.
pub struct Workers {
    pub endpoint: String,
    pub handled: Handled,
    context: zmq::Context,
}

impl Workers {
    pub fn new(endpoint: String) -> Workers {
        Workers { endpoint, handled: Handled::default(), context: zmq::Context::new() }
    }

    fn connect(&self) -> zmq::Socket {
        let socket = self.context.socket(zmq::REP).unwrap();
        socket.set_linger(0).unwrap();
        socket.connect(&self.endpoint).unwrap();
        socket
    }

    /// Starts a worker that answers for as long as this process runs.
    pub fn start(self: &Arc<Workers>) {
        let workers = Arc::clone(self);
        spawn(move || {
            let socket = workers.connect();
            while workers.answer(&socket).is_ok() {}
        });
    }

    /// Receives a request, which counts as handled.
    fn receive(&self, socket: &zmq::Socket) -> zmq::Result<Vec<u8>> {
        let body = socket.recv_bytes(0)?;
        self.handled.mark(number_of(&body).expect("a number in the body"));
        Ok(body)
    }

    /// Answers a request with itself.
    fn answer(&self, socket: &zmq::Socket) -> zmq::Result<()> {
        let body = self.receive(socket)?;
        if body[0] == SLOW {
            sleep(SLOW_TIME);
        }
        socket.send(body, 0)
    }

    /// Answers a few requests over one connection after the other, and leaves after a reply or, as
    /// one that is killed, with a request.
    pub fn come_and_go(&self, run: &Run) {
        run.repeat(|| {
            let socket = self.connect();
            socket.set_rcvtimeo(200).unwrap();
            let answers = fastrand::usize(..50);
            // Others may have all there is to do.
            let _ = (0..answers).try_for_each(|_| self.answer(&socket));
            if fastrand::bool() {
                let _ = self.receive(&socket);
                run.happened("workers were killed");
            } else {
                socket.set_linger(LIMIT.as_millis() as i32).unwrap();
                run.happened("workers came and went");
            }
        });
    }
}
