use super::*;
use crate::samples::{self, Shape};
use proptest::prelude::*;

/// Largest relative error of variance and kurtosis against plain two-pass sums.
const MAX_RELATIVE_ERROR: f64 = 1e-12;

fn reference_moments(weights: &[f32]) -> (f64, f64, f64) {
    let n = weights.len() as f64;
    // About the first weight, since a plain sum of large weights rounds.
    let offset = f64::from(weights[0]);
    let mean = offset + weights.iter().map(|&x| f64::from(x) - offset).sum::<f64>() / n;
    // Sums of sums: rounding in one long sum would exceed the tolerance.
    let central = |power: i32| {
        let part = |part: &[f32]| -> f64 {
            part.iter()
                .map(|&x| (f64::from(x) - mean).powi(power))
                .sum()
        };
        weights.chunks(300).map(part).sum::<f64>() / n
    };
    (mean, central(2), central(4) / central(2).powi(2))
}

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= MAX_RELATIVE_ERROR * expected.abs(),
        "{what}: found {found}, expected {expected}"
    );
}

#[test]
fn equal_two_pass_sums_at_every_length_around_the_block_sizes() {
    let all = samples::draw(Shape::Gaussian, 2 * TASK + 17, 1);
    for n in [
        2,
        3,
        7,
        8,
        9,
        15,
        16,
        17,
        100,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        TASK,
        TASK + 1,
        all.len(),
    ] {
        let found = Moments::of(&all[..n]);
        let (mean, variance, kurtosis) = reference_moments(&all[..n]);
        assert_eq!(found.count, n as u64);
        assert!((found.mean - mean).abs() < MAX_RELATIVE_ERROR, "{n}");
        assert_close(found.variance, variance, "variance");
        assert_close(found.kurtosis, kurtosis, "kurtosis");
        assert_close(found.mean_square, variance + mean * mean, "mean square");
    }
}

#[test]
fn a_large_offset_costs_no_digits() {
    let weights: Vec<f32> = (0..100_000)
        .map(|i| 1e6 + (i % 17) as f32 * 0.125)
        .collect();
    let (mean, variance, kurtosis) = reference_moments(&weights);
    let found = Moments::of(&weights);
    assert_close(found.mean, mean, "mean");
    assert_close(found.variance, variance, "variance");
    assert_close(found.kurtosis, kurtosis, "kurtosis");
}

#[test]
fn blocks_far_apart_cost_no_digits() {
    let mut weights = vec![1e6f32; BLOCK];
    weights.extend(samples::draw(Shape::Gaussian, 40 * BLOCK, 2));
    let (mean, variance, kurtosis) = reference_moments(&weights);
    let found = Moments::of(&weights);
    assert_close(found.mean, mean, "mean");
    assert_close(found.variance, variance, "variance");
    assert_close(found.kurtosis, kurtosis, "kurtosis");
}

#[test]
fn equal_weights_have_exactly_no_variance() {
    for n in [1, 2, 9, 1000, 3 * TASK + 5] {
        let found = Moments::of(&vec![0.1f32; n]);
        assert_eq!(found.mean, f64::from(0.1f32));
        assert_eq!((found.variance, found.kurtosis), (0.0, 0.0));
        assert!(found.is_constant());
    }
}

#[test]
fn no_weights_give_zeros() {
    assert_eq!(Moments::of(&[]), Moments::default());
    let found = Moments::of(&[f32::NAN, f32::INFINITY]);
    assert_eq!(
        found,
        Moments {
            non_finite: 2,
            ..Moments::default()
        }
    );
}

#[test]
fn non_finite_weights_are_counted_and_left_out() {
    let mut weights = samples::draw(Shape::Laplace, 10_000, 3);
    let expected = Moments::of(&weights);
    weights.splice(5000..5000, [f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    let found = Moments::of(&weights);
    assert_eq!((found.count, found.non_finite), (10_000, 3));
    assert_close(found.variance, expected.variance, "variance");
    assert_eq!((found.min, found.max), (expected.min, expected.max));
}

#[test]
fn extreme_magnitudes_neither_overflow_nor_vanish() {
    let huge = Moments::of(&[f32::MAX, f32::MIN, f32::MAX, f32::MIN]);
    assert_close(huge.std(), f64::from(f32::MAX), "std");
    assert_close(huge.kurtosis, 1.0, "kurtosis");
    let tiny = f32::from_bits(1);
    let small = Moments::of(&[tiny, -tiny]);
    assert_close(small.std(), f64::from(tiny), "std");
}

#[test]
fn number_of_threads_changes_nothing() {
    let weights = samples::draw(Shape::Gaussian, 3 * TASK + 1000, 4);
    let with = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool of a few threads")
            .install(|| Moments::of(&weights))
    };
    assert_eq!(with(1), with(3));
}

proptest! {
    #[test]
    fn merging_parts_gives_the_whole(
        weights in proptest::collection::vec(-100f32..100.0, 2..200),
        cut in 0usize..200,
    ) {
        let cut = cut.min(weights.len());
        let parts = Sums::of_block(&weights[..cut], 1.0).merge(Sums::of_block(&weights[cut..], 1.0));
        let whole = Sums::of_block(&weights, 1.0);
        prop_assert!((parts.mean - whole.mean).abs() <= 1e-12 * 100.0);
        prop_assert!((parts.m2 - whole.m2).abs() <= 1e-11 * whole.m2.max(1.0));
        prop_assert!((parts.m4 - whole.m4).abs() <= 1e-11 * whole.m4.max(1.0));
    }
}
