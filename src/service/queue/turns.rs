//! Whose turn is next, and what is different while the queue stands.
//!
//! While the queue stands, many clients give up before their turn comes, and what is done for one
//! that is about to do so is of no use. So the newest request comes first of a client that asks for
//! more than it gets (of one that waits for its replies, the oldest would never be answered); of the
//! clients that were never served, the newest; and of the others the one that was served least
//! recently among a few, drawn by chance, but for those whose requests are about as old as others
//! were when they were given up. (In strict order the first in line is the one about to give up.)
//! So the service goes on doing useful work at any load (after the adaptive LIFO of "Fail at
//! scale", ACM Queue 13:8; the target and the interval are those of CoDel, RFC 8289, section 3.2).

use std::time::Instant;

use super::{INTERVAL, Queue};
use crate::backend::Ticket;
use crate::service::clients::ClientId;

/// Least and largest share of the turns of those who were never served, while the queue stands: so
/// neither they nor the others are kept waiting by any number of the others.
const FRESH_SHARE: (f64, f64) = (0.25, 0.9375);

/// Weight of the latest request that was given up, in the moving average of their ages.
const WEIGHT: f64 = 0.05;

/// How near to that average, as a part of it, the age of a request is that is about to be given up.
const ABOUT: f64 = 0.25;

impl Queue {
    /// Returns true if requests have been waiting for too long, for some time.
    pub(super) fn stands(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.calm_at) >= INTERVAL
    }

    /// Returns the client whose turn is next.
    pub(super) fn first(&self, now: Instant) -> Option<ClientId> {
        if let ([client], true) = (&self.drawn_from[..], self.fresh.is_empty()) {
            return Some(*client);
        }
        if !self.stands(now) {
            let served = self.served.first_key_value();
            let next = self.fresh.first_key_value().into_iter().chain(served).min();
            return next.map(|(_, client)| *client);
        }
        let fresh = self.fresh.last_key_value().map(|(_, client)| *client);
        let fresh = fresh.filter(|_| self.is_turn_of_fresh());
        let lasting = fresh.filter(|client| !self.is_about_to_give_up(*client, now));
        lasting.or_else(|| self.draw(now)).or(fresh)
    }

    /// Returns true if the next turn, while the queue stands, is of one who was never served.
    fn is_turn_of_fresh(&self) -> bool {
        let (fresh, served) = (self.fresh.len() as f64, self.served.len() as f64);
        let (least, most) = FRESH_SHARE;
        let share = (fresh / (fresh + served)).clamp(least, most);
        served == 0.0 || self.thrown[0] < share
    }

    /// Draws some of those who were served, and returns the one for whom that is longest ago; if it
    /// can be, one that is not about to give up.
    fn draw(&self, now: Instant) -> Option<ClientId> {
        let seats = self.drawn_from.len() as f64;
        let drawn = self.thrown[1..]
            .iter()
            .filter_map(|thrown| self.drawn_from.get((seats * thrown) as usize).copied());
        drawn.min_by_key(|client| {
            (self.is_about_to_give_up(*client, now), self.lines[client.index()].rank)
        })
    }

    fn is_about_to_give_up(&self, client: ClientId, now: Instant) -> bool {
        let newest = self.lines[client.index()].requests.back();
        let Some((_, since)) = newest else { return false };
        let age = now.saturating_duration_since(*since);
        age.abs_diff(self.patience) < self.patience.mul_f64(ABOUT)
    }

    /// Takes account of a client that has given up, and removes its requests, which it returns.
    pub fn give_up(&mut self, client: ClientId, now: Instant) -> Vec<Ticket> {
        if let Some((_, since)) = self.lines[client.index()].requests.back() {
            let age = now.saturating_duration_since(*since);
            self.patience = if self.patience.is_zero() {
                age
            } else {
                self.patience.mul_f64(1.0 - WEIGHT) + age.mul_f64(WEIGHT)
            };
        }
        self.remove_all(client, now)
    }
}
