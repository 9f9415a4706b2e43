//! What clients ask for in a simulation.

use std::time::Duration;

use fastrand::Rng;

use super::{MS, US};

/// What the requests of a run are like; shares are of a thousand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub quick: Duration,
    pub slow: Duration,
    pub slow_share: u32,
    pub hung_share: u32,
    pub deadly_share: u32,
    pub pause_share: u32,
    /// A client asks again after its answer; else at any time.
    pub is_closed_loop: bool,
    pub think_time: Duration,
    /// Clients are REQ sockets, which give up what they had asked for when they ask anew.
    pub are_req: bool,
    /// Clients go, and others come.
    pub are_leaving: bool,
    /// Time for which clients wait, if they say so.
    pub patience: Option<Duration>,
    pub is_short_of_memory: bool,
}

/// What a request does to whatever handles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// It has no end within its deadline.
    Hangs,
    /// It ends the worker's program, or the upstream's connection.
    Kills,
    /// It is answered, and then the worker is not ready for a while.
    Pauses,
}

impl Load {
    /// Draws the load of a run.
    pub fn draw(dice: &mut Rng) -> Load {
        let mut one_of = |shares: &[u32]| shares[dice.usize(..shares.len())];
        let shares = [
            one_of(&[0, 1, 10, 300]),
            one_of(&[0, 0, 0, 5, 50]),
            one_of(&[0, 0, 10, 200]),
            one_of(&[0, 0, 10, 200]),
        ];
        Load {
            quick: [US, 5 * US, 50 * US, 300 * US, MS, 5 * MS][dice.usize(..6)],
            slow: [2 * MS, 20 * MS, 700 * MS][dice.usize(..3)],
            slow_share: shares[0],
            hung_share: shares[1],
            deadly_share: shares[2],
            pause_share: shares[3],
            is_closed_loop: dice.bool(),
            think_time: [20 * US, MS, 10 * MS][dice.usize(..3)],
            are_req: dice.bool(),
            are_leaving: dice.bool(),
            patience: [None, None, Some(30 * MS)][dice.usize(..3)],
            is_short_of_memory: dice.u32(..4) == 0,
        }
    }

    /// Returns the routing id of a client's connection of that number.
    pub fn name(&self, client: usize, connection: usize) -> String {
        format!("{client} {connection}")
    }

    /// Draws what one request does.
    pub fn draw_effect(&self, dice: &mut Rng) -> Effect {
        let mut left = dice.u32(..1000);
        let mut falls_into = |share: u32| {
            let falls = left < share;
            left = left.saturating_sub(share);
            falls
        };
        if falls_into(self.hung_share) {
            Effect::Hangs
        } else if falls_into(self.deadly_share) {
            Effect::Kills
        } else if falls_into(self.pause_share) {
            Effect::Pauses
        } else {
            Effect::Nothing
        }
    }
}
