use super::*;
use crate::Empirical;
use crate::samples::{self, SHAPES, Shape};
use proptest::prelude::*;

/// What sampling 50,000 weights may add to an error, as a factor.
const MAX_SAMPLING_ERROR: f64 = 1.04;

fn squared_error(weights: &[f32], levels: &Levels) -> f64 {
    Empirical::of(weights).sse(&levels.values())
}

fn most_levels(method: Method, bits: u8) -> usize {
    match method {
        Method::Ecsq => 256,
        _ => 1 << bits,
    }
}

fn assert_sound(weights: &[f32], method: Method, bits: u8) {
    let design = design(method, &Summary::of(weights), bits);
    let levels = design.levels.values();
    assert!(
        !levels.is_empty() && levels.len() <= most_levels(method, bits),
        "{method} {bits}: {levels:?}"
    );
    assert!(levels.is_sorted(), "{method} {bits}: {levels:?}");
    assert!(
        levels.iter().all(|&level| (level as f32).is_finite()),
        "{method} {bits}: {levels:?}"
    );
}

#[test]
fn levels_are_finite_and_ascend_whatever_the_weights() {
    let tiny = f32::from_bits(1);
    let cases: [&[f32]; 12] = [
        &[],
        &[0.0],
        &[-0.3],
        &[0.0, 0.0, 0.0],
        &[1.0, 2.0],
        &[tiny, -tiny, 0.0],
        &[1e30, -3e30, 2e30],
        &[f32::MAX, f32::MIN, 0.0, 1.0],
        &[f32::MAX, f32::MAX],
        &[1e-30, 1e30],
        &[5.0, 5.0, 5.0, 5.000_000_5],
        &[-0.0, 0.0, 1.0, 1.0],
    ];
    for weights in cases {
        for method in Method::ALL {
            for bits in 1..=8 {
                assert_sound(weights, method, bits);
            }
        }
    }
}

#[test]
fn equal_weights_are_reproduced_exactly() {
    for value in [0.1f32, -7.25, 0.0, 1e-40, f32::MAX] {
        for method in Method::ALL {
            for bits in 1..=8 {
                let weights = [value; 5];
                let design = design(method, &Summary::of(&weights), bits);
                let nearest = design
                    .levels
                    .values()
                    .into_iter()
                    .map(|level| level as f32)
                    .min_by(|a, b| (a - value).abs().total_cmp(&(b - value).abs()));
                assert_eq!(nearest, Some(value), "{method} {bits}");
            }
        }
    }
}

#[test]
fn kmeans_is_never_beaten() {
    for shape in SHAPES {
        let weights = samples::draw(shape, 3000, 31);
        let summary = Summary::of(&weights);
        for bits in [1, 2, 3, 4, 6] {
            let least = squared_error(&weights, &design(Method::Kmeans, &summary, bits).levels);
            for method in Method::ALL {
                if method == Method::Ecsq {
                    continue; // More levels than k-means has.
                }
                let error = squared_error(&weights, &design(method, &summary, bits).levels);
                assert!(error >= least * (1.0 - 1e-9), "{shape:?} {method} {bits}");
            }
        }
    }
}

#[test]
fn searched_uniform_levels_beat_the_other_uniform_ones() {
    for shape in [Shape::Gaussian, Shape::Laplace, Shape::Pruned] {
        let weights = samples::draw(shape, 5000, 32);
        let summary = Summary::of(&weights);
        for bits in 2..=8 {
            let error = |method| squared_error(&weights, &design(method, &summary, bits).levels);
            // A shift is left out where it gains less than a hundredth.
            let searched = error(Method::Mse) * 0.98;
            assert!(searched <= error(Method::Minmax), "{shape:?} {bits}");
            assert!(searched <= error(Method::Aciq), "{shape:?} {bits}");
        }
    }
}

#[test]
fn searched_uniform_error_is_near_that_of_the_optimal_table() {
    for (shape, family) in [
        (Shape::Gaussian, Family::Gaussian),
        (Shape::Laplace, Family::Laplace),
    ] {
        let weights = samples::draw(shape, 50_000, 33);
        let summary = Summary::of(&weights);
        for bits in 2..=6 {
            let levels = design(Method::Mse, &summary, bits).levels;
            let relative = squared_error(&weights, &levels)
                / (weights.len() as f64 * summary.moments().variance);
            let expected = crate::uniform::mid_rise(family, bits).mse;
            assert!(
                relative < MAX_SAMPLING_ERROR * expected,
                "{shape:?} {bits}: {relative} {expected}"
            );
        }
    }
}

#[test]
fn ks_takes_the_table_of_the_better_family() {
    let weights = samples::draw(Shape::Laplace, 5000, 34);
    let summary = Summary::of(&weights);
    let ks = design(Method::Ks, &summary, 4);
    assert_eq!(ks, design(Method::Laplace, &summary, 4));
    let Levels::Affine {
        table,
        scale,
        shift,
    } = ks.levels
    else {
        panic!("not affine")
    };
    assert_eq!(
        table[..],
        crate::lloyd_max::table(Family::Laplace, 4).levels
    );
    assert_eq!(scale, summary.fits().laplace.std());
    assert_eq!(shift, summary.fits().laplace.location);
}

#[test]
fn minmax_reaches_from_the_smallest_to_the_largest_weight() {
    let levels = design(Method::Minmax, &Summary::of(&[-1.0, 0.5, 2.0]), 2)
        .levels
        .values();
    assert_eq!(levels, [-1.0, 0.0, 1.0, 2.0]);
}

#[test]
fn names_survive_the_round_trip() {
    for method in Method::ALL {
        assert_eq!(method.to_string().parse(), Ok(method));
    }
    let error = "nope".parse::<Method>().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("unknown method \"nope\"; expected one of ks, gaussian")
    );
    assert_eq!(error.kind(), crate::ErrorKind::WrongArgument);
}

#[test]
#[should_panic(expected = "bits must be 1 to 8, not 0")]
fn no_bits_are_refused() {
    design(Method::Nf, &Summary::of(&[1.0]), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_finite_weights_get_sound_levels(
        weights in proptest::collection::vec(
            any::<f32>().prop_filter("finite", |x| x.is_finite()), 0..40),
        bits in 1u8..=8,
    ) {
        for method in Method::ALL {
            assert_sound(&weights, method, bits);
        }
    }
}
