//! Which lane gets the next request.

use std::time::Instant;

use crate::backend::{Admission, LaneState, Unavailable};

/// The lanes' indices, the most recently used first.
pub(super) struct Recent(Vec<usize>);

impl Recent {
    pub fn new(lanes: usize) -> Recent {
        Recent((0..lanes).collect())
    }

    /// Takes account of a lane that may be new.
    pub fn enter(&mut self, lane: usize) {
        self.0.extend(self.0.len()..=lane);
    }

    /// Returns the lane at this place, which is the most recently used one from now on.
    pub fn take(&mut self, place: usize) -> usize {
        self.0[..=place].rotate_right(1);
        self.0[0]
    }

    /// Returns the lane at this place.
    pub fn lane(&self, place: usize) -> usize {
        self.0[place]
    }

    /// Returns the place of the lane for the next request: the most recently used one
    /// that has credit, since waking a thread costs more than a tiny handler; if none has, the one
    /// of least cost, and of equals the least recently used. The lane that lost the request is the
    /// last choice, behind those that stand by for it. Only if there is no lane to wait for either,
    /// it is one that may never answer.
    pub fn choose(
        &self,
        lanes: &[impl LaneState],
        lost_on: Option<usize>,
        now: Instant,
    ) -> Option<usize> {
        let (mut best, mut last, mut is_any_full) = (None::<((Rank, f64), usize)>, None, false);
        for (place, &lane) in self.0.iter().enumerate() {
            let rank = match lanes[lane].admission(now) {
                Admission::Unavailable(_) => continue,
                Admission::Full => {
                    is_any_full = true;
                    continue;
                }
                Admission::Standby(_) if lost_on.is_none() => continue,
                Admission::Doubtful(cost) => (Rank::Doubtful, cost),
                _ if lost_on == Some(lane) => {
                    last = Some(place);
                    continue;
                }
                Admission::Preferred => return Some(place),
                Admission::Cost(cost) => (Rank::Good, cost),
                Admission::Standby(cost) => (Rank::Standby, cost),
            };
            if best.is_none_or(|(least, _)| rank <= least) {
                best = Some((rank, place));
            }
        }
        match best {
            Some(((Rank::Doubtful, _), place)) => last.or((!is_any_full).then_some(place)),
            Some((_, place)) => Some(place),
            None => last,
        }
    }

    /// Returns true if a lane takes a request that none has lost.
    pub fn has_capacity(&self, lanes: &[impl LaneState], now: Instant) -> bool {
        let (mut is_any_doubtful, mut is_any_full) = (false, false);
        for &lane in &self.0 {
            match lanes[lane].admission(now) {
                Admission::Preferred | Admission::Cost(_) => return true,
                Admission::Doubtful(_) => is_any_doubtful = true,
                Admission::Full => is_any_full = true,
                Admission::Standby(_) | Admission::Unavailable(_) => (),
            }
        }
        is_any_doubtful && !is_any_full
    }

    /// Returns true if a lane takes a request that another one has too: one that stands by as well.
    pub fn has_spare(&self, lanes: &[impl LaneState], now: Instant) -> bool {
        use Admission::{Cost, Preferred, Standby};
        let mut recent = self.0.iter().map(|&lane| lanes[lane].admission(now));
        recent.any(|admission| matches!(admission, Preferred | Cost(_) | Standby(_)))
    }
}

/// Which lanes come before which others.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Rank {
    Good,
    Standby,
    Doubtful,
}

/// Returns the reason why no lane is available; `None` if one is, if only soon.
pub(in crate::service) fn all_unavailable(
    lanes: &[impl LaneState],
    now: Instant,
) -> Option<&'static str> {
    let (mut is_any_down, mut is_any_stuck) = (false, false);
    for lane in lanes {
        match lane.admission(now) {
            Admission::Unavailable(Unavailable::Disconnected) => (),
            Admission::Unavailable(Unavailable::Down) => is_any_down = true,
            Admission::Unavailable(Unavailable::Stuck) => is_any_stuck = true,
            _ => return None,
        }
    }
    // Of those that are connected: where others have been is vacant for long.
    Some(match (is_any_down, is_any_stuck) {
        (false, false) => "no worker or upstream is connected",
        (false, true) => {
            "every worker or upstream is stuck in requests that have passed their deadline"
        }
        (true, false) => "no worker has a running program",
        (true, true) => "every worker is stuck in a request, or has no running program",
    })
}
