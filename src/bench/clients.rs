//! The clients of a load: the share of one thread, with REQ sockets or with a DEALER. Each asks again
//! when it has its reply.

use std::io::PipeWriter;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::load::{Clients, End, Load, Outcome, Shared};
use super::open_loop::Schedule;
use super::watch::Watch;
use crate::auth::ClientKeys;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::socket::{Context, Sent, Socket, share, wait};

/// Interval at which overdue replies are looked for.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// The share of a load that one thread runs.
pub(super) struct Part<'a> {
    pub load: &'a Load,
    /// Where the service was found.
    pub endpoint: &'a Endpoint,
    pub context: &'a Context,
    /// The load's bodies, as frames to be sent.
    pub bodies: Vec<Frame>,
    /// The source of chance for drawing bodies.
    pub rng: fastrand::Rng,
    /// The end of the warm-up.
    pub start: Instant,
    /// Number of requests still to be sent.
    pub remaining: u64,
    /// When its requests are due, if the load has a rate.
    pub schedule: Schedule,
    pub shared: &'a Shared,
    pub outcome: Outcome,
    /// Closed when this thread ends: the pipe's other end hears when all threads have ended.
    pub _running: PipeWriter,
}

/// A request that waits for its reply.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    /// When it was sent, or was due.
    sent_at: Instant,
    /// Index of its body in the load.
    body: usize,
}

/// A place for one outstanding request. Its number differs from request to request, so that a late
/// reply is not taken for the next one's.
type Slot = (u32, Option<Pending>);

impl Part<'_> {
    /// Runs this share with the load's DEALER or with this number of REQ sockets. Returns when all
    /// its requests are answered or overdue. An error ends the load for the other threads too.
    pub fn run(self, sockets: usize) -> Result<Outcome, Error> {
        let shared = self.shared;
        let outcome = match self.load.clients {
            Clients::Req(_) => self.run_req(sockets),
            Clients::Pipeline(outstanding) => self.run_dealer(outstanding),
            Clients::OpenLoop { .. } => self.run_open_loop(sockets),
        };
        outcome.inspect_err(|_| shared.stopping.store(true, Ordering::Relaxed))
    }

    fn run_req(mut self, sockets: usize) -> Result<Outcome, Error> {
        let mut watch = Watch::new()?;
        let mut clients: Vec<(Socket, Option<Pending>)> = Vec::new();
        for index in 0..sockets {
            clients.push((self.watched_req(&watch, index)?, None));
        }
        let mut busy = 0;
        for (socket, pending) in &mut clients {
            *pending = self.send_next(socket, [], Instant::now())?;
            busy += usize::from(pending.is_some());
        }
        let mut reply = Vec::new();
        let mut next_check = Instant::now() + CHECK_INTERVAL;
        while busy > 0 {
            for index in watch.wait(CHECK_INTERVAL)? {
                let (socket, pending) = &mut clients[index];
                socket.on_readable();
                while let Some(request) = *pending
                    && socket.try_recv_message(&mut reply)?
                {
                    let now = Instant::now();
                    self.count_reply(request, &reply, now);
                    *pending = self.send_next(socket, [], now)?;
                    busy -= usize::from(pending.is_none());
                    reply.clear();
                }
            }
            let now = Instant::now();
            if now < next_check {
                continue;
            }
            next_check = now + CHECK_INTERVAL;
            for (index, (socket, pending)) in clients.iter_mut().enumerate() {
                let Some(overdue) = pending.take_if(|it| self.is_overdue(it, now)) else {
                    continue;
                };
                self.count_missing(overdue);
                // A REQ socket cannot send again before it has its reply.
                watch.remove(socket)?;
                *socket = self.watched_req(&watch, index)?;
                *pending = self.send_next(socket, [], now)?;
                busy -= usize::from(pending.is_none());
            }
        }
        Ok(self.outcome)
    }

    /// Returns a new REQ socket that is watched as number `index`.
    fn watched_req(&self, watch: &Watch, index: usize) -> Result<Socket, Error> {
        let Load { timeout, keys, .. } = self.load;
        let socket =
            self.context.req(self.endpoint, *timeout, keys.as_ref().map(ClientKeys::raw))?;
        watch.add(&socket, index)?;
        Ok(socket)
    }

    fn run_dealer(mut self, outstanding: usize) -> Result<Outcome, Error> {
        let socket = self.dealer()?;
        let mut slots: Vec<Slot> = vec![(0, None); outstanding];
        let mut free: Vec<usize> = (0..outstanding).collect();
        let mut busy = 0;
        let mut next_check = Instant::now() + CHECK_INTERVAL;
        let mut reply = Vec::new();
        loop {
            // Sent together, so that libzmq's I/O thread is woken once for all of them.
            let now = Instant::now();
            for slot in free.drain(..) {
                let (number, pending) = &mut slots[slot];
                *number = number.wrapping_add(1);
                let id = (u64::from(*number) << 32 | slot as u64).to_be_bytes();
                let envelope = [Frame::from(&id[..]), Frame::default()];
                *pending = self.send_next(&socket, envelope, now)?;
                busy += usize::from(pending.is_some());
            }
            if busy == 0 {
                return Ok(self.outcome);
            }
            wait(&mut [socket.readable()], Some(CHECK_INTERVAL))?;
            while socket.try_recv_message(&mut reply)? {
                let now = Instant::now();
                let mut frames = reply.drain(..);
                let id = frames.next().and_then(|id| id.first_chunk().copied());
                let id = id.map_or(0, u64::from_be_bytes);
                let (slot, replied) = (id as u32 as usize, (id >> 32) as u32);
                let current = slots.get_mut(slot).filter(|(number, _)| *number == replied);
                let Some(request) = current.and_then(|(_, pending)| pending.take()) else {
                    continue;
                };
                // The delimiter.
                frames.next();
                self.count_reply(request, frames.as_slice(), now);
                free.push(slot);
            }
            let now = Instant::now();
            if now >= next_check {
                next_check = now + CHECK_INTERVAL;
                self.take_overdue(&mut slots, &mut free, now);
            }
            busy -= free.len();
        }
    }

    /// Counts what is overdue as missing, and frees its slots.
    fn take_overdue(&mut self, slots: &mut [Slot], free: &mut Vec<usize>, now: Instant) {
        for (slot, (_, pending)) in slots.iter_mut().enumerate() {
            if let Some(overdue) = pending.take_if(|it| self.is_overdue(it, now)) {
                self.count_missing(overdue);
                free.push(slot);
            }
        }
    }

    /// Returns a new DEALER, connected.
    pub(super) fn dealer(&self) -> Result<Socket, Error> {
        let Load { timeout, keys, .. } = self.load;
        self.context.dealer(self.endpoint, *timeout, keys.as_ref().map(ClientKeys::raw))
    }

    /// Sends the next request with `envelope` in front, or returns `Option::None` if the load is
    /// over.
    pub(super) fn send_next<const N: usize>(
        &mut self,
        socket: &Socket,
        mut envelope: [Frame; N],
        now: Instant,
    ) -> Result<Option<Pending>, Error> {
        let is_over = match self.load.end {
            End::After(time) => now >= self.start + time,
            End::Requests(_) => self.remaining == 0,
        };
        if is_over || self.shared.stopping.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let body = self.draw_body();
        let mut frame = share(&mut self.bodies[body]);
        if socket.send_message(envelope.iter_mut().chain([&mut frame]))? != Sent::Done {
            return Err(Error::failed("a client cannot send its request"));
        }
        if now >= self.start {
            self.remaining -= 1;
            self.outcome.sent += 1;
        }
        Ok(Some(Pending { sent_at: now, body }))
    }

    /// Draws one of the load's bodies by their weights and returns its index.
    fn draw_body(&mut self) -> usize {
        let bodies = &self.load.bodies;
        let mut drawn = self.rng.u64(..bodies.iter().map(|body| body.weight).sum::<u64>());
        let index = bodies.iter().position(|body| {
            let is_it = drawn < body.weight;
            drawn = drawn.saturating_sub(body.weight);
            is_it
        });
        index.unwrap_or(0)
    }

    pub(super) fn is_overdue(&self, request: &Pending, now: Instant) -> bool {
        now >= request.sent_at + self.load.timeout
    }

    /// Counts a reply that came at `now`, or a missing one if it came too late.
    pub(super) fn count_reply(&mut self, request: Pending, reply: &[Frame], now: Instant) {
        self.shared.replied.fetch_add(1, Ordering::Relaxed);
        if request.sent_at < self.start {
            return;
        }
        if self.is_overdue(&request, now) {
            return self.count_missing(request);
        }
        let body = &self.load.bodies[request.body];
        let outcome = &mut self.outcome;
        outcome.elapsed = outcome.elapsed.max(now - self.start);
        outcome.replies += 1;
        outcome.bytes.0 += body.bytes.len() as u64;
        outcome.bytes.1 += reply.iter().map(|frame| frame.len() as u64).sum::<u64>();
        if let Some(expected) = &body.expected {
            outcome.wrong += u64::from(!matches!(reply, [frame] if frame == expected));
        }
        match Fault::parse(reply) {
            Some(fault) => *outcome.errors.entry(fault.code().get()).or_default() += 1,
            None => outcome.latency[request.body]
                .saturating_record((now - request.sent_at).as_nanos() as u64),
        }
    }

    pub(super) fn count_missing(&mut self, request: Pending) {
        if request.sent_at >= self.start {
            self.outcome.missing += 1;
            let given_up = request.sent_at + self.load.timeout - self.start;
            // A load of a certain time is no longer for what is waited for after it.
            let ended = match self.load.end {
                End::After(time) => given_up.min(time),
                End::Requests(_) => given_up,
            };
            self.outcome.elapsed = self.outcome.elapsed.max(ended);
        } else {
            self.outcome.missing_before += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Body;
    use super::*;

    /// Counts the replies to requests of the begin of a load that come after these times. A reply has
    /// a second.
    fn outcome(end: End, waits: &[Duration]) -> Outcome {
        let load = Load {
            endpoint: "tcp://127.0.0.1:1".parse().unwrap(),
            keys: None,
            clients: Clients::Req(1),
            threads: 1,
            bodies: vec![Body { bytes: b"a".to_vec(), weight: 1, expected: None }],
            warmup: Duration::ZERO,
            end,
            timeout: Duration::from_secs(1),
        };
        let start = Instant::now();
        let mut part = Part {
            load: &load,
            endpoint: &load.endpoint,
            context: &Context::new(0).unwrap(),
            bodies: Vec::new(),
            rng: fastrand::Rng::with_seed(0),
            start,
            remaining: 0,
            schedule: Schedule::default(),
            shared: &Shared::default(),
            outcome: Outcome::new(1),
            _running: std::io::pipe().unwrap().1,
        };
        let request = Pending { sent_at: start, body: 0 };
        for wait in waits {
            part.count_reply(request, &[Frame::from("a")], start + *wait);
        }
        part.outcome
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_reply_that_comes_late_is_missing_even_if_it_comes_before_the_check() {
        let outcome = outcome(End::Requests(3), &[500 * MS, 1000 * MS, 2000 * MS]);
        assert_eq!((outcome.replies, outcome.missing), (1, 2));
        assert_eq!(outcome.elapsed, 1000 * MS);
    }

    #[test]
    fn what_is_missing_makes_a_load_of_a_certain_time_no_longer() {
        let outcome = outcome(End::After(100 * MS), &[50 * MS, 1000 * MS]);
        assert_eq!((outcome.replies, outcome.missing), (1, 1));
        assert_eq!(outcome.elapsed, 100 * MS);
    }
}
