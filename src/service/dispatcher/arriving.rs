//! Requests that arrive: taken into the queue or for a lane, or refused, and why.

use std::time::{Duration, Instant};

use super::{Change, Dispatcher, all_unavailable};
use crate::backend::{LaneState, Ticket};
use crate::fault::{Code, Fault};
use crate::frame::Frame;
use crate::service::clients::ClientId;
use crate::service::handshake::Handshake;
use crate::service::request::{Place, Request};

impl Dispatcher {
    /// Takes a request, by swapping buffers, so that nothing is allocated. Returns where it is: in
    /// the queue, or about to be sent. `handshake` tells what its client has said when it connected;
    /// it is asked once of each client.
    ///
    /// # Errors
    /// The fault that its client is told, if the request is refused.
    pub fn on_request(
        &mut self,
        request: &mut Request,
        handshake: impl FnOnce(&mut Frame) -> Handshake,
        lanes: &[impl LaneState],
        now: Instant,
    ) -> Result<Place, Fault> {
        if self.is_draining {
            return Err(Fault::stopping());
        }
        if let Some(fault) = self.refusal(lanes, now) {
            return Err(fault);
        }
        if std::mem::take(&mut self.is_refusing) {
            self.changes.push_back(Change::Answering);
        }
        if request.patience == Some(Duration::ZERO) {
            return Err(Fault::timeout());
        }
        let [routing_id, ..] = &mut request.envelope[..] else { return Ok(Place::Queue) };
        let client = self.enter(routing_id, handshake);
        if self.clients.is_dismissed(client) {
            return Err(Fault::not_listed());
        }
        let &Handshake { is_req, patience, .. } = self.clients.handshake(client);
        if is_req {
            // Also if this one is refused: its client does not wait for the one before.
            self.withdraw_queued(client, now);
        }
        self.clients.admit(client, request.bytes, now)?;
        request.patience = request.patience.into_iter().chain(patience).min();
        let is_next = self.queue.is_empty() && self.waiting.is_empty();
        if is_next && self.recent.has_capacity(lanes, now) {
            let ticket = self.in_flight.insert(request, client, Place::Waiting, now);
            self.queue.on_served(client);
            self.waiting.push_back(ticket);
            Ok(Place::Waiting)
        } else {
            let ticket = self.in_flight.insert(request, client, Place::Queue, now);
            self.queue.set_prefers_newest(client, self.clients.asks_too_much(client));
            self.queue.push(client, ticket, now);
            Ok(Place::Queue)
        }
    }

    /// Counts a request that is answered as soon as it is read.
    pub fn count_at_once(
        &mut self,
        routing_id: &mut Frame,
        handshake: impl FnOnce(&mut Frame) -> Handshake,
    ) {
        let client = self.enter(routing_id, handshake);
        self.clients.count_at_once(client);
    }

    fn enter(
        &mut self,
        routing_id: &mut Frame,
        handshake: impl FnOnce(&mut Frame) -> Handshake,
    ) -> ClientId {
        if let Some(client) = self.clients.find(routing_id) {
            return client;
        }
        let handshake = handshake(routing_id);
        let client = self.clients.insert(routing_id, handshake);
        self.queue.enter(client);
        client
    }

    /// Refuses the requests that come from now on. Returns those in the queue, which are to be
    /// refused too.
    pub fn begin_drain(&mut self, now: Instant) -> Vec<Ticket> {
        self.is_draining = true;
        self.queue.drain(now)
    }

    /// Takes all requests that wait, each with what its client is told, if no lane is available.
    pub fn refuse_waiting(
        &mut self,
        lanes: &[impl LaneState],
        now: Instant,
    ) -> Vec<(Ticket, Fault)> {
        if self.waiting.is_empty() && self.queue.is_empty() {
            return Vec::new();
        }
        let Some(unavailable) = self.refusal(lanes, now) else { return Vec::new() };
        let was_lost = |ticket| self.in_flight.get(ticket).is_some_and(|it| it.again > 0);
        let refused = self.waiting.drain(..).chain(self.queue.drain(now)).map(|ticket| {
            (ticket, if was_lost(ticket) { Fault::lost() } else { unavailable.clone() })
        });
        refused.collect()
    }

    /// Takes account of a change of lanes by itself, so that it is logged before the next request
    /// comes.
    pub fn on_lane_changed(&mut self, lanes: &[impl LaneState], now: Instant) {
        self.refusal(lanes, now);
    }

    /// Takes account of lanes that may be available again, so that it is logged before the next request
    /// comes.
    pub fn on_turn(&mut self, lanes: &[impl LaneState], now: Instant) {
        if self.is_refusing && self.recent.has_capacity(lanes, now) {
            self.is_refusing = false;
            self.changes.push_back(Change::Answering);
        }
    }

    /// Returns what clients are told if no lane is available, and logs that once.
    fn refusal(&mut self, lanes: &[impl LaneState], now: Instant) -> Option<Fault> {
        let why = all_unavailable(lanes, now)?;
        if !std::mem::replace(&mut self.is_refusing, true) {
            self.changes.push_back(Change::Refusing(why));
        }
        Some(Fault::new(Code::UNAVAILABLE, why))
    }
}
