//! The ROUTER to which workers connect. It says that it is a DEALER, tells who comes and goes, and
//! chooses who gets a message.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::{debug, info};

use super::External;
use crate::auth::{Access, WORKERS};
use crate::backend::reply;
use crate::config::Config;
use crate::endpoint::{Listener, SocketFile};
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::{Context, Refusals, Socket, Watched};

/// Least time between two looks at which connections were refused. The last look is when the loop
/// next wakes.
const REFUSALS_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Door {
    socket: Rc<Socket>,
    /// The lane of each worker, by its routing id.
    lanes: HashMap<Vec<u8>, usize>,
    max_outstanding: usize,
    reply_limits: reply::Limits,
    refusals: Refusals,
    refusals_at: Instant,
    /// Of ipc endpoints; removed in the end.
    _files: Vec<SocketFile>,
}

impl Door {
    /// Lets workers connect to these endpoints.
    ///
    /// # Errors
    /// An endpoint that cannot be listened on.
    pub fn open(
        context: &Context,
        listeners: Vec<Listener>,
        access: Option<&Access>,
        config: &Config,
    ) -> Result<Door, Error> {
        listeners.iter().try_for_each(Listener::listen)?;
        let socket = context.workers(&config.peer_limits())?;
        let keys = access.map(|access| access.server_keys(WORKERS));
        let (endpoints, files) = socket.listen(listeners, keys)?;
        endpoints.iter().for_each(|endpoint| info!("workers connect to {endpoint}"));
        Ok(Door {
            socket: Rc::new(socket),
            lanes: HashMap::new(),
            max_outstanding: config.max_outstanding,
            reply_limits: reply::Limits::of(config),
            refusals: Refusals::new("REP worker", access.is_some()),
            refusals_at: Instant::now(),
            _files: files,
        })
    }

    pub fn readable(&self) -> Watched<'_> {
        self.socket.readable()
    }

    /// Returns true if a call of this may give something without another wait.
    pub fn may_have_more(&self) -> bool {
        self.socket.may_have_more()
    }

    /// Returns the next worker that has come, if there is one. [`Door::enter`] is to be told its lane.
    pub fn next_come(&mut self, now: Instant) -> Result<Option<External>, Error> {
        Ok(self.socket.next_come()?.map(|newcomer| {
            let socket = Rc::clone(&self.socket);
            External::new(socket, newcomer, self.max_outstanding, self.reply_limits, now)
        }))
    }

    /// Takes account of the lane that a worker has got.
    pub fn enter(&mut self, worker: &External, lane: usize) {
        info!("{}: connected", worker.name());
        self.lanes.insert(worker.routing_id().into(), lane);
    }

    /// Returns the lane of the next worker that has gone, if there is one.
    pub fn next_gone(&mut self) -> Result<Option<usize>, Error> {
        while let Some(routing_id) = self.socket.next_gone()? {
            // One may have come and gone between two looks.
            if let Some(lane) = self.lanes.remove(&routing_id) {
                return Ok(Some(lane));
            }
        }
        Ok(None)
    }

    /// Tells the log which connections were refused, if it is time for that.
    pub fn log_refusals(&mut self, now: Instant) -> Result<(), Error> {
        if now >= self.refusals_at {
            self.refusals.log_new("backend: ", &self.socket, true)?;
            self.refusals_at = now + REFUSALS_INTERVAL;
        }
        Ok(())
    }

    /// Receives the next message of a worker into `message`; returns the worker's lane, or `None` if
    /// there is no message.
    pub fn next_message(&mut self, message: &mut Vec<Frame>) -> Result<Option<usize>, Error> {
        let mut routing_id = Frame::default();
        loop {
            message.clear();
            if !self.socket.try_recv_frame(&mut routing_id)? {
                return Ok(None);
            }
            self.socket.try_recv_message(message)?;
            match self.lanes.get(&routing_id[..]) {
                Some(lane) => return Ok(Some(*lane)),
                None => {
                    debug!("backend: message dropped: it is from a worker that was asked nothing")
                }
            }
        }
    }
}
