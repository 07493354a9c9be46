//! From weights to codes, and the error that makes.

use alloc::vec::Vec;

use crate::vectorize::vectorized;

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

/// Sum of squared differences; blocks of one length keep the rounding the
/// same on every machine.
pub(crate) fn squared_error(levels: &[f32], weights: &[f32], codes: &[u8]) -> f64 {
    const LANES: usize = 16;
    // 256 entries, so that no code is out of range and no check is needed.
    let mut table = [f32::NAN; 256];
    table[..levels.len()].copy_from_slice(levels);
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [0f64; LANES];
            let weight_blocks = weights.chunks_exact(LANES);
            let code_blocks = codes.chunks_exact(LANES);
            let mut rest = 0f64;
            for (&weight, &code) in weight_blocks
                .remainder()
                .iter()
                .zip(code_blocks.remainder())
            {
                let difference = f64::from(weight) - f64::from(table[usize::from(code)]);
                rest += difference * difference;
            }
            for (weights, codes) in weight_blocks.zip(code_blocks) {
                for lane in 0..LANES {
                    let level = table[usize::from(codes[lane])];
                    let difference = f64::from(weights[lane]) - f64::from(level);
                    sums[lane] += difference * difference;
                }
            }
            sums.iter().sum::<f64>() + rest
        },
    )
}
