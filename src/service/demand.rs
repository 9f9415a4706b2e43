//! Whether a client asks for more than it gets, or waits for its replies. It holds no socket and
//! reads no clock.

/// Number of earlier rounds that one is compared with.
const ROUNDS: usize = 4;

/// What a client has had outstanding, in rounds: each is as many requests as were outstanding when
/// it began.
///
/// Who asks again when a reply has come, at once or after a while, has about as much outstanding in
/// each round, however long each reply takes. Who does not wait for the replies has more and more,
/// until its limit, or until some have passed their deadline in the queue.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Number of requests that are to end before the round does.
    left: usize,
    /// Most that was outstanding in this round.
    most: usize,
    /// Most that was outstanding in each of those before, the latest first; zero before the first.
    before: [usize; ROUNDS],
    /// One was refused or overdue in this round.
    had_too_much: bool,
    is_too_much: bool,
}

/// Returns by how much the most that is outstanding may vary if it is as much as that at least.
fn variation(least: usize) -> usize {
    if least < 8 { 0 } else { (least / 8).max(2 * least.isqrt()) }
}

impl Demand {
    /// Takes account of a request, with which so many are outstanding.
    pub fn on_asked(&mut self, outstanding: usize) {
        self.most = self.most.max(outstanding);
    }

    /// Takes account of a request that is refused since too many are outstanding, or that has passed
    /// its deadline in the queue.
    pub fn on_too_much(&mut self) {
        (self.had_too_much, self.is_too_much) = (true, true);
    }

    /// Takes account of the end of a request, without which so many are outstanding.
    pub fn on_ended(&mut self, outstanding: usize) {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return;
        }
        let least = self.before.into_iter().filter(|most| *most > 0).min();
        let has_grown = least.is_some_and(|least| self.most > least + variation(least));
        self.is_too_much = has_grown || self.had_too_much;
        self.before.rotate_right(1);
        self.before[0] = self.most;
        (self.left, self.most, self.had_too_much) = (outstanding, outstanding, false);
    }

    /// Returns true if it asks for more than it gets.
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
        // One after a while: as many as wait for that at a time vary.
        let ends = too_much(100, 1000, |end| [0, 2, 1, 0, 0, 3, 1, 1][end * end % 8]);
        assert!(ends.is_empty(), "{ends:?}");
        // Ten at a time.
        let ends = too_much(100, 1000, |end| if end % 10 == 9 { 10 } else { 0 });
        assert!(ends.is_empty(), "{ends:?}");
    }

    #[test]
    fn who_asks_for_more_and_more_does_not() {
        // Twice, and a tenth more, than it gets.
        let twice = too_much(1, 1000, |_| 2);
        assert!(twice.len() > 990, "{}", twice.len());
        let more = too_much(1, 1000, |end| if end % 10 == 9 { 2 } else { 1 });
        assert!(more.len() > 800, "{}", more.len());
    }

    #[test]
    fn what_is_refused_or_overdue_was_too_much_until_a_round_has_none() {
        let mut demand = Demand::default();
        (1..=4).for_each(|outstanding| demand.on_asked(outstanding));
        demand.on_ended(3);
        assert!(!demand.is_too_much());
        demand.on_too_much();
        let is_too_much = |outstanding: &usize| {
            demand.on_ended(*outstanding);
            demand.is_too_much()
        };
        let said: Vec<bool> = [2, 1, 0, 0].iter().map(is_too_much).collect();
        assert_eq!(said, [true, true, true, false]);
    }
}
