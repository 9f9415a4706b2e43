//! Memory and descriptors of a service over time, and whether they grow.

use std::time::Duration;

/// Number of parts of the judged time. The least memory of each counts: what a burst takes for a
/// moment is no leak, and neighbours are less alike than samples.
const PARTS: usize = 20;

/// A growth counts if it is that many standard errors above the bound: the 99.9th percentile of
/// Student's t distribution with [`PARTS`] - 2 degrees of freedom.
const CERTAIN: f64 = 3.61;

/// The growth over the judged time that may not be exceeded, in bytes: 1.5 MiB an hour in a soak of
/// an hour, and in one of three minutes 50 bytes for each of 20,000 requests. A service that is new
/// grows by a third of it in two minutes, until all that it does has happened once.
pub const MAX_GROWTH: f64 = MIB;

/// The same for a service that strangers send frames of up to a mebibyte. Over 200,000 connections of
/// them what it had allocated came back to 1 MB each time, in about 2,000 blocks, while its resident
/// set went between 6 and 9 MiB: the allocator keeps what frames of all sizes leave.
pub const MAX_GROWTH_WITH_STRANGERS: f64 = 4.0 * MIB;

pub const MIB: f64 = 1_048_576.0;

/// One look at a service.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Time since the beginning.
    pub at: Duration,
    /// Resident memory in bytes.
    pub memory: u64,
    pub descriptors: u64,
}

/// A line through points by least squares.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slope {
    /// By which it rises in an hour, and the standard error of that.
    pub per_hour: f64,
    pub error: f64,
    /// By which it rises from the first point to the last.
    pub growth: f64,
}

impl Slope {
    /// Lays a line through points, each of a time in seconds and a value: three at least.
    pub fn of(points: &[(f64, f64)]) -> Option<Slope> {
        if points.len() < 3 {
            return None;
        }
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (time, value) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|(x, _)| (x - time).powi(2)).sum();
        let slope = points.iter().map(|(x, y)| (x - time) * (y - value)).sum::<f64>() / spread;
        let rest = |(x, y): &(f64, f64)| (y - value - slope * (x - time)).powi(2);
        let error = (points.iter().map(rest).sum::<f64>() / (count - 2.0) / spread).sqrt();
        let growth = slope * (points[points.len() - 1].0 - points[0].0);
        Some(Slope { per_hour: slope * 3600.0, error: error * 3600.0, growth })
    }

    /// Returns true if it rises by more than that, for certain.
    pub fn rises_by_more_than(&self, most: f64) -> bool {
        let error = self.growth / self.per_hour * self.error;
        self.growth - CERTAIN * error > most
    }
}

/// Returns the slope of the least memory in each part of the last two thirds of the time, or `None`
/// if that is too short.
pub fn memory_slope(samples: &[Sample]) -> Option<Slope> {
    let judged = &samples[samples.len() / 3..];
    if judged.len() < 2 * PARTS {
        return None;
    }
    let least = |part: &[Sample]| {
        let least = part.iter().min_by_key(|sample| sample.memory)?;
        Some((least.at.as_secs_f64(), least.memory as f64))
    };
    let points: Vec<_> = judged.chunks(judged.len().div_ceil(PARTS)).filter_map(least).collect();
    Slope::of(&points)
}

/// Returns the slope of the descriptors over the last two thirds of the time.
pub fn descriptor_slope(samples: &[Sample]) -> Option<Slope> {
    let point = |sample: &Sample| (sample.at.as_secs_f64(), sample.descriptors as f64);
    Slope::of(&samples[samples.len() / 3..].iter().map(point).collect::<Vec<_>>())
}
