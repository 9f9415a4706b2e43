//! The table of requests in flight.

use std::time::Instant;

use crate::frontend::Request;

/// Names a request in flight. A ticket is never given twice, so that a reply which comes too late is
/// known as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    slot: u32,
    generation: u32,
}

impl Ticket {
    /// The ticket as the frame that goes down a lane ahead of the request.
    pub fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.generation) << 32 | u64::from(self.slot)).to_be_bytes()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Ticket> {
        let number = u64::from_be_bytes(bytes.try_into().ok()?);
        Some(Ticket { slot: number as u32, generation: (number >> 32) as u32 })
    }
}

/// A request in flight, and when its client is told that it takes too long.
pub(crate) struct Pending {
    pub request: Request,
    pub deadline: Instant,
}

#[derive(Default)]
pub(crate) struct Tickets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// No deadline is earlier than this. It may be that of a request that is long answered: then
    /// one look through the table finds the next.
    earliest: Option<Instant>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    pending: Option<Pending>,
}

impl Tickets {
    pub fn insert(&mut self, pending: Pending) -> Ticket {
        self.earliest = Some(self.earliest.map_or(pending.deadline, |e| e.min(pending.deadline)));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.pending = Some(pending);
        Ticket { slot, generation: entry.generation }
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        slot.pending.as_mut().filter(|_| slot.generation == ticket.generation)
    }

    pub fn contains(&self, ticket: Ticket) -> bool {
        let slot = self.slots.get(ticket.slot as usize);
        slot.is_some_and(|slot| slot.generation == ticket.generation && slot.pending.is_some())
    }

    pub fn remove(&mut self, ticket: Ticket) -> Option<Pending> {
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        if slot.generation != ticket.generation {
            return None;
        }
        let pending = slot.pending.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(ticket.slot);
        if self.is_empty() {
            self.earliest = None;
        }
        Some(pending)
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
        for (slot, &Slot { generation, ref pending }) in self.slots.iter().enumerate() {
            match pending {
                Some(pending) if pending.deadline <= now => {
                    overdue.push(Ticket { slot: slot as u32, generation });
                }
                Some(pending) => {
                    let earliest = self.earliest.unwrap_or(pending.deadline);
                    self.earliest = Some(earliest.min(pending.deadline));
                }
                None => (),
            }
        }
        overdue
    }

    /// Every request in flight.
    pub fn all(&self) -> Vec<Ticket> {
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.pending.is_some());
        live.map(|(slot, entry)| Ticket { slot: slot as u32, generation: entry.generation })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pending(deadline: Instant) -> Pending {
        Pending { request: Request::default(), deadline }
    }

    #[test]
    fn a_ticket_that_was_given_back_names_nothing_even_when_its_place_is_taken_again() {
        let mut tickets = Tickets::default();
        let first = tickets.insert(pending(Instant::now()));
        assert!(tickets.remove(first).is_some());
        let second = tickets.insert(pending(Instant::now()));
        assert_eq!(first.slot, second.slot);
        assert!(tickets.get_mut(first).is_none() && tickets.remove(first).is_none());
        assert!(!tickets.contains(first) && tickets.contains(second));
        assert_eq!(Ticket::from_bytes(&second.to_bytes()), Some(second));
        assert_eq!(Ticket::from_bytes(b"short"), None);
    }

    #[test]
    fn only_what_is_overdue_is_found_and_the_next_deadline_is_known() {
        let (mut tickets, now) = (Tickets::default(), Instant::now());
        let second = |n| now + Duration::from_secs(n);
        let one = tickets.insert(pending(second(1)));
        let two = tickets.insert(pending(second(2)));
        assert_eq!(tickets.overdue(now), []);
        assert_eq!(tickets.overdue(second(1)), [one]);
        tickets.remove(one);
        assert_eq!(tickets.earliest(), Some(second(2)));
        assert_eq!(tickets.all(), [two]);
        tickets.remove(two);
        assert_eq!((tickets.len(), tickets.earliest()), (0, None));
    }
}
