//! Many rows of weights that see the same inputs, rounded together: what rows
//! rounded before owe to those after them is a matrix product, block by block.

use campana_codebook::{Codebook, vectorized};
use rayon::prelude::*;

use crate::gptq::GptqSolver;
use crate::hessian::LayerHessian;
use crate::product::{LeftRows, PackedTiles};
use crate::vector::{add_scaled, dot};

/// Positions that are rounded before their errors reach all later ones.
pub(crate) const BLOCK: usize = 128;

/// Rows of the factor that are multiplied with at once.
const ENERGY_ROWS: usize = 256;

/// Rows that are rounded side by side.
const LANES: usize = 32;

/// Weights of a row that are looked at together for one that can be bettered.
const SCANNED: usize = 16;

/// Rows with codes, what they decode to, and how their error falls.
#[derive(Clone, Debug)]
pub struct RoundedRows {
    /// A code for each weight, row by row.
    pub codes: Vec<u8>,
    /// What the codes decode to.
    pub decoded: Vec<f32>,
    /// `(q - w) H`, half the gradient of each row's error.
    pub gradient: Vec<f32>,
    /// `q - w`.
    errors: Vec<f32>,
    row_len: usize,
}

impl RoundedRows {
    /// Rows with these codes; the gradient is not yet set.
    ///
    /// # Panics
    ///
    /// Where codes are not as many as weights, rows are not of equal length,
    /// or a code has no level.
    pub fn new(weights: &[f32], codebooks: &[Vec<&Codebook>], codes: Vec<u8>) -> Self {
        assert_eq!(weights.len(), codes.len(), "one code a weight");
        let row_len = weights.len() / codebooks.len().max(1);
        let mut decoded = vec![0.0; codes.len()];
        decoded
            .par_chunks_mut(row_len.max(1))
            .zip(codes.par_chunks(row_len.max(1)))
            .zip(codebooks)
            .for_each(|((decoded, codes), codebooks)| {
                let run = row_len / codebooks.len().max(1);
                let runs = decoded.chunks_mut(run.max(1)).zip(codes.chunks(run.max(1)));
                for ((decoded, codes), codebook) in runs.zip(codebooks) {
                    let levels = codebook.levels();
                    for (value, &code) in decoded.iter_mut().zip(codes) {
                        *value = levels[usize::from(code)];
                    }
                }
            });
        let errors = decoded.iter().zip(weights).map(|(q, w)| q - w).collect();
        Self {
            codes,
            decoded,
            errors,
            gradient: Vec::new(),
            row_len,
        }
    }

    /// Computes the gradient by the packed moments of the inputs.
    pub fn set_gradient(&mut self, moments: &PackedTiles) {
        self.gradient = moments.multiply(LeftRows::contiguous(&self.errors, self.row_len));
    }

    /// The same, for few rows, by the moments as they are.
    pub fn set_gradient_by_rows(&mut self, hessian: &LayerHessian) {
        let rows = self.errors.chunks(self.row_len.max(1));
        self.gradient = rows.flat_map(|errors| hessian.times(errors)).collect();
    }

    /// Mean squared change of each row's output; the gradient is set.
    pub fn row_errors(&self) -> Vec<f64> {
        let len = self.row_len.max(1);
        let rows = self.errors.chunks(len).zip(self.gradient.chunks(len));
        rows.map(|(errors, gradient)| f64::from(dot(errors, gradient)).max(0.0))
            .collect()
    }
}

impl GptqSolver {
    /// Codes of rows of weights, one after another: each weight makes up for
    /// the errors of those of its row before it. A row falls into as many
    /// equal blocks as it has codebooks.
    ///
    /// # Panics
    ///
    /// Where weights or codes are not as many as the inputs of all rows, or the
    /// inputs not a multiple of the codebooks.
    pub fn round_rows(&self, weights: &[f32], codebooks: &[Vec<&Codebook>], codes: &mut [u8]) {
        let n = self.order.len();
        assert_eq!(weights.len(), n * codebooks.len(), "one weight an input");
        assert_eq!(weights.len(), codes.len(), "one code a weight");
        if weights.is_empty() {
            return;
        }
        let mut tables: Vec<LaneTables> = codebooks.chunks(LANES).map(LaneTables::new).collect();
        let mut errors = vec![0f32; weights.len()];
        for start in (0..n).step_by(BLOCK).rev() {
            let end = (start + BLOCK).min(n);
            let size = end - start;
            let feedback = self.later_times_factor(&errors, start, end);
            let block = DiagonalBlock::new(self, start, end);
            errors
                .par_chunks_mut(LANES * n)
                .zip(codes.par_chunks_mut(LANES * n))
                .zip(weights.par_chunks(LANES * n))
                .zip(feedback.par_chunks(LANES * size))
                .zip(&mut tables)
                .for_each(|((((errors, codes), weights), feedback), tables)| {
                    let mut lanes = Lanes::gather(weights, feedback, &block, n);
                    lanes.round(&block, tables);
                    lanes.scatter(errors, codes, &block, n);
                });
        }
    }

    /// The rows `t` with `t (H + damping) = b` for each row `b`: on inputs of
    /// these moments they come nearest to outputs whose moments with the inputs
    /// are `b`.
    ///
    /// # Panics
    ///
    /// Where the values are not whole rows.
    pub fn solve_rows(&self, b: &[f32]) -> Vec<f32> {
        let n = self.order.len();
        assert!(n > 0 && b.len().is_multiple_of(n), "one value an input");
        let count = b.len() / n;
        let mut values = vec![0f32; b.len()];
        let rows = values.par_chunks_exact_mut(n).zip(b.par_chunks_exact(n));
        rows.for_each(|(values, b)| {
            for (value, &input) in values.iter_mut().zip(&self.order) {
                *value = b[input];
            }
        });
        // u R = b, then t R^T = u.
        for start in (0..n).step_by(BLOCK) {
            let end = (start + BLOCK).min(n);
            let packed = PackedTiles::pack(start, end - start, |row, column| {
                self.factor[row * n + start + column]
            });
            let rows = LeftRows {
                values: &values,
                start: 0,
                stride: n,
                count,
            };
            let known = packed.multiply(rows);
            let rows = values.par_chunks_exact_mut(n);
            rows.zip(known.par_chunks_exact(end - start))
                .for_each(|(values, known)| self.forward(&mut values[start..end], known, start));
        }
        for start in (0..n).step_by(BLOCK).rev() {
            let end = (start + BLOCK).min(n);
            let known = self.later_times_factor(&values, start, end);
            let rows = values.par_chunks_exact_mut(n);
            rows.zip(known.par_chunks_exact(end - start))
                .for_each(|(values, known)| self.backward(&mut values[start..end], known, start));
        }
        let mut solved = vec![0f32; b.len()];
        let rows = solved
            .par_chunks_exact_mut(n)
            .zip(values.par_chunks_exact(n));
        rows.for_each(|(solved, values)| {
            for (&input, &value) in self.order.iter().zip(values) {
                solved[input] = value;
            }
        });
        solved
    }

    /// `w (H + damping) w^T` of each row `w`, by the factor.
    ///
    /// # Panics
    ///
    /// Where the values are not whole rows.
    pub fn energies(&self, rows: &[f32]) -> Vec<f64> {
        let n = self.order.len().max(1);
        let mut permuted = vec![0f32; rows.len()];
        let pairs = permuted.par_chunks_mut(n).zip(rows.par_chunks(n));
        pairs.for_each(|(permuted, row)| {
            for (value, &input) in permuted.iter_mut().zip(&self.order) {
                *value = row[input];
            }
        });
        let mut energies = vec![0f64; rows.len() / n];
        for start in (0..self.order.len()).step_by(ENERGY_ROWS) {
            // The factor is zero left of its diagonal.
            let end = (start + ENERGY_ROWS).min(n);
            let packed = PackedTiles::pack(n - start, end - start, |row, column| {
                self.factor[(start + column) * n + start + row]
            });
            let products = packed.multiply(LeftRows {
                values: &permuted,
                start,
                stride: n,
                count: energies.len(),
            });
            let parts = products.chunks_exact(end - start);
            for (energy, part) in energies.iter_mut().zip(parts) {
                *energy += f64::from(dot(part, part));
            }
        }
        energies
    }

    /// The values of positions from `end` on times the factor's rows
    /// `start..end`, shape `[rows, end - start]`.
    pub(crate) fn later_times_factor(&self, values: &[f32], start: usize, end: usize) -> Vec<f32> {
        let n = self.order.len();
        let packed = PackedTiles::pack(n - end, end - start, |row, column| {
            self.factor[(start + column) * n + end + row]
        });
        packed.multiply(LeftRows {
            values,
            start: end,
            stride: n,
            count: values.len() / n,
        })
    }

    fn forward(&self, values: &mut [f32], known: &[f32], start: usize) {
        let n = self.order.len();
        for (value, known) in values.iter_mut().zip(known) {
            *value -= known;
        }
        for i in 0..values.len() {
            let row = &self.factor[(start + i) * n + start..];
            let (done, rest) = values.split_at_mut(i + 1);
            done[i] /= row[i];
            add_scaled(rest, &row[i + 1..], -done[i]);
        }
    }

    fn backward(&self, values: &mut [f32], known: &[f32], start: usize) {
        let n = self.order.len();
        for i in (0..values.len()).rev() {
            let row = &self.factor[(start + i) * n + start..];
            let later = dot(&row[i + 1..values.len()], &values[i + 1..]);
            values[i] = (values[i] - known[i] - later) / row[i];
        }
    }

    /// Changes codes one by one to those that lower each row's error most,
    /// until a sweep over the row changes none or `sweeps` are done. The error
    /// never grows; the gradient is set before, and kept up.
    ///
    /// # Panics
    ///
    /// Where the rows are not as many as the codebooks, or a code has no level.
    pub fn descend_rows(
        &self,
        codebooks: &[Vec<&Codebook>],
        rows: &mut RoundedRows,
        sweeps: usize,
    ) {
        let n = self.order.len();
        assert_eq!(rows.codes.len(), n * codebooks.len(), "one code a weight");
        assert_eq!(rows.gradient.len(), rows.codes.len(), "a gradient");
        let len = n.max(1);
        rows.codes
            .par_chunks_mut(len)
            .zip(rows.decoded.par_chunks_mut(len))
            .zip(rows.errors.par_chunks_mut(len))
            .zip(rows.gradient.par_chunks_mut(len))
            .zip(codebooks)
            .for_each(|((((codes, decoded), errors), gradient), codebooks)| {
                let mut row = Row {
                    codes,
                    decoded,
                    errors,
                    gradient,
                };
                for _ in 0..sweeps {
                    if !self.sweep(codebooks, &mut row) {
                        break;
                    }
                }
            });
    }

    /// One sweep over a row; whether a code changed.
    fn sweep(&self, codebooks: &[&Codebook], row: &mut Row<'_>) -> bool {
        let n = self.order.len();
        let mut changed = false;
        let mut end = n;
        while end > 0 {
            let start = end.saturating_sub(SCANNED);
            let found = match codebooks {
                [codebook] => self.scan(codebook, row, start..end),
                _ => self.look_up(codebooks, row, start..end),
            };
            let Some((position, code)) = found else {
                end = start;
                continue;
            };
            let input = self.order[position];
            let codebook = codebooks[input * codebooks.len() / n];
            let level = codebook.levels()[usize::from(code)];
            let change = level - row.decoded[input];
            add_scaled(row.gradient, self.hessian.row(input), change);
            row.decoded[input] = level;
            row.errors[input] += change;
            row.codes[input] = code;
            changed = true;
            end = position;
        }
        changed
    }

    /// The last of these positions whose code another one betters, and that.
    fn scan(
        &self,
        codebook: &Codebook,
        row: &Row<'_>,
        positions: std::ops::Range<usize>,
    ) -> Option<(usize, u8)> {
        let inputs = &self.order[positions.clone()];
        let mut values = [0f32; SCANNED];
        let inverses = &self.inverse_variances[positions.clone()];
        for ((value, &input), inverse) in values.iter_mut().zip(inputs).zip(inverses) {
            *value = row.decoded[input] - row.gradient[input] * inverse;
        }
        let mut counts = [0f32; SCANNED];
        let thresholds = codebook.thresholds();
        vectorized(
            #[inline(always)]
            || {
                for &threshold in thresholds {
                    for lane in 0..SCANNED {
                        counts[lane] += if values[lane] > threshold { 1.0 } else { 0.0 };
                    }
                }
            },
        );
        let levels = codebook.levels();
        let found = inputs.iter().zip(counts).rposition(|(&input, count)| {
            row.codes[input] != count as u8 && levels[count as usize] != row.decoded[input]
        })?;
        Some((positions.start + found, counts[found] as u8))
    }

    /// The same with several codebooks a row.
    fn look_up(
        &self,
        codebooks: &[&Codebook],
        row: &Row<'_>,
        positions: std::ops::Range<usize>,
    ) -> Option<(usize, u8)> {
        positions.rev().find_map(|position| {
            let input = self.order[position];
            let codebook = codebooks[input * codebooks.len() / self.order.len()];
            let value = row.decoded[input] - row.gradient[input] * self.inverse_variances[position];
            let code = codebook.thresholds().partition_point(|&t| t < value);
            let is_better = codebook.levels()[code] != row.decoded[input];
            is_better.then_some((position, code as u8))
        })
    }
}

/// One of [`RoundedRows`].
struct Row<'a> {
    codes: &'a mut [u8],
    decoded: &'a mut [f32],
    errors: &'a mut [f32],
    gradient: &'a mut [f32],
}

/// Codebooks of a few rows side by side.
struct LaneTables {
    /// Codebooks of a row.
    groups: usize,
    /// Thresholds of a codebook; infinite ones fill up shorter ones.
    thresholds_len: usize,
    /// Group by group, threshold by threshold.
    thresholds: Vec<[f32; LANES]>,
    /// The same of levels, one more a group.
    levels: Vec<[f32; LANES]>,
}

impl LaneTables {
    fn new(rows: &[Vec<&Codebook>]) -> Self {
        let groups = rows.first().map_or(0, Vec::len);
        let longest = rows.iter().flatten().map(|book| book.thresholds().len());
        let thresholds_len = longest.max().unwrap_or(0);
        let mut tables = Self {
            groups,
            thresholds_len,
            thresholds: vec![[f32::INFINITY; LANES]; groups * thresholds_len],
            levels: vec![[0.0; LANES]; groups * (thresholds_len + 1)],
        };
        for (lane, row) in rows.iter().enumerate() {
            assert_eq!(row.len(), groups, "as many codebooks in each row");
            for (group, codebook) in row.iter().enumerate() {
                let thresholds = &mut tables.thresholds[group * thresholds_len..];
                for (to, &from) in thresholds.iter_mut().zip(codebook.thresholds()) {
                    to[lane] = from;
                }
                let levels = &mut tables.levels[group * (thresholds_len + 1)..];
                for (to, &from) in levels.iter_mut().zip(codebook.levels()) {
                    to[lane] = from;
                }
            }
        }
        tables
    }
}

/// A block of the factor on its diagonal, and where its positions lie.
pub(crate) struct DiagonalBlock<'a> {
    start: usize,
    pub(crate) inputs: &'a [usize],
    all_inputs: usize,
    /// By columns: of each position the values of those rounded after it.
    pub(crate) columns: Vec<f32>,
    inverse_pivots: Vec<f32>,
}

impl<'a> DiagonalBlock<'a> {
    pub(crate) fn new(solver: &'a GptqSolver, start: usize, end: usize) -> Self {
        let n = solver.order.len();
        let size = end - start;
        let mut columns = vec![0f32; size * size];
        for (column, values) in columns.chunks_exact_mut(size).enumerate() {
            for (row, value) in values[..=column].iter_mut().enumerate() {
                *value = solver.factor[(start + row) * n + start + column];
            }
        }
        Self {
            start,
            inputs: &solver.order[start..end],
            all_inputs: n,
            inverse_pivots: (0..size).map(|i| columns[i * (size + 1)].recip()).collect(),
            columns,
        }
    }
}

/// A block's weights of a few rows side by side, position by position.
struct Lanes {
    /// Before rounding the weights, after it their errors.
    weights: Vec<[f32; LANES]>,
    feedback: Vec<[f32; LANES]>,
    codes: Vec<[u8; LANES]>,
}

impl Lanes {
    fn gather(weights: &[f32], feedback: &[f32], block: &DiagonalBlock<'_>, n: usize) -> Self {
        let size = block.inputs.len();
        let mut lanes = Self {
            weights: vec![[0.0; LANES]; size],
            feedback: vec![[0.0; LANES]; size],
            codes: vec![[0; LANES]; size],
        };
        let rows = weights.chunks_exact(n).zip(feedback.chunks_exact(size));
        for (lane, (weights, feedback)) in rows.enumerate() {
            for (at, &input) in block.inputs.iter().enumerate() {
                lanes.weights[at][lane] = weights[input];
                lanes.feedback[at][lane] = feedback[at];
            }
        }
        lanes
    }

    fn round(&mut self, block: &DiagonalBlock<'_>, tables: &LaneTables) {
        let size = block.inputs.len();
        let (thresholds_len, groups) = (tables.thresholds_len, tables.groups);
        vectorized(
            #[inline(always)]
            || {
                for at in (0..size).rev() {
                    let group = block.inputs[at] * groups / block.all_inputs;
                    let thresholds = &tables.thresholds[group * thresholds_len..][..thresholds_len];
                    let levels = &tables.levels[group * (thresholds_len + 1)..];
                    let inverse = block.inverse_pivots[at];
                    let (mut value, mut count) = ([0f32; LANES], [0f32; LANES]);
                    let feedback = self.weights[at].iter().zip(&self.feedback[at]);
                    for (value, (weight, feedback)) in value.iter_mut().zip(feedback) {
                        *value = weight + feedback * inverse;
                    }
                    let mut level = levels[0];
                    for (threshold, above) in thresholds.iter().zip(&levels[1..]) {
                        for lane in 0..LANES {
                            let beyond = value[lane] > threshold[lane];
                            level[lane] = if beyond { above[lane] } else { level[lane] };
                            count[lane] += if beyond { 1.0 } else { 0.0 };
                        }
                    }
                    let mut error = [0f32; LANES];
                    for lane in 0..LANES {
                        error[lane] = self.weights[at][lane] - level[lane];
                        self.codes[at][lane] = count[lane] as u8;
                    }
                    self.weights[at] = error;
                    let column = &block.columns[at * size..][..at];
                    for (feedback, factor) in self.feedback.iter_mut().zip(column) {
                        for lane in 0..LANES {
                            feedback[lane] += factor * error[lane];
                        }
                    }
                }
            },
        );
    }

    fn scatter(&self, errors: &mut [f32], codes: &mut [u8], block: &DiagonalBlock<'_>, n: usize) {
        let rows = errors.chunks_exact_mut(n).zip(codes.chunks_exact_mut(n));
        for (lane, (errors, codes)) in rows.enumerate() {
            for (at, &input) in block.inputs.iter().enumerate() {
                errors[block.start + at] = self.weights[at][lane];
                codes[input] = self.codes[at][lane];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of solutions of size 1.
    const MAX_SOLUTION_ERROR: f32 = 1e-3;

    /// Share of codes that sums in another order may decide otherwise.
    const MAX_OTHER_CODES: usize = 100;

    fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919 + seed * 104_729 + i * i % 389) % 2003) as f32 / 1001.5 - 1.0)
            .collect()
    }

    fn correlated(n: usize) -> GptqSolver {
        let values = (0..n * n).map(|at| {
            let (i, j) = (at / n, at % n);
            let size = |i: usize| 1.0 + (i * 37 % 11) as f64 / 10.0;
            0.8f64.powi(i.abs_diff(j) as i32) * size(i) * size(j)
        });
        GptqSolver::new(LayerHessian::new(n, values.collect()))
    }

    /// One row, one weight after another.
    fn reference_round(solver: &GptqSolver, weights: &[f32], codebooks: &[&Codebook]) -> Vec<u8> {
        let n = weights.len();
        let (mut errors, mut codes) = (vec![0.0; n], vec![0; n]);
        for position in (0..n).rev() {
            let input = solver.order[position];
            let row = &solver.factor[position * n..][..n];
            let feedback: f32 = (position + 1..n).map(|k| row[k] * errors[k]).sum();
            let value = weights[input] + feedback / row[position];
            let codebook = codebooks[input * codebooks.len() / n];
            let code = codebook.thresholds().partition_point(|&t| t < value);
            errors[position] = weights[input] - codebook.levels()[code];
            codes[input] = code as u8;
        }
        codes
    }

    #[test]
    fn rows_are_rounded_as_one_weight_after_another() {
        let books: Vec<Codebook> = [4, 7, 16]
            .iter()
            .map(|&levels| {
                let step = 2.0 / levels as f32;
                Codebook::new((0..levels).map(|i| i as f32 * step - 0.9).collect()).unwrap()
            })
            .collect();
        for (n, rows, groups) in [(1, 3, 1), (96, 40, 2), (300, 70, 1), (384, 5, 3)] {
            let solver = correlated(n);
            let weights = noise(n * rows, n);
            let codebooks: Vec<Vec<&Codebook>> = (0..rows)
                .map(|row| (0..groups).map(|group| &books[(row + group) % 3]).collect())
                .collect();
            let mut codes = vec![0; n * rows];
            solver.round_rows(&weights, &codebooks, &mut codes);
            let expected: Vec<u8> = weights
                .chunks(n)
                .zip(&codebooks)
                .flat_map(|(weights, books)| reference_round(&solver, weights, books))
                .collect();
            let others = codes.iter().zip(&expected).filter(|(a, b)| a != b).count();
            assert!(others * MAX_OTHER_CODES <= codes.len(), "{n}: {others}");
        }
    }

    #[test]
    fn solving_undoes_the_moments() {
        for n in [6, 300] {
            let solver = correlated(n);
            let expected = noise(n * 5, 1);
            let moments = solver.hessian().packed();
            let product = moments.multiply(LeftRows::contiguous(&expected, n));
            let solved = solver.solve_rows(&product);
            let pairs = solved.iter().zip(&expected);
            assert!(
                pairs
                    .clone()
                    .all(|(a, b)| (a - b).abs() < MAX_SOLUTION_ERROR)
            );
            let energies = solver.energies(&expected);
            for (energy, row) in energies.iter().zip(expected.chunks(n)) {
                let exact = solver.hessian().quadratic(row);
                assert!((energy / exact - 1.0).abs() < 1e-4, "{energy}, not {exact}");
            }
        }
    }

    #[test]
    fn descent_keeps_the_gradient_and_lowers_every_row() {
        let (n, rows) = (150, 20);
        let solver = correlated(n);
        let weights = noise(n * rows, 7);
        let codebook = Codebook::new(vec![-0.8, -0.2, 0.3, 0.9]).unwrap();
        let codebooks = vec![vec![&codebook]; rows];
        let mut codes = vec![0; n * rows];
        codebook.assign(&weights, &mut codes);
        let mut found = RoundedRows::new(&weights, &codebooks, codes);
        let moments = solver.hessian().packed();
        found.set_gradient(&moments);
        let before = found.row_errors();
        solver.descend_rows(&codebooks, &mut found, 10);
        let mut again = RoundedRows::new(&weights, &codebooks, found.codes.clone());
        assert_eq!(again.decoded, found.decoded);
        again.set_gradient(&moments);
        for ((before, kept), exact) in before
            .iter()
            .zip(found.row_errors())
            .zip(again.row_errors())
        {
            assert!(exact < *before);
            assert!((kept - exact).abs() < 1e-3 * before, "{kept}, not {exact}");
        }
    }

    #[test]
    fn several_codebooks_descend_as_one_that_is_repeated() {
        let (n, rows) = (64, 6);
        let solver = correlated(n);
        let weights = noise(n * rows, 3);
        let codebook = Codebook::new(vec![-0.8, -0.2, 0.3, 0.9]).unwrap();
        let mut codes = vec![0; n * rows];
        codebook.assign(&weights, &mut codes);
        let descend = |groups: usize| {
            let codebooks = vec![vec![&codebook; groups]; rows];
            let mut found = RoundedRows::new(&weights, &codebooks, codes.clone());
            found.set_gradient(&solver.hessian().packed());
            solver.descend_rows(&codebooks, &mut found, 4);
            found.codes
        };
        assert_eq!(descend(1), descend(4));
    }
}
