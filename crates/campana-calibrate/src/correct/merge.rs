//! Fewer and shorter parameters for what the correction changed anyway.
//!
//! A batch normalization has four parameters a channel and computes a scale and
//! a bias of them. Where mean and variance have been corrected, they go into
//! scale and bias, which leaves a mean of 0 and a variance of 1:
//!
//! ```text
//! scale' = scale sqrt((1 + e) / (variance + e))
//! bias'  = bias - mean scale / sqrt(variance + e)
//! ```
//!
//! What was corrected is then rounded to 16 bits where that moves nothing by
//! more than a float16's precision. On a ResNet-20 at 2 bits the parameters of
//! normalizations are a tenth of the file before, and a fortieth after.

use campana_codebook::Storage;
use campana_ir::graph::Node;

/// ONNX's default for `epsilon`.
const DEFAULT_EPSILON: f32 = 1e-5;

/// Relative precision of float16.
const MAX_ERROR: f32 = 1.0 / 2048.0;

/// Values below this share of a tensor's largest count as if they had it: they
/// belong to channels that hardly differ from constants.
const SMALLEST_VALUE: f32 = 1.0 / 128.0;

/// The parameters of a normalization, one value a channel each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Normalization {
    /// Factor on the normalized value.
    pub(crate) scale: Vec<f32>,
    /// Term after the factor.
    pub(crate) bias: Vec<f32>,
    /// What is taken off first.
    pub(crate) mean: Vec<f32>,
    /// Square of what is divided by, but for epsilon.
    pub(crate) variance: Vec<f32>,
}

impl Normalization {
    /// The same function with a mean of 0 and a variance of 1; `None` where a
    /// parameter would not be finite, or their lengths differ.
    pub(crate) fn merged(&self, epsilon: f32) -> Option<Self> {
        let channels = self.scale.len();
        let epsilon = f64::from(epsilon);
        let mut merged = Self {
            scale: Vec::with_capacity(channels),
            bias: Vec::with_capacity(channels),
            mean: vec![0.0; channels],
            variance: vec![1.0; channels],
        };
        if [&self.bias, &self.mean, &self.variance].map(Vec::len) != [channels; 3] {
            return None;
        }
        for channel in 0..channels {
            let of = |values: &[f32]| f64::from(values[channel]);
            let factor = of(&self.scale) / (of(&self.variance) + epsilon).sqrt();
            let scale = (factor * (1.0 + epsilon).sqrt()) as f32;
            let bias = (of(&self.bias) - of(&self.mean) * factor) as f32;
            if !scale.is_finite() || !bias.is_finite() {
                return None;
            }
            merged.scale.push(scale);
            merged.bias.push(bias);
        }
        Some(merged)
    }
}

/// The `epsilon` of a normalization.
pub fn epsilon(node: &Node) -> f32 {
    node.float("epsilon", DEFAULT_EPSILON)
}

/// Rounds all values to float16, unless that would change one by more than
/// float16's precision.
pub(crate) fn round_to_halves(values: &mut [f32]) {
    let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
    let fits = |value: &f32| {
        let error = (Storage::F16.round(*value) - value).abs();
        error <= MAX_ERROR * value.abs().max(SMALLEST_VALUE * largest)
    };
    if values.iter().all(fits) {
        for value in values {
            *value = Storage::F16.round(*value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a merged normalization's output, relative to its largest term: a few
    /// roundings to float32.
    const MAX_MERGED_ERROR: f32 = 1e-6;

    fn normalize(by: &Normalization, epsilon: f32, channel: usize, x: f32) -> f32 {
        let std = (by.variance[channel] + epsilon).sqrt();
        (x - by.mean[channel]) / std * by.scale[channel] + by.bias[channel]
    }

    #[test]
    fn a_merged_normalization_computes_the_same() {
        let epsilon = 1e-3;
        let given = Normalization {
            scale: vec![1.5, -0.25, 0.0],
            bias: vec![0.5, 3.0, -1.0],
            mean: vec![-2.0, 0.125, 7.0],
            variance: vec![4.0, 1e-6, 0.0],
        };
        let merged = given.merged(epsilon).unwrap();
        assert_eq!(merged.mean, [0.0; 3]);
        assert_eq!(merged.variance, [1.0; 3]);
        for channel in 0..3 {
            for x in [-3.0, 0.0, 0.1, 5.0] {
                let expected = normalize(&given, epsilon, channel, x);
                let found = normalize(&merged, epsilon, channel, x);
                let size = 1.0 + x.abs() * merged.scale[channel].abs() + expected.abs();
                assert!(
                    (found - expected).abs() <= MAX_MERGED_ERROR * size,
                    "channel {channel}, {x}: {found}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn what_would_not_be_finite_is_not_merged() {
        let given = Normalization {
            scale: vec![1.0],
            bias: vec![0.0],
            mean: vec![0.0],
            variance: vec![0.0],
        };
        assert_eq!(given.merged(0.0), None);
    }

    #[test]
    fn rounding_is_for_values_that_keep_their_precision() {
        let mut values = [1.0 / 3.0, 1e-6, -2.0];
        round_to_halves(&mut values);
        assert_eq!(values[0], half::f16::from_f32(1.0 / 3.0).to_f32());
        assert_eq!(values[2], -2.0);
        let mut too_large = [1.0 / 3.0, 1e6];
        round_to_halves(&mut too_large);
        assert_eq!(too_large, [1.0 / 3.0, 1e6]);
    }
}
