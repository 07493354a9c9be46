//! Second moments of a layer's inputs.

/// Share of the mean diagonal that is added to the diagonal: moments come from
/// finitely many inputs, and those of inputs that never vary are zero.
const DAMPING: f64 = 0.01;

/// `E[x x^T]` of the inputs of one row of weights, or their covariance.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondMoment {
    inputs: usize,
    values: Vec<f32>,
    damping: f64,
}

impl SecondMoment {
    /// Moments of `inputs` inputs, shape `[inputs, inputs]`, row-major and
    /// symmetric; only the upper triangle is read. A hundredth of the mean
    /// diagonal is added to the diagonal.
    ///
    /// # Panics
    ///
    /// Where `values` has not that shape.
    pub fn new(inputs: usize, values: Vec<f64>) -> Self {
        assert_eq!(values.len(), inputs * inputs, "a square of moments");
        let trace: f64 = (0..inputs).map(|i| values[i * inputs + i]).sum();
        let mut damping = DAMPING * trace / inputs.max(1) as f64;
        if !(damping > 0.0 && damping.is_finite()) {
            // No input ever varied: all errors weigh the same.
            damping = 1.0;
        }
        let mut damped = vec![0.0; inputs * inputs];
        for i in 0..inputs {
            for j in i..inputs {
                let value = values[i * inputs + j] + if i == j { damping } else { 0.0 };
                damped[i * inputs + j] = value as f32;
                damped[j * inputs + i] = value as f32;
            }
        }
        Self {
            inputs,
            values: damped,
            damping,
        }
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The same with this share of the mean diagonal added to the diagonal.
    #[must_use]
    pub fn damped(&self, share: f64) -> Self {
        let trace: f64 = (0..self.inputs).map(|i| f64::from(self.variance(i))).sum();
        let damping = share * trace / self.inputs.max(1) as f64;
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
    pub fn with_share_between(&self, block: usize, share: f64) -> Self {
        let mut shared = self.clone();
        for (i, row) in shared
            .values
            .chunks_exact_mut(self.inputs.max(1))
            .enumerate()
        {
            let start = i / block * block;
            let end = (start + block).min(self.inputs);
            let (before, rest) = row.split_at_mut(start);
            let after = &mut rest[end - start..];
            for value in before.iter_mut().chain(after) {
                *value *= share as f32;
            }
        }
        shared
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
        let moment = SecondMoment::new(4, values.collect());
        let half = moment.with_share_between(2, 0.5);
        let own = moment.variance(0);
        assert_eq!(half.row(0), [own, 1.0, 0.5, 0.5]);
        assert_eq!(half.row(3), [0.5, 0.5, 1.0, own]);
    }
}
