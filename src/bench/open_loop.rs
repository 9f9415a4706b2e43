//! A load at a fixed rate, whatever the service does: each request has its time at which it is due,
//! and its latency counts from then, so that a service which makes its clients wait cannot make
//! them ask less.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::clients::{CHECK_INTERVAL, Part, Pending};
use super::load::{Clients, Outcome};
use super::watch::Watch;
use crate::error::Error;
use crate::frame::Frame;
use crate::socket::{Socket, readable, wait};

/// When the requests of one thread are due.
#[derive(Clone, Copy, Default)]
pub(super) struct Schedule {
    /// Time until the first one.
    pub first: Duration,
    /// Time between two of them.
    pub interval: Duration,
}

impl Schedule {
    /// Returns the schedule of one thread of `threads`.
    pub fn of(clients: &Clients, thread: usize, threads: usize) -> Schedule {
        let interval = match clients {
            Clients::OpenLoop { rate, .. } => Duration::from_secs(1).div_f64((*rate).max(1) as f64),
            Clients::Req(_) | Clients::Pipeline(_) => Duration::ZERO,
        };
        Schedule { first: interval * thread as u32, interval: interval * threads as u32 }
    }
}

/// The requests of one thread that wait for their replies.
#[derive(Default)]
struct Outstanding {
    requests: HashMap<u64, Pending>,
    /// Their numbers in the order in which they were due.
    order: VecDeque<u64>,
}

impl Part<'_> {
    /// Sends requests as `schedule` says, over that many DEALER sockets in turn. A request that has
    /// no reply in time is given up.
    pub fn run_open_loop(mut self, sockets: usize) -> Result<Outcome, Error> {
        let mut watch = Watch::new()?;
        let mut clients = Vec::new();
        for number in 0..sockets {
            let client = self.dealer()?;
            watch.add(&client, number)?;
            clients.push(client);
        }
        let mut outstanding = Outstanding::default();
        let mut due = Instant::now() + self.schedule.first;
        let (mut number, mut is_over) = (0_u64, false);
        loop {
            let now = Instant::now();
            while !is_over && due <= now {
                let client = &clients[number as usize % sockets];
                let envelope = [Frame::from(&number.to_be_bytes()[..]), Frame::default()];
                match self.send_next(client, envelope, due)? {
                    Some(pending) => outstanding.insert(number, pending),
                    None => is_over = true,
                }
                // After a send a socket does not tell any more of what had come before.
                self.take_replies(client, &mut outstanding)?;
                number += 1;
                due += self.schedule.interval;
            }
            self.give_up_overdue(&mut outstanding, now);
            if is_over && outstanding.requests.is_empty() {
                return Ok(self.outcome);
            }
            let next = if is_over { CHECK_INTERVAL } else { due.saturating_duration_since(now) };
            wait(&mut [readable(&watch)], Some(next.min(CHECK_INTERVAL)))?;
            for number in watch.wait(Duration::ZERO)? {
                clients[number].on_readable();
                self.take_replies(&clients[number], &mut outstanding)?;
            }
        }
    }

    fn take_replies(&mut self, client: &Socket, all: &mut Outstanding) -> Result<(), Error> {
        let mut reply = Vec::new();
        while client.try_recv_message(&mut reply)? {
            let now = Instant::now();
            let number = reply.first().and_then(|id| id.first_chunk().copied());
            // One that was given up may have its reply after all.
            if let Some(request) =
                number.and_then(|id| all.requests.remove(&u64::from_be_bytes(id)))
            {
                // Behind the delimiter.
                self.count_reply(request, reply.get(2..).unwrap_or_default(), now);
            }
            reply.clear();
        }
        Ok(())
    }

    fn give_up_overdue(&mut self, all: &mut Outstanding, now: Instant) {
        while let Some(number) = all.order.front() {
            match all.requests.get(number) {
                Some(request) if !self.is_overdue(request, now) => return,
                Some(request) => {
                    self.count_missing(*request);
                    all.requests.remove(number);
                }
                None => (),
            }
            all.order.pop_front();
        }
    }
}

impl Outstanding {
    fn insert(&mut self, number: u64, request: Pending) {
        self.requests.insert(number, request);
        self.order.push_back(number);
    }
}
