//! Levels and scales that suit codes best.

use rayon::prelude::*;

use crate::hessian::LayerHessian;
use crate::vector::add;

/// Weight of staying where a level is, as a share of the mean diagonal: keeps
/// the system solvable where two levels cannot be told apart by their error.
const RIDGE: f64 = 1e-4;

/// Columns and rows of the tile of moments that several rows of codes read
/// while it is cached, and these rows.
const MOMENT_COLUMNS: usize = 256;
const MOMENT_ROWS: usize = 128;
const ROWS_AT_ONCE: usize = 8;

/// A row of weights with its codes. It is decoded as `table[c] * scale +
/// shift` with a shift of its own.
#[derive(Clone, Copy, Debug)]
pub struct CodedRow<'a> {
    /// A code for each weight.
    pub codes: &'a [u8],
    /// `(q - w) H`; see [`RoundedRows`](crate::RoundedRows).
    pub gradient: &'a [f32],
    /// The factor on the table.
    pub scale: f32,
}

/// The linear system for the levels of a table of least output error, with the
/// codes of one or more rows given.
///
/// The error of a row is a quadratic form of the table's entries; the system
/// sums the forms of all rows added.
#[derive(Clone, Debug)]
pub struct LevelSystem {
    levels: usize,
    matrix: Vec<f64>,
    right: Vec<f64>,
}

impl LevelSystem {
    /// A system for this many levels, with no rows yet.
    pub fn new(levels: usize) -> Self {
        Self {
            levels,
            matrix: vec![0.0; levels * levels],
            right: vec![0.0; levels],
        }
    }

    /// Adds rows of weights that see the same inputs and decode with one table
    /// of these levels, as they are before the fit.
    ///
    /// # Panics
    ///
    /// Where the levels are not as many as the system's, codes or gradients not
    /// as many as the moment's inputs, or a code has no level.
    pub fn add_rows(&mut self, hessian: &LayerHessian, rows: &[CodedRow<'_>], levels: &[f64]) {
        let k = self.levels;
        assert_eq!(levels.len(), k, "as many levels as the system");
        let sums: Vec<Vec<f64>> = rows
            .par_chunks(ROWS_AT_ONCE)
            .map(|rows| self.pair_sums(hessian, rows))
            .collect();
        for sums in sums {
            for (value, sum) in self.matrix.iter_mut().zip(&sums) {
                *value += sum;
            }
            // What the present levels give, less what their error asks for.
            for (level, row) in sums.chunks_exact(k.max(1)).enumerate() {
                let terms = row.iter().zip(levels);
                self.right[level] += terms.map(|(sum, level)| sum * level).sum::<f64>();
            }
        }
        for row in rows {
            let scale = f64::from(row.scale);
            for (&code, &gradient) in row.codes.iter().zip(row.gradient) {
                self.right[usize::from(code)] -= scale * f64::from(gradient);
            }
        }
    }

    /// For each pair of levels the sum of the moments of their inputs, over a
    /// few rows: tiles of the moments are read once for all of these.
    fn pair_sums(&self, hessian: &LayerHessian, rows: &[CodedRow<'_>]) -> Vec<f64> {
        let (k, n) = (self.levels, hessian.inputs());
        let mut matrix = vec![0f64; k * k];
        let mut sums = vec![0f32; rows.len() * k * MOMENT_COLUMNS];
        for column in (0..n).step_by(MOMENT_COLUMNS) {
            let width = MOMENT_COLUMNS.min(n - column);
            sums.fill(0.0);
            for input in (0..n).step_by(MOMENT_ROWS) {
                for (row, sums) in rows.iter().zip(sums.chunks_exact_mut(k * MOMENT_COLUMNS)) {
                    let inputs = input..(input + MOMENT_ROWS).min(n);
                    let codes = &row.codes[inputs.clone()];
                    for (input, &code) in inputs.zip(codes) {
                        let sums = &mut sums[usize::from(code) * MOMENT_COLUMNS..][..width];
                        add(sums, &hessian.row(input)[column..][..width]);
                    }
                }
            }
            for (row, sums) in rows.iter().zip(sums.chunks_exact(k * MOMENT_COLUMNS)) {
                let weight = f64::from(row.scale) * f64::from(row.scale);
                for (level, sums) in sums.chunks_exact(MOMENT_COLUMNS).enumerate() {
                    for (&code, &sum) in row.codes[column..][..width].iter().zip(sums) {
                        matrix[usize::from(code) * k + level] += weight * f64::from(sum);
                    }
                }
            }
        }
        matrix
    }

    /// Adds all rows of another system.
    ///
    /// # Panics
    ///
    /// Where the numbers of levels differ.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.levels, other.levels, "equal numbers of levels");
        let pairs = self.matrix.iter_mut().zip(&other.matrix);
        for (sum, value) in pairs.chain(self.right.iter_mut().zip(&other.right)) {
            *sum += value;
        }
    }

    /// The levels of least error; those without a code, and all where the
    /// system cannot be solved, stay as they are in `levels`.
    ///
    /// # Panics
    ///
    /// Where `levels` are not as many as the system's.
    pub fn solve(&self, levels: &[f64]) -> Vec<f64> {
        self.solve_but(levels, None)
    }

    /// The same with the level at `zero`, which is 0, left as it is.
    ///
    /// # Panics
    ///
    /// As [`solve`](Self::solve), and where that level is not 0.
    pub fn solve_around_zero(&self, levels: &[f64], zero: usize) -> Vec<f64> {
        assert_eq!(levels[zero], 0.0, "a level of zero");
        self.solve_but(levels, Some(zero))
    }

    fn solve_but(&self, levels: &[f64], kept: Option<usize>) -> Vec<f64> {
        assert_eq!(levels.len(), self.levels, "as many levels as the system");
        let used: Vec<usize> = (0..self.levels)
            .filter(|&level| self.matrix[level * (self.levels + 1)] > 0.0)
            .filter(|&level| Some(level) != kept)
            .collect();
        let m = used.len();
        let trace: f64 = used
            .iter()
            .map(|&level| self.matrix[level * (self.levels + 1)])
            .sum();
        let ridge = RIDGE * trace / m.max(1) as f64;
        let mut matrix: Vec<f64> = used
            .iter()
            .flat_map(|&a| used.iter().map(move |&b| self.matrix[a * self.levels + b]))
            .collect();
        let mut right: Vec<f64> = used
            .iter()
            .map(|&level| self.right[level] + ridge * levels[level])
            .collect();
        (0..m).for_each(|i| matrix[i * m + i] += ridge);
        let mut solved = levels.to_vec();
        if solve_symmetric(&mut matrix, &mut right) {
            for (&level, value) in used.iter().zip(right) {
                solved[level] = value;
            }
        }
        solved
    }
}

/// Solves a positive definite system in place by elimination; `false` where it
/// is not positive definite.
fn solve_symmetric(matrix: &mut [f64], right: &mut [f64]) -> bool {
    let n = right.len();
    for i in 0..n {
        let pivot = matrix[i * n + i];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        for j in i + 1..n {
            let factor = matrix[j * n + i] / pivot;
            if factor != 0.0 {
                for k in i..n {
                    matrix[j * n + k] -= factor * matrix[i * n + k];
                }
                right[j] -= factor * right[i];
            }
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| matrix[i * n + k] * right[k]).sum();
        right[i] = (right[i] - known) / matrix[i * n + i];
    }
    right.iter().all(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_LEVEL_ERROR: f64 = 1e-3;

    fn correlated() -> LayerHessian {
        LayerHessian::new(
            4,
            vec![
                2.0, 0.5, 0.1, 0.3, 0.5, 1.0, 0.2, 0.1, 0.1, 0.2, 3.0, 0.4, 0.3, 0.1, 0.4, 1.5,
            ],
        )
    }

    fn coded<'a>(codes: &'a [u8], gradient: &'a [f32], scale: f32) -> CodedRow<'a> {
        CodedRow {
            codes,
            gradient,
            scale,
        }
    }

    #[test]
    fn weights_that_have_levels_get_them_back() {
        let codes = [0, 1, 2, 1];
        let exact = [-0.5, 0.25, 1.0];
        let levels = [-0.4, 0.1, 1.1, 7.0];
        let errors: Vec<f32> = codes
            .iter()
            .map(|&code| ((levels[usize::from(code)] - exact[usize::from(code)]) * 2.0) as f32)
            .collect();
        let hessian = correlated();
        let gradient = hessian.times(&errors);
        let mut system = LevelSystem::new(4);
        system.add_rows(&hessian, &[coded(&codes, &gradient, 2.0)], &levels);
        let solved = system.solve(&levels);
        for (found, expected) in solved.iter().zip(exact.iter().chain(&[7.0])) {
            assert!((found - expected).abs() < MAX_LEVEL_ERROR, "{solved:?}");
        }
    }

    #[test]
    fn a_level_of_zero_stays() {
        let weights = [-1.1, 0.2, 0.9, 0.1];
        let errors: Vec<f32> = [-1.0f32, 0.0, 1.0, 0.0]
            .iter()
            .zip(weights)
            .map(|(q, w)| q - w)
            .collect();
        let hessian = correlated();
        let gradient = hessian.times(&errors);
        let mut system = LevelSystem::new(3);
        let levels = [-1.0, 0.0, 1.0];
        system.add_rows(&hessian, &[coded(&[0, 1, 2, 1], &gradient, 1.0)], &levels);
        let solved = system.solve_around_zero(&levels, 1);
        assert_eq!(solved[1], 0.0);
        assert!(solved[0] < -1.0 && solved[2] < 1.0, "{solved:?}");
    }

    #[test]
    fn tiles_of_moments_sum_up_as_all_pairs_do() {
        let n: usize = 300;
        let values = (0..n * n).map(|at| 0.9f64.powi((at / n).abs_diff(at % n) as i32));
        let hessian = LayerHessian::new(n, values.collect());
        let codes: Vec<u8> = (0..n * 20).map(|i| (i * 7 % 5) as u8).collect();
        let gradient = vec![0.0; n * 20];
        let rows: Vec<CodedRow<'_>> = codes
            .chunks(n)
            .zip(gradient.chunks(n))
            .map(|(codes, gradient)| coded(codes, gradient, 0.5))
            .collect();
        let mut system = LevelSystem::new(5);
        system.add_rows(&hessian, &rows, &[0.0; 5]);
        let mut expected = vec![0f64; 25];
        for codes in codes.chunks(n) {
            for (i, &a) in codes.iter().enumerate() {
                for (j, &b) in codes.iter().enumerate() {
                    expected[usize::from(a) * 5 + usize::from(b)] +=
                        0.25 * f64::from(hessian.row(i)[j]);
                }
            }
        }
        for (found, expected) in system.matrix.iter().zip(&expected) {
            let error = (found - expected).abs();
            assert!(
                error < MAX_LEVEL_ERROR * expected.abs(),
                "{found}, not {expected}"
            );
        }
    }
}
