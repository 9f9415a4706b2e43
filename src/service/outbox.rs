//! Replies that their clients do not take yet. libzmq would drop them without a word.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use log::warn;

use crate::error::Error;
use crate::frame::Frame;

/// How many bytes of replies are kept, for all clients together.
const MOST: usize = 64 << 20;

/// `in_batch_size` of libzmq's config.hpp.
const READ_AT_A_TIME: usize = 8192;

/// How soon a client is tried again, since libzmq tells nobody when it has room: at first, and at
/// last, when it has taken nothing for a while.
const SOON: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(64);

/// A reply, led by the envelope that takes it back.
pub(crate) struct Reply {
    pub frames: Vec<Frame>,
    /// Until when it is worth keeping.
    pub until: Instant,
}

impl Reply {
    fn bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.len() + size_of::<Frame>()).sum()
    }
}

/// The replies kept, by their clients' routing ids, in order.
pub(crate) struct Outbox {
    clients: HashMap<Vec<u8>, Kept>,
    bytes: usize,
    pause: Duration,
    retry_at: Instant,
    dropped: usize,
}

#[derive(Default)]
struct Kept {
    replies: VecDeque<Reply>,
    bytes: usize,
}

impl Kept {
    fn pop(&mut self) -> Option<Reply> {
        let reply = self.replies.pop_front()?;
        self.bytes -= reply.bytes();
        Some(reply)
    }
}

impl Outbox {
    pub fn new() -> Outbox {
        Outbox {
            clients: HashMap::new(),
            bytes: 0,
            pause: SOON,
            retry_at: Instant::now(),
            dropped: 0,
        }
    }

    /// Whether replies for this client are kept, which the next one must not overtake.
    pub fn has(&self, routing_id: &[u8]) -> bool {
        !self.clients.is_empty() && self.clients.contains_key(routing_id)
    }

    /// Keeps a reply. If that is too much, the client for which most is kept loses its oldest.
    pub fn keep(&mut self, mut reply: Reply, now: Instant) {
        // One of these may be a part of what libzmq read from the network at a time, and keep all of it.
        let small = reply.frames.iter_mut().filter(|frame| frame.len() <= READ_AT_A_TIME);
        small.for_each(|frame| *frame = frame.copy());
        let bytes = reply.bytes();
        while self.bytes > 0 && self.bytes + bytes > MOST {
            let most = self.clients.values_mut().max_by_key(|kept| kept.bytes);
            let dropped = most.and_then(Kept::pop).map_or(self.bytes, |reply| reply.bytes());
            self.bytes -= dropped;
            self.count_dropped();
        }
        if self.clients.is_empty() {
            self.pause = SOON;
            self.retry_at = now + SOON;
        }
        let kept = self.clients.entry(reply.frames[0].to_vec()).or_default();
        kept.replies.push_back(reply);
        kept.bytes += bytes;
        self.bytes += bytes;
    }

    /// Tries the kept replies again, if it is time or `perhaps` some client has taken some.
    /// `send` says whether that is the end of one: else it has no room yet.
    pub fn retry(
        &mut self,
        now: Instant,
        perhaps: bool,
        mut send: impl FnMut(&mut Reply) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        if self.clients.is_empty() || (now < self.retry_at && !perhaps) {
            return Ok(());
        }
        let (mut taken, mut late) = (0, 0);
        for kept in self.clients.values_mut() {
            while let Some(reply) = kept.replies.front_mut() {
                let bytes = reply.bytes();
                if send(reply)? {
                    taken += 1;
                } else if reply.until <= now {
                    late += 1;
                } else {
                    break;
                }
                kept.replies.pop_front();
                kept.bytes -= bytes;
                self.bytes -= bytes;
            }
        }
        (0..late).for_each(|_| self.count_dropped());
        self.clients.retain(|_, kept| !kept.replies.is_empty());
        if taken > 0 || now >= self.retry_at {
            self.pause = if taken > 0 { SOON } else { (2 * self.pause).min(LATE) };
            self.retry_at = now + self.pause;
        }
        Ok(())
    }

    fn count_dropped(&mut self) {
        if self.dropped == 0 {
            warn!("a client does not read its replies: dropping them");
        }
        self.dropped += 1;
    }

    /// When [`Outbox::retry`] is to be called, if it is.
    pub fn retry_at(&self) -> Option<Instant> {
        (!self.clients.is_empty()).then_some(self.retry_at)
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// How many replies are kept.
    pub fn len(&self) -> usize {
        self.clients.values().map(|kept| kept.replies.len()).sum()
    }

    /// How many replies were dropped, since their clients did not read.
    pub fn dropped(&self) -> usize {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(client: &str, text: &str, until: Instant) -> Reply {
        Reply { frames: vec![Frame::from(client), Frame::default(), Frame::from(text)], until }
    }

    /// An outbox with that many replies of 16 MiB for each client.
    fn filled(clients: &[(&str, usize)], now: Instant) -> Outbox {
        let mut outbox = Outbox::new();
        for &(client, replies) in clients {
            for _ in 0..replies {
                outbox.keep(reply(client, &"x".repeat(15 << 20), now + LATE), now);
            }
        }
        outbox
    }

    #[test]
    fn a_clients_replies_leave_in_order_as_far_as_it_takes_them() {
        let now = Instant::now();
        let mut outbox = Outbox::new();
        for text in ["1", "2", "3"] {
            outbox.keep(reply("a", text, now + LATE), now);
        }
        assert!(outbox.has(b"a") && !outbox.has(b"b"));
        let mut sent = Vec::new();
        let take = |limit: usize, sent: &mut Vec<u8>, reply: &mut Reply| {
            let room = sent.len() < limit;
            if room {
                sent.extend(&reply.frames[2][..]);
            }
            Ok(room)
        };
        outbox.retry(now, false, |_| panic!("too early")).unwrap();
        outbox.retry(now + SOON, false, |reply| take(2, &mut sent, reply)).unwrap();
        assert_eq!((sent.as_slice(), outbox.len()), (&b"12"[..], 1));
        outbox.retry(now + 2 * SOON, true, |reply| take(2, &mut sent, reply)).unwrap();
        assert_eq!(outbox.retry_at(), Some(now + 4 * SOON));
        outbox.retry(now + 3 * SOON, false, |_| panic!("too early")).unwrap();
        outbox.retry(now + 4 * SOON, false, |reply| take(3, &mut sent, reply)).unwrap();
        assert_eq!((sent.as_slice(), outbox.len(), outbox.bytes), (&b"123"[..], 0, 0));
        assert_eq!((outbox.retry_at(), outbox.dropped()), (None, 0));
    }

    #[test]
    fn who_takes_nothing_is_tried_less_and_less_and_given_up_in_the_end() {
        let start = Instant::now();
        let mut outbox = Outbox::new();
        outbox.keep(reply("a", "x", start + Duration::from_secs(1)), start);
        let mut tries = 0;
        while let Some(at) = outbox.retry_at() {
            tries += 1;
            outbox.retry(at, false, |_| Ok(false)).unwrap();
        }
        assert!((10..30).contains(&tries), "{tries}");
        assert_eq!((outbox.len(), outbox.bytes, outbox.dropped()), (0, 0, 1));
    }

    #[test]
    fn when_too_much_is_kept_the_greediest_client_loses_its_oldest() {
        let now = Instant::now();
        let mut outbox = filled(&[("modest", 1), ("greedy", 10)], now);
        assert!(outbox.bytes <= MOST);
        outbox.keep(reply("late", &"x".repeat(15 << 20), now + LATE), now);
        assert!(outbox.bytes <= MOST && outbox.has(b"modest") && outbox.has(b"late"));
        assert_eq!((outbox.len(), outbox.dropped()), (4, 8));
    }
}
