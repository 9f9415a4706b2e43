//! The ROUTER that workers connect to. It says that it is a DEALER, tells who comes and goes, and
//! chooses who gets a message.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use log::{debug, info};

use super::External;
use crate::auth::{Access, WORKERS};
use crate::backend::lanes::enter;
use crate::backend::{Lane, reply};
use crate::config::Config;
use crate::endpoint::{Listener, SocketFile};
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::{Context, Refusals, Socket, Watched};

pub(crate) struct Router {
    socket: Rc<Socket>,
    /// The lane of each worker, by its routing id.
    lanes: HashMap<Vec<u8>, usize>,
    max_outstanding: usize,
    reply_limits: reply::Limits,
    refusals: Refusals,
    /// Of ipc endpoints; removed in the end.
    _files: Vec<SocketFile>,
}

impl Router {
    /// Lets workers connect to these endpoints.
    ///
    /// # Errors
    /// An endpoint that cannot be listened on.
    pub fn listen(
        context: &Context,
        listeners: Vec<Listener>,
        access: Option<&Access>,
        config: &Config,
    ) -> Result<Router, Error> {
        listeners.iter().try_for_each(Listener::listen)?;
        let socket = context.workers(&config.peer_limits())?;
        let keys = access.map(|access| access.server_keys(WORKERS));
        let (endpoints, files) = socket.listen(listeners, keys)?;
        endpoints.iter().for_each(|endpoint| info!("workers connect to {endpoint}"));
        Ok(Router {
            socket: Rc::new(socket),
            lanes: HashMap::new(),
            max_outstanding: config.max_outstanding,
            reply_limits: reply::Limits::of(config),
            refusals: Refusals::new("REP worker", access.is_some()),
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

    /// Takes account of the workers that have come and gone since. Returns the lanes of those that have
    /// come.
    pub fn take_changes(
        &mut self,
        lanes: &mut Vec<Lane>,
        now: Instant,
    ) -> Result<Vec<usize>, Error> {
        let mut new = Vec::new();
        while let Some(newcomer) = self.socket.next_come()? {
            let routing_id = newcomer.routing_id.clone();
            let socket = Rc::clone(&self.socket);
            let (max_outstanding, limits) = (self.max_outstanding, self.reply_limits);
            let is_taken = |name: &str| lanes.iter().any(|lane| lane.is_of(name));
            let worker = External::new(socket, newcomer, max_outstanding, limits, is_taken, now);
            info!("{}: connected", worker.name());
            let lane = enter(lanes, Lane::External(worker.into()));
            self.lanes.insert(routing_id, lane);
            new.push(lane);
        }
        while let Some(routing_id) = self.socket.next_gone()? {
            // One may have come and gone between two looks.
            let lane = self.lanes.remove(&routing_id);
            if let Some(Lane::External(worker)) = lane.map(|lane| &mut lanes[lane]) {
                worker.on_gone();
            }
        }
        self.refusals.log_if_due("backend: ", &self.socket, now)?;
        Ok(new)
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
