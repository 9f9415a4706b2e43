//! What `cargo bench -- --against` makes of the ratios that it measured.

#[path = "../benches/compare/statistics.rs"]
mod statistics;

use statistics::{Estimate, MIN_ROUNDS, student};

#[test]
fn students_percentiles_are_those_of_the_tables() {
    for (freedom, percentile) in [
        (MIN_ROUNDS as f64 - 1.0, 2.776),
        (5.0, 2.571),
        (8.0, 2.306),
        (24.0, 2.064),
        (30.0, 2.042),
        (120.0, 1.980),
    ] {
        let difference = student(freedom) - percentile;
        assert!(difference.abs() < 0.001, "{freedom}: {}", student(freedom));
    }
}

#[test]
fn an_estimate_is_what_it_is_by_hand() {
    // Mean 0.02, variance 0.00025, standard error 0.0070711, percentile 2.7764.
    let estimate = Estimate::of(&[0.0, 0.01, 0.02, 0.03, 0.04]);
    let near = |value: f64, by_hand: f64| (value.ln() - by_hand).abs() < 1e-5;
    assert!(near(estimate.mean, 0.02), "{estimate:?}");
    assert!(near(estimate.low, 0.02 - 0.019632), "{estimate:?}");
    assert!(near(estimate.high, 0.02 + 0.019632), "{estimate:?}");
    assert!(estimate.is_above(0.97) && !estimate.is_above(1.01), "{estimate:?}");
    assert!(estimate.is_below(1.05) && !estimate.is_below(1.03), "{estimate:?}");
}

#[test]
fn a_round_that_is_odd_in_every_row_counts_once() {
    let odd = vec![0.0, 0.0, 0.0, 0.0, 0.5];
    let one = Estimate::of(&odd);
    let all = Estimate::of_all(&vec![odd; 30]);
    assert!((one.low - all.low).abs() < 1e-9 && (one.high - all.high).abs() < 1e-9);
    // What differs from row to row evens out.
    let up = vec![0.1, -0.1, 0.1, -0.1, 0.1];
    let down: Vec<f64> = up.iter().map(|logarithm| -logarithm).collect();
    let all = Estimate::of_all(&[up, down]);
    assert_eq!((all.low, all.mean, all.high), (1.0, 1.0, 1.0));
}

#[test]
fn of_a_hundred_intervals_ninety_five_hold_the_truth() {
    let mut random = fastrand::Rng::with_seed(1);
    const TRIES: usize = 10_000;
    let mut held = 0;
    for _ in 0..TRIES {
        // Twelve uniform numbers, less six, are nearly normal.
        let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let logarithms: Vec<f64> = (0..25).map(|_| 0.03 + 0.1 * normal()).collect();
        let estimate = Estimate::of(&logarithms);
        held += usize::from((estimate.low..estimate.high).contains(&0.03_f64.exp()));
    }
    assert!((TRIES * 94 / 100..TRIES * 96 / 100).contains(&held), "{held}");
}
