//! Whether a client asks for more than it gets, or waits for its replies. It holds no socket and
//! reads no clock.

/// What a client has had outstanding, in rounds: each is as many requests as were outstanding when
/// it began.
///
/// Who asks again when a reply has come has no more outstanding in one round than in that before,
/// however long each reply takes. Who does not wait for the replies has more and more, until some
/// are given up.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Number of requests that are to end before the round does.
    left: usize,
    /// Most that was outstanding in this round, and in the one before; zero before the first.
    most: usize,
    most_before: usize,
    /// One was given up in this round, in the queue.
    was_given_up: bool,
    is_too_much: bool,
}

impl Demand {
    /// Takes account of a request, with which so many are outstanding.
    pub fn on_asked(&mut self, outstanding: usize) {
        self.most = self.most.max(outstanding);
    }

    /// Takes account of a request that is given up, in the queue.
    pub fn on_given_up(&mut self) {
        self.was_given_up = true;
    }

    /// Takes account of the end of a request, without which so many are outstanding.
    pub fn on_ended(&mut self, outstanding: usize) {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return;
        }
        let has_grown = self.most_before > 0 && self.most > self.most_before;
        *self = Demand {
            left: outstanding,
            most: outstanding,
            most_before: self.most,
            was_given_up: false,
            is_too_much: has_grown || self.was_given_up,
        };
    }

    /// Returns true if the last round says that the client asks for more than it gets.
    pub fn is_too_much(&self) -> bool {
        self.is_too_much
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a client ask at the start, and as often as `asks` says after each end; returns after
    /// which ends its demand was too much.
    fn too_much(start: usize, ends: usize, asks: impl Fn(usize) -> usize) -> Vec<usize> {
        let (mut demand, mut outstanding) = (Demand::default(), 0);
        let ask = |demand: &mut Demand, outstanding: &mut usize, times: usize| {
            for _ in 0..times {
                *outstanding += 1;
                demand.on_asked(*outstanding);
            }
        };
        ask(&mut demand, &mut outstanding, start);
        let is_too_much = |end: &usize| {
            outstanding -= 1;
            demand.on_ended(outstanding);
            ask(&mut demand, &mut outstanding, asks(*end));
            demand.is_too_much()
        };
        (0..ends).filter(is_too_much).collect()
    }

    #[test]
    fn who_asks_again_when_a_reply_has_come_waits_for_it() {
        for start in [1, 2, 100] {
            let ends = too_much(start, 1000, |_| 1);
            assert!(ends.is_empty(), "{start}: {ends:?}");
        }
        // Ten at a time.
        let ends = too_much(100, 1000, |end| if end % 10 == 9 { 10 } else { 0 });
        assert!(ends.is_empty(), "{ends:?}");
    }

    #[test]
    fn who_asks_for_more_and_more_does_not() {
        // Twice, and a tenth more, than it gets.
        let twice = too_much(1, 1000, |_| 2);
        assert!(twice.len() > 990, "{twice:?}");
        let more = too_much(1, 1000, |end| if end % 10 == 9 { 2 } else { 1 });
        assert!(more.len() > 900, "{more:?}");
    }

    #[test]
    fn what_is_given_up_was_too_much_for_a_round() {
        let mut demand = Demand::default();
        (1..=3).for_each(|outstanding| demand.on_asked(outstanding));
        demand.on_given_up();
        demand.on_ended(2);
        assert!(demand.is_too_much());
        demand.on_ended(1);
        assert!(demand.is_too_much());
        demand.on_ended(0);
        assert!(!demand.is_too_much());
    }
}
