//! Assignment to up to 16 levels, and its error, by AVX2's permutes: each holds
//! a table of eight floats and looks eight weights up at once.
//!
//! A search over 15 thresholds takes four steps, a step one lookup and one
//! comparison, where comparing with every threshold takes fifteen; and the
//! level of each code is there for the error. On one core of a Zen 3, 1e8
//! weights take 0.06 s instead of 0.2 s, and the error, which is scalar
//! lookups otherwise, 0.03 s instead of 0.2 s.

use core::arch::x86_64::{__m256, __m256d, __m256i, _CMP_GT_OQ};

use pulp::NullaryFnOnce;
use pulp::x86::V3;

use super::errors::{ERROR_LANES, Errors};

/// Most levels of the tables here.
pub(super) const MAX_LEVELS: usize = 16;

/// Weights that are coded together: their codes fill one register.
pub(super) const BLOCK: usize = 32;

/// Floats in a register.
const LANES: usize = 8;

/// The search tree over the thresholds, by depth, and the levels.
struct Tables {
    /// Depth 0 to 3; node `i` of a depth has the children `2 i` and `2 i + 1`.
    thresholds: [__m256; 4],
    low_levels: __m256,
    high_levels: __m256,
}

impl Tables {
    fn new(thresholds: &[f32], levels: &[f32]) -> Self {
        // No weight is above an infinite threshold, so no code is too large.
        let threshold = |at: usize| thresholds.get(at).copied().unwrap_or(f32::INFINITY);
        let depth = |depth: usize| {
            let step = MAX_LEVELS >> depth;
            let node = |node: usize| threshold((node % (1 << depth)) * step + step / 2 - 1);
            pulp::cast(core::array::from_fn::<f32, LANES, _>(node))
        };
        let level = |at: usize| levels.get(at).copied().unwrap_or(0.0);
        Self {
            thresholds: [depth(0), depth(1), depth(2), depth(3)],
            low_levels: pulp::cast(core::array::from_fn::<f32, LANES, _>(level)),
            high_levels: pulp::cast(core::array::from_fn::<f32, LANES, _>(|at| {
                level(at + LANES)
            })),
        }
    }
}

/// Codes the whole blocks of the weights and adds their errors up; `false`,
/// with nothing done, where the processor has no AVX2.
pub(super) fn assign_blocks(
    thresholds: &[f32],
    levels: &[f32],
    weights: &[[f32; BLOCK]],
    codes: &mut [[u8; BLOCK]],
    errors: &mut Errors,
) -> bool {
    let Some(simd) = V3::try_new() else {
        return false;
    };
    simd.vectorize(Assign {
        simd,
        tables: Tables::new(thresholds, levels),
        weights,
        codes,
        errors,
    });
    true
}

struct Assign<'a> {
    simd: V3,
    tables: Tables,
    weights: &'a [[f32; BLOCK]],
    codes: &'a mut [[u8; BLOCK]],
    errors: &'a mut Errors,
}

impl NullaryFnOnce for Assign<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, tables, .. } = self;
        let mut sums: [__m256d; ERROR_LANES / 4] = pulp::cast(self.errors.0);
        // The packing of two registers into one takes from each half in turn.
        let order: __m256i = pulp::cast([0i32, 4, 1, 5, 2, 6, 3, 7]);
        for (weights, codes) in self.weights.iter().zip(self.codes) {
            let weights: [__m256; BLOCK / LANES] = pulp::cast(*weights);
            let mut found = [pulp::cast([0i32; LANES]); BLOCK / LANES];
            for part in 0..BLOCK / LANES {
                let code = search(simd, &tables, weights[part]);
                let level = level_of(simd, &tables, code);
                // Registers 0 and 2 add to the first eight sums, 1 and 3 to the
                // others: sum `i` is that of the weights `i`, `i + 16`, ...
                let half = part % 2 * 2;
                let add = |sum: &mut __m256d, weight: __m256d, level: __m256d| {
                    let difference = simd.avx._mm256_sub_pd(weight, level);
                    let square = simd.avx._mm256_mul_pd(difference, difference);
                    *sum = simd.avx._mm256_add_pd(*sum, square);
                };
                let (low, high) = widen(simd, weights[part]);
                let (low_level, high_level) = widen(simd, level);
                add(&mut sums[half], low, low_level);
                add(&mut sums[half + 1], high, high_level);
                found[part] = code;
            }
            let low = simd.avx2._mm256_packs_epi32(found[0], found[1]);
            let high = simd.avx2._mm256_packs_epi32(found[2], found[3]);
            let packed = simd.avx2._mm256_packus_epi16(low, high);
            *codes = pulp::cast(simd.avx2._mm256_permutevar8x32_epi32(packed, order));
        }
        self.errors.0 = pulp::cast(sums);
    }
}

/// The number of thresholds below each weight.
#[inline(always)]
fn search(simd: V3, tables: &Tables, weights: __m256) -> __m256i {
    let above = |thresholds: __m256| -> __m256i {
        let above = simd.avx._mm256_cmp_ps::<_CMP_GT_OQ>(weights, thresholds);
        simd.avx._mm256_castps_si256(above)
    };
    let mut node: __m256i = pulp::cast([0i32; LANES]);
    // All lanes of a comparison that holds are -1.
    node = simd
        .avx2
        ._mm256_sub_epi32(node, above(tables.thresholds[0]));
    for depth in 1..4 {
        let thresholds = simd
            .avx2
            ._mm256_permutevar8x32_ps(tables.thresholds[depth], node);
        let doubled = simd.avx2._mm256_add_epi32(node, node);
        node = simd.avx2._mm256_sub_epi32(doubled, above(thresholds));
    }
    node
}

/// The level of each code.
#[inline(always)]
fn level_of(simd: V3, tables: &Tables, codes: __m256i) -> __m256 {
    // A permute sees the low three bits; the fourth, moved to the sign, blends.
    let low = simd.avx2._mm256_permutevar8x32_ps(tables.low_levels, codes);
    let high = simd
        .avx2
        ._mm256_permutevar8x32_ps(tables.high_levels, codes);
    let fourth = simd.avx2._mm256_slli_epi32::<28>(codes);
    let fourth = simd.avx._mm256_castsi256_ps(fourth);
    simd.avx._mm256_blendv_ps(low, high, fourth)
}

#[inline(always)]
fn widen(simd: V3, floats: __m256) -> (__m256d, __m256d) {
    let low = simd.avx._mm256_castps256_ps128(floats);
    let high = simd.avx._mm256_extractf128_ps::<1>(floats);
    (
        simd.avx._mm256_cvtps_pd(low),
        simd.avx._mm256_cvtps_pd(high),
    )
}
