//! `apot`: sums of a few powers of two, of either sign, at the scale of least
//! squared error. `2^bits - 1` levels; -1 and 1 for 1 bit.
//!
//! A magnitude of `bits - 1` bits is the sum of one term out of each of several
//! sets. A set of two bits holds 0 and three powers, one of one bit 0 and one
//! power; powers go down by one from term to term over the sets in turn. Li et
//! al. define this for up to 6 bits of magnitude, for odd numbers with one set
//! of one bit, which takes its turn in the last round. The 7 bits of magnitude
//! of 8-bit codes, which they do not define, continue that rule with a fourth
//! set of one bit.
//!
//! # References
//!
//! Y. Li, X. Dong, W. Wang, "Additive powers-of-two quantization: an efficient
//! non-uniform discretization for neural networks", ICLR 2020,
//! arXiv:1909.13144.

use super::{Levels, TableCache, UnitTable, scale, sign_table};
use crate::summary::Summary;

/// Powers in a set of two bits, beside 0.
const ROUNDS: usize = 3;

pub(super) fn levels(group: &Summary<'_>, bits: u8) -> Levels {
    scale::best_scaled(group, &table(bits))
}

fn table(bits: u8) -> UnitTable {
    static TABLES: TableCache = TableCache::new();
    if bits == 1 {
        return sign_table();
    }
    TABLES.get(bits, || {
        let mut magnitudes = vec![0.0];
        for set in sets(bits - 1) {
            magnitudes = magnitudes
                .iter()
                .flat_map(|sum| set.iter().map(move |term| sum + term))
                .collect();
        }
        magnitudes.sort_by(f64::total_cmp);
        magnitudes.dedup();
        let largest = magnitudes[magnitudes.len() - 1];
        let positive = magnitudes[1..].iter().map(|level| level / largest);
        let mut table: Vec<f64> = positive.clone().rev().map(|level| -level).collect();
        table.push(0.0);
        table.extend(positive);
        table
    })
}

/// The sets of terms for magnitudes of that many bits.
fn sets(magnitude_bits: u8) -> Vec<Vec<f64>> {
    let full = usize::from(magnitude_bits / 2);
    let mut sets = vec![vec![0.0]; full];
    let mut single = None;
    let mut power = 1.0;
    let mut next = || {
        power *= 0.5;
        power
    };
    for round in 0..ROUNDS {
        if round + 1 == ROUNDS && magnitude_bits % 2 == 1 {
            single = Some(vec![0.0, next()]);
        }
        for set in &mut sets {
            set.push(next());
        }
    }
    sets.extend(single);
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_those_of_the_paper() {
        let p = |exponent: i32| 2f64.powi(-exponent);
        assert_eq!(sets(2), [vec![0.0, p(1), p(2), p(3)]]);
        assert_eq!(sets(3), [vec![0.0, p(1), p(2), p(4)], vec![0.0, p(3)]]);
        assert_eq!(
            sets(4),
            [vec![0.0, p(1), p(3), p(5)], vec![0.0, p(2), p(4), p(6)]]
        );
        let six = [
            vec![0.0, p(1), p(4), p(7)],
            vec![0.0, p(2), p(5), p(8)],
            vec![0.0, p(3), p(6), p(9)],
        ];
        assert_eq!(sets(6), six);
    }

    #[test]
    fn every_sum_is_a_level_of_its_own() {
        for bits in 2..=8 {
            assert_eq!(table(bits).len(), (1 << bits) - 1, "{bits} bits");
        }
        assert_eq!(table(2)[..], [-1.0, 0.0, 1.0]);
    }
}
