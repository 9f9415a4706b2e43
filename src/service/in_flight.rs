//! The table of requests in flight.

use std::time::Instant;

use crate::backend::Ticket;
use crate::frame::{Frame, MAX_IDLE_CAPACITY};

/// A request.
#[derive(Default)]
pub(crate) struct Request {
    /// The frames up to and including the empty delimiter, which lead the reply back over any
    /// number of hops.
    pub envelope: Vec<Frame>,
    /// The frames behind the delimiter.
    pub body: Vec<Frame>,
}

/// A request in flight.
pub(crate) struct Pending {
    pub request: Request,
    /// When its client gets a 504.
    pub deadline: Instant,
    /// Number of times it was lost.
    pub lost: usize,
    /// The lane that lost it, until it is sent again.
    pub lost_on: Option<usize>,
}

/// The requests that were taken and not answered, by their tickets.
#[derive(Default)]
pub(crate) struct InFlight {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// No deadline is earlier than this. It may be that of a request that was answered since: then
    /// one pass over the table finds the next.
    earliest: Option<Instant>,
}

struct Slot {
    generation: u32,
    is_live: bool,
    /// Of a slot that is not live, its buffers are used again.
    pending: Pending,
}

impl InFlight {
    /// Inserts `request` by swapping buffers, so that nothing is allocated; returns its ticket.
    pub fn insert(&mut self, request: &mut Request, deadline: Instant) -> Ticket {
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        let slot = self.free.pop().unwrap_or_else(|| {
            let pending = Pending { request: Request::default(), deadline, lost: 0, lost_on: None };
            self.slots.push(Slot { generation: 0, is_live: false, pending });
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.is_live = true;
        entry.pending.deadline = deadline;
        (entry.pending.lost, entry.pending.lost_on) = (0, None);
        std::mem::swap(&mut entry.pending.request, request);
        Ticket { slot, generation: entry.generation }
    }

    /// Returns the request of that ticket; `None` if it is not in flight any more.
    pub fn get(&self, ticket: Ticket) -> Option<&Pending> {
        let slot = self.slots.get(ticket.slot as usize)?;
        (slot.is_live && slot.generation == ticket.generation).then_some(&slot.pending)
    }

    /// Returns the same, to be changed.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.live(ticket).map(|slot| &mut slot.pending)
    }

    fn live(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        (slot.is_live && slot.generation == ticket.generation).then_some(slot)
    }

    /// Removes the request of that ticket; `None` if it is not in flight any more. Its envelope is
    /// left until the next [`InFlight::insert`].
    pub fn remove(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.live(ticket)?;
        self.free.push(ticket.slot);
        if self.is_empty() {
            self.earliest = None;
        }
        let slot = &mut self.slots[ticket.slot as usize];
        slot.is_live = false;
        slot.generation = slot.generation.wrapping_add(1);
        let body = &mut slot.pending.request.body;
        body.clear();
        body.shrink_to(MAX_IDLE_CAPACITY);
        Some(&mut slot.pending)
    }

    /// Returns how many requests are in flight.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a time before which no deadline passes; `None` if nothing is in flight.
    pub fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// Returns the requests whose deadline has passed.
    pub fn overdue(&mut self, now: Instant) -> Vec<Ticket> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let mut overdue = Vec::new();
        self.earliest = None;
        for ticket in self.all() {
            let deadline = self.slots[ticket.slot as usize].pending.deadline;
            if deadline <= now {
                overdue.push(ticket);
            } else {
                self.earliest = Some(self.earliest.map_or(deadline, |e| e.min(deadline)));
            }
        }
        overdue
    }

    /// Returns every request in flight.
    pub fn all(&self) -> Vec<Ticket> {
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_live);
        live.map(|(slot, entry)| Ticket { slot: slot as u32, generation: entry.generation })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_ticket_that_was_given_back_names_nothing_even_when_its_place_is_taken_again() {
        let mut tickets = InFlight::default();
        let first = tickets.insert(&mut Request::default(), Instant::now());
        assert!(tickets.remove(first).is_some());
        let second = tickets.insert(&mut Request::default(), Instant::now());
        assert_eq!(first.slot, second.slot);
        assert!(tickets.get_mut(first).is_none() && tickets.remove(first).is_none());
        assert!(tickets.get(first).is_none() && tickets.get(second).is_some());
    }

    #[test]
    fn only_what_is_overdue_is_found_and_the_next_deadline_is_known() {
        let (mut tickets, now) = (InFlight::default(), Instant::now());
        let second = |n| now + Duration::from_secs(n);
        let one = tickets.insert(&mut Request::default(), second(1));
        let two = tickets.insert(&mut Request::default(), second(2));
        assert_eq!(tickets.overdue(now), []);
        assert_eq!(tickets.overdue(second(1)), [one]);
        tickets.remove(one);
        assert_eq!(tickets.earliest(), Some(second(2)));
        assert_eq!(tickets.all(), [two]);
        tickets.remove(two);
        assert_eq!((tickets.len(), tickets.earliest()), (0, None));
    }
}
