//! The triangular factor of second moments.

use rayon::prelude::*;

use crate::hessian::LayerHessian;
use crate::product::{LeftRows, PackedTiles, Sums, Update};
use crate::vector::subtract_scaled;

/// Rows that are eliminated before the rows below are brought up to date by
/// one matrix product.
const PANEL: usize = 128;

/// Columns of a panel's rows that one thread brings up to date: with the
/// panel's rows they stay in the L2 cache.
const PANEL_COLUMNS: usize = 256;

/// Share of the smallest diagonal value that a pivot is raised to.
const MIN_PIVOT: f64 = 1e-6;

/// The upper triangular `R` with `R^T R = H + damping` for the inputs in the
/// given order, shape `[inputs, inputs]`, row-major, zero below the diagonal.
///
/// Cholesky's factorization in blocks: blocks on the diagonal in double
/// precision, all else in single. The damping makes `H` positive definite by
/// much more than single precision loses; a pivot that rounding made too small
/// all the same is raised.
pub(crate) fn upper_factor(hessian: &LayerHessian, order: &[usize], damping: f32) -> Vec<f32> {
    let n = order.len();
    let mut factor = vec![0f32; n * n];
    factor
        .par_chunks_exact_mut(n.max(1))
        .enumerate()
        .for_each(|(i, row)| {
            let moments = hessian.row(order[i]);
            for (value, &j) in row[i..].iter_mut().zip(&order[i..]) {
                *value = moments[j];
            }
            row[i] += damping;
        });
    let diagonal = (0..n).map(|i| f64::from(factor[i * (n + 1)]));
    let smallest = diagonal.fold(f64::INFINITY, f64::min) * MIN_PIVOT;
    for start in (0..n).step_by(PANEL) {
        let end = (start + PANEL).min(n);
        let block = factor_block(&mut factor, n, start..end, smallest);
        let (above, below) = factor.split_at_mut(end * n);
        let panel = &mut above[start * n..];
        solve_panel(panel, n, end, &block);
        let panel = &*panel;
        let (rows, left) = (end - start, n - end);
        let mut transposed = vec![0f32; left * rows];
        transposed
            .par_chunks_exact_mut(rows)
            .enumerate()
            .for_each(|(column, values)| {
                for (i, value) in values.iter_mut().enumerate() {
                    *value = panel[i * n + end + column];
                }
            });
        let packed = PackedTiles::pack(rows, left, |row, column| panel[row * n + end + column]);
        let sums = Sums {
            values: below,
            stride: n,
            offset: end,
        };
        packed.update(
            LeftRows::contiguous(&transposed, rows),
            sums,
            Update::SubtractUpper,
        );
    }
    // Products reached a little below the diagonal.
    for i in 0..n {
        factor[i * n..][..i].fill(0.0);
    }
    factor
}

/// Factors a block on the diagonal in place; returns it, shape `[rows, rows]`.
fn factor_block(
    factor: &mut [f32],
    n: usize,
    range: std::ops::Range<usize>,
    smallest: f64,
) -> Vec<f64> {
    let (start, size) = (range.start, range.len());
    let mut block = vec![0f64; size * size];
    for (i, row) in block.chunks_exact_mut(size).enumerate() {
        let values = &factor[(start + i) * n + start..][..size];
        for (value, &from) in row[i..].iter_mut().zip(&values[i..]) {
            *value = f64::from(from);
        }
    }
    for i in 0..size {
        let (done, rest) = block.split_at_mut(i * size);
        let row = &mut rest[i..size];
        for above in done.chunks_exact(size) {
            subtract_scaled(row, &above[i..], above[i]);
        }
        let pivot = row[0].max(smallest).sqrt();
        row[0] = pivot;
        row[1..].iter_mut().for_each(|value| *value /= pivot);
    }
    for (i, row) in block.chunks_exact(size).enumerate() {
        let values = &mut factor[(start + i) * n + start..][..size];
        for (value, &from) in values[i..].iter_mut().zip(&row[i..]) {
            *value = from as f32;
        }
    }
    block
}

/// Solves `U^T P' = P` for the part of a panel's rows from column `end` on,
/// with the factor `U` of its block on the diagonal.
fn solve_panel(panel: &mut [f32], n: usize, end: usize, block: &[f64]) {
    let rows = panel.len() / n.max(1);
    let block: Vec<f32> = block.iter().map(|&value| value as f32).collect();
    // Pieces of columns of all rows, each solved by one thread.
    let mut pieces: Vec<Vec<&mut [f32]>> = Vec::new();
    pieces.resize_with((n - end).div_ceil(PANEL_COLUMNS), Vec::new);
    for row in panel.chunks_exact_mut(n.max(1)) {
        let columns = row[end..].chunks_mut(PANEL_COLUMNS);
        for (piece, columns) in pieces.iter_mut().zip(columns) {
            piece.push(columns);
        }
    }
    pieces.into_par_iter().for_each(|mut piece| {
        for i in 0..rows {
            let (done, rest) = piece.split_at_mut(i);
            let row = &mut *rest[0];
            for (j, above) in done.iter().enumerate() {
                crate::vector::add_scaled(row, above, -block[j * rows + i]);
            }
            let inverse = 1.0 / block[i * (rows + 1)];
            row.iter_mut().for_each(|value| *value *= inverse);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative to the largest moment: single precision over some hundred
    /// products.
    const MAX_FACTOR_ERROR: f32 = 1e-5;

    #[test]
    fn the_factor_times_itself_is_the_moment_in_the_given_order() {
        for n in [1, 80, 128, 300] {
            let inputs: Vec<f64> = (0..n * n)
                .map(|i| ((i * 7919) % 997) as f64 / 997.0 - 0.5)
                .collect();
            let mut values = vec![0.0; n * n];
            for i in 0..n {
                for j in 0..n {
                    values[i * n + j] = (0..n).map(|k| inputs[k * n + i] * inputs[k * n + j]).sum();
                }
            }
            let hessian = LayerHessian::new(n, values);
            let order: Vec<usize> = (0..n).map(|i| (i * 37) % n).collect();
            let damping = 0.01;
            let factor = upper_factor(&hessian, &order, damping);
            let largest = (0..n).map(|i| hessian.variance(i)).fold(0.0, f32::max);
            for i in 0..n {
                assert!(factor[i * n..][..i].iter().all(|&value| value == 0.0));
                for j in 0..n {
                    let product: f32 = (0..n).map(|k| factor[k * n + i] * factor[k * n + j]).sum();
                    let added = if i == j { damping } else { 0.0 };
                    let expected = hessian.row(order[i])[order[j]] + added;
                    assert!(
                        (product - expected).abs() <= MAX_FACTOR_ERROR * largest,
                        "{n}: {i} {j}: {product}, not {expected}"
                    );
                }
            }
        }
    }
}
