//! `pot`: 0 and powers of two of either sign, at the scale of least squared
//! error. `2^bits - 1` levels; -1 and 1 for 1 bit.
//!
//! # References
//!
//! A. Zhou, A. Yao, Y. Guo, L. Xu, Y. Chen, "Incremental network quantization:
//! towards lossless CNNs with low-precision weights", ICLR 2017,
//! arXiv:1702.03044.

use super::{Levels, TableCache, UnitTable, scale, sign_table};
use crate::summary::Summary;

pub(super) fn levels(group: &Summary<'_>, bits: u8) -> Levels {
    scale::best_scaled(group, &table(bits))
}

fn table(bits: u8) -> UnitTable {
    static TABLES: TableCache = TableCache::new();
    if bits == 1 {
        return sign_table();
    }
    TABLES.get(bits, || {
        let magnitudes = (0..(1i32 << (bits - 1)) - 1).map(|exponent| 2f64.powi(-exponent));
        let mut table: Vec<f64> = magnitudes.clone().map(|level| -level).collect();
        table.push(0.0);
        table.extend(magnitudes.rev());
        table
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_bits_hold_three_powers_of_either_sign() {
        assert_eq!(table(3)[..], [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]);
        assert_eq!(table(8).len(), 255);
    }
}
