//! From weights to codes, and the error that makes.

mod errors;
#[cfg(target_arch = "x86_64")]
mod permute;

use alloc::vec::Vec;

use crate::vectorize::vectorized;
use errors::Errors;

/// Weights that are compared with one threshold at a time; a few vectors wide,
/// so that the counters stay in registers.
const BLOCK: usize = 32;

/// Up to this many thresholds, comparing with all of them beats a search.
const MAX_COMPARED: usize = 31;

/// The number of thresholds below each weight.
pub(crate) fn assign(thresholds: &[f32], weights: &[f32], codes: &mut [u8]) {
    if weights.len() < BLOCK {
        for (code, &weight) in codes.iter_mut().zip(weights) {
            *code = thresholds.partition_point(|&threshold| threshold < weight) as u8;
        }
    } else if thresholds.len() <= MAX_COMPARED {
        vectorized(
            #[inline(always)]
            || compare_with_all(thresholds, weights, codes),
        );
    } else {
        let grid = Grid::new(thresholds);
        vectorized(
            #[inline(always)]
            || grid.search(thresholds, weights, codes),
        );
    }
}

#[inline(always)]
fn compare_with_all(thresholds: &[f32], weights: &[f32], codes: &mut [u8]) {
    let (weight_blocks, weight_rest) = weights.as_chunks::<BLOCK>();
    let (code_blocks, code_rest) = codes.as_chunks_mut::<BLOCK>();
    for (weights, codes) in weight_blocks.iter().zip(code_blocks) {
        // Integers would be narrowed to bytes at every threshold, at twice the
        // time.
        let mut counts = [0f32; BLOCK];
        for &threshold in thresholds {
            for lane in 0..BLOCK {
                counts[lane] += if weights[lane] > threshold { 1.0 } else { 0.0 };
            }
        }
        for lane in 0..BLOCK {
            codes[lane] = counts[lane] as u8;
        }
    }
    for (code, &weight) in code_rest.iter_mut().zip(weight_rest) {
        *code = thresholds
            .iter()
            .map(|&threshold| u8::from(weight > threshold))
            .sum();
    }
}

/// Equal cells over the range of the thresholds, each with the number of
/// thresholds in the cells before it: a search starts there and rarely has a
/// second step.
struct Grid {
    first: Vec<u8>,
    low: f32,
    cells_per_unit: f32,
}

impl Grid {
    const CELLS: usize = 2048;

    fn new(thresholds: &[f32]) -> Self {
        let low = thresholds[0];
        let range = thresholds[thresholds.len() - 1] - low;
        let scale = Self::CELLS as f32 / range;
        let mut grid = Self {
            first: Vec::new(),
            low,
            // A degenerate or overflowing range makes one cell of everything:
            // still right, as each search walks on from its cell's start.
            cells_per_unit: if scale.is_finite() { scale } else { 0.0 },
        };
        let mut counts = [0u8; Self::CELLS + 1];
        for &threshold in thresholds {
            counts[grid.cell(threshold) + 1] += 1;
        }
        let mut total = 0u8;
        grid.first = counts[..Self::CELLS]
            .iter()
            .map(|&count| {
                total += count;
                total
            })
            .collect();
        grid
    }

    /// The cell of a weight: the same rounded, monotone arithmetic for weights
    /// and thresholds, so a weight's cell never lies before that of a
    /// threshold below it. NaN and what lies before the range get cell 0.
    #[inline(always)]
    fn cell(&self, weight: f32) -> usize {
        let cell = ((weight - self.low) * self.cells_per_unit) as usize;
        cell.min(Self::CELLS - 1)
    }

    #[inline(always)]
    fn search(&self, thresholds: &[f32], weights: &[f32], codes: &mut [u8]) {
        for (code, &weight) in codes.iter_mut().zip(weights) {
            let mut count = usize::from(self.first[self.cell(weight)]);
            while count < thresholds.len() && weight > thresholds[count] {
                count += 1;
            }
            *code = count as u8;
        }
    }
}

/// Codes the weights; returns the sum of their squared differences to the
/// levels. As [`assign`] and [`squared_error`], to the last bit, in one pass.
pub(crate) fn assign_with_error(
    thresholds: &[f32],
    levels: &[f32],
    weights: &[f32],
    codes: &mut [u8],
) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if levels.len() <= permute::MAX_LEVELS {
        let mut errors = Errors::default();
        let (blocks, rest) = weights.as_chunks();
        let (code_blocks, rest_codes) = codes.as_chunks_mut();
        if permute::assign_blocks(thresholds, levels, blocks, code_blocks, &mut errors) {
            assign(thresholds, rest, rest_codes);
            return errors.total(levels, rest, rest_codes);
        }
    }
    assign(thresholds, weights, codes);
    squared_error(levels, weights, codes)
}

/// Sum of squared differences.
pub(crate) fn squared_error(levels: &[f32], weights: &[f32], codes: &[u8]) -> f64 {
    Errors::default().total(levels, weights, codes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn one_pass_codes_and_sums_as_two_do() {
        for level_count in [1usize, 2, 3, 4, 7, 8, 9, 15, 16, 17, 40, 256] {
            let levels: Vec<f32> = (0..level_count)
                .map(|level| ((level * level) as f32 - 20.0) / 7.0)
                .collect();
            let thresholds: Vec<f32> = levels.windows(2).map(|p| (p[0] + p[1]) / 2.0).collect();
            let highest = levels[level_count - 1] + 3.0;
            for len in [0usize, 1, 15, 16, 31, 32, 33, 63, 64, 100, 515] {
                let mut weights: Vec<f32> = (0..len)
                    .map(|i| -6.0 + (highest + 6.0) * ((i * 37 % 101) as f32 / 100.0))
                    .collect();
                for (weight, &threshold) in weights.iter_mut().step_by(3).zip(&thresholds) {
                    *weight = threshold;
                }
                let mut expected = vec![0; len];
                assign(&thresholds, &weights, &mut expected);
                let expected_error = squared_error(&levels, &weights, &expected);
                let mut codes = vec![0; len];
                let error = assign_with_error(&thresholds, &levels, &weights, &mut codes);
                assert_eq!(codes, expected, "{level_count} levels, {len} weights");
                assert_eq!(error, expected_error, "{level_count} levels, {len} weights");
            }
        }
    }

    #[test]
    fn weights_that_are_no_numbers_get_the_codes_they_always_had() {
        let (thresholds, levels) = ([0.0, 1.0], [-0.5, 0.5, 1.5]);
        let weights: Vec<f32> = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.7]
            .into_iter()
            .cycle()
            .take(64)
            .collect();
        let mut codes = vec![9; 64];
        assign_with_error(&thresholds, &levels, &weights, &mut codes);
        assert_eq!(codes[..4], [0, 2, 0, 1]);
        assert_eq!(codes[60..], [0, 2, 0, 1]);
    }
}
