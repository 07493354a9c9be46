//! Rounding that weighs errors against the bits of the codes.

use campana_codebook::Codebook;

use crate::GptqSolver;
use crate::vector::{add_scaled, dot};

/// How far from the nearest code towards the cheapest one is looked.
const REACH: usize = 3;

/// What codes cost: a code is worth choosing where its error is less by more
/// than its additional bits times the slope.
#[derive(Clone, Copy, Debug)]
pub struct Rate<'a> {
    /// Bits of each code under the entropy coder.
    pub bits: &'a [f32],
    /// Squared output error that one bit is worth.
    pub slope: f32,
    /// The cheapest code; that of zero.
    pub zero: u8,
}

impl Rate<'_> {
    /// The code of least cost for a value whose squared error counts `weight`
    /// times.
    fn best(&self, codebook: &Codebook, value: f32, weight: f32) -> u8 {
        let levels = codebook.levels();
        let nearest = codebook
            .thresholds()
            .partition_point(|&threshold| threshold < value);
        let cost = |code: usize| {
            let error = levels[code] - value;
            error * error * weight + self.slope * self.bits[code]
        };
        let zero = usize::from(self.zero);
        let mut best = (cost(zero), zero);
        for distance in 0..=REACH {
            let code = if nearest >= zero {
                nearest.saturating_sub(distance).max(zero)
            } else {
                (nearest + distance).min(zero)
            };
            if code == zero {
                break;
            }
            let cost = cost(code);
            if cost < best.0 {
                best = (cost, code);
            }
        }
        best.1 as u8
    }
}

impl GptqSolver {
    /// As [`round`](Self::round) with one codebook, for the least sum of error
    /// and cost.
    ///
    /// # Panics
    ///
    /// Where weights or codes are not as many as the inputs, or the bits not
    /// as many as the levels.
    pub fn round_at_rate(
        &self,
        weights: &[f32],
        codebook: &Codebook,
        rate: &Rate<'_>,
        codes: &mut [u8],
    ) {
        let n = self.check(weights, &[codebook], codes);
        let mut errors = vec![0.0; n];
        for position in (0..n).rev() {
            let input = self.order[position];
            let row = &self.factor[position * n..][..n];
            let feedback = dot(&row[position + 1..], &errors[position + 1..]) / row[position];
            let weight = row[position] * row[position];
            let code = rate.best(codebook, weights[input] + feedback, weight);
            codes[input] = code;
            errors[position] = weights[input] - codebook.levels()[usize::from(code)];
        }
    }

    /// As the descent with one codebook, for the least sum of
    /// error and cost.
    ///
    /// # Panics
    ///
    /// As [`round_at_rate`](Self::round_at_rate), and where a code has no
    /// level.
    pub fn descend_at_rate(
        &self,
        weights: &[f32],
        codebook: &Codebook,
        rate: &Rate<'_>,
        codes: &mut [u8],
        sweeps: usize,
    ) {
        let n = self.check(weights, &[codebook], codes);
        let levels = codebook.levels();
        let errors: Vec<f32> = codes
            .iter()
            .zip(weights)
            .map(|(&code, weight)| levels[usize::from(code)] - weight)
            .collect();
        let mut slope = self.hessian.times(&errors);
        for _ in 0..sweeps {
            let mut changed = false;
            for input in (0..n).rev().map(|position| self.order[position]) {
                let variance = self.hessian.variance(input);
                let level = levels[usize::from(codes[input])];
                let code = rate.best(codebook, level - slope[input] / variance, variance);
                if code != codes[input] {
                    let change = levels[usize::from(code)] - level;
                    add_scaled(&mut slope, self.hessian.row(input), change);
                    codes[input] = code;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }

    /// The geometric mean of the inputs' variances that those rounded later do
    /// not explain: what the squared error of a weight costs once all others
    /// have made up for it.
    pub fn unexplained_variance(&self) -> f64 {
        let n = self.hessian.inputs();
        let logs: f64 = (0..n)
            .map(|i| f64::from(self.factor[i * (n + 1)]).ln())
            .sum();
        (2.0 * logs / n.max(1) as f64).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LayerHessian;

    fn correlated(n: usize) -> GptqSolver {
        let values = (0..n * n)
            .map(|i| 0.7f64.powi((i / n).abs_diff(i % n) as i32))
            .collect();
        GptqSolver::new(LayerHessian::new(n, values))
    }

    #[test]
    fn bits_for_nothing_are_the_nearest_plane() {
        let solver = correlated(20);
        let weights: Vec<f32> = (0..20).map(|i| (i as f32 * 1.7).sin() * 2.0).collect();
        let codebook = Codebook::new((-3..=3).map(|k| k as f32).collect()).unwrap();
        let rate = Rate {
            bits: &[5.0, 4.0, 3.0, 1.0, 3.0, 4.0, 5.0],
            slope: 0.0,
            zero: 3,
        };
        let (mut codes, mut expected) = ([0; 20], [0; 20]);
        solver.round_at_rate(&weights, &codebook, &rate, &mut codes);
        solver.round(&weights, &[&codebook], &mut expected);
        assert_eq!(codes, expected);
    }

    #[test]
    fn the_sum_of_error_and_cost_falls_with_each_step() {
        let solver = correlated(30);
        let weights: Vec<f32> = (0..30).map(|i| (i as f32 * 2.3).sin() * 1.5).collect();
        let codebook = Codebook::new((-3..=3).map(|k| k as f32).collect()).unwrap();
        let bits = [5.0, 4.0, 3.0, 1.0, 3.0, 4.0, 5.0];
        let rate = Rate {
            bits: &bits,
            slope: 0.1,
            zero: 3,
        };
        let total = |codes: &[u8]| {
            let bits: f32 = codes.iter().map(|&code| bits[usize::from(code)]).sum();
            solver.error(&weights, &[&codebook], codes) + f64::from(0.1 * bits)
        };
        let (mut plain, mut codes) = ([0; 30], [0; 30]);
        solver.round(&weights, &[&codebook], &mut plain);
        solver.round_at_rate(&weights, &codebook, &rate, &mut codes);
        let rounded = total(&codes);
        assert!(rounded < total(&plain));
        solver.descend_at_rate(&weights, &codebook, &rate, &mut codes, 5);
        assert!(total(&codes) <= rounded + 1e-4);
    }

    #[test]
    fn a_high_price_makes_all_codes_zero() {
        let rate = Rate {
            bits: &[9.0, 0.1, 9.0],
            slope: 1e3,
            zero: 1,
        };
        let codebook = Codebook::new(vec![-1.0, 0.0, 1.0]).unwrap();
        let mut codes = [0; 8];
        correlated(8).round_at_rate(&[0.9; 8], &codebook, &rate, &mut codes);
        assert_eq!(codes, [1; 8]);
    }
}
