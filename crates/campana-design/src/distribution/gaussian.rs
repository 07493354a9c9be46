//! The standard normal density.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, PI, SQRT_2};

pub(super) const STD_PER_SCALE: f64 = 1.0;

pub(super) fn pdf(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * PI).sqrt()
}

pub(super) fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// `exp(-z u - u^2 / 2)`, free of the cancellation of two densities.
pub(super) fn pdf_ratio(z: f64, u: f64) -> f64 {
    (-u * (z + 0.5 * u)).exp()
}

/// Newton's method on the logarithm of the tail, which is concave: it
/// converges from any start at or beyond the root, in both tails.
pub(super) fn quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    // The complement of p > 1/2 is exact.
    let (tail, sign) = if p <= 0.5 { (p, -1.0) } else { (1.0 - p, 1.0) };
    if tail == 0.0 {
        return sign * f64::INFINITY;
    }
    if tail == 0.5 {
        return 0.0;
    }
    let target = tail.ln();
    // Chernoff's bound tail <= exp(-z^2 / 2) / 2 starts beyond the root.
    let mut z = (-2.0 * (target + LN_2)).sqrt();
    for _ in 0..MAX_STEPS {
        let q = 0.5 * libm::erfc(z / SQRT_2);
        let step = (q.ln() - target) * q / pdf(z);
        z += step;
        if step.abs() <= f64::EPSILON * z {
            break;
        }
    }
    sign * z
}

/// Newton takes 4 to 7 steps; the limit guards against a cycle of rounding.
const MAX_STEPS: usize = 40;
