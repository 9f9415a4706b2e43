//! Which of a lane's requests its worker has begun: what lets the proxy take back the others when
//! one turns out to be slow.
//!
//! A pool lane is first in, first out, so both sides know a request by how many went before it.
//! One word holds two such numbers, so that a request is either begun or taken back, never both.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by a lane and its worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: AtomicU64,
    /// Requests that the worker has answered with the news that they are lost, and whether there ever was
    /// one.
    lost: Mutex<Vec<u32>>,
    loses: AtomicBool,
}

/// Requests below `begun` were begun by the worker or passed over; those of the rest that are below
/// `recalled` are to be passed over, which by itself does not move `begun`: the next beginning
/// does. Both count modulo 2^32.
#[derive(Clone, Copy)]
struct State {
    begun: u32,
    recalled: u32,
}

impl State {
    fn unpack(word: u64) -> State {
        State { begun: (word >> 32) as u32, recalled: word as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.begun) << 32 | u64::from(self.recalled)
    }
}

/// Whether `a` comes before `b`, of two numbers that are not far apart.
fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Claim {
    /// The worker's next request is this one. Whether it is to be answered: if not, it was taken back
    /// and another worker has it.
    pub fn begin(&self, number: u32) -> bool {
        let begin = |word| {
            // With `recalled` kept close, `before` holds for any number of requests.
            let begun = State { begun: number.wrapping_add(1), recalled: number };
            (!before(number, State::unpack(word).recalled)).then(|| begun.pack())
        };
        self.0.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin).is_ok()
    }

    /// The reply to that request, which is yet to be sent, says that it is lost. A reply itself does not
    /// tell: what a handler says may look the same.
    pub fn lose(&self, number: u32) {
        self.0.lost.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        self.0.loses.store(true, Ordering::Release);
    }

    /// Whether the reply to that request, which has come, says that it is lost.
    pub fn is_lost(&self, number: u32) -> bool {
        if !self.0.loses.load(Ordering::Acquire) {
            return false;
        }
        let mut lost = self.0.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let place = lost.iter().position(|other| *other == number);
        place.map(|place| lost.swap_remove(place)).is_some()
    }

    /// Takes back those of the requests from `front` to below `sent` that the worker has not begun,
    /// and gives how many these are. None if it has not even begun `front`: then that one is not
    /// slow, the worker is; unless `front` is to be taken back too.
    pub fn recall(&self, front: u32, sent: u32, front_too: bool) -> usize {
        let recall = |word| {
            let begun = State::unpack(word).begun;
            (front_too || before(front, begun)).then(|| State { begun, recalled: sent }.pack())
        };
        let word = self.0.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, recall);
        let all = sent.wrapping_sub(front);
        // What was passed over before `front` is not counted as begun.
        word.map_or(0, |word| sent.wrapping_sub(State::unpack(word).begun).min(all) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_is_not_begun() {
        let claim = Claim::default();
        assert!(claim.begin(0));
        assert_eq!(claim.recall(0, 4, false), 3);
        assert!(!claim.begin(1) && !claim.begin(2) && !claim.begin(3));
        assert!(claim.begin(4));
    }

    #[test]
    fn a_worker_that_begins_nothing_gives_back_all_and_no_more() {
        let claim = Claim::default();
        assert!(claim.begin(0));
        assert_eq!(claim.recall(0, 3, false), 2);
        assert!(!claim.begin(1) && !claim.begin(2));
        assert_eq!(claim.recall(3, 5, false), 0);
        assert_eq!(claim.recall(3, 5, true), 2);
        assert!(!claim.begin(3) && !claim.begin(4) && claim.begin(5));
    }

    #[test]
    fn what_is_begun_is_not_taken_back() {
        let claim = Claim::default();
        assert_eq!(claim.recall(0, 3, false), 0);
        assert!(claim.begin(0) && claim.begin(1));
        assert_eq!(claim.recall(0, 3, false), 1);
        assert!(!claim.begin(2));
    }

    #[test]
    fn the_numbers_may_wrap() {
        let claim = Claim::default();
        for number in [0, 1 << 30, 1 << 31, 3 << 30, u32::MAX - 1] {
            assert!(claim.begin(number), "{number}");
        }
        assert_eq!(claim.recall(u32::MAX - 1, 2, false), 3);
        assert!(!claim.begin(u32::MAX) && !claim.begin(0) && !claim.begin(1) && claim.begin(2));
    }

    #[test]
    fn of_a_worker_and_a_proxy_that_race_for_a_request_exactly_one_gets_it() {
        const REQUESTS: u32 = 40_000;
        let claim = Claim::default();
        let (send, requests) = std::sync::mpsc::channel();
        let worker = claim.clone();
        let worker =
            std::thread::spawn(move || requests.iter().filter(|&n| worker.begin(n)).collect());
        let mut recalled = Vec::new();
        for sent in (8..=REQUESTS).step_by(8) {
            (sent - 8..sent).for_each(|number| send.send(number).unwrap());
            let newest = claim.recall(sent - 8, sent, false) as u32;
            recalled.extend(sent - newest..sent);
        }
        drop(send);
        let begun: Vec<u32> = worker.join().unwrap();
        let mut all = [begun, recalled].concat();
        all.sort_unstable();
        assert_eq!(all, (0..REQUESTS).collect::<Vec<_>>());
    }
}
