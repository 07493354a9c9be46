//! Rounding that makes up for its own errors.

use campana_codebook::Codebook;

use crate::factor::upper_factor;
use crate::moment::SecondMoment;
use crate::vector::{add_scaled, dot};

/// Second moments prepared for rounding the rows of weights that see these
/// inputs.
///
/// # References
///
/// Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training
/// Quantization for Generative Pre-trained Transformers", ICLR 2023,
/// arXiv 2210.17323. That its procedure is Babai's nearest plane algorithm, as
/// it is written here, with the triangular factor of the moments rather than
/// of their inverse: Babai, "On Lovász' lattice reduction and the nearest
/// lattice point problem", Combinatorica 6, 1986, doi 10.1007/BF02579403.
#[derive(Clone, Debug)]
pub struct Compensation {
    pub(crate) moment: SecondMoment,
    /// Input at each position; rounding goes from the last position to the
    /// first.
    pub(crate) order: Vec<usize>,
    /// Upper triangular, in that order.
    pub(crate) factor: Vec<f32>,
}

impl Compensation {
    /// Prepares second moments: inputs of the largest variance will be rounded
    /// first, when all others can still make up for them.
    pub fn new(moment: &SecondMoment) -> Self {
        let mut order: Vec<usize> = (0..moment.inputs()).collect();
        order.sort_by(|&a, &b| moment.variance(a).total_cmp(&moment.variance(b)));
        Self {
            factor: upper_factor(moment, &order),
            order,
            moment: moment.clone(),
        }
    }

    /// The moments.
    pub fn moment(&self) -> &SecondMoment {
        &self.moment
    }

    /// Codes of one row of weights. The row falls into as many equal blocks as
    /// there are codebooks, each with its own.
    ///
    /// # Panics
    ///
    /// Where weights or codes are not as many as the inputs, or the inputs not
    /// a multiple of the codebooks.
    pub fn round(&self, weights: &[f32], codebooks: &[&Codebook], codes: &mut [u8]) {
        let n = self.check(weights, codebooks, codes);
        let mut errors = vec![0.0; n];
        for position in (0..n).rev() {
            let input = self.order[position];
            let row = &self.factor[position * n..][..n];
            let owed = dot(&row[position + 1..], &errors[position + 1..]) / row[position];
            let codebook = codebooks[input * codebooks.len() / n];
            let code = nearest(codebook, weights[input] + owed);
            codes[input] = code;
            errors[position] = weights[input] - codebook.levels()[usize::from(code)];
        }
    }

    /// Changes codes one by one to those that lower the error most, until a
    /// sweep over the row changes none or `sweeps` are done. The error never
    /// grows.
    ///
    /// # Panics
    ///
    /// As [`round`](Self::round), and where a code has no level.
    pub fn descend(
        &self,
        weights: &[f32],
        codebooks: &[&Codebook],
        codes: &mut [u8],
        sweeps: usize,
    ) {
        let n = self.check(weights, codebooks, codes);
        let codebook_of = |input: usize| codebooks[input * codebooks.len() / n];
        let mut decoded = decode(codebooks, codes);
        let errors: Vec<f32> = decoded.iter().zip(weights).map(|(q, w)| q - w).collect();
        let mut slope = self.moment.times(&errors);
        for _ in 0..sweeps {
            let mut changed = false;
            for input in (0..n).rev().map(|position| self.order[position]) {
                let codebook = codebook_of(input);
                let code = nearest(
                    codebook,
                    decoded[input] - slope[input] / self.moment.variance(input),
                );
                let level = codebook.levels()[usize::from(code)];
                if level != decoded[input] {
                    add_scaled(&mut slope, self.moment.row(input), level - decoded[input]);
                    decoded[input] = level;
                    codes[input] = code;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }

    /// The weights `t` with `t H = b`: on inputs of these moments they come
    /// nearest to outputs whose moments with the inputs are `b`.
    ///
    /// # Panics
    ///
    /// Where there is not one value for each input.
    pub fn solve(&self, b: &[f32]) -> Vec<f32> {
        let n = self.moment.inputs();
        assert_eq!(b.len(), n, "one value an input");
        let mut values: Vec<f32> = self.order.iter().map(|&input| b[input]).collect();
        // R^T y = b, then R t = y.
        for i in 0..n {
            let row = &self.factor[i * n..][..n];
            values[i] /= row[i];
            let value = values[i];
            add_scaled(&mut values[i + 1..], &row[i + 1..], -value);
        }
        for i in (0..n).rev() {
            let row = &self.factor[i * n..][..n];
            values[i] = (values[i] - dot(&row[i + 1..], &values[i + 1..])) / row[i];
        }
        let mut solved = vec![0.0; n];
        for (&input, value) in self.order.iter().zip(values) {
            solved[input] = value;
        }
        solved
    }

    /// Mean squared change of the output by these codes.
    ///
    /// # Panics
    ///
    /// As [`descend`](Self::descend).
    pub fn error(&self, weights: &[f32], codebooks: &[&Codebook], codes: &[u8]) -> f64 {
        self.check(weights, codebooks, codes);
        let decoded = decode(codebooks, codes);
        let errors: Vec<f32> = decoded.iter().zip(weights).map(|(q, w)| q - w).collect();
        self.moment.quadratic(&errors)
    }

    pub(crate) fn check(&self, weights: &[f32], codebooks: &[&Codebook], codes: &[u8]) -> usize {
        let n = self.moment.inputs();
        assert_eq!(weights.len(), n, "one weight an input");
        assert_eq!(codes.len(), n, "one code an input");
        assert!(
            !codebooks.is_empty() && n.is_multiple_of(codebooks.len()),
            "equal blocks of inputs"
        );
        n
    }
}

fn decode(codebooks: &[&Codebook], codes: &[u8]) -> Vec<f32> {
    codes
        .iter()
        .enumerate()
        .map(|(i, &code)| codebooks[i * codebooks.len() / codes.len()].levels()[usize::from(code)])
        .collect()
}

fn nearest(codebook: &Codebook, value: f32) -> u8 {
    codebook
        .thresholds()
        .partition_point(|&threshold| threshold < value) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Moments of a few correlated inputs, made from random samples.
    fn moments(inputs: usize, samples: &[f64]) -> SecondMoment {
        let mut values = vec![0.0; inputs * inputs];
        for sample in samples.chunks_exact(inputs) {
            for i in 0..inputs {
                for j in 0..inputs {
                    values[i * inputs + j] += sample[i] * sample[j];
                }
            }
        }
        SecondMoment::new(inputs, values)
    }

    /// The least error over all codes.
    fn reference_best(moment: &SecondMoment, weights: &[f32], codebook: &Codebook) -> f64 {
        let levels = codebook.levels();
        let combinations = levels.len().pow(weights.len() as u32);
        (0..combinations)
            .map(|mut number| {
                let errors: Vec<f32> = weights
                    .iter()
                    .map(|weight| {
                        let level = levels[number % levels.len()];
                        number /= levels.len();
                        level - weight
                    })
                    .collect();
                moment.quadratic(&errors)
            })
            .fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #[test]
        fn descent_never_raises_the_error_and_nothing_beats_the_best(
            samples in proptest::collection::vec(-1.0f64..1.0, 5 * 7),
            weights in proptest::collection::vec(-1.0f32..1.0, 5),
        ) {
            let moment = moments(5, &samples);
            let compensation = Compensation::new(&moment);
            let codebook = Codebook::new(vec![-0.9, -0.1, 0.6]).unwrap();
            let mut codes = [0; 5];
            compensation.round(&weights, &[&codebook], &mut codes);
            let rounded = compensation.error(&weights, &[&codebook], &codes);
            compensation.descend(&weights, &[&codebook], &mut codes, 10);
            let descended = compensation.error(&weights, &[&codebook], &codes);
            let best = reference_best(&moment, &weights, &codebook);
            let slack = 1e-4 * (1.0 + rounded);
            prop_assert!(descended <= rounded + slack);
            prop_assert!(best <= descended + slack);
        }

        #[test]
        fn independent_inputs_get_their_nearest_levels(
            weights in proptest::collection::vec(-1.0f32..1.0, 6),
        ) {
            let mut values = vec![0.0; 36];
            (0..6).for_each(|i| values[i * 7] = (i + 1) as f64);
            let compensation = Compensation::new(&SecondMoment::new(6, values));
            let low = Codebook::new(vec![-0.5, 0.5]).unwrap();
            let high = Codebook::new(vec![-0.2, 0.0, 0.7]).unwrap();
            let mut codes = [0; 6];
            compensation.round(&weights, &[&low, &high], &mut codes);
            let mut expected = [0; 6];
            low.assign(&weights[..3], &mut expected[..3]);
            high.assign(&weights[3..], &mut expected[3..]);
            prop_assert_eq!(codes, expected);
            compensation.descend(&weights, &[&low, &high], &mut codes, 3);
            prop_assert_eq!(codes, expected);
        }
    }

    #[test]
    fn solving_undoes_the_moments() {
        let samples: Vec<f64> = (0..6 * 20)
            .map(|i| f64::from(i * 37 % 101) / 101.0)
            .collect();
        let moment = moments(6, &samples);
        let weights = [0.5, -1.0, 0.25, 2.0, 0.0, 1.0];
        let solved = Compensation::new(&moment).solve(&moment.times(&weights));
        for (found, expected) in solved.iter().zip(weights) {
            assert!((found - expected).abs() < 1e-3, "{solved:?}");
        }
    }

    #[test]
    fn compensation_beats_nearest_levels_on_correlated_inputs() {
        let n = 24;
        let samples: Vec<f64> = (0..n * 64)
            .map(|i| {
                let (sample, input) = (i / n, i % n);
                ((sample * 31 % 17) as f64 - 8.0) + ((sample * 13 + input * 7) % 11) as f64 * 0.2
            })
            .collect();
        let moment = moments(n, &samples);
        let compensation = Compensation::new(&moment);
        // All nearest levels are too low.
        let weights: Vec<f32> = (0..n).map(|i| 0.35 + 0.01 * i as f32).collect();
        let codebook = Codebook::new(vec![-0.9, -0.3, 0.3, 0.9]).unwrap();
        let mut nearest = vec![0; n];
        codebook.assign(&weights, &mut nearest);
        let mut codes = vec![0; n];
        compensation.round(&weights, &[&codebook], &mut codes);
        let error = |codes: &[u8]| compensation.error(&weights, &[&codebook], codes);
        assert!(error(&codes) < 0.5 * error(&nearest));
    }
}
