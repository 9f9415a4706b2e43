//! How long things take: a histogram whose buckets are as wide as an eighth of the power of two that
//! they lie above.

use std::time::Duration;

/// Number of buckets for each power of two.
const PER_DOUBLING: u64 = 8;

/// The unit in which times are told apart, in nanoseconds: the width of the narrowest buckets, those
/// above one microsecond.
const UNIT: u64 = 1000 / PER_DOUBLING;

/// Number of powers of two from one microsecond up: to 2^27 µs, which is 134 s.
const DOUBLINGS: usize = 27;

/// Number of buckets: one up to a microsecond, those between, and one above all.
const BUCKETS: usize = DOUBLINGS * PER_DOUBLING as usize + 2;

/// Times that were measured, by how long they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Histogram {
    counts: [u64; BUCKETS],
    nanoseconds: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; BUCKETS], nanoseconds: 0 }
    }
}

/// Returns the bucket of that many nanoseconds.
fn bucket_of(nanoseconds: u64) -> usize {
    // A bucket has its upper bound, and not its lower one.
    let units = nanoseconds.saturating_sub(1) / UNIT;
    if units < PER_DOUBLING {
        return 0;
    }
    let doubling = units.ilog2() - PER_DOUBLING.ilog2();
    let place = u64::from(doubling) * PER_DOUBLING + ((units >> doubling) % PER_DOUBLING);
    (place as usize + 1).min(BUCKETS - 1)
}

/// Returns the upper bound of a bucket; of the last one, its lower bound.
fn bound_of(bucket: usize) -> Duration {
    let place = bucket.saturating_sub(1).min(BUCKETS - 3) as u64;
    let (doubling, step) = (place / PER_DOUBLING, place % PER_DOUBLING);
    let units = if bucket == 0 { PER_DOUBLING } else { (PER_DOUBLING + step + 1) << doubling };
    Duration::from_nanos(units * UNIT)
}

impl Histogram {
    /// Takes account of something that took so many nanoseconds.
    pub fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket_of(nanoseconds)] += 1;
        self.nanoseconds = self.nanoseconds.saturating_add(nanoseconds);
    }

    /// Has what was measured until now count for half.
    pub fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.nanoseconds /= 2;
    }

    /// Returns how many times were measured.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns all of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds)
    }

    /// Returns what was measured since `earlier`, which is this histogram as it was once.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut since = self.clone();
        for (count, before) in since.counts.iter_mut().zip(&earlier.counts) {
            *count = count.saturating_sub(*before);
        }
        since.nanoseconds = self.nanoseconds.saturating_sub(earlier.nanoseconds);
        since
    }

    /// Returns the time that so large a share of all did not exceed, 0 to 1, at most an eighth too
    /// high; `None` if nothing was measured. What is above 134 s counts as that.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let rank = (count as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        let reaches = |of_bucket: &u64| {
            below += of_bucket;
            below >= rank
        };
        (count > 0).then(|| self.counts.iter().position(reaches)).flatten().map(bound_of)
    }

    /// Returns for each power of two of a microsecond how many were no longer than that: from 1 µs to
    /// 134 s.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        let bounds = (0..=DOUBLINGS).map(|doubling| doubling * PER_DOUBLING as usize);
        let mut below = 0;
        let mut next = 0;
        bounds.map(move |last| {
            below += self.counts[next..=last].iter().sum::<u64>();
            next = last + 1;
            (bound_of(last), below)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn each_bucket_ends_where_the_next_begins() {
        let mut before = Duration::ZERO;
        for bucket in 0..BUCKETS - 1 {
            let bound = bound_of(bucket);
            assert!(bound > before);
            let nanoseconds = u64::try_from(bound.as_nanos()).unwrap();
            assert_eq!((bucket_of(nanoseconds), bucket_of(nanoseconds + 1)), (bucket, bucket + 1));
            if bucket > 0 {
                assert!(bound - before <= before / 8, "{bucket}");
            }
            before = bound;
        }
        assert_eq!(before, Duration::from_micros(1 << DOUBLINGS));
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn a_quantile_is_at_most_an_eighth_too_high() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=1000).for_each(|ms| histogram.record(ms * MS));
        for (share, exact) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            let found = histogram.quantile(share).unwrap();
            let exact = Duration::from_millis(exact);
            assert!(found >= exact && found <= exact + exact / 8, "{share}: {found:?}");
        }
        assert_eq!((histogram.count(), histogram.sum()), (1000, Duration::from_millis(500_500)));
    }

    #[test]
    fn what_is_cumulative_counts_all_that_was_not_longer() {
        let mut histogram = Histogram::default();
        let times = [1, 1000, 1001, 2000, 2001, 1_000_000_000_000];
        times.iter().for_each(|time| histogram.record(*time));
        let cumulative: Vec<_> = histogram.cumulative().collect();
        assert_eq!(cumulative[..3].iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!(cumulative.len(), DOUBLINGS + 1);
        assert_eq!(cumulative[DOUBLINGS], (Duration::from_micros(1 << DOUBLINGS), 5));
    }

    #[test]
    fn what_was_measured_since_is_told_from_what_was_before() {
        let mut histogram = Histogram::default();
        histogram.record(5 * MS);
        let earlier = histogram.clone();
        histogram.record(1000 * MS);
        let mut expected = Histogram::default();
        expected.record(1000 * MS);
        assert_eq!(histogram.since(&earlier), expected);
    }
}
