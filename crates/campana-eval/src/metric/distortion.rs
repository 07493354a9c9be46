//! How far one tensor is from another.

/// A running sum of squared errors and squared values, in `f64`.
///
/// ```
/// use campana_eval::Distortion;
///
/// let distortion = Distortion::between(&[1.0, -1.0], &[1.5, -1.0]);
/// assert_eq!(distortion.mse(), 0.125);
/// assert!((distortion.sqnr_db() - 9.030_899_869_919_436).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Distortion {
    count: u64,
    signal_sum: f64,
    error_sum: f64,
}

impl Distortion {
    /// The distortion of `values` in place of `reference`.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    #[must_use]
    pub fn between(reference: &[f32], values: &[f32]) -> Self {
        assert_eq!(reference.len(), values.len(), "one value for each");
        let mut signal_sum = 0.0;
        let mut error_sum = 0.0;
        for (reference, value) in reference.iter().zip(values) {
            let reference = f64::from(*reference);
            let error = reference - f64::from(*value);
            signal_sum += reference * reference;
            error_sum += error * error;
        }
        Self {
            count: reference.len() as u64,
            signal_sum,
            error_sum,
        }
    }

    /// Adds the distortion of other values.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.signal_sum += other.signal_sum;
        self.error_sum += other.error_sum;
    }

    /// How many values were compared.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean squared error, 0 of no values, NaN if a value is.
    #[must_use]
    pub fn mse(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.error_sum / self.count as f64
        }
    }

    /// The signal-to-quantization-noise ratio in decibels, `10 log10(sum w^2 / sum (w - v)^2)`:
    /// infinite without any error, minus infinite for an error on values that are all zero.
    #[must_use]
    pub fn sqnr_db(&self) -> f64 {
        if self.error_sum == 0.0 {
            f64::INFINITY
        } else {
            10.0 * (self.signal_sum / self.error_sum).log10()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_no_distortion() {
        let none = Distortion::between(&[1.0, 2.0], &[1.0, 2.0]);
        assert_eq!(none.mse(), 0.0);
        assert_eq!(none.sqnr_db(), f64::INFINITY);
        assert_eq!(Distortion::default().mse(), 0.0);
        assert_eq!(Distortion::default().sqnr_db(), f64::INFINITY);
    }

    #[test]
    fn noise_on_silence_is_infinitely_bad() {
        let noise = Distortion::between(&[0.0], &[1.0]);
        assert_eq!(noise.mse(), 1.0);
        assert_eq!(noise.sqnr_db(), f64::NEG_INFINITY);
    }

    #[test]
    fn merging_parts_equals_the_whole() {
        let reference = [1.0, -2.0, 3.0, 0.5];
        let values = [1.5, -2.25, 3.0, 0.0];
        let mut parts = Distortion::between(&reference[..1], &values[..1]);
        parts.merge(&Distortion::between(&reference[1..], &values[1..]));
        assert_eq!(parts, Distortion::between(&reference, &values));
        assert_eq!(parts.count(), 4);
    }

    #[test]
    fn nan_shows() {
        assert!(Distortion::between(&[1.0], &[f32::NAN]).mse().is_nan());
    }
}
