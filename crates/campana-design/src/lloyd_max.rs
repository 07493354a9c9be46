//! Lloyd–Max tables: the scalar quantizers of least mean squared error for the
//! standard member of a family.
//!
//! A quantizer is optimal for a log-concave density if and only if each
//! decision threshold is the midpoint of its neighbours' levels and each level
//! the centroid of its cell. Both conditions together are solved here once per
//! family and bit width; a tensor then takes the table, shifted and scaled.
//!
//! # Precision
//!
//! Levels, thresholds and distortions are within 1e-12 (relative) of values
//! computed with 50 digits. In terms of levels and differences of cumulative
//! probabilities this is out of reach: the condition number of the system grows
//! with the square of the number of levels. The unknowns here are therefore
//! the spacings between neighbouring levels, and cell `i` asks
//!
//! ```text
//! integral over -a..b of u p(y_i + u) / p(y_i) du = 0
//! ```
//!
//! where `a` and `b` are half the spacings to either side: each half is a
//! well-conditioned integral of positive terms, computed by Gauss–Legendre
//! quadrature to rounding, and nothing cancels but the two halves.
//!
//! # References
//!
//! S. P. Lloyd, "Least squares quantization in PCM", Bell Laboratories, 1957;
//! IEEE Trans. Inf. Theory 28(2), 1982, doi:10.1109/TIT.1982.1056489.
//! J. Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6(1),
//! 1960, doi:10.1109/TIT.1960.1057548.
//! P. E. Fleischer, "Sufficient conditions for achieving minimum distortion in
//! a quantizer", IEEE Int. Conv. Rec. 12, 1964 (uniqueness).
//! A. Luqman, K. Qazi, S. Patterson, M. J. Khan, I. Khan, "A data-free
//! analytical quantization scheme for deep learning models", ICDM 2025,
//! arXiv:2412.07391, which applies them to the weights of networks.

mod quantizer;
mod solve;

use std::sync::OnceLock;

pub use quantizer::{MAX_BITS, Table};

use crate::distribution::Family;

/// The table of `family` for `bits`-bit codes, solved at first use and shared
/// by all later ones.
///
/// # Panics
///
/// If `bits` is not in 1 to [`MAX_BITS`].
pub fn table(family: Family, bits: u8) -> &'static Table {
    static GAUSSIAN: [OnceLock<Table>; MAX_BITS as usize] =
        [const { OnceLock::new() }; MAX_BITS as usize];
    static LAPLACE: [OnceLock<Table>; MAX_BITS as usize] =
        [const { OnceLock::new() }; MAX_BITS as usize];
    assert!(
        (1..=MAX_BITS).contains(&bits),
        "bits must be 1 to {MAX_BITS}, not {bits}"
    );
    let tables = match family {
        Family::Gaussian => &GAUSSIAN,
        Family::Laplace => &LAPLACE,
    };
    tables[usize::from(bits) - 1].get_or_init(|| solve::solve(family, bits))
}

#[cfg(test)]
mod tests;
