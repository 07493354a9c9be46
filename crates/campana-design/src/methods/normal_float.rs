//! `nf`: quantiles of the standard normal distribution, scaled so that the
//! outermost levels meet the largest weight.
//!
//! One level is 0; there is one more level above it than below. For 1 bit,
//! where the definition leaves 0 and 1, the levels are -1 and 1.
//!
//! # References
//!
//! T. Dettmers, A. Pagnoni, A. Holtzman, L. Zettlemoyer, "QLoRA: efficient
//! finetuning of quantized LLMs", NeurIPS 2023, arXiv:2305.14314.

use super::{Levels, TableCache, UnitTable, sign_table};
use crate::distribution::Family;
use crate::moments::Moments;

pub(super) fn levels(moments: &Moments, bits: u8) -> Levels {
    Levels::affine(&table(bits), f64::from(moments.max_abs()), 0.0)
}

fn table(bits: u8) -> UnitTable {
    static TABLES: TableCache = TableCache::new();
    if bits == 1 {
        return sign_table();
    }
    TABLES.get(bits, || {
        let levels = 1usize << bits;
        let n = levels as f64;
        // Probability of the outermost level: between the centres of the
        // outermost of n and of n - 1 cells of equal probability.
        let highest = 1.0 - 0.5 * (0.5 / n + 0.5 / (n - 1.0));
        let quantile = |p| Family::Gaussian.standard_quantile(p);
        let reach = quantile(highest);
        // `count` levels from the outermost, at equal steps of probability that
        // would next reach 1/2.
        let side = |count: usize| {
            (0..count).map(move |i| {
                let p = highest + (0.5 - highest) * i as f64 / count as f64;
                quantile(p) / reach
            })
        };
        let mut table: Vec<f64> = side(levels / 2 - 1).map(|level| -level).collect();
        table.push(0.0);
        table.extend(side(levels / 2).collect::<Vec<_>>().into_iter().rev());
        table
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bits_are_the_published_nf4() {
        // Appendix E of the paper, to the digits it gives.
        let published = [
            -1.0,
            -0.6961928,
            -0.52507305,
            -0.3949175,
            -0.28444138,
            -0.18477343,
            -0.09105004,
            0.0,
            0.0795803,
            0.1609302,
            0.2461123,
            0.33791524,
            0.44070983,
            0.562617,
            0.72295684,
            1.0,
        ];
        for (found, expected) in table(4).iter().zip(published) {
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
    }
}
