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
    /// last choice, behind those that stand by for it.
    pub fn choose(
        &self,
        lanes: &[impl LaneState],
        lost_on: Option<usize>,
        now: Instant,
    ) -> Option<usize> {
        let (mut best, mut last) = (None::<((bool, f64), usize)>, None);
        for (place, &lane) in self.0.iter().enumerate() {
            let admission = lanes[lane].admission(now);
            match admission {
                Admission::Full | Admission::Unavailable(_) => (),
                Admission::Standby(_) if lost_on.is_none() => (),
                _ if lost_on == Some(lane) => last = Some(place),
                Admission::Preferred => return Some(place),
                Admission::Cost(cost) | Admission::Standby(cost) => {
                    let rank = (matches!(admission, Admission::Standby(_)), cost);
                    if best.is_none_or(|(least, _)| rank <= least) {
                        best = Some((rank, place));
                    }
                }
            }
        }
        best.map(|(_, place)| place).or(last)
    }

    /// Returns true if a lane takes a request.
    pub fn has_capacity(&self, lanes: &[impl LaneState], now: Instant) -> bool {
        let mut recent = self.0.iter().map(|&lane| lanes[lane].admission(now));
        recent.any(|admission| matches!(admission, Admission::Preferred | Admission::Cost(_)))
    }
}

/// Returns the reason why no lane is available; `None` if one is, if only soon.
pub(in crate::service) fn all_unavailable(
    lanes: &[impl LaneState],
    now: Instant,
) -> Option<&'static str> {
    let (mut down, mut stuck) = (0, 0);
    for lane in lanes {
        match lane.admission(now) {
            Admission::Unavailable(Unavailable::Disconnected) => (),
            Admission::Unavailable(Unavailable::Down) => down += 1,
            Admission::Unavailable(Unavailable::Stuck) => stuck += 1,
            Admission::Preferred | Admission::Cost(_) | Admission::Standby(_) | Admission::Full => {
                return None;
            }
        }
    }
    // Of those that are connected: where others have been is vacant for long.
    Some(match (down, stuck) {
        (0, 0) => "no worker or upstream is connected",
        (0, _) => "every worker or upstream is stuck in requests that have passed their deadline",
        (_, 0) => "no worker has a running program",
        _ => "every worker is stuck in a request, or has no running program",
    })
}
