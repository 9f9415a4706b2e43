//! Clients whose connection has ended, or is about to, since they are no longer listed.

use std::time::Instant;

use super::{Change, Dispatcher};
use crate::auth::Listed;
use crate::backend::Ticket;
use crate::service::clients::ClientId;
use crate::service::handshake::Handshake;

impl Dispatcher {
    /// Drops what a client has queued: it does not wait for the replies any more.
    pub(super) fn withdraw_queued(&mut self, client: ClientId, now: Instant) {
        for ticket in self.queue.give_up(client, now) {
            self.end_withdrawn(ticket);
        }
    }

    /// Drops a request that is not in the queue, and on no lane.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        self.waiting.retain(|waiting| *waiting != ticket);
        self.end_withdrawn(ticket);
    }

    pub(super) fn end_withdrawn(&mut self, ticket: Ticket) {
        self.withdrawn += 1;
        let number = self.end(ticket).map(|pending| pending.request.number);
        if self.tells_withdrawn {
            self.changes.extend(number.map(Change::Withdrawn));
        }
    }

    /// Returns how many requests were dropped unhandled, since nobody waits for their replies.
    pub fn withdrawn(&self) -> u64 {
        self.withdrawn
    }

    /// Takes account of the end of a client's connection: what it has asked for is not handled, but
    /// for what a lane has already.
    pub fn on_gone(&mut self, routing_id: &[u8], now: Instant) {
        let Some(client) = self.clients.find(routing_id) else { return };
        self.withdraw_queued(client, now);
        for ticket in self.waiting_of(client) {
            self.withdraw(ticket);
        }
        self.clients.on_gone(client);
    }

    /// Refuses what a client sends from now on, since it is no longer listed. Returns what it has
    /// asked for that no lane has, which is to be refused too.
    pub fn dismiss(&mut self, routing_id: &[u8], now: Instant) -> Vec<Ticket> {
        let Some(client) = self.clients.find(routing_id) else { return Vec::new() };
        self.clients.dismiss(client);
        let mut tickets = self.waiting_of(client);
        tickets.extend(self.queue.remove_all(client, now));
        tickets
    }

    /// Returns what a client has asked for that is about to be sent.
    fn waiting_of(&self, client: ClientId) -> Vec<Ticket> {
        let is_its = |ticket: &Ticket| {
            self.in_flight.get(*ticket).is_some_and(|pending| pending.client == client)
        };
        self.waiting.iter().copied().filter(is_its).collect()
    }

    /// Returns what a client has said when it connected; `None` if it has asked for nothing.
    pub fn handshake(&mut self, routing_id: &[u8]) -> Option<&Handshake> {
        let client = self.clients.find(routing_id)?;
        Some(self.clients.handshake(client))
    }

    /// Returns true if a client has requests outstanding.
    pub fn awaits_reply(&mut self, routing_id: &[u8]) -> bool {
        self.clients.find(routing_id).is_some_and(|client| self.clients.outstanding(client) > 0)
    }

    /// Returns the routing id of a client that may go: a REQ that waits for no reply.
    pub fn idle_req(&self, client: ClientId) -> Option<&[u8]> {
        self.clients.idle_req(client)
    }

    /// Has the limits of listed clients hold from now on that `listed` says.
    pub fn set_limits(&mut self, listed: impl Fn(&str) -> Option<Listed>) {
        self.clients.set_limits(listed);
    }
}
