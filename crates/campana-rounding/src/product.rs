//! Matrix products in tiles that stay in the cache, over fixed pieces of the
//! rows: results do not depend on the number of threads.

use campana_kernels::gemm::{Epilogue, Grid, PackedMatrix, RowRuns, gemm};
use campana_kernels::{Isa, ThreadPool};
use rayon::prelude::*;

/// Columns and rows of a tile of the right-hand matrix: 256 KB, a part of the
/// L2 cache.
const TILE_COLUMNS: usize = 256;
const TILE_DEPTH: usize = 256;

/// A right-hand matrix `[depth, columns]`, packed in tiles.
#[derive(Clone, Debug)]
pub struct PackedTiles {
    depth: usize,
    columns: usize,
    /// The tiles of the first columns from the first row down, then the next.
    tiles: Vec<PackedMatrix>,
}

/// Rows of a left-hand matrix in a slice: row `i` starts at `start + i *
/// stride`.
#[derive(Clone, Copy, Debug)]
pub struct LeftRows<'a> {
    /// The slice.
    pub values: &'a [f32],
    /// Where the first row starts.
    pub start: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Number of rows.
    pub count: usize,
}

impl<'a> LeftRows<'a> {
    /// Rows of this length without gaps.
    pub fn contiguous(values: &'a [f32], len: usize) -> Self {
        Self {
            values,
            start: 0,
            stride: len,
            count: values.len().checked_div(len).unwrap_or(0),
        }
    }
}

/// Where a product goes: its row `i` to `values[i * stride + offset..]`.
#[derive(Debug)]
pub struct Sums<'a> {
    /// The slice.
    pub values: &'a mut [f32],
    /// Elements from one row to the next.
    pub stride: usize,
    /// Where in a row the product's first column lies.
    pub offset: usize,
}

/// What becomes of the values that a product meets where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// They are overwritten.
    Set,
    /// The product is added.
    Add,
    /// The same in the columns that are not left of the diagonal, tile by
    /// tile; what lies further left stays.
    AddUpper,
    /// The same, subtracted.
    SubtractUpper,
}

impl PackedTiles {
    /// Packs the matrix whose value at `(row, column)` is `value(row, column)`.
    pub fn pack(depth: usize, columns: usize, value: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        let depths = depth.div_ceil(TILE_DEPTH);
        let tiles = (0..columns.div_ceil(TILE_COLUMNS) * depths)
            .into_par_iter()
            .map(|tile| {
                let column = tile / depths * TILE_COLUMNS;
                let row = tile % depths * TILE_DEPTH;
                let size = [depth - row, columns - column];
                let [rows, columns] = [size[0].min(TILE_DEPTH), size[1].min(TILE_COLUMNS)];
                PackedMatrix::pack(rows, columns, |r, c| value(row + r, column + c))
            })
            .collect();
        Self {
            depth,
            columns,
            tiles,
        }
    }

    /// The product of rows with this matrix, shape `[rows, columns]`.
    ///
    /// # Panics
    ///
    /// Where the rows reach beyond their slice.
    pub fn multiply(&self, left: LeftRows<'_>) -> Vec<f32> {
        let mut product = vec![0.0; left.count * self.columns];
        let sums = Sums {
            values: &mut product,
            stride: self.columns,
            offset: 0,
        };
        self.update(left, sums, Update::Set);
        product
    }

    /// Adds the product of rows with this matrix.
    ///
    /// # Panics
    ///
    /// Where the rows or the sums reach beyond their slices.
    pub fn multiply_add(&self, left: LeftRows<'_>, sums: Sums<'_>) {
        self.update(left, sums, Update::Add);
    }

    /// Adds the upper triangle of a product that is square; what lies left of
    /// the diagonal is of no meaning afterwards.
    ///
    /// # Panics
    ///
    /// As [`multiply_add`](Self::multiply_add).
    pub fn multiply_add_upper(&self, left: LeftRows<'_>, sums: Sums<'_>) {
        self.update(left, sums, Update::AddUpper);
    }

    pub(crate) fn update(&self, left: LeftRows<'_>, sums: Sums<'_>, update: Update) {
        if self.columns == 0 || left.count == 0 {
            return;
        }
        if self.depth == 0 {
            if update == Update::Set {
                let rows = sums.values.chunks_mut(sums.stride).take(left.count);
                rows.for_each(|row| row[sums.offset..][..self.columns].fill(0.0));
            }
            return;
        }
        let chunk = rows_of_a_piece(left.count);
        let (stride, offset) = (sums.stride, sums.offset);
        sums.values
            .par_chunks_mut(chunk * stride)
            .take(left.count.div_ceil(chunk))
            .enumerate()
            .for_each(|(piece, values)| {
                let first = piece * chunk;
                let left = LeftRows {
                    start: left.start + first * left.stride,
                    count: chunk.min(left.count - first),
                    ..left
                };
                let sums = Sums {
                    values,
                    stride,
                    offset,
                };
                self.update_piece(left, first, sums, update);
            });
    }

    /// Rows from `first` on.
    fn update_piece(&self, left: LeftRows<'_>, first: usize, sums: Sums<'_>, update: Update) {
        let depths = self.depth.div_ceil(TILE_DEPTH);
        let mut product = Vec::new();
        for (tile, packed) in self.tiles.iter().enumerate() {
            let column = tile / depths * TILE_COLUMNS;
            let width = packed.columns();
            let is_upper = matches!(update, Update::AddUpper | Update::SubtractUpper);
            if is_upper && column + width <= first {
                continue;
            }
            let depth = tile % depths * TILE_DEPTH;
            let input = Grid {
                start: left.start + depth,
                ..Grid::rows(left.count, left.stride)
            };
            let multiply = |output: &mut [f32], grid: Grid| {
                gemm(
                    Isa::detect(),
                    &ThreadPool::serial(),
                    left.values,
                    input,
                    RowRuns::contiguous(packed.rows()),
                    packed,
                    Epilogue::NONE,
                    output,
                    grid,
                );
            };
            if update == Update::Set && depth == 0 {
                let grid = Grid {
                    start: sums.offset + column,
                    ..Grid::rows(left.count, sums.stride)
                };
                multiply(sums.values, grid);
                continue;
            }
            product.resize(left.count * width, 0.0);
            multiply(&mut product, Grid::rows(left.count, width));
            let rows = sums.values.chunks_mut(sums.stride);
            for (row, product) in rows.zip(product.chunks_exact(width)) {
                let sums = row[sums.offset + column..][..width].iter_mut();
                let pairs = sums.zip(product);
                if update == Update::SubtractUpper {
                    pairs.for_each(|(sum, product)| *sum -= product);
                } else {
                    pairs.for_each(|(sum, product)| *sum += product);
                }
            }
        }
    }
}

/// Rows that one thread multiplies at once, out of so many: multiples of the
/// kernels' tiles, enough of them to read a tile of the right-hand matrix
/// rarely, few enough for several threads.
fn rows_of_a_piece(rows: usize) -> usize {
    match rows {
        768.. => 96,
        192.. => 48,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of sums of 600 products of values below 1.
    const MAX_SUM_ERROR: f32 = 1e-3;

    fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0)
            .collect()
    }

    fn reference(left: &[f32], right: &[f32], depth: usize, columns: usize) -> Vec<f32> {
        left.chunks_exact(depth)
            .flat_map(|row| {
                (0..columns).map(move |column| {
                    let terms = row.iter().enumerate();
                    terms
                        .map(|(k, value)| value * right[k * columns + column])
                        .sum()
                })
            })
            .collect()
    }

    #[test]
    fn tiles_of_every_shape_give_the_reference_product() {
        for (rows, depth, columns) in [(1, 1, 1), (25, 300, 257), (200, 257, 31), (50, 600, 520)] {
            let (left, right) = (noise(rows * depth, 1), noise(depth * columns, 2));
            let expected = reference(&left, &right, depth, columns);
            let packed = PackedTiles::pack(depth, columns, |r, c| right[r * columns + c]);
            let mut found = packed.multiply(LeftRows::contiguous(&left, depth));
            let near = |found: &[f32], times: f32| {
                let pairs = found.iter().zip(&expected);
                assert!(
                    pairs
                        .clone()
                        .all(|(a, b)| (a - times * b).abs() < MAX_SUM_ERROR),
                    "{rows}x{depth}x{columns}"
                );
            };
            near(&found, 1.0);
            let sums = Sums {
                values: &mut found,
                stride: columns,
                offset: 0,
            };
            packed.multiply_add(LeftRows::contiguous(&left, depth), sums);
            near(&found, 2.0);
        }
    }

    #[test]
    fn the_upper_triangle_is_that_of_the_whole_product() {
        let (n, depth) = (300, 40);
        let left = noise(n * depth, 3);
        let packed = PackedTiles::pack(depth, n, |k, i| left[i * depth + k]);
        let rows = LeftRows::contiguous(&left, depth);
        let whole = packed.multiply(rows);
        let mut upper = vec![0.0; n * n];
        let sums = Sums {
            values: &mut upper,
            stride: n,
            offset: 0,
        };
        packed.multiply_add_upper(rows, sums);
        for i in 0..n {
            assert_eq!(upper[i * n + i..][..n - i], whole[i * n + i..][..n - i]);
        }
        assert_eq!(upper[290 * n], 0.0, "what lies far left is left out");
    }
}
