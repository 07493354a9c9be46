//! Sums of squared errors that round alike whatever adds them.

use crate::vectorize::vectorized;

/// Sums of squared errors that run side by side: so many on every machine, to
/// round alike.
pub(super) const ERROR_LANES: usize = 16;

/// The squared errors of the weights at each position of whole groups.
#[derive(Default)]
pub(super) struct Errors(pub(super) [f64; ERROR_LANES]);

impl Errors {
    /// The sum of all, with those of these weights.
    pub(super) fn total(mut self, levels: &[f32], weights: &[f32], codes: &[u8]) -> f64 {
        // 256 entries, so that no code is out of range and no check is needed.
        let mut table = [f32::NAN; 256];
        table[..levels.len()].copy_from_slice(levels);
        let error = |weight: f32, code: u8| {
            let difference = f64::from(weight) - f64::from(table[usize::from(code)]);
            difference * difference
        };
        let (weight_groups, weight_rest) = weights.as_chunks::<ERROR_LANES>();
        let (code_groups, code_rest) = codes.as_chunks::<ERROR_LANES>();
        let sums = &mut self.0;
        vectorized(
            #[inline(always)]
            || {
                for (weights, codes) in weight_groups.iter().zip(code_groups) {
                    for lane in 0..ERROR_LANES {
                        sums[lane] += error(weights[lane], codes[lane]);
                    }
                }
            },
        );
        let rest = weight_rest.iter().zip(code_rest);
        let rest: f64 = rest.map(|(&weight, &code)| error(weight, code)).sum();
        self.0.iter().sum::<f64>() + rest
    }
}
