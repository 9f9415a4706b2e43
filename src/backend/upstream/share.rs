//! How much of the requests an upstream should get, as the weight of its SRV record says (RFC 2782).

/// How much the history counts for: about as many of the last requests.
const HISTORY: f64 = 32.0;

/// What a history counts for at least, so that of those that have none the speed decides.
const LEAST: f64 = 0.01;

/// The share of an upstream, beside others with other ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Its part; 1 is that of one without a weight.
    part: f64,
    /// How many of the last requests it got, the latest counting most.
    recent: f64,
}

impl Share {
    pub fn new(part: f64) -> Share {
        Share { part, recent: 0.0 }
    }

    /// Changes its part, and keeps the history.
    pub fn set(&mut self, part: f64) {
        self.part = part;
    }

    /// Returns the cost of one more request, of what it is without a weight and with that many
    /// outstanding: as many times as it got of the last requests, against its part. That it has
    /// outstanding as much as its part says counts neither for it nor against it.
    pub fn cost(&self, cost: f64, outstanding: usize) -> f64 {
        let cost = match outstanding as f64 {
            0.0 => cost,
            // It was measured by the root of what was outstanding: see `Peer`.
            count => cost / (count + 1.0) * (count / self.part + 1.0) * self.part.sqrt(),
        };
        cost * (self.recent + LEAST) / self.part
    }

    /// Takes account of a request that was sent: here, or to another one.
    pub fn on_sent(&mut self, is_here: bool) {
        self.recent *= 1.0 - 1.0 / HISTORY;
        self.recent += f64::from(u8::from(is_here));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends requests to upstreams of these parts, whose cost is that at the time and of which that many
    /// are outstanding; returns how many each got.
    fn sent(
        parts: &[f64],
        requests: usize,
        cost: impl Fn(usize, &[usize]) -> (f64, usize),
    ) -> Vec<usize> {
        let mut shares: Vec<_> = parts.iter().map(|part| Share::new(*part)).collect();
        let mut counts = vec![0; parts.len()];
        for _ in 0..requests {
            let cost = |place: &usize| {
                let (cost, outstanding) = cost(*place, &counts);
                shares[*place].cost(cost, outstanding)
            };
            let least = (0..parts.len()).min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap();
            let each = shares.iter_mut().enumerate();
            each.for_each(|(place, share)| share.on_sent(place == least));
            counts[least] += 1;
        }
        counts
    }

    #[test]
    fn requests_are_shared_by_weight_among_those_that_are_as_quick() {
        let counts = sent(&[1.5, 0.5], 4000, |_, _| (1.0, 0));
        assert!((2950..=3050).contains(&counts[0]), "{counts:?}");
        let counts = sent(&[1.0, 1.0, 1.0], 3000, |_, _| (1.0, 0));
        assert!(counts.iter().all(|count| (980..=1020).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_is_outstanding_of_those_that_are_alike_changes_nothing_of_their_shares() {
        for clients in [3, 20, 100] {
            // Each answers all that it has at once: the oldest of all is answered first.
            let (mut shares, parts) = ([1.5, 0.5].map(Share::new), [1.5, 0.5]);
            let (mut sent, mut counts) = (std::collections::VecDeque::new(), [0, 0]);
            for request in 0..4000 {
                let outstanding = |place| sent.iter().filter(|to| **to == place).count();
                let cost = |place: usize| {
                    let count = outstanding(place) as f64;
                    shares[place].cost((count + 1.0) / count.max(1.0).sqrt(), outstanding(place))
                };
                let least = usize::from(cost(1) < cost(0));
                (0..parts.len()).for_each(|place| shares[place].on_sent(place == least));
                sent.push_back(least);
                counts[least] += 1;
                if request >= clients {
                    sent.pop_front();
                }
            }
            assert!((2800..=3200).contains(&counts[0]), "{clients}: {counts:?}");
        }
    }

    #[test]
    fn one_of_a_tiny_part_gets_next_to_nothing_and_everything_when_it_is_alone() {
        let counts = sent(&[1.0, 0.01], 10_000, |_, _| (1.0, 0));
        assert!((1..=300).contains(&counts[1]), "{counts:?}");
        assert_eq!(sent(&[0.01], 100, |_, _| (1.0, 0)), [100]);
    }

    #[test]
    fn one_that_answers_nothing_any_more_does_not_get_its_share_of_all_that_comes() {
        // Each request that it has makes the next one more expensive.
        let counts = sent(&[1.5, 0.5], 1000, |place, counts| match place {
            0 => ((1 + counts[0]) as f64, counts[0]),
            _ => (1.0, 0),
        });
        assert!((1..=100).contains(&counts[0]), "{counts:?}");
    }
}
