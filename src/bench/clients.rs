//! The clients of a load: what one of its threads does, with REQ sockets or with a DEALER.

use std::io::PipeWriter;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::load::{End, Load, Outcome};
use crate::error::Error;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::socket::{Context, Sent, Socket, share, wait};

/// How often it is looked whether a reply is overdue, or the load is to end.
const LOOK: Duration = Duration::from_millis(20);

/// What one thread does of a load.
pub(super) struct Part<'a> {
    pub load: &'a Load,
    pub context: &'a Context,
    /// The load's bodies, as frames to be sent.
    pub bodies: Vec<Frame>,
    /// What draws them.
    pub dice: fastrand::Rng,
    /// The end of the warm-up.
    pub start: Instant,
    /// How many requests are still to be sent.
    pub left: u64,
    pub stopping: &'a AtomicBool,
    pub replied: &'a AtomicU64,
    pub outcome: Outcome,
    /// Open as long as this thread is at work.
    pub _running: PipeWriter,
}

/// A request that was sent, and which of the load's bodies it had.
#[derive(Clone, Copy)]
struct Asked {
    at: Instant,
    body: usize,
}

impl Part<'_> {
    /// Asks by so many REQ sockets until the load ends and all is answered or overdue.
    pub fn ask_by_req(mut self, sockets: usize) -> Result<Outcome, Error> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(cannot_watch)?;
        let watch = |socket: &Socket, place: usize| {
            epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, place as u64))
        };
        let mut clients: Vec<(Socket, Option<Asked>)> = Vec::new();
        for place in 0..sockets {
            let socket = self.context.req(&self.load.endpoint)?;
            watch(&socket, place).map_err(cannot_watch)?;
            clients.push((socket, None));
        }
        let mut busy = 0;
        for (socket, asked) in &mut clients {
            *asked = self.ask(socket, [], Instant::now())?;
            busy += usize::from(asked.is_some());
        }
        let mut events = [EpollEvent::empty(); 128];
        let mut reply = Vec::new();
        let mut look_at = Instant::now() + LOOK;
        while busy > 0 {
            let count = match epoll.wait(&mut events, EpollTimeout::from(LOOK.as_millis() as u8)) {
                Err(Errno::EINTR) => 0,
                result => result.map_err(cannot_watch)?,
            };
            for event in &events[..count] {
                let (socket, asked) = &mut clients[event.data() as usize];
                socket.look_again();
                while let Some(request) = *asked
                    && socket.try_receive(&mut reply)?
                {
                    let now = Instant::now();
                    self.count(request, &reply, now);
                    *asked = self.ask(socket, [], now)?;
                    busy -= usize::from(asked.is_none());
                    reply.clear();
                }
            }
            let now = Instant::now();
            if now < look_at {
                continue;
            }
            look_at = now + LOOK;
            for (place, (socket, asked)) in clients.iter_mut().enumerate() {
                let Some(late) = asked.take_if(|asked| self.is_late(asked, now)) else { continue };
                self.count_missing(late);
                // A REQ that waits for a lost reply is of no more use.
                epoll.delete(&*socket).map_err(cannot_watch)?;
                *socket = self.context.req(&self.load.endpoint)?;
                watch(socket, place).map_err(cannot_watch)?;
                *asked = self.ask(socket, [], now)?;
                busy -= usize::from(asked.is_none());
            }
        }
        Ok(self.outcome)
    }

    /// Likewise by one DEALER that keeps so many requests outstanding.
    pub fn ask_by_dealer(mut self, outstanding: usize) -> Result<Outcome, Error> {
        let socket = self.context.dealer(&self.load.endpoint)?;
        // By place, with a number that is another one for each request of that place.
        let mut places: Vec<(u32, Option<Asked>)> = vec![(0, None); outstanding];
        let mut free: Vec<usize> = (0..outstanding).collect();
        let mut busy = 0;
        let mut look_at = Instant::now() + LOOK;
        let mut reply = Vec::new();
        loop {
            // All that are due at once, so that the sockets' own thread is woken once for them.
            let now = Instant::now();
            for place in free.drain(..) {
                let (number, asked) = &mut places[place];
                *number = number.wrapping_add(1);
                let name = (u64::from(*number) << 32 | place as u64).to_be_bytes();
                let envelope = [Frame::from(&name[..]), Frame::default()];
                *asked = self.ask(&socket, envelope, now)?;
                busy += usize::from(asked.is_some());
            }
            if busy == 0 {
                return Ok(self.outcome);
            }
            wait(&mut [socket.readable()], Some(LOOK))?;
            while socket.try_receive(&mut reply)? {
                let now = Instant::now();
                let mut frames = reply.drain(..);
                let name = frames.next().and_then(|name| name.first_chunk().copied());
                let name = name.map_or(0, u64::from_be_bytes);
                let (place, named) = (name as u32 as usize, (name >> 32) as u32);
                let of_now = places.get_mut(place).filter(|(number, _)| *number == named);
                let Some(request) = of_now.and_then(|(_, asked)| asked.take()) else { continue };
                // The delimiter.
                frames.next();
                self.count(request, frames.as_slice(), now);
                free.push(place);
            }
            let now = Instant::now();
            if now >= look_at {
                look_at = now + LOOK;
                for (place, (_, asked)) in places.iter_mut().enumerate() {
                    if let Some(late) = asked.take_if(|asked| self.is_late(asked, now)) {
                        self.count_missing(late);
                        free.push(place);
                    }
                }
            }
            busy -= free.len();
        }
    }

    /// Sends another request, unless the load is over.
    fn ask<const N: usize>(
        &mut self,
        socket: &Socket,
        mut envelope: [Frame; N],
        now: Instant,
    ) -> Result<Option<Asked>, Error> {
        let over = match self.load.end {
            End::After(time) => now >= self.start + time,
            End::Requests(_) => self.left == 0,
        };
        if over || self.stopping.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let body = self.draw();
        let mut frame = share(&mut self.bodies[body]);
        if socket.send_all(envelope.iter_mut().chain([&mut frame]))? != Sent::Done {
            return Err(Error::failed("a client takes no requests"));
        }
        if now >= self.start {
            self.left -= 1;
            self.outcome.sent += 1;
        }
        Ok(Some(Asked { at: now, body }))
    }

    /// One of the load's bodies, by their weights.
    fn draw(&mut self) -> usize {
        let bodies = &self.load.bodies;
        let mut place = self.dice.u64(..bodies.iter().map(|body| body.weight).sum::<u64>());
        let drawn = bodies.iter().position(|body| {
            let is_it = place < body.weight;
            place = place.saturating_sub(body.weight);
            is_it
        });
        drawn.unwrap_or(0)
    }

    fn is_late(&self, asked: &Asked, now: Instant) -> bool {
        now >= asked.at + self.load.timeout
    }

    fn count(&mut self, request: Asked, reply: &[Frame], now: Instant) {
        self.replied.fetch_add(1, Ordering::Relaxed);
        if request.at < self.start {
            return;
        }
        if self.is_late(&request, now) {
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
            Some(fault) => *outcome.errors.entry(fault.code()).or_default() += 1,
            None => outcome.latency[request.body]
                .saturating_record((now - request.at).as_nanos() as u64),
        }
    }

    fn count_missing(&mut self, request: Asked) {
        if request.at >= self.start {
            self.outcome.missing += 1;
            let given_up = request.at + self.load.timeout - self.start;
            self.outcome.elapsed = self.outcome.elapsed.max(given_up);
        } else {
            self.outcome.missing_before += 1;
        }
    }
}

fn cannot_watch(error: Errno) -> Error {
    Error::of_system("cannot watch the clients", error)
}

#[cfg(test)]
mod tests {
    use super::super::load::{Body, Clients};
    use super::*;

    #[test]
    fn a_reply_that_comes_late_is_missing_though_nobody_has_looked_yet() {
        let timeout = Duration::from_secs(1);
        let load = Load {
            endpoint: "tcp://127.0.0.1:1".parse().unwrap(),
            clients: Clients::Req(1),
            threads: 1,
            bodies: vec![Body { bytes: b"a".to_vec(), weight: 1, expected: None }],
            warmup: Duration::ZERO,
            end: End::Requests(3),
            timeout,
        };
        let start = Instant::now();
        let mut part = Part {
            load: &load,
            context: &Context::new(0).unwrap(),
            bodies: Vec::new(),
            dice: fastrand::Rng::with_seed(0),
            start,
            left: 0,
            stopping: &AtomicBool::new(false),
            replied: &AtomicU64::new(0),
            outcome: Outcome::new(1),
            _running: std::io::pipe().unwrap().1,
        };
        let request = Asked { at: start, body: 0 };
        for wait in [timeout / 2, timeout, 2 * timeout] {
            part.count(request, &[Frame::from("a")], start + wait);
        }
        assert_eq!((part.outcome.replies, part.outcome.missing), (1, 2));
    }
}
