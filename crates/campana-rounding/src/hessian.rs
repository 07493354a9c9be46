//! The layer Hessian: the Gram matrix of the inputs of a row of weights.

use rayon::prelude::*;

use crate::product::PackedTiles;

/// Share of the mean diagonal that is added to the diagonal: moments come from
/// finitely many inputs, and those of inputs that never vary are zero.
const DAMPING: f64 = 0.01;

/// Rows and columns of a block that is mirrored at once.
const MIRROR_BLOCK: usize = 64;

/// `E[x x^T]` of the inputs of one row of weights, or their covariance.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerHessian {
    inputs: usize,
    values: Vec<f32>,
    damping: f64,
}

impl LayerHessian {
    /// Moments of `inputs` inputs, shape `[inputs, inputs]`, row-major and
    /// symmetric; only the upper triangle is read. A hundredth of the mean
    /// diagonal is added to the diagonal.
    ///
    /// # Panics
    ///
    /// Where `values` has not that shape.
    pub fn new(inputs: usize, values: Vec<f64>) -> Self {
        let values = values.into_iter().map(|value| value as f32).collect();
        Self::from_upper(inputs, values)
    }

    /// The same from single precision, without another square in memory.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn from_upper(inputs: usize, mut values: Vec<f32>) -> Self {
        assert_eq!(values.len(), inputs * inputs, "a square of moments");
        let mut hessian = Self {
            inputs,
            damping: 0.0,
            values: Vec::new(),
        };
        for block in (0..inputs).step_by(MIRROR_BLOCK) {
            // In blocks, so that columns are written while they are cached.
            for column in (0..=block).step_by(MIRROR_BLOCK) {
                for i in block..(block + MIRROR_BLOCK).min(inputs) {
                    for j in column..(column + MIRROR_BLOCK).min(i) {
                        values[i * inputs + j] = values[j * inputs + i];
                    }
                }
            }
        }
        hessian.values = values;
        hessian.damping = hessian.share_of_diagonal(DAMPING);
        if !(hessian.damping as f32).is_normal() {
            // No input ever varied: all errors weigh the same.
            hessian.damping = 1.0;
        }
        for input in 0..inputs {
            hessian.values[input * (inputs + 1)] += hessian.damping as f32;
        }
        hessian
    }

    /// This share of the mean diagonal.
    pub(crate) fn share_of_diagonal(&self, share: f64) -> f64 {
        let trace: f64 = (0..self.inputs).map(|i| f64::from(self.variance(i))).sum();
        share * trace / self.inputs.max(1) as f64
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The same with this share of the mean diagonal added to the diagonal.
    #[must_use]
    pub fn damped(&self, share: f64) -> Self {
        let damping = self.share_of_diagonal(share);
        let mut damped = self.clone();
        for input in 0..self.inputs {
            damped.values[input * (self.inputs + 1)] += damping as f32;
        }
        damped.damping += damping;
        damped
    }

    /// The same with this share, 0 to 1, of the moments of inputs in different
    /// blocks of `block` inputs.
    ///
    /// # Panics
    ///
    /// Where blocks are empty.
    #[must_use]
    pub fn with_share_between(mut self, block: usize, share: f64) -> Self {
        let inputs = self.inputs.max(1);
        let rows = self.values.par_chunks_exact_mut(inputs);
        rows.enumerate().for_each(|(i, row)| {
            let start = i / block * block;
            let end = (start + block).min(inputs);
            let (before, rest) = row.split_at_mut(start);
            let after = &mut rest[end - start..];
            for value in before.iter_mut().chain(after) {
                *value *= share as f32;
            }
        });
        self
    }

    /// What was added to the diagonal.
    pub fn damping(&self) -> f64 {
        self.damping
    }

    /// The moments of one input with all others.
    ///
    /// # Panics
    ///
    /// Where there is no such input.
    pub fn row(&self, input: usize) -> &[f32] {
        &self.values[input * self.inputs..][..self.inputs]
    }

    /// The moment of one input with itself; positive.
    pub fn variance(&self, input: usize) -> f32 {
        self.values[input * self.inputs + input]
    }

    /// `e H e^T`: the mean squared change of an output by errors of the
    /// weights.
    ///
    /// # Panics
    ///
    /// Where there is not one error for each input.
    pub fn quadratic(&self, errors: &[f32]) -> f64 {
        assert_eq!(errors.len(), self.inputs, "one error an input");
        let mut sum = 0.0;
        for (input, &error) in errors.iter().enumerate() {
            if error != 0.0 {
                sum += f64::from(error) * f64::from(crate::vector::dot(self.row(input), errors));
            }
        }
        sum.max(0.0)
    }

    /// The moments packed for products of many rows with them.
    pub fn packed(&self) -> PackedTiles {
        let n = self.inputs;
        PackedTiles::pack(n, n, |row, column| self.values[row * n + column])
    }

    /// `H w^T`.
    pub(crate) fn times(&self, weights: &[f32]) -> Vec<f32> {
        let mut product = vec![0.0; self.inputs];
        for (input, &weight) in weights.iter().enumerate() {
            if weight != 0.0 {
                crate::vector::add_scaled(&mut product, self.row(input), weight);
            }
        }
        product
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_leaves_what_lies_within_blocks() {
        let values = (0..16).map(|i| if i % 5 == 0 { 4.0 } else { 1.0 });
        let hessian = LayerHessian::new(4, values.collect());
        let own = hessian.variance(0);
        let half = hessian.with_share_between(2, 0.5);
        assert_eq!(half.row(0), [own, 1.0, 0.5, 0.5]);
        assert_eq!(half.row(3), [0.5, 0.5, 1.0, own]);
    }
}
