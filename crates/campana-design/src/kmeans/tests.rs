use proptest::prelude::*;

use super::*;
use crate::samples::{SHAPES, Shape, draw};

/// Rounding of the sums, relative to the sum of squares about the mean.
const MAX_ROUNDING: f64 = 1e-12;

/// The least sum of squared errors by the plain recurrence, O(k n^2).
fn reference_sse(weights: &[f32], levels: usize) -> f64 {
    let mut sorted: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
    sorted.sort_by(f64::total_cmp);
    let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
    let mut sums = vec![(0.0, 0.0)];
    for value in &sorted {
        let (sum, square) = sums[sums.len() - 1];
        sums.push((sum + value - mean, square + (value - mean).powi(2)));
    }
    let cost = |first: usize, end: usize| {
        let (sum, square) = (sums[end].0 - sums[first].0, sums[end].1 - sums[first].1);
        (square - sum * sum / (end - first) as f64).max(0.0)
    };
    let n = sorted.len();
    let mut best: Vec<f64> = (0..=n)
        .map(|end| if end == 0 { 0.0 } else { cost(0, end) })
        .collect();
    for _ in 1..levels {
        let next = |end: usize| {
            (0..end)
                .map(|first| best[first] + cost(first, end))
                .fold(best[end], f64::min)
        };
        best = (0..=n).map(next).collect();
    }
    best[n]
}

fn spread(weights: &[f32]) -> f64 {
    Empirical::of(weights)
        .sse(&[weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64])
}

#[test]
fn the_squared_error_is_the_least_possible() {
    for shape in SHAPES {
        let weights = draw(shape, 400, 5);
        for levels in [1, 2, 3, 4, 8, 16, 64, 256] {
            let found = Empirical::of(&weights).sse(&kmeans_levels(&weights, levels));
            let expected = reference_sse(&weights, levels);
            let error = (found - expected).abs();
            assert!(
                error <= MAX_ROUNDING * spread(&weights),
                "{shape:?} {levels}: {found:e} {expected:e}"
            );
        }
    }
}

/// Relative excess of the error where sums are differences of far larger ones.
const MAX_RELATIVE_EXCESS: f64 = 1e-6;

/// Nearly as many levels as weights, as a small layer of depthwise filters has
/// at 8 bits: the error is 1e-8 of the sum of squares and less, and the rounding
/// of levels to `f32`, when they are stored, larger than what any partition
/// could gain.
#[test]
fn errors_far_below_the_weights_are_the_least_as_well() {
    for shape in [Shape::Gaussian, Shape::Laplace] {
        let mut weights = draw(shape, 288, 11);
        weights.sort_by(f32::total_cmp);
        let costs: Vec<Vec<f64>> = (0..weights.len())
            .map(|first| {
                (first..weights.len())
                    .map(|last| squares_about_mean(&weights[first..=last]))
                    .collect()
            })
            .collect();
        for levels in [64, 200, 256] {
            let mut best: Vec<f64> = (0..=weights.len())
                .map(|end| end.checked_sub(1).map_or(0.0, |last| costs[0][last]))
                .collect();
            for _ in 1..levels {
                let next = |end: usize| {
                    let least = (0..end).map(|first| best[first] + costs[first][end - 1 - first]);
                    least.fold(best[end], f64::min)
                };
                best = (0..=weights.len()).map(next).collect();
            }
            let expected = best[weights.len()];
            let found_levels = kmeans_levels(&weights, levels);
            let error = |levels: &[f64]| -> f64 {
                let nearest = |&w: &f32| {
                    let squares = levels.iter().map(|level| (f64::from(w) - level).powi(2));
                    squares.fold(f64::INFINITY, f64::min)
                };
                weights.iter().map(nearest).sum()
            };
            let found = error(&found_levels);
            assert!(
                found <= expected * (1.0 + MAX_RELATIVE_EXCESS),
                "{shape:?} {levels}: {found:e} {expected:e}"
            );
            // What storage adds is within the rounding of each level.
            let stored: Vec<f64> = found_levels.iter().map(|&y| f64::from(y as f32)).collect();
            let largest = weights.iter().fold(0f32, |max, w| max.max(w.abs()));
            let rounding = (2f64.powi(-24) * f64::from(largest)).powi(2) * weights.len() as f64;
            assert!(error(&stored) <= found + rounding, "{shape:?} {levels}");
        }
    }
}

fn squares_about_mean(weights: &[f32]) -> f64 {
    let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64;
    weights.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum()
}

/// The squared error with all cuts tried everywhere.
fn exact_sse(empirical: &Empirical, levels: usize) -> f64 {
    let problem = Problem::new(empirical, levels);
    let everywhere: Vec<usize> = (0..=empirical.len()).collect();
    let cuts = problem.solve(&problem.everywhere(everywhere));
    empirical.sse(&problem.levels_of(&cuts))
}

#[test]
fn the_solution_in_stages_equals_the_exact_one() {
    for shape in SHAPES {
        let weights = draw(shape, 20_000, 6);
        let empirical = Empirical::of(&weights);
        for levels in [2, 4, 16, 64, 256] {
            if empirical.len() <= levels {
                continue;
            }
            let exact = exact_sse(&empirical, levels);
            let found = empirical.sse(
                &Problem::new(&empirical, levels)
                    .solve_in_stages(&THOROUGH)
                    .0,
            );
            assert!(
                found <= exact * (1.0 + 1e-9) + MAX_ROUNDING * spread(&weights),
                "{shape:?} {levels}: {found:e} {exact:e}"
            );
        }
    }
}

/// What the bound may be for 16 levels of as many weights as below, relative to
/// the squared error.
const MAX_BOUND: f64 = 0.01;

#[test]
fn many_weights_are_solved_exactly_with_a_close_bound() {
    for shape in [Shape::Gaussian, Shape::Laplace] {
        let empirical = Empirical::of(&draw(shape, 150_000, 12));
        let exact = exact_sse(&empirical, 16);
        let found = kmeans(&empirical, 16);
        let error = empirical.sse(&found.levels);
        assert!(
            error <= exact * (1.0 + 1e-9),
            "{shape:?}: {error:e} {exact:e}"
        );
        assert!(found.excess_bound > 0.0, "the bounded way");
        assert!(found.excess_bound <= MAX_BOUND * error, "{shape:?}");
    }
}

/// What the quick way may lose of the least error.
const MAX_EXCESS_OF_NEARLY: f64 = 0.002;

#[test]
fn the_quick_way_is_nearly_the_best() {
    for shape in [Shape::Gaussian, Shape::Laplace, Shape::Pruned] {
        for levels in [4, 16, 64] {
            let (mut nearly, mut best) = (0.0, 0.0);
            for seed in 21..25 {
                let weights = draw(shape, 2000, seed);
                let empirical = Empirical::of(&weights);
                let found = kmeans_nearly(&weights, levels);
                assert!(found.len() == levels && found.is_sorted());
                nearly += empirical.sse(&found);
                best += exact_sse(&empirical, levels);
            }
            assert!(
                nearly <= best * (1.0 + MAX_EXCESS_OF_NEARLY),
                "{shape:?} {levels} {nearly} {best}"
            );
        }
    }
    assert_eq!(kmeans_nearly(&[1.0, 2.0], 4), [1.0, 2.0]);
    assert!(kmeans_nearly(&[], 4).is_empty());
}

#[test]
fn the_coarse_solution_keeps_its_bound() {
    // Sixteen distinct values are no coarse problem.
    let shapes = SHAPES
        .into_iter()
        .filter(|shape| !matches!(shape, Shape::Ties));
    for shape in shapes {
        let weights = draw(shape, 40_000, 7);
        let empirical = Empirical::of(&weights);
        for levels in [5, 16, 64] {
            let problem = Problem::new(&empirical, levels);
            let coarse = coarse_positions(&empirical, levels, &THOROUGH);
            assert!(coarse.len() < empirical.len(), "{shape:?} {levels}");
            let cuts = problem.solve(&problem.everywhere(coarse.clone()));
            let found = empirical.sse(&problem.levels_of(&cuts));
            let best = empirical.sse(&kmeans(&empirical, levels).levels);
            let bound = coarse_excess(&empirical, &coarse);
            assert!(
                found - best <= bound + MAX_ROUNDING * spread(&weights),
                "{shape:?} {levels}"
            );
        }
    }
}

#[test]
fn few_distinct_weights_are_met_exactly() {
    let weights = draw(Shape::Ties, 5000, 8);
    let levels = kmeans_levels(&weights, 16);
    assert!(levels.len() <= 16);
    assert!(Empirical::of(&weights).sse(&levels) <= MAX_ROUNDING * spread(&weights));
    assert_eq!(kmeans_levels(&[0.25; 9], 4), [0.25]);
    assert!(kmeans_levels(&[], 4).is_empty());
}

/// On tensors of a real network, against the plain recurrence.
#[test]
fn real_tensors_are_solved_exactly() {
    let Some(file) = campana_testing::shared("data/cifar10_calib.bin") else {
        return;
    };
    // Pixels have heavy ties, unlike weights: another kind of real data.
    let bytes = std::fs::read(file).expect("a readable file");
    let pixels: Vec<f32> = bytes[..1200].iter().map(|&b| f32::from(b)).collect();
    for levels in [4, 16] {
        let found = Empirical::of(&pixels).sse(&kmeans_levels(&pixels, levels));
        let expected = reference_sse(&pixels, levels);
        assert!((found - expected).abs() <= MAX_ROUNDING * spread(&pixels));
    }
}

proptest! {
    #[test]
    fn no_partition_is_better(
        weights in prop::collection::vec(-4i8..4, 1..40),
        levels in 1usize..6,
    ) {
        let weights: Vec<f32> = weights.into_iter().map(f32::from).collect();
        let levels_found = kmeans_levels(&weights, levels);
        prop_assert!(levels_found.windows(2).all(|pair| pair[0] < pair[1]));
        let found = Empirical::of(&weights).sse(&levels_found);
        let expected = reference_sse(&weights, levels);
        prop_assert!((found - expected).abs() <= 1e-9, "{found} {expected}");
    }
}
