//! The requests that no lane can take yet, and which of them is next. It holds no socket and reads
//! no clock.
//!
//! Clients take turns: who was served least recently comes first, unless the queue stands.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::clients::ClientId;
use crate::backend::Ticket;

#[cfg(test)]
mod tests;
mod turns;

/// The wait that is no sign of overload.
const TARGET: Duration = Duration::from_millis(5);

/// The queue stands if it was never empty and no wait was below [`TARGET`] for that long.
const INTERVAL: Duration = Duration::from_millis(100);

/// Number of clients that are drawn, of whom the one that was served least recently is next: with
/// more of them the turns are more alike, and with fewer they are less in step with the clients.
const DRAWN: usize = 6;

pub(crate) struct Queue {
    /// By [`ClientId::index`].
    lines: Vec<Line>,
    /// Those who have requests here and were never served, by their newest request.
    fresh: BTreeMap<u64, ClientId>,
    /// Those who have requests here and were served, by when that was last; and the same in no
    /// order, to be drawn from.
    served: BTreeMap<u64, ClientId>,
    drawn_from: Vec<ClientId>,
    /// Numbers arrivals and turns.
    count: u64,
    len: usize,
    /// When it was last empty, or a wait below the target.
    calm_at: Instant,
    /// Moving average of the ages of requests that were given up; zero before the first.
    patience: Duration,
    dice: Rng,
    /// The latest throws, from 0 to 1, for the next turn: whether it is of one who was never served,
    /// and who is drawn.
    thrown: [f64; 1 + DRAWN],
}

/// The requests of one client, the oldest first, each with the time at which it came.
#[derive(Default)]
struct Line {
    requests: VecDeque<(Ticket, Instant)>,
    /// Its place in `fresh` or `served`.
    rank: u64,
    was_served: bool,
    /// While the queue stands, its newest request comes first.
    prefers_newest: bool,
    /// Its place in `drawn_from`.
    seat: usize,
}

impl Line {
    /// Removes the next request; `stands` tells that the queue does.
    fn pop(&mut self, stands: bool) -> Option<(Ticket, Instant)> {
        let is_newest = stands && self.prefers_newest;
        if is_newest { self.requests.pop_back() } else { self.requests.pop_front() }
    }
}

impl Queue {
    pub fn new(now: Instant) -> Queue {
        Queue {
            lines: Vec::new(),
            fresh: BTreeMap::new(),
            served: BTreeMap::new(),
            drawn_from: Vec::new(),
            count: 0,
            len: 0,
            calm_at: now,
            patience: Duration::ZERO,
            // The same throws each time, so that a simulation can be repeated.
            dice: Rng::with_seed(0),
            thrown: [0.0; 1 + DRAWN],
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns each request that is here, behind its client's place in a table.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = (usize, Ticket)> {
        self.lines.iter().enumerate().flat_map(|(client, line)| {
            line.requests.iter().map(move |(ticket, _)| (client, *ticket))
        })
    }

    /// Makes place for a client that is new.
    pub fn enter(&mut self, client: ClientId) {
        if self.lines.len() <= client.index() {
            self.lines.resize_with(client.index() + 1, Line::default);
        }
        let line = &mut self.lines[client.index()];
        debug_assert!(line.requests.is_empty(), "its place is in use");
        *line = Line::default();
    }

    /// Says which request of a client comes first while the queue stands: its newest, or its oldest.
    pub fn set_prefers_newest(&mut self, client: ClientId, prefers_newest: bool) {
        self.lines[client.index()].prefers_newest = prefers_newest;
    }

    /// Takes account of a turn that a client had without waiting here.
    pub fn on_served(&mut self, client: ClientId) {
        self.leave(client);
        self.count += 1;
        let line = &mut self.lines[client.index()];
        (line.rank, line.was_served) = (self.count, true);
        self.join(client);
    }

    /// Takes a client out of the order.
    fn leave(&mut self, client: ClientId) {
        let &Line { rank, seat, was_served, ref requests, .. } = &self.lines[client.index()];
        if requests.is_empty() {
            return;
        }
        if !was_served {
            self.fresh.remove(&rank);
            return;
        }
        self.served.remove(&rank);
        self.drawn_from.swap_remove(seat);
        if let Some(moved) = self.drawn_from.get(seat) {
            self.lines[moved.index()].seat = seat;
        }
    }

    /// Puts a client that has requests here in its place.
    fn join(&mut self, client: ClientId) {
        let line = &mut self.lines[client.index()];
        if line.requests.is_empty() {
            return;
        }
        if !line.was_served {
            self.fresh.insert(line.rank, client);
            return;
        }
        line.seat = self.drawn_from.len();
        self.served.insert(line.rank, client);
        self.drawn_from.push(client);
    }

    /// Adds a client's request.
    pub fn push(&mut self, client: ClientId, ticket: Ticket, now: Instant) {
        if self.is_empty() {
            self.calm_at = now;
        }
        self.count += 1;
        let line = &mut self.lines[client.index()];
        if line.was_served && !line.requests.is_empty() {
            // Its place stays.
            line.requests.push_back((ticket, now));
            self.len += 1;
            return;
        }
        self.leave(client);
        let line = &mut self.lines[client.index()];
        line.requests.push_back((ticket, now));
        if !line.was_served {
            line.rank = self.count;
        }
        self.len += 1;
        self.join(client);
    }

    /// Returns the next request, which stays, and the client whose turn it is.
    pub fn peek(&self, now: Instant) -> Option<(ClientId, Ticket)> {
        let client = self.first(now)?;
        let Line { requests, prefers_newest, .. } = &self.lines[client.index()];
        let is_newest = *prefers_newest && self.stands(now);
        let next = if is_newest { requests.back() } else { requests.front() };
        next.map(|(ticket, _)| (client, *ticket))
    }

    /// Removes the next request of the client whose turn it is, by [`Queue::peek`] at the same time.
    pub fn pop(&mut self, client: ClientId, now: Instant) -> Option<Ticket> {
        let stands = self.stands(now);
        // Of one alone the turns need no order.
        let is_alone = self.fresh.is_empty() && self.served.len() == 1;
        if is_alone && self.lines[client.index()].requests.len() > 1 {
            let next = self.lines[client.index()].pop(stands);
            return self.on_popped(next, stands, now);
        }
        self.leave(client);
        if stands {
            self.thrown = std::array::from_fn(|_| self.dice.f64());
        }
        let line = &mut self.lines[client.index()];
        let next = line.pop(stands);
        self.count += 1;
        (line.rank, line.was_served) = (self.count, true);
        self.join(client);
        self.on_popped(next, stands, now)
    }

    fn on_popped(
        &mut self,
        next: Option<(Ticket, Instant)>,
        stands: bool,
        now: Instant,
    ) -> Option<Ticket> {
        let (ticket, since) = next?;
        self.len -= 1;
        // While it stands, the newest may come first: that they have not waited says nothing.
        if self.is_empty() || (!stands && now.saturating_duration_since(since) < TARGET) {
            self.calm_at = now;
        }
        Some(ticket)
    }

    /// Removes a request that is not to be handled any more; it is an old one as a rule.
    pub fn remove(&mut self, client: ClientId, ticket: Ticket, now: Instant) {
        let requests = &self.lines[client.index()].requests;
        let Some(place) = requests.iter().position(|(it, _)| *it == ticket) else { return };
        self.leave(client);
        self.lines[client.index()].requests.remove(place);
        self.join(client);
        self.on_removed(1, now);
    }

    /// Removes all requests of a client, and returns them, the oldest first.
    pub fn remove_all(&mut self, client: ClientId, now: Instant) -> Vec<Ticket> {
        self.leave(client);
        let requests = std::mem::take(&mut self.lines[client.index()].requests);
        self.on_removed(requests.len(), now);
        requests.into_iter().map(|(ticket, _)| ticket).collect()
    }

    fn on_removed(&mut self, requests: usize, now: Instant) {
        self.len -= requests;
        if self.is_empty() {
            self.calm_at = now;
        }
    }

    /// Returns the clients that have requests here.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.fresh.values().chain(self.served.values()).copied()
    }

    /// Returns the oldest request of a client.
    pub fn oldest(&self, client: ClientId) -> Option<Ticket> {
        self.lines[client.index()].requests.front().map(|(ticket, _)| *ticket)
    }

    /// Removes all requests, in no order, and returns them.
    pub fn drain(&mut self, now: Instant) -> Vec<Ticket> {
        let clients: Vec<ClientId> = self.clients().collect();
        clients.into_iter().flat_map(|client| self.remove_all(client, now)).collect()
    }
}
