//! Matrix products on the engine's kernel.

use campana_kernels::gemm::{Epilogue, Grid, PackedMatrix, RowRuns, gemm};
use campana_kernels::{Isa, ThreadPool};

/// Rows of a right-hand matrix that are multiplied at once, so that its panels
/// stay in the L2 cache.
const DEPTH: usize = 512;

/// A matrix in a slice, row-major.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl<'a> Matrix<'a> {
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a whole matrix");
        Self {
            values,
            rows,
            columns,
        }
    }

    pub(crate) fn transposed(self) -> Vec<f32> {
        let mut transposed = vec![0.0; self.values.len()];
        campana_kernels::layout::transpose(self.values, self.rows, self.columns, &mut transposed);
        transposed
    }

    /// `self * right`, added to `sums`, shape `[rows, right.columns]`.
    pub(crate) fn multiply_add(self, right: Matrix<'_>, sums: &mut [f32]) {
        assert_eq!(self.columns, right.rows, "inner extents");
        let of = |row: usize, column: usize| right.values[row * right.columns + column];
        self.accumulate(right.columns, of, sums);
    }

    /// `self * right^T`, added to `sums`, shape `[rows, right.rows]`.
    pub(crate) fn multiply_transposed_add(self, right: Matrix<'_>, sums: &mut [f32]) {
        assert_eq!(self.columns, right.columns, "inner extents");
        let of = |row: usize, column: usize| right.values[column * right.columns + row];
        self.accumulate(right.rows, of, sums);
    }

    fn accumulate(self, columns: usize, right: impl Fn(usize, usize) -> f32, sums: &mut [f32]) {
        let isa = Isa::detect();
        let pool = ThreadPool::serial();
        let output = Grid::rows(self.rows, columns);
        let mut product = vec![0.0; sums.len()];
        for start in (0..self.columns).step_by(DEPTH) {
            let depth = DEPTH.min(self.columns - start);
            let packed = PackedMatrix::pack(depth, columns, |r, c| right(start + r, c));
            let input = Grid {
                start,
                ..Grid::rows(self.rows, self.columns)
            };
            gemm(
                isa,
                &pool,
                self.values,
                input,
                RowRuns::contiguous(depth),
                &packed,
                Epilogue::NONE,
                &mut product,
                output,
            );
            for (sum, product) in sums.iter_mut().zip(&product) {
                *sum += product;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_sums_over_the_inner_extent() {
        // Deeper than one block, as for large images.
        let (m, k, n) = (3, 2 * DEPTH + 5, 7);
        let a: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32 - 3.0).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i % 5) as f32 - 2.0).collect();
        let mut expected = vec![1.0; m * n];
        for i in 0..m {
            for j in 0..n {
                expected[i * n + j] += (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum::<f32>();
            }
        }
        let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
        let mut sums = vec![1.0; m * n];
        a.multiply_add(b, &mut sums);
        assert_eq!(sums, expected);
        let transposed = b.transposed();
        let mut sums = vec![1.0; m * n];
        a.multiply_transposed_add(Matrix::new(&transposed, n, k), &mut sums);
        assert_eq!(sums, expected);
    }
}
