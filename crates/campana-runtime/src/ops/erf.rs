//! The error function.

use std::f64::consts::{FRAC_2_SQRT_PI, PI};
use std::sync::LazyLock;

/// Intervals of the table for each unit.
const INTERVALS: usize = 256;

/// From here on the function is 1 to the last bit of a float32.
const END: usize = 6;

/// Values and slopes at the ends of all intervals.
static TABLE: LazyLock<Vec<[f64; 2]>> = LazyLock::new(|| {
    (0..=END * INTERVALS)
        .map(|i| {
            let x = i as f64 / INTERVALS as f64;
            [exact(x), FRAC_2_SQRT_PI * (-x * x).exp()]
        })
        .collect()
});

/// The error function to 1e-10: cubics between values of a table that are met
/// with their slopes. Their error is at most `h^4 / 384` times the fourth
/// derivative, which is below 10.
pub(super) fn erf(x: f64) -> f64 {
    let a = x.abs() * INTERVALS as f64;
    if a.is_nan() {
        return x;
    }
    if a >= (END * INTERVALS) as f64 {
        return 1f64.copysign(x);
    }
    let i = a as usize;
    let t = a - i as f64;
    let ([low, low_slope], [high, high_slope]) = (TABLE[i], TABLE[i + 1]);
    let scale = 1.0 / INTERVALS as f64;
    let (m0, m1, rise) = (low_slope * scale, high_slope * scale, high - low);
    let value = low + t * (m0 + t * (3.0 * rise - 2.0 * m0 - m1 + t * (m0 + m1 - 2.0 * rise)));
    value.copysign(x)
}

/// The error function to about 1e-15: its Taylor series near 0, its
/// continued fraction (Lentz's method) far from it.
///
/// # References
///
/// Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 7.1.5 and 7.1.14.
fn exact(x: f64) -> f64 {
    let a = x.abs();
    if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..60 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return (sum * FRAC_2_SQRT_PI).copysign(x);
    }
    let mut fraction = a;
    for n in (1..80).rev() {
        fraction = a + f64::from(n) / 2.0 / fraction;
    }
    let tail = (-a * a).exp() / fraction / PI.sqrt();
    (1.0 - tail).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_ERROR: f64 = 1e-10;

    #[test]
    fn the_error_function_matches_published_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_8),
            (1.0, 0.842_700_792_9),
            (2.0, 0.995_322_265_0),
        ] {
            assert!((erf(x) - expected).abs() < MAX_ERROR);
            assert!((erf(-x) + expected).abs() < MAX_ERROR);
        }
        assert_eq!(erf(30.0), 1.0);
        assert_eq!(erf(f64::NEG_INFINITY), -1.0);
        assert!(erf(f64::NAN).is_nan());
    }

    #[test]
    fn the_table_gives_what_the_series_gives() {
        for i in 0..70_001 {
            let x = f64::from(i) * 1e-4 - 0.5;
            assert!((erf(x) - exact(x)).abs() < MAX_ERROR, "{x}");
        }
    }
}
