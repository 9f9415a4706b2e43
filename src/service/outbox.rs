//! The replies that their clients do not take yet. libzmq would drop them without a word.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use log::warn;

use crate::error::Error;
use crate::frame::Frame;

/// Bytes that libzmq reads from the network at a time: `in_batch_size` in its config.hpp.
const READ_BATCH: usize = 8192;

/// Time after which clients are tried again, since libzmq does not tell when one takes more: at
/// first, and when none has taken anything for a while.
const MIN_RETRY: Duration = Duration::from_millis(1);
const MAX_RETRY: Duration = Duration::from_millis(64);

/// A reply, with the envelope in front.
pub(crate) struct Reply {
    pub frames: Vec<Frame>,
    /// When it is dropped.
    pub until: Instant,
}

impl Reply {
    fn bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.len() + size_of::<Frame>()).sum()
    }
}

/// The kept replies by their clients' routing ids, each client's in order.
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
            pause: MIN_RETRY,
            retry_at: Instant::now(),
            dropped: 0,
        }
    }

    /// Returns true if replies for this client are kept, which the next one must not overtake.
    pub fn has(&self, routing_id: &[u8]) -> bool {
        self.clients.contains_key(routing_id)
    }

    /// Keeps a reply.
    pub fn keep(&mut self, mut reply: Reply, now: Instant) {
        // A small frame may be a part of what libzmq read at a time, and hold all of that in
        // memory.
        let small = reply.frames.iter_mut().filter(|frame| frame.len() <= READ_BATCH);
        small.for_each(|frame| *frame = frame.clone());
        let bytes = reply.bytes();
        if self.clients.is_empty() {
            self.pause = MIN_RETRY;
            self.retry_at = now + MIN_RETRY;
        }
        let kept = self.clients.entry(reply.frames[0].to_vec()).or_default();
        kept.replies.push_back(reply);
        kept.bytes += bytes;
        self.bytes += bytes;
    }

    /// Returns the bytes of all replies that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes that are kept for the client for which most is.
    pub fn most_bytes(&self) -> usize {
        self.clients.values().map(|kept| kept.bytes).max().unwrap_or(0)
    }

    /// Drops the oldest reply of the client for which most is kept.
    pub fn drop_oldest(&mut self) {
        let most = self.clients.iter_mut().max_by_key(|(_, kept)| kept.bytes);
        let Some((routing_id, kept)) = most else { return };
        let dropped = kept.pop().map_or(0, |reply| reply.bytes());
        self.bytes -= dropped;
        if kept.replies.is_empty() {
            let routing_id = routing_id.clone();
            self.clients.remove(&routing_id);
        }
        self.count_dropped();
    }

    /// Tries the kept replies again, if it is time or some client may have taken one. `send`
    /// returns false if the client still does not take it.
    pub fn retry(
        &mut self,
        now: Instant,
        may_have_taken: bool,
        mut send: impl FnMut(&mut Reply) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        if self.clients.is_empty() || (now < self.retry_at && !may_have_taken) {
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
            self.pause = if taken > 0 { MIN_RETRY } else { (2 * self.pause).min(MAX_RETRY) };
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

    /// Returns when [`Outbox::retry`] is next due; `None` if nothing is kept.
    pub fn retry_at(&self) -> Option<Instant> {
        (!self.clients.is_empty()).then_some(self.retry_at)
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Returns how many replies are kept.
    pub fn len(&self) -> usize {
        self.clients.values().map(|kept| kept.replies.len()).sum()
    }

    /// Returns how many replies were dropped, since their clients did not read.
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

    #[test]
    fn a_clients_replies_leave_in_order_as_far_as_it_takes_them() {
        let now = Instant::now();
        let mut outbox = Outbox::new();
        for text in ["1", "2", "3"] {
            outbox.keep(reply("a", text, now + MAX_RETRY), now);
        }
        assert!(outbox.has(b"a") && !outbox.has(b"b") && !outbox.is_empty());
        let mut sent = Vec::new();
        let take = |limit: usize, sent: &mut Vec<u8>, reply: &mut Reply| {
            let takes = sent.len() < limit;
            if takes {
                sent.extend(&reply.frames[2][..]);
            }
            Ok(takes)
        };
        outbox.retry(now, false, |_| panic!("too early")).unwrap();
        outbox.retry(now + MIN_RETRY, false, |reply| take(2, &mut sent, reply)).unwrap();
        assert_eq!((sent.as_slice(), outbox.len()), (&b"12"[..], 1));
        assert_eq!(outbox.most_bytes(), reply("a", "3", now).bytes());
        outbox.retry(now + 2 * MIN_RETRY, true, |reply| take(2, &mut sent, reply)).unwrap();
        assert_eq!(outbox.retry_at(), Some(now + 4 * MIN_RETRY));
        outbox.retry(now + 3 * MIN_RETRY, false, |_| panic!("too early")).unwrap();
        outbox.retry(now + 4 * MIN_RETRY, false, |reply| take(3, &mut sent, reply)).unwrap();
        assert_eq!((sent.as_slice(), outbox.len(), outbox.bytes), (&b"123"[..], 0, 0));
        assert_eq!((outbox.retry_at(), outbox.dropped()), (None, 0));
        assert!(outbox.is_empty() && !outbox.has(b"a"));
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
    fn only_who_takes_something_before_its_time_is_tried_again_sooner() {
        let start = Instant::now();
        let mut outbox = Outbox::new();
        for text in ["1", "2"] {
            outbox.keep(reply("a", text, start + Duration::from_secs(1)), start);
        }
        let mut at = start + MIN_RETRY;
        while outbox.retry_at().unwrap() - at < MAX_RETRY {
            at = outbox.retry_at().unwrap();
            outbox.retry(at, false, |_| Ok(false)).unwrap();
        }
        let early = at + MAX_RETRY / 2;
        outbox.retry(early, true, |_| Ok(false)).unwrap();
        assert_eq!(outbox.retry_at(), Some(at + MAX_RETRY));
        outbox.retry(early, true, |reply| Ok(reply.frames[2][..] == *b"1")).unwrap();
        assert_eq!((outbox.retry_at(), outbox.len()), (Some(early + MIN_RETRY), 1));
    }

    #[test]
    fn the_client_for_which_most_is_kept_loses_its_oldest_first() {
        let now = Instant::now();
        let mut outbox = Outbox::new();
        for (client, size) in [("modest", 100), ("greedy", 90), ("greedy", 80), ("greedy", 70)] {
            outbox.keep(reply(client, &"x".repeat(size), now + MAX_RETRY), now);
        }
        let all = outbox.bytes();
        assert!(outbox.most_bytes() > all / 2);
        let dropped = (0..4).map(|_| {
            let before = outbox.bytes();
            outbox.drop_oldest();
            before - outbox.bytes()
        });
        let sizes: Vec<usize> = dropped.map(|bytes| bytes - 3 * size_of::<Frame>() - 6).collect();
        assert_eq!(sizes, [90, 80, 100, 70]);
        outbox.drop_oldest();
        assert_eq!((outbox.bytes(), outbox.len(), outbox.retry_at()), (0, 0, None));
        assert_eq!(outbox.dropped(), 4);
    }
}
