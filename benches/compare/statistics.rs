//! Means and confidence intervals of ratios that were measured in several rounds.

/// Minimum number of rounds for an interval: with fewer it is too wide, and [`student`] is not
/// exact.
pub const MIN_ROUNDS: usize = 5;

/// A geometric mean and the ends of its 95 % confidence interval.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// Estimates a ratio from its natural logarithm in each round. Assumes that the rounds are
    /// independent and the logarithms normally distributed.
    pub fn of(logarithms: &[f64]) -> Estimate {
        let rounds = logarithms.len() as f64;
        let mean = logarithms.iter().sum::<f64>() / rounds;
        let squares = logarithms.iter().map(|logarithm| (logarithm - mean).powi(2)).sum::<f64>();
        let error = (squares / (rounds - 1.0) / rounds).sqrt();
        let reach = student(rounds - 1.0) * error;
        Estimate { mean: mean.exp(), low: (mean - reach).exp(), high: (mean + reach).exp() }
    }

    /// Estimates the mean ratio over all rows, each with its logarithms by round. The rows of one
    /// round met the same disturbances of the machine and are not independent, so that each round
    /// counts once, with the mean of its rows.
    pub fn of_all(rows: &[Vec<f64>]) -> Estimate {
        let rounds = rows.iter().map(Vec::len).min().unwrap_or_default();
        let mean = |round| rows.iter().map(|row| row[round]).sum::<f64>() / rows.len() as f64;
        Estimate::of(&(0..rounds).map(mean).collect::<Vec<f64>>())
    }

    /// Returns true if the whole interval is below `bound`.
    pub fn is_below(&self, bound: f64) -> bool {
        self.high < bound
    }

    /// Returns true if the whole interval is above `bound`.
    pub fn is_above(&self, bound: f64) -> bool {
        self.low > bound
    }
}

/// Returns the 97.5th percentile of Student's t distribution with `freedom` degrees of freedom, 4
/// or more, to a thousandth. It is expanded in the percentile of the normal distribution
/// (Abramowitz and Stegun, 26.7.5).
pub fn student(freedom: f64) -> f64 {
    const Z: f64 = 1.959_963_985;
    let terms: [(&[f64], f64); 4] = [
        (&[1.0, 1.0], 4.0),
        (&[3.0, 16.0, 5.0], 96.0),
        (&[-15.0, 17.0, 19.0, 3.0], 384.0),
        (&[-945.0, -1920.0, 1482.0, 776.0, 79.0], 92_160.0),
    ];
    let mut sum = Z;
    for (place, (coefficients, divisor)) in (1..).zip(terms) {
        // The coefficients of the odd powers of Z, from the first.
        let term = coefficients.iter().rev().fold(0.0, |term, factor| term * Z * Z + factor) * Z;
        sum += term / (divisor * freedom.powi(place));
    }
    sum
}
