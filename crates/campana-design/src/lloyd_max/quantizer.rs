//! The optimal quantizer of one family and width.

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
