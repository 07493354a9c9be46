//! Rows of weights in vectors of a shared codebook: GPTQ and coordinate descent
//! over vectors instead of single weights.
//!
//! A row is cut into vectors of neighbouring inputs, and each vector becomes the
//! entry of the codebook, times the row's scale, of least error: the inputs of a
//! vector are decided upon together, with all of their covariances (a closest
//! vector problem of a few dimensions, solved by trying all entries), and what
//! it leaves is fed back to the vectors after it as in GPTQ.
//!
//! # References
//!
//! van Baalen, Kuzmin, Nagel et al., "GPTVQ: The Blessing of Dimensionality for
//! LLM Quantization", arXiv 2402.15319.

use campana_codebook::VectorCodebook;
use rayon::prelude::*;

use crate::gptq::GptqSolver;
use crate::hessian::LayerHessian;
use crate::product::{LeftRows, PackedTiles};
use crate::rows::{BLOCK, DiagonalBlock};
use crate::vector::{add_scaled, dot};

/// Relative gain of a vector's error that another entry must have to be taken.
const MIN_GAIN: f32 = 1e-5;

/// Rows whose vectors are the entries of one codebook times a scale of each row.
#[derive(Clone, Debug)]
pub struct VectorRows {
    /// The entry of each vector, row by row.
    pub numbers: Vec<u8>,
    /// What the entries decode to.
    pub decoded: Vec<f32>,
    /// `(q - w) H`, half the gradient of each row's error.
    pub gradient: Vec<f32>,
    /// `q - w`.
    errors: Vec<f32>,
    row_len: usize,
}

impl VectorRows {
    /// Rows of these entries, with the gradient by the packed Hessian of their
    /// inputs.
    ///
    /// # Panics
    ///
    /// Where there is not one entry for each vector of the weights.
    pub fn new(
        weights: &[f32],
        scales: &[f32],
        codebook: &VectorCodebook,
        numbers: Vec<u8>,
        hessian: &PackedTiles,
    ) -> Self {
        let dimension = codebook.dimension();
        assert_eq!(
            weights.len(),
            numbers.len() * dimension,
            "one entry a vector"
        );
        let row_len = weights.len() / scales.len().max(1);
        let decoded = decode(codebook, scales, &numbers);
        let errors: Vec<f32> = decoded.iter().zip(weights).map(|(q, w)| q - w).collect();
        let gradient = hessian.multiply(LeftRows::contiguous(&errors, row_len));
        Self {
            numbers,
            decoded,
            gradient,
            errors,
            row_len,
        }
    }

    /// Mean squared change of each row's output.
    pub fn row_errors(&self) -> Vec<f64> {
        let len = self.row_len.max(1);
        let rows = self.errors.chunks(len).zip(self.gradient.chunks(len));
        rows.map(|(errors, gradient)| f64::from(dot(errors, gradient)).max(0.0))
            .collect()
    }
}

/// The entries times the scale of their row.
pub(crate) fn decode(codebook: &VectorCodebook, scales: &[f32], numbers: &[u8]) -> Vec<f32> {
    let dimension = codebook.dimension();
    let in_row = numbers.len() / scales.len().max(1);
    let mut decoded = vec![0.0; numbers.len() * dimension];
    decoded
        .par_chunks_mut((in_row * dimension).max(1))
        .zip(numbers.par_chunks(in_row.max(1)))
        .zip(scales)
        .for_each(|((decoded, numbers), scale)| {
            for (values, &number) in decoded.chunks_exact_mut(dimension).zip(numbers) {
                for (i, value) in values.iter_mut().enumerate() {
                    *value = codebook.value(number, i) * scale;
                }
            }
        });
    decoded
}

impl GptqSolver {
    /// A solver whose inputs are rounded in blocks of neighbours, those of the
    /// largest variance first.
    ///
    /// # Panics
    ///
    /// Where the inputs are not whole blocks.
    pub fn in_blocks(hessian: LayerHessian, block: usize) -> Self {
        let n = hessian.inputs();
        assert!(block > 0 && n.is_multiple_of(block), "whole blocks");
        let variance = |start: usize| -> f32 {
            let inputs = start..start + block;
            inputs.map(|input| hessian.variance(input)).sum()
        };
        let mut starts: Vec<usize> = (0..n).step_by(block).collect();
        starts.sort_by(|&a, &b| variance(a).total_cmp(&variance(b)));
        let order = starts.iter().flat_map(|&start| start..start + block);
        Self::in_order(hessian, order.collect(), 0.0)
    }

    /// Entries of the vectors of rows of weights, one after another: each makes
    /// up for the errors of those of its row before it. The solver is one
    /// [in blocks](Self::in_blocks) of the codebook's dimension.
    ///
    /// # Panics
    ///
    /// Where weights are not as many as the inputs of all rows, or numbers not
    /// as many as their vectors.
    pub fn round_vectors(
        &self,
        weights: &[f32],
        scales: &[f32],
        codebook: &VectorCodebook,
        numbers: &mut [u8],
    ) {
        let (n, dimension) = (self.order.len(), codebook.dimension());
        assert_eq!(weights.len(), n * scales.len(), "one weight an input");
        assert_eq!(
            weights.len(),
            numbers.len() * dimension,
            "one entry a vector"
        );
        if weights.is_empty() {
            return;
        }
        let mut errors = vec![0f32; weights.len()];
        for start in (0..n).step_by(BLOCK).rev() {
            let end = (start + BLOCK).min(n);
            let feedback = self.later_times_factor(&errors, start, end);
            let block = VectorBlock::new(self, start..end, codebook);
            errors
                .par_chunks_mut(n)
                .zip(numbers.par_chunks_mut(n / dimension))
                .zip(weights.par_chunks(n))
                .zip(feedback.par_chunks(end - start))
                .zip(scales)
                .for_each(|((((errors, numbers), weights), feedback), &scale)| {
                    let errors = &mut errors[start..end];
                    block.round(weights, scale, feedback.to_vec(), numbers, errors);
                });
        }
    }

    /// Changes entries one by one to those that lower each row's error most,
    /// until a sweep over the row changes none or `sweeps` are done. The error
    /// never grows, but by rounding.
    ///
    /// # Panics
    ///
    /// Where the rows are not as many as the scales.
    pub fn descend_vectors(
        &self,
        scales: &[f32],
        codebook: &VectorCodebook,
        rows: &mut VectorRows,
        sweeps: usize,
    ) {
        let (n, dimension) = (self.order.len(), codebook.dimension());
        assert_eq!(rows.decoded.len(), n * scales.len(), "one scale a row");
        let starts: Vec<usize> = self.order.iter().copied().step_by(dimension).collect();
        let forms: Vec<(Vec<f32>, Vec<f32>)> = starts
            .par_iter()
            .map(|&start| {
                let rows = start..start + dimension;
                let matrix: Vec<f32> = rows
                    .flat_map(|row| self.hessian.row(row)[start..start + dimension].to_vec())
                    .collect();
                let energies = codebook.energies(&matrix);
                (matrix, energies)
            })
            .collect();
        rows.numbers
            .par_chunks_mut((n / dimension).max(1))
            .zip(rows.decoded.par_chunks_mut(n.max(1)))
            .zip(rows.errors.par_chunks_mut(n.max(1)))
            .zip(rows.gradient.par_chunks_mut(n.max(1)))
            .zip(scales)
            .filter(|(_, scale)| **scale > 0.0)
            .for_each(|((((numbers, decoded), errors), gradient), &scale)| {
                for _ in 0..sweeps {
                    let mut changed = false;
                    for (&start, (matrix, energies)) in starts.iter().zip(&forms).rev() {
                        let number = &mut numbers[start / dimension];
                        let place = start..start + dimension;
                        let own = &decoded[place.clone()];
                        let mut linear = [0f32; MAX_DIMENSION];
                        for (i, (term, row)) in linear
                            .iter_mut()
                            .zip(matrix.chunks_exact(dimension))
                            .enumerate()
                        {
                            let times: f32 = row.iter().zip(own).map(|(a, q)| a * q).sum();
                            *term = 2.0 * (gradient[start + i] - times) / scale;
                        }
                        let linear = &linear[..dimension];
                        let (found, sum) = codebook.least(energies, linear);
                        let terms = linear.iter().enumerate();
                        let now = energies[usize::from(*number)]
                            + terms
                                .map(|(i, term)| term * codebook.value(*number, i))
                                .sum::<f32>();
                        if found == *number || sum >= now - MIN_GAIN * now.abs() {
                            continue;
                        }
                        *number = found;
                        changed = true;
                        for (i, input) in place.enumerate() {
                            let value = codebook.value(found, i) * scale;
                            let change = value - decoded[input];
                            decoded[input] = value;
                            errors[input] += change;
                            add_scaled(gradient, self.hessian.row(input), change);
                        }
                    }
                    if !changed {
                        break;
                    }
                }
            });
    }
}

/// Most components that an entry has.
const MAX_DIMENSION: usize = 8;

/// Vectors of a block of inputs whose errors reach later inputs at once.
struct VectorBlock<'a> {
    diagonal: DiagonalBlock<'a>,
    codebook: &'a VectorCodebook,
    /// Of each vector its part of the factor `R`, `R^T R`, and what that makes
    /// of the entries.
    parts: Vec<Part>,
}

struct Part {
    factor: Vec<f32>,
    matrix: Vec<f32>,
    energies: Vec<f32>,
}

impl<'a> VectorBlock<'a> {
    fn new(
        solver: &'a GptqSolver,
        positions: std::ops::Range<usize>,
        codebook: &'a VectorCodebook,
    ) -> Self {
        let (d, size) = (codebook.dimension(), positions.len());
        let diagonal = DiagonalBlock::new(solver, positions.start, positions.end);
        let parts = (0..size / d)
            .into_par_iter()
            .map(|vector| {
                let at = |row: usize, column: usize| {
                    diagonal.columns[(vector * d + column) * size + vector * d + row]
                };
                let pairs = || (0..d).flat_map(|i| (0..d).map(move |j| (i, j)));
                let factor: Vec<f32> = pairs()
                    .map(|(row, column)| if row <= column { at(row, column) } else { 0.0 })
                    .collect();
                let product = |(i, j): (usize, usize)| -> f32 {
                    (0..d)
                        .map(|row| factor[row * d + i] * factor[row * d + j])
                        .sum()
                };
                let matrix: Vec<f32> = pairs().map(product).collect();
                let energies = codebook.energies(&matrix);
                Part {
                    factor,
                    matrix,
                    energies,
                }
            })
            .collect();
        Self {
            diagonal,
            codebook,
            parts,
        }
    }

    /// Rounds one row's vectors of these inputs. `feedback` is what the errors
    /// of inputs before owe to each of these, `errors` takes `w - q`.
    fn round(
        &self,
        weights: &[f32],
        scale: f32,
        mut feedback: Vec<f32>,
        numbers: &mut [u8],
        errors: &mut [f32],
    ) {
        let (d, size) = (self.codebook.dimension(), feedback.len());
        for (vector, part) in self.parts.iter().enumerate().rev() {
            let first = vector * d;
            let start = self.diagonal.inputs[first];
            let own = &weights[start..start + d];
            let mut found = 0;
            if scale > 0.0 {
                let mut linear = [0f32; MAX_DIMENSION];
                for (i, term) in linear[..d].iter_mut().enumerate() {
                    let wanted: f32 = (0..d).map(|j| part.matrix[i * d + j] * own[j]).sum();
                    let owed: f32 = (0..d)
                        .map(|j| part.factor[j * d + i] * feedback[first + j])
                        .sum();
                    *term = -2.0 * (wanted + owed) / scale;
                }
                (found, _) = self.codebook.least(&part.energies, &linear[..d]);
            }
            numbers[start / d] = found;
            for (i, weight) in own.iter().enumerate() {
                let error = weight - self.codebook.value(found, i) * scale;
                errors[first + i] = error;
                let column = &self.diagonal.columns[(first + i) * size..][..first];
                add_scaled(&mut feedback[..first], column, error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gptq::tests::moments;
    use proptest::prelude::*;

    fn total(rows: &VectorRows) -> f64 {
        rows.row_errors().iter().sum()
    }

    #[test]
    fn one_vector_is_the_best_of_all_entries() {
        let hessian = moments(2, &[1.0, 0.9, 0.5, 0.6, -0.3, 0.2]);
        let table: Vec<f32> = (0..16)
            .flat_map(|i| [(i % 4) as f32, (i / 4) as f32])
            .collect();
        let codebook = VectorCodebook::new(&table, 2);
        let solver = GptqSolver::in_blocks(hessian.clone(), 2);
        let weights = [1.4f32, 2.6];
        let mut numbers = [0];
        solver.round_vectors(&weights, &[0.5], &codebook, &mut numbers);
        let error = |number: usize| {
            let entry = [0, 1].map(|i| table[number * 2 + i] * 0.5 - weights[i]);
            hessian.quadratic(&entry)
        };
        let best = (0..16).min_by(|&a, &b| error(a).total_cmp(&error(b)));
        assert_eq!(Some(usize::from(numbers[0])), best);
    }

    #[test]
    fn a_row_of_no_scale_is_zero() {
        let solver = GptqSolver::in_blocks(LayerHessian::new(2, vec![1.0, 0.0, 0.0, 1.0]), 2);
        let codebook = VectorCodebook::new(&[1.0, 2.0], 2);
        let mut numbers = [7];
        solver.round_vectors(&[0.3, 0.4], &[0.0], &codebook, &mut numbers);
        assert_eq!(decode(&codebook, &[0.0], &numbers), [0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn descent_never_raises_the_error_and_keeps_the_gradient(
            samples in prop::collection::vec(-1.0f64..1.0, 8 * 12),
            weights in prop::collection::vec(-1.0f32..1.0, 3 * 8),
            table in prop::collection::vec(-2.0f32..2.0, 4 * 32),
        ) {
            let hessian = moments(8, &samples);
            let (packed, codebook) = (hessian.packed(), VectorCodebook::new(&table, 4));
            let solver = GptqSolver::in_blocks(hessian, 4);
            let scales = [0.4, 0.7, 1.1];
            let mut numbers = vec![0; 6];
            solver.round_vectors(&weights, &scales, &codebook, &mut numbers);
            let start = VectorRows::new(&weights, &scales, &codebook, numbers, &packed);
            let mut rows = start.clone();
            solver.descend_vectors(&scales, &codebook, &mut rows, 9);
            prop_assert!(total(&rows) <= total(&start) * (1.0 + 1e-4) + 1e-5);
            let numbers = rows.numbers.clone();
            let again = VectorRows::new(&weights, &scales, &codebook, numbers, &packed);
            for (kept, computed) in rows.gradient.iter().zip(&again.gradient) {
                prop_assert!((kept - computed).abs() < 1e-3, "{} {}", kept, computed);
            }
        }
    }
}
