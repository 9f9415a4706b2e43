//! Which of a lane's requests its worker has started: what lets the proxy take back the others when
//! one turns out to be slow.
//!
//! A worker lane is first in, first out, so both sides know a request by the number of requests
//! before it. One word holds two such numbers, so that a request is either started or revoked,
//! never both.

#[cfg(feature = "loom")]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(feature = "loom")]
use loom::sync::{Arc, Mutex};
use std::sync::PoisonError;
#[cfg(not(feature = "loom"))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(not(feature = "loom"))]
use std::sync::{Arc, Mutex};

/// Shared by a lane and its worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: AtomicU64,
    /// Requests whose reply, not read yet, says that they are lost.
    lost: Mutex<Vec<u32>>,
    /// There may be some in `lost`: saves the lock where none ever is.
    has_lost: AtomicBool,
}

/// Requests below `started` were started or skipped by the worker; those of the rest that are below
/// `revoked` it is to skip. Both count modulo 2^32.
#[derive(Clone, Copy)]
struct State {
    started: u32,
    revoked: u32,
}

impl State {
    fn unpack(word: u64) -> State {
        State { started: (word >> 32) as u32, revoked: word as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.started) << 32 | u64::from(self.revoked)
    }
}

/// Returns true if `a` comes before `b`, of two numbers less than 2^31 apart.
fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Claim {
    /// Starts the request of that number, which is the worker's next. Returns false if it was
    /// revoked: another worker has it, and this one is to skip it.
    pub fn try_start(&self, number: u32) -> bool {
        let start = |word| {
            // With `revoked` kept close, `is_before` holds for any number of requests.
            let started = State { started: number.wrapping_add(1), revoked: number };
            (!is_before(number, State::unpack(word).revoked)).then(|| started.pack())
        };
        self.0.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, start).is_ok()
    }

    /// Marks the request as lost, before its reply is sent. The reply itself does not tell: what a
    /// handler says may look the same.
    pub fn mark_lost(&self, number: u32) {
        self.0.lost.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        self.0.has_lost.store(true, Ordering::Release);
    }

    /// Takes the mark off the request whose reply has come; returns true if there was one.
    pub fn take_lost(&self, number: u32) -> bool {
        if !self.0.has_lost.load(Ordering::Acquire) {
            return false;
        }
        let mut lost = self.0.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let place = lost.iter().position(|other| *other == number);
        place.map(|place| lost.swap_remove(place)).is_some()
    }

    /// Revokes those of the requests from `front` to below `sent` that the worker has not started;
    /// returns how many these are.
    ///
    /// Returns 0 if the worker has not started `front`: its thread was not scheduled yet, so that
    /// request is not the slow one. With `front_too` that one is revoked like the others.
    pub fn revoke(&self, front: u32, sent: u32, front_too: bool) -> usize {
        let revoke = |word| {
            let started = State::unpack(word).started;
            (front_too || is_before(front, started))
                .then(|| State { started, revoked: sent }.pack())
        };
        let word = self.0.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, revoke);
        let all = sent.wrapping_sub(front);
        // What was skipped before `front` is not counted as started.
        word.map_or(0, |word| sent.wrapping_sub(State::unpack(word).started).min(all) as usize)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_is_not_started() {
        let claim = Claim::default();
        assert!(claim.try_start(0));
        assert_eq!(claim.revoke(0, 4, false), 3);
        assert!(!claim.try_start(1) && !claim.try_start(2) && !claim.try_start(3));
        assert!(claim.try_start(4));
    }

    #[test]
    fn a_worker_that_starts_nothing_gives_back_all_and_no_more() {
        let claim = Claim::default();
        assert!(claim.try_start(0));
        assert_eq!(claim.revoke(0, 3, false), 2);
        assert!(!claim.try_start(1) && !claim.try_start(2));
        assert_eq!(claim.revoke(3, 5, false), 0);
        assert_eq!(claim.revoke(3, 5, true), 2);
        assert!(!claim.try_start(3) && !claim.try_start(4) && claim.try_start(5));
    }

    #[test]
    fn what_is_started_is_not_revoked() {
        let claim = Claim::default();
        assert_eq!(claim.revoke(0, 3, false), 0);
        assert!(claim.try_start(0) && claim.try_start(1));
        assert_eq!(claim.revoke(0, 3, false), 1);
        assert!(!claim.try_start(2));
    }

    #[test]
    fn the_numbers_may_wrap() {
        let claim = Claim::default();
        for number in [0, 1 << 30, 1 << 31, 3 << 30, u32::MAX - 1] {
            assert!(claim.try_start(number), "{number}");
        }
        assert_eq!(claim.revoke(u32::MAX - 1, 2, false), 3);
        assert!(
            !claim.try_start(u32::MAX)
                && !claim.try_start(0)
                && !claim.try_start(1)
                && claim.try_start(2)
        );
    }

    #[test]
    fn of_a_worker_and_a_proxy_that_race_for_a_request_exactly_one_gets_it() {
        const REQUESTS: u32 = 40_000;
        let claim = Claim::default();
        let (send, requests) = std::sync::mpsc::channel();
        let worker = claim.clone();
        let worker =
            std::thread::spawn(move || requests.iter().filter(|&n| worker.try_start(n)).collect());
        let mut revoked = Vec::new();
        for sent in (8..=REQUESTS).step_by(8) {
            (sent - 8..sent).for_each(|number| send.send(number).unwrap());
            let newest = claim.revoke(sent - 8, sent, false) as u32;
            revoked.extend(sent - newest..sent);
        }
        drop(send);
        let started: Vec<u32> = worker.join().unwrap();
        let mut all = [started, revoked].concat();
        all.sort_unstable();
        assert_eq!(all, (0..REQUESTS).collect::<Vec<_>>());
    }
}

/// Every order in which the two sides can meet: `.ci/loom every_order`.
#[cfg(all(test, feature = "loom"))]
mod every_order {
    use loom::sync::mpsc::channel;
    use loom::thread::spawn;

    use super::*;

    #[test]
    fn each_request_is_started_or_revoked_and_never_both() {
        loom::model(|| {
            let claim = Claim::default();
            let worker = claim.clone();
            let worker = spawn(move || (0..3).filter(|&number| worker.try_start(number)).collect());
            let newest = claim.revoke(0, 2, false) as u32;
            let mut revoked: Vec<u32> = (2 - newest..2).collect();
            let newest = claim.revoke(0, 3, true) as u32;
            // What was revoked before is revoked again, and counted again.
            revoked.extend(
                (3 - newest..3).filter(|number| !revoked.contains(number)).collect::<Vec<_>>(),
            );
            let started: Vec<u32> = worker.join().unwrap();
            let mut all = [started, revoked].concat();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2]);
        });
    }

    #[test]
    fn what_is_lost_is_known_when_its_reply_is_read() {
        loom::model(|| {
            let claim = Claim::default();
            let worker = claim.clone();
            let (send, replies) = channel();
            let worker = spawn(move || {
                assert!(worker.try_start(0));
                worker.mark_lost(0);
                send.send(0).unwrap();
                assert!(worker.try_start(1));
                send.send(1).unwrap();
            });
            assert_eq!(replies.recv(), Ok(0));
            assert!(claim.take_lost(0) && !claim.take_lost(0));
            assert_eq!(replies.recv(), Ok(1));
            assert!(!claim.take_lost(1));
            worker.join().unwrap();
        });
    }
}
