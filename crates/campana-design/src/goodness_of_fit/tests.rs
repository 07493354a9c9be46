use super::*;
use crate::samples::{self, SHAPES, Shape};
use proptest::prelude::*;

/// Largest difference from D by comparing every weight.
const MAX_D_ERROR: f64 = 1e-12;

/// Of a mean absolute deviation against the sum in another order, relative.
const MAX_DEVIATION_ERROR: f64 = 1e-14;

fn reference_d(fit: &Distribution, weights: &[f32]) -> f64 {
    let mut sorted = weights.to_vec();
    sorted.sort_by(f32::total_cmp);
    let n = sorted.len() as f64;
    sorted
        .iter()
        .enumerate()
        .fold(0.0, |greatest: f64, (i, &x)| {
            let cdf = fit.cdf(f64::from(x));
            greatest
                .max(cdf - i as f64 / n)
                .max((i + 1) as f64 / n - cdf)
        })
}

fn reference_median(weights: &[f32]) -> f64 {
    let mut sorted = weights.to_vec();
    sorted.sort_by(f32::total_cmp);
    statistic::median_of_sorted(&sorted)
}

fn assert_equals_reference(weights: &[f32], what: &str) {
    let fits = Fits::of(weights, &Moments::of(weights));
    assert_eq!(fits.laplace.location, reference_median(weights), "{what}");
    let deviation = statistic::mean_absolute_deviation(weights, fits.laplace.location);
    let error = (fits.laplace.scale - deviation).abs();
    assert!(error <= MAX_DEVIATION_ERROR * deviation, "{what}: {error}");
    for (fit, d) in [
        (fits.gaussian, fits.d_gaussian),
        (fits.laplace, fits.d_laplace),
    ] {
        let expected = reference_d(&fit, weights);
        assert!(
            (d - expected).abs() <= MAX_D_ERROR,
            "{what}: {d} for {expected}"
        );
    }
}

#[test]
fn d_is_exact_for_every_shape_and_size() {
    for shape in SHAPES {
        for n in [2, 3, 10, 1001, MAX_SORTED, MAX_SORTED + 1, 60_000, 300_001] {
            assert_equals_reference(
                &samples::draw(shape, n, n as u64),
                &format!("{shape:?} {n}"),
            );
        }
    }
}

#[test]
fn d_is_exact_where_one_weight_stretches_the_range() {
    let mut weights = samples::draw(Shape::Gaussian, 200_000, 7);
    weights[77] = 3e38;
    assert_equals_reference(&weights, "one of 3e38");
    weights[78] = -1e-40;
    assert_equals_reference(&weights, "one subnormal");
}

#[test]
fn d_is_exact_where_most_weights_are_equal() {
    let mut weights = vec![0.25f32; 100_000];
    weights.extend(samples::draw(Shape::Gaussian, 1000, 8));
    assert_equals_reference(&weights, "ties");
    let two: Vec<f32> = (0..100_000)
        .map(|i| if i % 2 == 0 { -1.0 } else { 2.0 })
        .collect();
    assert_equals_reference(&two, "two values");
    let signed: Vec<f32> = (0..50_000).map(|i| [-0.0, 0.0, 1.0][i % 3]).collect();
    assert_equals_reference(&signed, "both zeros");
}

#[test]
fn one_and_equal_weights_have_the_limit_of_shrinking_scales() {
    for weights in [vec![0.7f32], vec![-2.0; 3], vec![0.1; 50_000]] {
        let fits = Fits::of(&weights, &Moments::of(&weights));
        assert_eq!((fits.d_gaussian, fits.d_laplace), (0.5, 0.5));
        let expected = Distribution {
            family: Family::Gaussian,
            location: f64::from(weights[0]),
            scale: 0.0,
        };
        assert_eq!(fits.best(), &expected);
    }
    let fits = Fits::of(&[], &Moments::of(&[]));
    assert_eq!((fits.gaussian.location, fits.gaussian.scale), (0.0, 0.0));
}

#[test]
fn the_family_that_weights_were_drawn_from_fits_best() {
    for (shape, family) in [
        (Shape::Gaussian, Family::Gaussian),
        (Shape::Laplace, Family::Laplace),
    ] {
        let weights = samples::draw(shape, 20_000, 9);
        let fits = Fits::of(&weights, &Moments::of(&weights));
        assert_eq!(fits.best().family, family);
    }
}

#[test]
fn the_best_fit_alone_is_that_of_both_with_d() {
    for shape in SHAPES {
        for n in [100, MAX_SORTED + 1, 60_000, 300_001] {
            let weights = samples::draw(shape, n, 11);
            let moments = Moments::of(&weights);
            let (found, fits) = (best_fit(&weights, &moments), Fits::of(&weights, &moments));
            let expected = fits.best();
            assert_eq!(
                (found.family, found.location),
                (expected.family, expected.location),
                "{shape:?} {n}"
            );
            let error = (found.scale - expected.scale).abs();
            assert!(
                error <= MAX_DEVIATION_ERROR * expected.scale,
                "{shape:?} {n}: {error}"
            );
        }
    }
}

#[test]
fn number_of_threads_changes_nothing() {
    let weights = samples::draw(Shape::Laplace, 700_000, 10);
    let moments = Moments::of(&weights);
    let with = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool of a few threads")
            .install(|| Fits::of(&weights, &moments))
    };
    assert_eq!(with(1), with(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn d_is_exact_for_clustered_weights(
        centres in proptest::collection::vec((-10f32..10.0, 0f32..1e-3), 1..6),
        n in 8200usize..20_000,
        seed in 0u64..1000,
    ) {
        let noise = samples::draw(Shape::Gaussian, n, seed);
        let weights: Vec<f32> = noise
            .iter()
            .enumerate()
            .map(|(i, x)| {
                let (centre, spread) = centres[i % centres.len()];
                centre + spread * x
            })
            .collect();
        assert_equals_reference(&weights, "clusters");
    }
}
