//! GPTQ: rounding with error feedback by the layer Hessian.

use campana_codebook::Codebook;

use crate::factor::upper_factor;
use crate::hessian::LayerHessian;

/// A layer Hessian factored for rounding the rows of weights that see these
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
pub struct GptqSolver {
    pub(crate) hessian: LayerHessian,
    /// Input at each position; rounding goes from the last position to the
    /// first.
    pub(crate) order: Vec<usize>,
    /// Upper triangular, in that order.
    pub(crate) factor: Vec<f32>,
    /// Inverse of each input's variance, in that order.
    pub(crate) inverse_variances: Vec<f32>,
    /// What the factor has on its diagonal beyond the inputs' own moments.
    factor_damping: f64,
}

impl GptqSolver {
    /// Factors a Hessian. Inputs of the largest variance are rounded first, when
    /// all others can still compensate for them (GPTQ's `act_order`).
    pub fn new(hessian: LayerHessian) -> Self {
        Self::with_damped_factor(hessian, 0.0)
    }

    /// The same with damping for rounding and solving alone: this share of the
    /// mean diagonal is added to the diagonal of the factor. Coordinate descent
    /// and errors use the Hessian as it is.
    pub fn with_damped_factor(hessian: LayerHessian, share: f64) -> Self {
        let mut order: Vec<usize> = (0..hessian.inputs()).collect();
        order.sort_by(|&a, &b| hessian.variance(a).total_cmp(&hessian.variance(b)));
        Self::in_order(hessian, order, share)
    }

    /// The same with the inputs rounded from the last of this order to the
    /// first.
    pub(crate) fn in_order(hessian: LayerHessian, order: Vec<usize>, share: f64) -> Self {
        let damping = hessian.share_of_diagonal(share);
        Self {
            factor: upper_factor(&hessian, &order, damping as f32),
            inverse_variances: order
                .iter()
                .map(|&input| hessian.variance(input).recip())
                .collect(),
            factor_damping: hessian.damping() + damping,
            order,
            hessian,
        }
    }

    /// The Hessian, without the factor's damping.
    pub fn hessian(&self) -> &LayerHessian {
        &self.hessian
    }

    /// The moments, by value.
    pub fn into_hessian(self) -> LayerHessian {
        self.hessian
    }

    /// What the factor that rows are solved with has on its diagonal beyond
    /// the inputs' own moments.
    pub fn factor_damping(&self) -> f64 {
        self.factor_damping
    }

    /// Codes of one row of weights; see [`round_rows`](Self::round_rows).
    ///
    /// # Panics
    ///
    /// Where weights or codes are not as many as the inputs, or the inputs not
    /// a multiple of the codebooks.
    pub fn round(&self, weights: &[f32], codebooks: &[&Codebook], codes: &mut [u8]) {
        self.check(weights, codebooks, codes);
        self.round_rows(weights, &[codebooks.to_vec()], codes);
    }

    /// Mean squared change of the output by these codes.
    ///
    /// # Panics
    ///
    /// As [`round`](Self::round), and where a code has no level.
    pub fn error(&self, weights: &[f32], codebooks: &[&Codebook], codes: &[u8]) -> f64 {
        self.check(weights, codebooks, codes);
        let decoded = decode(codebooks, codes);
        let errors: Vec<f32> = decoded.iter().zip(weights).map(|(q, w)| q - w).collect();
        self.hessian.quadratic(&errors)
    }

    pub(crate) fn check(&self, weights: &[f32], codebooks: &[&Codebook], codes: &[u8]) -> usize {
        let n = self.hessian.inputs();
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Moments of a few correlated inputs, made from random samples.
    pub(crate) fn moments(inputs: usize, samples: &[f64]) -> LayerHessian {
        let mut values = vec![0.0; inputs * inputs];
        for sample in samples.chunks_exact(inputs) {
            for i in 0..inputs {
                for j in 0..inputs {
                    values[i * inputs + j] += sample[i] * sample[j];
                }
            }
        }
        LayerHessian::new(inputs, values)
    }

    fn descend(
        solver: &GptqSolver,
        weights: &[f32],
        codebooks: &[&Codebook],
        codes: &mut [u8],
        sweeps: usize,
    ) {
        let codebooks = [codebooks.to_vec()];
        let mut rows = crate::RoundedRows::new(weights, &codebooks, codes.to_vec());
        rows.set_gradient(&solver.hessian().packed());
        solver.descend_rows(&codebooks, &mut rows, sweeps);
        codes.copy_from_slice(&rows.codes);
    }

    /// The least error over all codes.
    fn reference_best(hessian: &LayerHessian, weights: &[f32], codebook: &Codebook) -> f64 {
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
                hessian.quadratic(&errors)
            })
            .fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #[test]
        fn descent_never_raises_the_error_and_nothing_beats_the_best(
            samples in proptest::collection::vec(-1.0f64..1.0, 5 * 7),
            weights in proptest::collection::vec(-1.0f32..1.0, 5),
        ) {
            let hessian = moments(5, &samples);
            let solver = GptqSolver::new(hessian.clone());
            let codebook = Codebook::new(vec![-0.9, -0.1, 0.6]).unwrap();
            let mut codes = [0; 5];
            solver.round(&weights, &[&codebook], &mut codes);
            let rounded = solver.error(&weights, &[&codebook], &codes);
            descend(&solver, &weights, &[&codebook], &mut codes, 10);
            let descended = solver.error(&weights, &[&codebook], &codes);
            let best = reference_best(&hessian, &weights, &codebook);
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
            let solver = GptqSolver::new(LayerHessian::new(6, values));
            let low = Codebook::new(vec![-0.5, 0.5]).unwrap();
            let high = Codebook::new(vec![-0.2, 0.0, 0.7]).unwrap();
            let mut codes = [0; 6];
            solver.round(&weights, &[&low, &high], &mut codes);
            let mut expected = [0; 6];
            low.assign(&weights[..3], &mut expected[..3]);
            high.assign(&weights[3..], &mut expected[3..]);
            prop_assert_eq!(codes, expected);
            descend(&solver, &weights, &[&low, &high], &mut codes, 3);
            prop_assert_eq!(codes, expected);
        }
    }

    #[test]
    fn feedback_beats_nearest_levels_on_correlated_inputs() {
        let n = 24;
        let samples: Vec<f64> = (0..n * 64)
            .map(|i| {
                let (sample, input) = (i / n, i % n);
                ((sample * 31 % 17) as f64 - 8.0) + ((sample * 13 + input * 7) % 11) as f64 * 0.2
            })
            .collect();
        let hessian = moments(n, &samples);
        let solver = GptqSolver::new(hessian);
        // All nearest levels are too low.
        let weights: Vec<f32> = (0..n).map(|i| 0.35 + 0.01 * i as f32).collect();
        let codebook = Codebook::new(vec![-0.9, -0.3, 0.3, 0.9]).unwrap();
        let mut nearest = vec![0; n];
        codebook.assign(&weights, &mut nearest);
        let mut codes = vec![0; n];
        solver.round(&weights, &[&codebook], &mut codes);
        let error = |codes: &[u8]| solver.error(&weights, &[&codebook], codes);
        assert!(error(&codes) < 0.5 * error(&nearest));
    }
}
