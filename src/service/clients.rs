//! Who asks: what each client has in the service, and whether it may ask for more. It holds no
//! socket and reads no clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::account::{Account, ClientLimits};
use super::demand::Demand;
use super::handshake::Handshake;
use super::usage::Usages;
use crate::auth::Listed;
use crate::fault::Fault;
use crate::status::Usage;

#[cfg(test)]
mod tests;

/// Names a client as long as it is connected, or something of it is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(u32);

impl ClientId {
    /// Returns its place in a table of clients.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The clients that have asked, by their routing ids.
pub(crate) struct Clients {
    by_routing_id: HashMap<Box<[u8]>, ClientId>,
    /// The one that was found last, which often asks again.
    latest: Option<ClientId>,
    clients: Vec<Client>,
    free: Vec<ClientId>,
    limits: ClientLimits,
    /// The accounts of listed clients, which may have several connections, and their places by name.
    listed: Vec<Account>,
    by_name: HashMap<Arc<str>, usize>,
    usages: Usages,
    /// Bytes that are held for all of them.
    bytes: usize,
}

struct Client {
    routing_id: Box<[u8]>,
    handshake: Handshake,
    account: Account,
    /// The place of its account if it is a listed client.
    listed: Option<usize>,
    /// Its place among the usages.
    usage: usize,
    /// Its connection has ended.
    is_gone: bool,
    /// It is no longer listed: it is refused, and its connection ends once nothing of it is
    /// outstanding.
    is_dismissed: bool,
    /// Number of its requests that were taken and not answered.
    outstanding: usize,
    demand: Demand,
    /// Number of its requests that are held: also those that were answered by their deadline, and
    /// that a lane still has.
    held: usize,
    /// Bytes of these.
    bytes: usize,
}

impl Clients {
    pub fn new(limits: ClientLimits) -> Clients {
        Clients {
            by_routing_id: HashMap::new(),
            latest: None,
            clients: Vec::new(),
            free: Vec::new(),
            limits,
            listed: Vec::new(),
            by_name: HashMap::new(),
            usages: Usages::new(),
            bytes: 0,
        }
    }

    /// Returns the client of that routing id; `None` if it is new.
    pub fn find(&mut self, routing_id: &[u8]) -> Option<ClientId> {
        let latest = self.latest.filter(|id| *self.clients[id.index()].routing_id == *routing_id);
        if latest.is_none() {
            self.latest = self.by_routing_id.get(routing_id).copied();
        }
        self.latest
    }

    /// Inserts a client that is new.
    pub fn insert(&mut self, routing_id: &[u8], handshake: Handshake) -> ClientId {
        let listed = handshake.listed.as_ref().map(|it| self.place_of(it));
        let usage = self.usages.enter(&handshake.who);
        let client = Client {
            routing_id: routing_id.into(),
            handshake,
            account: Account::new(self.limits),
            listed,
            usage,
            is_gone: false,
            is_dismissed: false,
            outstanding: 0,
            demand: Demand::default(),
            held: 0,
            bytes: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.clients[id.index()] = client;
                id
            }
            None => {
                self.clients.push(client);
                ClientId(self.clients.len() as u32 - 1)
            }
        };
        self.by_routing_id.insert(routing_id.into(), id);
        id
    }

    /// Returns the place of a listed client's account. It stays: with a new connection there is no
    /// new allowance.
    fn place_of(&mut self, Listed { name, limits }: &Listed) -> usize {
        *self.by_name.entry(Arc::clone(name)).or_insert_with(|| {
            self.listed.push(Account::new(self.limits.or(limits)));
            self.listed.len() - 1
        })
    }

    /// Has the limits hold from now on that `listed` says, of each client that is still listed.
    pub fn set_limits(&mut self, listed: impl Fn(&str) -> Option<Listed>) {
        for (name, place) in &self.by_name {
            if let Some(Listed { limits, .. }) = listed(name) {
                self.listed[*place].set_limits(self.limits.or(&limits));
            }
        }
    }

    /// Takes account of one more request that a client sends.
    ///
    /// # Errors
    /// The fault that it is told if that is more than it may: the request does not count then.
    pub fn admit(&mut self, id: ClientId, bytes: usize, now: Instant) -> Result<(), Fault> {
        let account = self.account_mut(id);
        let (is_full, admitted) = (account.is_full(), account.admit(now));
        let client = &mut self.clients[id.index()];
        if is_full {
            client.demand.on_too_much();
        }
        self.usages.count(client.usage, admitted.is_err());
        admitted?;
        client.outstanding += 1;
        client.demand.on_asked(client.outstanding);
        client.held += 1;
        client.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Returns the account of a client: the listed client's, or its own.
    fn account_mut(&mut self, id: ClientId) -> &mut Account {
        let client = &mut self.clients[id.index()];
        match client.listed {
            Some(place) => &mut self.listed[place],
            None => &mut client.account,
        }
    }

    /// Takes account of a request that has ended; with `is_held` a lane still has it.
    pub fn on_ended(&mut self, id: ClientId, bytes: usize, is_held: bool) {
        self.account_mut(id).on_ended();
        let client = &mut self.clients[id.index()];
        client.outstanding -= 1;
        client.demand.on_ended(client.outstanding);
        if !is_held {
            self.release(id, bytes);
        }
    }

    /// Takes account of a request that has passed its deadline in the queue.
    pub fn on_overdue(&mut self, id: ClientId) {
        self.clients[id.index()].demand.on_too_much();
    }

    /// Returns true if a client asks for more than it gets, and does not wait for the replies.
    pub fn asks_too_much(&self, id: ClientId) -> bool {
        self.clients[id.index()].demand.is_too_much()
    }

    /// Takes account of a request that is not held any more.
    pub fn release(&mut self, id: ClientId, bytes: usize) {
        let client = &mut self.clients[id.index()];
        client.held -= 1;
        client.bytes -= bytes;
        self.bytes -= bytes;
        self.forget_if_done(id);
    }

    /// Takes account of a client whose connection has ended: who comes under its routing id from now
    /// on is another.
    pub fn on_gone(&mut self, id: ClientId) {
        let client = &mut self.clients[id.index()];
        client.is_gone = true;
        self.usages.leave(client.usage);
        self.by_routing_id.remove(&std::mem::take(&mut client.routing_id));
        self.latest = None;
        self.forget_if_done(id);
    }

    fn forget_if_done(&mut self, id: ClientId) {
        let client = &self.clients[id.index()];
        if client.is_gone && client.held == 0 {
            self.free.push(id);
        }
    }

    /// Counts a request that is answered as soon as it is read, and has no limits.
    pub fn count_at_once(&mut self, id: ClientId) {
        self.usages.count(self.clients[id.index()].usage, false);
    }

    /// Returns what each client has asked for.
    pub fn usages(&self) -> Vec<Usage> {
        self.usages.all()
    }

    pub fn handshake(&self, id: ClientId) -> &Handshake {
        &self.clients[id.index()].handshake
    }

    /// Takes account of a client that is no longer listed.
    pub fn dismiss(&mut self, id: ClientId) {
        self.clients[id.index()].is_dismissed = true;
    }

    pub fn is_dismissed(&self, id: ClientId) -> bool {
        self.clients[id.index()].is_dismissed
    }

    /// Returns the routing id of a REQ that waits for no reply; `None` of another client.
    pub fn idle_req(&self, client: ClientId) -> Option<&[u8]> {
        let client = &self.clients[client.index()];
        let is_idle = client.handshake.is_req && client.outstanding == 0 && !client.is_gone;
        is_idle.then_some(&*client.routing_id)
    }

    /// Returns the number of its requests that were taken and not answered.
    pub fn outstanding(&self, id: ClientId) -> usize {
        self.clients[id.index()].outstanding
    }

    pub fn is_gone(&self, id: ClientId) -> bool {
        self.clients[id.index()].is_gone
    }

    /// Returns the bytes that are held for all clients.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes that are held for one client.
    pub fn bytes_of(&self, id: ClientId) -> usize {
        self.clients[id.index()].bytes
    }
}
