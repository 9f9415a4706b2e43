//! The table of requests in flight.

use std::time::Instant;

use crate::backend::Ticket;
use crate::frame::{FEW_FRAMES, Frame};

/// A request.
#[derive(Default)]
pub(crate) struct Request {
    /// The frames up to and including the empty delimiter, which lead the reply back over any number of
    /// hops.
    pub envelope: Vec<Frame>,
    /// The frames that are the handler's.
    pub body: Vec<Frame>,
}

/// A request in flight, and when its client is told that it takes too long.
pub(crate) struct Pending {
    pub request: Request,
    pub deadline: Instant,
    /// How many times it was lost.
    pub lost: usize,
}

#[derive(Default)]
pub(crate) struct Tickets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// No deadline is earlier than this. It may be that of a request that is long answered: then
    /// one look through the table finds the next.
    earliest: Option<Instant>,
}

struct Slot {
    generation: u32,
    live: bool,
    /// Of a slot that is not live only the room is of use.
    pending: Pending,
}

impl Tickets {
    /// Takes what `request` has, and leaves it the room of one that is answered.
    pub fn insert(&mut self, request: &mut Request, deadline: Instant) -> Ticket {
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        let slot = self.free.pop().unwrap_or_else(|| {
            let pending = Pending { request: Request::default(), deadline, lost: 0 };
            self.slots.push(Slot { generation: 0, live: false, pending });
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.live = true;
        entry.pending.deadline = deadline;
        entry.pending.lost = 0;
        std::mem::swap(&mut entry.pending.request, request);
        Ticket { slot, generation: entry.generation }
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.live(ticket).map(|slot| &mut slot.pending)
    }

    fn live(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        (slot.live && slot.generation == ticket.generation).then_some(slot)
    }

    pub fn contains(&self, ticket: Ticket) -> bool {
        let slot = self.slots.get(ticket.slot as usize);
        slot.is_some_and(|slot| slot.live && slot.generation == ticket.generation)
    }

    /// Gives up the ticket. The request's envelope is left, until the next [`Tickets::insert`].
    pub fn remove(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        self.live(ticket)?;
        self.free.push(ticket.slot);
        if self.is_empty() {
            self.earliest = None;
        }
        let slot = &mut self.slots[ticket.slot as usize];
        slot.live = false;
        slot.generation = slot.generation.wrapping_add(1);
        let body = &mut slot.pending.request.body;
        body.clear();
        body.shrink_to(FEW_FRAMES);
        Some(&mut slot.pending)
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A time before which no deadline passes.
    pub fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// The requests whose deadline has passed.
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

    /// Every request in flight.
    pub fn all(&self) -> Vec<Ticket> {
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.live);
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
        let mut tickets = Tickets::default();
        let first = tickets.insert(&mut Request::default(), Instant::now());
        assert!(tickets.remove(first).is_some());
        let second = tickets.insert(&mut Request::default(), Instant::now());
        assert_eq!(first.slot, second.slot);
        assert!(tickets.get_mut(first).is_none() && tickets.remove(first).is_none());
        assert!(!tickets.contains(first) && tickets.contains(second));
    }

    #[test]
    fn only_what_is_overdue_is_found_and_the_next_deadline_is_known() {
        let (mut tickets, now) = (Tickets::default(), Instant::now());
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
