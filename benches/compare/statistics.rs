//! Ratios that were measured in several rounds: their mean, and how far it is to be trusted.

/// With fewer rounds an interval says nothing, and [`student`] is not exact.
pub const LEAST_ROUNDS: usize = 5;

/// A geometric mean and the ends of its 95 % confidence interval.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Estimate {
    /// Estimates a ratio from the natural logarithms of what it was in each round. Rounds are taken as
    /// independent of each other, and the logarithms as near enough to normally distributed.
    pub fn of(logarithms: &[f64]) -> Estimate {
        let rounds = logarithms.len() as f64;
        let mean = logarithms.iter().sum::<f64>() / rounds;
        let squares = logarithms.iter().map(|logarithm| (logarithm - mean).powi(2)).sum::<f64>();
        let error = (squares / (rounds - 1.0) / rounds).sqrt();
        let reach = student(rounds - 1.0) * error;
        Estimate { mean: mean.exp(), low: (mean - reach).exp(), high: (mean + reach).exp() }
    }

    /// Estimates the mean over all rows. What the rows of one round have in common, such as the
    /// machine's mood, is one chance and not many, so each round counts once, with the mean of its rows.
    pub fn of_all(rows: &[Vec<f64>]) -> Estimate {
        let rounds = rows.iter().map(Vec::len).min().unwrap_or_default();
        let mean = |round| rows.iter().map(|row| row[round]).sum::<f64>() / rows.len() as f64;
        Estimate::of(&(0..rounds).map(mean).collect::<Vec<f64>>())
    }

    /// Returns true if the ratio is lower than `bound` for all that was seen.
    pub fn is_below(&self, bound: f64) -> bool {
        self.high < bound
    }

    /// Returns true if the ratio is higher than `bound` for all that was seen.
    pub fn is_above(&self, bound: f64) -> bool {
        self.low > bound
    }
}

/// Returns the 97.5th percentile of Student's t distribution, by the expansion in the normal one's
/// (Abramowitz and Stegun, 26.7.5): exact to a thousandth from four degrees of freedom on.
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
        // Of the odd powers of Z, from the first.
        let term = coefficients.iter().rev().fold(0.0, |term, factor| term * Z * Z + factor) * Z;
        sum += term / (divisor * freedom.powi(place));
    }
    sum
}
