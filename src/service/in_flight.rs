//! The table of requests in flight: those that were taken and not answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::clients::ClientId;
use super::request::{Pending, Place, Request};
use crate::backend::Ticket;
use crate::frame::MAX_IDLE_CAPACITY;

/// Number of slots that are kept though none is in use.
const MAX_IDLE_SLOTS: usize = 1024;

/// The requests that were taken and not answered, by their tickets.
pub(crate) struct InFlight {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The generation of a slot that is new: above those of the slots that were given back.
    first_generation: u32,
    /// Time that each has, unless its client says less.
    timeout: Duration,
    /// Those that have the same time end in the order in which they came.
    lines: Vec<Line>,
    /// Those of which there is no line, by their deadlines.
    others: BTreeSet<(Instant, u32)>,
}

/// The requests that have the same time.
struct Line {
    time: Duration,
    /// The oldest and the newest; `None` if there are none, so that it may become one of another
    /// time.
    ends: Option<(u32, u32)>,
}

/// Maximum number of lines. Clients say how long they wait once, and few different times.
const MAX_LINES: usize = 8;

struct Slot {
    generation: u32,
    is_live: bool,
    /// Its line, if it is in one.
    line: Option<u8>,
    /// The one that came before and the one that came next in its line.
    before: Option<u32>,
    next: Option<u32>,
    /// Of a slot that is not live, its buffers are used again.
    pending: Pending,
}

impl InFlight {
    /// Makes a table of requests that have `timeout`, unless their clients say less.
    pub fn new(timeout: Duration) -> InFlight {
        InFlight {
            slots: Vec::new(),
            free: Vec::new(),
            first_generation: 0,
            timeout,
            lines: Vec::new(),
            others: BTreeSet::new(),
        }
    }

    /// Inserts `request` by swapping buffers, so that nothing is allocated; returns its ticket.
    pub fn insert(
        &mut self,
        request: &mut Request,
        client: ClientId,
        place: Place,
        now: Instant,
    ) -> Ticket {
        let time = request.patience.unwrap_or(self.timeout).min(self.timeout);
        let deadline = now + time;
        let line = self.line_of(time);
        let slot = self.free.pop().unwrap_or_else(|| self.add_slot(now));
        let entry = &mut self.slots[slot as usize];
        (entry.is_live, entry.line) = (true, line);
        (entry.before, entry.next) = (None, None);
        // Field by field: the slots are large, and this is done for each request.
        let pending = &mut entry.pending;
        std::mem::swap(&mut pending.request, request);
        (pending.client, pending.deadline, pending.place) = (client, deadline, place);
        (pending.arrived, pending.sent_at) = (now, now);
        (pending.hedge, pending.again, pending.lost_on) = (None, 0, None);
        let generation = entry.generation;
        match line {
            Some(line) => self.link(slot, line),
            None => _ = self.others.insert((deadline, slot)),
        }
        Ticket { slot, generation }
    }

    /// Returns the line of those that have so much time; `None` if there are too many lines.
    fn line_of(&mut self, time: Duration) -> Option<u8> {
        let found = self.lines.iter().position(|line| line.time == time);
        let place = found.or_else(|| {
            let idle = self.lines.iter().position(|line| line.ends.is_none());
            if idle.is_none() && self.lines.len() < MAX_LINES {
                self.lines.push(Line { time, ends: None });
                return Some(self.lines.len() - 1);
            }
            idle.inspect(|place| self.lines[*place].time = time)
        })?;
        u8::try_from(place).ok()
    }

    fn add_slot(&mut self, now: Instant) -> u32 {
        let pending = Pending {
            request: Request::default(),
            client: ClientId::default(),
            arrived: now,
            deadline: now,
            place: Place::Waiting,
            sent_at: now,
            hedge: None,
            again: 0,
            lost_on: None,
        };
        self.slots.push(Slot {
            generation: self.first_generation,
            is_live: false,
            line: None,
            before: None,
            next: None,
            pending,
        });
        self.slots.len() as u32 - 1
    }

    fn link(&mut self, slot: u32, line: u8) {
        let oldest = match self.lines[usize::from(line)].ends {
            Some((oldest, newest)) => {
                self.slots[newest as usize].next = Some(slot);
                self.slots[slot as usize].before = Some(newest);
                oldest
            }
            None => slot,
        };
        self.lines[usize::from(line)].ends = Some((oldest, slot));
    }

    fn unlink(&mut self, slot: u32, line: u8) {
        let Slot { before, next, .. } = self.slots[slot as usize];
        if let Some(before) = before {
            self.slots[before as usize].next = next;
        }
        if let Some(next) = next {
            self.slots[next as usize].before = before;
        }
        let ends = &mut self.lines[usize::from(line)].ends;
        *ends = ends.and_then(|(oldest, newest)| {
            let oldest = if oldest == slot { next? } else { oldest };
            Some((oldest, if newest == slot { before? } else { newest }))
        });
    }

    /// Returns the request of that ticket; `None` if it is not in flight any more.
    pub fn get(&self, ticket: Ticket) -> Option<&Pending> {
        let slot = self.slots.get(ticket.slot as usize)?;
        (slot.is_live && slot.generation == ticket.generation).then_some(&slot.pending)
    }

    /// Returns the same, to be changed.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        (slot.is_live && slot.generation == ticket.generation).then_some(&mut slot.pending)
    }

    /// Removes the request of that ticket; `None` if it is not in flight any more. Its envelope is
    /// left until the next [`InFlight::insert`].
    pub fn remove(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        let deadline = self.get(ticket)?.deadline;
        match self.slots[ticket.slot as usize].line {
            Some(line) => self.unlink(ticket.slot, line),
            None => _ = self.others.remove(&(deadline, ticket.slot)),
        }
        self.free.push(ticket.slot);
        let slot = &mut self.slots[ticket.slot as usize];
        slot.is_live = false;
        slot.generation = slot.generation.wrapping_add(1);
        let body = &mut slot.pending.request.body;
        body.clear();
        body.shrink_to(MAX_IDLE_CAPACITY);
        Some(&mut slot.pending)
    }

    /// Gives back all slots with their buffers, if there are many and none is in use.
    pub fn shrink(&mut self) {
        if self.is_empty() && self.slots.len() > MAX_IDLE_SLOTS {
            let newest = self.slots.iter().map(|slot| slot.generation).max();
            self.first_generation = newest.unwrap_or(0).wrapping_add(1);
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    /// Returns how many requests are in flight.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the request whose deadline is next, and that; `None` if nothing is in flight.
    fn next(&self) -> Option<(Instant, u32)> {
        let oldest = self.lines.iter().filter_map(|line| {
            let (slot, _) = line.ends?;
            Some((self.slots[slot as usize].pending.deadline, slot))
        });
        oldest.chain(self.others.first().copied()).min()
    }

    /// Returns when the next deadline passes; `None` if nothing is in flight.
    pub fn earliest(&self) -> Option<Instant> {
        self.next().map(|(deadline, _)| deadline)
    }

    /// Returns a request whose deadline has passed, if there is one.
    pub fn overdue(&self, now: Instant) -> Option<Ticket> {
        let (_, slot) = self.next().filter(|(deadline, _)| *deadline <= now)?;
        Some(Ticket { slot, generation: self.slots[slot as usize].generation })
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

    const S: Duration = Duration::from_secs(1);

    fn insert(table: &mut InFlight, patience: Option<Duration>, now: Instant) -> Ticket {
        let client = ClientId::default();
        let mut request = Request { patience, ..Request::default() };
        table.insert(&mut request, client, Place::Waiting, now)
    }

    #[test]
    fn a_ticket_that_was_given_back_names_nothing_even_when_its_place_is_taken_again() {
        let (mut table, now) = (InFlight::new(S), Instant::now());
        let first = insert(&mut table, None, now);
        assert!(table.remove(first).is_some());
        let second = insert(&mut table, None, now);
        assert_eq!(first.slot, second.slot);
        assert!(table.get_mut(first).is_none() && table.remove(first).is_none());
        assert!(table.get(first).is_none() && table.get(second).is_some());
    }

    #[test]
    fn what_is_overdue_is_found_in_the_order_of_the_deadlines() {
        let (mut table, now) = (InFlight::new(9 * S), Instant::now());
        let tickets: Vec<Ticket> = (0..4).map(|n| insert(&mut table, None, now + n * S)).collect();
        let hurried = insert(&mut table, Some(7 * S), now + 3 * S);
        let patient = insert(&mut table, Some(60 * S), now + 4 * S);
        table.remove(tickets[1]);
        assert_eq!((table.earliest(), table.overdue(now + 8 * S)), (Some(now + 9 * S), None));
        let mut ended = Vec::new();
        for second in 0..100 {
            while let Some(ticket) = table.overdue(now + second * S) {
                table.remove(ticket);
                ended.push((ticket, second));
            }
        }
        let expected =
            [(tickets[0], 9), (hurried, 10), (tickets[2], 11), (tickets[3], 12), (patient, 13)];
        assert_eq!(ended, expected);
        assert_eq!((table.len(), table.earliest()), (0, None));
    }

    #[test]
    fn clients_may_say_any_number_of_times() {
        let (mut table, now) = (InFlight::new(99 * S), Instant::now());
        let times: Vec<u32> = (0..40).map(|n| 1 + n * 7 % 40).collect();
        let tickets: Vec<Ticket> =
            times.iter().map(|time| insert(&mut table, Some(*time * S), now)).collect();
        assert!(table.lines.len() == MAX_LINES && table.others.len() == 40 - MAX_LINES);
        for second in 1..=40 {
            let ticket = table.overdue(now + second * S).unwrap();
            assert_eq!(times[tickets.iter().position(|it| *it == ticket).unwrap()], second);
            table.remove(ticket);
            assert_eq!(table.overdue(now + second * S), None);
        }
        // A line in which nothing is left is there for another time.
        insert(&mut table, Some(50 * S), now);
        assert!(table.others.is_empty());
    }

    #[test]
    fn it_is_right_whichever_request_ends_first() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let (mut table, now) = (InFlight::new(S), Instant::now());
            let tickets = [0, 1, 2].map(|n| insert(&mut table, None, now + n * S));
            let mut left = vec![0, 1, 2];
            for ended in order {
                assert!(table.remove(tickets[ended]).is_some());
                left.retain(|n| *n != ended);
                let earliest = left.first().map(|n| now + (*n as u32 + 1) * S);
                assert_eq!(table.earliest(), earliest, "{order:?}");
            }
        }
    }

    #[test]
    fn after_a_burst_its_slots_are_given_back_and_no_ticket_comes_again() {
        let (mut table, now) = (InFlight::new(S), Instant::now());
        let burst: Vec<Ticket> = (0..2000).map(|_| insert(&mut table, None, now)).collect();
        table.shrink();
        assert_eq!(table.len(), 2000, "they are in use");
        for ticket in &burst {
            table.remove(*ticket);
        }
        table.shrink();
        assert!(table.slots.is_empty() && table.is_empty());
        let next = insert(&mut table, None, now);
        assert!(!burst.contains(&next) && table.get(next).is_some());
        assert!(burst.iter().all(|ticket| table.get(*ticket).is_none()));
        table.remove(next);
        table.shrink();
        assert_eq!(table.slots.len(), 1, "few are kept");
    }
}
