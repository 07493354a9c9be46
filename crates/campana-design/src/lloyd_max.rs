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

mod solve;

use std::sync::OnceLock;

use crate::distribution::Family;

/// Largest number of bits that a table is made for.
pub const MAX_BITS: u8 = 8;

/// The optimal quantizer for the member of a family that has mean 0 and
/// variance 1.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// The family.
    pub family: Family,
    /// Bits of a code, 1 to [`MAX_BITS`].
    pub bits: u8,
    /// The `2^bits` levels, strictly ascending and symmetric about 0.
    pub levels: Vec<f64>,
    /// The `2^bits - 1` decision thresholds, strictly ascending.
    pub thresholds: Vec<f64>,
    /// Mean squared error, the sum of the two distortions below; relative to
    /// the variance, which is 1.
    pub mse: f64,
    /// Part of `mse` that arises inside the clipping range.
    pub granular_mse: f64,
    /// Part of `mse` that arises outside the clipping range.
    pub overload_mse: f64,
    /// Entropy of the codes in bits: the rate an ideal entropy coder reaches.
    pub entropy_bits: f64,
}

impl Table {
    /// The clipping range, from the lowest to the highest level.
    pub fn clip(&self) -> (f64, f64) {
        let highest = self.levels[self.levels.len() - 1];
        (-highest, highest)
    }
}

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
