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
    pub number: u64,
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
        let mut dice = Dice::new(self.load, self.number);
        let mut bodies = self.bodies();
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
        let mut ask = |part: &mut Self, socket: &Socket, now: Instant| {
            let body = dice.throw();
            part.sends_at(now)
                .then(|| {
                    part.send(socket, [], share(&mut bodies[body]))?;
                    Ok(Asked { at: now, body })
                })
                .transpose()
        };
        for (socket, asked) in &mut clients {
            *asked = ask(&mut self, socket, Instant::now())?;
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
                    *asked = ask(&mut self, socket, now)?;
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
                *asked = ask(&mut self, socket, now)?;
                busy -= usize::from(asked.is_none());
            }
        }
        Ok(self.outcome)
    }

    /// Likewise by one DEALER that keeps so many requests outstanding.
    pub fn ask_by_dealer(mut self, outstanding: usize) -> Result<Outcome, Error> {
        let mut dice = Dice::new(self.load, self.number);
        let mut bodies = self.bodies();
        let socket = self.context.dealer(&self.load.endpoint)?;
        // By place, with a number that is another one for each request of that place.
        let mut places: Vec<(u32, Option<Asked>)> = vec![(0, None); outstanding];
        let mut ask = |part: &mut Self, place: usize, number: u32, now: Instant| {
            let body = dice.throw();
            part.sends_at(now)
                .then(|| {
                    let name = (u64::from(number) << 32 | place as u64).to_be_bytes();
                    let envelope = [Frame::from(&name[..]), Frame::default()];
                    part.send(&socket, envelope, share(&mut bodies[body]))?;
                    Ok(Asked { at: now, body })
                })
                .transpose()
        };
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
                *asked = ask(&mut self, place, *number, now)?;
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

    fn bodies(&self) -> Vec<Frame> {
        self.load.bodies.iter().map(|body| Frame::from(&body.bytes[..])).collect()
    }

    /// Whether another request is to be sent, and counts it.
    fn sends_at(&mut self, now: Instant) -> bool {
        let over = match self.load.end {
            End::After(time) => now >= self.start + time,
            End::Requests(_) => self.left == 0,
        };
        if over || self.stopping.load(Ordering::Relaxed) {
            return false;
        }
        if now >= self.start {
            self.left -= 1;
            self.outcome.sent += 1;
        }
        true
    }

    fn send<const N: usize>(
        &mut self,
        socket: &Socket,
        mut envelope: [Frame; N],
        mut body: Frame,
    ) -> Result<(), Error> {
        match socket.send_all(envelope.iter_mut().chain([&mut body]))? {
            Sent::Done => Ok(()),
            Sent::Full | Sent::Gone => Err(Error::failed("a client takes no requests")),
        }
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
        }
    }
}

fn cannot_watch(error: Errno) -> Error {
    Error::failed("cannot watch the clients").because(error.desc())
}

/// Draws bodies by their weights, the same ones in each run: splitmix64, by Sebastiano Vigna.
struct Dice {
    state: u64,
    weights: Vec<u64>,
    total: u64,
}

impl Dice {
    fn new(load: &Load, seed: u64) -> Dice {
        let weights: Vec<u64> = load.bodies.iter().map(|body| body.weight).collect();
        Dice { state: seed, total: weights.iter().sum(), weights }
    }

    fn throw(&mut self) -> usize {
        if self.weights.len() == 1 {
            return 0;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mut place = (z ^ z >> 31) % self.total;
        for (body, &weight) in self.weights.iter().enumerate() {
            match place.checked_sub(weight) {
                Some(rest) => place = rest,
                None => return body,
            }
        }
        0
    }
}
