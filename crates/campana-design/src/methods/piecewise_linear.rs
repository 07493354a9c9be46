//! `pwlq`: half the levels evenly in the middle, half of them evenly in the two
//! tails up to the largest weight, about 0; the breakpoint between them has the
//! least squared error. The best two levels `-a`, `a` for 1 bit.
//!
//! # References
//!
//! J. Fang, A. Shafiee, H. Abdel-Aziz, D. Thorsley, G. Georgiadis, J. Hassoun,
//! "Post-training piecewise linear quantization for deep neural networks",
//! ECCV 2020, doi:10.1007/978-3-030-58536-5_5.

use super::{Levels, scale, sign_table};
use crate::summary::Summary;

/// Breakpoints tried, in geometric progression between these fractions of the
/// largest weight.
const STEPS: i32 = 32;
const LOWEST: f64 = 0.02;
const HIGHEST: f64 = 0.95;

/// Halvings of the distance between breakpoints around the best one.
const HALVINGS: usize = 10;

pub(super) fn levels(group: &Summary<'_>, bits: u8) -> Levels {
    if bits == 1 {
        return scale::best_scaled(group, &sign_table());
    }
    let largest = f64::from(group.moments().max_abs());
    if group.moments().is_constant() {
        // The outermost levels.
        return Levels::Free(pieces(0.5 * largest, largest, bits));
    }
    let empirical = group.empirical();
    let at = |fraction: f64| {
        let error = empirical.sse(&pieces(fraction * largest, largest, bits));
        (fraction, error)
    };
    let ratio = (HIGHEST / LOWEST).powf(1.0 / f64::from(STEPS - 1));
    let lower = |a: (f64, f64), b: (f64, f64)| if b.1 < a.1 { b } else { a };
    let mut best = (0..STEPS)
        .map(|step| at(LOWEST * ratio.powi(step)))
        .fold((LOWEST, f64::INFINITY), lower);
    let mut step = ratio.sqrt();
    for _ in 0..HALVINGS {
        best = lower(
            lower(best, at(best.0 / step)),
            at((best.0 * step).min(HIGHEST)),
        );
        step = step.sqrt();
    }
    Levels::Free(pieces(best.0 * largest, largest, bits))
}

fn pieces(breakpoint: f64, largest: f64, bits: u8) -> Vec<f64> {
    let (middle, tail) = (1usize << (bits - 1), 1usize << (bits - 2));
    let tail_level = |i: usize| breakpoint + (largest - breakpoint) * (i + 1) as f64 / tail as f64;
    let mut levels: Vec<f64> = (0..tail).rev().map(|i| -tail_level(i)).collect();
    levels.extend((0..middle).map(|i| breakpoint * (2.0 * i as f64 / (middle - 1) as f64 - 1.0)));
    levels.extend((0..tail).map(tail_level));
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_even_on_both_sides_of_the_breakpoint() {
        let expected = [-1.0, -0.65, -0.3, -0.1, 0.1, 0.3, 0.65, 1.0];
        for (found, expected) in pieces(0.3, 1.0, 3).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15);
        }
        assert_eq!(pieces(0.25, 1.0, 2), [-1.0, -0.25, 0.25, 1.0]);
    }
}
