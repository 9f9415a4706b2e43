//! What the proxy's loop does in a simulation: one turn of it.

use super::lanes::{Lane, Upstream};
use super::load::Load;
use super::{MAX_BYTES, Sent, Simulation, number_of};
use crate::backend::{Admission, LaneEvent, LaneState, Ticket};
use crate::fault::Code;
use crate::frame::Frame;
use crate::service::account::holds_too_much;
use crate::service::dispatcher::{Assignment, Lost, Reply};
use crate::service::handshake::Handshake;
use crate::service::request::{Place, Request};

impl Simulation {
    /// Does what the proxy's loop does.
    pub(super) fn turn(&mut self) {
        for lane in 0..self.lanes.len() {
            while let Some(event) = self.next_event(lane) {
                self.take(event, lane);
            }
        }
        while let Some(ticket) = self.dispatcher.overdue(self.now) {
            let pending = self.dispatcher.in_flight().get(ticket).expect("it has ended");
            for lane in pending.lanes() {
                if let Lane::Upstream(Upstream { peer: Some(peer), .. }) = &mut self.lanes[lane] {
                    peer.on_unawaited(ticket);
                }
            }
            self.give_up(ticket, Code::TIMEOUT);
        }
        while let Some((ticket, lane)) = self.dispatcher.next_overrun(self.now) {
            match &mut self.lanes[lane] {
                Lane::Worker(worker) => _ = worker.window.on_deadline(ticket),
                Lane::Upstream(Upstream { peer: Some(peer), .. }) => {
                    peer.on_deadline(ticket, self.now);
                }
                Lane::Upstream(_) => (),
            }
        }
        for lane in 0..self.lanes.len() {
            if self.dispatcher.should_recall(lane, &self.lanes, self.now) {
                let now = self.now;
                let revoked = self.worker(lane).window.recall(now);
                self.dispatcher.on_revoked(revoked, lane);
            }
        }
        self.dispatch();
        while let Some(sent) = self.frontend.pop_front() {
            match sent {
                Sent::Request(number) => self.take_request(number),
                Sent::Gone(name) => self.dispatcher.on_gone(name.as_bytes(), self.now),
            }
        }
        while let Some(hedge) = self.dispatcher.next_hedge(&self.lanes, self.now) {
            let number = self.number_of(hedge);
            self.asked[number].hedged += 1;
            self.send_upstream(hedge.lane, hedge.ticket, number);
        }
    }

    fn take_request(&mut self, number: usize) {
        let name = Frame::from(self.names[self.asked[number].client].as_str());
        let envelope = vec![name, Frame::from(&number.to_be_bytes()[..])];
        let Load { are_req: is_req, patience, .. } = self.load;
        let mut request = Request { envelope, bytes: 400, ..Request::default() };
        let handshake = |_: &mut Frame| Handshake { is_req, patience, ..Handshake::default() };
        let placed = self.dispatcher.on_request(&mut request, handshake, &self.lanes, self.now);
        if let Err(fault) = &placed {
            self.answer(number, Some(fault.code()));
        }
        // Now and then the service's memory is full.
        while self.load.is_short_of_memory
            && let Some((bytes, ticket)) = self.dispatcher.greediest()
            && holds_too_much(bytes, self.dispatcher.bytes(), MAX_BYTES)
        {
            self.give_up(ticket, Code::UNAVAILABLE);
        }
        let is_bounded = !self.load.is_short_of_memory || self.dispatcher.bytes() <= MAX_BYTES;
        assert!(is_bounded, "more is held than may be");
        if placed == Ok(Place::Waiting) {
            self.dispatch();
        }
    }

    fn next_event(&mut self, lane: usize) -> Option<LaneEvent> {
        match &mut self.lanes[lane] {
            Lane::Worker(worker) => {
                worker.replies = worker.replies.checked_sub(1)?;
                Some(worker.window.on_reply(self.now).expect("a reply to nothing"))
            }
            Lane::Upstream(upstream) => upstream.next_event(self.now),
        }
    }

    fn take(&mut self, event: LaneEvent, lane: usize) {
        let answered = match event {
            LaneEvent::Ignored => None,
            LaneEvent::Reply(ticket) => {
                if let Some(other) = self.dispatcher.lane_besides(ticket, lane)
                    && let Some(peer) = &mut self.upstream(other).peer
                {
                    peer.on_unawaited(ticket);
                }
                match self.dispatcher.on_reply(ticket, lane, self.now) {
                    Reply::First(pending) => Some((pending, None)),
                    Reply::Second | Reply::Late => None,
                }
            }
            LaneEvent::Lost(ticket) => {
                if let Some(pending) = self.dispatcher.in_flight().get(ticket) {
                    self.asked[number_of(&pending.request)].lost += 1;
                }
                match self.dispatcher.on_lost(ticket, lane) {
                    Lost::GivenUp(pending) => Some((pending, Some(Code::LOST))),
                    Lost::Waiting | Lost::Late => None,
                }
            }
        };
        if let Some((pending, code)) = answered {
            let number = number_of(&pending.request);
            self.answer(number, code);
        }
    }

    fn dispatch(&mut self) {
        while let Some(next) = self.dispatcher.next_assignment(&self.lanes, self.now) {
            let number = self.number_of(next);
            match &mut self.lanes[next.lane] {
                Lane::Worker(worker) => {
                    worker.window.on_sent(next.ticket, self.now);
                    worker.queue.push_back(number);
                    self.wake_soon(next.lane);
                }
                Lane::Upstream(_) => self.send_upstream(next.lane, next.ticket, number),
            }
        }
        for (ticket, fault) in self.dispatcher.refuse_waiting(&self.lanes, self.now) {
            self.give_up(ticket, fault.code());
        }
    }

    /// Returns the number of an assigned request, whose lane must take it.
    fn number_of(&self, next: Assignment) -> usize {
        let admission = self.lanes[next.lane].admission(self.now);
        let is_taken = matches!(admission, Admission::Preferred | Admission::Cost(_));
        assert!(is_taken, "sent to a lane that says {admission:?}");
        let pending = self.dispatcher.in_flight().get(next.ticket).expect("it has ended");
        number_of(&pending.request)
    }

    fn give_up(&mut self, ticket: Ticket, code: Code) {
        if let Some(pending) = self.dispatcher.give_up(ticket, self.now) {
            let number = number_of(&pending.request);
            self.answer(number, Some(code));
        }
    }
}
