//! The standard Laplace density, `exp(-|z|) / 2`.

use std::f64::consts::SQRT_2;

pub(super) const STD_PER_SCALE: f64 = SQRT_2;

pub(super) fn pdf(z: f64) -> f64 {
    0.5 * (-z.abs()).exp()
}

pub(super) fn cdf(z: f64) -> f64 {
    if z <= 0.0 {
        0.5 * z.exp()
    } else {
        1.0 - 0.5 * (-z).exp()
    }
}

pub(super) fn pdf_ratio(u: f64) -> f64 {
    (-u).exp()
}

pub(super) fn quantile(p: f64) -> f64 {
    if p <= 0.5 {
        (2.0 * p).ln()
    } else {
        -(2.0 * (1.0 - p)).ln()
    }
}
